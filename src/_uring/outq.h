/* Output of one connection: what waits to be sent, and what is being sent.
 *
 * Theory. Replies of a tick are appended to one contiguous block, `filling`. When nothing is being
 * sent, the loop turns filling into `sending` and hands it to the kernel in one operation; replies
 * that come meanwhile gather in a new filling block. Blocks come from a pool that the whole loop
 * shares, last in first out, so a quiet connection holds no memory and a busy loop stays in cache.
 *
 * Invariants
 *  (Q1) At most one block is being sent: bytes leave in the order of appending.
 *  (Q2) The memory of `sending` neither moves nor is reused before outq_sent said 0, or outq_abort.
 *  (Q3) A zeroed outq is empty; an outq with nothing to send holds no block, except a filling
 *       block between outq_reserve and the outq_commit or outq_rollback that follows it.
 *  (Q4) used <= capacity for every block; sent < used while sending.
 *  (Q5) outq_rollback to a mark taken since the last outq_begin drops exactly what came after it.
 *
 * Does not know: descriptors, water marks (the caller compares outq_bytes), Python.
 */
#ifndef PYBEHAVE_OUTQ_H
#define PYBEHAVE_OUTQ_H

#include <stddef.h>
#include <stdint.h>

typedef struct outq_block {
    union {
        struct outq_block *next; /* in a free list */
        size_t used;             /* in an outq */
    };
    size_t capacity;
    uint8_t data[];
} outq_block;

typedef struct outq {
    outq_block *filling, *sending;
    size_t sent; /* bytes of sending already gone */
} outq;

typedef struct outq_pool outq_pool;

typedef struct outq_pool_stats {
    uint64_t blocks_used;   /* blocks held by connections now */
    uint64_t bytes_used;    /* their size */
    uint64_t bytes_kept;    /* free blocks kept for reuse */
    uint64_t allocations;   /* blocks asked of malloc */
    uint64_t reuses;        /* blocks taken from a free list */
    uint64_t copies;        /* blocks that outgrew their size and were copied to a larger one */
    uint64_t failures;      /* malloc said no */
} outq_pool_stats;

/* Free blocks beyond bytes_kept_max go back to malloc. NULL = no memory. */
outq_pool *outq_pool_new(size_t bytes_kept_max);
/* Every outq of the pool must have been cleared, and nothing be sending. */
void outq_pool_free(outq_pool *);
void outq_pool_read(const outq_pool *, outq_pool_stats *);

/* The slow half of outq_reserve: take the first block or a larger one. */
uint8_t *outq_grow(outq_pool *, outq *, size_t n);

/* n contiguous writable bytes behind what is filled; NULL = no memory, nothing changed. The bytes
 * count only after outq_commit, and the next outq_reserve may move them. */
static inline uint8_t *outq_reserve(outq_pool *pool, outq *q, size_t n) {
    outq_block *block = q->filling;
    if (__builtin_expect(block != NULL && n <= block->capacity - block->used, 1))
        return block->data + block->used;
    return outq_grow(pool, q, n);
}

/* n is at most what was reserved. */
static inline void outq_commit(outq *q, size_t n) { q->filling->used += n; }

/* Bytes filled and not yet begun to be sent: a position for outq_rollback. */
static inline size_t outq_mark(const outq *q) { return q->filling != NULL ? q->filling->used : 0; }
void outq_rollback(outq_pool *, outq *, size_t mark);

/* Everything not yet acknowledged by outq_sent. */
static inline size_t outq_bytes(const outq *q) {
    size_t bytes = outq_mark(q);
    if (q->sending != NULL)
        bytes += q->sending->used - q->sent;
    return bytes;
}

/* If nothing is being sent and something is filled: 1, and data is to be sent. Otherwise 0. At most
 * bytes_max of it: the rest stays filled (0 too when there is no memory to part them). */
int outq_begin(outq_pool *, outq *, size_t bytes_max, const uint8_t **data, size_t *len);
/* n bytes of the block have gone. 1 = send the rest, given in data; 0 = the block is done and
 * released, outq_begin may have the next one. */
int outq_sent(outq_pool *, outq *, size_t n, const uint8_t **data, size_t *len);

/* The connection ends: drop what is filled. What is being sent stays until the kernel is done. */
void outq_clear(outq_pool *, outq *);
/* The kernel is done with `sending`, whatever became of it: release it. */
void outq_abort(outq_pool *, outq *);

#endif

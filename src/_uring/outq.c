/* Output blocks and their pool; see outq.h for the contract (Q1)-(Q5). */
#include "outq.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Sizes of pooled blocks, header included: a few short replies, a page, a pipeline, the default
 * high water mark. Larger blocks double and go back to malloc, which maps them separately. */
static const size_t class_bytes[] = {1024, 4096, 16384, 65536};
#define CLASSES (sizeof class_bytes / sizeof class_bytes[0])
#define HEADER_BYTES sizeof(outq_block)
#define PAGE_BYTES ((size_t)4096)
/* No reply is larger: the caller's limit is far below, this one keeps the arithmetic safe. */
#define BLOCK_BYTES_MAX ((size_t)1 << 40)

struct outq_pool {
    outq_block *free[CLASSES];
    size_t bytes_kept_max;
    outq_pool_stats stats;
};

static_assert(sizeof(outq) == 24, "one per connection");
static_assert(sizeof(outq_block) == 16, "data is aligned and the classes lose little");

static size_t block_bytes(const outq_block *block) { return block->capacity + HEADER_BYTES; }

/* The class whose blocks have so many bytes or more; CLASSES = too large for the pool. */
static size_t class_for(size_t bytes) {
    size_t i = 0;
    while (i < CLASSES && class_bytes[i] < bytes)
        i++;
    return i;
}

static outq_block *block_take(outq_pool *pool, size_t bytes) {
    size_t class = class_for(bytes);
    outq_block *block = class < CLASSES ? pool->free[class] : NULL;
    if (class < CLASSES)
        bytes = class_bytes[class];
    if (block != NULL) {
        pool->free[class] = block->next;
        pool->stats.bytes_kept -= bytes;
        pool->stats.reuses++;
    } else {
        block = malloc(bytes);
        if (block == NULL) {
            pool->stats.failures++;
            return NULL;
        }
        pool->stats.allocations++;
        block->capacity = bytes - HEADER_BYTES;
    }
    assert(block_bytes(block) == bytes);
    block->used = 0;
    pool->stats.blocks_used++;
    pool->stats.bytes_used += bytes;
    return block;
}

static void block_release(outq_pool *pool, outq_block *block) {
    size_t bytes = block_bytes(block);
    size_t class = class_for(bytes);
    assert(block->used <= block->capacity); /* (Q4) */
    assert(pool->stats.blocks_used > 0 && pool->stats.bytes_used >= bytes);
    pool->stats.blocks_used--;
    pool->stats.bytes_used -= bytes;
    if (class == CLASSES || pool->stats.bytes_kept + bytes > pool->bytes_kept_max) {
        free(block);
        return;
    }
    block->next = pool->free[class];
    pool->free[class] = block;
    pool->stats.bytes_kept += bytes;
}

outq_pool *outq_pool_new(size_t bytes_kept_max) {
    outq_pool *pool = calloc(1, sizeof *pool);
    if (pool != NULL)
        pool->bytes_kept_max = bytes_kept_max;
    return pool;
}

void outq_pool_free(outq_pool *pool) {
    if (pool == NULL)
        return;
    assert(pool->stats.blocks_used == 0);
    for (size_t i = 0; i < CLASSES; i++) {
        while (pool->free[i] != NULL) {
            outq_block *block = pool->free[i];
            pool->free[i] = block->next;
            free(block);
        }
    }
    free(pool);
}

void outq_pool_read(const outq_pool *pool, outq_pool_stats *out) { *out = pool->stats; }

/* Each growth at least doubles, so that a byte is copied once on average however small the replies
 * are. A first large reply gets whole pages, which leaves room for the short ones behind it. */
static size_t grown_bytes(const outq_block *old, size_t needed) {
    size_t twice = old != NULL ? 2 * block_bytes(old) : 0;
    if (class_for(needed) == CLASSES)
        needed = (needed + PAGE_BYTES) & ~(PAGE_BYTES - 1);
    return needed > twice ? needed : twice;
}

uint8_t *outq_grow(outq_pool *pool, outq *q, size_t n) {
    outq_block *old = q->filling, *block;
    size_t used = outq_mark(q);
    if (n > BLOCK_BYTES_MAX || used > BLOCK_BYTES_MAX) {
        pool->stats.failures++;
        return NULL;
    }
    block = block_take(pool, grown_bytes(old, used + n + HEADER_BYTES));
    if (block == NULL)
        return NULL;
    if (old != NULL) {
        memcpy(block->data, old->data, used);
        block->used = used;
        block_release(pool, old);
        pool->stats.copies++;
    }
    assert(block->capacity - used >= n);
    q->filling = block;
    return block->data + used;
}

void outq_rollback(outq_pool *pool, outq *q, size_t mark) {
    assert(mark <= outq_mark(q)); /* (Q5) */
    if (q->filling == NULL)
        return;
    q->filling->used = mark;
    if (mark == 0) { /* (Q3) */
        block_release(pool, q->filling);
        q->filling = NULL;
    }
}

int outq_begin(outq_pool *pool, outq *q, size_t bytes_max, const uint8_t **data, size_t *len) {
    size_t used = outq_mark(q);
    outq_block *rest = NULL;
    if (q->sending != NULL || used == 0 || bytes_max == 0)
        return 0; /* (Q1) */
    if (used > bytes_max) {
        rest = block_take(pool, grown_bytes(NULL, used - bytes_max + HEADER_BYTES));
        if (rest == NULL)
            return 0;
        rest->used = used - bytes_max;
        memcpy(rest->data, q->filling->data + bytes_max, rest->used);
        q->filling->used = bytes_max;
    }
    q->sending = q->filling;
    q->filling = rest;
    q->sent = 0;
    *data = q->sending->data;
    *len = q->sending->used;
    return 1;
}

int outq_sent(outq_pool *pool, outq *q, size_t n, const uint8_t **data, size_t *len) {
    assert(q->sending != NULL);
    assert(n <= q->sending->used - q->sent);
    q->sent += n;
    if (q->sent < q->sending->used) {
        *data = q->sending->data + q->sent;
        *len = q->sending->used - q->sent;
        return 1;
    }
    outq_abort(pool, q);
    return 0;
}

void outq_clear(outq_pool *pool, outq *q) { outq_rollback(pool, q, 0); }

void outq_abort(outq_pool *pool, outq *q) {
    if (q->sending != NULL)
        block_release(pool, q->sending);
    q->sending = NULL;
    q->sent = 0;
}

/* Receive buffers: one arena of equal buffers, lent with a completion and given back after it.
 *
 * The stride is one cache line more than the size: buffers of 4 KiB at 4 KiB distance would put
 * the first bytes of every message into the same cache sets.
 *
 * The free list is a stack (the buffer given back last is warm). A source whose kernel side holds
 * the free buffers itself (io_uring's provided-buffer ring) uses the arena and ignores the stack.
 */
#ifndef PYBEHAVE_BUFRING_H
#define PYBEHAVE_BUFRING_H

#include <stddef.h>
#include <stdint.h>

#define BUFRING_NONE 0xffffu

typedef struct bufring {
    uint8_t *arena;
    uint16_t *free_ids;
    uint32_t count;      /* a power of two, at most 32768 (kernel limit) */
    uint32_t bytes;      /* usable size of one */
    uint32_t stride;
    uint32_t free_count;
} bufring;

int bufring_open(bufring *, uint32_t count, uint32_t bytes);
void bufring_close(bufring *);
uint16_t bufring_take(bufring *); /* BUFRING_NONE when all are lent */
void bufring_put(bufring *, uint16_t id);

static inline uint8_t *bufring_data(const bufring *ring, uint16_t id) {
    return ring->arena + (size_t)id * ring->stride;
}

#endif

/* See bufring.h. */
#include "bufring.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CACHE_LINE_BYTES = 64, COUNT_MAX = 32768 };

int bufring_open(bufring *ring, uint32_t count, uint32_t bytes) {
    if (count == 0 || count > COUNT_MAX || (count & (count - 1)) != 0 || bytes == 0) {
        return -EINVAL;
    }
    memset(ring, 0, sizeof *ring);
    ring->count = count;
    ring->bytes = bytes;
    ring->stride = (bytes + CACHE_LINE_BYTES - 1) / CACHE_LINE_BYTES * CACHE_LINE_BYTES;
    ring->stride += CACHE_LINE_BYTES;
    ring->arena = aligned_alloc(CACHE_LINE_BYTES, (size_t)ring->stride * count);
    ring->free_ids = malloc(sizeof *ring->free_ids * count);
    if (ring->arena == NULL || ring->free_ids == NULL) {
        bufring_close(ring);
        return -ENOMEM;
    }
    for (uint32_t index = 0; index < count; index++) {
        ring->free_ids[index] = (uint16_t)(count - 1 - index);
    }
    ring->free_count = count;
    return 0;
}

void bufring_close(bufring *ring) {
    free(ring->arena);
    free(ring->free_ids);
    memset(ring, 0, sizeof *ring);
}

uint16_t bufring_take(bufring *ring) {
    if (ring->free_count == 0) {
        return BUFRING_NONE;
    }
    return ring->free_ids[--ring->free_count];
}

void bufring_put(bufring *ring, uint16_t id) {
    assert(id < ring->count);
    assert(ring->free_count < ring->count);
    ring->free_ids[ring->free_count++] = id;
}

/* See ways.h. */
#include "ways.h"

#include <string.h>

enum { LATE_ENOUGH = 2 }; /* one late write may be the disk's own */

way ways_choose(const ways *self, int is_busy, uint64_t now_ns) {
    int is_threads_turn = self->patience_ns && now_ns < self->try_again_ns;
    return is_busy || is_threads_turn ? WAY_THREAD : WAY_RING;
}

static void ring_was_late(ways *self, uint64_t took_ns, uint64_t now_ns) {
    self->late_ns = took_ns;
    self->late_in_row++;
    if (self->patience_ns) {
        self->patience_ns *= 2; /* this was the try (W2) */
    } else if (self->late_in_row >= LATE_ENOUGH) {
        self->patience_ns = WAYS_PATIENCE_MIN_NS;
    }
    if (self->patience_ns > WAYS_PATIENCE_MAX_NS) {
        self->patience_ns = WAYS_PATIENCE_MAX_NS;
    }
    self->try_again_ns = now_ns + self->patience_ns;
}

void ways_took(ways *self, way way, uint64_t took_ns, uint64_t now_ns) {
    if (way == WAY_RING && took_ns >= WAYS_LATE_NS) {
        ring_was_late(self, took_ns, now_ns);
    } else if (way == WAY_RING || (self->patience_ns && took_ns > self->late_ns / 2)) {
        memset(self, 0, sizeof *self); /* in time, or the thread is as slow */
    }
}

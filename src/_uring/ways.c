/* See ways.h. */
#include "ways.h"

enum {
    LATE_ENOUGH = 2,    /* one late write may be the disk's own */
    AVERAGE_OVER = 16,  /* writes, about */
    LONG_COUNTS_AS = 4, /* times the limit, at most */
};

static int is_others_turn(const way_turns *self, uint64_t now_ns) {
    return self->patience_ns && now_ns < self->try_again_ns;
}

static void give_turn(way_turns *self, uint64_t now_ns) {
    /* When another one had it already, this was the try (W2). */
    self->patience_ns = self->patience_ns ? self->patience_ns * 2 : WAYS_PATIENCE_MIN_NS;
    if (self->patience_ns > WAYS_PATIENCE_MAX_NS) {
        self->patience_ns = WAYS_PATIENCE_MAX_NS;
    }
    self->try_again_ns = now_ns + self->patience_ns;
}

way ways_choose(const ways *self, int is_quiet, int is_busy, uint64_t now_ns) {
    if (is_quiet && !is_others_turn(&self->in_place, now_ns)) {
        return WAY_IN_PLACE;
    }
    return is_busy || is_others_turn(&self->ring, now_ns) ? WAY_THREAD : WAY_RING;
}

static void in_place_took(ways *self, uint64_t took_ns, uint64_t now_ns) {
    uint64_t long_ns = LONG_COUNTS_AS * WAYS_IN_PLACE_NS;
    uint64_t counted_ns = took_ns < long_ns ? took_ns : long_ns;
    if (self->in_place.patience_ns) { /* this was the try: it stands for all */
        self->average_ns = counted_ns;
    } else {
        self->average_ns += counted_ns / AVERAGE_OVER;
        self->average_ns -= self->average_ns / AVERAGE_OVER;
    }
    if (self->average_ns >= WAYS_IN_PLACE_NS) {
        give_turn(&self->in_place, now_ns);
    } else {
        self->in_place.patience_ns = 0;
    }
}

static void ring_was_late(ways *self, uint64_t took_ns, uint64_t now_ns) {
    self->late_ns = took_ns;
    self->late_in_row++;
    if (self->ring.patience_ns || self->late_in_row >= LATE_ENOUGH) {
        give_turn(&self->ring, now_ns);
    }
}

static void ring_was_in_time(ways *self) {
    self->late_ns = self->late_in_row = 0;
    self->ring.patience_ns = 0;
}

void ways_took(ways *self, way way, uint64_t took_ns, uint64_t now_ns) {
    if (way == WAY_IN_PLACE) {
        in_place_took(self, took_ns, now_ns);
    } else if (way == WAY_RING && took_ns >= WAYS_LATE_NS) {
        ring_was_late(self, took_ns, now_ns);
    } else if (way == WAY_RING || (self->ring.patience_ns && took_ns > self->late_ns / 2)) {
        ring_was_in_time(self); /* or the thread is as slow */
    }
}

/* See wheel.h.
 *
 * Theory. Time is a number written in digits: the lowest has 8 bits (level 0, one slot a
 * millisecond), the ten above it 6 bits each, which covers all 64 bits. `position` is the
 * millisecond being worked on. A timer hangs at the level of the highest digit in which its
 * deadline differs from position, in the slot of that digit. From this follows everything:
 *
 *  (P1) Timers of equal deadline always hang in one slot, whenever they were started; lists are
 *       first in, first out and a cascade keeps their order. Hence (W2) for equal deadlines. (A
 *       wheel that chooses the level by the distance lacks this: a late, near timer overtakes.)
 *  (P2) Every occupied slot of level k lies ahead of position's digit k, only level 0 also at it.
 *       Every timer of level k is due before every timer of level k+1. So the earliest slot is the
 *       lowest bit of the lowest occupied level, and time may jump there at once.
 *  (P3) A slot of level 0 holds one deadline. Hence (W1), and W4's "exact within the finest level".
 *
 * A deadline that has passed already at the start cannot hang in a slot. It goes to `late`, which
 * the next advance sorts into `due`; `due` is taken before any slot, for all slots are later.
 *
 * 64 slots a level instead of 256: a slot of level 2 spans 16 s instead of 65 s, so a cascade of a
 * million timers spread over ten minutes moves 27 thousand at a time, about a millisecond.
 *
 * Does not know: clocks, threads, what a timer means.
 * Source: Varghese and Lauck, "Hashed and Hierarchical Timing Wheels", SOSP 1987.
 */
#include "wheel.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    FINEST_BITS = 8,
    LEVEL_BITS = 6,
    LEVELS = 11, /* 8 + 10 * 6 = 68 bits: no deadline is out of reach */
    FINEST_SLOTS = 1 << FINEST_BITS,
    LEVEL_SLOTS = 1 << LEVEL_BITS,
    WORD_BITS = 64,
    FINEST_WORDS = FINEST_SLOTS / WORD_BITS,
    BUCKET_DUE = FINEST_SLOTS + (LEVELS - 1) * LEVEL_SLOTS,
    BUCKET_LATE,
    BUCKETS,
    BUCKET_FREE, /* not a list: marks a node that no timer owns */
    NODES_FIRST = 256,
    SORT_RUNS = 32, /* run i has 2^i nodes; indices have 32 bits */
};

#define NIL UINT32_MAX
#define NODES_MAX (UINT32_MAX - 1)

_Static_assert(FINEST_BITS + (LEVELS - 1) * LEVEL_BITS >= 64, "every deadline has a level");
_Static_assert(LEVEL_SLOTS == WORD_BITS, "one word of bits a level");

typedef struct node {
    uint64_t deadline_ms;
    uint64_t data;
    uint32_t next; /* in its list, or in the list of free nodes */
    uint32_t prev;
    uint32_t generation; /* never 0, so that an id is never 0 */
    uint32_t bucket;
} node;

_Static_assert(sizeof(node) == 32, "two nodes a cache line");

typedef struct list {
    uint32_t first;
    uint32_t last;
} list;

struct wheel {
    uint64_t position; /* everything before it has been moved to `due` or out */
    uint64_t late_min; /* lower bound of the deadlines in `late` */
    node *nodes;
    uint32_t nodes_size; /* allocated */
    uint32_t nodes_used; /* ever touched; those above need no free list */
    uint32_t free_first;
    uint32_t count; /* armed */
    uint64_t finest[FINEST_WORDS];
    uint64_t coarse[LEVELS]; /* [0] unused */
    list lists[BUCKETS];
};

wheel *wheel_new(uint64_t now_ms) {
    wheel *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return NULL;
    }
    self->position = now_ms;
    self->free_first = NIL;
    for (unsigned bucket = 0; bucket < BUCKETS; bucket++) {
        self->lists[bucket].first = self->lists[bucket].last = NIL;
    }
    return self;
}

void wheel_free(wheel *self) {
    if (self != NULL) {
        free(self->nodes);
        free(self);
    }
}

size_t wheel_count(const wheel *self) { return self->count; }

size_t wheel_bytes(const wheel *self) {
    return sizeof *self + (size_t)self->nodes_size * sizeof(node);
}

/* Digits */

static unsigned level_shift(unsigned level) {
    return level == 0 ? 0 : FINEST_BITS + (level - 1) * LEVEL_BITS;
}

static uint32_t bucket_of(uint64_t position, uint64_t deadline_ms) {
    uint64_t difference = position ^ deadline_ms;
    if (difference < FINEST_SLOTS) {
        return (uint32_t)(deadline_ms & (FINEST_SLOTS - 1));
    }
    unsigned highest_bit = 63 - (unsigned)__builtin_clzll(difference);
    unsigned level = (highest_bit - FINEST_BITS) / LEVEL_BITS + 1;
    uint32_t digit = (uint32_t)(deadline_ms >> level_shift(level)) & (LEVEL_SLOTS - 1);
    return FINEST_SLOTS + (level - 1) * LEVEL_SLOTS + digit;
}

/* Bits: one for every bucket that is a slot, set while its list is not empty */

static uint64_t *bucket_word(wheel *self, uint32_t bucket) {
    assert(bucket < BUCKET_DUE);
    if (bucket < FINEST_SLOTS) {
        return &self->finest[bucket / WORD_BITS];
    }
    return &self->coarse[(bucket - FINEST_SLOTS) / LEVEL_SLOTS + 1];
}

/* The number of a bucket within its word is its lowest six bits on every level. */
static uint64_t bucket_bit(uint32_t bucket) { return (uint64_t)1 << (bucket % WORD_BITS); }

/* The earliest occupied slot (P2), and the first millisecond it stands for; NIL = none. */
static uint32_t earliest_bucket(const wheel *self, uint64_t *start_ms) {
    for (unsigned word = 0; word < FINEST_WORDS; word++) {
        if (self->finest[word] != 0) {
            unsigned digit = word * WORD_BITS + (unsigned)__builtin_ctzll(self->finest[word]);
            *start_ms = (self->position & ~(uint64_t)(FINEST_SLOTS - 1)) | digit;
            return digit;
        }
    }
    for (unsigned level = 1; level < LEVELS; level++) {
        if (self->coarse[level] != 0) {
            unsigned digit = (unsigned)__builtin_ctzll(self->coarse[level]);
            unsigned shift = level_shift(level);
            /* The topmost level reaches beyond bit 63: shifting twice is defined, once is not. */
            uint64_t above = self->position >> shift >> LEVEL_BITS;
            *start_ms = (above << LEVEL_BITS << shift) | ((uint64_t)digit << shift);
            return FINEST_SLOTS + (level - 1) * LEVEL_SLOTS + digit;
        }
    }
    return NIL;
}

/* Lists */

static void append(wheel *self, uint32_t bucket, uint32_t index) {
    list *target = &self->lists[bucket];
    node *added = &self->nodes[index];
    added->bucket = bucket;
    added->prev = target->last;
    added->next = NIL;
    if (target->last == NIL) {
        target->first = index;
        if (bucket < BUCKET_DUE) {
            *bucket_word(self, bucket) |= bucket_bit(bucket);
        }
    } else {
        self->nodes[target->last].next = index;
    }
    target->last = index;
}

static void unlink_node(wheel *self, uint32_t index) {
    node *removed = &self->nodes[index];
    uint32_t bucket = removed->bucket;
    list *source = &self->lists[bucket];
    if (removed->next == NIL) {
        source->last = removed->prev;
    } else {
        self->nodes[removed->next].prev = removed->prev;
    }
    if (removed->prev == NIL) {
        source->first = removed->next;
    } else {
        self->nodes[removed->prev].next = removed->next;
    }
    if (source->first == NIL && bucket < BUCKET_DUE) {
        *bucket_word(self, bucket) &= ~bucket_bit(bucket);
    }
}

/* Nodes */

static int grow(wheel *self) {
    if (self->nodes_size >= NODES_MAX) {
        return 0;
    }
    uint64_t wanted = self->nodes_size == 0 ? NODES_FIRST : (uint64_t)self->nodes_size * 2;
    uint32_t size = wanted > NODES_MAX ? NODES_MAX : (uint32_t)wanted;
    /* A large block moves by remapping pages, without copying (mremap in glibc's realloc). */
    node *nodes = realloc(self->nodes, (size_t)size * sizeof *nodes);
    if (nodes == NULL) {
        return 0;
    }
    self->nodes = nodes;
    self->nodes_size = size;
    return 1;
}

static uint32_t take_node(wheel *self) {
    if (self->free_first != NIL) {
        uint32_t index = self->free_first;
        self->free_first = self->nodes[index].next;
        return index;
    }
    if (self->nodes_used == self->nodes_size && !grow(self)) {
        return NIL;
    }
    self->nodes[self->nodes_used].generation = 1;
    return self->nodes_used++;
}

static void give_node(wheel *self, uint32_t index) {
    node *given = &self->nodes[index];
    assert(given->bucket != BUCKET_FREE);
    given->bucket = BUCKET_FREE;
    given->generation = given->generation == UINT32_MAX ? 1 : given->generation + 1;
    given->next = self->free_first;
    self->free_first = index;
    assert(self->count > 0);
    self->count--;
}

/* Start, cancel, next */

static uint64_t id_of(const wheel *self, uint32_t index) {
    return (uint64_t)self->nodes[index].generation << 32 | index;
}

uint64_t wheel_start(wheel *self, uint64_t deadline_ms, uint64_t data) {
    uint32_t index = take_node(self);
    if (index == NIL) {
        return 0;
    }
    self->nodes[index].deadline_ms = deadline_ms;
    self->nodes[index].data = data;
    self->count++;
    if (deadline_ms >= self->position) {
        append(self, bucket_of(self->position, deadline_ms), index);
    } else {
        int is_earliest = self->lists[BUCKET_LATE].first == NIL || deadline_ms < self->late_min;
        self->late_min = is_earliest ? deadline_ms : self->late_min;
        append(self, BUCKET_LATE, index);
    }
    return id_of(self, index);
}

int wheel_cancel(wheel *self, uint64_t id) {
    uint32_t index = (uint32_t)id;
    if (index >= self->nodes_used) {
        return 0;
    }
    node *found = &self->nodes[index];
    if (found->bucket == BUCKET_FREE || found->generation != (uint32_t)(id >> 32)) {
        return 0;
    }
    unlink_node(self, index);
    give_node(self, index); /* (W3) out of every list, and the id is stale from here */
    return 1;
}

uint64_t wheel_next(const wheel *self) {
    uint64_t earliest_ms = WHEEL_NONE;
    if (self->count > 0) {
        (void)earliest_bucket(self, &earliest_ms); /* (W4) */
    }
    if (self->lists[BUCKET_LATE].first != NIL && self->late_min < earliest_ms) {
        earliest_ms = self->late_min;
    }
    uint32_t due = self->lists[BUCKET_DUE].first;
    if (due != NIL && self->nodes[due].deadline_ms < earliest_ms) {
        earliest_ms = self->nodes[due].deadline_ms;
    }
    return earliest_ms;
}

/* Late timers: a stable merge sort over `next` alone, bottom up, without memory of its own */

static uint32_t merge_runs(wheel *self, uint32_t older, uint32_t newer) {
    node *nodes = self->nodes;
    uint32_t first = NIL;
    uint32_t *tail = &first;
    while (older != NIL && newer != NIL) {
        int takes_newer = nodes[newer].deadline_ms < nodes[older].deadline_ms;
        uint32_t *taken = takes_newer ? &newer : &older;
        *tail = *taken;
        tail = &nodes[*taken].next;
        *taken = *tail;
    }
    *tail = older != NIL ? older : newer;
    return first;
}

static uint32_t sort_late(wheel *self) {
    uint32_t runs[SORT_RUNS];
    for (unsigned i = 0; i < SORT_RUNS; i++) {
        runs[i] = NIL;
    }
    uint32_t rest = self->lists[BUCKET_LATE].first;
    while (rest != NIL) {
        uint32_t run = rest;
        rest = self->nodes[run].next;
        self->nodes[run].next = NIL;
        unsigned i = 0;
        for (; i < SORT_RUNS - 1 && runs[i] != NIL; i++) {
            run = merge_runs(self, runs[i], run);
            runs[i] = NIL;
        }
        runs[i] = i == SORT_RUNS - 1 && runs[i] != NIL ? merge_runs(self, runs[i], run) : run;
    }
    uint32_t sorted = NIL;
    for (unsigned i = 0; i < SORT_RUNS; i++) {
        sorted = merge_runs(self, runs[i], sorted); /* higher runs are older */
    }
    self->lists[BUCKET_LATE].first = self->lists[BUCKET_LATE].last = NIL;
    return sorted;
}

/* Put `index` into `due` behind `after`, NIL = in front. */
static void insert_due(wheel *self, uint32_t after, uint32_t index) {
    list *due = &self->lists[BUCKET_DUE];
    node *added = &self->nodes[index];
    added->bucket = BUCKET_DUE;
    added->prev = after;
    added->next = after == NIL ? due->first : self->nodes[after].next;
    *(after == NIL ? &due->first : &self->nodes[after].next) = index;
    *(added->next == NIL ? &due->last : &self->nodes[added->next].prev) = index;
}

/* Sort what came late into what is due. `late` was started after all of `due`, so on equal
 * deadlines it goes behind (W2); the search begins at the last place found, for both are sorted. */
static void admit_late(wheel *self) {
    uint32_t rest = sort_late(self);
    uint32_t after = NIL;
    uint32_t behind = self->lists[BUCKET_DUE].first;
    uint32_t last = self->lists[BUCKET_DUE].last;
    while (rest != NIL) {
        uint32_t index = rest;
        uint64_t deadline_ms = self->nodes[index].deadline_ms;
        rest = self->nodes[index].next;
        if (last != NIL && self->nodes[last].deadline_ms <= deadline_ms) {
            after = last; /* the usual case: later than all that waits */
            behind = NIL;
        }
        while (behind != NIL && self->nodes[behind].deadline_ms <= deadline_ms) {
            after = behind;
            behind = self->nodes[behind].next;
        }
        insert_due(self, after, index);
        after = index;
        last = self->lists[BUCKET_DUE].last;
    }
}

/* Advance */

/* Spread a coarse slot over finer levels; position is its first millisecond. */
static void cascade(wheel *self, uint32_t bucket) {
    uint32_t rest = self->lists[bucket].first;
    self->lists[bucket].first = self->lists[bucket].last = NIL;
    *bucket_word(self, bucket) &= ~bucket_bit(bucket);
    while (rest != NIL) {
        uint32_t index = rest;
        rest = self->nodes[index].next;
        if (rest != NIL) {
            __builtin_prefetch(&self->nodes[rest], 1);
        }
        assert(self->nodes[index].deadline_ms >= self->position);
        uint32_t target = bucket_of(self->position, self->nodes[index].deadline_ms);
        assert(target < bucket); /* strictly finer, so this ends */
        append(self, target, index);
    }
}

static unsigned take_all(wheel *self, uint32_t bucket, wheel_fired *fired, unsigned count_max) {
    unsigned count = 0;
    while (count < count_max && self->lists[bucket].first != NIL) {
        uint32_t index = self->lists[bucket].first;
        fired[count].id = id_of(self, index);
        fired[count].data = self->nodes[index].data;
        fired[count].deadline_ms = self->nodes[index].deadline_ms;
        count++;
        unlink_node(self, index);
        give_node(self, index);
    }
    return count;
}

unsigned wheel_advance(wheel *self, uint64_t now_ms, wheel_fired *fired, unsigned count_max) {
    if (self->lists[BUCKET_LATE].first != NIL) {
        admit_late(self);
    }
    unsigned count = take_all(self, BUCKET_DUE, fired, count_max);
    while (count < count_max) {
        uint64_t start_ms = 0;
        uint32_t bucket = earliest_bucket(self, &start_ms);
        if (bucket == NIL || start_ms > now_ms) {
            /* Nothing is left up to now: (P2) holds for every position in between. Time that
             * goes back is ignored. */
            self->position = now_ms > self->position ? now_ms : self->position;
            break;
        }
        assert(start_ms >= self->position);
        self->position = start_ms;
        if (bucket >= FINEST_SLOTS) {
            cascade(self, bucket);
        } else {
            count += take_all(self, bucket, fired + count, count_max - count);
        }
    }
    return count;
}

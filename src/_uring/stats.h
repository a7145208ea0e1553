/* Counters of one loop, plain and written by its thread only; read as one record. */
#ifndef PYBEHAVE_STATS_H
#define PYBEHAVE_STATS_H

#include <stdint.h>

#define BATCH_BUCKETS 12 /* completions per tick: 0, 1, 2-3, 4-7, ... 1024 and more */
#define TICK_BUCKETS 22  /* microseconds that a tick works: up to 1, 2, 4, ... 2^20, and more */

typedef struct loop_stats {
    uint64_t ticks;
    uint64_t waits_blocking; /* ticks that gave up the GIL */
    uint64_t commands;       /* messages from connections */
    uint64_t crashes;
    uint64_t decode_errors;
    uint64_t contracts_broken; /* messages that a listener's contract has refused */
    uint64_t overloaded;     /* inputs refused or dropped at a full mailbox */
    uint64_t casts_lost;     /* casts to a name that nobody has, or that were refused */
    uint64_t inputs_refused; /* by a server's gate: of another type, or rejected */
    uint64_t refused;        /* connections over connections_max */
    uint64_t accept_errors;
    uint64_t timers_fired;
    uint64_t keys_ahead; /* that were fetched for requests to come */
    uint64_t busy_ns; /* what ticks have taken, their waits not counted */
    uint64_t batch[BATCH_BUCKETS];
    uint64_t tick_us[TICK_BUCKETS];
} loop_stats;

static inline void stats_batch(loop_stats *stats, unsigned count) {
    unsigned bucket = count == 0 ? 0 : 32 - (unsigned)__builtin_clz(count);
    stats->batch[bucket < BATCH_BUCKETS ? bucket : BATCH_BUCKETS - 1]++;
}

static inline void stats_tick(loop_stats *stats, uint64_t ns) {
    uint64_t us = ns / 1000;
    unsigned bucket = us <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(us - 1);
    stats->busy_ns += ns;
    stats->tick_us[bucket < TICK_BUCKETS ? bucket : TICK_BUCKETS - 1]++;
}

#endif

/* Which way a write takes: in place, the ring, or the thread that sleeps in the system call.
 *
 * Theory. In place the loop itself sleeps in the system call. On a quick disk that is the shortest
 * way, since nobody has to be woken but by the disk, and it costs whoever comes meanwhile no more
 * than some other inputs would: so whoever says that the loop has nothing else to do gets it while
 * the average of the latest writes is short. A single long one is the disk's own, and counts as no
 * more than four times the limit.
 *
 * Alone, the ring is faster than the thread by two switches. But the kernel finishes a synchronous
 * direct write of a ring in a worker of the processor that took the disk's interrupt, and a busy
 * processor lets that worker wait for a scheduler slice: 4 ms instead of 0.13 ms. The thread is
 * woken at once. So whoever says that many clients are at work gets the thread; others get the ring
 * until two of its writes in a row were late and the thread's were not. Then it is the thread's
 * turn for a while, until one write tries the ring again. A disk that is slow either way shows by
 * the thread's times, and keeps the ring.
 *
 * Invariants
 *  (W1) While another way is better, at most one write in `patience_ns` is late for having tried.
 *  (W2) patience_ns doubles with each late try up to WAYS_PATIENCE_MAX_NS; a try that is not late
 *       ends it.
 *
 * Does not know: rings, threads, clocks (times are arguments).
 */
#ifndef PYBEHAVE_WAYS_H
#define PYBEHAVE_WAYS_H

#include <stdint.h>

#define WAYS_LATE_NS 500000ULL
#define WAYS_IN_PLACE_NS 200000ULL /* what a write in place may take: the loop does nothing else */
#define WAYS_PATIENCE_MIN_NS 1000000000ULL
#define WAYS_PATIENCE_MAX_NS 64000000000ULL

typedef enum way { WAY_RING, WAY_THREAD, WAY_IN_PLACE } way;

typedef struct way_turns { /* of a way that others may have to replace */
    uint64_t patience_ns;  /* how long another way has its turn; 0 = it has not */
    uint64_t try_again_ns; /* when this one is tried again */
} way_turns;

typedef struct ways { /* all zero at first */
    way_turns ring;
    uint64_t late_ns;     /* how long the ring's latest write took, when it was late; else 0 */
    uint64_t late_in_row; /* how many of the ring's latest were */
    way_turns in_place;
    uint64_t average_ns; /* of the latest in place, the latest the most */
} ways;

/* is_quiet: the loop has nothing else to do. is_busy: many clients are at work. */
way ways_choose(const ways *, int is_quiet, int is_busy, uint64_t now_ns);
/* A write that went this way took `took_ns`. */
void ways_took(ways *, way, uint64_t took_ns, uint64_t now_ns);

#endif

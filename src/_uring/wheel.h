/* Timers: a hierarchical timing wheel in user space.
 *
 * Theory (Varghese and Lauck, SOSP 1987). Level 0 has one slot a millisecond; each further level
 * is 64 or 256 times coarser. start and cancel link and unlink a node: O(1). advance visits the
 * slots that time has passed and cascades coarser ones when it reaches them. Nodes live in one
 * growing slab and are named by an id with a generation, so a stale id cancels nothing.
 *
 * Invariants
 *  (W1) A timer never fires before its deadline (rounded up to the millisecond), and fires in the
 *       first advance whose now_ms >= deadline_ms.
 *  (W2) Timers that fire in one advance come out by deadline, equal ones in order of start.
 *  (W3) After cancel returned 1 the timer never fires.
 *  (W4) wheel_next is a lower bound of the earliest deadline, exact within the finest level.
 *
 * Does not know clocks: time is an argument, monotonic milliseconds.
 */
#ifndef PYBEHAVE_WHEEL_H
#define PYBEHAVE_WHEEL_H

#include <stddef.h>
#include <stdint.h>

typedef struct wheel wheel;

typedef struct wheel_fired {
    uint64_t id;
    uint64_t data; /* what start was given */
    uint64_t deadline_ms;
} wheel_fired;

#define WHEEL_NONE UINT64_MAX

wheel *wheel_new(uint64_t now_ms);
void wheel_free(wheel *);
/* The timer's id, never 0; 0 = no memory. */
uint64_t wheel_start(wheel *, uint64_t deadline_ms, uint64_t data);
int wheel_cancel(wheel *, uint64_t id);                             /* 1 = it was armed */
uint64_t wheel_next(const wheel *); /* ms; WHEEL_NONE = nothing armed */
/* Up to count_max expired timers; call again while it returns count_max. */
unsigned wheel_advance(wheel *, uint64_t now_ms, wheel_fired *, unsigned count_max);
size_t wheel_count(const wheel *);
size_t wheel_bytes(const wheel *);

#endif

/* Looking for events again and again, for a moment, before sleeping.
 *
 * Theory. Whoever waits for one reply after the other asks again some microseconds after it was
 * answered. To sleep until then, and to be woken, takes longer, most of all in a virtual machine,
 * and as much of the processor. So a loop that has answered somebody who is alone looks for a while
 * first. Of no use is that for clients that take their time, or that need this very processor: then
 * tries become rare, until one pays.
 *
 * Invariants
 *  (B1) A try ends BUSY_POLL_NS after it began, give or take one look, and at the deadline.
 *  (B2) After BUSY_POLL_MISSES_MAX tries in a row in which nobody asked, one chance in
 *       BUSY_POLL_RARELY is taken, until one pays.
 *
 * Does not know: who is alone. Source: Erlang's schedulers (+sbwt), the kernel's haltpoll.
 */
#ifndef PYBEHAVE_BUSY_POLL_H
#define PYBEHAVE_BUSY_POLL_H

#include "source.h"

#define BUSY_POLL_NS 30000ULL
#define BUSY_POLL_MISSES_MAX 4
#define BUSY_POLL_RARELY 64

typedef struct busy_poll { /* all zero at first */
    uint32_t misses;       /* tries in a row that found nothing */
    uint32_t passed;       /* chances that were not taken since the latest try */
} busy_poll;

/* One chance to look, not behind the deadline, for so many completions as the request wants: our
 * own sends are among them. 1 = they are there, 0 = they are not, or it was not looked; negative =
 * errno. */
int busy_poll_look(busy_poll *, source *, const wait_request *);

#endif

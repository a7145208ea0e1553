/* Ends of connections that a multishot receive can miss, and how they are found all the same.
 *
 * Theory. When data and the end of a stream (RST; on Unix sockets also a plain shutdown or close)
 * arrive before the kernel has run the receive's task work, the kernel counts two wake-ups, reads
 * the data, drops both counts and waits for a third that never comes (kernels 6.0 to at least 6.18;
 * liburing issue 1549). A TCP FIN is safe: the kernel marks it in what it reports after the data.
 * Deferred task work makes this the rule rather than a race: 98 in 100 clients that send half a
 * request and reset, and 85 in 100 that send and shut down on a Unix socket, stayed open for ever.
 *
 * So whoever sent something is looked at once more, LOOK_AFTER_NS later, all in one poll(2). Where
 * the peer has ended, shutdown(SHUT_RD) takes nothing away, and its wake-up is the third.
 *
 * Invariants
 *  (E1) Only a descriptor whose receive is armed is looked at: disarm comes before its close.
 *  (E2) After the last data of a connection there is one look, and then none: idle stays idle.
 *
 * Does not know: rings, clocks (now is an argument), connections beyond slot and descriptor.
 */
#ifndef PYBEHAVE_LOST_ENDS_H
#define PYBEHAVE_LOST_ENDS_H

#include <stdint.h>

#define LOST_ENDS_NONE UINT64_MAX

typedef struct lost_ends_slot {
    int32_t fd;        /* of the armed receive, or -1 */
    uint32_t is_heard; /* stands in `heard` */
} lost_ends_slot;

typedef struct lost_ends {
    lost_ends_slot *slots;
    uint32_t *heard; /* slots that sent something since the last look; as large as `slots` */
    uint32_t slots_size;
    uint32_t heard_count;
    uint64_t look_ns; /* when; meaningful once lost_ends_next has been asked */
    int is_timed;
} lost_ends;

void lost_ends_close(lost_ends *);
int lost_ends_arm(lost_ends *, uint32_t slot, int fd); /* 0, or -ENOMEM */
void lost_ends_disarm(lost_ends *, uint32_t slot);
void lost_ends_heard(lost_ends *, uint32_t slot); /* data came, and the receive is still armed */
uint64_t lost_ends_next(lost_ends *, uint64_t now_ns); /* when to look; LOST_ENDS_NONE */
unsigned lost_ends_look(lost_ends *); /* how many had ended and were woken */

#endif

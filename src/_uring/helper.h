/* One thread that writes files for sources whose system calls would block the loop.
 *
 * Theory. Two rings under one mutex: jobs wanted, jobs done. The thread starts with the first job.
 * `fd` is readable while something is done; the loop takes it with helper_take.
 *
 * Invariants
 *  (H1) Jobs are done in the order they were given: one thread, one queue.
 *  (H2) helper_close waits for the job in hand: its memory is not touched afterwards.
 *  (H3) In a fork's child there is no thread: helper_abandon only closes the descriptor.
 *
 * Does not know: tokens' meaning, rings, epoll.
 */
#ifndef PYBEHAVE_HELPER_H
#define PYBEHAVE_HELPER_H

#include "source.h"

typedef struct helper helper;

/* On the calling thread: bytes that are durable, or -errno; never 0. */
int write_in_place(const write_request *);

helper *helper_open(void); /* NULL = no descriptor or memory */
void helper_close(helper *);
void helper_abandon(helper *);
int helper_fd(const helper *);
int helper_write(helper *, const write_request *, uint64_t token); /* 0 or -errno */
/* What is done, at most count_max. */
unsigned helper_take(helper *, completion *out, unsigned count_max);

#endif

/* See busy_poll.h. */
#include "busy_poll.h"

static int is_taken(busy_poll *self) {
    if (self->misses >= BUSY_POLL_MISSES_MAX && self->passed < BUSY_POLL_RARELY - 1) {
        self->passed++;
        return 0;
    }
    self->passed = 0;
    return 1;
}

int busy_poll_look(busy_poll *self, source *from, const wait_request *request) {
    const wait_request at_once = {0, 1, 0};
    if (!is_taken(self)) {
        return 0;
    }
    uint64_t until_ns = from->verbs->now(from) + BUSY_POLL_NS;
    until_ns = until_ns < request->deadline_ns ? until_ns : request->deadline_ns;
    do {
        int error = from->verbs->wait(from, &at_once);
        if (error < 0) {
            return error;
        }
        if ((uint32_t)from->verbs->ready(from) >= request->events_min) {
            self->misses = 0;
            return 1;
        }
    } while (from->verbs->now(from) < until_ns);
    self->misses += self->misses < BUSY_POLL_MISSES_MAX;
    return 0;
}

/* See lost_ends.h. */
#define _GNU_SOURCE
#include "lost_ends.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    SLOTS_FIRST = 64,
    POLL_MAX = 256, /* descriptors in one call: 2 KiB of stack */
    /* Twenty looks a second, 50 ns for each connection that talks: 1 % of a core at 10,000. */
    LOOK_AFTER_NS = 50 * 1000 * 1000,
};

void lost_ends_close(lost_ends *self) {
    free(self->slots);
    free(self->heard);
    memset(self, 0, sizeof *self);
}

static int grow(lost_ends *self, uint32_t slot) {
    uint64_t size = self->slots_size ? self->slots_size : SLOTS_FIRST;
    while (size <= slot) {
        size *= 2;
    }
    uint32_t *heard = realloc(self->heard, size * sizeof *heard);
    if (heard == NULL) {
        return -ENOMEM;
    }
    self->heard = heard;
    lost_ends_slot *slots = realloc(self->slots, size * sizeof *slots);
    if (slots == NULL) {
        return -ENOMEM;
    }
    for (uint64_t index = self->slots_size; index < size; index++) {
        slots[index] = (lost_ends_slot){.fd = -1, .is_heard = 0};
    }
    self->slots = slots;
    self->slots_size = (uint32_t)size;
    return 0;
}

int lost_ends_arm(lost_ends *self, uint32_t slot, int fd) {
    assert(fd >= 0);
    if (slot >= self->slots_size) {
        int error = grow(self, slot);
        if (error) {
            return error;
        }
    }
    self->slots[slot].fd = fd;
    return 0;
}

void lost_ends_disarm(lost_ends *self, uint32_t slot) {
    assert(slot < self->slots_size);
    self->slots[slot].fd = -1; /* (E1); poll(2) passes over a negative descriptor */
}

void lost_ends_heard(lost_ends *self, uint32_t slot) {
    assert(slot < self->slots_size);
    if (!self->slots[slot].is_heard) {
        self->slots[slot].is_heard = 1;
        self->heard[self->heard_count++] = slot;
    }
}

uint64_t lost_ends_next(lost_ends *self, uint64_t now_ns) {
    if (self->heard_count == 0) {
        return LOST_ENDS_NONE;
    }
    if (!self->is_timed) {
        self->is_timed = 1;
        self->look_ns = now_ns + LOOK_AFTER_NS;
    }
    return self->look_ns;
}

static unsigned wake_ended(struct pollfd *polled, uint32_t count) {
    unsigned woken = 0;
    if (poll(polled, count, 0) <= 0) {
        return 0;
    }
    for (uint32_t index = 0; index < count; index++) {
        if (polled[index].revents & (POLLRDHUP | POLLHUP | POLLERR)) {
            /* Fails with ENOTCONN after a reset, and wakes the receive all the same. */
            (void)shutdown(polled[index].fd, SHUT_RD);
            woken++;
        }
    }
    return woken;
}

unsigned lost_ends_look(lost_ends *self) {
    struct pollfd polled[POLL_MAX];
    unsigned woken = 0;
    uint32_t count = 0;
    for (uint32_t index = 0; index < self->heard_count; index++) {
        lost_ends_slot *slot = &self->slots[self->heard[index]];
        slot->is_heard = 0;
        polled[count++] = (struct pollfd){.fd = slot->fd, .events = POLLRDHUP};
        if (count == POLL_MAX) {
            woken += wake_ended(polled, count);
            count = 0;
        }
    }
    woken += count > 0 ? wake_ended(polled, count) : 0;
    self->heard_count = 0; /* (E2) */
    self->is_timed = 0;
    return woken;
}

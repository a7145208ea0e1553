/* The other side of the simulated network, played by a test. See source_sim.h.
 *
 * Used by tests and by the module pybehave._uring.sim; the loop never links it.
 */
#define _GNU_SOURCE
#include "sim_state.h"

#include <errno.h>
#include <string.h>

/* ---- peers ------------------------------------------------------------------------------- */

/* The link behind a name; NULL = released, or never was. */
static sim_link *link_of(sim *self, sim_peer peer) {
    uint32_t index = (uint32_t)peer;
    if (peer <= 0 || index >= self->links_count) {
        return NULL;
    }
    sim_link *link = &self->links[index];
    return sim_peer_name(self, index) == peer && !link->is_peer_released ? link : NULL;
}

sim_peer sim_peer_connect(source *base, const struct sockaddr *address, socklen_t length) {
    sim *self = sim_of(base);
    sim_address wanted = sim_address_make(self, address, length);
    return sim_peer_name(self, sim_link_new(self, &wanted, 0));
}

ssize_t sim_peer_send(source *base, sim_peer peer, const void *data, size_t bytes) {
    sim *self = sim_of(base);
    sim_link *link = link_of(self, peer);
    if (link == NULL) {
        return -EBADF;
    }
    if (link->peer_state == SIM_PEER_RESET) {
        return -ECONNRESET;
    }
    if (link->streams[SIM_IN].is_ending || link->peer_state == SIM_PEER_REFUSED) {
        return -EPIPE;
    }
    size_t room = sim_room(self, (uint32_t)peer, SIM_IN);
    size_t count = bytes < room ? bytes : room;
    if (count > 0) {
        sim_travel(self, (uint32_t)peer, SIM_IN, data, count);
    }
    link->wants_room = count < bytes;
    return (ssize_t)count;
}

size_t sim_peer_readable(source *base, sim_peer peer) {
    const sim_link *link = link_of(sim_of(base), peer);
    return link == NULL ? 0 : link->streams[SIM_OUT].inbox;
}

size_t sim_peer_recv(source *base, sim_peer peer, void *out, size_t bytes) {
    sim_link *link = link_of(sim_of(base), peer);
    if (link == NULL || link->streams[SIM_OUT].inbox == 0) {
        return 0;
    }
    sim_stream *stream = &link->streams[SIM_OUT];
    size_t count = bytes < stream->inbox ? bytes : stream->inbox;
    sim_stream_take(stream, out, count);
    stream->inbox -= count;
    return count;
}

int sim_peer_state(source *base, sim_peer peer) {
    const sim_link *link = link_of(sim_of(base), peer);
    return link == NULL ? -EBADF : link->peer_state;
}

int sim_peer_shutdown(source *base, sim_peer peer) {
    sim *self = sim_of(base);
    if (link_of(self, peer) == NULL) {
        return -EBADF;
    }
    sim_travel_end(self, (uint32_t)peer, SIM_IN);
    return 0;
}

int sim_peer_pause(source *base, sim_peer peer) {
    sim_link *link = link_of(sim_of(base), peer);
    if (link == NULL) {
        return -EBADF;
    }
    link->is_paused = 1;
    return 0;
}

int sim_peer_resume(source *base, sim_peer peer) {
    sim *self = sim_of(base);
    sim_link *link = link_of(self, peer);
    if (link == NULL) {
        return -EBADF;
    }
    sim_stream *stream = &link->streams[SIM_OUT];
    size_t count = stream->arrived;
    link->is_paused = 0;
    stream->inbox += count;
    stream->arrived = 0;
    if (count > 0) {
        uint64_t at_ns = self->now_ns + sim_latency_ns(self);
        sim_push_link_step(self, (uint32_t)peer, SIM_STEP_ROOM, SIM_OUT, 0, at_ns);
        sim_push_event(self, SIM_DATA, (uint32_t)peer, (int64_t)count);
    }
    sim_tell_end(self, (uint32_t)peer);
    return 0;
}

static int close_peer(sim *self, sim_peer peer, int is_reset) {
    sim_link *link = link_of(self, peer);
    if (link == NULL) {
        return -EBADF;
    }
    if (link->is_peer_gone) {
        return 0;
    }
    link->is_peer_gone = 1;
    if (link->peer_state == SIM_PEER_RESET || link->peer_state == SIM_PEER_REFUSED) {
        return 0; /* there is nobody to tell */
    }
    if (is_reset || link->streams[SIM_OUT].arrived > 0) {
        sim_travel_reset(self, (uint32_t)peer, SIM_IN);
    } else {
        sim_travel_end(self, (uint32_t)peer, SIM_IN);
    }
    return 0;
}

int sim_peer_close(source *base, sim_peer peer) { return close_peer(sim_of(base), peer, 0); }

int sim_peer_reset(source *base, sim_peer peer) { return close_peer(sim_of(base), peer, 1); }

void sim_peer_release(source *base, sim_peer peer) {
    sim *self = sim_of(base);
    sim_link *link = link_of(self, peer);
    if (link != NULL) {
        (void)close_peer(self, peer, 0);
        link->is_peer_released = 1;
        sim_link_settle(self, (uint32_t)peer);
    }
}

/* ---- listening --------------------------------------------------------------------------- */

int sim_listen(source *base, const struct sockaddr *address, socklen_t length,
               enum sim_answer answer) {
    sim *self = sim_of(base);
    (void)sim_unlisten(base, address, length);
    sim_address wanted = sim_address_make(self, address, length);
    uint32_t index = sim_listener_add(self, &wanted);
    self->listeners[index].answer = answer;
    return 0;
}

int sim_unlisten(source *base, const struct sockaddr *address, socklen_t length) {
    sim *self = sim_of(base);
    for (uint32_t index = 0; index < self->listeners_count; index++) {
        sim_listener *listener = &self->listeners[index];
        if (listener->is_open && listener->descriptor == SIM_NONE &&
            listener->address.length == length &&
            memcmp(&listener->address.storage, address, length) == 0) {
            listener->is_open = 0;
            return 0;
        }
    }
    return -ENOENT;
}

int sim_inherit(source *base, const struct sockaddr *address, socklen_t length, int backlog) {
    listen_options options = {.backlog = backlog};
    return sim_listen_new(sim_of(base), address, length, &options, SIM_INHERITED);
}

int sim_address_of(source *base, int fd, struct sockaddr *out, socklen_t length) {
    sim *self = sim_of(base);
    uint32_t index = (uint32_t)fd - SIM_FD_BASE;
    if (fd < SIM_FD_BASE || index >= self->descriptors_count) {
        return -EBADF;
    }
    const sim_descriptor *descriptor = &self->descriptors[index];
    if (descriptor->kind != SIM_LISTENER && descriptor->kind != SIM_INHERITED) {
        return -EBADF;
    }
    const sim_address *address = &self->listeners[descriptor->target].address;
    if (length < address->length) {
        return -EINVAL;
    }
    memcpy(out, &address->storage, address->length);
    return (int)address->length;
}

/* ---- time and evidence ------------------------------------------------------------------- */

sim_knobs *sim_knobs_of(source *base) { return &sim_of(base)->knobs; }

int sim_next_event(source *base, sim_event *out) {
    sim *self = sim_of(base);
    if (self->events_count == 0) {
        return 0;
    }
    *out = self->events[self->events_head];
    self->events_head = (self->events_head + 1) % self->events_size;
    self->events_count--;
    return 1;
}

void sim_alarm(source *base, uint64_t at_ns, int64_t value) {
    sim *self = sim_of(base);
    sim_step step = {.at_ns = at_ns > self->now_ns ? at_ns : self->now_ns,
                     .kind = SIM_STEP_ALARM,
                     .amount = value};
    sim_push_step(self, &step);
}

void sim_set_hook(source *base, sim_hook hook, void *context) {
    sim_of(base)->hook = hook;
    sim_of(base)->hook_context = context;
}

int sim_set_closed_hook(source *base, sim_closed_hook hook, void *context) {
    sim *self = sim_of(base);
    if (hook != NULL && self->closed_hook != NULL) {
        return -EBUSY;
    }
    self->closed_hook = hook;
    self->closed_context = context;
    return 0;
}

void sim_set_broken_hook(source *base, sim_broken_hook hook, void *context) {
    sim_of(base)->broken_hook = hook;
    sim_of(base)->broken_context = context;
}

void sim_census_take(const source *base, sim_census *out) {
    const sim *self = (const sim *)base;
    memset(out, 0, sizeof *out);
    out->links = self->links_open;
    for (uint32_t index = 0; index < self->descriptors_count; index++) {
        const sim_descriptor *descriptor = &self->descriptors[index];
        out->descriptors += descriptor->kind == SIM_SOCKET;
        out->listeners += descriptor->kind == SIM_LISTENER;
        for (unsigned which = 1; descriptor->kind != SIM_FREE && which < SIM_OPS; which++) {
            out->operations += descriptor->ops[which].state != SIM_OP_IDLE;
        }
    }
    for (uint32_t buffer = 0; self->loans != NULL && buffer < self->buffers.count; buffer++) {
        out->buffers_lent += self->loans[buffer] != SIM_LOAN_NONE;
    }
    out->writes = self->writes;
}

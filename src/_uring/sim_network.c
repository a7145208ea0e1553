/* The simulated network: links, streams, connecting. See sim_state.h for theory, (N1) and (N2).
 *
 * Does not know: operations and descriptors. It calls sim_progress when a link has news.
 */
#define _GNU_SOURCE
#include "sim_state.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

enum {
    SYN_TRIES_MAX = 7,
    SYN_RETRY_NS = 1000 * 1000 * 1000, /* Linux: the first retransmission after 1 s */
};

#define SILENCE_NS (127ull * 1000 * 1000 * 1000) /* tcp_syn_retries = 6 */

/* ---- links ------------------------------------------------------------------------------- */

uint32_t sim_link_new(sim *self, const sim_address *address, int is_outbound) {
    uint32_t index = self->links_free;
    if (index != SIM_NONE) {
        self->links_free = self->links[index].next;
    } else {
        size_t size = self->links_count; /* the array is exactly full when none is free */
        self->links = sim_grow(self->links, &size, size + 1, sizeof *self->links);
        size_t added = size - self->links_count;
        memset(self->links + self->links_count, 0, added * sizeof *self->links);
        for (uint32_t spare = (uint32_t)size; --spare > self->links_count;) {
            self->links[spare].next = self->links_free;
            self->links_free = spare;
        }
        index = self->links_count;
        self->links_count = (uint32_t)size;
    }
    sim_link *link = &self->links[index];
    memset(link, 0, sizeof *link);
    self->generation_last = (self->generation_last + 1) & INT32_MAX; /* keeps names positive */
    self->generation_last += self->generation_last == 0;
    link->generation = self->generation_last;
    link->next = link->listener = link->descriptor = SIM_NONE;
    link->address = *address;
    link->is_outbound = (uint8_t)is_outbound;
    link->is_connecting = (uint8_t)is_outbound;
    link->is_peer_gone = link->is_peer_released = (uint8_t)is_outbound; /* until it is accepted */
    self->links_open++;
    uint64_t at_ns = self->now_ns + sim_latency_ns(self);
    link->streams[SIM_IN].last_ns = link->streams[SIM_OUT].last_ns = at_ns;
    sim_push_link_step(self, index, SIM_STEP_SYN, 0, 0, at_ns);
    return index;
}

void sim_link_settle(sim *self, uint32_t index) {
    sim_link *link = &self->links[index];
    if (!link->is_program_gone || !link->is_peer_released) {
        return;
    }
    assert(link->descriptor == SIM_NONE);
    assert(link->listener == SIM_NONE);
    free(link->streams[SIM_IN].bytes);
    free(link->streams[SIM_OUT].bytes);
    memset(link, 0, sizeof *link); /* generation 0: every step for it is void */
    link->next = self->links_free;
    self->links_free = index;
    self->links_open--;
}

size_t sim_room(const sim *self, uint32_t index, unsigned direction) {
    const sim_stream *stream = &self->links[index].streams[direction];
    size_t used = stream->arrived + stream->in_flight;
    return used < self->knobs.window_bytes ? self->knobs.window_bytes - used : 0; /* (N2) */
}

/* ---- what travels ------------------------------------------------------------------------ */

static size_t stream_bytes(const sim_stream *stream) {
    return stream->inbox + stream->arrived + stream->in_flight;
}

static void stream_append(sim_stream *stream, const uint8_t *data, size_t count) {
    size_t used = stream_bytes(stream);
    if (stream->head > used) { /* half of it is behind us: move the rest to the front */
        memmove(stream->bytes, stream->bytes + stream->head, used);
        stream->head = 0;
    }
    stream->bytes = sim_grow(stream->bytes, &stream->size, stream->head + used + count, 1);
    memcpy(stream->bytes + stream->head + used, data, count);
    stream->in_flight += count;
}

/* Take the oldest bytes; the caller lowers inbox or arrived. */
void sim_stream_take(sim_stream *stream, void *out, size_t count) {
    assert(count <= stream_bytes(stream));
    memcpy(out, stream->bytes + stream->head, count);
    stream->head += count;
}

void sim_travel(sim *self, uint32_t index, unsigned direction, const uint8_t *data, size_t count) {
    sim_stream *stream = &self->links[index].streams[direction];
    assert(!stream->is_ending);
    stream_append(stream, data, count);
    while (count > 0) {
        size_t piece = count;
        if (count > 1 && sim_chance(self, self->knobs.fragment)) {
            piece = 1 + sim_below(self, count - 1);
        }
        uint64_t at_ns = self->now_ns + sim_latency_ns(self);
        stream->last_ns = at_ns > stream->last_ns ? at_ns : stream->last_ns; /* (N1) */
        sim_push_link_step(self, index, SIM_STEP_DATA, direction, (int64_t)piece, stream->last_ns);
        count -= piece;
    }
}

void sim_travel_end(sim *self, uint32_t index, unsigned direction) {
    sim_stream *stream = &self->links[index].streams[direction];
    if (stream->is_ending) {
        return;
    }
    stream->is_ending = 1;
    uint64_t at_ns = self->now_ns + sim_latency_ns(self);
    stream->last_ns = at_ns > stream->last_ns ? at_ns : stream->last_ns; /* (N1) */
    sim_push_link_step(self, index, SIM_STEP_END, direction, 0, stream->last_ns);
}

void sim_travel_reset(sim *self, uint32_t index, unsigned direction) {
    self->links[index].streams[direction].is_ending = 1;
    uint64_t at_ns = self->now_ns + sim_latency_ns(self);
    sim_push_link_step(self, index, SIM_STEP_RESET, direction, 0, at_ns);
}

/* ---- what arrives ------------------------------------------------------------------------ */

static void arrive_at_program(sim *self, uint32_t index, size_t count) {
    sim_link *link = &self->links[index];
    sim_stream *stream = &link->streams[SIM_IN];
    if (link->is_reset) {
        return; /* it has been dropped with the rest of what was under way */
    }
    assert(count <= stream->in_flight);
    stream->in_flight -= count;
    stream->arrived += count;
    if (link->is_program_gone) {
        sim_travel_reset(self, index, SIM_OUT); /* bytes for a closed socket: RST */
        return;
    }
    if (sim_chance(self, self->knobs.reset)) {
        sim_travel_reset(self, index, SIM_IN);
        sim_travel_reset(self, index, SIM_OUT);
    }
    sim_progress(self, index);
}

static void arrive_at_peer(sim *self, uint32_t index, size_t count) {
    sim_link *link = &self->links[index];
    sim_stream *stream = &link->streams[SIM_OUT];
    if (link->peer_state == SIM_PEER_RESET) {
        return;
    }
    assert(count <= stream->in_flight);
    stream->in_flight -= count;
    if (link->is_peer_gone) {
        stream->arrived += count;
        sim_travel_reset(self, index, SIM_IN);
        return;
    }
    if (link->is_paused) {
        stream->arrived += count;
        return;
    }
    stream->inbox += count;
    sim_push_event(self, SIM_DATA, index, (int64_t)count);
    uint64_t at_ns = self->now_ns + sim_latency_ns(self);
    sim_push_link_step(self, index, SIM_STEP_ROOM, SIM_OUT, 0, at_ns);
}

static void drop_in_flight(sim_stream *stream) { stream->in_flight = 0; }

static void arrive_reset(sim *self, uint32_t index, unsigned direction) {
    sim_link *link = &self->links[index];
    if (direction == SIM_IN) {
        if (!link->is_program_gone && !link->is_reset) {
            link->is_reset = 1;
            drop_in_flight(&link->streams[SIM_IN]);
            sim_progress(self, index);
        }
    } else if (!link->is_peer_gone && link->peer_state != SIM_PEER_RESET) {
        link->peer_state = SIM_PEER_RESET;
        drop_in_flight(&link->streams[SIM_OUT]);
        sim_push_event(self, SIM_RESET, index, 0);
    }
}

/* The peer's application learns of the end after the last byte before it. */
void sim_tell_end(sim *self, uint32_t index) {
    sim_link *link = &self->links[index];
    if (link->streams[SIM_OUT].has_ended && !link->is_paused && link->peer_state == SIM_PEER_OPEN) {
        link->peer_state = SIM_PEER_ENDED;
        sim_push_event(self, SIM_ENDED, index, 0);
    }
}

static void arrive_end(sim *self, uint32_t index, unsigned direction) {
    sim_link *link = &self->links[index];
    link->streams[direction].has_ended = 1;
    if (direction == SIM_IN) {
        sim_progress(self, index);
    } else {
        sim_tell_end(self, index);
    }
}

static void arrive_room(sim *self, uint32_t index, unsigned direction) {
    sim_link *link = &self->links[index];
    if (direction == SIM_OUT) {
        sim_progress(self, index);
    } else if (link->wants_room && sim_room(self, index, SIM_IN) > 0) {
        link->wants_room = 0;
        sim_push_event(self, SIM_ROOM, index, 0);
    }
}

/* ---- connecting -------------------------------------------------------------------------- */

static int port_of(const struct sockaddr_storage *storage) {
    if (storage->ss_family == AF_INET) {
        return ntohs(((const struct sockaddr_in *)storage)->sin_port);
    }
    return ntohs(((const struct sockaddr_in6 *)storage)->sin6_port);
}

/* 0 = no match, 2 = the very address, 1 = a wildcard that covers it */
static int match(const sim_listener *listener, const sim_address *wanted) {
    const struct sockaddr_storage *left = &listener->address.storage;
    const struct sockaddr_storage *right = &wanted->storage;
    if (left->ss_family == AF_UNIX || right->ss_family == AF_UNIX) {
        return listener->address.length == wanted->length &&
                       memcmp(left, right, wanted->length) == 0
                   ? 2
                   : 0;
    }
    if (port_of(left) != port_of(right)) {
        return 0;
    }
    if (left->ss_family == AF_INET) {
        const struct sockaddr_in *here = (const struct sockaddr_in *)left;
        const struct sockaddr_in *there = (const struct sockaddr_in *)right;
        if (right->ss_family != AF_INET) {
            return 0;
        }
        return here->sin_addr.s_addr == there->sin_addr.s_addr ? 2 : here->sin_addr.s_addr == 0;
    }
    const struct sockaddr_in6 *here = (const struct sockaddr_in6 *)left;
    const struct sockaddr_in6 *there = (const struct sockaddr_in6 *)right;
    if (right->ss_family == AF_INET6 &&
        memcmp(&here->sin6_addr, &there->sin6_addr, sizeof here->sin6_addr) == 0) {
        return 2;
    }
    int is_wildcard = memcmp(&here->sin6_addr, &in6addr_any, sizeof in6addr_any) == 0;
    return is_wildcard && (right->ss_family == AF_INET6 || !listener->v6_only);
}

/* The best match; among equals (SO_REUSEPORT) one by chance. */
uint32_t sim_listener_find(const sim *self, const sim_address *wanted, int is_peers) {
    uint32_t found = SIM_NONE;
    int found_match = 0;
    for (uint32_t index = 0; index < self->listeners_count; index++) {
        const sim_listener *listener = &self->listeners[index];
        if (!listener->is_open || (listener->descriptor == SIM_NONE) != is_peers) {
            continue;
        }
        int matched = match(listener, wanted);
        /* The random state decides, without being moved: a look changes nothing. */
        int wins_tie = matched > 0 && matched == found_match && (self->random >> (index % 64) & 1);
        if (matched > found_match || wins_tie) {
            found = index;
            found_match = matched;
        }
    }
    return found;
}

uint32_t sim_listener_add(sim *self, const sim_address *address) {
    uint32_t index = 0;
    while (index < self->listeners_count && self->listeners[index].is_open) {
        index++;
    }
    if (index == self->listeners_count) {
        size_t size = index;
        self->listeners = sim_grow(self->listeners, &size, size + 1, sizeof *self->listeners);
        memset(self->listeners + index, 0, (size - index) * sizeof *self->listeners);
        self->listeners_count = (uint32_t)size;
    }
    sim_listener *added = &self->listeners[index];
    memset(added, 0, sizeof *added);
    added->address = *address;
    added->descriptor = added->waiting_first = added->waiting_last = SIM_NONE;
    added->is_open = 1;
    return index;
}

static void answer(sim *self, uint32_t index, int result, uint64_t delay_ns) {
    sim_link *link = &self->links[index];
    uint64_t at_ns = self->now_ns + delay_ns;
    /* Nothing else reaches the one who asked before the answer does (N1). */
    link->streams[link->is_outbound ? SIM_IN : SIM_OUT].last_ns = at_ns;
    sim_push_link_step(self, index, SIM_STEP_ANSWER, 0, result, at_ns);
}

static void arrive_syn_at_program(sim *self, uint32_t index) {
    sim_link *link = &self->links[index];
    uint32_t found = sim_listener_find(self, &link->address, 0);
    if (found == SIM_NONE) {
        link->is_program_gone = 1;
        answer(self, index, -ECONNREFUSED, sim_latency_ns(self));
        return;
    }
    sim_listener *listener = &self->listeners[found];
    if (listener->waiting_count >= listener->backlog) {
        if (link->syn_tries++ < SYN_TRIES_MAX) {
            sim_push_link_step(self, index, SIM_STEP_SYN, 0, 0, self->now_ns + SYN_RETRY_NS);
        } else {
            link->is_program_gone = 1;
            answer(self, index, -ETIMEDOUT, 0);
        }
        return;
    }
    link->listener = found;
    if (listener->waiting_last == SIM_NONE) {
        listener->waiting_first = index;
    } else {
        self->links[listener->waiting_last].next = index;
    }
    listener->waiting_last = index;
    listener->waiting_count++;
    answer(self, index, 0, sim_latency_ns(self));
    sim_accept_progress(self, found);
}

static void arrive_syn_at_peer(sim *self, uint32_t index) {
    sim_link *link = &self->links[index];
    uint32_t found = sim_listener_find(self, &link->address, 1);
    if (found == SIM_NONE || self->listeners[found].answer == SIM_ANSWER_REFUSE) {
        answer(self, index, -ECONNREFUSED, sim_latency_ns(self));
    } else if (self->listeners[found].answer == SIM_ANSWER_SILENCE) {
        answer(self, index, -ETIMEDOUT, SILENCE_NS);
    } else {
        link->is_peer_gone = link->is_peer_released = 0;
        link->peer_state = SIM_PEER_OPEN;
        sim_push_event(self, SIM_ACCEPTED, index, 0);
        answer(self, index, 0, sim_latency_ns(self));
    }
}

static void arrive_answer(sim *self, uint32_t index, int result) {
    sim_link *link = &self->links[index];
    if (link->is_outbound) {
        sim_connect_answered(self, index, result);
        return;
    }
    if (link->peer_state != SIM_PEER_CONNECTING) {
        sim_link_settle(self, index); /* reset, or released, meanwhile: it may be nobody's now */
        return;
    }
    link->peer_state = result == 0 ? SIM_PEER_OPEN : SIM_PEER_REFUSED;
    if (!link->is_peer_gone) {
        sim_push_event(self, result == 0 ? SIM_CONNECTED : SIM_REFUSED, index, result);
    }
    sim_tell_end(self, index);
    sim_link_settle(self, index);
}

void sim_run_link_step(sim *self, const sim_step *step) {
    uint32_t index = step->target;
    if (self->links[index].generation != step->serial) {
        return;
    }
    switch (step->kind) {
    case SIM_STEP_SYN:
        if (self->links[index].is_outbound) {
            arrive_syn_at_peer(self, index);
        } else {
            arrive_syn_at_program(self, index);
        }
        break;
    case SIM_STEP_ANSWER:
        arrive_answer(self, index, (int)step->amount);
        break;
    case SIM_STEP_DATA:
        if (step->which == SIM_IN) {
            arrive_at_program(self, index, (size_t)step->amount);
        } else {
            arrive_at_peer(self, index, (size_t)step->amount);
        }
        break;
    case SIM_STEP_END:
        arrive_end(self, index, step->which);
        break;
    case SIM_STEP_RESET:
        arrive_reset(self, index, step->which);
        break;
    default:
        assert(step->kind == SIM_STEP_ROOM);
        arrive_room(self, index, step->which);
    }
}

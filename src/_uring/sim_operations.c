/* Operations of the simulated source: from being handed over to their final completion.
 *
 * Theory: (N3), (N4) of sim_state.h. Whatever news a link or a listener has ends in sim_progress or
 * sim_accept_progress; nothing else moves an operation, but a cancel.
 */
#define _GNU_SOURCE
#include "sim_state.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

/* ---- descriptors and operations ---------------------------------------------------------- */

const char *sim_op_name(unsigned which) {
    static const char *const names[SIM_OPS] = {"?", "accept", "connect", "recv", "send", "poll"};
    return names[which < SIM_OPS ? which : 0];
}

uint32_t sim_descriptor_new(sim *self, unsigned kind, uint32_t target) {
    uint32_t index = self->descriptors_free;
    if (index != SIM_NONE) {
        self->descriptors_free = self->descriptors[index].target;
    } else {
        size_t size = self->descriptors_count;
        self->descriptors =
            sim_grow(self->descriptors, &size, size + 1, sizeof *self->descriptors);
        size_t added = size - self->descriptors_count;
        memset(self->descriptors + self->descriptors_count, 0, added * sizeof *self->descriptors);
        for (uint32_t spare = (uint32_t)size; --spare > self->descriptors_count;) {
            self->descriptors[spare].target = self->descriptors_free;
            self->descriptors_free = spare;
        }
        index = self->descriptors_count;
        self->descriptors_count = (uint32_t)size;
    }
    sim_descriptor *added = &self->descriptors[index];
    memset(added, 0, sizeof *added);
    added->kind = kind;
    added->target = target;
    self->descriptors_open++;
    return index;
}

void sim_descriptor_free(sim *self, uint32_t index) {
    self->descriptors[index].kind = SIM_FREE;
    self->descriptors[index].target = self->descriptors_free;
    self->descriptors_free = index;
    self->descriptors_open--;
}

/* The descriptor behind a number; it must be open and of a kind that fits the verb. */
uint32_t sim_descriptor_of(sim *self, int fd, const char *verb) {
    if (!self->is_enabled) {
        sim_broken(self, "%s before enable or after close", verb);
    }
    uint32_t index = (uint32_t)fd - SIM_FD_BASE;
    if (fd < SIM_FD_BASE || index >= self->descriptors_count) {
        sim_broken(self, "%s on descriptor %d, which this source never gave out", verb, fd);
    }
    if (self->descriptors[index].kind == SIM_FREE) {
        sim_broken(self, "%s on descriptor %d, which is closed", verb, fd);
    }
    return index;
}

sim_operation *sim_hand_over(sim *self, uint32_t index, unsigned which, uint64_t token) {
    sim_operation *op = &self->descriptors[index].ops[which];
    if (token_op(token) != which) {
        sim_broken(self, "%s with a token of kind %u", sim_op_name(which), token_op(token));
    }
    if (op->state != SIM_OP_IDLE) {
        sim_broken(self, "a second %s on descriptor %d while one is in flight", sim_op_name(which),
                   (int)(index + SIM_FD_BASE));
    }
    uint64_t visible_ns = op->visible_ns;
    memset(op, 0, sizeof *op);
    op->visible_ns = visible_ns;
    op->token = token;
    op->state = SIM_OP_HANDED_OVER;
    op->serial = ++self->serial_last;
    self->base.stats.submissions++;
    sim_step step = {.at_ns = self->now_ns,
                     .kind = SIM_STEP_START,
                     .target = index,
                     .serial = op->serial,
                     .which = which};
    sim_push_step(self, &step);
    return op;
}

int sim_is_armed(const sim *self, uint32_t index, unsigned which) {
    return self->descriptors[index].ops[which].state == SIM_OP_ARMED;
}

/* Send a completion on its way to being visible. */
static void complete(sim *self, uint32_t index, unsigned which, completion done) {
    sim_operation *op = &self->descriptors[index].ops[which];
    assert(op->state == SIM_OP_ARMED); /* (N3) */
    uint64_t delay_ns = sim_below(self, self->knobs.jitter_ns_max + 1);
    if (sim_chance(self, self->knobs.late)) {
        delay_ns += sim_below(self, self->knobs.late_ns_max + 1);
    }
    uint64_t at_ns = self->now_ns + delay_ns;
    op->visible_ns = at_ns > op->visible_ns ? at_ns : op->visible_ns; /* (N4) */
    if (!(done.flags & COMPLETION_MORE)) {
        op->state = SIM_OP_ENDED;
    }
    done.token = op->token;
    sim_step step = {.at_ns = op->visible_ns,
                     .kind = SIM_STEP_DONE,
                     .target = index,
                     .serial = op->serial,
                     .which = which,
                     .done = done};
    sim_push_step(self, &step);
}

void sim_finish(sim *self, uint32_t index, unsigned which, int result) {
    complete(self, index, which, (completion){.result = result});
}

/* ---- how operations go on ---------------------------------------------------------------- */

/* One buffer of what has arrived. 0 = the operation has ended. */
static int deliver(sim *self, uint32_t index, sim_link *link, int is_last) {
    sim_stream *stream = &link->streams[SIM_IN];
    uint16_t buffer = BUFRING_NONE;
    if (!sim_chance(self, self->knobs.starve)) {
        buffer = bufring_take(&self->buffers);
    }
    if (buffer == BUFRING_NONE) {
        self->base.stats.starved++;
        sim_finish(self, index, OP_RECV, -ENOBUFS); /* (S9): nothing was taken from the stream */
        return 0;
    }
    size_t count = stream->arrived < self->buffers.bytes ? stream->arrived : self->buffers.bytes;
    if (count > 1 && sim_chance(self, self->knobs.fragment)) {
        count = 1 + sim_below(self, count);
    }
    uint8_t *data = bufring_data(&self->buffers, buffer);
    sim_stream_take(stream, data, count);
    stream->arrived -= count;
    self->loans[buffer] = SIM_LOAN_TAKEN;
    self->loan_lengths[buffer] = (uint32_t)count;
    int is_final = is_last || sim_chance(self, self->knobs.rearm);
    complete(self, index, OP_RECV,
             (completion){.result = (int32_t)count,
                          .data = data,
                          .buffer = buffer,
                          .flags = COMPLETION_BUFFER | (is_final ? 0 : COMPLETION_MORE)});
    if (link->wants_room) {
        uint64_t at_ns = self->now_ns + sim_latency_ns(self);
        sim_push_link_step(self, self->descriptors[index].target, SIM_STEP_ROOM, SIM_IN, 0, at_ns);
    }
    return !is_final;
}

static void recv_progress(sim *self, uint32_t index, sim_link *link) {
    sim_stream *stream = &link->streams[SIM_IN];
    while (sim_is_armed(self, index, OP_RECV)) {
        if (stream->arrived > 0) {
            if (sim_chance(self, self->knobs.interrupted)) {
                sim_finish(self, index, OP_RECV, -EINTR);
            } else if (deliver(self, index, link, 0)) {
                continue;
            }
        } else if (link->is_reset && !link->reset_told) {
            link->reset_told = 1; /* Linux says it once, then end of stream */
            sim_finish(self, index, OP_RECV, -ECONNRESET);
        } else if (link->is_reset || stream->has_ended || link->is_read_shut) {
            sim_finish(self, index, OP_RECV, 0);
        }
        return;
    }
}

/* Move what fits from the caller's memory to the wire. */
static void send_some(sim *self, sim_operation *op, uint32_t link) {
    size_t count = op->bytes - op->sent;
    size_t room = sim_room(self, link, SIM_OUT);
    count = count < room ? count : room;
    if (count > 0) {
        sim_travel(self, link, SIM_OUT, op->data + op->sent, count);
        op->sent += count;
    }
}

static void send_progress(sim *self, uint32_t index, sim_link *link) {
    if (!sim_is_armed(self, index, OP_SEND)) {
        return;
    }
    sim_operation *op = &self->descriptors[index].ops[OP_SEND];
    if (link->is_reset || link->streams[SIM_OUT].is_ending) {
        int error = link->is_reset && !link->reset_told ? -ECONNRESET : -EPIPE;
        link->reset_told |= link->is_reset;
        sim_finish(self, index, OP_SEND, op->sent > 0 ? (int)op->sent : error);
        return;
    }
    if (op->sent == 0 && sim_chance(self, self->knobs.interrupted)) {
        sim_finish(self, index, OP_SEND, -EINTR);
        return;
    }
    if (op->bytes - op->sent > 1 && sim_chance(self, self->knobs.short_send)) {
        sim_operation part = *op;
        part.bytes = op->sent + 1 + sim_below(self, op->bytes - op->sent - 1);
        send_some(self, &part, self->descriptors[index].target);
        op->sent = part.sent;
        if (op->sent > 0) {
            sim_finish(self, index, OP_SEND, (int)op->sent);
        }
        return;
    }
    send_some(self, op, self->descriptors[index].target);
    if (op->sent == op->bytes) {
        sim_finish(self, index, OP_SEND, (int)op->bytes);
    }
}

void sim_progress(sim *self, uint32_t target) {
    sim_link *link = &self->links[target];
    uint32_t index = link->descriptor;
    if (index == SIM_NONE || link->is_connecting) {
        return;
    }
    recv_progress(self, index, link);
    send_progress(self, index, link);
    const sim_stream *stream = &link->streams[SIM_IN];
    int is_readable = stream->arrived > 0 || stream->has_ended || link->is_reset;
    if (is_readable && sim_is_armed(self, index, OP_POLL)) {
        sim_finish(self, index, OP_POLL, POLLIN);
    }
}

static uint32_t take_waiting(sim *self, sim_listener *listener) {
    uint32_t taken = listener->waiting_first;
    sim_link *link = &self->links[taken];
    listener->waiting_first = link->next;
    if (listener->waiting_first == SIM_NONE) {
        listener->waiting_last = SIM_NONE;
    }
    listener->waiting_count--;
    link->next = link->listener = SIM_NONE;
    return taken;
}

void sim_turn_away(sim *self, sim_listener *listener) {
    uint32_t link = take_waiting(self, listener);
    self->links[link].is_program_gone = 1;
    sim_travel_reset(self, link, SIM_OUT);
    sim_link_settle(self, link);
}

static int accept_failure(sim *self, sim_listener *listener) {
    if (self->descriptors_open >= self->knobs.descriptors_max) {
        return -EMFILE;
    }
    if (!sim_chance(self, self->knobs.accept_failure)) {
        return 0;
    }
    if (sim_chance(self, SIM_PER_MILLE / 2)) {
        return -EMFILE;
    }
    sim_turn_away(self, listener);
    return -ECONNABORTED;
}

static void accept_one(sim *self, uint32_t index, sim_listener *listener, int is_last) {
    int error = accept_failure(self, listener);
    if (error) {
        sim_finish(self, index, OP_ACCEPT, error);
        return;
    }
    uint32_t link = take_waiting(self, listener);
    uint32_t accepted = sim_descriptor_new(self, SIM_SOCKET, link);
    self->links[link].descriptor = accepted;
    int is_final = is_last || sim_chance(self, self->knobs.rearm);
    complete(self, index, OP_ACCEPT,
             (completion){.result = (int32_t)(SIM_FD_BASE + accepted),
                          .flags = is_final ? 0 : COMPLETION_MORE});
}

void sim_accept_progress(sim *self, uint32_t target) {
    sim_listener *listener = &self->listeners[target];
    uint32_t index = listener->descriptor;
    while (listener->waiting_count > 0 && sim_is_armed(self, index, OP_ACCEPT)) {
        accept_one(self, index, listener, 0);
    }
}

void sim_connect_answered(sim *self, uint32_t target, int result) {
    sim_link *link = &self->links[target];
    uint32_t index = link->descriptor;
    if (index != SIM_NONE && link->is_connecting && sim_is_armed(self, index, OP_CONNECT)) {
        link->is_connecting = result != 0;
        sim_finish(self, index, OP_CONNECT, result);
    }
}

/* ---- cancelling -------------------------------------------------------------------------- */

/* The target was about to end by itself, and does so now. 0 = it was not. */
static int cancel_loses(sim *self, uint32_t index, unsigned which, uint32_t target) {
    if (!sim_chance(self, self->knobs.cancel_lost)) {
        return 0;
    }
    if (which == OP_ACCEPT && self->listeners[target].waiting_count > 0) {
        accept_one(self, index, &self->listeners[target], 1);
        return 1;
    }
    sim_link *link = &self->links[target];
    if (which == OP_RECV && link->streams[SIM_IN].arrived > 0) {
        (void)deliver(self, index, link, 1);
        return 1;
    }
    if (which == OP_SEND) {
        send_some(self, &self->descriptors[index].ops[OP_SEND], target);
    }
    if (which == OP_CONNECT && link->peer_state == SIM_PEER_OPEN && !link->is_peer_gone) {
        sim_connect_answered(self, target, 0);
        return 1;
    }
    return 0;
}

static void run_cancel(sim *self, uint32_t index, unsigned which) {
    sim_descriptor *descriptor = &self->descriptors[index];
    if (descriptor->kind != SIM_REAL && cancel_loses(self, index, which, descriptor->target)) {
        return;
    }
    size_t sent = which == OP_SEND ? descriptor->ops[which].sent : 0;
    sim_finish(self, index, which, sent > 0 ? (int)sent : -ECANCELED);
}

static void run_start(sim *self, uint32_t index, unsigned which) {
    sim_descriptor *descriptor = &self->descriptors[index];
    descriptor->ops[which].state = SIM_OP_ARMED;
    if (descriptor->kind == SIM_LISTENER) {
        sim_accept_progress(self, descriptor->target);
    } else if (descriptor->kind == SIM_SOCKET) {
        sim_progress(self, descriptor->target);
    }
}

void sim_make_visible(sim *self, const sim_step *step) {
    if (self->done_count == self->done_size) {
        size_t size_before = self->done_size;
        self->done = sim_grow(self->done, &self->done_size, size_before + 1, sizeof *self->done);
        for (size_t i = 0; i < self->done_head; i++) {
            self->done[size_before + i] = self->done[i]; /* unroll the ring */
        }
    }
    self->done[(self->done_head + self->done_count++) % self->done_size] =
        (sim_done){step->done, step->target, step->which, step->serial};
}

void sim_run_step(sim *self, const sim_step *step) {
    if (step->kind == SIM_STEP_ALARM) {
        sim_push_event(self, SIM_ALARM, SIM_NONE, step->amount);
        return;
    }
    if (step->kind == SIM_STEP_DONE) {
        sim_make_visible(self, step);
        return;
    }
    if (step->kind == SIM_STEP_WRITTEN) {
        sim_written(self, step);
        return;
    }
    if (step->kind != SIM_STEP_START && step->kind != SIM_STEP_CANCEL) {
        sim_run_link_step(self, step);
        return;
    }
    const sim_operation *op = &self->descriptors[step->target].ops[step->which];
    if (op->serial != step->serial) {
        return;
    }
    if (step->kind == SIM_STEP_START) {
        assert(op->state == SIM_OP_HANDED_OVER);
        run_start(self, step->target, step->which);
    } else if (op->state == SIM_OP_ARMED) {
        run_cancel(self, step->target, step->which);
    }
}

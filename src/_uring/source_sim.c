/* Completions from a seed: the verbs of source.h over a network and a clock that do not exist.
 *
 * Theory. A verb puts an operation on its descriptor and a step into the heap; nothing else
 * happens before wait (S6, S8). wait runs steps in order of virtual time until it has what was
 * asked for; it advances the clock to the next step at once, so an hour of timers takes a moment.
 * Whatever news a link has (bytes, room, end, reset) ends in sim_progress, the one place where
 * operations go on.
 *
 * The simulator is strict where kernels are forgiving. An operation on a closed descriptor, a
 * second operation of one kind, a descriptor closed under an operation, memory of a send that
 * changes before its completion, a buffer returned twice: each ends the process with a sentence,
 * for each is a bug of the caller that a kernel would punish only now and then.
 *
 * Descriptor numbers are reused at once, the last closed first: the worst order for a caller that
 * mixes up a connection and its successor.
 *
 * All verbs stand in this one file, in the order of source.h, as in the other sources: hence its
 * length.
 *
 * Real descriptors may be polled (another thread's wake-up); nothing else may be done with them.
 * How operations go on: sim_operations.c. Network: sim_network.c. Clockwork: sim_steps.c. The other
 * side, for tests: source_sim.h, sim_peers.c.
 */
#define _GNU_SOURCE
#include "sim_state.h"

#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum {
    BACKLOG_MAX = 4096, /* net.core.somaxconn */
    PORT_FIRST = 40000, /* of those given to listeners that ask for any */
    POISON = 0xdb,      /* what a returned buffer holds */
};

#define CLOCK_FIRST_NS (1000ull * 1000 * 1000)

/* ---- life -------------------------------------------------------------------------------- */

static void sim_close(source *base) {
    sim *self = sim_of(base);
    if (self->closed_hook != NULL) {
        self->closed_hook(self->closed_context);
    }
    for (uint32_t index = 0; index < self->links_count; index++) {
        free(self->links[index].streams[SIM_IN].bytes);
        free(self->links[index].streams[SIM_OUT].bytes);
    }
    void *const owned[] = {self->steps,     self->done,  self->events,       self->descriptors,
                           self->links,     self->listeners, self->loans, self->loan_lengths,
                           self->trace};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) {
        free(owned[i]);
    }
    if (self->is_open) {
        bufring_close(&self->buffers);
    }
    sim kept = {.base = self->base, .now_ns = self->now_ns, .trace_hash = self->trace_hash};
    *self = kept;
    self->descriptors_free = self->links_free = SIM_NONE;
}

static int sim_open(source *base) {
    sim *self = sim_of(base);
    const source_config *config = &base->config;
    int error = bufring_open(&self->buffers, config->buffers, config->buffer_bytes);
    if (error) {
        return error;
    }
    self->is_open = 1;
    self->loans = calloc(config->buffers, sizeof *self->loans);
    self->loan_lengths = calloc(config->buffers, sizeof *self->loan_lengths);
    if (self->loans == NULL || self->loan_lengths == NULL) {
        sim_close(base);
        return -ENOMEM;
    }
    return 0;
}

static int sim_enable(source *base) {
    sim *self = sim_of(base);
    if (!self->is_open || self->is_enabled) {
        sim_broken(self, "enable %s", self->is_open ? "twice" : "before open");
    }
    self->is_enabled = 1;
    return 0;
}

static void sim_abandon(source *base) { sim_close(base); }

/* ---- verbs ------------------------------------------------------------------------------- */

sim_address sim_address_make(sim *self, const struct sockaddr *address, socklen_t length) {
    sim_address made;
    memset(&made, 0, sizeof made);
    if (length > (socklen_t)sizeof made.storage) {
        sim_broken(self, "an address of %u bytes", (unsigned)length);
    }
    memcpy(&made.storage, address, length);
    made.length = length;
    return made;
}

int sim_listen_new(sim *self, const struct sockaddr *address, socklen_t length,
                   const listen_options *options, int kind) {
    sim_address wanted = sim_address_make(self, address, length);
    struct sockaddr_in *v4 = (struct sockaddr_in *)&wanted.storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&wanted.storage;
    in_port_t port = htons((uint16_t)(PORT_FIRST + self->port_last));
    if (wanted.storage.ss_family == AF_INET && v4->sin_port == 0) {
        v4->sin_port = port;
        self->port_last++;
    } else if (wanted.storage.ss_family == AF_INET6 && v6->sin6_port == 0) {
        v6->sin6_port = port;
        self->port_last++;
    }
    for (uint32_t index = 0; index < self->listeners_count; index++) {
        const sim_listener *other = &self->listeners[index];
        int is_same = other->is_open && other->descriptor != SIM_NONE &&
                      other->address.length == length &&
                      memcmp(&other->address.storage, &wanted.storage, length) == 0;
        if (is_same && !(options->reuse_port && other->reuse_port)) {
            return -EADDRINUSE;
        }
    }
    uint32_t index = sim_listener_add(self, &wanted);
    uint32_t descriptor = sim_descriptor_new(self, (unsigned)kind, index);
    sim_listener *listener = &self->listeners[index];
    int backlog = options->backlog < 1 ? 1 : options->backlog;
    listener->backlog = (uint32_t)(backlog < BACKLOG_MAX ? backlog : BACKLOG_MAX);
    listener->descriptor = descriptor;
    listener->reuse_port = options->reuse_port != 0;
    listener->v6_only = options->v6_only != 0;
    return (int)(SIM_FD_BASE + descriptor);
}

static int sim_listen_verb(source *base, const struct sockaddr *address, socklen_t length,
                           const listen_options *options) {
    int fd = sim_listen_new(sim_of(base), address, length, options, SIM_LISTENER);
    sim_note(sim_of(base), SIM_DID_LISTEN, 0, fd, 0, sim_content(address, length));
    return fd;
}

static int sim_adopt(source *base, int fd) {
    sim *self = sim_of(base);
    uint32_t index = (uint32_t)fd - SIM_FD_BASE;
    if (fd < SIM_FD_BASE || index >= self->descriptors_count ||
        self->descriptors[index].kind != SIM_INHERITED) {
        return -EBADF;
    }
    self->descriptors[index].kind = SIM_LISTENER;
    return fd;
}

static int sim_accept(source *base, int fd, uint64_t token) {
    sim *self = sim_of(base);
    uint32_t index = sim_descriptor_of(self, fd, "accept");
    if (self->descriptors[index].kind != SIM_LISTENER) {
        sim_broken(self, "accept on descriptor %d, which does not listen", fd);
    }
    (void)sim_hand_over(self, index, OP_ACCEPT, token);
    sim_note(self, SIM_DID_ACCEPT, token, fd, 0, 0);
    return 0;
}

static void sim_refuse(source *base, int fd) {
    sim *self = sim_of(base);
    uint32_t index = sim_descriptor_of(self, fd, "refuse");
    sim_listener *listener = &self->listeners[self->descriptors[index].target];
    if (listener->waiting_count > 0) {
        sim_turn_away(self, listener);
    }
}

static int sim_connect(source *base, const struct sockaddr *address, socklen_t length,
                       uint64_t token) {
    sim *self = sim_of(base);
    if (!self->is_enabled) {
        sim_broken(self, "connect before enable or after close");
    }
    if (self->descriptors_open >= self->knobs.descriptors_max) {
        return -EMFILE;
    }
    sim_address wanted = sim_address_make(self, address, length);
    uint32_t link = sim_link_new(self, &wanted, 1);
    uint32_t index = sim_descriptor_new(self, SIM_SOCKET, link);
    self->links[link].descriptor = index;
    (void)sim_hand_over(self, index, OP_CONNECT, token);
    int fd = (int)(SIM_FD_BASE + index);
    sim_note(self, SIM_DID_CONNECT, token, fd, 0, sim_content(address, length));
    return fd;
}

static sim_link *socket_of(sim *self, int fd, const char *verb) {
    uint32_t index = sim_descriptor_of(self, fd, verb);
    if (self->descriptors[index].kind != SIM_SOCKET) {
        sim_broken(self, "%s on descriptor %d, which is not a connection", verb, fd);
    }
    return &self->links[self->descriptors[index].target];
}

static int sim_recv(source *base, int fd, uint64_t token) {
    sim *self = sim_of(base);
    if (socket_of(self, fd, "recv")->is_connecting) {
        sim_broken(self, "recv on descriptor %d, which is not connected", fd);
    }
    (void)sim_hand_over(self, (uint32_t)fd - SIM_FD_BASE, OP_RECV, token);
    sim_note(self, SIM_DID_RECV, token, fd, 0, 0);
    return 0;
}

static ssize_t sim_send(source *base, int fd, const void *data, size_t bytes, uint64_t token) {
    sim *self = sim_of(base);
    sim_link *link = socket_of(self, fd, "send");
    uint32_t index = (uint32_t)fd - SIM_FD_BASE;
    if (link->is_connecting) {
        sim_broken(self, "send on descriptor %d, which is not connected", fd);
    }
    if (bytes == 0) {
        sim_broken(self, "send of no bytes on descriptor %d", fd);
    }
    uint64_t content = sim_content(data, bytes);
    sim_note(self, SIM_DID_SEND, token, (int64_t)bytes, 0, content);
    if (self->descriptors[index].ops[OP_SEND].state == SIM_OP_IDLE &&
        sim_chance(self, self->knobs.direct_send)) {
        if (link->is_reset) {
            link->reset_told = 1;
            return -EPIPE;
        }
        if (!link->streams[SIM_OUT].is_ending &&
            sim_room(self, self->descriptors[index].target, SIM_OUT) >= bytes) {
            sim_travel(self, self->descriptors[index].target, SIM_OUT, data, bytes);
            base->stats.submissions++;
            base->stats.sends_direct++;
            return (ssize_t)bytes;
        }
    }
    sim_operation *op = sim_hand_over(self, index, OP_SEND, token);
    op->data = data;
    op->bytes = bytes < INT32_MAX ? bytes : INT32_MAX;
    op->checksum = content;
    return 0;
}

/* The descriptor that stands for a real one. */
static uint32_t real_of(sim *self, int fd, int is_new_allowed) {
    for (uint32_t i = 0; i < self->reals_count; i++) {
        if ((int)self->descriptors[self->reals[i]].target == fd) {
            return self->reals[i];
        }
    }
    if (!is_new_allowed) {
        return SIM_NONE;
    }
    if (self->reals_count == SIM_REALS_MAX) {
        sim_broken(self, "poll on more than %d real descriptors", SIM_REALS_MAX);
    }
    uint32_t index = sim_descriptor_new(self, SIM_REAL, (uint32_t)fd);
    self->reals[self->reals_count++] = index;
    return index;
}

static int sim_poll(source *base, int fd, uint64_t token) {
    sim *self = sim_of(base);
    uint32_t index =
        fd < SIM_FD_BASE ? real_of(self, fd, 1) : sim_descriptor_of(self, fd, "poll");
    (void)sim_hand_over(self, index, OP_POLL, token);
    sim_note(self, SIM_DID_POLL, token, fd < SIM_FD_BASE ? 0 : fd, 0, 0);
    return 0;
}

static int sim_cancel(source *base, int fd, uint64_t token) {
    sim *self = sim_of(base);
    uint32_t index =
        fd < SIM_FD_BASE ? real_of(self, fd, 0) : sim_descriptor_of(self, fd, "cancel");
    unsigned which = token_op(token);
    if (index == SIM_NONE || which == OP_NONE || which >= SIM_OPS) {
        sim_broken(self, "cancel of token %016llx on descriptor %d", (unsigned long long)token, fd);
    }
    sim_note(self, SIM_DID_CANCEL, token, 0, 0, 0);
    const sim_operation *op = &self->descriptors[index].ops[which];
    if (op->state == SIM_OP_IDLE || op->token != token) {
        return -ENOENT;
    }
    sim_step step = {.at_ns = self->now_ns + sim_below(self, self->knobs.jitter_ns_max + 1),
                     .kind = SIM_STEP_CANCEL,
                     .target = index,
                     .serial = op->serial,
                     .which = which};
    sim_push_step(self, &step);
    return 0;
}

static int sim_shutdown(source *base, int fd, int how) {
    sim *self = sim_of(base);
    sim_link *link = socket_of(self, fd, "shutdown");
    uint32_t target = self->descriptors[(uint32_t)fd - SIM_FD_BASE].target;
    sim_note(self, SIM_DID_SHUTDOWN, 0, fd, (unsigned)how, 0);
    if (link->is_connecting) {
        if (sim_is_armed(self, (uint32_t)fd - SIM_FD_BASE, OP_CONNECT)) {
            sim_finish(self, (uint32_t)fd - SIM_FD_BASE, OP_CONNECT, -ECONNABORTED);
        }
        return 0;
    }
    if (how == SHUT_RD || how == SHUT_RDWR) {
        link->is_read_shut = 1;
    }
    if ((how == SHUT_WR || how == SHUT_RDWR) && !link->is_reset) {
        sim_travel_end(self, target, SIM_OUT);
    }
    sim_progress(self, target);
    return link->is_reset ? -ENOTCONN : 0; /* as Linux: the pending operations end all the same */
}

static int sim_unacknowledged(source *base, int fd) {
    sim *self = sim_of(base);
    const sim_link *link = socket_of(self, fd, "unacknowledged");
    const sim_stream *out = &link->streams[SIM_OUT];
    return !link->is_reset && (out->in_flight > 0 || (out->is_ending && !out->has_ended));
}

static void close_listener(sim *self, uint32_t target) {
    sim_listener *listener = &self->listeners[target];
    while (listener->waiting_count > 0) {
        sim_turn_away(self, listener);
    }
    listener->is_open = 0;
}

static void close_socket(sim *self, uint32_t target, int is_reset) {
    sim_link *link = &self->links[target];
    link->descriptor = SIM_NONE;
    link->is_program_gone = 1;
    /* Linux answers with RST when bytes were left unread: the peer must not think them taken. */
    if ((is_reset || link->streams[SIM_IN].arrived > 0) && !link->is_reset) {
        sim_travel_reset(self, target, SIM_OUT);
    } else if (!link->is_reset) {
        sim_travel_end(self, target, SIM_OUT);
    }
    sim_link_settle(self, target);
}

static void sim_close_fd(source *base, int fd, int reset) {
    sim *self = sim_of(base);
    uint32_t index = sim_descriptor_of(self, fd, "close_fd");
    sim_descriptor *descriptor = &self->descriptors[index];
    for (unsigned which = 1; which < SIM_OPS; which++) {
        if (descriptor->ops[which].state != SIM_OP_IDLE) {
            sim_broken(self, "close_fd on descriptor %d while its %s is in flight", fd,
                       sim_op_name(which));
        }
    }
    sim_note(self, SIM_DID_CLOSE, 0, fd, (unsigned)reset, 0);
    if (descriptor->kind == SIM_SOCKET) {
        close_socket(self, descriptor->target, reset);
    } else {
        close_listener(self, descriptor->target);
    }
    sim_descriptor_free(self, index);
}

/* ---- waiting ----------------------------------------------------------------------------- */

/* Real descriptors that are polled. Blocks only when `timeout_ms` is -1; -EINTR or 0. */
static int look_at_reals(sim *self, int timeout_ms) {
    struct pollfd polled[SIM_REALS_MAX];
    uint32_t indices[SIM_REALS_MAX];
    nfds_t count = 0;
    for (uint32_t i = 0; i < self->reals_count; i++) {
        if (sim_is_armed(self, self->reals[i], OP_POLL)) {
            indices[count] = self->reals[i];
            polled[count++] = (struct pollfd){.fd = (int)self->descriptors[self->reals[i]].target,
                                              .events = POLLIN};
        }
    }
    if (count == 0) {
        return 0;
    }
    if (poll(polled, count, timeout_ms) < 0) {
        return -errno;
    }
    for (nfds_t i = 0; i < count; i++) {
        if (polled[i].revents != 0) {
            sim_finish(self, indices[i], OP_POLL, polled[i].revents);
        }
    }
    return 0;
}

static int has_real_poll(const sim *self) {
    for (uint32_t i = 0; i < self->reals_count; i++) {
        if (sim_is_armed(self, self->reals[i], OP_POLL)) {
            return 1;
        }
    }
    return 0;
}

static int sim_ready(source *base) {
    const sim *self = sim_of(base);
    return self->done_count > 0 || (self->steps_count > 0 && self->steps[0].at_ns <= self->now_ns);
}

static void run_until_now(sim *self) {
    while (self->steps_count > 0 && self->steps[0].at_ns <= self->now_ns) {
        sim_step step = sim_pop_step(self);
        sim_run_step(self, &step);
    }
}

/* The test's turn, if it has something to hear. 1 = it wants wait to return. */
static int tell_test(sim *self) {
    if (self->events_told == self->events_made || self->hook == NULL) {
        return 0;
    }
    self->events_told = self->events_made;
    int wants_return = self->hook(self->hook_context);
    (void)look_at_reals(self, 0); /* it may have woken the loop */
    return wants_return;
}

/* No step is left and no deadline. 1 = return, 0 = go on, negative = nothing can ever happen. */
static int wait_quiet(sim *self) {
    if (self->hook != NULL) {
        sim_push_event(self, SIM_QUIET, SIM_NONE, 0);
    }
    if (tell_test(self)) {
        return 1;
    }
    if (self->steps_count > 0) {
        return 0;
    }
    if (!has_real_poll(self)) {
        return -EDEADLK;
    }
    return look_at_reals(self, -1);
}

static int sim_wait(source *base, const wait_request *request) {
    sim *self = sim_of(base);
    if (!self->is_enabled) {
        sim_broken(self, "wait before enable or after close");
    }
    base->stats.enters++;
    uint64_t enough_ns = WAIT_FOREVER; /* from here on one completion is enough */
    if (request->wait_us_min > 0) {
        enough_ns = self->now_ns + request->wait_us_min * 1000ull;
    }
    unsigned events_min = request->events_min ? request->events_min : 1;
    self->now_ns += self->knobs.tick_ns;
    if (sim_chance(self, self->knobs.wait_interrupted)) {
        return -EINTR;
    }
    run_until_now(self);
    (void)look_at_reals(self, 0);
    for (;;) {
        run_until_now(self);
        if (tell_test(self)) {
            return 0;
        }
        int has_enough = self->done_count >= events_min ||
                         (self->done_count > 0 && self->now_ns >= enough_ns);
        if (has_enough || request->deadline_ns <= self->now_ns) {
            return 0;
        }
        uint64_t next_ns = self->steps_count > 0 ? self->steps[0].at_ns : WAIT_FOREVER;
        next_ns = next_ns < request->deadline_ns ? next_ns : request->deadline_ns;
        if (self->done_count > 0 && enough_ns < next_ns) {
            next_ns = enough_ns;
        }
        if (next_ns == WAIT_FOREVER) {
            int outcome = self->done_count > 0 ? 1 : wait_quiet(self);
            if (outcome != 0) {
                return outcome < 0 ? outcome : 0;
            }
        } else if (next_ns > self->now_ns) {
            self->now_ns = next_ns;
        }
    }
}

static void check_final(sim *self, const sim_done *from, sim_operation *op) {
    assert(op->serial == from->serial);
    assert(op->state == SIM_OP_ENDED); /* (N3) */
    if (from->which == OP_SEND && sim_content(op->data, op->bytes) != op->checksum) {
        sim_broken(self, "the %zu bytes given to send on descriptor %d changed before its "
                         "completion", op->bytes, (int)(SIM_FD_BASE + from->descriptor));
    }
    op->state = SIM_OP_IDLE;
}

static unsigned sim_reap(source *base, completion *out, unsigned count_max) {
    sim *self = sim_of(base);
    unsigned count = 0;
    for (; count < count_max && self->done_count > 0; count++) {
        sim_done *from = &self->done[self->done_head];
        self->done_head = (self->done_head + 1) % self->done_size;
        self->done_count--;
        out[count] = from->done;
        uint64_t content = 0;
        if (from->done.flags & COMPLETION_BUFFER) {
            assert(self->loans[from->done.buffer] == SIM_LOAN_TAKEN);
            self->loans[from->done.buffer] = SIM_LOAN_LENT;
            content = sim_content(from->done.data, (size_t)from->done.result);
        }
        if (!(from->done.flags & COMPLETION_MORE) && from->descriptor != SIM_NONE) {
            check_final(self, from, &self->descriptors[from->descriptor].ops[from->which]);
        }
        sim_note(self, SIM_DID_COMPLETION, from->done.token, from->done.result, from->done.flags,
                 content);
    }
    base->stats.completions += count;
    return count;
}

static void sim_buffer_return(source *base, uint16_t buffer) {
    sim *self = sim_of(base);
    if (buffer >= self->buffers.count || self->loans[buffer] != SIM_LOAN_LENT) {
        sim_broken(self, "buffer_return of buffer %u, which is not lent", buffer);
    }
    self->loans[buffer] = SIM_LOAN_NONE;
    /* Whoever still reads it reads nonsense. */
    memset(bufring_data(&self->buffers, buffer), POISON, self->loan_lengths[buffer]);
    bufring_put(&self->buffers, buffer);
}

static uint64_t sim_now(source *base) { return sim_of(base)->now_ns; }

const source_verbs source_sim_verbs = {
    .name = "sim",
    .open = sim_open,
    .enable = sim_enable,
    .close = sim_close,
    .abandon = sim_abandon,
    .listen = sim_listen_verb,
    .adopt = sim_adopt,
    .accept = sim_accept,
    .refuse = sim_refuse,
    .connect = sim_connect,
    .recv = sim_recv,
    .send = sim_send,
    .poll = sim_poll,
    .write = sim_write,
    .cancel = sim_cancel,
    .shutdown = sim_shutdown,
    .unacknowledged = sim_unacknowledged,
    .close_fd = sim_close_fd,
    .ready = sim_ready,
    .wait = sim_wait,
    .reap = sim_reap,
    .buffer_return = sim_buffer_return,
    .now = sim_now,
};

source *source_sim_new(const source_config *config) {
    sim *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return NULL;
    }
    self->base.config = *config;
    self->base.verbs = &source_sim_verbs;
    self->random = config->seed;
    self->descriptors_free = self->links_free = SIM_NONE;
    self->now_ns = CLOCK_FIRST_NS + sim_below(self, CLOCK_FIRST_NS);
    self->knobs = (sim_knobs){
        .latency_ns_min = 20000,
        .latency_ns_max = 60000, /* a local network */
        .jitter_ns_max = 5000,
        .late_ns_max = 1000000000,
        .tick_ns = 1000,
        .disk_ns_min = 100000,
        .disk_ns_max = 250000, /* a disk that flushes */
        .window_bytes = 65536,
        .descriptors_max = 20000,
    };
    return &self->base;
}

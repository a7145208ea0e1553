/* The same verbs over epoll: readiness turned into completions.
 *
 * Theory. Every descriptor is registered once, edge-triggered, for reading and writing. The table
 * remembers what the edges said (readable, hung up) and which operations are armed. An armed recv
 * on a readable descriptor stands in the `todo` queue; reap reads one buffer for each and puts it
 * back at the end, so that busy connections take turns. A short read of a stream means that its
 * buffer in the kernel is empty, so the next byte makes a new edge; a hang-up is read to its end.
 *
 * Sends go out at once. Only what the socket does not take waits for a writable edge. Writes to
 * files go to the helper thread, whose descriptor stands in the same epoll.
 *
 * Invariants
 *  (E1) A descriptor stands in `todo` at most once (is_queued).
 *  (E2) readable is cleared only by a read that met EAGAIN, or was short without a hang-up.
 *  (E3) Every descriptor here is non-blocking.
 *
 * Sources: epoll(7), questions on edge-triggered use.
 */
#define _GNU_SOURCE
#include "source.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "bufring.h"
#include "helper.h"
#include "sockets.h"
#include "ways.h"

enum {
    EVENTS_MAX = 512,
    ACCEPTS_PER_TURN_MAX = 64, /* a storm of connects must not hold up those already here */
    SEND_BYTES_MAX = 1 << 30, /* a completion's result is an int32 */
    TABLE_INITIAL = 256,
    QUEUE_INITIAL = 256, /* a power of two */
};

typedef struct entry {
    uint64_t recv_token; /* accept, recv or poll; 0 = not armed */
    uint64_t send_token; /* send or connect; 0 = none */
    const uint8_t *send_data;
    size_t send_bytes;
    size_t sent;
    uint8_t is_registered;
    uint8_t is_readable;
    uint8_t is_hung_up;
    uint8_t is_queued;
} entry;

typedef struct epoll_source {
    source base;
    int epoll_fd;
    int spare;
    int is_open;
    helper *helper;
    int is_helper_done; /* its descriptor was readable */
    ways ways;
    bufring buffers;
    entry *table; /* by descriptor */
    int table_count;
    int *todo; /* ring of descriptors to read from */
    uint32_t todo_head, todo_count, todo_capacity;
    completion *done; /* ring of completions that came without waiting */
    uint32_t done_head, done_count, done_capacity;
    struct epoll_event events[EVENTS_MAX];
} epoll_source;

/* ---- the two queues and the table -------------------------------------------------------- */

static int todo_push(epoll_source *self, int fd) {
    entry *at = &self->table[fd];
    if (at->is_queued) {
        return 0; /* (E1) */
    }
    if (self->todo_count == self->todo_capacity) {
        uint32_t capacity = self->todo_capacity * 2;
        int *grown = malloc(sizeof *grown * capacity);
        if (grown == NULL) {
            return -ENOMEM;
        }
        for (uint32_t index = 0; index < self->todo_count; index++) {
            grown[index] = self->todo[(self->todo_head + index) & (self->todo_capacity - 1)];
        }
        free(self->todo);
        self->todo = grown;
        self->todo_head = 0;
        self->todo_capacity = capacity;
    }
    self->todo[(self->todo_head + self->todo_count++) & (self->todo_capacity - 1)] = fd;
    at->is_queued = 1;
    return 0;
}

static int done_push(epoll_source *self, uint64_t token, int32_t result) {
    if (self->done_count == self->done_capacity) {
        uint32_t capacity = self->done_capacity * 2;
        completion *grown = malloc(sizeof *grown * capacity);
        if (grown == NULL) {
            return -ENOMEM;
        }
        for (uint32_t index = 0; index < self->done_count; index++) {
            grown[index] = self->done[(self->done_head + index) & (self->done_capacity - 1)];
        }
        free(self->done);
        self->done = grown;
        self->done_head = 0;
        self->done_capacity = capacity;
    }
    uint32_t tail = (self->done_head + self->done_count++) & (self->done_capacity - 1);
    completion *to = &self->done[tail];
    memset(to, 0, sizeof *to);
    to->token = token;
    to->result = result;
    return 0;
}

static int table_grow(epoll_source *self, int fd) {
    int count = self->table_count;
    while (count <= fd) {
        count *= 2;
    }
    entry *grown = realloc(self->table, sizeof *grown * (size_t)count);
    if (grown == NULL) {
        return -ENOMEM;
    }
    memset(grown + self->table_count, 0, sizeof *grown * (size_t)(count - self->table_count));
    self->table = grown;
    self->table_count = count;
    return 0;
}

static int attach(epoll_source *self, int fd) {
    if (fd < 0) {
        return -EBADF;
    }
    if (fd >= self->table_count && table_grow(self, fd) < 0) {
        return -ENOMEM;
    }
    entry *at = &self->table[fd];
    if (at->is_registered) {
        return 0;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data = {.fd = fd}};
    if (epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        return -errno;
    }
    uint8_t is_queued = at->is_queued; /* a stale place in the queue is still one place (E1) */
    memset(at, 0, sizeof *at);
    at->is_queued = is_queued;
    at->is_registered = 1;
    return 0;
}

/* ---- life -------------------------------------------------------------------------------- */

static void epoll_close(source *base) {
    epoll_source *self = (epoll_source *)base;
    if (!self->is_open) {
        return;
    }
    self->is_open = 0;
    if (self->helper != NULL) {
        helper_close(self->helper);
    }
    close(self->epoll_fd);
    if (self->spare >= 0) {
        close(self->spare);
    }
    free(self->table);
    free(self->todo);
    free(self->done);
    bufring_close(&self->buffers);
}

/* Closing a copy of the descriptors leaves the parent's alone; its thread is not here. */
static void epoll_abandon(source *base) {
    epoll_source *self = (epoll_source *)base;
    if (self->is_open && self->helper != NULL) {
        helper_abandon(self->helper);
        self->helper = NULL;
    }
    epoll_close(base);
}

static int epoll_open(source *base) {
    epoll_source *self = (epoll_source *)base;
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll_fd < 0) {
        return -errno;
    }
    self->is_open = 1;
    self->spare = sockets_spare();
    self->table = calloc(TABLE_INITIAL, sizeof *self->table);
    self->table_count = TABLE_INITIAL;
    self->todo = malloc(sizeof *self->todo * QUEUE_INITIAL);
    self->todo_capacity = QUEUE_INITIAL;
    self->done = malloc(sizeof *self->done * QUEUE_INITIAL);
    self->done_capacity = QUEUE_INITIAL;
    int error = bufring_open(&self->buffers, base->config.buffers, base->config.buffer_bytes);
    if (error == 0 && (!self->table || !self->todo || !self->done)) {
        error = -ENOMEM;
    }
    if (error) {
        epoll_close(base);
    }
    return error;
}

static int epoll_enable(source *base) {
    (void)base;
    return 0; /* epoll may be used from any one thread */
}

/* ---- operations -------------------------------------------------------------------------- */

static int epoll_listen(source *base, const struct sockaddr *address, socklen_t length,
                        const listen_options *options) {
    (void)base;
    return sockets_listen(address, length, options, 1); /* (E3) */
}

static int epoll_adopt(source *base, int fd) {
    (void)base;
    return sockets_adopt(fd, 1);
}

static int arm_read(source *base, int fd, uint64_t token) {
    epoll_source *self = (epoll_source *)base;
    int error = attach(self, fd);
    if (error) {
        return error;
    }
    entry *at = &self->table[fd];
    assert(at->recv_token == 0);
    at->recv_token = token;
    base->stats.submissions++;
    return at->is_readable || at->is_hung_up ? todo_push(self, fd) : 0;
}

static void epoll_refuse(source *base, int fd) {
    epoll_source *self = (epoll_source *)base;
    self->spare = sockets_refuse_one(fd, self->spare);
}

static int epoll_connect(source *base, const struct sockaddr *address, socklen_t length,
                         uint64_t token) {
    epoll_source *self = (epoll_source *)base;
    int fd = sockets_stream(address->sa_family, 1);
    if (fd < 0) {
        return fd;
    }
    int error = 0;
    if (connect(fd, address, length) < 0 && errno != EINPROGRESS) {
        error = done_push(self, token, -errno);
    } else {
        error = attach(self, fd);
        if (error == 0) {
            self->table[fd].send_token = token; /* the writable edge completes it */
        }
    }
    if (error) {
        close(fd);
        return error;
    }
    base->stats.submissions++;
    return fd;
}

static ssize_t epoll_send(source *base, int fd, const void *data, size_t length, uint64_t token) {
    epoll_source *self = (epoll_source *)base;
    int error = attach(self, fd);
    if (error) {
        return error;
    }
    entry *at = &self->table[fd];
    assert(at->send_token == 0);
    base->stats.submissions++;
    int is_part = length > SEND_BYTES_MAX;
    length = is_part ? SEND_BYTES_MAX : length;
    ssize_t sent = send(fd, data, length, MSG_NOSIGNAL);
    if (sent == (ssize_t)length && is_part) {
        return done_push(self, token, (int32_t)sent); /* a short send: not all of it is gone (S4) */
    }
    if (sent == (ssize_t)length) {
        base->stats.sends_direct++;
        return sent;
    }
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        return -errno;
    }
    at->send_token = token;
    at->send_data = data;
    at->send_bytes = length;
    at->sent = sent > 0 ? (size_t)sent : 0;
    return 0;
}

static int have_helper(epoll_source *self) {
    if (self->helper != NULL) {
        return 0;
    }
    self->helper = helper_open();
    if (self->helper == NULL) {
        return -EMFILE;
    }
    struct epoll_event event = {.events = EPOLLIN, .data = {.fd = helper_fd(self->helper)}};
    if (epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, helper_fd(self->helper), &event) < 0) {
        int error = -errno;
        helper_close(self->helper);
        self->helper = NULL;
        return error;
    }
    return 0;
}

static int epoll_write_in_place(epoll_source *self, const write_request *request) {
    uint64_t began_ns = sockets_now_ns();
    int result = write_in_place(request);
    uint64_t now_ns = sockets_now_ns();
    ways_took(&self->ways, WAY_IN_PLACE, now_ns - began_ns, now_ns);
    self->base.stats.submissions++;
    self->base.stats.writes_in_place++;
    return result;
}

static int epoll_write(source *base, const write_request *request, uint64_t token) {
    epoll_source *self = (epoll_source *)base;
    int error = have_helper(self); /* with the first write: later, descriptors may be out */
    if (ways_choose(&self->ways, request->is_quiet, 1, sockets_now_ns()) == WAY_IN_PLACE) {
        return epoll_write_in_place(self, request);
    }
    error = error ? error : helper_write(self->helper, request, token);
    if (error < 0) { /* the system has no descriptor or thread for it now: slow beats stuck */
        return done_push(self, token, epoll_write_in_place(self, request));
    }
    base->stats.writes_by_thread++;
    base->stats.submissions++;
    return 0;
}

static int epoll_cancel(source *base, int fd, uint64_t token) {
    epoll_source *self = (epoll_source *)base;
    if (fd < 0 || fd >= self->table_count) {
        return -ENOENT;
    }
    entry *at = &self->table[fd];
    if (at->recv_token == token) {
        at->recv_token = 0;
    } else if (at->send_token == token) {
        at->send_token = 0;
    } else {
        return -ENOENT;
    }
    return done_push(self, token, -ECANCELED);
}

static int epoll_shutdown(source *base, int fd, int how) {
    (void)base;
    return shutdown(fd, how) < 0 ? -errno : 0;
}

static int epoll_unacknowledged(source *base, int fd) {
    (void)base;
    return sockets_unacknowledged(fd);
}

static void epoll_close_fd(source *base, int fd, int reset) {
    epoll_source *self = (epoll_source *)base;
    if (fd < self->table_count) {
        entry *at = &self->table[fd];
        assert(at->recv_token == 0);
        assert(at->send_token == 0);
        at->is_registered = 0; /* the kernel forgets a closed descriptor by itself */
        at->is_readable = 0;
        at->is_hung_up = 0;
    }
    sockets_close(fd, reset);
}

/* ---- edges ------------------------------------------------------------------------------- */

static void finish_send(epoll_source *self, entry *at, int32_t result) {
    uint64_t token = at->send_token;
    at->send_token = 0;
    (void)done_push(self, token, result);
}

static void writable(epoll_source *self, int fd, entry *at) {
    if (token_op(at->send_token) == OP_CONNECT) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
        finish_send(self, at, -error);
        return;
    }
    ssize_t sent = send(fd, at->send_data + at->sent, at->send_bytes - at->sent, MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            finish_send(self, at, -errno);
        }
        return;
    }
    at->sent += (size_t)sent;
    if (at->sent == at->send_bytes) {
        finish_send(self, at, (int32_t)at->send_bytes);
    }
}

static void take_edge(epoll_source *self, int fd, uint32_t events) {
    entry *at = &self->table[fd];
    if (!at->is_registered) {
        return;
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR | EPOLLRDHUP)) {
        at->is_readable = 1;
        if (events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP)) {
            at->is_hung_up = 1;
        }
        if (at->recv_token != 0) {
            (void)todo_push(self, fd);
        }
    }
    if (at->send_token != 0 && (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))) {
        writable(self, fd, at);
    }
}

static int epoll_ready(source *base) {
    epoll_source *self = (epoll_source *)base;
    return (int)(self->todo_count + self->done_count) + self->is_helper_done;
}

static int epoll_wait_events(source *base, const wait_request *request) {
    epoll_source *self = (epoll_source *)base;
    int timeout_ms = -1;
    if (request->deadline_ns == 0 || epoll_ready(base)) {
        timeout_ms = 0;
    } else if (request->deadline_ns != WAIT_FOREVER) {
        uint64_t now = sockets_now_ns();
        uint64_t wait_ms = 0;
        if (request->deadline_ns > now) {
            wait_ms = (request->deadline_ns - now + 999999u) / 1000000u; /* never early */
        }
        timeout_ms = wait_ms > INT32_MAX ? INT32_MAX : (int)wait_ms;
    }
    base->stats.enters++;
    int count = epoll_wait(self->epoll_fd, self->events, EVENTS_MAX, timeout_ms);
    if (count < 0) {
        return -errno;
    }
    for (int index = 0; index < count; index++) {
        if (self->helper != NULL && self->events[index].data.fd == helper_fd(self->helper)) {
            self->is_helper_done = 1;
            continue;
        }
        take_edge(self, self->events[index].data.fd, self->events[index].events);
    }
    return 0;
}

/* ---- completions ------------------------------------------------------------------------- */

static unsigned reap_accepts(epoll_source *self, int fd, entry *at, completion *out,
                             unsigned count_max) {
    unsigned count = 0;
    unsigned limit = count_max < ACCEPTS_PER_TURN_MAX ? count_max : ACCEPTS_PER_TURN_MAX;
    while (count < limit) {
        int accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        completion *to = &out[count];
        memset(to, 0, sizeof *to);
        to->token = at->recv_token;
        if (accepted >= 0) {
            to->result = accepted;
            to->flags = COMPLETION_MORE;
            count++;
            continue;
        }
        if (errno == EINTR) {
            continue;
        }
        if (errno == EAGAIN) {
            at->is_readable = 0; /* (E2) */
            return count;
        }
        to->result = -errno;
        at->recv_token = 0;
        return count + 1;
    }
    (void)todo_push(self, fd);
    return count;
}

/* One read into one buffer. Returns the number of completions written: 0 or 1. */
static unsigned reap_recv(epoll_source *self, int fd, entry *at, completion *to) {
    memset(to, 0, sizeof *to);
    to->token = at->recv_token;
    uint16_t buffer = bufring_take(&self->buffers);
    if (buffer == BUFRING_NONE) {
        at->recv_token = 0;
        to->result = -ENOBUFS; /* (S9): still readable, so arming again queues it */
        self->base.stats.starved++;
        return 1;
    }
    uint8_t *data = bufring_data(&self->buffers, buffer);
    ssize_t got = recv(fd, data, self->buffers.bytes, 0);
    if (got > 0) {
        to->result = (int32_t)got;
        to->flags = COMPLETION_MORE | COMPLETION_BUFFER;
        to->buffer = buffer;
        to->data = data;
        if ((uint32_t)got == self->buffers.bytes || at->is_hung_up) {
            (void)todo_push(self, fd);
        } else {
            at->is_readable = 0; /* (E2) */
        }
        return 1;
    }
    int error = errno;
    bufring_put(&self->buffers, buffer);
    if (got < 0 && (error == EAGAIN || error == EINTR)) {
        if (error == EINTR) {
            (void)todo_push(self, fd);
        } else {
            at->is_readable = 0; /* (E2) */
            at->is_hung_up = 0;
        }
        return 0;
    }
    to->result = got == 0 ? 0 : -error;
    at->recv_token = 0;
    return 1;
}

static unsigned reap_todo(epoll_source *self, completion *out, unsigned count_max) {
    unsigned count = 0;
    uint32_t turns = self->todo_count; /* what is queued anew waits for the next round */
    while (turns-- > 0 && count < count_max) {
        int fd = self->todo[self->todo_head];
        self->todo_head = (self->todo_head + 1) & (self->todo_capacity - 1);
        self->todo_count--;
        entry *at = &self->table[fd];
        at->is_queued = 0;
        if (!at->is_registered || at->recv_token == 0) {
            continue;
        }
        switch (token_op(at->recv_token)) {
        case OP_ACCEPT:
            count += reap_accepts(self, fd, at, out + count, count_max - count);
            break;
        case OP_RECV:
            count += reap_recv(self, fd, at, out + count);
            break;
        default:
            assert(token_op(at->recv_token) == OP_POLL);
            memset(&out[count], 0, sizeof *out);
            out[count].token = at->recv_token;
            out[count].result = EPOLLIN;
            at->recv_token = 0;
            at->is_readable = 0; /* the owner drains it before arming again */
            count++;
        }
    }
    return count;
}

static unsigned epoll_reap(source *base, completion *out, unsigned count_max) {
    epoll_source *self = (epoll_source *)base;
    unsigned count = 0;
    while (self->done_count > 0 && count < count_max) {
        out[count++] = self->done[self->done_head];
        self->done_head = (self->done_head + 1) & (self->done_capacity - 1);
        self->done_count--;
    }
    if (self->is_helper_done && count < count_max) {
        count += helper_take(self->helper, out + count, count_max - count);
        self->is_helper_done = count == count_max;
    }
    count += reap_todo(self, out + count, count_max - count);
    base->stats.completions += count;
    return count;
}

static void epoll_buffer_return(source *base, uint16_t id) {
    bufring_put(&((epoll_source *)base)->buffers, id);
}

static uint64_t epoll_now(source *base) {
    (void)base;
    return sockets_now_ns();
}

const source_verbs source_epoll_verbs = {
    .name = "epoll",
    .open = epoll_open,
    .enable = epoll_enable,
    .close = epoll_close,
    .abandon = epoll_abandon,
    .listen = epoll_listen,
    .adopt = epoll_adopt,
    .accept = arm_read,
    .refuse = epoll_refuse,
    .connect = epoll_connect,
    .recv = arm_read,
    .send = epoll_send,
    .poll = arm_read,
    .write = epoll_write,
    .cancel = epoll_cancel,
    .shutdown = epoll_shutdown,
    .unacknowledged = epoll_unacknowledged,
    .close_fd = epoll_close_fd,
    .ready = epoll_ready,
    .wait = epoll_wait_events,
    .reap = epoll_reap,
    .buffer_return = epoll_buffer_return,
    .now = epoll_now,
};

source *source_epoll_new(const source_config *config) {
    epoll_source *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return NULL;
    }
    self->base.config = *config;
    self->base.verbs = &source_epoll_verbs;
    self->epoll_fd = -1;
    self->spare = -1;
    return &self->base;
}

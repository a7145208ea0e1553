/* Completions from io_uring.
 *
 * Theory. One ring, made disabled on any thread and enabled on the thread that runs it (a
 * DEFER_TASKRUN ring may be entered by that thread only). Verbs fill submission entries; nothing
 * reaches the kernel before wait, which submits everything and waits in one system call. With
 * DEFER_TASKRUN the kernel runs completions only inside that call, at most max(20, events_min) of
 * them, so events_min is the batch knob.
 *
 * Two tiers share this code. `full` (kernel 6.12) arms accept and recv once for many completions
 * and has min-wait and absolute deadlines. `basic` (6.1) arms each anew: its kernels have bugs in
 * multishot receive (ENOBUFS storms) and multishot accept (a bogus descriptor).
 *
 * liburing makes the ring and its mappings and hands out submission entries. The enter call is our
 * own, for min-wait, absolute deadlines and NO_IOWAIT are newer than the liburing of distributions.
 *
 * Invariants
 *  (U1) The index array of the submission ring is the identity, set once: publishing is one store.
 *  (U2) Sockets are blocking: O_NONBLOCK makes the kernel answer EAGAIN instead of waiting.
 *  (U3) A submission that names memory on the stack (connect) is submitted before its verb returns.
 *  (U4) The end of a multishot receive that the kernel forgets is found by looking (lost_ends.h).
 *
 * Above 500 lines because one file is one source, top to bottom, like the other two.
 *
 * Sources: io_uring_setup(2), io_uring_enter(2), liburing's header for the entry layout.
 */
#define _GNU_SOURCE
#include "source.h"

#ifdef PYBEHAVE_HAVE_URING

#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "bufring.h"
#include "helper.h"
#include "lost_ends.h"
#include "sockets.h"
#include "uapi.h"
#include "ways.h"

enum {
    BUFFER_GROUP = 0,
    SUBMISSIONS_MIN = 16,
    COMPLETIONS_MIN = 32,
    MEMLOCK_TRIES = 3, /* a ring's locked memory is given back late after its process ended */
    MEMLOCK_PAUSE_MS = 20,
    FOREVER_NS = 1000000000, /* a deadline that only stands in for none: a tick a second */
    IOWQ_WORKERS_MAX = 1, /* nothing on the normal path needs a kernel worker thread */
    LINKED_MAX = 16,      /* writes in flight: the journal's slots */
    GENERATION_LINKED = TOKEN_GENERATION_MASK,
};

/* The poll of the helper's descriptor: nobody's operation but ours. */
#define HELPER_TOKEN token_make(OP_WRITE, TOKEN_GENERATION_MASK, UINT32_MAX)

typedef struct uring {
    source base;
    struct io_uring ring;
    struct io_uring_buf_ring *buffer_ring;
    size_t buffer_ring_bytes;
    bufring buffers;
    lost_ends ends; /* multishot receives only (U4) */
    unsigned enter_flags;
    pid_t thread; /* that enabled the ring; 0 = not enabled */
    int is_open;
    int is_full;
    int has_no_iowait;
    helper *helper; /* see uring_write */
    int is_helper_polled;
    unsigned by_helper; /* writes that it has, done and not taken included */
    int32_t linked[LINKED_MAX]; /* results of writes whose sync is still to come */
    ways ways;
    struct {
        way way;
        uint64_t since_ns;
    } writes[LINKED_MAX]; /* in flight */
    int spare; /* descriptor kept for refusing when there are none left */
} uring;

static unsigned setup_flags(void) {
    return IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE |
           IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
           IORING_SETUP_TASKRUN_FLAG;
}

static int try_queue_init(uring *self, unsigned submissions, unsigned completions) {
    struct timespec pause = {0, MEMLOCK_PAUSE_MS * 1000000L};
    int error = -ENOMEM;
    for (int attempt = 0; attempt < MEMLOCK_TRIES; attempt++) {
        struct io_uring_params params;
        memset(&params, 0, sizeof params);
        params.flags = setup_flags();
        params.cq_entries = completions;
        error = io_uring_queue_init_params(submissions, &self->ring, &params);
        if (error != -ENOMEM) {
            return error;
        }
        nanosleep(&pause, NULL);
    }
    return error;
}

/* A ring of the wanted size, or the largest the locked-memory limit admits. */
static int make_ring(uring *self) {
    unsigned submissions = self->base.config.submissions;
    unsigned completions = self->base.config.completions;
    for (;;) {
        int error = try_queue_init(self, submissions, completions);
        if (error == 0) {
            self->base.config.submissions = submissions;
            self->base.config.completions = completions;
            return 0;
        }
        if (error != -ENOMEM || completions <= COMPLETIONS_MIN) {
            return error;
        }
        completions /= 2;
        submissions = submissions > SUBMISSIONS_MIN ? submissions / 2 : submissions;
        if (submissions * 2 > completions) {
            submissions = completions / 2;
        }
    }
}

static int make_buffers(uring *self) {
    const source_config *config = &self->base.config;
    int error = bufring_open(&self->buffers, config->buffers, config->buffer_bytes);
    if (error) {
        return error;
    }
    self->buffer_ring_bytes = config->buffers * sizeof(struct io_uring_buf);
    void *memory = mmap(NULL, self->buffer_ring_bytes, PROT_READ | PROT_WRITE,
                        MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
    if (memory == MAP_FAILED) {
        return -errno;
    }
    self->buffer_ring = memory;
    struct io_uring_buf_reg registration;
    memset(&registration, 0, sizeof registration);
    registration.ring_addr = (uint64_t)(uintptr_t)memory;
    registration.ring_entries = config->buffers;
    registration.bgid = BUFFER_GROUP;
    error = io_uring_register_buf_ring(&self->ring, &registration, 0);
    if (error) {
        return error;
    }
    io_uring_buf_ring_init(self->buffer_ring);
    int mask = io_uring_buf_ring_mask(config->buffers);
    for (uint32_t id = 0; id < config->buffers; id++) {
        io_uring_buf_ring_add(self->buffer_ring, bufring_data(&self->buffers, (uint16_t)id),
                              config->buffer_bytes, (unsigned short)id, mask, (int)id);
    }
    io_uring_buf_ring_advance(self->buffer_ring, (int)config->buffers);
    return 0;
}

static void uring_close(source *base) {
    uring *self = (uring *)base;
    if (!self->is_open) {
        return;
    }
    self->is_open = 0;
    if (self->helper != NULL) {
        helper_close(self->helper);
        self->helper = NULL;
    }
    if (self->thread == (pid_t)syscall(SYS_gettid)) {
        (void)io_uring_unregister_ring_fd(&self->ring);
    }
    io_uring_queue_exit(&self->ring);
    if (self->buffer_ring != NULL) {
        munmap(self->buffer_ring, self->buffer_ring_bytes);
        self->buffer_ring = NULL;
    }
    bufring_close(&self->buffers);
    lost_ends_close(&self->ends);
    if (self->spare >= 0) {
        close(self->spare);
    }
}

static void uring_abandon(source *base) {
    uring *self = (uring *)base;
    if (!self->is_open) {
        return;
    }
    /* The mappings are not there in the child (dontfork); only the descriptors are. */
    self->is_open = 0;
    if (self->helper != NULL) {
        helper_abandon(self->helper);
        self->helper = NULL;
    }
    close(self->ring.ring_fd);
    if (self->spare >= 0) {
        close(self->spare);
    }
    bufring_close(&self->buffers);
    lost_ends_close(&self->ends);
}

static int uring_open(source *base) {
    uring *self = (uring *)base;
    int error = make_ring(self);
    if (error) {
        return error;
    }
    self->is_open = 1;
    self->spare = sockets_spare();
    unsigned features = self->ring.features;
    unsigned needed = IORING_FEAT_NODROP | IORING_FEAT_SUBMIT_STABLE | IORING_FEAT_FAST_POLL |
                      IORING_FEAT_EXT_ARG;
    if ((features & needed) != needed ||
        (self->is_full && !(features & UAPI_FEAT_MIN_TIMEOUT))) {
        uring_close(base);
        return -EOPNOTSUPP;
    }
    self->has_no_iowait = (features & UAPI_FEAT_NO_IOWAIT) != 0;
    for (unsigned index = 0; index < self->ring.sq.ring_entries; index++) {
        self->ring.sq.array[index] = index; /* (U1) */
    }
    error = make_buffers(self);
    if (error == 0) {
        /* A child must not share the rings: it would move the parent's tail (io_uring and fork). */
        error = io_uring_ring_dontfork(&self->ring);
    }
    if (error) {
        uring_close(base);
    }
    return error;
}

static int uring_enable(source *base) {
    uring *self = (uring *)base;
    int fd = self->ring.ring_fd;
    if (syscall(SYS_io_uring_register, fd, UAPI_REGISTER_ENABLE_RINGS, NULL, 0) < 0) {
        return -errno;
    }
    self->thread = (pid_t)syscall(SYS_gettid);
    unsigned workers[2] = {IOWQ_WORKERS_MAX, IOWQ_WORKERS_MAX};
    (void)syscall(SYS_io_uring_register, fd, UAPI_REGISTER_IOWQ_MAX_WORKERS, workers, 2);
    self->enter_flags = 0;
    if (io_uring_register_ring_fd(&self->ring) == 1) {
        self->enter_flags = IORING_ENTER_REGISTERED_RING;
    }
    return 0;
}

/* ---- submission -------------------------------------------------------------------------- */

static unsigned publish(uring *self) {
    struct io_uring_sq *sq = &self->ring.sq;
    sq->sqe_head = sq->sqe_tail;
    io_uring_smp_store_release(sq->ktail, sq->sqe_tail);
    /* From the kernel's head: what an interrupted enter left behind is counted again. */
    return sq->sqe_tail - io_uring_smp_load_acquire(sq->khead);
}

static int enter(uring *self, unsigned submit, unsigned events_min, unsigned flags, void *argument,
                 size_t argument_bytes) {
    self->base.stats.enters++;
    long result = syscall(SYS_io_uring_enter, self->ring.enter_ring_fd, submit, events_min,
                          flags | self->enter_flags, argument, argument_bytes);
    return result < 0 ? -errno : (int)result;
}

static struct io_uring_sqe *take_entry(uring *self, unsigned opcode, int fd, uint64_t token) {
    struct io_uring_sqe *entry = io_uring_get_sqe(&self->ring);
    if (entry == NULL) {
        (void)enter(self, publish(self), 0, IORING_ENTER_GETEVENTS, NULL, 0);
        entry = io_uring_get_sqe(&self->ring);
        if (entry == NULL) {
            return NULL;
        }
    }
    memset(entry, 0, sizeof *entry);
    entry->opcode = (uint8_t)opcode;
    entry->fd = fd;
    entry->user_data = token;
    self->base.stats.submissions++;
    return entry;
}

static int uring_listen(source *base, const struct sockaddr *address, socklen_t length,
                        const listen_options *options) {
    (void)base;
    return sockets_listen(address, length, options, 0); /* (U2) */
}

static int uring_adopt(source *base, int fd) {
    (void)base;
    return sockets_adopt(fd, 0);
}

static int uring_accept(source *base, int fd, uint64_t token) {
    uring *self = (uring *)base;
    struct io_uring_sqe *entry = take_entry(self, IORING_OP_ACCEPT, fd, token);
    if (entry == NULL) {
        return -EBUSY;
    }
    entry->accept_flags = SOCK_CLOEXEC;
    entry->ioprio = self->is_full ? UAPI_ACCEPT_MULTISHOT : 0;
    return 0;
}

static void uring_refuse(source *base, int fd) {
    uring *self = (uring *)base;
    self->spare = sockets_refuse_one(fd, self->spare);
}

static int uring_connect(source *base, const struct sockaddr *address, socklen_t length,
                         uint64_t token) {
    uring *self = (uring *)base;
    int fd = sockets_stream(address->sa_family, 0);
    if (fd < 0) {
        return fd;
    }
    struct io_uring_sqe *entry = take_entry(self, IORING_OP_CONNECT, fd, token);
    if (entry == NULL) {
        close(fd);
        return -EBUSY;
    }
    entry->addr = (uint64_t)(uintptr_t)address;
    entry->off = length;
    (void)enter(self, publish(self), 0, 0, NULL, 0); /* (U3) */
    return fd;
}

static int uring_recv(source *base, int fd, uint64_t token) {
    uring *self = (uring *)base;
    int error = self->is_full ? lost_ends_arm(&self->ends, token_slot(token), fd) : 0;
    if (error) {
        return error;
    }
    struct io_uring_sqe *entry = take_entry(self, IORING_OP_RECV, fd, token);
    if (entry == NULL) {
        if (self->is_full) {
            lost_ends_disarm(&self->ends, token_slot(token));
        }
        return -EBUSY;
    }
    entry->flags = IOSQE_BUFFER_SELECT;
    entry->buf_group = BUFFER_GROUP;
    /* A peer seldom has data there at the moment of arming: poll first, do not try in vain. */
    entry->ioprio = UAPI_RECVSEND_POLL_FIRST | (self->is_full ? UAPI_RECV_MULTISHOT : 0);
    return 0;
}

static ssize_t uring_send(source *base, int fd, const void *data, size_t length, uint64_t token) {
    struct io_uring_sqe *entry = take_entry((uring *)base, IORING_OP_SEND, fd, token);
    if (entry == NULL) {
        return -EBUSY;
    }
    entry->addr = (uint64_t)(uintptr_t)data;
    entry->len = length > INT32_MAX ? INT32_MAX : (uint32_t)length;
    entry->msg_flags = MSG_NOSIGNAL | MSG_WAITALL;
    return 0;
}

static int uring_poll(source *base, int fd, uint64_t token) {
    struct io_uring_sqe *entry = take_entry((uring *)base, IORING_OP_POLL_ADD, fd, token);
    if (entry == NULL) {
        return -EBUSY;
    }
    entry->poll32_events = POLLIN;
    return 0;
}

/* The fdatasync carries the token; what the write did is kept until then (linked_result). */
static int write_then_sync(uring *self, const write_request *request, uint64_t token) {
    if (io_uring_sq_space_left(&self->ring) < 2) {
        (void)enter(self, publish(self), 0, IORING_ENTER_GETEVENTS, NULL, 0);
    }
    struct io_uring_sqe *entry = take_entry(self, IORING_OP_WRITE, request->fd, 0);
    if (entry == NULL) {
        return -EBUSY;
    }
    entry->addr = (uint64_t)(uintptr_t)request->data;
    entry->len = request->bytes;
    entry->off = request->offset;
    entry->flags = IOSQE_IO_LINK;
    entry->user_data = token_make(OP_WRITE, GENERATION_LINKED, token_slot(token));
    entry = take_entry(self, IORING_OP_FSYNC, request->fd, token);
    assert(entry != NULL);
    entry->fsync_flags = IORING_FSYNC_DATASYNC;
    return 0;
}

static int poll_helper(uring *self) {
    struct io_uring_sqe *entry =
        take_entry(self, IORING_OP_POLL_ADD, helper_fd(self->helper), HELPER_TOKEN);
    if (entry == NULL) {
        return -EBUSY;
    }
    entry->poll32_events = POLLIN;
    self->is_helper_polled = 1;
    return 0;
}

static int write_by_helper(uring *self, const write_request *request, uint64_t token) {
    int error = self->is_helper_polled ? 0 : poll_helper(self);
    error = error ? error : helper_write(self->helper, request, token);
    if (error == 0) {
        self->by_helper++;
        self->base.stats.submissions++;
        self->base.stats.writes_by_thread++;
    }
    return error;
}

/* The way of a write that begins now, noted for when it ends. */
static way begin_write(uring *self, const write_request *request, uint64_t token) {
    uint64_t now_ns = sockets_now_ns();
    way way = ways_choose(&self->ways, request->is_quiet, request->is_busy, now_ns);
    if (self->helper == NULL) { /* with the first write: later, descriptors may be out */
        self->helper = helper_open();
    }
    if (self->helper == NULL && way == WAY_THREAD) {
        way = WAY_RING;
    }
    assert(token_slot(token) < LINKED_MAX);
    self->writes[token_slot(token)].way = way;
    self->writes[token_slot(token)].since_ns = now_ns;
    return way;
}

static void end_write(uring *self, uint64_t token) {
    uint32_t slot = token_slot(token);
    uint64_t now_ns = sockets_now_ns();
    ways_took(&self->ways, self->writes[slot].way, now_ns - self->writes[slot].since_ns, now_ns);
}

static int uring_write(source *base, const write_request *request, uint64_t token) {
    uring *self = (uring *)base;
    way way = begin_write(self, request, token);
    if (way == WAY_IN_PLACE) {
        int result = write_in_place(request);
        end_write(self, token);
        base->stats.submissions++;
        base->stats.writes_in_place++;
        return result;
    }
    if (way == WAY_THREAD) {
        if (write_by_helper(self, request, token) == 0) {
            return 0;
        }
        /* Its thread cannot be had now, or its queue is full: later beats not at all. */
        self->writes[token_slot(token)].way = WAY_RING;
    }
    self->linked[token_slot(token)] = 0;
    if (request->how == WRITE_FDATASYNC) {
        return write_then_sync(self, request, token);
    }
    struct io_uring_sqe *entry = take_entry(self, IORING_OP_WRITE, request->fd, token);
    if (entry == NULL) {
        return -EBUSY;
    }
    entry->addr = (uint64_t)(uintptr_t)request->data;
    entry->len = request->bytes;
    entry->off = request->offset;
    entry->rw_flags = request->how == WRITE_DSYNC ? RWF_DSYNC : 0;
    return 0;
}

/* A write's second half: 1 = out is its completion, 0 = this was only the first. A short or failed
 * write cancels the sync behind it, and then its own result is what is to be known. */
static int join_linked(uring *self, const struct io_uring_cqe *entry, completion *to) {
    int32_t *first = &self->linked[token_slot(entry->user_data)];
    if (token_generation(entry->user_data) == GENERATION_LINKED) {
        *first = entry->res;
        return 0;
    }
    if (*first != 0 && (entry->res == 0 || entry->res == -ECANCELED)) {
        to->result = *first;
    }
    return 1;
}

static int uring_cancel(source *base, int fd, uint64_t token) {
    (void)fd;
    struct io_uring_sqe *entry = take_entry((uring *)base, IORING_OP_ASYNC_CANCEL, -1, 0);
    if (entry == NULL) {
        return -EBUSY;
    }
    entry->addr = token;
    return 0;
}

static int uring_shutdown(source *base, int fd, int how) {
    (void)base;
    /* A plain system call: IORING_OP_SHUTDOWN always goes to a kernel worker thread. */
    return shutdown(fd, how) < 0 ? -errno : 0;
}

static int uring_unacknowledged(source *base, int fd) {
    (void)base;
    return sockets_unacknowledged(fd);
}

static void uring_close_fd(source *base, int fd, int reset) {
    (void)base;
    sockets_close(fd, reset);
}

/* ---- waiting and completions ------------------------------------------------------------- */

static int uring_ready(source *base) {
    uring *self = (uring *)base;
    unsigned flags = IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW;
    unsigned count = io_uring_cq_ready(&self->ring);
    if (count == 0) {
        count = (IO_URING_READ_ONCE(*self->ring.sq.kflags) & flags) != 0;
    }
    return (int)count;
}

static void set_deadline(const uring *self, uint64_t deadline_ns, struct __kernel_timespec *out) {
    uint64_t value = deadline_ns;
    if (!self->is_full) { /* relative before 6.12 */
        uint64_t now = sockets_now_ns();
        value = deadline_ns > now ? deadline_ns - now : 0;
    }
    out->tv_sec = (int64_t)(value / 1000000000u);
    out->tv_nsec = (long long)(value % 1000000000u);
}

static int enter_blocking(uring *self, unsigned submit, const wait_request *request,
                          uint64_t deadline_ns) {
    struct __kernel_timespec deadline;
    struct uapi_getevents_arg argument;
    memset(&argument, 0, sizeof argument);
    unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
    if (deadline_ns == WAIT_FOREVER && request->wait_us_min != 0) {
        /* The kernel (6.18) forgets the minimum wait when there is no deadline beside it. */
        deadline_ns = sockets_now_ns() + FOREVER_NS;
    }
    if (deadline_ns != WAIT_FOREVER) {
        set_deadline(self, deadline_ns, &deadline);
        argument.timespec = (uint64_t)(uintptr_t)&deadline;
        flags |= self->is_full ? UAPI_ENTER_ABS_TIMER : 0;
    }
    unsigned events_min = request->events_min ? request->events_min : 1;
    if (self->is_full) {
        argument.wait_us_min = request->wait_us_min;
    } else {
        events_min = 1; /* without min-wait a larger number could wait for ever */
    }
    if (self->has_no_iowait) {
        flags |= UAPI_ENTER_NO_IOWAIT;
    }
    return enter(self, submit, events_min, flags, &argument, sizeof argument);
}

/* When to look for ends that the kernel forgot; looks if it is time. Costs nothing unless a
 * connection sent something lately. */
static uint64_t look_for_ends(uring *self) {
    if (self->ends.heard_count == 0) {
        return WAIT_FOREVER;
    }
    uint64_t now_ns = sockets_now_ns();
    uint64_t look_ns = lost_ends_next(&self->ends, now_ns);
    if (look_ns > now_ns) {
        return look_ns;
    }
    self->base.stats.ends_lost += lost_ends_look(&self->ends);
    return WAIT_FOREVER;
}

static int uring_wait(source *base, const wait_request *request) {
    uring *self = (uring *)base;
    int is_early;
    int result;
    if (IO_URING_READ_ONCE(*self->ring.sq.kflags) & IORING_SQ_CQ_OVERFLOW) {
        base->stats.overflows++;
    }
    do {
        uint64_t look_ns = look_for_ends(self);
        unsigned submit = publish(self);
        if (request->deadline_ns == 0 || io_uring_cq_ready(&self->ring) != 0) {
            result = enter(self, submit, 0, IORING_ENTER_GETEVENTS, NULL, 0);
            break;
        }
        /* Time that is up only because ends must be looked for is not the caller's. */
        is_early = look_ns < request->deadline_ns;
        result = enter_blocking(self, submit, request, is_early ? look_ns : request->deadline_ns);
    } while (is_early && result == -ETIME && io_uring_cq_ready(&self->ring) == 0);
    if (result == -ETIME || result == -EBUSY || result == -EAGAIN) {
        return 0; /* time is up, or completions must be reaped first; nothing is lost */
    }
    return result < 0 ? result : 0;
}

/* A receive said something: what lost_ends must know of it. */
static void recv_told(uring *self, const struct io_uring_cqe *entry) {
    uint32_t slot = token_slot(entry->user_data);
    if (!(entry->flags & IORING_CQE_F_MORE)) {
        lost_ends_disarm(&self->ends, slot);
    } else {
        lost_ends_heard(&self->ends, slot);
    }
}

static unsigned uring_reap(source *base, completion *out, unsigned count_max) {
    uring *self = (uring *)base;
    struct io_uring_cq *cq = &self->ring.cq;
    unsigned head = *cq->khead;
    unsigned tail = io_uring_smp_load_acquire(cq->ktail);
    unsigned mask = cq->ring_mask;
    unsigned count = 0;
    for (; head != tail && count < count_max; head++) {
        const struct io_uring_cqe *entry = &cq->cqes[head & mask];
        if (token_op(entry->user_data) == OP_NONE) {
            continue; /* the cancel itself (S3) */
        }
        if (self->is_full && token_op(entry->user_data) == OP_RECV) {
            recv_told(self, entry);
        }
        if (entry->user_data == HELPER_TOKEN) {
            self->is_helper_polled = 0; /* taken below, armed again by the next write */
            continue;
        }
        completion *to = &out[count++];
        to->token = entry->user_data;
        to->result = entry->res;
        if (token_op(entry->user_data) == OP_WRITE) {
            if (!join_linked(self, entry, to)) {
                count--;
                continue;
            }
            end_write(self, entry->user_data);
        }
        to->flags = (entry->flags & IORING_CQE_F_MORE) ? COMPLETION_MORE : 0;
        to->data = NULL;
        to->buffer = 0;
        if (entry->flags & IORING_CQE_F_BUFFER) {
            to->buffer = (uint16_t)(entry->flags >> IORING_CQE_BUFFER_SHIFT);
            to->data = bufring_data(&self->buffers, to->buffer);
            to->flags |= COMPLETION_BUFFER;
        }
        if (entry->res == -ENOBUFS) {
            base->stats.starved++;
        }
    }
    io_uring_smp_store_release(cq->khead, head);
    if (self->by_helper > 0 && !self->is_helper_polled && count < count_max) {
        unsigned taken = helper_take(self->helper, out + count, count_max - count);
        for (unsigned index = 0; index < taken; index++) {
            end_write(self, out[count + index].token);
        }
        count += taken;
        self->by_helper -= taken;
        if (self->by_helper > 0) {
            (void)poll_helper(self);
        }
    }
    base->stats.completions += count;
    return count;
}

static void uring_buffer_return(source *base, uint16_t id) {
    uring *self = (uring *)base;
    assert(id < self->buffers.count);
    io_uring_buf_ring_add(self->buffer_ring, bufring_data(&self->buffers, id), self->buffers.bytes,
                          id, (int)self->buffers.count - 1, 0);
    io_uring_buf_ring_advance(self->buffer_ring, 1);
}

static uint64_t uring_now(source *base) {
    (void)base;
    return sockets_now_ns();
}

#define URING_VERBS(tier)                                                                        \
    {                                                                                            \
        .name = tier, .open = uring_open, .enable = uring_enable, .close = uring_close,          \
        .abandon = uring_abandon, .listen = uring_listen, .adopt = uring_adopt,                  \
        .accept = uring_accept, .refuse = uring_refuse, .connect = uring_connect,                \
        .recv = uring_recv, .send = uring_send, .poll = uring_poll,                             \
        .write = uring_write, .cancel = uring_cancel, .shutdown = uring_shutdown,                \
        .unacknowledged = uring_unacknowledged, .close_fd = uring_close_fd,                      \
        .ready = uring_ready, .wait = uring_wait, .reap = uring_reap,                            \
        .buffer_return = uring_buffer_return, .now = uring_now,                                  \
    }

const source_verbs source_uring_full_verbs = URING_VERBS("uring-full");
const source_verbs source_uring_basic_verbs = URING_VERBS("uring-basic");

source *source_uring_new(const source_config *config) {
    uring *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return NULL;
    }
    self->base.config = *config;
    self->is_full = !config->force_basic;
    self->base.verbs = self->is_full ? &source_uring_full_verbs : &source_uring_basic_verbs;
    self->spare = -1;
    return &self->base;
}

#else

source *source_uring_new(const source_config *config) {
    (void)config;
    return NULL;
}

#endif

/* The seam: what the loop asks of the outside world, and how the answers come back.
 *
 * Theory. Everything outside is an operation that is handed over now and a completion that comes
 * back later. Three sources implement the same verbs in the same order: `uring` (io_uring), `epoll`
 * (readiness turned into completions) and `sim` (a seeded network and clock, no kernel at all).
 * Nothing above this line asks which one is below.
 *
 * Contract
 *  (S1) accept, connect, recv, send, poll and write each start one operation, which ends with
 *       exactly one completion without COMPLETION_MORE; completions with it may come before.
 *  (S2) The caller counts operations in flight and frees what they name only at zero.
 *  (S3) cancel has no completion of its own. It hastens the final completion of its target,
 *       whose result may be anything, data included (the cancel can lose the race).
 *  (S4) The memory given to send belongs to the source until the final completion, unless send
 *       returned a positive number: then all of it is gone already and no completion follows.
 *  (S5) A recv completion with COMPLETION_BUFFER lends `data`; buffer_return ends the loan. Within
 *       one connection completions come in the order of the bytes.
 *  (S6) Completions are made visible by wait and taken by reap; no verb calls back.
 *  (S7) enable, and every verb after it, runs on one thread. open may run on another.
 *  (S8) An operation handed over is started no later than the next wait.
 *  (S9) recv with -ENOBUFS as its final result lost no byte: arm again after buffer_return.
 *  (S10) write ends with the number of bytes that are durable, or an error; writes of one loop may
 *       end in any order. Its memory belongs to the source until then. It cannot be cancelled. If
 *       it returns something else than 0, that was its end already, and no completion follows.
 *
 * Errors are negative errno values. Time is monotonic nanoseconds.
 */
#ifndef PYBEHAVE_SOURCE_H
#define PYBEHAVE_SOURCE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

/* A token names an operation: kind (8 bits), generation (24), slot (32). A generation makes the
 * completion of a closed connection harmless to its successor in the same slot. */
enum source_op {
    OP_NONE = 0,
    OP_ACCEPT,
    OP_CONNECT,
    OP_RECV,
    OP_SEND,
    OP_POLL,
    OP_WRITE,
};

#define TOKEN_GENERATION_MASK 0xffffffu

static inline uint64_t token_make(unsigned op, uint32_t generation, uint32_t slot) {
    return ((uint64_t)op << 56) | ((uint64_t)(generation & TOKEN_GENERATION_MASK) << 32) | slot;
}
static inline unsigned token_op(uint64_t token) { return (unsigned)(token >> 56); }
static inline uint32_t token_generation(uint64_t token) {
    return (uint32_t)(token >> 32) & TOKEN_GENERATION_MASK;
}
static inline uint32_t token_slot(uint64_t token) { return (uint32_t)token; }

enum completion_flags {
    COMPLETION_MORE = 1,   /* the operation is still armed */
    COMPLETION_BUFFER = 2, /* data and buffer are set */
};

typedef struct completion {
    uint64_t token;
    const uint8_t *data;
    int32_t result; /* bytes, a descriptor, or -errno */
    uint16_t flags;
    uint16_t buffer;
} completion;

#define WAIT_FOREVER UINT64_MAX

typedef struct wait_request {
    uint64_t deadline_ns; /* absolute; 0 = do not block; WAIT_FOREVER */
    uint32_t events_min;  /* return once so many completions are there ... */
    uint32_t wait_us_min; /* ... or this much time has passed and there is at least one; 0 = no */
} wait_request;

/* How a write becomes durable. */
enum write_how {
    WRITE_DSYNC,     /* RWF_DSYNC with the write: O_DIRECT over written blocks */
    WRITE_FDATASYNC, /* the write, then fdatasync: for file systems that want it said */
    WRITE_PLAIN,     /* not at all: it is with the operating system */
};

typedef struct listen_options {
    int backlog;
    int nodelay;
    int reuse_port;
    int keepalive_s; /* 0 = off; else idle seconds before the first probe */
    int v6_only;
} listen_options;

typedef struct write_request {
    const uint8_t *data;
    uint64_t offset;
    uint32_t bytes;
    int fd;
    int how;     /* enum write_how */
    int is_quiet; /* the loop has nothing else to do: a source may wait for the disk itself */
    int is_busy;  /* the processors are: a source may choose another way to the disk */
} write_request;

typedef struct source_config {
    uint32_t submissions;  /* ring entries wanted; may be reduced */
    uint32_t completions;  /* completion entries wanted; may be reduced */
    uint32_t buffers;      /* receive buffers, a power of two */
    uint32_t buffer_bytes; /* size of each */
    uint64_t seed;         /* sim only */
    int force_basic;       /* uring only: single-shot tier whatever the kernel offers */
} source_config;

typedef struct source_stats {
    uint64_t enters;       /* system calls that submitted or waited */
    uint64_t submissions;  /* operations handed over */
    uint64_t completions;  /* completions delivered */
    uint64_t starved;      /* receives that ended for want of a buffer */
    uint64_t overflows;    /* completion queue overflows seen */
    uint64_t sends_direct; /* sends that ended at once (S4) */
    uint64_t ends_lost;    /* ends that the kernel forgot to tell, found by looking */
    uint64_t writes_by_thread; /* writes of files that a thread slept for */
    uint64_t writes_in_place;  /* writes of files that the loop slept for */
} source_stats;

typedef struct source source;

typedef struct source_verbs {
    const char *name; /* "uring-full", "uring-basic", "epoll", "sim" */
    int (*open)(source *);
    int (*enable)(source *);
    void (*close)(source *);   /* also with operations in flight; forgets them */
    void (*abandon)(source *); /* in a fork's child: give up descriptors, touch no shared memory */
    int (*listen)(source *, const struct sockaddr *, socklen_t, const listen_options *);
    int (*adopt)(source *, int fd); /* take over a listening socket made elsewhere */
    int (*accept)(source *, int fd, uint64_t token);
    void (*refuse)(source *, int fd); /* out of descriptors: reset one waiting connection */
    int (*connect)(source *, const struct sockaddr *, socklen_t, uint64_t token); /* -> fd */
    int (*recv)(source *, int fd, uint64_t token);
    ssize_t (*send)(source *, int fd, const void *, size_t, uint64_t token);
    int (*poll)(source *, int fd, uint64_t token); /* one completion when fd is readable */
    int (*write)(source *, const write_request *, uint64_t token);
    int (*cancel)(source *, int fd, uint64_t token);
    int (*shutdown)(source *, int fd, int how); /* SHUT_RD, SHUT_WR, SHUT_RDWR */
    int (*unacknowledged)(source *, int fd); /* bytes or a FIN are still on their way to the peer */
    void (*close_fd)(source *, int fd, int reset); /* reset: the peer sees RST, not FIN */
    int (*ready)(source *); /* so many completions, or more, are there without blocking */
    int (*wait)(source *, const wait_request *);
    unsigned (*reap)(source *, completion *, unsigned count_max);
    void (*buffer_return)(source *, uint16_t buffer);
    uint64_t (*now)(source *);
} source_verbs;

/* Every implementation's struct begins with this. */
struct source {
    const source_verbs *verbs;
    source_config config;
    source_stats stats;
};

extern const source_verbs source_uring_full_verbs, source_uring_basic_verbs, source_epoll_verbs,
    source_sim_verbs;

/* Send returns: positive, all of it gone at once (S4); 0, pending; negative, failed, and no
 * completion follows. */

/* Allocators: a zeroed source of that kind with its config, not yet open; NULL = no memory. */
source *source_uring_new(const source_config *);
source *source_epoll_new(const source_config *);
source *source_sim_new(const source_config *);
void source_free(source *); /* closes first if open */

/* source_select.c: choose by probe. `wanted` is auto, uring, full, basic, epoll or sim. On success
 * *out is open and reason says in one sentence why this one; otherwise -errno and why not. */
int source_select(const char *wanted, const source_config *, source **out, char *reason,
                  size_t reason_bytes);

#endif

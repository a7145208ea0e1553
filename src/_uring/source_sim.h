/* The other end of the simulated network: peers, faults, virtual time.
 *
 * A program under test holds the `sim` source and calls its verbs (source.h). A test holds the same
 * source and plays everybody else through these functions: clients that connect, servers that are
 * connected to, and the weather between them. Everything follows from the seed and from the calls
 * made here; the same calls give the same run, byte for byte (sim_trace_hash).
 *
 * When a test gets its turn. Time passes only inside wait. When something happens to a peer there,
 * it stands in the list of events and the hook is called, inside wait, at that virtual moment, once
 * for what is new. The hook may use every function of this file. A hook that returns 1 makes wait
 * return at once, with whatever completions there are, maybe none; 0 lets it go on.
 *
 * Only a source whose verbs are named "sim" may be passed here.
 */
#ifndef PYBEHAVE_SOURCE_SIM_H
#define PYBEHAVE_SOURCE_SIM_H

#include "source.h"

#define SIM_FD_BASE (1 << 20) /* above every real descriptor: a real call on one fails with EBADF */
#define SIM_PER_MILLE 1000

/* Zero means never for every fault. A fault is drawn each time it could happen. */
typedef struct sim_knobs {
    uint64_t latency_ns_min; /* one way, for everything that travels */
    uint64_t latency_ns_max;
    uint64_t jitter_ns_max;  /* between the end of an operation and its completion */
    uint64_t late_ns_max;    /* the same when `late` strikes */
    uint64_t tick_ns;        /* every wait takes at least so long: a busy loop ages too */
    uint64_t disk_ns_min;    /* how long a write takes */
    uint64_t disk_ns_max;
    uint32_t window_bytes;   /* what one direction of a connection holds unread */
    uint32_t descriptors_max;
    /* Faults, per mille */
    uint16_t fragment;         /* bytes arrive in pieces */
    uint16_t direct_send;      /* a send that fits ends at once (S4) */
    uint16_t short_send;       /* a send ends with less than it was given */
    uint16_t interrupted;      /* an operation ends with -EINTR */
    uint16_t wait_interrupted; /* wait returns -EINTR */
    uint16_t reset;            /* the network resets a connection under way */
    uint16_t starve;           /* recv ends with -ENOBUFS, buffers or not (S9) */
    uint16_t accept_failure;   /* accept ends with -EMFILE or -ECONNABORTED */
    uint16_t rearm;            /* accept or recv ends without COMPLETION_MORE; 1000 = single-shot */
    uint16_t late;             /* a completion takes up to late_ns_max */
    uint16_t cancel_lost;      /* a cancel finds its target about to end with a result */
    uint16_t direct_write;     /* a write of a quiet loop ends at once (S10) */
} sim_knobs;

sim_knobs *sim_knobs_of(source *); /* calm at first; change them at any time */
void sim_knobs_shake(source *);    /* draw all of them from the seed: some faults off, some on */

/* Peers. A peer is one end of one connection; its name is a number > 0. Negative = -errno. */
typedef int64_t sim_peer;

enum sim_peer_state {
    SIM_PEER_CONNECTING,
    SIM_PEER_OPEN,
    SIM_PEER_REFUSED, /* nobody listened */
    SIM_PEER_ENDED,   /* the program sent all it had and ended the stream */
    SIM_PEER_RESET,   /* the program or the network reset it */
};

sim_peer sim_peer_connect(source *, const struct sockaddr *, socklen_t);
ssize_t sim_peer_send(source *, sim_peer, const void *, size_t); /* what fits; 0 = window full */
size_t sim_peer_recv(source *, sim_peer, void *, size_t);        /* 0 = nothing there yet */
size_t sim_peer_readable(source *, sim_peer);
int sim_peer_state(source *, sim_peer);
int sim_peer_shutdown(source *, sim_peer); /* ends its stream, still receives */
int sim_peer_pause(source *, sim_peer);    /* reads no more: the window fills */
int sim_peer_resume(source *, sim_peer);
int sim_peer_close(source *, sim_peer); /* as close(2): unread bytes make it a reset */
int sim_peer_reset(source *, sim_peer);
void sim_peer_release(source *, sim_peer); /* closes if open; the name is void */

/* Servers that the program connects to. */
enum sim_answer { SIM_ANSWER_ACCEPT, SIM_ANSWER_REFUSE, SIM_ANSWER_SILENCE };
int sim_listen(source *, const struct sockaddr *, socklen_t, enum sim_answer);
int sim_unlisten(source *, const struct sockaddr *, socklen_t);

/* A listening descriptor as if inherited from systemd, to be given to adopt. */
int sim_inherit(source *, const struct sockaddr *, socklen_t, int backlog);
/* What getsockname(2) would say of a listener of the program; the length, or -errno. */
int sim_address_of(source *, int fd, struct sockaddr *, socklen_t);

enum sim_event_kind {
    SIM_CONNECTED = 1, /* peer: the connection stands */
    SIM_REFUSED,
    SIM_ACCEPTED, /* peer: a new one, the program connected to a sim_listen address */
    SIM_DATA,     /* value: bytes that have become readable */
    SIM_ROOM,     /* after a short sim_peer_send: there is room again */
    SIM_ENDED,
    SIM_RESET,
    SIM_ALARM, /* value: what sim_alarm was given */
    SIM_QUIET, /* nothing will ever happen unless you act now */
};

typedef struct sim_event {
    int kind;
    sim_peer peer; /* 0 for alarm and quiet */
    int64_t value;
} sim_event;

int sim_next_event(source *, sim_event *); /* 1 = there was one */
void sim_alarm(source *, uint64_t at_ns, int64_t value);
typedef int (*sim_hook)(void *context);
void sim_set_hook(source *, sim_hook, void *context);
/* Called when the source closes: from then on the source must not be touched. One at a time:
 * -EBUSY when another is set; NULL unsets. */
typedef void (*sim_closed_hook)(void *context);
int sim_set_closed_hook(source *, sim_closed_hook, void *context);

/* The simulated disk. It lives with the test: the source says when a write begins and asks what
 * has become of it when its time is over. Without a disk a write is a breach of the contract. */
typedef struct sim_disk {
    /* A name for the write, > 0; the bytes are to be copied. */
    uint64_t (*begin)(void *context, const write_request *);
    int32_t (*end)(void *context, uint64_t name); /* bytes durable, or -errno */
    void *context;
} sim_disk;

void sim_set_disk(source *, const sim_disk *); /* NULL unsets */

/* Evidence */
typedef struct sim_record {
    uint64_t at_ns;
    uint64_t token; /* or the descriptor, where there is no token */
    int64_t result;
    uint32_t what; /* enum sim_what */
    uint32_t flags;
    uint64_t content; /* hash of the bytes, 0 = none */
} sim_record;

enum sim_what {
    SIM_DID_COMPLETION = 1,
    SIM_DID_LISTEN,
    SIM_DID_ACCEPT,
    SIM_DID_CONNECT,
    SIM_DID_RECV,
    SIM_DID_SEND,
    SIM_DID_POLL,
    SIM_DID_CANCEL,
    SIM_DID_SHUTDOWN,
    SIM_DID_CLOSE,
    SIM_DID_WRITE,
};

uint64_t sim_trace_hash(const source *);
void sim_trace_keep(source *, int is_kept); /* keep the records too, not only their hash */
const sim_record *sim_trace(const source *, size_t *count);

/* What the program still holds; all zero after an orderly end (but the buffers of completions not
 * reaped). `links` counts connections that either side still names. */
typedef struct sim_census {
    uint32_t descriptors, listeners, operations, links, buffers_lent, writes;
} sim_census;

void sim_census_take(const source *, sim_census *);

/* A breach of the contract is reported here and then the process aborts. NULL = standard error. */
typedef void (*sim_broken_hook)(void *context, const char *sentence);
void sim_set_broken_hook(source *, sim_broken_hook, void *context);

#endif

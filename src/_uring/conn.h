/* Connection slots: who owns a descriptor, which operations name it, when it may go.
 *
 * Theory. A connection is a slot in a slab that never moves. Operations name it by token, which is
 * slot and generation. Three things may hold a slot after the peer has gone: operations in flight,
 * output not yet sent, replies not yet made. Closing is therefore a walk, never an act:
 *
 *   state       event            next        effect
 *   CONNECTING  connected        OPEN        receive armed
 *   CONNECTING  failed           CLOSING
 *   OPEN        finish           DRAINING    no more input is taken; linger timer
 *   OPEN        peer ended       DRAINING    (half-close: what was asked is still answered)
 *   OPEN        peer ended, or   FINISHING   with input in carry: whole requests may wait there,
 *               finish_received              behind a pause, and are answered; nothing more is read
 *   FINISHING   carry taken      DRAINING
 *   FINISHING   finish           DRAINING    what is left in carry is dropped
 *   DRAINING    output gone      LINGERING   FIN; input is read and dropped, so that no RST
 *                                            overtakes the last reply
 *   DRAINING    output gone      CLOSING     when the peer had ended already, or is quiet
 *   LINGERING   peer ended       CLOSING     also when it is quiet
 *   any         abort, error     CLOSING     shutdown; the last completions come home
 *   CLOSING     in_flight == 0   ENDED       descriptor closed, slot on the `ended` list
 *   ENDED       release          FREE        generation + 1; only here is a slot freed
 *
 * Invariants
 *  (C1) in_flight counts the operations that can still produce a completion; a slot is freed only
 *       at zero, and the descriptor is closed only at zero.
 *  (C2) At most one recv and one send are in flight.
 *  (C3) A token whose generation differs finds nothing (conns_find returns NULL).
 *  (C4) Output leaves in the order it was appended; one send carries all a tick produced.
 *  (C6) Output computed from a batch of the journal leaves when that batch is durable: bytes of
 *       `out` up to held_mark wait for held_before, those behind it for held. Older holds merge
 *       into the newer one, so output may wait longer than it must, never less.
 *  (C5) Nothing here calls back. What the loop must act upon stands in a list.
 *  (C7) A peer is quiet when all that it was sent is with it, and for QUIET_MS nothing has gone
 *       either way. Its close is not waited for: an idle client closes when it looks at its socket
 *       next, which may be never, and has no reply left to lose to an RST.
 *  (C8) A connection hands on `active_left` messages, then it is passive until it is asked for
 *       more: what has come waits in carry, and in the kernel. Nothing is dropped, also behind its
 *       end, before we end it: then nobody will ask, and it is not waited for.
 *
 * Does not know: Python, protocols, servers. `port` and `hold` belong to the loop.
 */
#ifndef PYBEHAVE_CONN_H
#define PYBEHAVE_CONN_H

#include "frame.h"
#include "outq.h"
#include "source.h"
#include "wheel.h"

enum conn_state {
    CONN_FREE,
    CONN_CONNECTING,
    CONN_OPEN,
    CONN_FINISHING,
    CONN_DRAINING,
    CONN_LINGERING,
    CONN_CLOSING,
    CONN_ENDED,
};

enum conn_reason { /* why it ended: the first reason stands */
    END_NONE,
    END_PEER,          /* the peer closed */
    END_RESET,         /* the peer reset, or the network failed */
    END_ASKED,         /* Close action, QUIT */
    END_PROTOCOL,      /* undecodable input */
    END_IDLE,          /* idle_timeout */
    END_FRAME_TIMEOUT, /* a message took longer than frame_timeout to arrive */
    END_SLOW_CONSUMER, /* output_bytes_max */
    END_LINGER,        /* output could not be delivered within linger */
    END_SHUTDOWN,      /* the loop stops */
    END_CONNECT,       /* an outbound connect failed */
    END_MEMORY,
    END_LIMIT, /* connections_max */
    END_DISK,  /* its replies never became durable */
    END_REASONS,
};

enum conn_pause {
    PAUSE_OUTPUT = 1,  /* it does not read what it is sent */
    PAUSE_SERVER = 2,  /* the disk is behind */
    PAUSE_REPLIES = 4, /* too many replies wait for one that was put off */
    PAUSE_SUSPENDED = 8, /* its server is suspended */
    PAUSE_MOVING = 16,   /* another process is about to take it over */
    PAUSE_PASSIVE = 32,  /* its server has not asked for more (C8) */
};

enum conn_flag {
    CONN_DIRTY = 1,      /* on the dirty list */
    CONN_STARVED = 2,    /* on the starved list */
    CONN_PEER_ENDED = 4, /* end of stream was read */
    CONN_RECV = 8,       /* a recv is armed */
    CONN_CANCELLING = 16,
    CONN_SEND = 32,      /* a send is in flight */
    CONN_HOLD = 64,      /* replies are still to come (deferred): DRAINING waits for them */
    CONN_EVENTS = 128,   /* the loop's: its server was told that it came, and will be of its end */
};

#define ACTIVE_ALWAYS UINT32_MAX

typedef struct conn_limits {
    uint64_t frame_timeout_ms; /* 0 = none */
    uint64_t idle_timeout_ms;  /* 0 = none */
    uint64_t linger_ms;
    uint64_t half_closed_ms; /* how long a peer that has ended is owed replies; 0 = for ever */
    size_t high_water_bytes, low_water_bytes, output_bytes_max;
    uint32_t active; /* messages that a new one hands on; ACTIVE_ALWAYS = all (C8) */
} conn_limits;

typedef struct conn {
    const conn_limits *limits;
    int32_t fd;
    uint32_t slot;
    uint32_t generation;
    uint32_t protocol; /* the codec's flags for this connection */
    uint32_t active_left; /* messages that it still hands on, or ACTIVE_ALWAYS (C8) */
    uint16_t in_flight;
    uint8_t state, flags, paused, reason;
    int16_t error; /* errno behind the reason, or 0 */
    frame_resume resume;
    outq out;
    uint8_t *carry; /* the beginning of a message that lies across buffers */
    size_t carry_bytes, carry_capacity;
    void *port; /* the loop's: listener or connector it belongs to */
    void *hold; /* the loop's: Python side, made when first needed */
    uint64_t held, held_before; /* batches of the journal that output waits for (C6) */
    size_t held_mark;
    uint64_t timer, timer_ms;
    uint64_t active_ms, frame_since_ms, linger_until_ms;
    uint64_t spoke_ms; /* when bytes went either way last; 0 = never (C7) */
    uint64_t commands;
    uint64_t id, opened_ms; /* the how-manieth connection of this loop, from 1; since when */
    uint32_t spoken; /* the loop's: which version of its listener's messages it speaks */
} conn;

typedef struct slot_list {
    uint32_t *slots;
    uint32_t count, capacity;
} slot_list;

/* More than the journal can have in flight and gathering: no two live batches share a list. */
enum { HELD_BATCHES = 16 };

typedef struct conns_stats {
    uint64_t opened, closed, recv_bytes, sent_bytes, sends, short_sends, pauses;
    uint64_t ended[END_REASONS];
} conns_stats;

typedef struct conns {
    source *source;
    outq_pool *pool;
    wheel *wheel;
    conn **chunks;
    uint32_t chunk_count;
    uint32_t open_count; /* slots that are not FREE */
    uint32_t free_head;
    uint64_t now_ms; /* of this tick; set by the loop */
    uint32_t sends_new; /* handed over since the loop last waited; it sets this to 0 */
    slot_list dirty, starved, ended;
    slot_list held[HELD_BATCHES]; /* connections with output for a batch, by batch number */
    uint64_t durable_batch;
    slot_list woken; /* output pause is over and input waits in carry: parse it */
    conns_stats stats;
} conns;

/* What a receive completion means to the loop. */
enum conn_input { INPUT_NONE, INPUT_DATA };

int conns_open(conns *, source *, outq_pool *, wheel *);
void conns_close(conns *); /* frees everything, in flight or not: the source is closed already */
conn *conns_add(conns *, int fd, int state, const conn_limits *, void *port); /* NULL: no memory */
uint32_t conns_slots(const conns *);                      /* slots there are, in use or not */
conn *conns_at(const conns *, uint32_t slot);             /* NULL when there is no such slot */
conn *conns_find(const conns *, uint64_t token);          /* (C3) */
void conns_release(conns *, conn *);                      /* ENDED -> FREE */

void conn_arm(conns *, conn *);
void conn_enter(conn *);          /* the caller works on its bytes: they stay until conn_leave */
void conn_leave(conns *, conn *);
void conn_pause(conns *, conn *, int why);
void conn_resume(conns *, conn *, int why);
void conn_activate(conns *, conn *, uint32_t messages); /* hand on so many from now on (C8) */
/* What it handed on has not come to a server that could ask for more: one more is due. */
void conn_give_back(conns *, conn *);
/* Read no more, so that another process can: what the kernel has stays there. */
void conn_still(conns *, conn *);
/* Nothing of it is under way here: what there is to take over is its descriptor and its carry. */
int conn_is_still(const conns *, const conn *);
/* -> enum conn_input; with INPUT_DATA the caller takes the bytes, returns the buffer and arms. */
int conn_recv_completed(conns *, conn *, const completion *);
void conn_send_completed(conns *, conn *, int result);
void conn_connect_completed(conns *, conn *, int result);
void conn_output(conns *, conn *);                         /* something was appended to out */
/* What is appended to out from now on waits until this batch is durable (C6). */
void conn_hold(conns *, conn *, uint64_t batch);
void conns_released(conns *, uint64_t durable_batch);      /* batches up to this are durable */
void conns_held_lost(conns *);                             /* they never will be: reset */
void conn_finish(conns *, conn *, int reason);             /* flush, then close */
void conn_finish_received(conns *, conn *, int reason);    /* the same, after what has come */
void conn_abort(conns *, conn *, int reason, int error);   /* close now, drop output */
void conn_released_hold(conns *, conn *);                  /* CONN_HOLD is over */
int conn_timer_fired(conns *, conn *);                     /* 1 = it ended the connection */
int conn_carry(conns *, conn *, const uint8_t *, size_t length, size_t need); /* -ENOMEM */
void conn_carry_consumed(conns *, conn *, size_t used);
void conns_flush(conns *);       /* one send for every dirty connection */
void conns_feed_starved(conns *); /* arm again those that found no buffer */

static inline uint64_t conn_token(const conn *c, unsigned op) {
    return token_make(op, c->generation, c->slot);
}
static inline int conn_takes_input(const conn *c) {
    return c->state == CONN_OPEN || c->state == CONN_FINISHING;
}
/* Its peer's end was read, and nobody may ever ask for what came before it (C8). */
static inline int conn_is_unasked(const conn *c) {
    return c->state == CONN_FINISHING && (c->paused & PAUSE_PASSIVE);
}
static inline int conn_takes_output(const conn *c) {
    return conn_takes_input(c) || c->state == CONN_DRAINING;
}

#endif

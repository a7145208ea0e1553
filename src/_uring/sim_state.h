/* What source_sim.c (the program's side) and sim_peers.c (everybody else's) share.
 *
 * Theory. A link is one connection: two streams of bytes and what each end knows. A stream is one
 * queue of bytes in the order they were sent, cut into three parts:
 *
 *      oldest                                           newest
 *      [ inbox: read by the peer | arrived: unread | in flight ]
 *
 * Bytes never move; the cuts do. Whatever has to happen later is a step in a heap ordered by
 * virtual time and then by age. A step names its link or operation with a generation or serial, so
 * a step that outlives its target does nothing.
 *
 * Invariants
 *  (N1) Within one stream steps are in the order of the bytes: no arrival is earlier than the one
 *       before it, and the end of the stream comes last. Only a reset may overtake.
 *  (N2) arrived + in flight <= window_bytes.
 *  (N3) An operation is IDLE, then HANDED_OVER, then ARMED, then ENDED, then IDLE when its final
 *       completion is reaped. Exactly one completion without COMPLETION_MORE is pushed, at ENDED.
 *  (N4) Completions of one operation become visible in the order they were pushed.
 */
#ifndef PYBEHAVE_SIM_STATE_H
#define PYBEHAVE_SIM_STATE_H

#include "bufring.h"
#include "source_sim.h"

#define SIM_NONE UINT32_MAX

enum { SIM_REALS_MAX = 8, SIM_OPS = OP_POLL + 1 }; /* a write has no descriptor here */

enum sim_loan { SIM_LOAN_NONE, SIM_LOAN_TAKEN, SIM_LOAN_LENT };

enum sim_op_state { SIM_OP_IDLE, SIM_OP_HANDED_OVER, SIM_OP_ARMED, SIM_OP_ENDED };

typedef struct sim_operation {
    uint64_t token;
    uint64_t visible_ns; /* of its last completion (N4) */
    uint32_t serial;
    uint32_t state;
    const uint8_t *data; /* send */
    size_t bytes, sent;
    uint64_t checksum;
} sim_operation;

enum sim_descriptor_kind { SIM_FREE, SIM_LISTENER, SIM_INHERITED, SIM_SOCKET, SIM_REAL };

typedef struct sim_descriptor {
    uint32_t kind;
    uint32_t target; /* listener or link; next free descriptor; the real descriptor */
    sim_operation ops[SIM_OPS];
} sim_descriptor;

typedef struct sim_address {
    struct sockaddr_storage storage;
    socklen_t length;
} sim_address;

typedef struct sim_listener {
    sim_address address;
    uint32_t descriptor; /* SIM_NONE = a peer's, see answer */
    uint32_t answer;
    uint32_t is_open;
    uint32_t reuse_port;
    uint32_t v6_only;
    uint32_t backlog, waiting_count;
    uint32_t waiting_first, waiting_last; /* links, by `next` */
} sim_listener;

enum sim_direction { SIM_IN, SIM_OUT }; /* seen from the program */

typedef struct sim_stream {
    uint8_t *bytes;
    size_t head, size; /* first byte in use; allocated */
    size_t inbox, arrived, in_flight;
    uint64_t last_ns;    /* (N1) */
    uint32_t is_ending;  /* its sender ended it */
    uint32_t has_ended;  /* and the receiver knows */
} sim_stream;

typedef struct sim_link {
    uint32_t generation; /* 0 = free */
    uint32_t next;       /* in a listener's queue, or free */
    uint32_t listener;   /* waiting there; SIM_NONE */
    uint32_t descriptor; /* the program's; SIM_NONE = none yet or closed */
    uint8_t is_outbound; /* the program connected */
    uint8_t is_program_gone, is_peer_gone, is_peer_released;
    uint8_t peer_state;
    uint8_t is_paused, wants_room;
    uint8_t is_reset;      /* the program's end: a reset has arrived */
    uint8_t reset_told;    /* and one operation has said so */
    uint8_t is_read_shut;  /* the program called shutdown(SHUT_RD) */
    uint8_t is_connecting; /* outbound, not answered yet */
    uint8_t syn_tries;
    sim_address address; /* where it connects to */
    sim_stream streams[2];
} sim_link;

enum sim_step_kind {
    SIM_STEP_START,
    SIM_STEP_CANCEL,
    SIM_STEP_DONE,
    SIM_STEP_SYN,
    SIM_STEP_ANSWER,
    SIM_STEP_DATA,
    SIM_STEP_END,
    SIM_STEP_RESET,
    SIM_STEP_ROOM,
    SIM_STEP_ALARM,
    SIM_STEP_WRITTEN,
};

typedef struct sim_step {
    uint64_t at_ns;
    uint64_t order;
    uint32_t kind;
    uint32_t target; /* link or descriptor */
    uint32_t serial; /* generation of the link, serial of the operation */
    uint32_t which;  /* direction or operation */
    int64_t amount;
    completion done;
} sim_step;

typedef struct sim_done {
    completion done;
    uint32_t descriptor, which, serial;
} sim_done;

typedef struct sim {
    source base;
    sim_knobs knobs;
    uint64_t random;
    uint64_t now_ns;
    uint64_t steps_made; /* the age of steps */
    int is_open, is_enabled;
    uint32_t serial_last;
    uint32_t generation_last;
    uint16_t port_last;

    sim_step *steps; /* binary heap */
    size_t steps_count, steps_size;
    sim_done *done; /* ring of visible completions */
    size_t done_head, done_count, done_size;
    sim_event *events; /* ring */
    size_t events_head, events_count, events_size;
    uint64_t events_made, events_told; /* the hook is called once for what is new */

    sim_descriptor *descriptors;
    uint32_t descriptors_count, descriptors_free, descriptors_open;
    sim_link *links;
    uint32_t links_count, links_free, links_open;
    sim_listener *listeners;
    uint32_t listeners_count;
    uint32_t reals[SIM_REALS_MAX]; /* descriptors that stand for real ones */
    uint32_t reals_count;

    bufring buffers;
    uint8_t *loans;         /* enum sim_loan, per buffer */
    uint32_t *loan_lengths; /* poisoned on return */

    sim_hook hook;
    void *hook_context;
    sim_disk disk;
    uint32_t writes; /* in flight */
    sim_closed_hook closed_hook;
    void *closed_context;
    sim_broken_hook broken_hook;
    void *broken_context;
    uint64_t trace_hash;
    sim_record *trace;
    size_t trace_count, trace_size;
    int is_trace_kept;
} sim;

static inline sim *sim_of(source *base) { return (sim *)base; }

/* Grow an array so that `count` fits; aborts without memory: a test has no better answer. */
void *sim_grow(void *array, size_t *size, size_t count, size_t item_bytes);
_Noreturn void sim_broken(sim *, const char *format, ...) __attribute__((format(printf, 2, 3)));

uint64_t sim_random(sim *);
uint64_t sim_below(sim *, uint64_t bound);
int sim_chance(sim *, unsigned per_mille);
uint64_t sim_latency_ns(sim *);

/* sim_steps.c */
void sim_push_step(sim *, const sim_step *);
sim_step sim_pop_step(sim *);
uint64_t sim_content(const void *, size_t bytes); /* a hash */
void sim_note(sim *, unsigned what, uint64_t token, int64_t result, unsigned flags,
              uint64_t content);
void sim_push_link_step(sim *, uint32_t link, unsigned kind, unsigned which, int64_t amount,
                        uint64_t at_ns);
void sim_push_event(sim *, int kind, uint32_t link, int64_t value);

/* sim_network.c */
uint32_t sim_link_new(sim *, const sim_address *, int is_outbound);
void sim_link_settle(sim *, uint32_t link); /* frees it when both ends are gone */
sim_peer sim_peer_name(const sim *, uint32_t link);
void sim_travel(sim *, uint32_t link, unsigned direction, const uint8_t *, size_t);
void sim_travel_end(sim *, uint32_t link, unsigned direction);
void sim_travel_reset(sim *, uint32_t link, unsigned direction);
size_t sim_room(const sim *, uint32_t link, unsigned direction);
void sim_tell_end(sim *, uint32_t link);
void sim_run_link_step(sim *, const sim_step *);
uint32_t sim_listener_find(const sim *, const sim_address *, int is_peers);
uint32_t sim_listener_add(sim *, const sim_address *);
void sim_stream_take(sim_stream *, void *out, size_t count);

/* sim_operations.c */
void sim_make_visible(sim *, const sim_step *);
uint32_t sim_descriptor_new(sim *, unsigned kind, uint32_t target);
void sim_descriptor_free(sim *, uint32_t descriptor);
/* The descriptor behind a number. It must be open: the verb is named in the sentence. */
uint32_t sim_descriptor_of(sim *, int fd, const char *verb);
const char *sim_op_name(unsigned which);
sim_operation *sim_hand_over(sim *, uint32_t descriptor, unsigned which, uint64_t token);
int sim_is_armed(const sim *, uint32_t descriptor, unsigned which);
void sim_finish(sim *, uint32_t descriptor, unsigned which, int result);
void sim_progress(sim *, uint32_t link);
void sim_accept_progress(sim *, uint32_t listener);
void sim_connect_answered(sim *, uint32_t link, int result);
void sim_turn_away(sim *, sim_listener *); /* reset the connection that waits longest */
void sim_run_step(sim *, const sim_step *);

/* sim_disk.c */
int sim_write(source *, const write_request *, uint64_t token);
void sim_written(sim *, const sim_step *);

/* source_sim.c */
sim_address sim_address_make(sim *, const struct sockaddr *, socklen_t);
int sim_listen_new(sim *, const struct sockaddr *, socklen_t, const listen_options *, int kind);

#endif

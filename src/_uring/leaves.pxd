"""The C leaves as Cython sees them: source.h, conn.h, wheel.h, wake.h, stats.h."""

from libc.stddef cimport size_t
from libc.stdint cimport int16_t, int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from .codec cimport frame_resume, outq, outq_pool


cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t
    struct sockaddr:
        pass


cdef extern from "source.h" nogil:
    enum:
        OP_NONE, OP_ACCEPT, OP_CONNECT, OP_RECV, OP_SEND, OP_POLL, OP_WRITE
        WRITE_DSYNC, WRITE_FDATASYNC, WRITE_PLAIN
        COMPLETION_MORE, COMPLETION_BUFFER

    const uint64_t WAIT_FOREVER

    uint64_t token_make(unsigned op, uint32_t generation, uint32_t slot)
    unsigned token_op(uint64_t token)
    uint32_t token_generation(uint64_t token)
    uint32_t token_slot(uint64_t token)

    ctypedef struct completion:
        uint64_t token
        const uint8_t *data
        int32_t result
        uint16_t flags
        uint16_t buffer

    ctypedef struct wait_request:
        uint64_t deadline_ns
        uint32_t events_min
        uint32_t wait_us_min

    ctypedef struct listen_options:
        int backlog
        int nodelay
        int reuse_port
        int keepalive_s
        int v6_only

    ctypedef struct write_request:
        const uint8_t *data
        uint64_t offset
        uint32_t bytes
        int fd
        int how
        int is_quiet
        int is_busy

    ctypedef struct source_config:
        uint32_t submissions
        uint32_t completions
        uint32_t buffers
        uint32_t buffer_bytes
        uint64_t seed
        int force_basic

    ctypedef struct source_stats:
        uint64_t enters
        uint64_t submissions
        uint64_t completions
        uint64_t starved
        uint64_t overflows
        uint64_t sends_direct
        uint64_t ends_lost
        uint64_t writes_by_thread
        uint64_t writes_in_place

    ctypedef struct source_verbs:
        const char *name
        int (*enable)(source *) noexcept nogil
        void (*abandon)(source *) noexcept nogil
        int (*listen)(source *, const sockaddr *, socklen_t, const listen_options *) noexcept nogil
        int (*adopt)(source *, int) noexcept nogil
        int (*accept)(source *, int, uint64_t) noexcept nogil
        void (*refuse)(source *, int) noexcept nogil
        int (*connect)(source *, const sockaddr *, socklen_t, uint64_t) noexcept nogil
        int (*poll)(source *, int, uint64_t) noexcept nogil
        int (*write)(source *, const write_request *, uint64_t) noexcept nogil
        int (*cancel)(source *, int, uint64_t) noexcept nogil
        void (*close_fd)(source *, int, int) noexcept nogil
        int (*ready)(source *) noexcept nogil
        int (*wait)(source *, const wait_request *) noexcept nogil
        unsigned (*reap)(source *, completion *, unsigned) noexcept nogil
        void (*buffer_return)(source *, uint16_t) noexcept nogil
        uint64_t (*now)(source *) noexcept nogil

    ctypedef struct source:
        const source_verbs *verbs
        source_config config
        source_stats stats

    int source_select(const char *, const source_config *, source **, char *, size_t)
    void source_free(source *)


cdef extern from "wheel.h" nogil:
    ctypedef struct wheel:
        pass

    ctypedef struct wheel_fired:
        uint64_t id
        uint64_t data
        uint64_t deadline_ms

    const uint64_t WHEEL_NONE
    wheel *wheel_new(uint64_t)
    void wheel_free(wheel *)
    uint64_t wheel_start(wheel *, uint64_t, uint64_t)
    int wheel_cancel(wheel *, uint64_t)
    uint64_t wheel_next(const wheel *)
    unsigned wheel_advance(wheel *, uint64_t, wheel_fired *, unsigned)
    size_t wheel_count(const wheel *)
    size_t wheel_bytes(const wheel *)


cdef extern from "wake.h" nogil:
    ctypedef struct wake:
        int read_fd
        int write_fd

    int wake_open(wake *)
    void wake_close(wake *)
    void wake_signal(const wake *)
    void wake_drain(const wake *)


cdef extern from "stats.h" nogil:
    enum:
        BATCH_BUCKETS, TICK_BUCKETS

    ctypedef struct loop_stats:
        uint64_t ticks
        uint64_t waits_blocking
        uint64_t commands
        uint64_t crashes
        uint64_t decode_errors
        uint64_t contracts_broken
        uint64_t overloaded
        uint64_t casts_lost
        uint64_t inputs_refused
        uint64_t refused
        uint64_t accept_errors
        uint64_t timers_fired
        uint64_t keys_ahead
        uint64_t busy_ns
        uint64_t[12] batch
        uint64_t[22] tick_us

    void stats_batch(loop_stats *, unsigned)
    void stats_tick(loop_stats *, uint64_t)


cdef extern from "conn.h" nogil:
    enum:
        CONN_FREE, CONN_CONNECTING, CONN_OPEN, CONN_FINISHING, CONN_DRAINING, CONN_LINGERING
        CONN_CLOSING, CONN_ENDED
        END_NONE, END_PEER, END_RESET, END_ASKED, END_PROTOCOL, END_IDLE, END_FRAME_TIMEOUT
        END_SLOW_CONSUMER, END_LINGER, END_SHUTDOWN, END_CONNECT, END_MEMORY, END_LIMIT
        END_DISK
        END_REASONS
        PAUSE_OUTPUT, PAUSE_SERVER, PAUSE_REPLIES, PAUSE_SUSPENDED, PAUSE_MOVING, PAUSE_PASSIVE
        CONN_HOLD, CONN_EVENTS, CONN_PEER_ENDED
        INPUT_NONE, INPUT_DATA

    const uint32_t ACTIVE_ALWAYS

    ctypedef struct conn_limits:
        uint64_t frame_timeout_ms
        uint64_t idle_timeout_ms
        uint64_t linger_ms
        uint64_t half_closed_ms
        size_t high_water_bytes
        size_t low_water_bytes
        size_t output_bytes_max
        uint32_t active

    ctypedef struct conn:
        const conn_limits *limits
        int32_t fd
        uint32_t slot
        uint32_t generation
        uint32_t protocol
        uint32_t active_left
        uint16_t in_flight
        uint8_t state
        uint8_t flags
        uint8_t paused
        uint8_t reason
        int16_t error
        frame_resume resume
        outq out
        uint8_t *carry
        size_t carry_bytes
        size_t carry_capacity
        void *port
        void *hold
        uint64_t held
        uint64_t active_ms
        uint64_t frame_since_ms
        uint64_t commands
        uint64_t id
        uint64_t opened_ms
        uint32_t spoken

    ctypedef struct slot_list:
        uint32_t *slots
        uint32_t count
        uint32_t capacity

    ctypedef struct conns_stats:
        uint64_t opened
        uint64_t closed
        uint64_t recv_bytes
        uint64_t sent_bytes
        uint64_t sends
        uint64_t short_sends
        uint64_t pauses
        uint64_t[14] ended

    ctypedef struct conns:
        source *source
        outq_pool *pool
        wheel *wheel
        uint32_t open_count
        uint64_t now_ms
        uint32_t sends_new
        slot_list dirty
        slot_list starved
        slot_list ended
        slot_list woken
        uint64_t durable_batch
        conns_stats stats

    int conns_open(conns *, source *, outq_pool *, wheel *)
    void conns_close(conns *)
    conn *conns_add(conns *, int, int, const conn_limits *, void *)
    uint32_t conns_slots(const conns *)
    conn *conns_at(const conns *, uint32_t)
    conn *conns_find(const conns *, uint64_t)
    void conns_release(conns *, conn *)
    void conn_arm(conns *, conn *)
    void conn_enter(conn *)
    void conn_leave(conns *, conn *)
    void conn_pause(conns *, conn *, int)
    void conn_resume(conns *, conn *, int)
    void conn_activate(conns *, conn *, uint32_t)
    void conn_give_back(conns *, conn *)
    void conn_still(conns *, conn *)
    int conn_is_still(const conns *, const conn *)
    int conn_recv_completed(conns *, conn *, const completion *)
    void conn_send_completed(conns *, conn *, int)
    void conn_connect_completed(conns *, conn *, int)
    void conn_output(conns *, conn *)
    void conn_hold(conns *, conn *, uint64_t)
    void conns_released(conns *, uint64_t)
    void conns_held_lost(conns *)
    void conn_finish(conns *, conn *, int)
    void conn_finish_received(conns *, conn *, int)
    void conn_abort(conns *, conn *, int, int)
    void conn_released_hold(conns *, conn *)
    int conn_timer_fired(conns *, conn *)
    int conn_carry(conns *, conn *, const uint8_t *, size_t, size_t)
    void conn_carry_consumed(conns *, conn *, size_t)
    void conns_flush(conns *)
    void conns_feed_starved(conns *)
    uint64_t conn_token(const conn *, unsigned)
    int conn_takes_input(const conn *)
    int conn_is_unasked(const conn *)
    int conn_takes_output(const conn *)

"""The other side of the simulated network as Cython sees it: source_sim.h."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .leaves cimport sockaddr, socklen_t, source, write_request


cdef extern from "source_sim.h" nogil:
    ctypedef int64_t sim_peer

    ctypedef struct sim_knobs:
        uint64_t latency_ns_min
        uint64_t latency_ns_max
        uint64_t jitter_ns_max
        uint64_t late_ns_max
        uint64_t tick_ns
        uint64_t disk_ns_min
        uint64_t disk_ns_max
        uint32_t window_bytes
        uint32_t descriptors_max
        uint16_t fragment
        uint16_t direct_send
        uint16_t short_send
        uint16_t interrupted
        uint16_t wait_interrupted
        uint16_t reset
        uint16_t starve
        uint16_t accept_failure
        uint16_t rearm
        uint16_t late
        uint16_t cancel_lost
        uint16_t direct_write

    ctypedef struct sim_event:
        int kind
        sim_peer peer
        int64_t value

    ctypedef struct sim_record:
        uint64_t at_ns
        uint64_t token
        int64_t result
        uint32_t what
        uint32_t flags
        uint64_t content

    ctypedef struct sim_census:
        uint32_t descriptors
        uint32_t listeners
        uint32_t operations
        uint32_t links
        uint32_t buffers_lent
        uint32_t writes

    enum sim_answer:
        SIM_ANSWER_ACCEPT
        SIM_ANSWER_REFUSE
        SIM_ANSWER_SILENCE

    ctypedef struct sim_disk:
        uint64_t (*begin)(void *, const write_request *) noexcept nogil
        int32_t (*end)(void *, uint64_t) noexcept nogil
        void *context

    ctypedef int (*sim_hook)(void *) noexcept nogil
    ctypedef void (*sim_closed_hook)(void *) noexcept nogil
    ctypedef void (*sim_broken_hook)(void *, const char *) noexcept nogil

    sim_knobs *sim_knobs_of(source *)
    void sim_knobs_shake(source *)
    sim_peer sim_peer_connect(source *, const sockaddr *, socklen_t)
    ssize_t sim_peer_send(source *, sim_peer, const void *, size_t)
    size_t sim_peer_recv(source *, sim_peer, void *, size_t)
    size_t sim_peer_readable(source *, sim_peer)
    int sim_peer_state(source *, sim_peer)
    int sim_peer_shutdown(source *, sim_peer)
    int sim_peer_pause(source *, sim_peer)
    int sim_peer_resume(source *, sim_peer)
    int sim_peer_close(source *, sim_peer)
    int sim_peer_reset(source *, sim_peer)
    void sim_peer_release(source *, sim_peer)
    int sim_listen(source *, const sockaddr *, socklen_t, sim_answer)
    int sim_unlisten(source *, const sockaddr *, socklen_t)
    int sim_inherit(source *, const sockaddr *, socklen_t, int)
    int sim_next_event(source *, sim_event *)
    void sim_alarm(source *, uint64_t, int64_t)
    void sim_set_disk(source *, const sim_disk *)
    void sim_set_hook(source *, sim_hook, void *)
    void sim_set_broken_hook(source *, sim_broken_hook, void *)
    int sim_set_closed_hook(source *, sim_closed_hook, void *)
    uint64_t sim_trace_hash(const source *)
    void sim_trace_keep(source *, int)
    const sim_record *sim_trace(const source *, size_t *)
    void sim_census_take(const source *, sim_census *)


cdef class Network:
    cdef source *_source
    cdef readonly object loop
    cdef object _peers
    cdef object _disk

    cdef source *_alive(self) except NULL
    cdef void _let_go(self) noexcept
    cdef Peer _peer(self, sim_peer name)


cdef class Peer:
    cdef readonly Network network
    cdef readonly sim_peer name
    cdef object __weakref__

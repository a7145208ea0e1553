"""What waits for the disk, and in which order it leaves."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from .leaves cimport conn, conns, source
from .tail cimport Tail
from .values cimport Values


cdef extern from "segment.h" nogil:
    enum:
        SEGMENT_BLOCK, SEGMENT_HEADER_BLOCKS, FRAME_HEADER_BYTES, RECORD_HEADER_BYTES
        SEGMENT_FRAME_BYTES_MAX
        MANIFEST_BYTES, MANIFEST_SLOT_BYTES, MANIFEST_SLOT_B, MANIFEST_CLEAN
        RECORD_INPUT, RECORD_SERVER, RECORD_TIME, RECORD_START, RECORD_SKIP, RECORD_EFFECT
        RECORD_STATE, RECORD_STORE, RECORD_FORGET
        RECORD_FAILED, RECORD_CAUSE, RECORD_REQUEST, RECORD_STOPS, RECORD_FROM, OUTCOME_REFUSED
        SEGMENT_DATA, SEGMENT_SEAL, SEGMENT_CLOSE, FEATURE_CODED, FRAME_CODED
        SEGMENT_SOUND, SEGMENT_NOT_ONE, SEGMENT_NEWER, SEGMENT_BODY, SEGMENT_PADDING
        ENDED_NONE, ENDED_SEALED, ENDED_CLOSED, ENDED_RECOVERED

    ctypedef struct journal_hash:
        uint8_t[16] bytes

    ctypedef struct segment_header:
        journal_hash id
        uint64_t number
        uint64_t epoch
        uint64_t first_seq
        uint64_t first_lsn
        uint64_t before
        uint64_t before_seq
        journal_hash chain
        uint32_t before_end
        uint64_t bytes
        uint64_t made_ns
        uint32_t features

    ctypedef struct segment_frame:
        uint8_t type
        uint8_t flags
        uint32_t body_bytes
        uint32_t records
        uint32_t block
        uint64_t segment
        uint64_t seq
        uint64_t first_lsn
        uint64_t durable_seq
        uint64_t time_ns
        uint64_t epoch
        journal_hash chain
        journal_hash header_hash
        journal_hash body_hash

    ctypedef struct segment_record:
        const uint8_t *payload
        uint32_t payload_bytes
        uint8_t type
        uint8_t kind
        uint16_t flags
        uint32_t server
        uint32_t outcome
        uint64_t cause_lsn
        uint64_t client
        uint64_t session
        uint64_t request
        uint32_t cause_index

    ctypedef struct manifest:
        journal_hash id
        uint64_t counter
        uint64_t epoch
        uint64_t oldest
        uint64_t current
        uint64_t segment_bytes
        uint64_t durable_seq
        uint64_t durable_lsn
        uint32_t depth
        uint32_t flags
        uint64_t[2] snapshot_lsn
        journal_hash[2] snapshot_hash
        uint64_t replay_lsn
        uint32_t replay_attempts
        uint32_t features

    void segment_header_write(const segment_header *, uint8_t *)
    int segment_header_read(const uint8_t *, segment_header *)
    void segment_frame_write(segment_frame *, const journal_hash *, uint8_t *)
    int segment_frame_read(const uint8_t *, const journal_hash *, segment_frame *)
    int segment_frame_check(const uint8_t *, const segment_frame *)
    size_t segment_record_read(const uint8_t *, size_t, segment_record *)
    uint64_t segment_blocks_bytes(uint64_t)
    void manifest_write(const manifest *, uint8_t *)
    int manifest_read(const uint8_t *, manifest *)


cdef extern from "journal.h" nogil:
    enum:
        JOURNAL_DEPTH_MAX, JOURNAL_SLOTS, JOURNAL_SLOT_CONTROL, JOURNAL_GROWTH_MAX
        SLOT_FREE, SLOT_FLYING
        ROLL_NONE, ROLL_CLOSED

    ctypedef int64_t (*journal_encode)(void *, const segment_frame *, const uint8_t *, uint8_t *)

    ctypedef struct journal_config:
        journal_hash id
        uint64_t epoch
        uint64_t segment_bytes
        uint32_t depth
        uint32_t frame_bytes_max
        uint32_t features
        journal_encode encode
        void *owner

    ctypedef struct journal_slot:
        uint8_t *data
        uint64_t seq
        uint64_t first_lsn
        uint64_t batch
        uint32_t records
        uint32_t used
        uint8_t state
        uint8_t is_short

    ctypedef struct journal_write:
        const uint8_t *data
        uint64_t offset
        uint32_t bytes
        uint32_t slot
        int fd

    ctypedef struct journal_stats:
        uint64_t frames
        uint64_t records
        uint64_t bytes
        uint64_t padding
        uint64_t rolls
        uint64_t manifests
        uint64_t short_writes
        uint64_t retries
        uint64_t stalls

    ctypedef struct journal:
        journal_config config
        journal_slot[10] slots
        uint32_t filling
        uint32_t open_at
        uint32_t records
        uint64_t filling_lsn
        uint64_t next_lsn
        uint64_t next_seq
        uint64_t batch
        uint64_t durable_seq
        uint64_t durable_lsn
        uint64_t durable_batch
        uint64_t time_ns
        uint32_t in_flight
        uint64_t segment
        uint64_t segment_first_lsn
        uint64_t manifest_durable
        uint64_t block
        int fd
        int manifest_fd
        int spare_fd
        uint8_t roll
        uint8_t is_stalled
        int error
        manifest manifest
        journal_stats stats

    int journal_open(journal *, const journal_config *, const manifest *, const segment_header *,
                     int, int)
    void journal_free(journal *)
    int journal_begin(journal *)
    uint8_t *journal_put(journal *, uint32_t)
    uint64_t journal_end(journal *, unsigned, unsigned, unsigned, uint32_t, uint32_t)
    void journal_drop(journal *)
    int journal_next(journal *, uint64_t, journal_write *)
    int journal_completed(journal *, uint32_t, int32_t)
    void journal_fail(journal *, int)
    void journal_spare(journal *, uint64_t, int)
    void journal_watermark(journal *)
    void journal_close(journal *)


cdef enum:
    LATENCY_BUCKETS = 26 # the last is half a minute


cdef class Commit:
    cdef journal j
    cdef conns *conns
    cdef source *source
    cdef readonly bint is_open
    cdef readonly bint is_full         # the disk has no room for another segment
    cdef readonly str directory
    cdef int how                       # enum write_how
    cdef uint64_t time_ns              # of the latest TIME record ...
    cdef uint64_t time_batch           # ... and the batch it stands in
    cdef object held                   # deque of (batch, function, arguments)
    cdef bint is_behind                # the latest refusal was for a frame that is full
    cdef bint has_released             # in this tick
    cdef bint is_quiet                 # the loop has nothing else to do in this tick
    cdef list paused                   # connections that wait for the disk to catch up
    cdef uint64_t[10] started_ns       # when each slot's write was handed over
    cdef uint64_t[LATENCY_BUCKETS] latency # writes that took up to 2 ** index microseconds
    cdef uint64_t latency_us           # what all of them took together
    cdef readonly Tail tail            # where records are kept at the level "os"; None = nowhere
    cdef public object coder           # pybehave/journal/codec.py; None = stored as it is
    cdef uint64_t growth               # bytes that it may add to a frame
    cdef uint64_t kept_first           # the slot with this first lsn is in the tail up to ...
    cdef uint32_t kept_used            # ... so many of its bytes
    cdef uint64_t segment              # that records went to when last looked
    cdef int fd                        # its descriptor
    cdef public object on_rolled       # (old descriptor) -> None: a new segment is in use
    cdef public object on_failed       # (errno) -> None: the first failure, once
    cdef object on_manifest            # () -> None: told once, when the manifest ...
    cdef uint64_t manifest_wanted      # ... of this counter is durable
    cdef public object on_durable      # () -> None: something is durable; told once, then forgotten

    cdef int open_input(self, Values values, object message, uint64_t now_ns, bytes client,
                        uint64_t number, uint64_t cause_lsn, uint32_t cause_index) except -1
    cdef int _put_cause(self, uint64_t lsn, uint32_t index) except -1
    cdef object _no_room_for(self, uint64_t bytes)
    cdef int _put_request(self, bytes client, uint64_t number) except -1
    cdef uint64_t close_input(self, unsigned kind, unsigned flags, uint32_t server,
                              uint32_t outcome) except 0
    cdef int drop_input(self) except -1
    cdef bint more(self, Values values)
    cdef int hold(self, uint64_t batch, object function, tuple arguments) except -1
    cdef int _lose(self, object function) except -1
    cdef int pause(self, conn *c) except -1
    cdef bint is_busy_now(self)
    cdef bint wants_turn(self)
    cdef bint must_wait(self)
    cdef int _resume_paused(self) except -1
    cdef bint is_saturated(self)
    cdef uint64_t _not_durable(self)
    cdef bint can_keep(self)
    cdef bint keep(self) except -1
    cdef bint _keep_from(self, uint64_t lsn) except -1
    cdef bint _keep_slot(self, journal_slot *slot, uint64_t first, uint32_t records,
                         uint64_t lsn) except -1
    cdef int pump(self, uint64_t now_ns) except -1
    cdef int completed(self, uint32_t slot, int32_t result) except -1
    cdef bint _is_flying(self)
    cdef bytes _body(self, journal_slot *slot)
    cdef int _begin(self) except -1
    cdef bint _is_beyond(self, uint64_t used)
    cdef int _check_room(self) except -1
    cdef uint64_t _record(self, unsigned type, uint32_t server, bytes payload, uint64_t now_ns,
                          unsigned kind=*, unsigned flags=*) except 0
    cdef int _note_time(self, uint64_t now_ns) except -1
    cdef int _put(self, Values values) except -1
    cdef int _release(self) except -1
    cdef int _fail(self) except -1
    cdef int _look_for_roll(self) except -1
    cdef int _note_latency(self, uint32_t slot) except -1

"""What dispatch may use of a codec: framing, decode, encode and native answers, from C.

The order of calls for a connection's input, for each message:

    if codec.frame.kind == FRAME_CUSTOM:
        status = codec.split(data, len, &resume, &view)
    elif codec.frame.kind == FRAME_READER:
        status = codec.read(data, len, partial, &view)
    else:
        status = frame_next(&codec.frame, data, len, &resume, &view)
    FRAME_READY:  codec.native(...) when codec.has_native: 1 or 2 = answered (or nothing to answer);
                  else codec.decode(...), then step, then codec.encode(...).
    negative:     codec.encode_error(codec.frame_error(&view), ...), flush, close.

native writes its answer at once. A caller that still owes this connection an earlier reply must
not call it before that reply is written, or the answers change places.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from .reading cimport Partial


cdef extern from "frame.h" nogil:
    enum:
        FRAME_RAW, FRAME_FIXED, FRAME_LINES, FRAME_LENGTH, FRAME_RESP
        FRAME_CUSTOM, FRAME_REPLY, FRAME_READER
        FRAME_MORE, FRAME_READY, FRAME_TOO_LONG, FRAME_MALFORMED
        FRAME_BODY, FRAME_EMPTY, FRAME_BULKS, FRAME_NESTED, FRAME_INLINE, FRAME_VALUE, FRAME_MADE
        FRAME_ERROR_NONE, FRAME_ERROR_TOO_LONG, FRAME_ERROR_CUSTOM
        FRAME_END_BYTES_MAX, FRAME_WIDTH_MAX, FRAME_BYTES_LIMIT

    ctypedef struct frame_config:
        int kind
        uint32_t size
        uint8_t width
        uint8_t little
        uint8_t[8] end
        uint8_t end_len
        uint64_t frame_bytes_max

    ctypedef struct frame_resume:
        uint32_t scanned
        uint32_t pending

    ctypedef struct frame_view:
        size_t used
        const uint8_t *body
        size_t body_len
        uint32_t args
        int type
        size_t need
        uint8_t error
        uint8_t got

    int frame_next(const frame_config *, const uint8_t *, size_t, frame_resume *, frame_view *)
    size_t frame_error_text(const frame_view *, char *, size_t)
    int frame_word(const uint8_t **, const uint8_t *, uint8_t *, size_t *)
    const uint8_t *frame_bulk(const uint8_t **, size_t *)


cdef extern from "outq.h" nogil:
    ctypedef struct outq_block:
        pass

    ctypedef struct outq:
        outq_block *filling
        outq_block *sending
        size_t sent

    ctypedef struct outq_pool:
        pass

    ctypedef struct outq_pool_stats:
        uint64_t blocks_used
        uint64_t bytes_used
        uint64_t bytes_kept
        uint64_t allocations
        uint64_t reuses
        uint64_t copies
        uint64_t failures

    outq_pool *outq_pool_new(size_t)
    void outq_pool_free(outq_pool *)
    void outq_pool_read(const outq_pool *, outq_pool_stats *)
    uint8_t *outq_reserve(outq_pool *, outq *, size_t)
    void outq_commit(outq *, size_t)
    size_t outq_mark(const outq *)
    void outq_rollback(outq_pool *, outq *, size_t)
    size_t outq_bytes(const outq *)
    int outq_begin(outq_pool *, outq *, size_t, const uint8_t **, size_t *)
    int outq_sent(outq_pool *, outq *, size_t, const uint8_t **, size_t *)
    void outq_clear(outq_pool *, outq *)
    void outq_abort(outq_pool *, outq *)


cdef enum codec_kind:
    CODEC_RAW = 0
    CODEC_FIXED = 1
    CODEC_LINES = 2
    CODEC_LENGTH = 3
    CODEC_RESP = 4
    CODEC_REQUEST = 5  # RESP as a client: encode requests, decode replies
    CODEC_PYTHON = 6


cpdef enum:
    # What a connection has agreed on: the version of its protocol, and which replies it wants.
    AGREED_VERSION = 0xff
    AGREED_OFF = 0x100      # CLIENT REPLY OFF: none
    AGREED_SKIP = 0x200     # CLIENT REPLY SKIP: none to the next request
    AGREED_SKIPPED = 0x400  # this is that next request


cdef struct conn_facts:
    uint64_t id           # CLIENT ID; unique for the life of the node
    uint64_t commands     # INFO: messages handled by the node
    uint64_t connections  # INFO: connections open now
    uint64_t accepted     # INFO: connections there have been
    uint64_t uptime_s     # INFO
    void *owner           # borrowed; its clients(codec, ids, count_max) is CLIENT LIST; or NULL


@cython.final
cdef class Codec:
    cdef frame_config frame
    cdef readonly int kind          # CODEC_PYTHON for user protocols
    cdef readonly bint has_native   # native() may answer something
    cdef int form                   # how encode lays out bytes: CODEC_RAW .. CODEC_REQUEST
    cdef int charset                # text of lines: CHARSET_NONE ...
    cdef str encoding
    cdef bint uppercase             # command names
    cdef object ok                  # the object that means +OK
    cdef object status_type
    cdef object error_type, push_type
    cdef object hook_values         # takes RESP values apart that are not bulk strings
    cdef object hook_once           # makes a Once of a request that begins with ONCE, or None
    cdef object hook_native         # answers commands of the protocol itself
    cdef object hooks               # the user's Protocol object, or None
    cdef object failure             # what split() raised, for frame_error
    cdef Partial spare              # a reader that no connection has; or None
    cdef object made                # the message of a reader, for decode
    cdef public object info_source  # callable(section) -> str for INFO, or None
    # State of feed(), for use without a connection.
    cdef outq_pool *own_pool
    cdef outq own_queue
    cdef frame_resume own_resume
    cdef Partial own_partial
    cdef uint32_t own_flags
    cdef bytes own_carry
    cdef readonly bint is_broken    # a framing error has ended the stream

    # Framing of a protocol with split() in Python; results as frame_next has them.
    cdef int split(self, const uint8_t *data, size_t length, frame_resume *resume,
                   frame_view *view) except -3
    # Framing by a reader in Python, `partial` being what it has had of the message; the same.
    cdef int read(self, const uint8_t *data, size_t length, Partial partial,
                  frame_view *view) except -3
    # The exception for a negative framing result: DecodeError or FrameTooLong.
    cdef object frame_error(self, const frame_view *view)
    # A new message from the view. None = there is no message in it. Raises DecodeError.
    cdef object decode(self, const frame_view *view, uint32_t *flags)
    # Appends the output. Raises EncodeError, and then nothing was appended.
    cdef int encode(self, object output, outq_pool *pool, outq *q, uint32_t flags) except -1
    # Appends the answer for a failure; raises only MemoryError.
    cdef int encode_error(self, object exc, outq_pool *pool, outq *q, uint32_t flags) except -1
    # 0 = not native, decode it; 1 = answered; 2 = answered, close after flushing. A request begins
    # here: flags above AGREED_VERSION behind it say that its reply is not wanted.
    cdef int native(self, const frame_view *view, const conn_facts *facts, outq_pool *pool,
                    outq *q, uint32_t *flags) except -1

    cdef int feed_message(self, const frame_view *view, list out) except -1

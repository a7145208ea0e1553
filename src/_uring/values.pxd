"""Python values as MessagePack bytes, for the journal."""

cimport cython

from libc.stddef cimport size_t
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t


cdef struct sink:
    uint8_t *data
    size_t used
    size_t capacity


@cython.final
cdef class Values:
    cdef sink out
    cdef size_t bytes_max # of what is being encoded, 0 = no limit
    cdef dict names       # type -> name, for declared types
    cdef dict types       # name -> type
    cdef object handles   # (session, slot, generation) -> the one Connection for it
    cdef object living    # the Dispatcher whose connections are alive, or None
    cdef dict opaque      # types of outputs without a form -> their outcome
    cdef object latest    # a short output, and ...
    cdef uint32_t latest_outcome # ... its outcome, 0 = there is none
    cdef bint is_input    # what is being encoded is to be read by a replay
    cdef bint has_error   # what was put last holds an exception ...
    cdef bint has_caller  # ... or a caller, who reads back as one that was answered
    cdef public bint has_waiting # something put since this was False held one who still waits

    cdef uint64_t session(self) except? 0
    cdef int put(self, object value, int depth) except -1
    cdef uint8_t *room(self, size_t count) except NULL
    cdef int _grow(self, size_t count) except -1
    cdef int put_head(self, uint8_t small, uint8_t wide, size_t count, unsigned small_max) except -1
    cdef int put_big(self, uint8_t type, uint64_t value, int bytes) except -1
    cdef int put_int(self, object value) except -1
    cdef int put_text(self, const uint8_t *text, size_t count) except -1
    cdef int put_bytes(self, object value) except -1
    cdef int put_sequence(self, object items, size_t count, int depth) except -1
    cdef int put_ext(self, int code, object items, size_t count, int depth) except -1
    cdef int put_other(self, object value, int depth) except -1
    cdef int _put_set(self, int code, object value, int depth) except -1
    cdef object _typed(self, object kind, object value)
    cdef dict _attributes(self, object error, int depth)
    cdef object as_read(self, object value)
    cdef size_t begin_ext(self, int code) except? 0
    cdef int end_ext(self, size_t at) except -1
    cdef uint32_t outcome(self, object output) except? 0
    cdef uint32_t _outcome_of_type(self, type kind) except? 0
    cdef int _put_str(self, object value) except -1
    cdef int _put_float(self, double value) except -1
    cdef int _put_dict(self, dict value, int depth) except -1
    cdef int _check_depth(self, int depth) except -1
    cdef dict _take_map(self, const uint8_t **at, const uint8_t *end, size_t count, int depth)
    cdef object take(self, const uint8_t *data, size_t size)
    cdef object _take(self, const uint8_t **at, const uint8_t *end, int depth)
    cdef object _take_ext(self, const uint8_t **at, const uint8_t *end, size_t count, int depth)
    cdef list _take_array(self, const uint8_t **at, const uint8_t *end, size_t count, int depth)


cdef uint64_t session_of(uint64_t epoch) noexcept

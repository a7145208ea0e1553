"""What came of the latest requests of each client."""

from libc.stdint cimport uint64_t

from .values cimport Values

cdef class Request:
    cdef readonly uint64_t number
    cdef readonly bytes client         # hash of its name
    cdef int form                      # enum in requests.pyx: what `value` is
    cdef object value
    cdef list waiting                  # Callers of repetitions, while it is pending; or None

    cdef int keep(self, object output, Values values) except -1
    cdef int fail(self, str crash_id) except -1
    cdef int lose(self) except -1
    cdef bint is_pending(self)
    cdef object outcome(self, str server, Values values)


cdef class Requests:
    cdef dict clients                  # hash of the name -> Client, by their latest request

    cdef bytes key_of(self, object once)
    cdef Request find(self, str server, bytes client, uint64_t number, uint64_t now_ns)
    cdef Request add(self, bytes client, uint64_t number, uint64_t now_ns)
    cdef Request pending(self, bytes client, uint64_t number)
    cdef bint _make_room(self, uint64_t now_ns) except -1

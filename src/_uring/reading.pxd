"""Messages that a protocol's reader finds, piece by piece."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t


cdef class Partial:
    cdef object reader
    cdef bytes end             # a message of unknown size may end behind these bytes
    cdef size_t fed            # bytes of the message that the reader has had
    cdef size_t want           # bytes behind those that are certain to belong to it
    cdef object message        # what the reader has made of it, once it is complete
    cdef object failure        # what the reader raised
    cdef bytes interim         # bytes to send before the message is complete, or None

    cdef int read(self, const uint8_t *data, size_t size) except -3
    cdef size_t stop(self, const uint8_t *data, size_t size) except 0
    cdef object take(self)

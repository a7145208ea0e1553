"""Messages that say themselves whom they are for and how they are answered."""

from libc.stdint cimport int64_t


cdef class Exchange:
    cdef readonly str to               # name of the server; None = the listener's
    cdef readonly object input
    cdef readonly object timeout       # seconds, or None
    cdef readonly object answer        # an output that answers it at once; or None
    cdef readonly object failure       # as what it is answered at once; or None
    cdef readonly bint is_last
    cdef readonly int64_t unix_s       # when it was answered

    cdef bytes at_once(self, int64_t unix_s)
    cdef bytes bytes_of(self, object output, object error)

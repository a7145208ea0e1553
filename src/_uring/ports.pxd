"""Where connections come from."""

from libc.stdint cimport uint64_t

from .codec cimport Codec
from .dispatch cimport Dispatcher
from .leaves cimport completion, conn, conns, loop_stats, source
from .servers cimport Port


cdef class Ports:
    cdef source *_source
    cdef conns _conns
    cdef loop_stats _stats
    cdef readonly Dispatcher dispatcher
    cdef list _ports
    cdef bint _is_enabled
    cdef bint _is_closed
    cdef bint _is_forked
    cdef bint _has_exhausted
    cdef bint _has_said_exhausted
    cdef uint64_t _said_ns

    cdef int _check(self) except -1
    cdef Port _make_port(self, str name, str url, Codec codec, settings)
    cdef int _accept(self, Port port) except -1
    cdef int _accepted(self, Port port, const completion *done) except -1
    cdef int _welcome(self, Port port, int fd) except -1
    cdef int _exhausted(self, Port port, int error) except -1
    cdef int _pause_accept(self, Port port) except -1
    cdef int _connected(self, conn *c, int result) except -1

"""Timers over the wheel."""

from libc.stdint cimport int64_t, uint64_t

from .leaves cimport wheel
from .replies cimport Replies
from .servers cimport Server


cdef class Alarms(Replies):
    cdef wheel *wheel
    cdef uint64_t now_ns
    cdef int64_t wall_offset_ns        # Unix time - monotonic time
    cdef dict alarms                   # wheel id -> what to do

    cdef uint64_t _alarm(self, double seconds, object record) except 0
    cpdef bint cancel_alarm(self, uint64_t alarm)
    cdef uint64_t unix_ns(self)
    cdef int _start_timer(self, Server server, object name, double seconds, message) except -1
    cdef int _cancel_timer(self, Server server, object name) except -1
    cdef int _cancel_idle(self, Server server) except -1

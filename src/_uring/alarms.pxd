"""Timers over the wheel."""

from libc.stdint cimport uint64_t

from .leaves cimport wheel
from .replies cimport Replies
from .servers cimport Server


cdef class Alarms(Replies):
    cdef wheel *wheel
    cdef uint64_t now_ns
    cdef dict alarms                   # wheel id -> what to do

    cdef uint64_t _alarm(self, double seconds, object record) except 0
    cpdef bint cancel_alarm(self, uint64_t alarm)
    cdef int _start_timer(self, Server server, object name, double seconds, message) except -1
    cdef int _cancel_timer(self, Server server, object name) except -1
    cdef int _cancel_idle(self, Server server) except -1

"""Timers over the wheel."""

from libc.stdint cimport uint32_t, uint64_t

from .leaves cimport wheel
from .replies cimport Replies
from .servers cimport Alarm, Server


cdef class Alarms(Replies):
    cdef wheel *wheel
    cdef list alarms                   # slot -> Alarm; a free slot holds the next free one
    cdef Py_ssize_t free_slot          # -1 = none

    cdef Alarm _alarm(self, double seconds, object owner, object name, object message)
    cdef Alarm _due_alarm(self, uint32_t slot, uint64_t id)
    cdef int _release(self, Alarm alarm) except -1
    cpdef bint cancel_alarm(self, Alarm alarm) except -1
    cdef int _start_timer(self, Server server, object name, double seconds, message) except -1
    cdef int _cancel_timer(self, Server server, object name) except -1
    cdef int _cancel_idle(self, Server server) except -1

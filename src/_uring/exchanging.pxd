"""Requests that name their server themselves, and messages that a reader finds."""

from libc.stddef cimport size_t
from libc.stdint cimport uint8_t

from .codec cimport Codec, frame_view
from .exchange cimport Exchange
from .gate cimport Gate
from .handles cimport Caller
from .leaves cimport conn
from .servers cimport Port, Server


cdef class Exchanging(Gate):
    cdef bint must_wait(self, Port port)
    cdef int read(self, conn *c, Codec codec, const uint8_t *data, size_t size,
                  frame_view *view) except -3
    cdef int exchange(self, conn *c, Port port, Exchange exchange) except -1
    cdef int _ask(self, conn *c, str name, Exchange exchange) except -1
    cdef int _ask_running(self, Server server, Caller caller) except -1
    cdef object flaw_of(self, conn *c, Port port, object message, bint is_heard)
    cdef object misdeclared(self, conn *c, Port port, object message)
    cdef object breach(self, conn *c, Port port, object message)
    cdef int refuse(self, conn *c, Port port, object flaw) except -1
    cdef int _count(self, object flaw) except -1
    cdef bint is_fatal(self, Port port, object flaw)
    cdef object converted(self, Caller caller, object message)
    cdef int _turn(self, Server server, int kind, object message, Caller caller) except -1

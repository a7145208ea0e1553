"""Inputs that leave no trace."""

from .exchanging cimport Exchanging
from .handles cimport Caller
from .leaves cimport conn
from .servers cimport Kind, Port, Server


cdef class Ephemeral(Exchanging):
    cdef int _pass(self, Server server, int kind, object message, Caller caller) except -1
    cdef bint is_question(self, Server server, object message) except -1
    cdef int _answer_connection(self, Server server, conn *c, Port port,
                                object message) except -1
    cdef int _passed(self, Server server, object generator) except -1
    cdef int _check_trace(self, Server server, object message, Caller caller, object after,
                          tuple actions, bytes looks) except -1
    cdef bytes _look(self, Server server)
    cdef object _callback(self, Server server, int kind, object message, Caller caller)
    cdef tuple _checked(self, Server server, int kind, object result)
    cdef int _conclude(self, Server server, tuple actions, conn *c, bytes answer, Caller caller,
              object output, int kind, object message) except -1

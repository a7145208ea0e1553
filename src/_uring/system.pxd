"""System requests: what operators do to a server between two of its inputs."""

from .handles cimport Caller
from .leaves cimport conn
from .mailboxes cimport Mailboxes
from .servers cimport Control, Port, Server


cdef class System(Mailboxes):
    cdef readonly Py_ssize_t suspended_count # servers that are suspended
    cdef public object on_hibernate    # server -> Asleep, or None: it stays; or None
    cdef public object on_wake         # (server, Asleep) -> its state
    cdef tuple left                    # what the server that is just ending leaves, or None

    cpdef int wake(self, Server server) except -1
    cpdef int hibernate(self, Server server) except -1
    cdef Control _control(self, Server server)
    cdef object _unfinished(self, Server server)
    cdef int _bring_forward(self, Server server) except -1
    cdef int settle_control(self, Server server) except -1
    cdef int release(self, Server server, object error) except -1
    cdef int note_left(self, Server server, Caller caller, int kind, object message) except -1
    cdef bint hold_back(self, Port port, conn *c)
    cdef int _let_go(self, Server server, Control control) except -1

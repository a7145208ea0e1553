"""What a server takes: asked before an input counts."""

from .acting cimport Acting
from .handles cimport Caller
from .leaves cimport conn
from .servers cimport Kind, Port, Server


cdef class Gate(Acting):
    cdef public object on_refused      # (server, error): a cast was refused; or None
    cdef object flaw                   # what `validate` raised on the input that comes next

    cdef bint goes_straight(self, Server server, conn *c, Port port)
    cdef bint is_ephemeral(self, Kind kind, object message) except -1
    cdef bint _is_tagged(self, Kind kind, list message) except -1
    cdef bint passes(self, Kind kind, object message) except -1
    cdef bint admits(self, Server server, int kind, object message, Caller caller) except -1
    cdef object _refusal(self, Server server, object message, Caller caller)
    cdef int _refuse(self, Server server, object error, Caller caller) except -1
    cdef bint _record_message(self, Server server, conn *c, Port port, object message) except -1
    cdef bint _record_input(self, Server server, int kind, object message,
                            Caller caller) except -1
    cdef int _unrecorded(self, Server server, int kind, object message, object error) except -1
    cdef int _settle_cause(self, Server server, int kind) except -1
    cdef int _known(self, Server server, int kind) except -1
    cdef int raise_flaw(self) except -1

"""Actions: what the runtime does for a step that has returned them."""

from .handles cimport Caller, Connection
from .servers cimport Address, Server
from .system cimport System


cdef class Acting(System):
    cdef public object on_action       # (server, action, lsn, index) -> None: Connect, Run, Cancel

    cdef Server drowsy                 # whose input has asked to hibernate; or None
    cdef tuple checked                 # (actions, what they send, encoded, whether their input
                                       # leaves no trace), until carried out

    cdef object _carry_out(self, Server server, tuple actions, list closes)
    cdef int _go_on_with(self, Server server, list continues) except -1
    cdef int _crashed(self, Server server, object error, int kind, object message,
                      Caller caller) except -1
    cdef int _hand_on(self, Server server, object action) except -1
    cdef dict _check_actions(self, Server server, tuple actions)
    cdef int _check_reply(self, object action, dict encoded) except -1
    cdef int _reply_as(self, Caller caller, object value, bytes answer) except -1
    cdef bytes _answer_for(self, Connection connection, object data, dict encoded)
    cdef int _send(self, Connection connection, object data, dict encoded) except -1
    cdef int _close(self, Connection connection) except -1
    cdef int _activate(self, Connection connection, object mode) except -1
    cdef int reactivate(self, Address address) except -1

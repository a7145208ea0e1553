"""Mailboxes: inputs that wait for their server, and callers that wait for their reply."""

from libc.stdint cimport uint32_t, uint64_t

from .handles cimport Caller
from .names cimport Names
from .requests cimport Request
from .servers cimport Address, Server


cdef class Mailboxes(Names):
    cdef readonly uint64_t session     # names this node's connections in journals
    cdef object ready                  # a deque of the servers that have mail
    cdef list stalled                  # (server, item): infos that the full journal did not take
    cdef object refusal                # why the journal did not take the latest message
    cdef list parked                   # servers whose mail waits until the disk has caught up
    cdef public bint is_deciding       # an upgrade is being written: it may be taken back
    cdef list unwoken                  # (function, arguments, barrier): who would wake somebody
    cdef public object numbers         # journaled servers: name -> number, once that is recorded
    cdef public object on_patient      # (name, server or None, error) -> whether one is to come

    cpdef post(self, str name, int kind, message, waiter)
    cdef Caller _waiter_caller(self, str name, object waiter)
    cdef int _undeliverable(self, str name, int kind, Caller caller) except -1
    cdef int tell(self, Server server, object message) except -1
    cdef int _post(self, Server server, int kind, object message, Caller caller) except -1
    cdef int _refused(self, Server server, Caller caller) except -1
    cdef int _turned_away(self, Server server, object message, Caller caller) except -1
    cdef int _unheard_of(self, object received) except -1
    cdef int _make_ready(self, Server server) except -1
    cdef bint _waits_to_wake(self, str name) except -1
    cdef int caught_up(self) except -1
    cdef int _owe(self, Server server, Caller caller) except -1
    cdef int _answered(self, Server server, Caller caller, bytes answer) except -1
    cdef int _resolve(self, Caller caller, object value, object error) except -1
    cdef uint64_t _wanted(self, Server owner, int level, uint64_t batch) except? 1
    cdef int _close_caller(self, Caller caller) except -1
    cdef bint _drop_oldest(self, Server server) except -1
    cdef int _reply(self, Caller caller, object value) except -1
    cdef int _call_action(self, Server server, object action) except -1
    cdef int _call_server(self, object action, Caller caller) except -1
    cdef int _send_on(self, Server server, str name, int kind, object message) except -1
    cdef tuple owe_job(self, Server server, object action)
    cdef int _lose(self, str name, tuple item) except -1
    cdef int settle(self, uint32_t number, int kind, uint64_t lsn, uint32_t index) except -1
    cdef int _not_taken(self, Server server, tuple item) except -1
    cdef int _keep(self, Address address, tuple item) except -1
    cdef bint _outlive(self, Address address, tuple item, bint is_first=*) except -1
    cdef int _not_begun(self, Server server, int kind, object message, Caller caller) except -1
    cdef bint _is_to_come(self, str name) except -1
    cdef bint _kept_for_next(self, str name, int kind, object message, Caller caller) except -1
    cdef int _take_kept(self, Server server, Address address) except -1
    cdef Request _name_request(self, Server server)
    cdef int _remember(self, Server server, Request request, Caller caller,
                       object output) except -1
    cdef int _repeat(self, Server server, Request request, Caller caller) except -1
    cdef int _settle_request(self, Caller caller, object value, object error) except -1

"""Servers and the guarded step."""

from libc.stdint cimport uint32_t, uint64_t

from .codec cimport Codec, frame_view
from .ephemeral cimport Ephemeral
from .handles cimport Caller
from .leaves cimport conn
from .servers cimport Alarm, Answer, Port, Server


cdef class Dispatcher(Ephemeral):
    cdef public object on_ended        # (server, reason, kind, message) -> None
    cdef public object on_unexpected   # (server, info): it has no handle_info; or None

    cdef int message(self, conn *c, Port port, const frame_view *view) except -1
    cdef int opened(self, Server server, conn *c) except -1
    cdef int _step_connection(self, Server server, conn *c, Port port, object message) except -1
    cdef int _post_connection(self, Server server, conn *c, Port port, object message) except -1
    cdef object _call_now(self, str name, object request, bint is_urgent)
    cdef object _call_fast(self, Server server, object request)
    cdef Answer _box(self, Server server, Caller caller)
    cdef int run_ready(self) except -1
    cdef int _serve(self, Server server, Py_ssize_t budget, bint may_wait) except -1
    cdef int _arrive(self, Server server, tuple item) except -1
    cdef int _fail(self, Server server, int kind, object message) except -1
    cdef Py_ssize_t _take_casts(self, Server server, object message, Py_ssize_t most) except -1
    cdef int _once(self, Server server, int kind, object once, Caller caller) except -1
    cdef int _run_continues(self, Server server) except -1
    cdef int _one(self, Server server, int kind, object message, Caller caller) except -1
    cdef int _doze(self, Server server) except -1
    cdef int alarm_fired(self, uint32_t slot, uint64_t id) except -1
    cdef int _server_timer(self, Server server, Alarm alarm) except -1
    cdef int _deliver_timer(self, Server server, Alarm alarm) except -1

# cython: language_level=3, binding=True
"""Timers as servers and the runtime use them, over the wheel.

An alarm is an id of the wheel and a record of what to do when it fires: a function, a server's
timer or a caller whose time is up. A server's timers have names; starting one again replaces it.

Does not know: what firing means (dispatch.pyx, `alarm_fired`).
"""

from libc.stdint cimport int64_t, uint64_t

from .leaves cimport token_make, wheel_cancel, wheel_start
from .replies cimport Replies
from .servers cimport Server

cdef uint64_t NS_PER_MS = 1_000_000
cdef unsigned OP_ALARM = 0x80           # a token's kind: not a connection's
cdef double SECONDS_MAX = 3.2e9         # a century is as good as for ever


# Not final: the Dispatcher is the rest of it.
cdef class Alarms(Replies):
    """Alarms by id, timers by server and name."""

    def __cinit__(self):
        self.alarms = {}

    cdef uint64_t _alarm(self, double seconds, object record) except 0:
        cdef uint64_t deadline_ms, id
        if not seconds >= 0:
            raise ValueError(f"a timer needs seconds >= 0, got {seconds}")
        seconds = min(seconds, SECONDS_MAX)
        # Rounded up: a timer is never early.
        deadline_ms = <uint64_t>((self.now_ns + seconds * 1e9 + (NS_PER_MS - 1)) / NS_PER_MS)
        id = wheel_start(self.wheel, deadline_ms, token_make(OP_ALARM, 0, 0))
        if id == 0:
            raise MemoryError
        self.alarms[id] = record
        return id

    def start_alarm(self, double seconds, function) -> int:
        """Call `function()` on the loop after so many seconds; the id cancels it."""
        return self._alarm(seconds, function)

    cpdef bint cancel_alarm(self, uint64_t alarm):
        """Whether the alarm was armed; then it never comes."""
        self.alarms.pop(alarm, None)
        return wheel_cancel(self.wheel, alarm)

    cdef uint64_t unix_ns(self):
        return <uint64_t>(<int64_t>self.now_ns + self.wall_offset_ns)

    cdef int _start_timer(self, Server server, object name, double seconds, message) except -1:
        if server.number:
            server.values.encode([name, message]) # so that it can be journaled when it fires
        self._cancel_timer(server, name)
        if server.timers is None:
            server.timers = {}
        server.timers[name] = self._alarm(seconds, (server, name, message))
        if server.number:
            due_ns = self.unix_ns() + <int64_t>(min(seconds, SECONDS_MAX) * 1e9)
            server.due[name] = (due_ns, message)
        return 0

    cdef int _cancel_timer(self, Server server, object name) except -1:
        id = None if server.timers is None else server.timers.pop(name, None)
        if id is not None:
            self.cancel_alarm(id)
        if server.number:
            server.due.pop(name, None)
        return 0

    cdef int _cancel_idle(self, Server server) except -1:
        if server.idle_timer:
            self.cancel_alarm(server.idle_timer)
            server.idle_timer = 0
            server.idle_s = 0
        return 0

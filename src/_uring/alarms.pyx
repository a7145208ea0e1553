# cython: language_level=3, binding=True
"""Timers as servers and the runtime use them, over the wheel.

An Alarm says what to do when it fires: a function, a server's timer or a caller whose time is up.
A server's timers have names; starting one again replaces it.

Alarms live in slots, and the wheel is told the slot. A slot is free again only when its alarm has
been taken out to be handled, or was cancelled; the wheel's own nodes are free earlier, as soon as
they are due. So an alarm that is due finds in its slot itself, or by its id that it was cancelled.

Does not know: what firing means (dispatch.pyx, `alarm_fired`).
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from .asked cimport Asked
from .leaves cimport token_make, wheel_cancel, wheel_start
from .replies cimport Replies
from .requests cimport Requests
from .servers cimport Alarm, Server

from pybehave.errors import LoopClosed

cdef uint64_t NS_PER_MS = 1_000_000
cdef unsigned OP_ALARM = 0x80           # a token's kind: not a connection's
cdef double SECONDS_MAX = 3.2e9         # a century is as good as for ever


# Not final: the Dispatcher is the rest of it.
cdef class Alarms(Replies):
    """Alarms by slot, timers by server and name."""

    def __cinit__(self):
        self.alarms = []
        self.free_slot = -1

    cdef Alarm _alarm(self, double seconds, object owner, object name, object message):
        cdef Alarm alarm = Alarm.__new__(Alarm)
        cdef uint64_t deadline_ms
        cdef Py_ssize_t slot = self.free_slot
        if not seconds >= 0:
            raise ValueError(f"a timer needs seconds >= 0, got {seconds}")
        if self.wheel == NULL:
            raise LoopClosed()
        seconds = min(seconds, SECONDS_MAX)
        # Rounded up: a timer is never early.
        deadline_ms = <uint64_t>((self.now_ns + seconds * 1e9 + (NS_PER_MS - 1)) / NS_PER_MS)
        alarm.owner = owner
        alarm.name = name
        alarm.message = message
        if slot < 0:
            slot = len(self.alarms)
            self.alarms.append(alarm)
        else:
            self.free_slot = self.alarms[slot]
            self.alarms[slot] = alarm
        alarm.slot = <uint32_t>slot
        alarm.id = wheel_start(self.wheel, deadline_ms, token_make(OP_ALARM, 0, alarm.slot))
        if alarm.id == 0:
            self._release(alarm)
            raise MemoryError
        return alarm

    cdef Alarm _due_alarm(self, uint32_t slot, uint64_t id):
        """Take out the alarm that is due; None when it was cancelled meanwhile."""
        found = self.alarms[slot]
        if type(found) is not Alarm or (<Alarm>found).id != id:
            return None
        self._release(found)
        return found

    cdef int _release(self, Alarm alarm) except -1:
        assert self.alarms[alarm.slot] is alarm
        self.alarms[alarm.slot] = self.free_slot
        self.free_slot = alarm.slot
        alarm.id = 0
        return 0

    def start_alarm(self, double seconds, function) -> Alarm:
        """Call `function()` on the loop after so many seconds; what it returns cancels it."""
        return self._alarm(seconds, function, None, None)

    cpdef bint cancel_alarm(self, Alarm alarm) except -1:
        """Whether the alarm was armed; then it never comes. None is no alarm."""
        cdef uint64_t id
        if alarm is None or alarm.id == 0:
            return False
        id = alarm.id
        self._release(alarm)
        if self.wheel == NULL: # it went with its loop
            return False
        wheel_cancel(self.wheel, id) # 0: it is due in this very tick, and finds its slot empty
        return True

    cdef int _start_timer(self, Server server, object name, double seconds, message) except -1:
        self._cancel_timer(server, name)
        server.add_timer(self._alarm(seconds, server, name, message))
        if server.number:
            due_ns = self.unix_ns() + <int64_t>(min(seconds, SECONDS_MAX) * 1e9)
            server.ledger.due[name] = (due_ns, message)
        return 0

    def revive(self, Server server, state, dict due, double idle_s,
               Requests requests=None, Asked asked=None) -> None:
        """A journaled server goes on: its state, its timers by their Unix times, its idle time.

        Call before `begin`; a timer whose time has passed fires at once.
        """
        server.state = state
        server.take_requests(requests)
        server.take_asked(asked)
        for name, (due_ns, message) in due.items():
            seconds = max(0.0, (<double>due_ns - <double>self.unix_ns()) / 1e9)
            self._start_timer(server, name, seconds, message)
            server.ledger.due[name] = (due_ns, message)
        if idle_s > 0:
            server.extra().idle_timer = self._alarm(idle_s, server, None, None)
            server.extras.idle_s = idle_s

    cdef int _cancel_timer(self, Server server, object name) except -1:
        self.cancel_alarm(server.pop_timer(name))
        if server.number:
            server.ledger.due.pop(name, None)
        return 0

    cdef int _cancel_idle(self, Server server) except -1:
        if server.has_idle_timer():
            self.cancel_alarm(server.extras.idle_timer)
            server.extras.idle_timer = None
            server.extras.idle_s = 0
        return 0

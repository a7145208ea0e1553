# cython: language_level=3, binding=True
"""Names and those who answer to them: addresses, ports, server incarnations. Data, no behaviour.

What happens to them is in dispatch.pyx.
"""

cimport cython

from .asked cimport Asked
from .requests cimport Requests

import collections

from pybehave import actions as _actions
from pybehave.errors import Timeout

cdef object deque = collections.deque
cdef frozenset ASKING = frozenset((
    _actions.Call, _actions.Connect, _actions.Monitor, _actions.Link))


@cython.final
cdef class Address:
    """A name, and who answers to it now."""

    def __repr__(self) -> str:
        return f"<Address {self.name} incarnation={self.incarnation}>"


@cython.final
cdef class Port:
    """Where connections come from: a listener, or one outbound connect."""

    def __repr__(self) -> str:
        return f"<Port {self.url}>"


@cython.final
@cython.auto_pickle(False)
@cython.freelist(64)
cdef class Alarm:
    """What is to happen at a time: a server's timer, the end of a caller's wait, or a function.

    It names one start: what is started again in its place is another one.
    """


@cython.final
cdef class Callbacks:
    """The callbacks of one class, shared by all servers of it."""


@cython.final
cdef class Server:
    """One incarnation of a named server: its instance, state and mailbox."""

    @property
    def mailbox_count(self) -> int:
        """Inputs that wait."""
        return self.mail_count()

    @property
    def timers_count(self) -> int:
        """Timers armed."""
        return len(self.all_timers())

    @property
    def callers_count(self) -> int:
        """Callers whose reply was put off."""
        return 0 if self.waiting is None else len(self.waiting)

    @property
    def is_full(self) -> bool:
        """Whether the mailbox is at its capacity."""
        return self.mail_count() >= self.capacity

    cdef object mail(self):
        """The mailbox, to put something in."""
        if self.mailbox is None:
            self.mailbox = deque()
        return self.mailbox

    cdef Py_ssize_t mail_count(self):
        return 0 if self.mailbox is None else len(self.mailbox)

    cdef int owes_not(self, object caller) except -1:
        """The caller has been answered."""
        if self.waiting is not None:
            self.waiting.discard(caller)
        return 0

    cdef Alarm timer(self, object name):
        """The timer of that name that runs, or whose expiry waits; or None."""
        cdef object timers = self.timers
        if timers is None:
            return None
        if type(timers) is dict:
            return (<dict>timers).get(name)
        return timers if (<Alarm>timers).name is name or (<Alarm>timers).name == name else None

    cdef int add_timer(self, Alarm alarm) except -1:
        """Keep a timer; none of its name is there."""
        cdef object timers = self.timers
        if timers is None:
            self.timers = alarm # a dict is three times as large, and most servers have one timer
        elif type(timers) is dict:
            timers[alarm.name] = alarm
        else:
            self.timers = {(<Alarm>timers).name: timers, alarm.name: alarm}
        return 0

    cdef Alarm pop_timer(self, object name):
        """Forget the timer of that name; returns it, or None."""
        cdef Alarm found = self.timer(name)
        if found is None:
            return None
        if type(self.timers) is dict and len(<dict>self.timers) > 1:
            del (<dict>self.timers)[name]
        else:
            self.timers = None
        return found

    cdef bint is_suspended(self):
        return self.control is not None and self.control.is_suspended

    cdef list all_timers(self):
        if self.timers is None:
            return []
        return list((<dict>self.timers).values()) if type(self.timers) is dict else [self.timers]

    def replace_state(self, state) -> None:
        """Put another state in place (introspection; not an input)."""
        self.state = state

    def random_state(self):
        """The state of `context.random`, or None when it was not used yet."""
        generator = self.instance.context.generator_now()
        return None if generator is None else generator.getstate()

    def go_on(self, Server before) -> None:
        """Take over state and timers of the incarnation before (replay)."""
        self.state = before.state
        self.due.update(before.due)
        self.idle_s = before.idle_s
        self.take_requests(before.requests)
        self.asked = before.asked

    cdef int note(self, object action) except -1:
        """A journaled server's action is about to be carried out."""
        if self.asked is None:
            if type(action) not in ASKING:
                return 0
            self.asked = Asked.__new__(Asked)
        return self.asked.note(action)

    def take_asked(self, Asked asked) -> None:
        """Go on with what the incarnation before had asked for."""
        self.asked = asked

    cdef Requests requests_made(self):
        """Its table of named requests, made when the first one comes."""
        if self.requests is None:
            self.requests = Requests.__new__(Requests)
        return self.requests

    def take_requests(self, Requests requests) -> None:
        """Go on with a table; what was owed by whoever had it is lost."""
        if requests is not None:
            requests.lose_pending()
            self.requests = requests

    def load_requests(self, list dumped) -> None:
        """Go on with the table of a snapshot."""
        if dumped:
            self.requests_made().load(dumped)

    def __repr__(self) -> str:
        return f"<Server {self.name} incarnation={self.incarnation} running={self.is_running}>"


@cython.final
cdef class Asleep:
    """In place of a state that is not in memory: where it is (runtime/hibernation.py)."""

    def __init__(self, at, size):
        self.at = at
        self.size = size


@cython.final
cdef class Control:
    """What system requests have set for one incarnation (system.pyx)."""

    def __cinit__(self):
        self.paused = []
        self.blocked = []


@cython.final
cdef class Answer:
    """Where a call on the loop's own thread finds its reply."""

    def settle(self, value, error):
        self.value = value
        self.error = error
        self.is_settled = True

    cdef object take(self, str name):
        if not self.is_settled:
            raise Timeout(name, 0.0)
        if self.error is not None:
            raise self.error
        return self.value

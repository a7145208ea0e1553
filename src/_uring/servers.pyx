# cython: language_level=3, binding=True
"""Names and those who answer to them: addresses, ports, server incarnations. Data, no behaviour.

What happens to them is in dispatch.pyx.
"""

cimport cython

from libc.stdint cimport int64_t, uint64_t

from .asked cimport Asked
from .requests cimport Request, Requests

import collections
import random

from pybehave import actions as _actions
from pybehave.errors import Timeout

cdef object deque = collections.deque
cdef frozenset ASKING = frozenset((
    _actions.Call, _actions.Connect, _actions.Monitor, _actions.Link))


# Not final: the Dispatcher is the rest of it.
cdef class Present:
    """The input that is being stepped, as its server may ask of it. Base of the Dispatcher."""

    cdef uint64_t unix_ns(self):
        """Unix time of the input."""
        return <uint64_t>(<int64_t>self.now_ns + self.wall_offset_ns)

    cdef object caller_for(self, Server server):
        """The caller of the input, if it is that server's; else None."""
        raise NotImplementedError

    cdef object connection_for(self, Server server):
        """The connection that the input came from, if it is that server's; else None."""
        raise NotImplementedError


@cython.final
cdef class Address:
    """A name, and who answers to it now."""

    def __repr__(self) -> str:
        return f"<Address {self.name} incarnation={self.incarnation}>"


@cython.final
cdef class Port:
    """Where connections come from: a listener, or one outbound connect."""

    def speak(self, edge) -> None:
        """From now on the server takes and gives messages of this edge's version."""
        self.edge = edge
        self.version = edge.version
        self.is_asking = edge.declares is not None or self.contract is not None

    def agree(self, contract) -> None:
        """From now on this contract says what may be said; None: anything may."""
        self.contract = contract
        self.is_direct = contract is None
        self.speak(self.edge)

    def greet(self) -> None:
        """New connections speak what the edge says, from now on."""
        self.greeting = self.edge.greeting

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
cdef class Kind:
    """What all servers of one class have in common that have the same settings."""


@cython.final
cdef class Ledger:
    """What only a journaled server has."""


@cython.final
cdef class Extras:
    """What a server has once it has needed it; most of a hundred thousand never do."""


@cython.final
cdef class Server:
    """One incarnation of a named server: its instance, state and mailbox.

    It is its own instance's `context` (decision 0023): one object less for each server. All that a
    callback may ask there belongs to the input, so that a journaled input can be stepped again and
    finds the same.
    """

    @property
    def is_running(self) -> bool:
        """Whether it answers to its name."""
        return self.runs != 0

    @property
    def began(self) -> float:
        """When it began to, whole monotonic seconds of its loop; 0 before that."""
        return self.began_s

    @property
    def now(self) -> float:
        """Unix time of the current input, seconds."""
        return self.kind.present.unix_ns() / 1e9

    @property
    def monotonic(self) -> float:
        """Monotonic time of the current input, seconds from an arbitrary point.

        For a journaled server that is `now`: its inputs' times never go back.
        """
        return (self.kind.present.unix_ns() if self.number else self.kind.present.now_ns) / 1e9

    @property
    def random(self):
        """A `random.Random` of this incarnation, seeded by the node's seed and its own name."""
        cdef Extras extras = self.extra()
        if extras.generator is None:
            extras.generator = random.Random(self._seed())
        return extras.generator

    cdef str _seed(self):
        own = f"/{self.inputs}" if self.kind.present.is_passing else "" # it draws from another
        return f"{self.kind.present.seed}/{self.name}/{self.incarnation}{own}"

    @property
    def caller(self):
        """Who waits for the reply to the current input, or None. Keep it to reply later."""
        return self.kind.present.caller_for(self)

    @property
    def connection(self):
        """The connection the current input came from, or None."""
        return self.kind.present.connection_for(self)

    @property
    def capacity(self) -> int:
        """Inputs that its mailbox takes."""
        return self.kind.capacity

    @property
    def overflow(self) -> int:
        """What becomes of inputs beyond that: OVERFLOW_."""
        return self.kind.overflow

    @property
    def values(self):
        """What encodes its inputs, of a journaled one; else None."""
        return self.encoder()

    @property
    def due(self):
        """Timers of a journaled one: name -> (Unix time ns, message); else None."""
        return None if self.ledger is None else self.ledger.due

    @property
    def asked(self):
        """What a journaled one waits to hear of; None = nothing yet."""
        return None if self.ledger is None else self.ledger.asked

    @property
    def failed_lsn(self) -> int:
        """Of the input that a journaled one failed on; 0 = none."""
        return 0 if self.ledger is None else self.ledger.failed_lsn

    @property
    def idle_s(self) -> float:
        """Of its idle timer; 0 = not armed."""
        return 0.0 if self.extras is None else self.extras.idle_s

    @property
    def requests(self):
        """The table of clients that name their requests; None until the first does."""
        return None if self.extras is None else self.extras.requests

    @property
    def control(self):
        """What system requests have set; nearly always None."""
        return None if self.extras is None else self.extras.control

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
        return 0 if self.extras is None or self.extras.waiting is None \
            else len(self.extras.waiting)

    @property
    def is_full(self) -> bool:
        """Whether the mailbox is at its capacity."""
        return self.mail_count() >= self.kind.capacity

    cdef str crash_id(self):
        """What a crash in its latest input is called."""
        return f"{self.name}-{self.incarnation}-{self.inputs}"

    cdef object mail(self):
        """The mailbox, to put something in."""
        if self.mailbox is None:
            self.mailbox = deque()
        return self.mailbox

    cdef bint has_inputs(self):
        """Whether something waits that will be stepped."""
        for item in self.mailbox or ():
            if item[0] != INPUT_SYSTEM:
                return True
        return False

    cdef Py_ssize_t mail_count(self):
        if self.mailbox is None:
            return 0
        return len(self.mailbox) - (0 if self.extras is None else self.extras.asked)

    cdef int owes_not(self, object caller) except -1:
        """The caller has been answered."""
        if self.extras is not None and self.extras.waiting is not None:
            self.extras.waiting.discard(caller)
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
        return self.has_control() and self.extras.control.is_suspended

    cdef list all_timers(self):
        if self.timers is None:
            return []
        return list((<dict>self.timers).values()) if type(self.timers) is dict else [self.timers]

    def replace_state(self, state) -> None:
        """Put another state in place (introspection; not an input)."""
        self.state = state

    def random_state(self):
        """The state of `context.random`, or None when it was not used yet."""
        generator = None if self.extras is None else self.extras.generator
        return None if generator is None else generator.getstate()

    def draw_from(self, state) -> None:
        """Let `context.random` go on from a random_state; None = from where an incarnation begins.

        It is the same object as before: an instance may have kept it.
        """
        if state is not None:
            self.random.setstate(state)
        elif self.extras is not None and self.extras.generator is not None:
            self.extras.generator.seed(self._seed())

    def go_on(self, Server before) -> None:
        """Take over state and timers of the incarnation before (replay)."""
        self.state = before.state
        self.ledger.due.update(before.ledger.due)
        self.ledger.asked = before.ledger.asked
        if before.extras is not None:
            self.extra().idle_s = before.extras.idle_s
            self.take_requests(before.extras.requests)
        if before.incarnation == self.incarnation: # with other code: it goes on drawing
            self.draw_from(before.random_state())

    cdef int note(self, object action) except -1:
        """A journaled server's action is about to be carried out."""
        if self.ledger.asked is None:
            if type(action) not in ASKING:
                return 0
            self.ledger.asked = Asked.__new__(Asked)
        return self.ledger.asked.note(action)

    def take_asked(self, Asked asked) -> None:
        """Go on with what the incarnation before had asked for."""
        self.ledger.asked = asked

    cdef Requests requests_made(self):
        """Its table of named requests, made when the first one comes."""
        cdef Extras extras = self.extra()
        if extras.requests is None:
            extras.requests = Requests.__new__(Requests)
        return extras.requests

    cdef Request request_named(self, tuple named):
        """The request of a (client, number), if it waits for its reply; else None."""
        if self.extras is None or self.extras.requests is None:
            return None
        return self.extras.requests.pending(named[0], named[1])

    def take_requests(self, Requests requests) -> None:
        """Go on with a table; what was owed by whoever had it is lost."""
        if requests is not None:
            requests.lose_pending()
            self.extra().requests = requests

    def load_requests(self, list dumped) -> None:
        """Go on with the table of a snapshot."""
        if dumped:
            self.requests_made().load(dumped)

    def __repr__(self) -> str:
        return f"<Server {self.name} incarnation={self.incarnation} running={self.is_running}>"


@cython.final
cdef class Asleep:
    """In place of a state that is not in memory: where it is (durable/hibernation.py)."""

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

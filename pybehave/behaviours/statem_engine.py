"""One turn of a state machine: an event from outside, and all that follows from it within.

Theory. An event from outside (a call, a cast, an info, an expiry) is handled by a state callback;
what the callback inserts, what a change of state lets try again, and time-outs of zero follow,
until nothing is left inside. Only then is the next event from outside taken. All of it is one step
of the server that carries the machine: it is journaled as one input, and if a callback raises, the
whole turn has not happened.

    take       the queue's first event; none: the first zero time-out; none: the turn is over
    call       the state callback; its result and its actions
    enter      with state enter calls on, if the state changed or is repeated: the callback again,
               with "enter" and the state that was left; its actions join the event's
    settle     postponed; queue = inserted, then (after a change) all postponed, then the rest;
               the event time-out is gone, after a change the state time-out too; new ones start

Invariants
  (M1) A machine is a value: a turn makes a new one, the old one is untouched (unless callbacks
       change the data in place).
  (M2) Replies are in the order of the callbacks; in a turn that stops they leave before terminate.
  (M3) Of postpone and of each time-out the last one asked in a transition counts; inserted events
       keep their order.
  (M4) A state is another one if its type or its value is (OTP: strict inequality).
  (M5) A running time-out is in `timeouts` exactly as long as its timer is started; its content is
       the machine's, so an update touches no timer. Timers are asked for before all else of the
       turn, so that an action that fails takes no time-out with it.
  (M6) A turn ends: more than `EVENTS_MAX` events in it are an error.

Does not know: mailboxes, timers, journals, supervisors.
Source: OTP stdlib, gen_statem: loop_state_callback_result, loop_state_transition, loop_timeouts.
Differs: a zero time-out that is started again with a time keeps its type (OTP 25 loses it); the
replies of a turn leave together with its other effects, when the turn is over; a loop of inserted
events or of repeated state enter calls crashes the machine instead of running for ever.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Final, final

from msgspec import Struct

from pybehave import actions as _actions
from pybehave import statem
from pybehave.actions import Action, CancelTimer, Reply, StartTimer
from pybehave.behaviours.class_names import name_of
from pybehave.errors import BadReturn, EndlessTurn, show

Event = tuple[Any, Any]
"""Type and content."""

ENTERS_MAX: Final = 1000
"""More repetitions of one state enter call than this are a loop that never ends."""

EVENTS_MAX: Final = 1_000_000
"""So are more events than this in one turn: it holds up the loop for a second or two."""

MINE: Final = "$statem"
"""Marks the timer messages that are time-outs of a machine."""

RESULTS: Final = "return a result of pybehave.statem, as NextState(state, data, actions)"
ACTIONS: Final = (
    "actions are one or a list of those in pybehave.statem and pybehave.actions, Reply for example"
)


ALONE: Final[dict[Any, tuple[Any, None]]] = {
    "state_timeout": ("state_timeout", None),
    "timeout": ("timeout", None),
}
"""One time-out without content, as most machines that wait have it: the same object for all of
them, 56 bytes less each."""


@final
class Machine(Struct, frozen=True):
    """A machine between two turns.

    Attributes:
        state: Where it is.
        data: What it knows.
        postponed: Events to be tried again after a change of state, oldest first.
        running: Types of the events that running time-outs will bring, each followed by its
            content. A flat tuple: it is a third of a dict for the one that most machines have.
        modules: The classes of the stack, the current one last; empty = the server's own alone.
    """

    state: Any
    data: Any
    postponed: tuple[Event, ...] = ()
    running: tuple[Any, ...] = ()
    modules: tuple[type, ...] = ()

    @property
    def timeouts(self) -> dict[Any, Any]:
        """The contents of the time-outs that run, by the type of the event they bring."""
        return as_dict(self.running)


@final
class Held(Struct, frozen=True):
    """What a machine holds beside its state and data (OTP, gen_statem:format_status/1).

    Attributes:
        postponed: Events to be tried again after a change of state, oldest first: type, content.
        timeouts: The contents of those that run, by the type of the event they bring.
        modules: The names of the callback modules' classes, the current one last.
    """

    postponed: tuple[Event, ...]
    timeouts: dict[Any, Any]
    modules: tuple[str, ...]


def held_by(kind: type, kept: object) -> Held | None:
    """Return what a server holds beside its state; None where it is no machine, or not begun.

    Args:
        kind: Its class.
        kept: What the runtime keeps for it.
    """
    if not isinstance(kept, Machine):
        return None
    modules = tuple(map(name_of, kept.modules or (kind,)))
    return Held(kept.postponed, kept.timeouts, modules)


def as_dict(running: tuple[Any, ...]) -> dict[Any, Any]:
    """Return time-outs as they are worked with.

    Args:
        running: As in a Machine.
    """
    if len(running) == 2:
        return {running[0]: running[1]}
    return dict(zip(running[::2], running[1::2], strict=True))


def as_tuple(timeouts: dict[Any, Any]) -> tuple[Any, ...]:
    """Return time-outs as a Machine keeps them."""
    if len(timeouts) == 1:
        return _alone(*next(iter(timeouts.items())))
    return tuple(chain.from_iterable(timeouts.items()))


def _alone(key: Any, content: Any) -> tuple[Any, Any]:
    return ALONE.get(key) or (key, content) if content is None else (key, content)


def plain_start(state: Any, data: Any, actions: Any) -> tuple[Machine, tuple[Action, ...]] | None:
    """Return what most machines begin as, with their timers: one time-out is asked for, or nothing.

    A Turn would come to the same in three times the time, which a hundred thousand notice. Only for
    machines whose first state has no enter call.

    Args:
        state: Where it begins.
        data: What it knows then.
        actions: What its init has asked for.

    Returns:
        None when more is to be done than this; then nothing is.
    """
    if actions is None:
        return Machine(state, data), ()
    if type(actions) not in _TIMED or actions.absolute:
        return None
    seconds = actions.seconds
    if seconds is None or seconds is statem.UPDATE or not 0 < seconds < INFINITY:
        return None
    key = actions.key
    name = _NAMES.get(key) or (MINE, key)
    running = _alone(key, actions.content)
    return Machine(state, data, (), running), (StartTimer(name, seconds, name),)


@final
class Turn:
    """One turn. Make it, `run` it, take `machine`, `timers` and `out`.

    Args:
        server: Whose callbacks are called.
        machine: As it is before.

    Attributes:
        state: Where the machine is now.
        data: What it knows now.
        timers: What becomes of its timers, in order.
        out: The other actions for the server, in order.
        stop: The result that ends the machine, or None.
    """

    __slots__ = (
        "_asked", "_current", "_inserted", "_is_postponed", "_is_repeated", "_modules",
        "_postponed", "_running", "_server", "_stack", "_zero", "data", "out", "state", "stop",
        "timers",
    )  # fmt: skip

    def __init__(self, server: Any, machine: Machine) -> None:
        self._server = server
        self._modules = modules = machine.modules
        self._current = server._current(modules) if modules else server
        self.state = machine.state
        self.data = machine.data
        self._postponed: Any = machine.postponed  # a list once this turn adds to it
        self._running = as_dict(machine.running) if machine.running else {}
        self._stack: list[Event] = []  # the queue, its first event last
        self._zero: list[Any] = []
        self._inserted: list[Event] = []
        self._asked: dict[Any, Any] = {}
        self._is_postponed = self._is_repeated = False
        self.timers: list[Action] = []
        self.out: list[Any] = []
        self.stop: statem.Stop | None = None

    def machine(self) -> Machine:
        """Return the machine as it is now."""
        running, postponed = self._running, self._postponed
        if not running and not postponed and not self._modules:
            return Machine(self.state, self.data)
        return Machine(
            self.state,
            self.data,
            tuple(postponed),
            as_tuple(running) if running else (),
            self._modules,
        )

    # --- the loop ------------------------------------------------------------------------------

    def begin(self, actions: Any) -> None:
        """Do what init asked for: enter the first state, then whatever is inside."""
        if actions is not None:
            self._take_actions(actions)
        self._is_postponed = False  # there is no event yet
        if self._current.state_enter and not self._enter(self.state):
            return
        self._settle(None, is_change=False)
        self._drain()

    def run(self, event: Event) -> None:
        """Handle an event from outside, and all that follows."""
        self.go_on(event, self._current._call(event[0], event[1], self.state, self.data))

    def go_on(self, event: Event, result: Any) -> None:
        """Go on from the result that the callback gave for an event from outside."""
        self._handle(event, result)
        if self._stack or self._zero:
            self._drain()

    def expired(self, key: Any) -> None:
        """Handle the expiry of a time-out, if it still runs."""
        if key in self._running:
            self.run((key, self._running.pop(key)))

    def _drain(self) -> None:
        for _ in range(EVENTS_MAX):
            if self.stop is not None:
                return
            if self._stack:
                event = self._stack.pop()
            elif self._zero:
                key = self._zero.pop(0)
                event = (key, self._running.pop(key))
            else:
                return
            self._handle(event, self._current._call(event[0], event[1], self.state, self.data))
        raise self._endless("inserted events and time-outs of zero were handled", EVENTS_MAX)

    def _handle(self, event: Event, result: Any) -> None:
        old = self.state
        self._is_repeated = False
        if not self._take_result(result):
            return
        new = self.state
        is_change = new is not old and (type(old) is not type(new) or old != new)  # (M4)
        if (is_change or self._is_repeated) and self._current.state_enter and not self._enter(old):
            return
        self._settle(event, is_change=is_change)

    # --- results -------------------------------------------------------------------------------

    def _take_result(self, result: Any) -> bool:
        """Take a result's state, data and actions; False: the machine stops."""
        kind, modules = type(result), self._modules
        if kind is statem.NextState:
            self.state = result.state
            self.data = result.data
        elif kind is statem.KeepState:
            self.data = result.data
        elif kind is statem.RepeatState:
            self.data = result.data
            self._is_repeated = True
        elif kind is statem.RepeatStateAndData:
            self._is_repeated = True
        elif kind is not statem.KeepStateAndData:
            self._take_stop(result)
            return False
        if result.actions is not None:
            self._take_actions(result.actions)
        if kind is statem.NextState or self._modules is not modules:  # it is the new module's state
            self._current._check_state(self.state)
        return True

    def _take_stop(self, result: Any) -> None:
        if type(result) is _actions.Stop:
            result = statem.Stop(result.reason)
        if type(result) is not statem.Stop:
            raise self._bad(result, RESULTS)
        if result.data is not statem.SAME:
            self.data = result.data
        for reply in _listed(result.replies):
            if type(reply) is not Reply:
                raise self._bad(reply, "the replies of a Stop are Reply actions, nothing else")
            self.out.append(reply)
        self.stop = result

    def _enter(self, old: Any) -> bool:
        """Call the state's enter, again as long as it asks for that; False: the machine stops.

        Args:
            old: The state that was left; the same one at every repetition.
        """
        for _ in range(ENTERS_MAX):
            result = self._current._call("enter", old, self.state, self.data)
            if type(result) is statem.NextState and _differs(self.state, result.state):
                raise self._bad(result, "a state enter call cannot change the state")
            for action in _listed(getattr(result, "actions", None)):
                if type(action) in _NOT_IN_ENTER:
                    raise self._bad(action, f"a state enter call has no {type(action).__name__}")
            self._is_repeated = False
            if not self._take_result(result):
                return False
            if not self._is_repeated:
                return True
        raise self._endless("its state enter call was repeated", ENTERS_MAX)

    # --- actions -------------------------------------------------------------------------------

    def _take_actions(self, actions: Any) -> None:
        for action in _listed(actions):
            kind = type(action)
            if kind is Reply:
                self.out.append(action)
            elif kind in _TIMED:
                self._asked.pop(action.key, None)  # the last one counts, in its place (M3)
                self._asked[action.key] = action
            elif kind is statem.NextEvent:
                self._inserted.append((action.event_type, action.content))
            elif kind is statem.Postpone:
                self._is_postponed = action.wanted
            elif kind in _MODULES:
                self._change_module(action)
            elif kind in _INSTEAD:
                raise self._bad(action, _INSTEAD[kind])
            elif isinstance(action, Action):
                self.out.append(action)
            elif kind in (int, float):
                self._take_actions(statem.EventTimeout(action, action))
            else:
                raise self._bad(action, ACTIONS)

    def _change_module(self, action: Any) -> None:
        stack = self._modules or (type(self._server),)
        if type(action) is statem.PopCallbackModule:
            if len(stack) == 1:
                raise self._bad(action, "there is no module to go back to")
            stack = stack[:-1]
        elif not self._server._is_module(action.module):
            raise self._bad(action, "a callback module is a GenStatem class")
        elif type(action) is statem.ChangeCallbackModule:
            stack = (*stack[:-1], action.module)
        else:
            stack = (*stack, action.module)
        self._modules = stack
        self._current = self._server._current(stack)

    # --- after the callbacks -------------------------------------------------------------------

    def _settle(self, event: Event | None, *, is_change: bool) -> None:
        if self._is_postponed:
            self._is_postponed = False
            if type(self._postponed) is tuple:
                self._postponed = list(self._postponed)
            self._postponed.append(event)
        if is_change and self._postponed:
            self._stack.extend(reversed(self._postponed))
            self._postponed = ()
        if self._inserted:
            self._stack.extend(reversed(self._inserted))
            self._inserted.clear()
        if self._running:
            self._cancel("timeout")
            if is_change:
                self._cancel("state_timeout")
        if self._asked:
            for key, action in self._asked.items():
                self._start(key, action)
            self._asked.clear()

    def _cancel(self, key: Any) -> None:
        if key not in self._running:
            return
        del self._running[key]
        if key in self._zero:
            self._zero.remove(key)
        else:
            self.timers.append(CancelTimer(_NAMES.get(key) or (MINE, key)))

    def _start(self, key: Any, action: Any) -> None:
        seconds = action.seconds
        if seconds is statem.UPDATE:
            if key in self._running:
                self._running[key] = action.content
                return
            seconds = 0
        if seconds is None or seconds == INFINITY:
            self._cancel(key)
            return
        if action.absolute:
            seconds = max(0.0, seconds - self._server.context.monotonic)
        if seconds == 0 or key in self._zero:  # else the timer of the same name is replaced
            self._cancel(key)
        self._running[key] = action.content
        if seconds == 0:
            self._zero.append(key)
        else:
            name = _NAMES.get(key) or (MINE, key)
            self.timers.append(StartTimer(name, seconds, name))

    # --- errors --------------------------------------------------------------------------------

    def _bad(self, value: Any, allowed: str) -> BadReturn:
        callback = f"the callback of state {show(self.state)}"
        return BadReturn(self._server._name(), callback, value, allowed)

    def _endless(self, what: str, limit: int) -> EndlessTurn:
        return EndlessTurn(self._server._name(), f"in state {show(self.state)} {what}", limit)


INFINITY: Final = float("inf")
_TIMED: Final = frozenset({statem.StateTimeout, statem.EventTimeout, statem.Timeout})
_MODULES: Final = frozenset(
    {statem.ChangeCallbackModule, statem.PushCallbackModule, statem.PopCallbackModule}
)
_NOT_IN_ENTER: Final = _MODULES | {statem.Postpone, statem.NextEvent}
_INSTEAD: Final[dict[type, str]] = {
    _actions.Stop: "a machine ends with the result Stop(reason), it is no action here",
    _actions.Continue: 'a machine goes on with NextEvent("internal", term)',
}
_NAMES: Final = {key: (MINE, key) for key in ("state_timeout", "timeout")}
"""The timers' names of which there is one a machine; shared by all machines."""


def _differs(old: Any, new: Any) -> bool:
    return old is not new and (type(old) is not type(new) or bool(old != new))


def _listed(actions: Any) -> Any:
    if isinstance(actions, list | tuple):
        return actions
    return () if actions is None else (actions,)

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
       the machine's, so an update touches no timer.

Does not know: mailboxes, timers, journals, supervisors.
Source: OTP stdlib, gen_statem: loop_state_callback_result, loop_state_transition, loop_timeouts.
Differs: a zero time-out that is started again with a time keeps its type (OTP 25 loses it); the
replies of a turn leave together with its other effects, when the turn is over.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, final

from msgspec import Struct

from pybehave import actions as _actions
from pybehave import statem
from pybehave.actions import Action, Reply
from pybehave.errors import BadReturn, show

Event = tuple[Any, Any]
"""Type and content."""

ENTERS_MAX: Final = 1000
"""More repetitions of one state enter call than this are a loop that never ends."""

NO_TIMEOUTS: Final[dict[Any, Any]] = {}
MINE: Final = "$statem"
"""Marks the timer messages that are time-outs of a machine."""


@final
class Machine(Struct, frozen=True):
    """A machine between two turns.

    Attributes:
        state: Where it is.
        data: What it knows.
        postponed: Events to be tried again after a change of state, oldest first.
        timeouts: The contents of those that run, by the type of the event they bring.
        modules: The classes of the stack, the current one last; empty = the server's own alone.
    """

    state: Any
    data: Any
    postponed: tuple[Event, ...] = ()
    timeouts: dict[Any, Any] = NO_TIMEOUTS
    modules: tuple[type, ...] = ()


class _Stop(Exception):  # noqa: N818 -- not an error
    """A callback asked to stop."""


def differs(old: Any, new: Any) -> bool:
    """Say whether two states are different ones (M4)."""
    return old is not new and (type(old) is not type(new) or old != new)


@final
class Turn:
    """One turn. Make it, `run` it, take `machine` and `out`.

    Args:
        server: Whose callbacks are called.
        machine: As it is before.
    """

    __slots__ = (
        "_asked", "_event", "_inserted", "_is_postponed", "_is_repeated", "_modules", "_old",
        "_postponed", "_queue", "_running", "_server", "_zero", "data", "out", "state", "stop",
    )  # fmt: skip

    def __init__(self, server: Any, machine: Machine) -> None:
        self._server = server
        self.state, self.data = machine.state, machine.data
        self._postponed = list(machine.postponed)
        self._running = dict(machine.timeouts)
        self._modules = machine.modules
        self._queue: deque[Event] = deque()
        self._zero: list[Any] = []
        self._inserted: list[Event] = []
        self._asked: dict[Any, Any] = {}
        self._event: Event | None = None
        self._is_postponed = self._is_repeated = False
        self._old: Any = None
        self.out: list[Any] = []
        self.stop: statem.Stop | None = None

    def machine(self) -> Machine:
        """Return the machine as it is now."""
        return Machine(
            self.state,
            self.data,
            tuple(self._postponed),
            self._running or NO_TIMEOUTS,
            self._modules,
        )

    # --- the loop ------------------------------------------------------------------------------

    def begin(self, actions: Any) -> None:
        """Do what init asked for: enter the first state, then whatever is inside."""
        self._old = self.state
        self._take_actions(actions, is_init=True)
        if self._server._current(self._modules).state_enter:
            try:
                self._enter()
            except _Stop:
                return
        self._settle(is_change=False)
        self._drain()

    def run(self, event: Event) -> None:
        """Handle an event from outside, and all that follows."""
        self._queue.append(event)
        self._drain()

    def expired(self, key: Any) -> None:
        """Handle the expiry of a time-out, if it still runs."""
        if key in self._running:
            self._queue.append((key, self._running.pop(key)))
            self._drain()

    def _drain(self) -> None:
        while self.stop is None:
            if self._queue:
                event = self._queue.popleft()
            elif self._zero:
                key = self._zero.pop(0)
                event = (key, self._running.pop(key))
            else:
                return
            self._handle(event, self._call(event[0], event[1]))

    def go_on(self, event: Event, result: Any) -> None:
        """Go on from the result that the callback gave for an event from outside."""
        self._handle(event, result)
        self._drain()

    def _call(self, event_type: Any, content: Any) -> Any:
        current = self._server._current(self._modules)
        return current._call(event_type, content, self.state, self.data)

    def _handle(self, event: Event, result: Any) -> None:
        self._event = event
        self._old = self.state
        try:
            self._take_result(result)
            is_change = differs(self._old, self.state)
            if (is_change or self._is_repeated) and self._server._current(
                self._modules
            ).state_enter:
                self._enter()
        except _Stop:
            return
        self._settle(is_change=is_change)

    # --- results -------------------------------------------------------------------------------

    def _take_result(self, result: Any) -> None:
        self._is_repeated = False
        kind = type(result)
        if kind is statem.NextState:
            self._server._current(self._modules)._check_state(result.state)
            self.state, self.data = result.state, result.data
        elif kind is statem.KeepState:
            self.data = result.data
        elif kind is statem.RepeatState:
            self.data = result.data
            self._is_repeated = True
        elif kind is statem.RepeatStateAndData:
            self._is_repeated = True
        elif kind is not statem.KeepStateAndData:
            self._take_stop(result)
        if result.actions is not None:
            self._take_actions(result.actions)

    def _take_stop(self, result: Any) -> None:
        if type(result) is _actions.Stop:
            result = statem.Stop(result.reason)
        if type(result) is not statem.Stop:
            raise self._bad(result)
        if result.data is not statem.SAME:
            self.data = result.data
        for reply in result.replies:
            if type(reply) is not Reply:
                raise self._bad(reply)
            self.out.append(reply)
        self.stop = result
        raise _Stop

    def _enter(self) -> None:
        """Call the state's enter, again as long as it asks for that, with the state left first."""
        for _ in range(ENTERS_MAX):
            result = self._call("enter", self._old)
            if type(result) is statem.NextState and differs(self.state, result.state):
                raise self._bad(result, "a state enter call cannot change the state")
            self._take_enter(result)
            if not self._is_repeated:
                return
        raise self._bad(None, f"a state enter call was repeated {ENTERS_MAX} times")

    def _take_enter(self, result: Any) -> None:
        for action in _listed(getattr(result, "actions", None)):
            if isinstance(
                action,
                statem.Postpone | statem.NextEvent | statem.ChangeCallbackModule
                | statem.PushCallbackModule | statem.PopCallbackModule,
            ):  # fmt: skip
                raise self._bad(action, "a state enter call cannot do that")
        self._take_result(result)

    # --- actions -------------------------------------------------------------------------------

    def _take_actions(self, actions: Any, *, is_init: bool = False) -> None:
        for action in _listed(actions):
            kind = type(action)
            if kind in _TIMED:
                self._asked.pop(action.key, None)  # the last one counts, in its place (M3)
                self._asked[action.key] = action
            elif kind is statem.NextEvent:
                self._inserted.append((action.event_type, action.content))
            elif kind is statem.Postpone:
                self._is_postponed = action.wanted and not is_init
            elif kind in _MODULES:
                self._change_module(action)
            elif isinstance(action, Action) and kind is not _actions.Stop:
                self.out.append(action)
            elif kind in (int, float):
                self._take_actions(statem.EventTimeout(action, action))
            else:
                raise self._bad(action)

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

    # --- after the callbacks -------------------------------------------------------------------

    def _settle(self, *, is_change: bool) -> None:
        if self._is_postponed:
            assert self._event is not None
            self._postponed.append(self._event)
            self._is_postponed = False
        if is_change and self._postponed:
            self._queue.extendleft(reversed(self._postponed))
            self._postponed.clear()
        if self._inserted:
            self._queue.extendleft(reversed(self._inserted))
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
            self.out.append(_actions.CancelTimer((MINE, key)))

    def _start(self, key: Any, action: Any) -> None:
        seconds = action.seconds
        if seconds is statem.UPDATE:
            if key in self._running:
                self._running[key] = action.content
                return
            seconds = 0
        if seconds is None or seconds == float("inf"):
            self._cancel(key)
            return
        if action.absolute:
            seconds = max(0.0, seconds - self._server.context.monotonic)
        is_zero = seconds == 0
        if is_zero or key in self._zero:  # else the timer of the same name is replaced
            self._cancel(key)
        self._running[key] = action.content
        if is_zero:
            self._zero.append(key)
        else:
            self.out.append(_actions.StartTimer((MINE, key), seconds, (MINE, key)))

    def _bad(self, value: Any, why: str = "") -> BadReturn:
        error = BadReturn(self._server._name(), f"the callback of state {show(self.state)}", value)
        if why:
            error.add_note(why)
        return error


_TIMED: Final = frozenset({statem.StateTimeout, statem.EventTimeout, statem.Timeout})
_MODULES: Final = frozenset(
    {statem.ChangeCallbackModule, statem.PushCallbackModule, statem.PopCallbackModule}
)


def _listed(actions: Any) -> Any:
    if actions is None:
        return ()
    if isinstance(actions, list | tuple):
        return actions
    return (actions,)

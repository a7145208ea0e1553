"""What a state callback of a GenStatem returns: results, and the actions that only machines have.

    return statem.NextState("open", data, [statem.StateTimeout(10, "lock")])

Results say what becomes of state and data. Their actions may be those below and any of
`pybehave.actions`: `Reply` answers a caller, `Send`, `Cast`, `Call`, `Run`, ... mean what they mean
everywhere.

Invariants
  (R1) A result and an action are immutable; building one has no effect.
  (R2) Times are seconds; None and infinity cancel.

Does not know: queues, timers, how a transition goes (behaviours/statem_engine.py).
Source: OTP stdlib, gen_statem, "Action types" and "State callback results".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeAlias, final

from msgspec import Struct

from pybehave.actions import Action
from pybehave.errors import show

Actions: TypeAlias = Any
"""One action, a list or tuple of them, or None. A bare number is `EventTimeout(n, n)`: OTP."""


@final
class _Update:
    """The type of `UPDATE`, of which there is exactly one."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UPDATE"


UPDATE: Final = _Update()
"""In place of a time: keep the running deadline and change the content. One that does not run
fires at once."""

EVENT_TYPES: Final = ("internal", "cast", "info", "timeout", "state_timeout")
"""Types of events that are plain words, but for "enter", which nobody can send."""

CANCEL: Final = None
"""In place of a time: cancel the time-out, also one whose expiry waits already."""


class Result:
    """What every result derives from. Nothing else may be returned by a state callback."""

    __slots__ = ()


@final
class NextState(Result, Struct, frozen=True):
    """Go to a state, which may be the same.

    Attributes:
        state: A method's name with state functions; any hashable value with `handle_event`.
        data: The machine's data from now on.
        actions: In the order in which they are carried out.
    """

    state: Any
    data: Any
    actions: Actions = None


@final
class KeepState(Result, Struct, frozen=True):
    """Stay, with other data.

    Attributes:
        data: The machine's data from now on.
        actions: In the order in which they are carried out.
    """

    data: Any
    actions: Actions = None


@final
class KeepStateAndData(Result, Struct, frozen=True):
    """Stay as everything is.

    Attributes:
        actions: In the order in which they are carried out.
    """

    actions: Actions = None


@final
class RepeatState(Result, Struct, frozen=True):
    """Stay, with other data, and enter the state again: with state enter calls on, it is called.

    Attributes:
        data: The machine's data from now on.
        actions: In the order in which they are carried out.
    """

    data: Any
    actions: Actions = None


@final
class RepeatStateAndData(Result, Struct, frozen=True):
    """Enter the state again with the same data.

    Attributes:
        actions: In the order in which they are carried out.
    """

    actions: Actions = None


@final
class _Same:
    """The type of `SAME`, of which there is exactly one."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "SAME"


SAME: Final = _Same()
"""In place of data: as it is."""


@final
class Stop(Result, Struct, frozen=True):
    """End the machine. With replies this is OTP's `stop_and_reply`: they leave before terminate.

    Attributes:
        reason: `"normal"`, `"shutdown"`, `Shutdown(term)` are clean; all else is a crash.
        data: What terminate is told.
        replies: `Reply` actions, nothing else.
    """

    reason: Any = "normal"
    data: Any = SAME
    replies: Sequence[Any] = ()


# --- actions -------------------------------------------------------------------------------------


@final
class Postpone(Action, Struct, frozen=True):
    """Handle this event again after the next change of state.

    Attributes:
        wanted: False takes back an earlier one among the same actions.
    """

    wanted: bool = True


@final
class NextEvent(Action, Struct, frozen=True):
    """Insert an event before all that wait.

    Attributes:
        event_type: `"internal"`, or any type that an event can have but `"enter"`.
        content: What the callback gets with it.

    Raises:
        ValueError: There is no such type of events.
    """

    event_type: Any
    content: Any

    def __post_init__(self) -> None:
        kind = self.event_type
        if isinstance(kind, str) and kind in EVENT_TYPES:
            return
        if type(kind) is tuple and len(kind) == 2 and kind[0] in ("call", "timeout"):
            hash(kind)
            return
        words = ", ".join(f'"{word}"' for word in EVENT_TYPES)
        raise ValueError(
            f'NextEvent: event_type is {words}, ("call", caller) or ("timeout", name), '
            f"not {show(kind)}"
        )


class _Timed(Action):
    """A time-out of any kind: what they share."""

    __slots__ = ()

    def check(self, seconds: Any, *, absolute: bool) -> None:
        """Refuse what is no time.

        Args:
            seconds: A time, None or UPDATE.
            absolute: A point in time may be any; one that is over is now (OTP, `{abs, true}`).

        Raises:
            TypeError, ValueError: Says what it was.
        """
        if type(seconds) in (int, float) and seconds >= 0:
            return
        if seconds is None or seconds is UPDATE:
            return
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"{type(self).__name__}: seconds is a number, not {show(seconds)}")
        if not seconds >= 0 and not (absolute and seconds < 0):
            raise ValueError(f"{type(self).__name__}: seconds is 0 or more, not {show(seconds)}")


@final
class StateTimeout(_Timed, Struct, frozen=True):
    """Bring the event `"state_timeout"` unless the state changes first.

    Attributes:
        seconds: From now; 0 = before any event from outside; `CANCEL`, infinity, or `UPDATE`.
        content: What the callback gets with it.
        absolute: `seconds` is a time of `context.monotonic`.

    Raises:
        TypeError, ValueError: `seconds` is no time.
    """

    seconds: Any
    content: Any = None
    absolute: bool = False

    def __post_init__(self) -> None:
        self.check(self.seconds, absolute=self.absolute)

    @property
    def key(self) -> Any:
        """The type of the event it brings."""
        return "state_timeout"


@final
class EventTimeout(_Timed, Struct, frozen=True):
    """Bring the event `"timeout"` unless any other event comes first.

    Attributes:
        seconds: As in StateTimeout.
        content: What the callback gets with it.
        absolute: As in StateTimeout.

    Raises:
        TypeError, ValueError: `seconds` is no time.
    """

    seconds: Any
    content: Any = None
    absolute: bool = False

    def __post_init__(self) -> None:
        self.check(self.seconds, absolute=self.absolute)

    @property
    def key(self) -> Any:
        """The type of the event it brings."""
        return "timeout"


@final
class Timeout(_Timed, Struct, frozen=True):
    """Bring the event `("timeout", name)`, whatever else happens.

    Attributes:
        name: Identifies it; one of the same name is replaced.
        seconds: As in StateTimeout.
        content: What the callback gets with it.
        absolute: As in StateTimeout.

    Raises:
        TypeError, ValueError: `seconds` is no time, or the name is not hashable.
    """

    name: Any
    seconds: Any
    content: Any = None
    absolute: bool = False

    def __post_init__(self) -> None:
        hash(self.name)
        self.check(self.seconds, absolute=self.absolute)

    @property
    def key(self) -> Any:
        """The type of the event it brings."""
        return ("timeout", self.name)


@final
class ChangeCallbackModule(Action, Struct, frozen=True):
    """Let another GenStatem class handle what comes next, in place of the current one.

    Attributes:
        module: The class. State and data stay; its mode counts from now on.
    """

    module: type


@final
class PushCallbackModule(Action, Struct, frozen=True):
    """Let another GenStatem class handle what comes next, until it is popped.

    Attributes:
        module: The class.
    """

    module: type


@final
class PopCallbackModule(Action, Struct, frozen=True):
    """Go back to the class that was current before the latest push."""

"""Events handed to plain handlers, as far as nothing special happens.

Nearly all that a busy event manager does is this: handlers that depend on no others, each called
with each event, or with all that have gathered, each giving its next state. A run of events through
them needs no bookkeeping between two calls. The first result that is more than a state, or an
exception, ends the run: the manager takes it from there (gen_event.py) and begins another one.

`hand_out` and `hand_batches` say what that means, and `events_in` what they get of many casts.
Managers of a running node use the compiled twins (src/_uring/handout.pyx), which do the same
faster; a replay of their journal uses these.

Does not know: rings, what becomes of what is special.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from pybehave.actions import are_actions
from pybehave.events import Handled, Later, Remove, Swap

SPECIAL: Final = frozenset({Handled, Later, Remove, Swap})
"""Types of results that are more than a state; so is None, and what `is_misplaced` finds."""


class Place(Protocol):
    """What is used of a handler's entry.

    Attributes:
        handle: Its handle_event, or its handle_batch.
        state: The latest it returned.
        sequence: The last event that it is done with.
    """

    @property
    def handle(self) -> Callable[[Any, Any], Any]:
        """Take an event, or a batch, and the state; give the next state."""

    state: Any
    sequence: int


class Stand(Protocol):
    """Where an event stands, as handlers see it."""

    sequence: int
    is_last: bool


class Stopped(NamedTuple):
    """What has ended a run.

    Attributes:
        sequence: The first event that handlers behind `at` have not had.
        given: The last event that the handler `at` was called with; those before it are done.
        at: The handler, whose state is still the one before.
        result: What it returned, if it did.
        error: What it raised, if it did.
    """

    sequence: int
    given: int
    at: int
    result: Any
    error: Exception | None


EventsIn = Callable[[list[Any], str], list[Any] | None]
HandOut = Callable[[list[Any], list[Any], int, Any], Stopped | None]


def events_in(messages: list[Any], mark: str) -> list[Any] | None:
    """Return the events of notifications, in their order; None when other messages are among them.

    Args:
        messages: Casts to a manager.
        mark: What its messages begin with.
    """
    found: list[Any] = []
    for message in messages:
        if type(message) is not tuple or len(message) != 3:
            return None
        if type(message[0]) is not str or message[0] != mark or message[1] != "notify":
            return None
        found.append(message[2])
    return found


def is_misplaced(result: Any) -> bool:
    """Whether a result has actions, as a server's has, where a handler's has its state alone."""
    if type(result) is tuple and len(result) == 2:
        return are_actions(result[1])
    return are_actions(result)


def hand_out(
    entries: Sequence[Place], events: Sequence[Any], first: int, batch: Stand
) -> Stopped | None:
    """Hand events to handlers: all handlers see one before the next.

    Args:
        entries: In the order in which they get an event.
        events: All that have gathered: nothing stands behind the last.
        first: The sequence of the first event.
        batch: What handlers see of where they are.

    Returns:
        None when all are done with all; or what was special.
    """
    for sequence, event in enumerate(events, first):
        batch.sequence = sequence
        batch.is_last = sequence == first + len(events) - 1
        for index, entry in enumerate(entries):
            try:
                result = entry.handle(event, entry.state)
            except Exception as error:  # noqa: BLE001 -- whatever it raises is its end, not ours
                return Stopped(sequence, sequence, index, None, error)
            if result is None or type(result) in SPECIAL or is_misplaced(result):
                return Stopped(sequence, sequence, index, result, None)
            entry.state = result
            entry.sequence = sequence
    return None


def hand_batches(
    entries: Sequence[Place], events: Sequence[Any], first: int, batch: Stand
) -> Stopped | None:
    """Hand all events at once to each handler, with a list of its own; otherwise like `hand_out`.

    Args:
        entries: Handlers that take batches of any size, in the order in which they are called.
    """
    last = first + len(events) - 1
    batch.sequence = first
    batch.is_last = first == last
    for index, entry in enumerate(entries):
        try:
            result = entry.handle(list(events), entry.state)
        except Exception as error:  # noqa: BLE001 -- as above
            return Stopped(first, last, index, None, error)
        if result is None or type(result) in SPECIAL or is_misplaced(result):
            return Stopped(first, last, index, result, None)
        entry.state = result
        entry.sequence = last
    return None

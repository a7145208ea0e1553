"""The compiled way of events to handlers does what its specification says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybehave import EventHandler
from pybehave._uring.handout import Batch as CompiledBatch
from pybehave._uring.handout import HandOut, events_in
from pybehave.actions import Cast
from pybehave.behaviours import handout
from pybehave.behaviours.event_handler import Batch
from pybehave.behaviours.event_manager import Entry
from pybehave.behaviours.handout import SPECIAL, Stopped, hand_batches, hand_out
from pybehave.events import MARK, Handled, Later, Remove, Swap, notify

compiled = HandOut(SPECIAL, Stopped)
OTHERS = ["cast", "pair", "three", "many"]
RESULTS = st.sampled_from(
    ["add", "add", "add", "text", "none", "raise", "special", "remove", *OTHERS]
)


class Scripted(EventHandler):
    """Does with each event what its script says, and notes what it saw."""

    def __init__(self, script: list[str], seen: list[Any], number: int) -> None:
        self.script = list(script)
        self.seen = seen
        self.number = number

    def handle_event(self, event: Any, state: Any) -> Any:
        self.seen.append((self.number, event, state, self.batch.sequence, self.batch.is_last))
        if isinstance(event, list):
            event.append("its own list")
        what = self.script.pop(0) if self.script else "add"
        if what == "raise":
            raise ValueError(event)
        results = {
            "none": None,
            "text": f"{event}",
            "special": Handled(state),
            "remove": Remove(),
            "cast": (state, Cast("other", event)),
            "pair": (state, [event]),
            "three": (state, event, Cast("other", event)),
            "many": [Cast("other", event)],
        }
        return results.get(what, (state, event))


def batch_of(hand: Any) -> Any:
    """What handlers see of where an event stands: pure for pure."""
    return Batch() if hand in (hand_out, hand_batches) else CompiledBatch()


def run(hand: Any, scripts: list[list[str]], count: int, first: int) -> Any:
    """Hand events out until all are done with all, as a manager does; what could be seen of it."""
    seen: list[Any] = []
    batch, entries = batch_of(hand), []
    for number, script in enumerate(scripts):
        handler = Scripted(script, seen, number)
        handler.batch = batch
        entries.append(Entry((EventHandler, number), handler, first - 1))
    events = [f"event {number}" for number in range(count)]
    stopped = hand(entries, events, first, batch)
    shown = None
    if stopped is not None:
        result, error = stopped.result, stopped.error
        where = (stopped.sequence, stopped.given, stopped.at)
        shown = (*where, type(result), type(error), str(error))
    stands = [(entry.state, entry.sequence, entry.given) for entry in entries]
    return seen, shown, stands, batch.sequence, batch.is_last


@given(
    scripts=st.lists(st.lists(RESULTS, max_size=6), max_size=5),
    count=st.integers(1, 8),
    first=st.integers(1, 2**40),
)
def test_both_hand_out_the_same(scripts: list[list[str]], count: int, first: int) -> None:
    assert run(compiled, scripts, count, first) == run(hand_out, scripts, count, first)


@given(
    scripts=st.lists(st.lists(RESULTS, max_size=1), max_size=5),
    count=st.integers(1, 8),
    first=st.integers(1, 2**40),
)
def test_both_hand_batches_out_the_same(scripts: list[list[str]], count: int, first: int) -> None:
    found = run(compiled.batches, scripts, count, first)
    assert found == run(hand_batches, scripts, count, first)
    for number, events, *_ in found[0]:
        assert events == [*(f"event {each}" for each in range(count)), "its own list"], number


def interrupted(hand: Any) -> list[Any]:
    """Where two handlers stand when the second is interrupted in its second event."""

    def interrupt(event: Any, state: Any) -> Any:
        if event == "two":
            raise KeyboardInterrupt
        return event

    entries = [Entry(number, EventHandler(), 0) for number in range(2)]  # type: ignore[arg-type]
    for entry in entries:
        entry.state = "zero"
    entries[0].handle = lambda event, _: event
    entries[1].handle = interrupt
    with pytest.raises(KeyboardInterrupt):
        hand(entries, ["one", "two", "three"], 1, batch_of(hand))
    return [(entry.state, entry.sequence) for entry in entries]


def test_an_interrupt_goes_through_and_leaves_each_handler_where_it_was() -> None:
    assert interrupted(compiled) == interrupted(hand_out) == [("two", 2), ("one", 1)]


def test_each_special_result_ends_a_run() -> None:
    results = [Handled("x"), Later("x"), Remove(), Swap("why", EventHandler, None)]
    assert {type(result) for result in results} == SPECIAL
    for made in results:
        entry = Entry(EventHandler, EventHandler(), 0)
        entry.handle = lambda _event, _state, made=made: made
        stopped = compiled([entry], ["event"], 1, CompiledBatch())
        assert stopped is not None
        assert stopped.result is made


MESSAGES = st.one_of(
    st.integers().map(notify),
    st.sampled_from(
        [
            (MARK, "notify_many", [1, 2]),
            (MARK, "done", "key", 3),
            (MARK, "notify"),
            (MARK, "notify", 1, 2),
            ("other", "notify", 1),
            [MARK, "notify", 1],
            "plain",
            (),
        ]
    ),
)


@given(messages=st.lists(st.one_of(st.integers().map(notify), MESSAGES), max_size=6))
def test_both_find_the_same_events_in_messages(messages: list[Any]) -> None:
    assert events_in(messages, MARK) == handout.events_in(messages, MARK)


def test_events_are_found_in_notifications_alone_in_their_order() -> None:
    assert events_in([notify(1), notify(None), notify("x")], MARK) == [1, None, "x"]
    assert events_in([notify(1), "x"], MARK) is None
    assert events_in([], MARK) == []

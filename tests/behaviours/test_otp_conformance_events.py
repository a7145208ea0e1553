"""OTP's rules for gen_statem and gen_event, one test each, on nodes.

As test_otp_conformance.py does it for the other behaviours. Random machines are compared with OTP's
in tests/conformance/otp.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from pybehave import (
    Application,
    EventHandler,
    GenEvent,
    GenStatem,
    Supervisor,
    Worker,
    events,
)
from pybehave.actions import Call, Exit, Reply
from pybehave.errors import Crashed, NotFound
from pybehave.statem import (
    CANCEL,
    EventTimeout,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    Postpone,
    RepeatState,
    StateTimeout,
)
from pybehave.statem import Stop as StopMachine
from pybehave.statem import Timeout as NamedTimeout
from pybehave.testing.simulate import Simulator
from tests.behaviours.test_otp_conformance import Lab, Start, fail, seen, until

TRACE: list[Any] = []


@pytest.fixture(autouse=True)
def _clean() -> None:
    TRACE.clear()


# --- gen_statem --------------------------------------------------------------------------------


class Machine(GenStatem):
    """A content that is a function decides; enter calls and all else are kept in the data."""

    state_enter = True

    def init(self, args: Any) -> Any:
        return args(self) if callable(args) else ("one", [])

    def handle_event(self, event_type: Any, content: Any, state: Any, data: list[Any]) -> Any:
        kind = event_type[0] if event_type[0] == "call" else event_type
        if callable(content):
            return content(self, event_type, state, data)
        replies = Reply(event_type[1], content) if kind == "call" else None
        return KeepState([*data, (kind, content)], replies)

    def terminate(self, reason: Any, state: Any, data: Any) -> None:
        TRACE.append(("terminate", reason, state, data))


def machines(args: Any = None, **words: Any) -> Application:
    workers = [Worker("m", Machine, args, **words), Worker("a", Lab)]
    return Application("machines", Supervisor("one_for_one", workers, intensity=1000))


def data_of(node: Any, count: int = 0) -> list[Any]:
    until(node, lambda: len(node.sys.get_state("m")[1]) >= count)
    return list(node.sys.get_state("m")[1])


def test_gen_statem_enter_at_the_start_with_the_state_itself(start: Start) -> None:
    """state_enter: at the start the old state is the new one."""
    assert data_of(start(machines())) == [("enter", "one")]


def test_gen_statem_a_state_is_left_by_type_or_value(start: Start) -> None:
    """State changes are strict inequality: 1 and 1.0 are two states; the same one is no change."""
    node = start(machines(lambda _: (1, [])))
    node.cast("m", lambda _s, _e, _state, data: NextState(1, data))
    node.cast("m", lambda _s, _e, _state, data: NextState(1.0, data))
    assert data_of(node, 2) == [("enter", 1), ("enter", 1)]


def test_gen_statem_postponed_before_what_waits_and_after_enter(start: Start) -> None:
    """postpone: retried on a state change only, oldest first, after its enter call."""
    node = start(machines())

    def later(word: str) -> Any:
        def handle(_self: Any, _event: Any, state: Any, data: Any) -> Any:
            return KeepStateAndData(Postpone()) if state == "one" else KeepState([*data, word])

        return handle

    node.cast("m", later("first"))
    node.cast("m", later("second"))
    node.cast("m", lambda _s, _e, state, data: NextState(state, data))
    node.cast("m", lambda _s, _e, _state, data: NextState("two", data, NextEvent("internal", 0)))
    node.cast("m", "new")
    assert data_of(node, 6) == [
        ("enter", "one"), ("enter", "one"), ("internal", 0), "first", "second", ("cast", "new")
    ]  # fmt: skip


def test_gen_statem_next_events_keep_their_order_before_the_queue(start: Start) -> None:
    """next_event: inserted in list order, before all that waits; any type but enter."""
    node = start(machines())
    inserted = [NextEvent("internal", 1), NextEvent("info", 2), NextEvent("cast", 3)]
    node.cast("m", lambda _s, _e, _state, _data: KeepStateAndData(inserted))
    node.cast("m", 4)
    assert data_of(node, 5)[1:] == [("internal", 1), ("info", 2), ("cast", 3), ("cast", 4)]


def test_gen_statem_zero_timeouts_beat_external_events_in_the_order_asked(start: Start) -> None:
    """Time 0: no timer; after inserted events, before any external one, in the order asked."""
    node = start(machines())
    asked = [NamedTimeout("n", 0, "named"), StateTimeout(0, "state"), NextEvent("internal", "in")]
    node.sys.suspend("m")
    node.cast("m", lambda _s, _e, _state, _data: KeepStateAndData(asked))
    node.cast("m", "external")
    node.sys.resume("m")
    assert data_of(node, 5)[1:] == [
        ("internal", "in"), (("timeout", "n"), "named"), ("state_timeout", "state"),
        ("cast", "external"),
    ]  # fmt: skip


def test_gen_statem_which_timeouts_end_by_themselves() -> None:
    """State timeout: by a state change. Event timeout: by any event. Named: never."""
    with Simulator(2, machines()) as sim:
        node = sim.node
        three = [StateTimeout(10, "s"), EventTimeout(10, "e"), NamedTimeout("n", 10, "n")]
        node.cast("m", lambda _s, _e, _state, _data: KeepStateAndData(three))
        node.cast("m", "any event")
        sim.run(20)
        kinds = [kind for kind, _ in node.sys.get_state("m")[1][2:]]
        assert kinds == ["state_timeout", ("timeout", "n")]
        node.cast("m", lambda _s, _e, _state, _data: KeepStateAndData(three))
        node.cast("m", lambda _s, _e, _state, data: NextState("two", data))
        sim.run(20)
        assert node.sys.get_state("m")[1][-1] == (("timeout", "n"), "n")
        assert sum(kind == "state_timeout" for kind, _ in node.sys.get_state("m")[1]) == 1


@pytest.mark.parametrize("of", [StateTimeout, EventTimeout, partial(NamedTimeout, "n")])
def test_gen_statem_an_absolute_time_that_is_over_is_now(start: Start, of: Any) -> None:
    """{abs, true}: a time in the past, also one before the clock began, fires like zero."""
    node = start(machines())
    node.cast("m", lambda _s, _e, _state, data: KeepState(data, of(-5.0, "late", absolute=True)))
    assert data_of(node, 2)[1][1] == "late"
    with pytest.raises(ValueError, match="0 or more"):
        of(-5.0)


def test_gen_statem_cancel_and_repeat_state() -> None:
    """cancel; a state timeout survives repeat_state, which calls enter with the same state."""
    with Simulator(2, machines()) as sim:
        node = sim.node
        node.cast("m", lambda _s, _e, _state, data: RepeatState(data, StateTimeout(5, "kept")))
        node.cast("m", lambda _s, _e, _state, _data: KeepStateAndData(NamedTimeout("n", 5, "no")))
        node.cast("m", lambda _s, _e, _state, _data: KeepStateAndData(NamedTimeout("n", CANCEL)))
        sim.run(20)
        assert node.sys.get_state("m")[1] == [
            ("enter", "one"), ("enter", "one"), ("state_timeout", "kept")
        ]  # fmt: skip


def test_gen_statem_stop_and_reply_replies_before_terminate(start: Start) -> None:
    """stop_and_reply: the replies leave before terminate, which gets the new data."""
    node = start(machines())
    node.call("a", lambda _, state: (state, None, Call("m", lambda _s, event, _state, _data: (
        StopMachine("normal", "last", [Reply(event[1], "bye")])
    ), tag="t")))  # fmt: skip
    (_, reply), *_ = seen(node, "a", 1)
    assert reply.value == "bye"
    assert TRACE[-1] == ("terminate", "normal", "one", "last")


def test_gen_statem_a_reply_and_a_postpone_the_first_reply_counts(start: Start) -> None:
    """A call may be replied to and postponed: it is handled twice, the first reply counts."""
    node = start(machines())

    def twice(_self: Any, event: Any, state: Any, data: Any) -> Any:
        reply = Reply(event[1], state)
        return KeepState([*data, state], [reply, Postpone()] if state == "one" else [reply])

    assert node.call("m", twice) == "one"
    node.cast("m", lambda _s, _e, _state, data: NextState("two", data))
    assert data_of(node, 4) == [("enter", "one"), "one", ("enter", "one"), "two"]


def test_gen_statem_terminate_gets_the_raw_reason(start: Start) -> None:
    """terminate/3: the reason as raised, with the state and data before the event."""
    node = start(machines())

    def wrong(*_: Any) -> Any:
        raise ValueError("asked to")

    with pytest.raises(Crashed):
        node.call("m", wrong)
    _, reason, state, data = TRACE[-1] if TRACE[-1][0] == "terminate" else TRACE[-2]
    assert (type(reason), state, data) == (ValueError, "one", [("enter", "one")])


# --- gen_event ---------------------------------------------------------------------------------


class Keep(EventHandler):
    """Keeps what it sees; a function decides."""

    def init(self, args: Any) -> Any:
        return args(self) if callable(args) else [args]

    def handle_event(self, event: Any, state: Any) -> Any:
        TRACE.append((state[0], event))
        return event(self, state) if callable(event) else [*state, event]

    def handle_call(self, request: Any, state: Any) -> Any:
        return request(self, state) if callable(request) else (state, list(state))

    def handle_info(self, message: Any, state: Any) -> Any:
        return [*state, ("info", message)]

    def terminate(self, reason: Any, state: Any) -> Any:
        TRACE.append(("terminate", state[0], reason))
        return ("terminated", state[0])


def bus_app(**words: Any) -> Application:
    workers = [Worker("bus", GenEvent), Worker("a", Lab), Worker("b", Lab)]
    return Application("bus", Supervisor("one_for_one", workers, intensity=1000, **words))


@pytest.fixture
def bus(start: Start) -> Any:
    node = start(bus_app())
    for name in ("one", "two"):
        assert node.call("bus", events.add_handler((Keep, name), name)) == "ok"
    TRACE.clear()
    return node


def test_gen_event_the_newest_handler_first(bus: Any) -> None:
    """notify/2, sync_notify/2: newest first; sync returns when every handler has run."""
    assert bus.call("bus", events.sync_notify("e")) == "ok"
    assert TRACE == [("two", "e"), ("one", "e")]


def test_gen_event_delete_returns_what_terminate_did(bus: Any) -> None:
    """delete_handler/3: terminate(Args); its value is returned; absent is module_not_found."""
    assert bus.call("bus", events.delete_handler((Keep, "one"), "args")) == ("terminated", "one")
    assert TRACE == [("terminate", "one", "args")]
    assert isinstance(bus.call("bus", events.delete_handler((Keep, "one"))), NotFound)
    assert isinstance(bus.call("bus", events.call((Keep, "one"), 1)), NotFound)


def test_gen_event_a_crash_removes_one_handler_and_the_others_get_the_event(bus: Any) -> None:
    """A handler that raises: terminate({error, Reason}, state before), removed; manager lives."""

    def wrong(self: Any, state: Any) -> Any:
        if state[0] == "two":
            raise ValueError("asked to")
        return [*state, "seen"]

    bus.call("bus", events.sync_notify(wrong))
    assert bus.sys.get_state("bus")[0][1] == ["one", "seen"]
    assert bus.whereis("bus") == 1
    name, reason = TRACE[1][1:]
    assert (name, reason[0], type(reason[1])) == ("two", "error", ValueError)


def test_gen_event_an_init_that_fails_is_returned_and_not_added(bus: Any) -> None:
    """add_handler/3: other values of init, and exceptions, are what it returns."""
    answer = bus.call("bus", events.add_handler((Keep, "x"), lambda self: fail(self, 0)))
    assert isinstance(answer, ValueError)
    assert len(bus.call("bus", events.which_handlers())) == 2


def test_gen_event_remove_and_swap_results(bus: Any) -> None:
    """remove_handler, {swap_handler, ...} as results: terminate's value goes to the new init."""
    goes = {"one": events.Remove(), "two": events.Swap("args", (Keep, "new"), "x")}
    bus.call("bus", events.sync_notify(lambda _, state: goes[state[0]]))
    assert [event for event in TRACE if event[0] == "terminate"] == [
        ("terminate", "two", "args"),
        ("terminate", "one", "remove_handler"),
    ]
    ((_, state),) = bus.sys.get_state("bus")
    assert state == [("x", ("terminated", "two"))]


def test_gen_event_swapping_the_absent_starts_with_error(bus: Any) -> None:
    """swap_handler/3: the old one absent: the new one's init gets error; it goes to the front."""
    assert bus.call("bus", events.swap_handler((Keep, "absent"), 0, (Keep, "new"), "x")) == "ok"
    assert bus.sys.get_state("bus")[0][1] == [("x", "error")]


def own(node: Any, name: str, owner: str = "a") -> None:
    assert node.call("bus", events.add_sup_handler((Keep, name), name, owner=owner)) == "ok"


def exits(node: Any, owner: str = "a", count: int = 1) -> list[Any]:
    return [message[2][1:] and message[3] for _, message in seen(node, owner, count)]


def test_gen_event_the_owner_hears_of_each_end_of_its_handler_once(bus: Any) -> None:
    """add_sup_handler/3: normal when deleted; the error when it failed; {swapped, New, Pid}."""
    own(bus, "x")
    bus.call("bus", events.delete_handler((Keep, "x")))
    own(bus, "y")
    bus.call("bus", events.call((Keep, "y"), fail))
    own(bus, "z")
    bus.call("bus", events.swap_handler((Keep, "z"), 0, (Keep, "w"), 0))
    found = exits(bus, count=3)
    assert [found[0], found[1][0], found[2][0]] == ["normal", "error", "swapped"]
    bus.call("bus", events.delete_handler((Keep, "w")))  # supervision has passed to it
    assert exits(bus, count=4)[3] == "normal"


def test_gen_event_swap_sup_handler_gives_the_new_one_another_owner(bus: Any) -> None:
    """swap_sup_handler/3: the old one's owner hears swapped, the new one's owner of its end."""
    own(bus, "x", owner="a")
    swap = events.swap_sup_handler((Keep, "x"), 0, (Keep, "y"), 0, owner="b")
    assert bus.call("bus", swap) == "ok"
    bus.call("bus", events.delete_handler((Keep, "y")))
    assert exits(bus, "a")[0][0] == "swapped"
    assert exits(bus, "b") == ["normal"]


def test_gen_event_swap_sup_handler_of_one_without_an_owner(bus: Any) -> None:
    """swap_sup_handler/3: also when nobody owned the old one, or it is not there."""
    for old in ("one", "nobody"):
        swap = events.swap_sup_handler((Keep, old), 0, (Keep, f"new {old}"), 0, owner="b")
        assert bus.call("bus", swap) == "ok"
    bus.stop_server("b", "odd")
    until(bus, lambda: [key[1] for key, _ in bus.sys.get_state("bus")] == ["two"])


def test_gen_event_an_owners_end_removes_its_handlers_silently(bus: Any) -> None:
    """The owner dies: terminate({stop, Reason}); the others get its exit as info."""
    own(bus, "x")
    own(bus, "y")
    TRACE.clear()
    bus.stop_server("a", "odd")
    until(bus, lambda: len(bus.sys.get_state("bus")) == 2)
    assert [event for event in TRACE if event[0] == "terminate"] == [
        ("terminate", "y", ("stop", "odd")), ("terminate", "x", ("stop", "odd"))
    ]  # fmt: skip
    states = [state for _, state in bus.sys.get_state("bus")]
    assert states == [["two", ("info", Exit("a", "odd"))], ["one", ("info", Exit("a", "odd"))]]
    until(bus, lambda: bus.whereis("a") == 2)
    assert bus.call("a", lambda _, state: (state, list(state))) == []


def test_gen_event_an_owner_whose_handlers_have_gone_is_watched_no_more(bus: Any) -> None:
    """The link of a supervised handler goes with the last one of its owner."""
    own(bus, "x")
    own(bus, "y")
    for name in "xy":
        bus.call("bus", events.delete_handler((Keep, name)))
    bus.stop_server("a", "odd")
    assert [state for _, state in bus.sys.get_state("bus")] == [["two"], ["one"]]


@pytest.mark.parametrize("reason", ["normal", "odd"])
def test_gen_event_the_managers_end_is_told_to_handlers_and_owners(bus: Any, reason: str) -> None:
    """stop/1,3: every handler's terminate(stop), newest first, then owners hear shutdown."""
    own(bus, "x")
    TRACE.clear()
    bus.stop_server("bus", reason)
    assert [event for event in TRACE if event[0] == "terminate"] == [
        ("terminate", name, "stop") for name in ("x", "two", "one")
    ]
    assert exits(bus) == ["shutdown"]


def test_gen_event_info_goes_to_every_handler(bus: Any) -> None:
    """Messages that are no events go to handle_info of every handler."""
    bus.info("bus", "hello")
    assert bus.call("bus", events.call((Keep, "one"), 0)) == ["one", ("info", "hello")]

"""Event managers on a node: senders of all kinds, owners, slow handlers, the journal."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pybehave import (
    Application,
    EventHandler,
    GenEvent,
    GenServer,
    Listener,
    Supervisor,
    Worker,
    events,
)
from pybehave.actions import Call, CallReply, Cast, Run, RunDone
from pybehave.errors import NoProc, Overloaded
from pybehave.events import Later, Swap
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial, kept_by, receive, until
from tests.power.machine import wait_for

TCP = "tcp://127.0.0.1:7000"


class Keep(EventHandler):
    """Keeps what it sees."""

    def init(self, args: Any) -> Any:
        return []

    def handle_event(self, event: Any, state: list[Any]) -> list[Any]:
        if event == "crash":
            raise ValueError("a deliberate bug")
        if event == "swap":
            return Swap(None, "tests.runtime.test_gen_event:Secretive", "refuse")
        return [*state, event]

    def handle_call(self, request: Any, state: list[Any]) -> Any:
        return state, list(state)


class Secretive(EventHandler):
    """Shows nothing of what it knows, and fails at whatever it is told to."""

    def init(self, args: Any) -> Any:
        if args is not None:
            raise ValueError("a deliberate bug")
        return "hush"

    def handle_batch(self, events: list[Any], state: Any) -> Any:
        raise ValueError("a deliberate bug")

    def handle_call(self, request: Any, state: Any) -> Any:
        raise ValueError("a deliberate bug")

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        return status | {"state": "***"}


class Batches(EventHandler):
    """Counts batches: what a handler does that writes once for many events."""

    def init(self, args: Any) -> Any:
        return (0, 0)

    def handle_event(self, event: Any, state: Any) -> Any:
        return (state[0] + 1, state[1] + self.batch.is_last)

    def handle_call(self, request: Any, state: Any) -> Any:
        return state, state


class Slow(EventHandler):
    """Works on each event on a thread."""

    def init(self, args: Any) -> Any:
        return None

    def handle_event(self, event: Any, state: Any) -> Any:
        return Later(state, Run(time.sleep, 0.01, tag=("slow", self.batch.sequence)))


class SlowBus(GenEvent):
    """Tells its slow handler when its work is done."""

    def handle_info(self, message: Any, manager: Any) -> Any:
        if isinstance(message, RunDone):
            return self.handle_cast(events.done(Slow, message.tag[1]), manager)
        return super().handle_info(message, manager)


class Owner(GenServer[list[Any], Any, Any]):
    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        match command:
            case "own":
                asked = events.add_sup_handler((Keep, "mine"), owner=self.context.name)
                return state, None, Call("bus", asked, tag="added")
            case ("say", event):
                return state, None, Cast("bus", events.notify(event))
        return state, list(state)

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        state.append(message.value if isinstance(message, CallReply) else message)
        return state, None


def bus(*handlers: Any, kind: type[GenEvent] = GenEvent, journal: bool = False) -> Application:
    workers = [
        Worker("bus", kind, [events.add_handler(each) for each in handlers], journal=journal),
        Worker("owner", Owner),
    ]
    return Application(
        "t",
        Supervisor("one_for_one", workers),
        listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="bus")],
    )


def test_events_come_from_threads_servers_and_connections(start: Callable[..., Any]) -> None:
    node = start(bus(Keep))
    node.cast("bus", events.notify(1))
    assert node.call("bus", events.sync_notify(2)) == "ok"
    node.cast("owner", ("say", 3))
    client = dial(node)
    client.sendall(b"four\n")
    assert receive(client, 3) == b"ok\n"
    wait_for(lambda: 3 in node.call("bus", events.call(Keep, "all")), "the server's event")
    assert sorted(map(str, node.call("bus", events.call(Keep, "all")))) == sorted(
        ["1", "2", "3", "b'four'"]
    )


def test_an_owner_hears_of_the_end_of_its_handler(start: Callable[..., Any]) -> None:
    node = start(bus())
    node.cast("owner", "own")
    wait_for(lambda: node.call("owner", "heard") == ["ok"], "the handler is added")
    assert node.call("bus", events.sync_notify("crash")) == "ok"
    wait_for(lambda: len(node.call("owner", "heard")) == 2, "the owner is told")
    kind, manager, handler, reason = node.call("owner", "heard")[1]
    assert (kind, manager, handler) == (
        "event_handler_exit",
        "bus",
        events.key_of((Keep, "mine")),
    )
    assert reason == ("error", "ValueError: a deliberate bug")


def test_many_events_make_few_batches(start: Callable[..., Any]) -> None:
    node = start(bus(Batches))

    def burst() -> None:
        for number in range(1000):
            node.cast("bus", events.notify(number))

    node.run_on_loop(burst)
    count, batches = node.call("bus", events.call(Batches, "both"))
    assert count == 1000
    assert batches <= 20


def test_a_batch_ends_with_what_stands_last_in_the_mailbox(start: Callable[..., Any]) -> None:
    """No message has to tell the manager so."""
    node = start(bus(Batches))
    server = node.loop.dispatcher.whereis("bus")

    def inputs_for(count: int) -> int:
        before = server.inputs
        for number in range(count):
            node.cast("bus", events.notify(number))
        assert node.call("bus", events.sync_notify("last")) == "ok"
        return int(server.inputs - before)

    for count, state in ((0, (1, 1)), (1, (3, 3)), (200, (204, 5))):
        assert node.run_on_loop(partial(inputs_for, count)) == count + 1
        assert node.call("bus", events.call(Batches, None)) == state


class Choosy(EventHandler):
    """Cannot say to which shard an event belongs."""

    def shard_of(self, event: Any) -> int:
        raise ValueError(event)


def test_a_cast_that_crashes_the_manager_is_reported_as_it_was_sent(
    start: Callable[..., Any],
) -> None:
    node = start(bus())
    node.call("bus", events.add_handler(Choosy, shard=(0, 2)))
    node.cast("bus", events.notify("torn"))
    until(node, node.crashes)
    assert [report.message for report in node.crashes()] == [events.notify("torn")]


def test_a_slow_handler_holds_up_who_waits_for_it_and_nobody_else(
    start: Callable[..., Any],
) -> None:
    node = start(bus(Keep, Slow, kind=SlowBus))
    for number in range(5):
        node.cast("bus", events.notify(number))
    assert node.call("bus", events.call(Keep, "all")) == [0, 1, 2, 3, 4]
    assert node.call("bus", events.sync_notify("last")) == "ok"
    assert len(kept_by(node, "bus").ring) == 0


def test_handlers_and_what_they_know_come_back(start: Callable[..., Any], tmp_path: Path) -> None:
    options = {"data": tmp_path / "data", "journal_options": Options(segment_bytes=256 * 1024)}
    node = start(bus(Keep, journal=True), **options)
    node.call("bus", events.add_handler(Batches))
    for number in range(3):
        node.call("bus", events.sync_notify(number))
    node.stop()
    node = start(bus(Keep, journal=True), **options)
    assert node.call("bus", events.call(Keep, "all")) == [0, 1, 2]
    assert node.call("bus", events.call(Batches, "both")) == (3, 3)
    node.journal.snapshots.records = 0
    node.call("bus", events.sync_notify("crash"))
    node.stop()
    node = start(bus(Keep, journal=True), **options)
    assert node.call("bus", events.which_handlers()) == [events.key_of(Batches)]


@pytest.mark.parametrize("seed", range(30))
def test_answered_events_survive_power_cuts(seed: int) -> None:
    dice, disk, answered = random.Random(seed), SimDisk(seed), 0
    worker = Worker("bus", GenEvent, [events.add_handler(Keep)], journal=True)
    app = Application(
        "t", Supervisor("one_for_one", [worker]), listeners=[Listener(TCP, Lines(), to="bus")]
    )
    for life in range(4):
        options = Options(segment_bytes=64 << 10)
        world = Simulator(seed + life, app, disk=disk, journal_options=options, shake=True).start()
        world.node.journal.snapshots.records = dice.choice((3, 1000))
        [keep] = kept_by(world.node, "bus").entries
        assert len(keep.state) >= answered
        client = world.connect(TCP)
        for number in range(dice.randrange(1, 12)):
            client.send(b"%d %d\n" % (life, number))
            world.run(dice.random() * 0.01)
        answered = len(keep.state) if life == 3 else answered + client.received.count(b"ok\n")
        if life < 3:
            disk = world.lose_power(dice)
    world.stop()


@pytest.mark.parametrize("journal", [False, True])
def test_a_handler_that_fails_leaves_a_report_and_a_log_record_once(
    start: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture, journal: bool
) -> None:
    options = {"data": tmp_path / "data"} if journal else {}
    node = start(bus(Batches, Keep, journal=journal), **options)
    node.call("bus", events.sync_notify("first"))
    caplog.set_level(logging.ERROR, "pybehave")
    assert node.call("bus", events.sync_notify("crash")) == "ok"
    [report], [record] = node.crashes(), caplog.records
    assert (report.server, report.callback, report.message) == ("bus", "handle_event", "crash")
    assert (report.kind, report.state) == (events.key_of(Keep), ["first"])
    assert (record.name, record.levelname, record.crash) == ("pybehave.server", "ERROR", report)
    assert str(report).startswith(f"handler {events.key_of(Keep)!r} of server 'bus'")
    assert report.as_dict()["traceback"][-1]["function"] == "handle_event"
    assert node.call("bus", events.which_handlers()) == [events.key_of(Batches)]
    if journal:
        node.stop()
        node = start(bus(Batches, Keep, journal=journal), **options)
        assert node.call("bus", events.which_handlers()) == [events.key_of(Batches)]
        assert (node.crashes(), len(caplog.records)) == ([], 1)


@pytest.mark.parametrize(
    ("handlers", "send", "callback", "message"),
    [
        ([Secretive], lambda node: node.cast("bus", events.notify(1)), "handle_batch", [1]),
        ([Secretive], lambda node: node.call("bus", events.call(Secretive, 2)), "handle_call", 2),
        ([Keep], lambda node: node.cast("bus", events.notify("swap")), "init", "refuse"),
    ],
)
def test_a_handler_says_what_its_reports_show(
    start: Callable[..., Any], handlers: Any, send: Any, callback: str, message: Any
) -> None:
    node = start(bus(*handlers))
    send(node)
    until(node, node.crashes)
    [report] = node.crashes()
    assert (report.callback, report.message) == (callback, message)
    assert (report.kind, report.as_dict()["state"]) == (events.key_of(Secretive), "'***'")
    assert "hush" not in str(report)


class Discreet(GenEvent):
    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        return status | {"state": "***"}


def test_for_a_handler_that_does_not_say_so_its_manager_does(start: Callable[..., Any]) -> None:
    node = start(bus(Keep, kind=Discreet))
    node.call("bus", events.sync_notify("hush"))
    node.call("bus", events.sync_notify("crash"))
    [report] = node.crashes()
    assert "in state '***'" in str(report) and "hush" not in str(report)


@pytest.mark.parametrize("journal", [False, True])
def test_an_owner_that_does_not_run_is_refused(
    start: Callable[..., Any], tmp_path: Path, journal: bool
) -> None:
    options = {"data": tmp_path / "data"} if journal else {}
    node = start(bus(Keep, journal=journal), **options)
    keep, asked = events.key_of(Keep), events.swap_sup_handler(Keep, 1, Batches, 2, owner="nobody")
    for message in (events.add_sup_handler(Batches, owner="nobody"), asked):
        answer = node.call("bus", message)
        assert type(answer) is NoProc and answer.server == "nobody"
    node.cast("bus", asked)
    assert node.call("bus", events.which_handlers()) == [keep]
    assert node.call("bus", events.add_sup_handler(Batches, owner="owner")) == "ok"
    if journal:
        node.stop()
        node = start(bus(Keep, journal=journal), **options)
    assert node.call("bus", events.which_handlers()) == [events.key_of(Batches), keep]


class Array:
    """As numpy's: == gives an array, whose truth is an error."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> Any:
        return self

    def __bool__(self) -> bool:
        raise ValueError("the truth value of an array is ambiguous")


class Count(EventHandler):
    """Counts what comes, whatever it is."""

    def init(self, args: Any) -> int:
        return 0

    def handle_event(self, event: Any, state: int) -> int:
        return state + 1

    handle_info = handle_event

    def handle_call(self, request: Any, state: int) -> Any:
        return state, state


def test_what_is_sent_need_have_no_truth_value(start: Callable[..., Any]) -> None:
    node = start(bus(Count))
    for message in (Array(), (Array(), 2), (Array(), 2, 3)):
        node.cast("bus", message)
        node.info("bus", message)
        assert node.call("bus", message) == "ok"
    assert node.call("bus", events.call(Count, "how many?")) == 9
    assert node.crashes() == []


@pytest.mark.parametrize("journal", [False, True])
def test_notify_and_its_kin_are_heard_by_call_and_by_cast(
    start: Callable[..., Any], tmp_path: Path, journal: bool
) -> None:
    node = start(bus(Keep, journal=journal), **({"data": tmp_path / "data"} if journal else {}))
    node.cast("bus", events.sync_notify(1))
    assert node.call("bus", events.notify_many([2, 3])) == "ok"
    node.cast("bus", events.notify_many([4]))
    assert node.call("bus", events.call(Keep, "all")) == [1, 2, 3, 4]


class Never(EventHandler):
    """Is not done with anything."""

    def handle_event(self, event: Any, state: Any) -> Any:
        return Later(state)


class Narrow(GenEvent):
    capacity = 1
    overflow = "reject"


def test_who_is_refused_by_a_full_ring_hears_which_capacity_is_too_small(
    start: Callable[..., Any],
) -> None:
    node = start(bus(Never, kind=Narrow))
    node.cast("bus", events.notify(1))
    refused = node.call("bus", events.sync_notify(2))
    assert isinstance(refused, Overloaded) and refused.capacity == 1
    assert "ring of the event manager 'bus' is full" in str(refused)

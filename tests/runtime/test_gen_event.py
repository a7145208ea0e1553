"""Event managers on a node: senders of all kinds, owners, slow handlers, the journal."""

from __future__ import annotations

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
from pybehave.events import Later
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial, receive, until
from tests.power.machine import wait_for

TCP = "tcp://127.0.0.1:7000"


class Keep(EventHandler):
    """Keeps what it sees."""

    def init(self, args: Any) -> Any:
        return []

    def handle_event(self, event: Any, state: list[Any]) -> list[Any]:
        if event == "crash":
            raise ValueError("a deliberate bug")
        return [*state, event]

    def handle_call(self, request: Any, state: list[Any]) -> Any:
        return state, list(state)


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
    assert len(node.get_state("bus").ring) == 0


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
        [keep] = world.node.get_state("bus").entries
        assert len(keep.state) >= answered
        client = world.connect(TCP)
        for number in range(dice.randrange(1, 12)):
            client.send(b"%d %d\n" % (life, number))
            world.run(dice.random() * 0.01)
        answered = len(keep.state) if life == 3 else answered + client.received.count(b"ok\n")
        if life < 3:
            disk = world.lose_power(dice)
    world.stop()

"""System requests and the journal: a replaced state is there again, however the node ended."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pybehave import NO_REPLY, Application, GenServer, GenStatem, Listener, Supervisor, Worker
from pybehave.actions import Reply
from pybehave.cli.journal import describe
from pybehave.errors import CallbackFailed, Crashed, NotJournalable, RecordTooLarge, Timeout
from pybehave.journal.recovery import Options
from pybehave.journal.segments import held, records
from pybehave.protocols import Lines
from pybehave.runtime.durable.history import History
from pybehave.statem import NextState
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator

SMALL = Options(segment_bytes=256 * 1024)
URL = "tcp://127.0.0.1:7000"


class Ledger(GenServer[dict[str, Any], Any, Any]):
    """Keeps what it is told; "break" changes the state half way and raises."""

    def init(self, args: Any) -> dict[str, Any]:
        return {"lines": [], "callers": []}

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        if command == "later":
            return {**state, "callers": [self.context.caller]}, NO_REPLY
        if command == "now":
            return state, None, [Reply(caller, "at last") for caller in state["callers"]]
        state["lines"].append(command)
        if command == "break":
            raise ValueError("a deliberate bug")
        return state, b"%d" % len(state["lines"])


class NewerLedger(Ledger):
    version = 2

    def upcast(self, version: int, message: Any) -> Any:
        return message

    def upcast_state(self, version: int, dumped: Any) -> Any:
        return {**dumped, "lines": [*dumped["lines"], f"brought forward from {version}"]}


class Forgetful(Ledger):
    def dump(self, state: dict[str, Any]) -> Any:
        return len(state["lines"])

    def load(self, data: Any) -> dict[str, Any]:
        return {"lines": [], "callers": []}


class Door(GenStatem):
    def init(self, args: Any) -> Any:
        return "shut", 0

    def shut(self, kind: Any, content: Any, data: int) -> Any:
        return NextState("open", data + 1, Reply(kind[1], data + 1))

    def open(self, kind: Any, content: Any, data: int) -> Any:
        return NextState("shut", data, Reply(kind[1], data))


def application(kind: Any = Ledger, **options: Any) -> Application:
    worker = Worker("l", kind, journal=True, **options)
    tree = Supervisor("one_for_one", [worker], intensity=1000)
    return Application("kept", tree, listeners=[Listener(URL, Lines("utf-8"), to="l")])


@pytest.fixture
def begin(start: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Start on the same folder again and again."""

    def again(kind: Any = Ledger, **options: Any) -> Any:
        app = application(kind, **options)
        listen = ("tcp://127.0.0.1:0",)
        return start(app, data=tmp_path / "data", journal_options=SMALL, listen=listen)

    return again


def put(lines: list[Any]) -> Callable[[Any], Any]:
    return lambda state: {**state, "lines": list(lines)}


def lines(node: Any) -> list[Any]:
    return list(node.sys.get_state("l")["lines"])


def test_a_replaced_state_is_there_after_a_start(begin: Callable[..., Any]) -> None:
    node = begin()
    node.call("l", "before")
    node.sys.replace_state("l", put(["new"]))
    node.call("l", "after")
    node.stop()
    node = begin()
    assert lines(node) == ["new", "after"]


def test_a_replaced_state_is_there_after_a_crash(begin: Callable[..., Any]) -> None:
    node = begin()
    node.call("l", "before")
    node.sys.replace_state("l", put(["new"]))
    node.call("l", "after")
    with pytest.raises(Crashed):
        node.call("l", "break")
    assert lines(node) == ["new", "after"]


def test_a_machines_state_and_data_are_replaced_for_good(begin: Callable[..., Any]) -> None:
    node = begin(Door)
    node.call("l", "push")
    node.sys.replace_state("l", lambda pair: ("shut", 41))
    node.stop()
    node = begin(Door)
    assert node.sys.get_state("l") == ("shut", 41)
    assert node.call("l", "push") == 42


@pytest.mark.parametrize(
    "kind, function, error",
    [
        (Ledger, lambda state: state["lines"].append("half") or 1 // 0, CallbackFailed),
        (Ledger, lambda state: {**state, "lines": [object()]}, NotJournalable),
        (Ledger, lambda state: {**state, "lines": ["x" * (2 << 20)]}, RecordTooLarge),
        (Forgetful, lambda state: {**state, "lines": ["new"]}, NotJournalable),
    ],
)
def test_a_state_that_a_replay_would_not_find_is_refused(
    begin: Callable[..., Any], kind: Any, function: Any, error: Any
) -> None:
    node = begin(kind)
    node.call("l", "before")
    with pytest.raises(error):
        node.sys.replace_state("l", function)
    if kind is Ledger:
        assert lines(node) == ["before"]
    assert node.call("l", "after") is not None
    expected = node.sys.get_state("l") if kind is Ledger else None
    node.stop()
    if expected is not None:
        assert begin(kind).sys.get_state("l") == expected


def test_callers_whose_reply_was_put_off_are_answered_all_the_same(
    begin: Callable[..., Any],
) -> None:
    node = begin()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(node.call, "l", "later")
        while not node.sys.get_status("l").callers:
            pass
        node.sys.replace_state("l", put(["new"]))
        node.call("l", "now")
        assert answer.result() == "at last"


def test_the_journal_shows_who_put_a_state_in_place_and_history_steps_over_it(
    begin: Callable[..., Any], tmp_path: Path
) -> None:
    node = begin()
    node.call("l", "before")
    node.sys.replace_state("l", put(["new"]))
    node.call("l", "after")
    node.stop()
    data = str(tmp_path / "data")
    with held(data) as (_, segments):
        found = [describe(record, "l") for record in records(segments)]
    [state] = [record for record in found if record["type"] == "state"]
    assert "'lines': ['new']" in state["payload"]
    history = History(application(), data)
    history.advance(state["lsn"] - 1)
    assert history.states()["l"]["lines"] == ["before"]
    history.advance(history.last_lsn)
    assert history.states()["l"]["lines"] == ["new", "after"]
    history.close()


def test_newer_code_brings_a_state_forward_that_was_put_in_place(begin: Callable[..., Any]) -> None:
    node = begin()
    node.sys.replace_state("l", put(["new"]))
    node.stop()
    node = begin(NewerLedger)
    assert node.sys.get_state("l")["lines"] == ["new", "brought forward from 1"]


def test_a_snapshot_holds_a_replaced_state(begin: Callable[..., Any]) -> None:
    node = begin()
    node.call("l", "before")
    node.sys.replace_state("l", put(["new"]))
    taken = node.run_on_loop(node.journal.snapshots.take)
    assert taken
    while node.stats()["journal"]["snapshots"]["taken"] < 1:
        pass
    node.call("l", "after")
    node.stop()
    assert lines(begin()) == ["new", "after"]


def test_suspended_inputs_of_a_journaled_server_are_recorded_when_they_are_stepped(
    begin: Callable[..., Any],
) -> None:
    node = begin()
    lsn = node.journal.commit.next_lsn
    node.sys.suspend("l")
    node.cast("l", "waits")
    while node.sys.get_status("l").mailbox != 1:
        pass
    assert node.journal.commit.next_lsn == lsn
    node.sys.resume("l")
    node.call("l", "after")
    node.stop()
    assert lines(begin()) == ["waits", "after"]


@pytest.mark.parametrize("what", ["replace_state", "call", "urgent call"])
def test_who_waits_for_the_disk_on_the_loops_thread_says_how_long(what: str) -> None:
    """What has begun counts all the same, when the disk has come round to it."""
    with Simulator(1, application(), disk=SimDisk(1), journal_options=SMALL) as world:
        node, slow = world.node, 10_000_000_000
        asked: dict[str, Callable[[], Any]] = {
            "replace_state": lambda: node.sys.replace_state("l", put(["x"]), timeout=1.5),
            "call": lambda: node.call("l", "x", timeout=1.5),
            "urgent call": lambda: node.call("l", "x", timeout=1.5, priority=True),
        }
        world.run(1.0)
        world.network.set(disk_ns_min=slow, disk_ns_max=slow)
        before = world.now
        with pytest.raises(Timeout, match="'l'"):
            asked[what]()
        assert 1.5 <= world.now - before < 1.6
        world.run(20.0)
        assert node.call("l", "y", timeout=None) == b"2"


@pytest.mark.parametrize("level", ["disk", "os", "memory"])
def test_a_replaced_state_is_durable_whenever_replies_leave(level: Any) -> None:
    disk = SimDisk(1)
    with Simulator(1, application(acknowledge=level), disk=disk, journal_options=SMALL) as world:
        world.run(1.0)
        world.node.sys.replace_state("l", put(["new"]))
        found = disk.cut_exactly([0] * len(disk.undecided()))
    with Simulator(1, application(), disk=found, journal_options=SMALL) as world:
        assert lines(world.node) == ["new"]


@pytest.mark.parametrize("seed", range(12))
def test_a_state_that_was_said_to_be_replaced_survives_power_cuts(seed: int) -> None:
    dice = random.Random(seed)
    disk = SimDisk(seed)
    replaced: list[Any] = []
    for life in range(4):
        world = Simulator(seed, application(), disk=disk, journal_options=SMALL, shake=True)
        with world:
            found = list(world.node.sys.get_state("l")["lines"])
            assert found[: len(replaced)] == replaced
            client = world.connect()
            for number in range(dice.randrange(4)):
                client.send(b"%d.%d\n" % (life, number))
            world.run(dice.random() * 0.02)
            replaced = [f"life {life}"]
            world.node.sys.replace_state("l", put(replaced))
            client.send(b"behind\n")
            world.run(dice.random() * 0.01)
            disk = world.lose_power(dice)


@pytest.mark.parametrize("seed", range(4))
def test_connections_wait_for_a_suspended_server_in_any_weather(seed: int) -> None:
    with Simulator(seed, application(), disk=SimDisk(seed), shake=True) as world:
        world.network.set(reset=0)
        client = world.connect()
        client.send(b"one\n")
        world.run_until(lambda: client.received == b"1\n")
        world.node.sys.suspend("l")
        client.send(b"two\nthree\n")
        world.run(5.0)
        assert client.take() == b"1\n"
        assert world.node.sys.get_state("l")["lines"] == ["one"]
        world.node.sys.resume("l")
        world.run_until(lambda: client.received == b"2\n3\n")

"""Hibernating servers: out of memory, woken by the next input, and nothing is ever lost."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pybehave import Application, GenServer, GenStatem, Listener, Supervisor, Worker, family
from pybehave._uring.servers import Asleep
from pybehave.actions import NO_REPLY, Cast, Hibernate, Info, Reply, StartTimer
from pybehave.errors import Crashed
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.runtime.durable.hibernation import ROOM_MIN, Swap
from pybehave.statem import KeepState
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial, receive, until
from tests.processes import Process, serving

Start = Callable[..., Any]


class Sleeper(GenServer[dict[str, Any], Any, Any]):
    """Counts what it is told, and hibernates after each input."""

    def init(self, args: Any) -> Any:
        return {"count": 0, "heard": []}, Hibernate()

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        if command == "crash":
            state["count"] = -1
            raise ValueError("asked to")
        if command == "tell":
            return state, None, [Cast("a", "x"), Info("a", "from b"), Hibernate()]
        if command == "timer":
            return state, None, [StartTimer("t", 0.001, "timer"), Hibernate()]
        if command == "count":
            return state, state["count"]
        state["count"] += 1
        return state, b"%d" % state["count"], Hibernate()

    def handle_info(self, message: Any, state: dict[str, Any]) -> Any:
        state["heard"].append(message)
        return state, None, Hibernate()


class Machine(GenStatem):
    def init(self, args: Any) -> Any:
        return "up", 0

    def up(self, kind: Any, content: Any, data: int) -> Any:
        return KeepState(data + 1, [Reply(kind[1], data + 1), Hibernate()])


class Owing(GenServer[Any, Any, Any]):
    """Puts a reply off and hibernates; another server may be the one to make it."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if command == "reply":
            return [], "made", [*(Reply(caller, "late") for caller in state), Hibernate()]
        if command == "pass on":
            return state, NO_REPLY, [Cast("b", self.context.caller), Hibernate()]
        if command == "sleep":
            return state, "asleep", Hibernate()
        kept = self.context.caller if command == "wait" else command
        return [*state, kept], NO_REPLY, Hibernate()


class Forgetful(Owing):
    """Says itself that who waits is nothing to be kept."""

    def dump(self, state: list[Any]) -> Any:
        return None

    def load(self, data: Any) -> list[Any]:
        return []


class Unkept(Sleeper):
    """Its state has no form."""

    def init(self, args: Any) -> Any:
        return {"count": 0, "heard": [], "function": len}, Hibernate()


def app(kind: Any = Sleeper, **words: Any) -> Application:
    workers = [Worker(name, kind, **{"journal": True, **words}) for name in "ab"]
    listener = Listener("tcp://127.0.0.1:0", Lines(), to="a")
    return Application("sleep", Supervisor("one_for_one", workers, intensity=1000),
                       listeners=[listener])  # fmt: skip


def raw(node: Any, name: str = "a") -> Any:
    """The state as the core keeps it."""
    return node.run_on_loop(lambda: node.loop.dispatcher.whereis(name).state)


def hibernation(node: Any) -> dict[str, int]:
    found: dict[str, int] = node.stats()["journal"]["hibernation"]
    return found


def test_each_kind_of_input_wakes_a_server_and_it_sleeps_again(
    start: Start, tmp_path: Path
) -> None:
    node = start(app(), data=tmp_path)
    assert type(raw(node)) is Asleep
    assert node.call("a", "x") == b"1"
    node.cast("a", "x")
    node.info("a", "info")
    node.call("b", "tell")
    node.call("a", "timer")
    with dial(node) as client:
        client.sendall(b"x\nx\n")
        assert receive(client, 4) == b"4\n5\n"
    until(node, lambda: len(node.get_state("a")["heard"]) == 3)
    assert node.call_many("a", ["x", "x"]) == [b"6", b"7"]
    assert type(raw(node)) is Asleep
    assert node.get_state("a") == {"count": 7, "heard": ["info", "from b", "timer"]}


def test_to_look_at_one_wakes_nobody_and_to_change_one_does(start: Start, tmp_path: Path) -> None:
    node = start(app(), data=tmp_path)
    node.call("a", "x")
    assert node.sys.get_state("a")["count"] == node.get_state("a")["count"] == 1
    assert node.sys.get_status("a").mode == "running"
    assert type(raw(node)) is Asleep
    node.sys.replace_state("a", lambda state: {**state, "count": 10})
    assert node.call("a", "x") == b"11"
    node.sys.suspend("a")
    assert raw(node) == {"count": 11, "heard": []}
    node.sys.resume("a")
    assert node.call("a", "count") == 11
    assert type(raw(node)) is dict  # it was not asked to


def test_a_crash_a_stop_and_a_start_find_the_state(start: Start, tmp_path: Path) -> None:
    node = start(app(), data=tmp_path)
    node.call("a", "x")
    with pytest.raises(Crashed):
        node.call("a", "crash")
    assert node.call("a", "x") == b"2"
    node.stop_server("a", "shutdown")
    assert node.call("a", "x") == b"3"
    node.stop()
    again = start(app(), data=tmp_path)
    assert again.call("a", "count") == 3


def test_machines_hibernate(start: Start, tmp_path: Path) -> None:
    node = start(app(Machine), data=tmp_path)
    assert [node.call("a", "x") for _ in range(3)] == [1, 2, 3]
    assert type(raw(node)) is Asleep


@pytest.mark.parametrize(
    ("kind", "command", "keeps"),
    [(Owing, "wait", "a"), (Forgetful, "wait", "a"), (Owing, "pass on", "b")],
)
def test_who_waits_for_a_reply_gets_it_from_a_server_that_would_sleep(
    start: Start, tmp_path: Path, kind: Any, command: str, keeps: str
) -> None:
    node = start(app(kind), data=tmp_path)
    late = node.send_request("a", command)
    until(node, lambda: node.get_state(keeps))
    assert node.call(keeps, "sleep") == "asleep"
    assert type(raw(node, keeps)) is list
    assert node.call(keeps, "reply") == "made"
    assert late.result(30) == "late"
    assert node.call("a", "sleep") == "asleep"
    assert type(raw(node)) is Asleep


def test_one_whose_state_has_no_form_stays_awake_and_that_is_said_once(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = start(app(Unkept), data=tmp_path)
    logging.getLogger("pybehave").setLevel(logging.WARNING)
    with caplog.at_level(logging.WARNING, "pybehave.journal"):
        assert [node.call("b", "x") for _ in range(3)] == [b"1", b"2", b"3"]
    assert type(raw(node, "b")) is dict
    assert caplog.text.count("cannot hibernate") <= 1  # the first time was in the start


def test_without_a_journal_it_changes_nothing(start: Start) -> None:
    node = start(app(journal=False))
    assert node.call("a", "x") == b"1"
    assert type(raw(node)) is dict


def test_what_was_put_away_and_is_damaged_is_built_again(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = start(app(), data=tmp_path)
    node.call("a", "x")
    swap = node.journal.hibernation._swap
    os.pwrite(swap.fd, b"\xff" * ROOM_MIN, raw(node).at)
    assert node.call("a", "x") == b"2"
    assert node.call("a", "x") == b"3"
    assert hibernation(node)["asleep"] == 2


def test_the_file_does_not_grow_by_sleeping_and_waking(start: Start, tmp_path: Path) -> None:
    node = start(app(), data=tmp_path)
    node.call("a", "x")
    before = hibernation(node)["file_bytes"]
    for _ in range(200):
        node.call("a", "x")
    after = hibernation(node)
    assert after["file_bytes"] <= 2 * before
    assert after["slept"] - after["woken"] == after["asleep"] == 2
    assert not list(tmp_path.glob("tmp*"))  # it has no name


def test_a_snapshot_holds_what_sleeps_as_it_was_when_it_began(start: Start, tmp_path: Path) -> None:
    names = [f"s{number}" for number in range(50)]
    workers = [Worker(name, Sleeper, journal=True) for name in names]
    many = Application("many", Supervisor("one_for_one", workers))
    node = start(many, data=tmp_path)
    for round_ in range(1, 6):
        node.multi_call(names, "x")
        taken = node.stats()["journal"]["snapshots"]["taken"]
        assert node.run_on_loop(node.journal.snapshots.take)
        node.multi_call(names, "x")  # while another process reads the file
        until(node, lambda taken=taken: node.journal.snapshots.taken == taken + 1)
        assert node.call("s0", "count") == 2 * round_
    node.stop(drain=False)
    again = start(many, data=tmp_path)
    assert {again.call(name, "count") for name in names} == {10}


served = Application(
    "served",
    Supervisor("one_for_one", [Worker("a", Sleeper, journal=True)]),
    listeners=[Listener("tcp://127.0.0.1:7000", Lines("utf-8"), to="a")],
)


def test_one_that_hibernates_comes_back_after_kill_9(source: str, tmp_path: Path) -> None:
    def ask(process: Process) -> bytes:
        with socket.create_connection(("127.0.0.1", process.port), 20) as client:
            client.sendall(b"x\n")
            return client.makefile("rb").readline().strip()

    for life in range(3):
        with serving(f"{__name__}:served", source, "--data", str(tmp_path)) as process:
            assert [ask(process) for _ in range(5)] == [b"%d" % (5 * life + n) for n in range(1, 6)]
            process.end(signal.SIGKILL)
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith("tmp")]


# --- families ----------------------------------------------------------------------------------


def members(**words: Any) -> Application:
    tree = Supervisor("one_for_one", [family("m-*", Sleeper, journal=True, **words)])
    return Application("members", tree)


def test_a_member_that_sleeps_is_out_of_memory_also_after_a_start() -> None:
    disk = SimDisk()
    with Simulator(1, members(idle=10), disk=disk) as world:
        for number in range(20):
            world.node.call(f"m-{number}", "x")
        world.run(30)
        assert world.node.names() == []
        assert hibernation(world.node)["asleep"] == 20
        assert type(world.node.journal.remembered("m-3").state) is Asleep
        assert world.node.call("m-3", "x") == b"2"
    with Simulator(2, members(idle=10), disk=disk) as world:
        assert hibernation(world.node)["asleep"] == 20
        assert [world.node.call(f"m-{n}", "count") for n in (2, 3)] == [1, 2]


@pytest.mark.parametrize("seed", range(40))
def test_no_acknowledged_input_is_lost_through_sleep_snapshots_and_power_cuts(seed: int) -> None:
    dice, disk = Random(seed), SimDisk()
    both = Supervisor("one_for_one", [
        Worker("a", Sleeper, journal=True), family("m-*", Sleeper, journal=True, idle=2)
    ])  # fmt: skip
    sleepers = Application("sleepers", both)
    counts: dict[str, int] = {}
    options = Options(segment_bytes=64 << 10)
    for life in range(4):
        world = Simulator(seed + life, sleepers, disk=disk, journal_options=options).start()
        world.node.journal.snapshots.records = dice.choice((5, 30, 1000))
        for name, count in counts.items():
            assert world.node.call(name, "count") == count
        for _ in range(40):
            name = dice.choice(("a", *(f"m-{n}" for n in range(5))))
            counts[name] = counts.get(name, 0) + 1
            assert world.node.call(name, "x") == b"%d" % counts[name]
            world.run(dice.choice((0, 0, 0.1, 3)))
            if dice.random() < 0.1:
                world.node.journal.snapshots.take()
        if dice.random() < 0.7:
            disk = world.lose_power(dice)
        else:
            world.stop()


# --- the file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("is_simulated", [False, True])
def test_pieces_come_back_and_their_room_is_used_again(tmp_path: Path, is_simulated: bool) -> None:
    swap, dice = Swap(None if is_simulated else str(tmp_path)), Random(1)
    kept: dict[int, tuple[Asleep, bytes]] = {}
    for number in range(2000):
        if kept and dice.random() < 0.5:
            key, data = kept.pop(dice.choice(list(kept)))
            assert swap.get(key) == data
            swap.free(key)
        data = dice.randbytes(dice.choice((0, 1, 55, 56, 57, 500, 5000)))
        kept[number] = (swap.put(data), data)
    assert all(swap.get(key) == data for key, data in kept.values())
    assert swap.count == len(kept)
    with pytest.raises(OSError, match="damaged"):
        swap.get(Asleep(swap.size_bytes + 4096, 7))
    swap.close()

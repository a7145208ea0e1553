"""When replies leave: "disk", "os" or "memory", of a server and of a call, and what survives."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker, actions
from pybehave.errors import Crashed, SpecError
from pybehave.journal.recovery import Options
from pybehave.journal.tail import TAIL
from pybehave.protocols import Lines
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator

TCP = "tcp://127.0.0.1:7000"
OPTIONS = Options(segment_bytes=64 << 10, tail_bytes=64 << 10)


class Ledger(GenServer[Any, Any, Any]):
    def init(self, args: Any) -> Any:
        return []

    def step(self, command: Any, state: Any) -> Any:
        if command == b"?":
            return state, b" ".join(state)
        if command == "break":
            raise ValueError("a deliberate bug")
        state.append(command)
        if command == "later":
            return state, None, actions.Continue("went on")
        return state, command

    def handle_continue(self, term: Any, state: Any) -> Any:
        state.append(term)
        return state, None


def app(acknowledge: Any, **options: Any) -> Application:
    worker = Worker("l", Ledger, journal=True, acknowledge=acknowledge)
    return Application("t", Supervisor("one_for_one", [worker], intensity=100), **options)


def world_on(disk: SimDisk, acknowledge: Any, seed: int = 1, **options: Any) -> Simulator:
    return Simulator(seed, app(acknowledge, **options), disk=disk, journal_options=OPTIONS).start()


def state_after_a_kill(disk: SimDisk, acknowledge: Any = "disk") -> Any:
    world = world_on(disk.copy(), acknowledge, 2)
    state = world.node.get_state("l")
    world.stop()
    return state


SURVIVES = {"disk": ["a", "b"], "os": ["a", "b"], "memory": []}


@pytest.mark.parametrize("level, expected", SURVIVES.items())
def test_a_kill_behind_the_reply_takes_what_was_in_memory_only(
    level: str, expected: list[str]
) -> None:
    """In the simulator the loop runs only while a call waits: nothing else has been written."""
    disk = SimDisk(1)
    world = world_on(disk, level)
    world.run(1.0)
    for command in ("a", "b"):
        assert world.node.call("l", command) == command
    is_durable = world.node.journal.commit.is_idle
    assert is_durable is (level == "disk")
    assert state_after_a_kill(disk) == expected


@pytest.mark.parametrize("servers", ["disk", "os", "memory"])
@pytest.mark.parametrize("level, expected", SURVIVES.items())
def test_a_call_has_its_own_level(level: Any, expected: list[str], servers: str) -> None:
    disk = SimDisk(1)
    world = world_on(disk, servers)
    world.run(1.0)
    for command in ("a", "b"):
        assert world.node.call("l", command, acknowledge=level) == command
    found = state_after_a_kill(disk)
    assert found == expected or (servers == "os" and found == ["a", "b"])


def test_a_kill_while_the_disk_writes_loses_nothing() -> None:
    """What is under way and what gathers meanwhile: both are in the tail."""
    disk = SimDisk(1)
    world = world_on(disk, "os")
    world.run(1.0)
    for index in range(20):
        world.node.call("l", index)
        world.node.run_once(0.0)
    assert not world.node.journal.commit.is_idle
    assert state_after_a_kill(disk) == list(range(20))


def test_a_crash_and_a_continue_are_kept_too() -> None:
    disk = SimDisk(1)
    world = world_on(disk, "os")
    world.run(1.0)
    with pytest.raises(Crashed):
        world.node.call("l", "break")
    world.run(1.0)
    world.node.call("l", "later")
    assert state_after_a_kill(disk) == ["later", "went on"]


def test_what_was_taken_over_is_durable_then_and_the_tail_empty() -> None:
    disk = SimDisk(1)
    world = world_on(disk, "os")
    world.run(1.0)
    world.node.call("l", "a")
    left = disk.copy()
    again = world_on(left, "disk", 2)
    assert again.node.journal.recovery.report.kept > 0
    again.node.call("l", "b")
    for number in range(2):  # from the segments now
        left = left.copy()
        world = world_on(left, "disk", 3 + number)
        assert world.node.get_state("l") == ["a", "b"]
        assert world.node.journal.recovery.report.kept == 0


def test_a_kill_before_the_takeover_is_durable_takes_it_over_again() -> None:
    disk = SimDisk(1)
    world = world_on(disk, "os")
    world.run(1.0)
    world.node.call("l", "a")
    left = disk.copy()
    for number in range(3):
        world = world_on(left, "os", 2 + number)
        assert world.node.get_state("l") == ["a"]
        assert world.node.journal.commit.tail is None  # what is in the file is needed (K2)
        left = left.copy()
    assert state_after_a_kill(left) == ["a"]


def test_a_command_too_large_for_the_tail_waits_for_the_disk() -> None:
    disk = SimDisk(1)
    world = world_on(disk, "os")
    world.run(1.0)
    large = b"x" * 30_000  # half of the tail is 32 KiB, and some of it is kept free
    assert world.node.call("l", large) == large
    assert world.node.journal.commit.is_idle
    world.node.call("l", "b")
    assert not world.node.journal.commit.is_idle
    assert state_after_a_kill(disk) == [large, "b"]


def test_a_damaged_tail_gives_a_beginning_and_nothing_else() -> None:
    """A kill in the middle of a copy, and pages that a power cut has mixed, look like this."""
    disk = SimDisk(1)
    world = world_on(disk, "os")
    world.run(1.0)
    said = [b"%d" % number for number in range(5)]
    for command in said:
        world.node.call("l", command)
    used = len(bytes(disk.shared(TAIL, 0)).rstrip(b"\0"))
    kept = set()
    for at in range(0, used, 5):
        left = disk.copy()
        left.shared(TAIL, 0)[at] ^= 0x10
        state = state_after_a_kill(left)
        assert state == said[: len(state)]
        kept.add(len(state))
    assert kept >= set(range(5))  # and all, where a byte between chunks was hit


@pytest.mark.parametrize("size", [1, 39, 100, 8191, (64 << 10) - 1, (64 << 10) + 1])
def test_a_tail_of_an_odd_size_keeps_nobody_from_starting(
    start: Callable[..., Any], tmp_path: Path, size: int
) -> None:
    data = tmp_path / "data"
    for count in (1, 2, 3):
        node = start(app("os"), data=data, journal_options=OPTIONS)
        node.call("l", "a")
        assert node.get_state("l") == ["a"] * count
        node.stop()
        assert os.path.getsize(data / TAIL) >= OPTIONS.tail_bytes
        os.truncate(data / TAIL, size)


def test_the_tail_of_another_journal_is_none() -> None:
    disk, other = SimDisk(1), SimDisk(2)
    for each in (disk, other):
        world = world_on(each, "os")
        world.run(1.0)
    world.node.call("l", "other")
    disk.shared(TAIL, 0)[:] = other.shared(TAIL, 0)
    assert state_after_a_kill(disk) == []


@pytest.mark.parametrize("seed", range(80))
def test_kills_and_power_cuts_in_any_order(seed: int) -> None:
    """A kill loses nothing that was answered; a power cut leaves a beginning of what was sent."""
    dice, disk = random.Random(seed), SimDisk(seed)
    sent: list[bytes] = []
    known = durable = 0
    for life in range(6):
        level = dice.choice(("os", "os", "disk"))
        world = world_on(disk, level, seed * 10 + life, listeners=[Listener(TCP, Lines(), to="l")])
        found = list(world.node.get_state("l"))
        assert found == sent[: len(found)]
        assert len(found) >= known
        before, sent, client = len(found), found, world.connect(TCP)
        for number in range(dice.randrange(1, 25)):
            line = b"%d.%d." % (life, number) + b"x" * dice.choice((1, 100, 4000))
            client.send(line + b"\n")
            sent.append(line)
            world.run(dice.random() * dice.choice((0.0001, 0.01)))
        count = bytes(client.received).count(b"\n")
        if level == "disk" and count:
            durable = before + count
        if dice.random() < 0.6:
            known = before + count
            killed = disk.copy()
            world.lose_power(dice)
            disk = killed
        else:
            known = durable
            disk = world.lose_power(dice)


def test_levels_on_every_source(start: Callable[..., Any], tmp_path: Path) -> None:
    node = start(app("memory"), data=tmp_path, journal_options=OPTIONS)
    for level in ("memory", "os", "disk", None):
        assert node.call("l", b"a", acknowledge=level) == b"a"
        assert node.call_many("l", [b"b", b"c"], acknowledge=level) == [b"b", b"c"]
        assert asyncio.run(awaited(node, level)) == b"d"
    node.call("l", b"e", acknowledge="disk")
    journal = node.stats()["journal"]
    assert journal["durable_lsn"] + 1 == journal["next_lsn"]
    with pytest.raises(Crashed):
        node.call("l", "break", acknowledge="os")
    node.stop()
    node = start(app("os"), data=tmp_path, journal_options=OPTIONS)
    assert len(node.get_state("l")) == 4 * 4 + 1


async def awaited(node: Any, level: Any) -> Any:
    return await node.acall("l", b"d", acknowledge=level)


@pytest.mark.parametrize("level", ["fsync", "", 3, True, ["disk"]])
def test_what_is_no_level_is_refused(start: Callable[..., Any], level: Any) -> None:
    with pytest.raises(SpecError, match=r'acknowledge=.*; use "disk", "os" or "memory"'):
        Worker("l", Ledger, journal=True, acknowledge=level)
    node = start(app("disk"), data=None)
    with pytest.raises(ValueError, match=r"acknowledge=.* is not allowed; use"):
        node.call("l", b"a", acknowledge=level)
    assert node.call("l", b"a", acknowledge="os") == b"a"

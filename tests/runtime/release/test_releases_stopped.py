"""A change of release and journaled servers that do not run: their states change, too."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from pybehave import Application, GenServer, Release, Supervisor, Worker, family
from pybehave.errors import (
    Crashed,
    DurabilityLost,
    LoopClosed,
    NoProc,
    StartFailed,
    UpgradeFailed,
    UpgradeRefused,
)
from pybehave.runtime.release.specs import Wish
from pybehave.runtime.release.upgrade import Phase
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.runtime.release.test_releases import SMALL


class Notes(GenServer[Any, Any, Any]):
    """What it got; a list. Its next version has no `upcast_state`."""

    def init(self, args: Any) -> Any:
        return []

    def step(self, command: Any, state: Any) -> Any:
        if command is not None:
            state.append(command)
        if command == "fail":
            raise ValueError("on purpose")
        return state, list(state)


class Notes2(Notes):
    version = 2

    def init(self, args: Any) -> Any:
        return {"notes": []}

    def step(self, command: Any, state: Any) -> Any:
        return state, super().step(command, state["notes"])[1]

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        return {"notes": state} if old_version == 1 else state["notes"]


class Broken(Notes2):
    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        state.clear()
        raise ValueError("no way")


def release(kind: Any, version: str, *others: str) -> Application:
    workers = [Worker(name, kind, journal=True) for name in others]
    members = family("m-*", kind, journal=True, restart="temporary", idle=5.0)
    return Application("t", Supervisor("one_for_one", [*workers, members]), version=version)


def world(disk: SimDisk, kind: Any, version: str, *others: str) -> Simulator:
    """No completion source has a part in this but the simulated one."""
    return Simulator(1, release(kind, version, *others), disk=disk, journal_options=SMALL)


@pytest.mark.parametrize("others", [(), ("a",)])
def test_a_member_that_sleeps_is_migrated_there_and_back(others: tuple[str, ...]) -> None:
    """It was not: neither it nor, at the next start, the node could be started any more."""
    disk = SimDisk(1)
    with world(disk, Notes, "1", *others) as sim:
        sim.node.call("m-1", "one")
        sim.node.call("m-2", "one")
        sim.run(20)
        assert sim.node.whereis("m-1") is None
        sim.node.releases.upgrade(release(Notes2, "2", *others), from_version="1")
        assert sim.node.journal.hibernation.stats()["asleep"] == 2
        assert sim.node.call("m-1", "two") == ["one", "two"]
        disk = sim.lose_power(Random(1))
    with world(disk, Notes2, "2", *others) as sim:
        assert sim.node.call("m-1", None) == ["one", "two"]
        assert sim.node.call("m-2", None) == ["one"]


def test_a_member_that_sleeps_is_taken_back_too() -> None:
    disk = SimDisk(1)
    with world(disk, Notes, "1") as sim:
        sim.node.releases.upgrade(release(Notes2, "2"), from_version="1")
        assert sim.node.call("m-1", "two") == ["two"]
        sim.run(20)
        sim.node.releases.rollback()
        assert sim.node.call("m-1", None) == ["two"]
    with world(disk, Notes, "1") as sim:
        assert sim.node.call("m-1", None) == ["two"]


def test_a_migration_that_raises_leaves_those_that_do_not_run_as_they_were() -> None:
    """It changed their states in place: what was acknowledged was gone, until the next start."""
    with world(SimDisk(1), Notes, "1", "a") as sim:
        for name in ("a", "m-1"):
            sim.node.call(name, "one")
        sim.node.terminate_child("root", "a")
        sim.run(20)
        for _ in range(2):
            with pytest.raises(UpgradeFailed, match="no way"):
                sim.node.releases.upgrade(release(Broken, "2", "a"), from_version="1")
        sim.node.restart_child("root", "a")
        assert [sim.node.call(name, None) for name in ("a", "m-1")] == [["one"]] * 2


def test_states_out_of_memory_leave_no_room_behind_when_they_change() -> None:
    with world(SimDisk(1), Notes, "1") as sim:
        sim.node.call("m-1", "one")
        sim.run(20)
        for _ in range(5):
            with pytest.raises(UpgradeFailed):
                sim.node.releases.upgrade(release(Broken, "2"), from_version="1")
            sim.node.releases.upgrade(release(Notes2, "2"), from_version="1")
            sim.node.releases.rollback()
        sleeping = sim.node.journal.hibernation.stats()
        assert (sleeping["asleep"], sleeping["file_bytes"]) == (1, 128)
        assert sim.node.call("m-1", None) == ["one"]


def test_one_that_failed_after_an_upgrade_keeps_no_snapshot_and_no_change_from_being() -> None:
    """Its state was built with the code that the node was started with, which refused."""
    with world(SimDisk(1), Notes, "1", "a") as sim:
        sim.node.releases.upgrade(release(Notes2, "2", "a"), from_version="1")
        sim.node.call("m-1", "one")
        with pytest.raises(Crashed):
            sim.node.call("m-1", "fail")
        assert sim.node.journal.snapshots.take()
        sim.run(1)
        sim.node.releases.rollback()
        assert sim.node.call("m-1", None) == ["one"]


@contextlib.contextmanager
def writing(*others: str) -> Iterator[tuple[Simulator, list[Any]]]:
    """A node whose upgrade is just being written, and how that ends; m-1 sleeps, and the others'
    first is stopped.
    """
    answers: list[Any] = []
    with world(SimDisk(1), Notes, "1", *others) as sim:
        for name in ("m-1", *others):
            sim.node.call(name, "one")
        if others:
            sim.node.terminate_child("root", others[0])
        sim.run(20)
        wish = Wish(Release(release(Notes2, "2", *others), upgrades="1"), [])
        sim.node.releases.begin(wish, lambda *answer: answers.append(answer))
        while sim.node.releases.under_way.phase is not Phase.WRITING:
            sim.tick(sim.now + 0.00002)
        yield sim, answers


@pytest.mark.parametrize("name", ["m-1", "m-9"])
@pytest.mark.parametrize("is_given_up", [False, True])
def test_who_is_woken_meanwhile_waits_for_the_code_that_counts(
    name: str, is_given_up: bool
) -> None:
    """It ran the new code at once, also if that was taken back then."""
    with writing() as (sim, answers):
        sim.node.cast(name, "two")
        assert sim.node.whereis(name) is None
        assert answers == []
        if is_given_up:
            sim.node.releases.under_way.give_up(UpgradeRefused("it", "a test"))
        sim.run(1.0)
        assert (answers[0][1] is None) is not is_given_up
        assert sim.node.call(name, None) == (["one", "two"] if name == "m-1" else ["two"])
        kind = Notes if is_given_up else Notes2
        assert type(sim.node.sys.get_state(name)) is (list if is_given_up else dict)
        disk = sim.lose_power(Random(1))
    with world(disk, kind, "1" if is_given_up else "2") as sim:
        assert sim.node.call(name, None) == (["one", "two"] if name == "m-1" else ["two"])


def test_who_is_woken_meanwhile_is_told_when_the_journal_fails() -> None:
    """Nobody was left to start the member, and the callers were not told."""
    with writing() as (sim, answers):
        owed = [sim.node.send_request(name, "two") for name in ("m-1", "m-9")]
        sim.tick(sim.now + 0.00002)
        assert answers == []
        sim.node.journal.commit.fail(errno.EIO)
        assert sim.stop() == 1
        assert isinstance(answers[0][1], LoopClosed)
        for request in owed:
            with pytest.raises((DurabilityLost, NoProc)):
                request.result(0)


def test_one_that_is_started_meanwhile_gives_the_upgrade_up() -> None:
    with writing("a") as (sim, answers):
        with pytest.raises(StartFailed, match="started or ended in the middle of it; try again"):
            sim.node.restart_child("root", "a")
        assert "in the middle of it" in str(answers[0][1])
        sim.node.restart_child("root", "a")
        assert sim.node.call("a", None) == ["one"]
        disk = sim.lose_power(Random(1))
    with world(disk, Notes, "1", "a") as sim:
        assert sim.node.call("a", None) == ["one"]

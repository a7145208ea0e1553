"""A change of release and journaled servers that do not run: their states change, too."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker, family
from pybehave.errors import Crashed, UpgradeFailed
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

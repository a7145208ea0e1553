"""Servers that the journal knows and nobody starts now: nothing of theirs is ever lost."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.errors import Crashed
from pybehave.journal.recovery import Options
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.power.machine import wait_for
from tests.processes import run

OPTIONS = Options(segment_bytes=64 << 10)
NAMES = ("a", "b", "c")


class Ledger(GenServer[Any, Any, Any]):
    """Keeps what it hears; "break" spoils the state and raises."""

    def init(self, args: Any) -> Any:
        return []

    def step(self, command: Any, state: Any) -> Any:
        state.append(command)
        if command == "break":
            raise ValueError("a deliberate bug")
        return state, len(state)


def worker(name: str, restart: Any = "permanent") -> Worker[Any, Any]:
    return Worker(name, Ledger, journal=True, restart=restart)


def app(*names: str, restart: Any = "permanent") -> Application:
    children = [worker("keeper"), *(worker(name, restart) for name in names)]
    return Application("t", Supervisor("one_for_one", children, id="root", intensity=1000))


def world_on(disk: SimDisk, *names: str, seed: int = 1, restart: Any = "permanent") -> Simulator:
    return Simulator(seed, app(*names, restart=restart), disk=disk, journal_options=OPTIONS)


def snapshot_of(world: Simulator) -> None:
    journal = world.node.journal
    count = journal.snapshots.taken
    assert journal.snapshots.take()
    world.run(1.0)
    assert journal.snapshots.taken == count + 1
    assert journal.commit.snapshots[0] == journal.snapshots.lsn


def test_a_snapshot_keeps_who_is_not_in_the_tree_any_more() -> None:
    """What it held, what came behind the snapshot before, and both again after the next one."""
    disk = SimDisk(1)
    with world_on(disk, "a", "b") as world:
        world.node.call("b", "in the snapshot")
        snapshot_of(world)
        world.node.call("b", "behind it")
    for life in range(3):
        with world_on(disk, "a", seed=life) as world:
            world.node.call("a", life)
            snapshot_of(world)
            snapshot_of(world)  # the older one is forgotten, and the segments that only it needed
    with world_on(disk, "a", "b") as world:
        assert world.node.get_state("a") == [0, 1, 2]
        assert world.node.get_state("b") == ["in the snapshot", "behind it"]


def test_one_that_was_in_no_snapshot_is_kept_from_its_first_input_on() -> None:
    disk = SimDisk(1)
    with world_on(disk, "a", "b") as world:
        world.node.call("b", "first")
        with pytest.raises(Crashed):
            world.node.call("b", "break")
        world.run(1.0)
        world.node.call("b", "second")
    with world_on(disk, "a") as world:
        snapshot_of(world)
    with world_on(disk, "a") as world:
        world.node.start_child("root", worker("b"))
        world.run(1.0)
        assert world.node.get_state("b") == ["first", "second"]
        world.node.call("b", "third")
        snapshot_of(world)
        assert not world.node.journal.absent
    with world_on(disk, "b") as world:
        assert world.node.get_state("b") == ["first", "second", "third"]


def test_one_that_crashed_and_is_not_restarted_stops_no_snapshot() -> None:
    disk = SimDisk(1)
    with world_on(disk, "a", "b", restart="temporary") as world:
        world.node.call("b", "kept")
        with pytest.raises(Crashed):
            world.node.call("b", "break")
        world.run(1.0)
        assert world.node.whereis("b") is None
        snapshot_of(world)
    with world_on(disk, "a", "b") as world:
        assert world.node.get_state("b") == ["kept"]


def test_a_child_of_a_template_goes_on_when_it_is_started_again() -> None:
    template = Worker("session", Ledger, journal=True)
    tree = Supervisor("one_for_one", [Supervisor("simple_one_for_one", [template], id="sessions")])
    disk = SimDisk(1)
    for life in range(3):
        planned = Application("t", tree)
        with Simulator(life, planned, disk=disk, journal_options=OPTIONS) as world:
            if life != 1:
                world.node.start_child("sessions", [], name="bob")
                world.run(1.0)
                assert world.node.call("bob", life) == (1 if life == 0 else 2)
            snapshot_of(world)


@pytest.mark.parametrize("seed", range(60))
def test_servers_come_and_go_through_kills_crashes_and_power_cuts(seed: int) -> None:
    dice, disk = random.Random(seed), SimDisk(seed)
    model: dict[str, list[Any]] = {name: [] for name in NAMES}
    for life in range(7):
        names = [name for name in NAMES if dice.random() < 0.5]
        world = world_on(disk, *names, seed=seed * 10 + life).start()
        for number in range(dice.randrange(12)):
            name = dice.choice(NAMES)
            if dice.random() < 0.15:
                snapshot_of(world)
            elif name not in names:
                if dice.random() < 0.2:
                    world.node.start_child("root", worker(name))
                    names.append(name)
                continue
            elif dice.random() < 0.1:
                with pytest.raises(Crashed):
                    world.node.call(name, "break")
            else:
                said = f"{life}.{number}" + "x" * dice.choice((1, 3000))
                world.node.call(name, said)
                model[name].append(said)
            world.run(0.1)
            for each in names:
                assert world.node.get_state(each) == model[each]
        if dice.random() < 0.5:
            world.stop()
        else:
            disk = world.lose_power(dice)
    with world_on(disk, *NAMES, seed=seed) as world:
        assert {name: world.node.get_state(name) for name in NAMES} == model


def test_the_log_names_who_is_not_started(
    start: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = start(app("a", "renamed"), data=tmp_path, journal_options=OPTIONS)
    node.call("renamed", 1)
    node.stop()
    assert "does not start" not in caplog.text
    with caplog.at_level(logging.WARNING, "pybehave.journal"):
        node = start(app("a", "new"), data=tmp_path, journal_options=OPTIONS)
    assert "the state of 1 server that the application does not start: 'renamed'" in caplog.text
    assert node.run_on_loop(node.journal.snapshots.take)
    wait_for(lambda: node.journal.snapshots.taken == 1, "a snapshot")
    node.stop()
    node = start(app("a", "renamed"), data=tmp_path, journal_options=OPTIONS)
    assert node.get_state("renamed") == [1]
    node.stop()


def test_an_export_and_an_import_keep_them(start: Callable[..., Any], tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    node = start(app("b"), data=one, journal_options=OPTIONS)
    node.call("b", 1)
    node.stop()
    node = start(app(), data=one, journal_options=OPTIONS)
    assert node.run_on_loop(node.journal.snapshots.take)
    wait_for(lambda: node.journal.snapshots.taken == 1, "a snapshot")
    node.stop()
    lines = run("journal", "export", str(one)).stdout
    assert '"version":2' in lines
    (tmp_path / "lines").write_text(lines)
    run("journal", "import", str(two), str(tmp_path / "lines"))
    node = start(app("b"), data=two, journal_options=OPTIONS)
    assert node.get_state("b") == [1]
    node.stop()

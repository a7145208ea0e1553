"""Hooks of a node hear what becomes of its journal."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Rollback, Supervisor, Worker
from pybehave.errors import Crashed, DurabilityLost
from pybehave.journal.recovery import Options
from pybehave.journal.snapshot import snapshot_name
from pybehave.runtime.durable.events import (
    JournalFailed,
    Quarantined,
    RecoveryDone,
    SnapshotRejected,
    SnapshotSaved,
)
from pybehave.runtime.node import Node
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.power.machine import wait_for

OPTIONS = Options(segment_bytes=64 << 10)
KINDS = (JournalFailed, Quarantined, RecoveryDone, SnapshotRejected, SnapshotSaved)


class Ledger(GenServer[list[Any], Any, Any]):
    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if command == "break":
            raise ValueError("a deliberate bug")
        state.append(command)
        return state, len(state)


def app(recovery: Any = "last_good") -> Application:
    return Application(
        "t", Supervisor("one_for_one", [Worker("l", Ledger, journal=True, recovery=recovery)])
    )


def listening(node: Node) -> list[Any]:
    """What its hooks hear of the journal, from now on."""
    heard: list[Any] = []
    node.events.add(lambda event: heard.append(event) if isinstance(event, KINDS) else None)
    return heard


@pytest.fixture
def live(source: str, tmp_path: Path) -> Iterator[Callable[..., tuple[Node, list[Any]]]]:
    """Start a node on the same folder; it, and what its hooks hear."""
    nodes: list[Node] = []

    def begin(recovery: Any = "last_good") -> tuple[Node, list[Any]]:
        node = Node(app(recovery), backend=source, data=tmp_path / "d", journal_options=OPTIONS)
        heard = listening(node)
        nodes.append(node)
        return node.start(), heard

    yield begin
    for node in nodes:
        node.stop(drain=False)


def test_a_recovery_is_told_before_the_tree_starts(live: Any) -> None:
    node, heard = live()
    (first,) = heard
    assert (first.outcome, first.last_lsn, first.replayed) == ("new", 0, 0)
    for _ in range(3):
        node.call("l", "x")
    with pytest.raises(Crashed):
        node.call("l", "break")
    node.stop()
    node, heard = live()
    (second,) = heard
    assert (second.outcome, second.replayed, second.passed_over) == ("clean", 3, 1)
    assert str(second).startswith(f"the journal in {second.directory} is recovered (clean) up to")


def test_inputs_that_are_put_aside_are_told(live: Any) -> None:
    node, heard = live(Rollback(1))
    node.call("l", "x")
    with pytest.raises(Crashed):
        node.call("l", "break")
    wait_for(lambda: len(heard) == 3, "both inputs")
    failed, taken_back = heard[1:]
    assert (failed.child, failed.why) == ("l", "builtins.ValueError: a deliberate bug")
    assert taken_back.lsn < failed.lsn
    assert taken_back.why == "it was taken back when a later input failed"
    assert "is put aside: builtins.ValueError" in str(failed)


def test_a_snapshot_is_told_and_so_is_one_that_cannot_be_read(live: Any, tmp_path: Path) -> None:
    node, heard = live()
    node.call("l", "x")
    assert node.run_on_loop(node.journal.snapshots.take)
    wait_for(lambda: len(heard) == 2, "the snapshot")
    saved = heard[1]
    assert isinstance(saved, SnapshotSaved)
    node.stop()
    file = tmp_path / "d" / snapshot_name(saved.lsn)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    node, heard = live()
    rejected, done = heard
    assert isinstance(rejected, SnapshotRejected)
    assert rejected.lsn == saved.lsn
    assert isinstance(done, RecoveryDone)
    assert node.get_state("l") == ["x"]


def test_a_snapshot_that_cannot_be_written_is_told(
    live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> int:
        raise BlockingIOError(errno.EAGAIN, "no process is left")

    node, heard = live()
    node.call("l", "x")
    monkeypatch.setattr(os, "fork", refused)
    assert not node.run_on_loop(node.journal.snapshots.take)
    rejected = heard[1]
    assert isinstance(rejected, SnapshotRejected)
    assert "no process is left" in str(rejected)


def test_a_journal_that_fails_is_told() -> None:
    disk = SimDisk()
    world = Simulator(1, app(), disk=disk, journal_options=OPTIONS).start()
    heard = listening(world.node)
    disk.fail(errno.EIO, is_forever=True)
    with pytest.raises(DurabilityLost):
        world.node.call("l", "x")
    (failed,) = heard
    assert isinstance(failed, JournalFailed)
    assert failed.why == "Input/output error"
    assert isinstance(world.node.failure, DurabilityLost)
    assert world.stop() == 1

"""A compact copy goes on where the journal stood, and takes less room."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.errors import Crashed, JournalLocked, JournalRefused
from pybehave.journal import dead_letters
from pybehave.journal.compact import compact, used
from pybehave.journal.disk import FolderDisk
from pybehave.journal.recovery import Options
from pybehave.journal.snapshot import snapshot_name
from pybehave.journal.verify import verify
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.journal.folder_lives import write_folder
from tests.processes import run
from tests.snapshots import take_snapshot

OPTIONS = Options(segment_bytes=256 * 1024)
BEFORE, BEHIND = 30, 12


class Keeper(GenServer[list[Any], Any, Any]):
    """Keeps what it is told, with a random number."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if command == "break":
            raise ValueError("a deliberate bug")
        if command != "all":
            state.append((command, self.context.random.random()))
        return state, list(state)


def application() -> Application:
    worker = Worker("k", Keeper, journal=True)
    return Application("k", Supervisor("one_for_one", [worker], intensity=9))


Make = Callable[[bool], tuple[str, list[Any]]]


@pytest.fixture
def make(start: Callable[..., Any], tmp_path: Path) -> Make:
    """A journal, with a snapshot or without; and the state it leads to."""

    def begin(has_snapshot: bool) -> tuple[str, list[Any]]:
        data = tmp_path / "data"
        node = start(application(), data=data, journal_options=OPTIONS)
        for number in range(BEFORE):
            node.call("k", number)
        with pytest.raises(Crashed):
            node.call("k", "break")
        if has_snapshot:
            take_snapshot(node)
        for number in range(BEHIND):
            node.call("k", number)
        state = node.call("k", "all")
        node.stop()
        return str(data), state

    return begin


@pytest.mark.parametrize("has_snapshot", [True, False])
def test_a_node_goes_on_from_a_copy(
    make: Make, tmp_path: Path, start: Callable[..., Any], has_snapshot: bool
) -> None:
    source, state = make(has_snapshot)
    target = str(tmp_path / "copy")
    made = compact(source, target, now_ns=5)
    before, after = verify(source), verify(target, is_deep=True)
    assert (after.problems, after.last_lsn, made.last_lsn) == ([], before.last_lsn, before.last_lsn)
    assert after.snapshots == before.snapshots[:1]
    assert bool(made.snapshot_lsn) == has_snapshot == (after.first_lsn > 1)
    assert made.records == after.records
    assert (made.bytes_before, made.bytes_after) == (used(source), used(target))
    assert made.bytes_after < made.bytes_before
    node = start(application(), data=target, journal_options=OPTIONS)
    assert node.call("k", "all") == state
    assert node.call("k", "more")[-1][0] == "more"
    node.stop()
    assert start(application(), data=target).call("k", "all")[-1][0] == "more"


def test_dead_letters_go_with_it(make: Make, tmp_path: Path) -> None:
    source, _ = make(True)
    target = str(tmp_path / "copy")
    Path(source, "attempts.json").write_bytes(b"[]")
    compact(source, target, now_ns=5)
    assert dead_letters.numbers(target) == dead_letters.numbers(source) != []
    (lsn,) = dead_letters.numbers(target)
    assert dead_letters.get(target, lsn) == dead_letters.get(source, lsn)
    assert Path(target, "attempts.json").read_bytes() == b"[]"
    assert Path(target, "marker").read_bytes() == Path(source, "marker").read_bytes()


def test_the_original_is_not_changed(make: Make, tmp_path: Path) -> None:
    source, _ = make(True)

    def contents() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in Path(source).rglob("*") if file.is_file()}

    before = contents()
    compact(source, str(tmp_path / "copy"), now_ns=5)
    assert contents() == before


def test_an_unreadable_snapshot_is_damage_and_is_not_hidden(make: Make, tmp_path: Path) -> None:
    source, _ = make(True)
    newest = verify(source).snapshots[0]
    Path(source, snapshot_name(newest)).write_bytes(b"")
    with pytest.raises(JournalRefused, match=r"a compact copy would hide that.*journal repair"):
        compact(source, str(tmp_path / "copy"), now_ns=5)
    assert not (tmp_path / "copy").exists()


def test_a_journal_that_is_served_is_not_compacted(make: Make, tmp_path: Path) -> None:
    source, _ = make(False)
    served = FolderDisk(source)
    served.lock()
    try:
        with pytest.raises(JournalLocked):
            compact(source, str(tmp_path / "copy"), now_ns=5)
    finally:
        served.unlock()
    compact(source, str(tmp_path / "copy"), now_ns=5)
    with pytest.raises(JournalRefused, match="the folder is not empty"):
        compact(source, str(tmp_path / "copy"), now_ns=5)


def test_the_command_says_what_it_did_and_mistakes_are_one_sentence(
    make: Make, tmp_path: Path
) -> None:
    source, _ = make(True)
    target = str(tmp_path / "copy")
    result = run("journal", "compact", source, "--copy-to", target)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"start with --data {target}" in result.stdout and "became" in result.stdout
    for words, sentence in (
        ((source, "--copy-to", target), "the folder is not empty"),
        ((str(tmp_path / "no"), "--copy-to", target), "there is no journal in"),
    ):
        result = run("journal", "compact", *words)
        assert (result.returncode, sentence in result.stderr) == (2, True)
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "no").exists()


def test_what_a_kill_has_left_in_the_tail_is_not_left_out(tmp_path: Path) -> None:
    """It was: what had been acknowledged at the level "os" was not in the copy. No completion
    source has a part in this but the simulated one, whose disk is as slow as it has to be.
    """
    tree = Supervisor("one_for_one", [Worker("k", Keeper, journal=True, acknowledge="os")])
    app, source, target = Application("k", tree), tmp_path / "data", str(tmp_path / "copy")
    disk = SimDisk(1)
    with Simulator(1, app, disk=disk, journal_options=OPTIONS) as world:
        world.node.call("k", 1)
        found = disk.copy()  # as a kill leaves it: the reply has left, the write has not been made
    write_folder(found, source)
    with pytest.raises(JournalRefused, match="start the node once, which takes them over"):
        compact(str(source), target, now_ns=1)
    with Simulator(1, app, disk=found, journal_options=OPTIONS) as world:
        assert len(world.node.call("k", "all")) == 1
    shutil.rmtree(source)
    write_folder(found, source)
    assert compact(str(source), target, now_ns=1).records

"""T-10: kill -9 at a random moment, again and again."""

from __future__ import annotations

import random
import shutil
import threading
from pathlib import Path

import pytest

from pybehave.journal.reader import read_manifest
from tests.power.clients import Load
from tests.power.machine import wait_for
from tests.power.resp import Connection
from tests.power.rounds import check_source, rounds
from tests.power.served import TARGET, Served, serving
from tests.power.story import Story

KILL_AFTER_S_MAX = 0.25
SOURCES = ("full", "epoll")


def kill_under_load(served: Served, name: str, chance: random.Random) -> Load:
    """Write with several clients, then SIGKILL at a random moment."""
    with Load(name, served.port, chance.randint(1, len(Load.KINDS))) as load:
        if chance.random() < 0.5:
            load.wait_acked(chance.randint(0, 2000))
        else:
            threading.Event().wait(chance.uniform(0, KILL_AFTER_S_MAX))
        served.kill()
    return load


def run_rounds(data: Path, source: str, count: int, name: str, target: str = TARGET) -> Story:
    """Start, compare with the round before, write, kill; on the same folder."""
    story, load = Story(seed=count), None
    for number, chance in rounds(count, name):
        with serving(data, source, target=target) as served:
            story.check(served.port, load)
            load = kill_under_load(served, f"{number}", chance)
    with serving(data, source, target=target) as served:
        story.check(served.port, load)
        assert served.stop() == 0
    return story


@pytest.mark.power
@pytest.mark.timeout(900)
@pytest.mark.parametrize("source", SOURCES)
def test_what_was_acknowledged_survives_every_kill_on_one_folder(
    tmp_path: Path, source: str
) -> None:
    story = run_rounds(tmp_path / "data", check_source(source), 75, f"sigkill {source}")
    print(f"{source}: {story.rounds} recoveries, {story.judged} acknowledged, none lost")


@pytest.mark.power
@pytest.mark.timeout(900)
@pytest.mark.parametrize("source", SOURCES)
def test_what_was_acknowledged_survives_a_kill_of_a_new_journal(
    tmp_path: Path, source: str
) -> None:
    for number, chance in rounds(25, f"sigkill of a new journal, {source}"):
        data, story = tmp_path / f"{number}", Story(seed=number)
        with serving(data, check_source(source)) as served:
            load = kill_under_load(served, "new", chance)
        with serving(data, source) as served:
            story.check(served.port, load)
        shutil.rmtree(data, ignore_errors=True)  # the machine's own folder: space, not a promise


@pytest.mark.parametrize("source", SOURCES)
def test_a_few_kills(tmp_path: Path, source: str) -> None:
    run_rounds(tmp_path / "data", check_source(source), 5, f"few kills {source}")


def has_snapshot(path: Path) -> bool:
    """Whether the manifest names one: a file alone goes with a kill that comes before that."""
    return any(lsn for lsn, _ in read_manifest(str(path)).snapshots)


def test_starts_that_are_killed_leave_few_segments(tmp_path: Path) -> None:
    for turn in range(16):
        with serving(tmp_path, "epoll") as served:
            with Connection(served.port) as connection:
                assert connection.ask(b"INCR", b"n") == turn + 1
            if turn >= 6:
                wait_for(lambda: has_snapshot(tmp_path), "a snapshot")
            if turn == 15:
                wait_for(lambda: len([*tmp_path.glob("seg-*")]) < 14, "old segments go")


@pytest.mark.power
@pytest.mark.timeout(900)
@pytest.mark.parametrize("source", SOURCES)
def test_what_the_kernel_had_survives_every_kill(tmp_path: Path, source: str) -> None:
    """At the level "os" replies do not wait for the disk, and a kill takes none back."""
    name = f"sigkill os {source}"
    target = "tests.power.kept:app"
    story = run_rounds(tmp_path / "data", check_source(source), 40, name, target)
    print(f"{source}: {story.rounds} recoveries, {story.judged} acknowledged, none lost")

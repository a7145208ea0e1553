"""Read-only tools beside a node that writes, rolls and removes: nothing is taken for damage."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.errors import JournalRefused
from pybehave.journal import reader, verify
from pybehave.journal.recovery import Options
from pybehave.journal.segments import held, records
from tests.processes import run

OPTIONS = Options(segment_bytes=128 * 1024)
FILES_MAX = 200
SNAPSHOTS = 5
"""So often the oldest segments are removed while a test reads."""


class Counter(GenServer[int, bytes, int]):
    """Counts bytes."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: bytes, state: int) -> tuple[int, int]:
        return state + len(command), state + len(command)


def application() -> Application:
    return Application("c", Supervisor("one_for_one", [Worker("c", Counter, journal=True)]))


@pytest.fixture
def busy(start: Callable[..., Any], tmp_path: Path) -> Any:
    """A node whose journal rolls every few commits and forgets what is old, all the time."""
    node = start(application(), data=tmp_path, journal_options=OPTIONS)
    node.journal.snapshots.count_bytes = 512 * 1024
    node.call("c", b"from here on there is something to read")
    is_over = threading.Event()

    def write() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            node.call("c", bytes(number % 40 * 1000))
            while len(os.listdir(tmp_path)) > FILES_MAX and not is_over.wait(0.01):
                node.call("c", b"slowly")  # more files than can be held open cannot be read

    thread = threading.Thread(target=write)
    thread.start()
    yield node
    is_over.set()
    thread.join()


def test_verify_finds_no_damage(busy: Any, tmp_path: Path) -> None:
    last = 0
    while busy.journal.snapshots.taken < SNAPSHOTS:
        report = verify.verify(str(tmp_path), is_deep=True)
        assert report.problems == []
        assert report.last_lsn >= last
        last = report.last_lsn


def test_records_follow_each_other_though_segments_are_removed(busy: Any, tmp_path: Path) -> None:
    while busy.journal.snapshots.taken < SNAPSHOTS:
        with held(str(tmp_path)) as (_, found):
            lsns = [record.lsn for record in records(found)]
        assert lsns == [*range(lsns[0], lsns[0] + len(lsns))]


def test_the_commands_work(busy: Any, tmp_path: Path) -> None:
    for words in (["verify"], ["stat"], ["dump", "--server", "c"]):
        result = run("journal", *words, str(tmp_path))
        assert (result.returncode, result.stderr) == (0, "")


@pytest.fixture
def quiet(tmp_path: Path) -> Path:
    """A journal of several segments that nobody writes."""
    with application().start(data=tmp_path, journal_options=OPTIONS, backend="epoll") as node:
        for _ in range(30):
            node.call("c", bytes(20_000))
    return tmp_path


def test_what_is_held_can_be_read_when_its_name_is_gone(quiet: Path) -> None:
    with held(str(quiet)) as (_, found):
        for file in quiet.glob("seg-*"):
            file.unlink()
        assert len([record for record in records(found) if record.type == reader.INPUT]) == 30
    with pytest.raises(JournalRefused, match="it is missing"), held(str(quiet)):
        pass


@pytest.mark.parametrize("times", [1, 2])
def test_damage_is_what_is_found_twice(
    quiet: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """A read that came between two commits saw the newer one only."""
    load = reader.Segment.load
    left = [times]

    def torn(self: reader.Segment, room: memoryview | None = None) -> memoryview:
        content = load(self, room)
        if self.header.number != 2 or not left[0]:
            return content
        left[0] -= 1
        self._content = memoryview(bytes(3 * 4096) + content[3 * 4096 :].tobytes())
        return self._content

    monkeypatch.setattr(reader.Segment, "load", torn)
    assert bool(verify.verify(str(quiet)).problems) == (times == 2)


def test_what_never_stands_still_is_not_called_damaged(
    quiet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = iter(range(100))

    def never_the_same(path: str, *_: Any) -> verify.Report:
        return verify.Report(path, problems=[f"damaged at block {next(places)}"])

    monkeypatch.setattr(verify, "_verify", never_the_same)
    with pytest.raises(JournalRefused, match="changes faster than it can be read; verify a copy"):
        verify.verify(str(quiet))

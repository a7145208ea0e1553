"""The next segment of a start, looked at while the records are stepped."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pybehave.journal.disk import BLOCK, FolderDisk
from pybehave.journal.recovery import Options, Recovery, prepare, recover
from pybehave.journal.segment_files import segment_name
from pybehave.journal.zeros import look_meanwhile
from pybehave.testing.disk import SimDisk

SIZE = 64 << 10
NAME = segment_name(2)


class Watched(FolderDisk):
    """Says when the file is being read, and how often it was."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, is_volatile_allowed=True)
        self.is_read = threading.Event()
        self.reads = 0
        self.is_broken = False

    def read(
        self, name: str, offset: int, count: int, room: memoryview | None = None
    ) -> memoryview:
        if name == NAME and count > 2 * BLOCK:  # else it is a look at its header
            self.reads += 1
            self.is_read.set()
            if self.is_broken:
                raise OSError(errno.EIO, "broken")
        return super().read(name, offset, count, room)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Watched]:
    disk = Watched(tmp_path)
    disk.lock()
    yield disk
    disk.unlock()


def test_it_is_read_while_the_work_is_done(disk: Watched) -> None:
    def work() -> None:
        assert disk.is_read.wait(60)

    prepare(disk, 2, SIZE)
    assert look_meanwhile(disk, NAME, SIZE, work)


def not_there(disk: Watched) -> None:
    disk.remove(NAME)


def larger(disk: Watched) -> None:
    disk.fill(NAME, SIZE + BLOCK)


def written_to(disk: Watched) -> None:
    disk.write(NAME, SIZE - BLOCK, bytes(BLOCK - 1) + b"x")


def unreadable(disk: Watched) -> None:
    disk.is_broken = True


@pytest.mark.parametrize("change", [not_there, larger, written_to, unreadable])
def test_nothing_else_is_taken_for_zeros(change: Callable[[Watched], None], disk: Watched) -> None:
    prepare(disk, 2, SIZE)
    change(disk)
    done: list[str] = []
    assert not look_meanwhile(disk, NAME, SIZE, lambda: done.append("work"))
    assert done == ["work"]


def test_what_the_work_raises_is_raised_and_nothing_reads_any_more(
    disk: Watched, threads: Callable[[str], int]
) -> None:
    prepare(disk, 2, SIZE)
    with pytest.raises(ZeroDivisionError):
        look_meanwhile(disk, NAME, SIZE, lambda: print(1 // 0))
    assert threads("pybehave-read") == 0


def test_in_the_simulator_it_is_left_to_whoever_asks_next() -> None:
    disk = SimDisk()
    prepare(disk, 2, SIZE)
    done: list[str] = []
    assert not look_meanwhile(disk, NAME, SIZE, lambda: done.append("work"))
    assert done == ["work"]


def test_a_start_looks_once_and_while_the_records_are_stepped(disk: Watched) -> None:
    def replay(found: Recovery) -> None:
        assert disk.is_read.wait(60)

    options = Options(segment_bytes=SIZE)
    recover(disk, options, now_ns=1)
    prepare(disk, 2, SIZE)
    assert recover(disk, options, now_ns=2, replay=replay).header.number == 2
    assert disk.reads == 1


def test_a_start_makes_one_again_that_was_written_to(disk: Watched) -> None:
    options = Options(segment_bytes=SIZE)
    recover(disk, options, now_ns=1)
    prepare(disk, 2, SIZE)
    written_to(disk)
    assert recover(disk, options, now_ns=2, replay=lambda _: None).header.number == 2
    assert bytes(disk.read(NAME, 2 * BLOCK, SIZE)) == bytes(SIZE - 2 * BLOCK)

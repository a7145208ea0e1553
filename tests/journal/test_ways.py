"""Which way a commit takes to the disk; the rule itself (src/_uring/ways.h) has tests in C."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pybehave._uring.loop import Loop
from pybehave.journal.disk import FolderDisk
from pybehave.journal.recovery import MANIFEST, Options, recover
from tests.journal.engine import INPUT, begin

OPTIONS = Options(segment_bytes=1 << 16)
MANY = 12
"""More records in a frame than one client at work has."""


@pytest.fixture
def journal(tmp_path: Path, source: str) -> Iterator[tuple[Loop, Any]]:
    """A loop and the commit path of an empty journal on it."""
    disk = FolderDisk(tmp_path, is_volatile_allowed=True)
    commit = begin(disk, recover(disk, OPTIONS, now_ns=1), OPTIONS, disk.open(MANIFEST))
    loop = Loop(source)
    loop.attach_journal(commit)
    yield loop, commit
    loop.close()
    for fd in commit.take_descriptors():
        disk.close(fd)


def write(loop: Loop, commit: Any, records: int) -> None:
    """One frame, until it is durable."""
    for _ in range(records):
        last = commit.record(INPUT, 1, b"x", 5)
    while commit.durable_lsn < last or commit.is_busy:
        loop.run_once(0.1)


def test_many_at_work_get_the_thread_and_one_alone_the_ring(
    journal: tuple[Loop, Any], source: str
) -> None:
    loop, commit = journal
    write(loop, commit, MANY)
    assert loop.stats()["io"]["writes_by_thread"] == 1
    write(loop, commit, 1)
    is_always = source == "epoll"
    assert loop.stats()["io"]["writes_by_thread"] == (2 if is_always else 1)

"""Where a commit is a write and then a sync, linked: what a write that falls short does to both.

The kernel cancels what is linked behind a write that is short. That is no failure of the sync: the
rest is written and synced like any other. Short writes are had from the limit of a file's size,
which cuts a write off where it crosses it.
"""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from pybehave._uring.loop import Loop
from pybehave.journal import disk as folder
from pybehave.journal.disk import WRITE_FDATASYNC, FolderDisk
from pybehave.journal.recovery import MANIFEST, Options, recover
from tests.journal.engine import INPUT, begin
from tests.journal.model import BLOCK

OPTIONS = Options(segment_bytes=1 << 18)
IN_PLACE, HANDED_OVER = b"x" * 3 * BLOCK, b"x" * 17 * BLOCK
"""The loop waits for small writes itself, and nothing is linked then (decision 0051)."""

CROSSED = 4 * BLOCK + 100
"""Inside the third of the blocks that the frame takes."""


@contextlib.contextmanager
def files_limited(count: int) -> Iterator[None]:
    """No file may grow, or be written, behind this byte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def short_write(path: Path, source: str, payload: bytes) -> dict[str, Any]:
    """One commit that falls short; what became of it."""
    disk = FolderDisk(path, is_volatile_allowed=True)
    with mock.patch.object(folder, "DIRECT_SYNC_FILE_SYSTEMS", frozenset()):
        assert disk.medium().how == WRITE_FDATASYNC
    found = recover(disk, OPTIONS, now_ns=1)
    commit = begin(disk, found, OPTIONS, disk.open(MANIFEST))  # type: ignore[arg-type]
    loop = Loop(source)
    loop.attach_journal(commit, 1)
    commit.record(INPUT, 1, payload, 5)
    try:
        with files_limited(CROSSED):
            while not commit.stats()["short_writes"] and not commit.error:
                loop.run_once(0.1)
        while not commit.durable_lsn and not commit.error:
            loop.run_once(0.1)
        while commit.is_busy:
            loop.run_once(0.1)
        again = recover(disk, OPTIONS, now_ns=1)
        return {"error": commit.error, "durable": commit.durable_lsn, "found": again.last_lsn}
    finally:
        loop.close()
        for fd in commit.take_descriptors():
            disk.close(fd)


def test_F17_a_short_write_is_no_failure_of_its_sync(tmp_path: Path, source: str) -> None:
    for name, payload in (("small", IN_PLACE), ("large", HANDED_OVER)):
        found = short_write(tmp_path / name, source, payload)
        assert found == {"error": 0, "durable": 2, "found": 2}, name

"""After the first failure the journal lets go of its buffers, so that the process can end."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pybehave._uring import blocks
from pybehave._uring.commit import Commit
from pybehave.errors import DurabilityLost
from pybehave.journal.disk import FolderDisk
from pybehave.journal.recovery import MANIFEST, Options, recover
from pybehave.journal.segment_files import segment_name

INPUT = 1


@pytest.fixture
def flying(tmp_path: Path) -> Iterator[tuple[Commit, Callable[[], int]]]:
    """A journal with two frames in flight, and what gives their slots."""
    disk = FolderDisk(tmp_path, is_volatile_allowed=True)
    found = recover(disk, Options(segment_bytes=1 << 16, depth=2), now_ns=1)
    commit = Commit()
    fds = disk.open(segment_name(found.header.number)), disk.open(MANIFEST)
    manifest, header = blocks.pack_manifest(found.manifest), blocks.pack_header(found.header)
    commit.open(disk.path, manifest, header, *fds, disk.medium().how, 1 << 15, 1)
    commit.on_failed = lambda number: None

    def submit() -> int:
        commit.record(INPUT, 1, b"x", 1)
        wanted = commit.take_write(1)
        assert wanted is not None
        return int(wanted[0])

    yield commit, submit
    for fd in fds:
        disk.close(fd)


@pytest.mark.parametrize("second", [-errno.EIO, 4096, 100, -errno.EINTR])
def test_a_failed_write_is_no_longer_in_flight(flying, second: int) -> None:
    commit, submit = flying
    slots = submit(), submit()
    commit.complete_write(slots[0], -errno.EIO)
    assert commit.is_busy
    commit.complete_write(slots[1], second)
    assert not commit.is_busy  # or the end waits for CLOSE_S, and descriptors stay open
    assert commit.durable_seq == 0
    with pytest.raises(DurabilityLost):
        submit()


def test_a_short_write_before_the_failure_is_not_waited_for(flying) -> None:
    commit, submit = flying
    slots = submit(), submit()
    commit.complete_write(slots[0], -errno.EAGAIN)
    commit.complete_write(slots[1], -errno.EIO)
    assert not commit.is_busy

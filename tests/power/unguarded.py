"""The command line in a process that lacks one safeguard of the mutation table (durability.md 4.5):
those of pybehave/journal/disk.py, which lie below the simulator's disk. The table's other rows are
in tests/journal/mutants.py; test_mutants.py shows who notices.

    python -m tests.power.unguarded NAME run ...       NAME "none" is the control
"""

from __future__ import annotations

import dataclasses
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from pybehave.cli import main
from pybehave.journal.disk import FolderDisk

WRITE_PLAIN = 2
"""Of `enum write_how` in src/_uring/source.h: no sync at all."""


def no_sync_of_frames() -> None:
    """The loop's commits and manifests; what recovery writes stays synced."""
    real = FolderDisk._probe
    FolderDisk._probe = lambda self: dataclasses.replace(real(self), how=WRITE_PLAIN)


def no_sync_in(method: str) -> Callable[[], None]:
    """The fsync at the end of `fill` (spares) or `put` (all other files that are made)."""

    def patch() -> None:
        real, fsync, here = getattr(FolderDisk, method), os.fsync, threading.local()

        def made(*words: Any) -> None:
            here.is_making = True
            try:
                real(*words)
            finally:
                here.is_making = False

        setattr(FolderDisk, method, made)
        os.fsync = lambda fd: None if getattr(here, "is_making", False) else fsync(fd)

    return patch


def fill_without_zeros(self: FolderDisk, name: str, count: int) -> None:
    """Room for a segment, durable, but nothing written there."""
    fd = self._open(name, os.O_RDWR | os.O_CREAT, is_direct=False)
    try:
        os.posix_fallocate(fd, 0, count)
        os.fsync(fd)
    finally:
        os.close(fd)


def no_zeros() -> None:
    FolderDisk.fill = fill_without_zeros


def cached_reads() -> None:
    """What the page cache says."""

    def read(
        self: FolderDisk, name: str, offset: int, count: int, room: memoryview | None = None
    ) -> memoryview:
        with open(self._at(name), "rb") as file:
            file.seek(offset)
            return memoryview(file.read(count))

    FolderDisk.read = read


UNGUARDED: dict[str, Callable[[], None]] = {
    "none": lambda: None,
    "frame-sync": no_sync_of_frames,
    "spare-sync": no_sync_in("fill"),
    "file-sync": no_sync_in("put"),
    "zeros": no_zeros,
    "direct-reads": cached_reads,
}

if __name__ == "__main__":
    UNGUARDED[sys.argv.pop(1)]()
    main(prog_name="pybehave")

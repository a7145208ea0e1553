"""Measure what a commit costs in a folder, the way the journal writes.

A flush that returns faster than any device can flush is no flush: then the figures of a benchmark
are not those of durable writes, and a power cut would show it.

Source: PostgreSQL's pg_test_fsync for the idea.
"""

from __future__ import annotations

import mmap
import os
import time
from dataclasses import dataclass
from typing import Final, final

from pybehave.journal.disk import BLOCK, WRITE_DSYNC, FolderDisk

COMMITS: Final = 200
NAME: Final = "testdisk.tmp"
PLAUSIBLE_US: Final = 5.0
"""Devices with power-loss protection take 10 us and more; less is a cache that lies, or memory."""


@final
@dataclass(frozen=True, slots=True)
class Trial:
    """What commits of one block cost.

    Attributes:
        sentence: The medium, in words.
        p50_us: Half of them took no longer.
        p99_us: All but one in a hundred took no longer.
        is_plausible: A device could have flushed in that time.
    """

    sentence: str
    p50_us: float
    p99_us: float
    is_plausible: bool


def measure(disk: FolderDisk, commits: int = COMMITS) -> Trial:
    """Write and flush one block after the other, over blocks that are written already.

    Raises:
        JournalRefused: The folder cannot be used.
        OSError: It is full, or fails.
    """
    medium = disk.medium()
    disk.fill(NAME, commits * BLOCK)
    fd = disk.open(NAME)
    times = []
    try:
        with mmap.mmap(-1, BLOCK) as block:
            for index in range(commits):
                began = time.perf_counter()
                is_direct = medium.how == WRITE_DSYNC
                os.pwritev(fd, [block], index * BLOCK, os.RWF_DSYNC if is_direct else 0)
                if not is_direct:
                    os.fdatasync(fd)
                times.append(time.perf_counter() - began)
    finally:
        disk.close(fd)
        disk.remove(NAME)
    times.sort()
    p50 = times[len(times) // 2] * 1e6
    return Trial(medium.sentence, p50, times[len(times) * 99 // 100] * 1e6, p50 > PLAUSIBLE_US)

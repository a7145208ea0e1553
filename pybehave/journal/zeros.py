"""Whether a file is all zeros, as a segment must be that is begun.

A start finds the next segment prepared as a rule, and has to look: a header may have been being
written to it when the power went. That is as much to read as a full segment, so it is read while
the records are stepped; nothing is written, and what is found is only a permission to write.

Does not know: which file that is, what becomes of one that is not (recovery.py).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from pybehave._uring import blocks
from pybehave.journal.ahead import make_room
from pybehave.journal.disk import Disk

PIECE_BYTES: Final = 8 << 20
"""Read and looked at, at once; enough for the disk's rate."""


def look_meanwhile(disk: Disk, name: str, count: int, work: Callable[[], None]) -> bool:
    """Do some work, and return whether a file of so many bytes is there and all zeros.

    False also says that it cannot be told: it could not be read, or in the simulator, where
    everything happens in one order. Ask again then.
    """
    if getattr(disk, "is_simulated", False):
        work()
        return False
    with ThreadPoolExecutor(1, thread_name_prefix="pybehave-read") as reader:
        found = reader.submit(_is_there, disk, name, count)
        work()
    return found.exception() is None and found.result()


def _is_there(disk: Disk, name: str, count: int) -> bool:
    return name in disk.names() and disk.size(name) == count and is_zero_file(disk, name, count)


def is_zero_file(disk: Disk, name: str, count: int) -> bool:
    """Whether a file is, read into the same memory again and again (ahead.py says why)."""
    room = make_room(min(count, PIECE_BYTES))
    return all(
        blocks.is_zero(disk.read(name, at, min(PIECE_BYTES, count - at), room))
        for at in range(0, count, PIECE_BYTES)
    )

"""The segments of a journal as files: their names, and what is read of them.

Does not know: what is in them (recovery.py, verify.py).
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Any

from pybehave.journal.ahead import ReadAhead
from pybehave.journal.closed import Closed
from pybehave.journal.disk import BLOCK, Disk
from pybehave.journal.report import Report


def segment_name(number: int) -> str:
    """Return the file name of a segment."""
    return f"seg-{number:016x}.pbj"


def segment_number(name: str) -> int | None:
    """Return the number in a segment's file name; None for any other file."""
    if not (name.startswith("seg-") and name.endswith(".pbj") and len(name) == 24):
        return None
    try:
        return int(name[4:20], 16)
    except ValueError:
        return None


def segments_ahead(
    disk: Disk,
    numbers: list[int],
    manifest: Any,
    report: Report | None = None,
    closed: Closed | None = None,
    there: Iterable[tuple[int, memoryview]] = (),
) -> ReadAhead[int]:
    """Return segments with their contents, each read while the one before is worked on."""
    most = manifest.segment_bytes

    def read(number: int, room: memoryview | None) -> memoryview:
        count = most // BLOCK if closed is None else closed.blocks_of(number, most // BLOCK)
        return read_blocks(disk, segment_name(number), count * BLOCK, report, room)

    is_threaded = not getattr(disk, "is_simulated", False)
    return ReadAhead(numbers, read, most, is_threaded=is_threaded, there=there)


def read_segment(disk: Disk, number: int, count: int, report: Report | None = None) -> memoryview:
    """Return a whole segment, as `read_blocks`."""
    return read_blocks(disk, segment_name(number), count, report)


def read_blocks(
    disk: Disk,
    name: str,
    count: int,
    report: Report | None = None,
    room: memoryview | None = None,
) -> memoryview:
    """Return the beginning of a file; a block that cannot be read reads as ones (F-44): never a
    frame, and never the zeros of an end that nobody wrote to.

    Raises:
        OSError: Not one block can be read: that is a dead disk, not a damaged file.
    """
    try:
        return disk.read(name, 0, count, room)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        failure = error
    content = bytearray(b"\xff") * count
    bad = 0
    for offset in range(0, count, BLOCK):
        try:
            content[offset : offset + BLOCK] = disk.read(name, offset, BLOCK)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            bad += 1
    if bad * BLOCK >= count:
        raise failure
    if bad and report is not None:
        report.warnings.append(f"{bad} blocks of {name} cannot be read; they count as damaged")
    return memoryview(content).toreadonly()

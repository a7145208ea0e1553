"""Save what can be saved of a damaged journal: a copy that ends before the damage.

The original is never touched. The copy holds every frame before the first one that is missing or
wrong, in the same segments, and a manifest that claims no more than that. What is behind the damage
is lost, and it had been acknowledged: that is for the operator to accept.

Does not know: what the inputs mean.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import final

from pybehave._uring import blocks
from pybehave.errors import JournalRefused
from pybehave.journal import reader, recovery, snapshot
from pybehave.journal.contents import copy_contents
from pybehave.journal.reader import BLOCK, Manifest, Segment, Stop
from pybehave.journal.rewrite import manifest_file, refuse_existing


@final
@dataclass(frozen=True, slots=True)
class Saved:
    """What the copy holds.

    Attributes:
        last_lsn: Its last record.
        last_seq: Its last frame.
        segments: How many segments it has.
        lost: Why it ends there; empty when nothing was damaged.
        is_manifest_rebuilt: The original's manifest could not be read.
    """

    last_lsn: int
    last_seq: int
    segments: int
    lost: str
    is_manifest_rebuilt: bool


def repair(source: str, target: str) -> Saved:
    """Copy a journal up to its first damage.

    Args:
        source: The folder of the damaged journal; nobody may be writing it.
        target: A folder that does not exist yet, or is empty.

    Raises:
        JournalRefused: Nothing can be saved, or the target is not empty.
        OSError: The target cannot be written.
    """
    folder = Path(target)
    refuse_existing(target)
    manifest, is_rebuilt = _manifest(source)
    folder.mkdir(parents=True, exist_ok=True)
    last_seq = last_lsn = count = 0
    lost = ""
    for number in range(manifest.oldest, max(reader.segment_numbers(source), default=0) + 1):
        try:
            segment = Segment(source, number, manifest.journal_id)
        except JournalRefused as error:
            lost = str(error)
            break
        if not segment.has_header:
            lost = "" if number > manifest.current else f"{segment.file}: its header is damaged"
            break
        if count and segment.header.before_seq != last_seq:
            lost = f"{segment.file}: it does not follow the segment before it"
            break
        follower = _next_header(source, manifest, number)
        last_seq, last_lsn, end, problem = _walk(segment, follower)
        _copy(segment, folder, end)
        count += 1
        if problem:
            lost = problem
            break
    if count == 0:
        raise JournalRefused(source, lost or "it holds no segment that can be read")
    snapshots = _copy_snapshots(source, folder, manifest, last_lsn)
    copy_contents(source, target)
    _write_manifest(folder, manifest, manifest.oldest + count - 1, last_seq, last_lsn, snapshots)
    return Saved(last_lsn, last_seq, count, lost, is_rebuilt)


def _manifest(source: str) -> tuple[Manifest, bool]:
    """The manifest; one made from the segments' headers when none can be read."""
    try:
        return reader.read_manifest(source), False
    except JournalRefused:
        numbers = reader.segment_numbers(source)
    for number in numbers:
        content = Path(source, recovery.segment_name(number)).read_bytes()
        header = blocks.unpack_header(content[:BLOCK]) or blocks.unpack_header(
            content[BLOCK : 2 * BLOCK]
        )
        if header is not None:
            return (
                Manifest(
                    header.id,
                    0,
                    header.epoch,
                    number,
                    number,
                    header.bytes,
                    8,
                    0,
                    0,
                    False,
                    (),
                    reader.CODED,  # later segments may need it, and nobody else says so
                ),
                True,
            )
    raise JournalRefused(source, "neither its manifest nor any segment can be read")


def _next_header(source: str, manifest: Manifest, number: int) -> reader.Header | None:
    try:
        found = Segment(source, number + 1, manifest.journal_id)
    except JournalRefused:
        return None
    return found.header if found.has_header else None


def _walk(segment: Segment, follower: reader.Header | None) -> tuple[int, int, int, str]:
    """Last seq, last lsn, the first block behind them, and what is wrong there."""
    seq, lsn, block = segment.header.first_seq - 1, segment.header.first_lsn - 1, 2
    for frame in segment.frames(follower.before_seq if follower is not None else None):
        if isinstance(frame, Stop):
            is_missing = follower is not None or not frame.is_empty
            place = f"{segment.file}: {frame.reason} at block {frame.block}, lsn {frame.lsn}"
            return seq, lsn, block, place if is_missing else ""
        seq, lsn = frame.seq, frame.first_lsn + frame.records - 1
        block = frame.block + frame.blocks
    return seq, lsn, block, ""


def _copy(segment: Segment, folder: Path, end: int) -> None:
    content = bytearray(len(segment.content))
    content[: end * BLOCK] = segment.content[: end * BLOCK]
    Path(folder, Path(segment.file).name).write_bytes(content)


def _copy_snapshots(
    source: str, folder: Path, manifest: Manifest, last_lsn: int
) -> list[tuple[int, bytes]]:
    kept = []
    for lsn, digest in manifest.snapshots:
        name = snapshot.snapshot_name(lsn)
        if 0 < lsn <= last_lsn and Path(source, name).exists():
            shutil.copyfile(Path(source, name), Path(folder, name))
            kept.append((lsn, digest))
    return kept


def _write_manifest(
    folder: Path,
    manifest: Manifest,
    current: int,
    last_seq: int,
    last_lsn: int,
    snapshots: list[tuple[int, bytes]],
) -> None:
    """One that claims what the copy holds, and nothing more."""
    padded = (*snapshots, *recovery.NO_SNAPSHOTS)[:2]
    content = manifest_file(
        blocks.Manifest(
            manifest.journal_id,
            manifest.counter + 1,
            max(manifest.epoch, 1),
            manifest.oldest,
            current,
            manifest.segment_bytes,
            manifest.depth,
            last_seq,
            last_lsn,
            False,
            tuple(padded),
            0,
            0,
            manifest.features,
        )
    )
    Path(folder, recovery.MANIFEST).write_bytes(content)

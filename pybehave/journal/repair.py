"""Save what can be saved of a damaged journal: a copy that ends before the damage.

The original is never touched. The copy holds every frame before the first one that is missing or
wrong, in the same segments, the sound snapshots, and a manifest that claims no more than that.
Where the damage lies before what the newest sound snapshot holds, nothing of it is needed: then the
copy is written anew from that snapshot and the records behind it, to the next damage. What is
behind the damage is lost, and it had been acknowledged: that is for the operator to accept.

Invariants
  (Y1) A node can be started with what is made: it reaches back to lsn 1, or to a sound snapshot.
  (Y2) MANIFEST is written last, when all the rest is durable.

Does not know: what the inputs mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, final

from pybehave._uring import blocks
from pybehave.errors import JournalRefused
from pybehave.journal import reader, recovery, segment_files, snapshot
from pybehave.journal.beside import copy_beside, copy_contents, copy_file, copy_tail, put_file
from pybehave.journal.codec import Codec, Coder
from pybehave.journal.disk import make_folder, sync_folder, unserved
from pybehave.journal.export import snapshots_of
from pybehave.journal.import_lines import encode_again
from pybehave.journal.reader import BLOCK, Manifest, Record, Segment, Stop
from pybehave.journal.rewrite import Rewriter, manifest_file, refuse_existing
from pybehave.journal.snapshot import Snapshot

DEPTH_MAX: Final = 8
"""Of a manifest that is made anew: the fewest frames count as proven then (section 7, step 5)."""


@final
@dataclass(frozen=True, slots=True)
class Saved:
    """What the copy holds.

    Attributes:
        first_lsn: Its first record, or the next one when it has none.
        last_lsn: Its last record; of a snapshot alone, that of the snapshot.
        segments: How many segments it has.
        snapshots: The lsns of its snapshots, newest first.
        lost: Why it ends there, or does not begin earlier; empty when nothing was damaged.
        tail: Records behind the last one that the tail has, which went along; the next start takes
            them over. -1 = the tail goes on from somewhere else, and was left behind.
        is_manifest_rebuilt: The original's manifest could not be read.
    """

    first_lsn: int
    last_lsn: int
    segments: int
    snapshots: tuple[int, ...]
    lost: str
    is_manifest_rebuilt: bool
    tail: int = 0


def repair(source: str, target: str, codec: Iterable[Codec] = ()) -> Saved:
    """Copy a journal up to its first damage.

    Args:
        source: The folder of the damaged journal; nobody may be serving it.
        target: A folder that does not exist yet, or is empty.
        codec: Opens the snapshot, and all behind it, where a copy is written anew; else none is
            needed, for pieces are copied as they are.

    Raises:
        JournalLocked: Somebody serves it.
        JournalRefused: Nothing can be saved, a newer version wrote it, or the target is not empty.
        CodecRefused: It is to be written anew, and cannot be read without other codecs or keys.
        OSError: The target cannot be written.
    """
    refuse_existing(target)
    with unserved(source):
        is_rebuilt = reader.is_manifest_lost(source)
        manifest = _rebuilt(source) if is_rebuilt else reader.read_manifest(source)
        found = _walk(source, manifest, manifest.oldest)
        sound = _sound(source, manifest)
        if sound and sound[0].lsn > found.last_lsn:
            saved = _write_anew(source, target, manifest, sound[0].lsn, tuple(codec))
        else:
            usable = [each for each in sound if each.lsn >= found.first_lsn - 1]
            if not found.pieces or (found.first_lsn > 1 and not usable):
                raise JournalRefused(source, _why_nothing(found))
            saved = _copy(source, target, manifest, found, [each.lsn for each in usable])
    return replace(saved, is_manifest_rebuilt=is_rebuilt)


def _why_nothing(found: Walked) -> str:
    if not found.pieces:
        return found.lost or "it holds no segment that can be read"
    return (
        f"no snapshot can be read, and the segments begin only with lsn {found.first_lsn}, so "
        "there is nothing to go on from; restore a snapshot from a copy (`pybehave journal dump` "
        "shows the records)"
    )


# --- what is there -------------------------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a segment that is sound.

    Attributes:
        segment: The segment.
        last_seq: Its last sound frame.
        end: The first block behind that.
    """

    segment: Segment
    last_seq: int
    end: int


@final
@dataclass(frozen=True, slots=True)
class Walked:
    """What is sound from a segment on.

    Attributes:
        pieces: Of the segments, in order.
        first_lsn: Of the first record.
        last_lsn: Of the last one; 0 = there is none.
        last_seq: Of the last frame.
        lost: What ends it, in words; empty when the journal ends there.
    """

    pieces: list[Piece]
    first_lsn: int
    last_lsn: int
    last_seq: int
    lost: str


def _walk(source: str, manifest: Manifest, begin: int) -> Walked:
    pieces: list[Piece] = []
    last_seq = last_lsn = 0
    lost = ""
    for number in range(begin, max(reader.segment_numbers(source), default=0) + 1):
        try:
            segment = Segment(source, number, manifest.journal_id)
        except JournalRefused as error:
            lost = str(error).removesuffix(f"; {reader.MEND}")
            break
        if not segment.has_header:
            lost = "" if number > manifest.current else f"{segment.file}: its header is damaged"
            break
        if pieces and segment.header.before_seq != last_seq:
            lost = f"{segment.file}: it does not follow the segment before it"
            break
        follower = _next_header(source, manifest, number)
        last_seq, last_lsn, end, lost = _walk_segment(segment, follower)
        pieces.append(Piece(segment, last_seq, end))
        segment.release()
        if lost:
            break
    if not lost and begin + len(pieces) <= manifest.current:
        lost = f"{segment_files.segment_name(begin + len(pieces))}: it is missing"
    if not lost and last_lsn < manifest.durable_lsn:
        lost = f"lsn {last_lsn + 1} to {manifest.durable_lsn} had been durable, and are not there"
    first_lsn = pieces[0].segment.header.first_lsn if pieces else 0
    return Walked(pieces, first_lsn, last_lsn, last_seq, lost)


def _walk_segment(segment: Segment, follower: reader.Header | None) -> tuple[int, int, int, str]:
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


def _sound(source: str, manifest: Manifest) -> list[Snapshot]:
    """The sound snapshots that a manifest names, newest first, unopened where codecs are needed."""
    found = []
    for lsn, digest in dict.fromkeys(manifest.snapshots):  # one may be named twice
        file = Path(source, snapshot.snapshot_name(lsn))
        try:
            each = snapshot.check(str(file), memoryview(file.read_bytes()))
        except (OSError, JournalRefused):
            continue
        if (each.lsn, each.digest, each.journal_id) == (lsn, digest, manifest.journal_id):
            found.append(each)
    return found


def _next_header(source: str, manifest: Manifest, number: int) -> reader.Header | None:
    try:
        found = Segment(source, number + 1, manifest.journal_id)
    except JournalRefused:
        return None
    return found.header if found.has_header else None


def _rebuilt(source: str) -> Manifest:
    """A manifest made of the segments' headers and the snapshots that are there."""
    numbers = reader.segment_numbers(source)
    for number in numbers:
        content = Path(source, segment_files.segment_name(number)).read_bytes()[: 2 * BLOCK]
        header = blocks.unpack_header(content[:BLOCK]) or blocks.unpack_header(content[BLOCK:])
        if header is not None:
            return Manifest(
                header.id,
                0,
                header.epoch,
                number,
                number,
                header.bytes,
                DEPTH_MAX,
                0,
                0,
                False,
                _snapshots_there(source, header.id),
                reader.CODED,  # later segments may need it, and nobody else says so
            )
    raise JournalRefused(source, "neither its manifest nor any segment can be read")


def _snapshots_there(source: str, journal_id: bytes) -> tuple[tuple[int, bytes], ...]:
    """The two newest sound snapshots in a folder, newest first."""
    found = []
    for file in sorted(Path(source).glob("snap-*.pbs"), reverse=True):
        try:
            each = snapshot.check(str(file), memoryview(file.read_bytes()))
        except (OSError, JournalRefused):
            continue
        if each.journal_id == journal_id and file.name == snapshot.snapshot_name(each.lsn):
            found.append((each.lsn, each.digest))
    return tuple(found[:2])


# --- what is made of it --------------------------------------------------------------------------


def _copy(
    source: str, target: str, manifest: Manifest, found: Walked, snapshots: list[int]
) -> Saved:
    """The same segments, to where they are sound."""
    make_folder(target)
    for piece in found.pieces:
        content = bytearray(len(piece.segment.content))
        content[: piece.end * BLOCK] = piece.segment.content[: piece.end * BLOCK]
        put_file(Path(target, Path(piece.segment.file).name), content)
        piece.segment.release()
    for lsn in snapshots:
        name = snapshot.snapshot_name(lsn)
        copy_file(Path(source, name), Path(target, name))
    copy_contents(source, target)
    copy_beside(source, target)
    tail = copy_tail(source, target, manifest.journal_id, found.last_lsn)
    named = [each for each in manifest.snapshots if each[0] in snapshots]
    made = blocks.Manifest(
        manifest.journal_id,
        manifest.counter + 1,
        max(manifest.epoch, 1),
        manifest.oldest,
        manifest.oldest + len(found.pieces) - 1,
        manifest.segment_bytes,
        manifest.depth,
        found.last_seq,
        found.last_lsn,
        False,
        (*named, *recovery.NO_SNAPSHOTS)[:2],
        0,
        0,
        manifest.features,
    )
    put_file(Path(target, recovery.MANIFEST), manifest_file(made))
    sync_folder(target)
    count = len(found.pieces)
    return Saved(found.first_lsn, found.last_lsn, count, tuple(snapshots), found.lost, False, tail)


def _write_anew(
    source: str, target: str, manifest: Manifest, lsn: int, codec: tuple[Codec, ...]
) -> Saved:
    """A snapshot, and the records behind it as far as they are sound."""
    [base] = [each for each in snapshots_of(source, manifest, codec) if each.lsn == lsn]
    coder = Coder(codec, manifest.journal_id)
    first_lsn = base.lsn + 1
    behind = _walk(source, manifest, _segment_with(source, manifest, first_lsn))
    lost = behind.lost
    where = (target, manifest.journal_id, manifest.segment_bytes, first_lsn)
    with Rewriter(*where, base.time_ns, coder) as writer:
        if behind.pieces and behind.first_lsn <= first_lsn:
            for record in _records(behind, coder):
                if record.lsn >= first_lsn:
                    writer.add(record)
        elif behind.first_lsn:
            lost = f"lsn {first_lsn} to {behind.first_lsn - 1}, and all behind it"
        if lost and behind.pieces and behind.last_lsn < lsn:  # what the snapshot holds is not lost
            lost = f"lsn {first_lsn}, if there was one (the snapshot holds all before it); {lost}"
        copy_contents(source, target)
        copy_beside(source, target, coder)
        last_lsn = writer.next_lsn - 1
        tail = copy_tail(source, target, manifest.journal_id, last_lsn)
        writer.finish([(base.lsn, encode_again(base, coder))])
    return Saved(first_lsn, last_lsn, writer.segments, (base.lsn,), lost, False, tail)


def _segment_with(source: str, manifest: Manifest, lsn: int) -> int:
    """The last segment that begins with an lsn or before it; the oldest when none does."""
    found = manifest.oldest
    for number in reader.segment_numbers(source):
        header = _next_header(source, manifest, number - 1)
        if number > found and header is not None and header.first_lsn <= lsn:
            found = number
    return found


def _records(found: Walked, coder: Coder) -> Iterator[Record]:
    for piece in found.pieces:
        piece.segment.coder = coder
        for frame in piece.segment.frames(piece.last_seq):
            if isinstance(frame, Stop):
                return
            yield from piece.segment.records(frame)
        piece.segment.release()

"""Open a journal: find its end, decide between torn and corrupt, begin a new segment.

Theory. The numbers are the steps of durability.md 3.11; `recover` takes them in order. Nothing is
written before step 11, so a refusal changes nothing; no segment is ever written to that was not
begun here, so recovery can be cut off at any moment and simply runs again. Who steps the records
(14) does so before step 11: else each start that today's code refuses would leave a segment.

What says that a frame had been durable, and so that its damage is no torn end, is evidence.py's.

A process that is to take the journal over from one that still writes it can `look` first, which
changes nothing; `recover` then goes on where that has come to.

Invariants
  (R1) Until step 11 nothing is written, but the lock file; only what is half made goes.
  (R2) What is found again is the same however often recovery was cut off before.
  (R3) Frames behind the end never count again: the new segment's header names the end.

Does not know: servers, what records mean, the loop. Step 14 is the runtime's.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, final

from pybehave._uring import blocks
from pybehave._uring.blocks import Header, Manifest
from pybehave.errors import JournalRefused
from pybehave.journal import evidence, snapshot
from pybehave.journal.ahead import make_room
from pybehave.journal.closed import Closed
from pybehave.journal.codec import Codec, Coder, check_codecs
from pybehave.journal.disk import BLOCK, Disk
from pybehave.journal.marks import Mark
from pybehave.journal.progress import Progress
from pybehave.journal.report import Report
from pybehave.journal.segment_files import (
    read_blocks,
    segment_name,
    segment_number,
    segments_ahead,
)
from pybehave.journal.snapshot import Snapshot, snapshot_lsn
from pybehave.journal.tail import TAIL_BYTES_MIN, TailFile
from pybehave.journal.zeros import is_zero_file, look_meanwhile

MANIFEST: Final = "MANIFEST"
MANIFEST_BYTES: Final = 65536
SLOT_B: Final = 32768
SPARE: Final = "spare.tmp"
NO_HASH: Final = bytes(16)
NO_SNAPSHOTS: Final = ((0, NO_HASH), (0, NO_HASH))

SALVAGE: Final = "restore it from a copy, or salvage with `pybehave journal repair`"
"""What there is to do about a segment."""

SEGMENT_BYTES: Final = 64 << 20
FRAME_BYTES_MAX: Final = 32 << 20
TAIL_BYTES: Final = 32 << 20
DEPTH: Final = 1
"""Frames in flight. With two the frames are smaller and their cost is paid more often: 512 clients
got 0.9 of the commands through (decision 0006)."""

CONTENTS_KEPT: Final = 2
"""Segments that stay in memory for the replay: the first, so that others are read meanwhile."""

ENDED_NONE, ENDED_SEALED, ENDED_CLOSED, ENDED_RECOVERED = range(4)


@final
@dataclass(frozen=True, slots=True)
class Options:
    """How a journal is kept.

    Attributes:
        segment_bytes: Of a new journal; a multiple of 4096, at least 64 KiB.
        frame_bytes_max: Largest group commit, and so the largest input; a multiple of 4096, at
            most 32 MiB.
        depth: Frames in flight, 1 to 8.
        tail_bytes: Of the file that keeps what the disk does not have yet at the level "os"; a
            multiple of 8192, at least 64 KiB. Half of it holds what may be under way at once.
        strict: Refuse a torn end too, unless nothing was written there.
        codec: Compress or encrypt all that is written, in this order (codec.py, encrypted.py), as
            `(Compressed(), Encrypted(key))`. What is there already stays as it is, and readable.
    """

    segment_bytes: int = SEGMENT_BYTES
    frame_bytes_max: int = FRAME_BYTES_MAX
    depth: int = DEPTH
    strict: bool = False
    tail_bytes: int = TAIL_BYTES
    codec: tuple[Codec, ...] = ()

    def __post_init__(self) -> None:
        if self.segment_bytes % BLOCK or self.segment_bytes < 16 * BLOCK:
            raise ValueError(
                f"segment_bytes={self.segment_bytes} is not allowed; use a multiple of {BLOCK}, "
                f"at least {16 * BLOCK}"
            )
        if self.frame_bytes_max % BLOCK or not BLOCK <= self.frame_bytes_max <= FRAME_BYTES_MAX:
            raise ValueError(
                f"frame_bytes_max={self.frame_bytes_max} is not allowed; use a multiple of "
                f"{BLOCK}, at most {FRAME_BYTES_MAX}"
            )
        if not 1 <= self.depth <= 8:
            raise ValueError(f"depth={self.depth} is not allowed; use 1 to 8")
        if self.tail_bytes % (2 * BLOCK) or self.tail_bytes < TAIL_BYTES_MIN:
            raise ValueError(
                f"tail_bytes={self.tail_bytes} is not allowed; use a multiple of {2 * BLOCK}, at "
                f"least {TAIL_BYTES_MIN}"
            )
        check_codecs(self.codec)


@final
@dataclass(frozen=True, slots=True)
class Piece:
    """The part of one segment that counts.

    Attributes:
        number: The segment's.
        header: Its header.
        block_end: The first block that does not count any more.
        lsn_end: The first lsn behind it.
        content: The segment's bytes, when they are still in memory.
        marks: Its records that say something of those before them.
    """

    number: int
    header: Any
    block_end: int
    lsn_end: int
    content: memoryview | None
    marks: list[Mark]


@final
@dataclass(frozen=True, slots=True)
class Recovery:
    """A journal that is ready to be written.

    Attributes:
        manifest: As written in step 13.
        header: Of the empty segment that records go to; None until there is one.
        pieces: The segments that count, oldest first.
        snapshot: What is to be replayed begins behind it; None = at the beginning.
        last_lsn: Of the last record that counts.
        time_ns: The latest time found.
        report: What was found.
    """

    manifest: Any
    header: Any
    pieces: tuple[Piece, ...]
    snapshot: Snapshot | None
    last_lsn: int
    time_ns: int
    report: Report

    def without_contents(self) -> Recovery:
        """Return the same with nothing in memory that can be read again."""
        pieces = tuple(replace(piece, content=None) for piece in self.pieces)
        found = replace(self.snapshot, entries=()) if self.snapshot is not None else None
        return replace(self, pieces=pieces, snapshot=found)


@final
@dataclass(slots=True)
class Ahead:
    """How far a journal was read that another process still writes.

    Attributes:
        found: What there was; its last piece is of the segment that was being written.
        walked: How far that was sound.
        content: It, up to there, with room for the rest.
        is_used: Whether somebody has gone on there.
    """

    found: Recovery
    walked: Any
    content: memoryview
    is_used: bool = False


def look(disk: Disk, options: Options, ahead: Ahead | None = None) -> Ahead:
    """Take steps 3 to 7 while another process writes the journal; nothing is changed.

    Args:
        ahead: How far a look before had come: this one goes on there, if it can.

    Raises:
        JournalRefused, CodecRefused, OSError: It may be damaged, and it may only have changed
            meanwhile: `recover` finds out, when nobody writes it any more.
    """
    report = Report(directory=disk.path, medium=disk.medium().sentence)
    manifest = read_manifest(disk, report)
    walk = _Walk(disk, options, manifest, disk.names(), report)
    walk.begin(ahead)
    walk.walk(ahead=ahead, is_live=True)
    last = walk.headers[-1][0]
    if ahead is not None and ahead.is_used and ahead.found.pieces[-1].number == last:
        room = ahead.content
    else:
        room = make_room(int(manifest.segment_bytes))
        count = walk.walked.block * BLOCK
        room[:count] = walk.content[:count]
    return Ahead(walk.looked(), walk.walked, room)


def recover(
    disk: Disk,
    options: Options,
    *,
    now_ns: int,
    make_id: Callable[[], bytes] | None = None,
    progress: Progress | None = None,
    closed: Closed | None = None,
    ahead: Ahead | None = None,
    tail: TailFile | None = None,
    replay: Callable[[Recovery], None] | None = None,
) -> Recovery:
    """Take steps 1 to 13. The disk is locked already.

    Args:
        now_ns: Unix time, for information in headers.
        make_id: Gives the id of a new journal; None asks the disk.
        progress: Is told how much has been read.
        closed: What the process says that has just closed it; None = look for oneself.
        ahead: What this process had read of it when that one still wrote; only with `closed`.
        tail: Is read before anything is changed, for it may be all that a codec refuses.
        replay: Takes step 14 of what was found, which has no header yet; it may refuse it.

    Raises:
        JournalRefused: It is damaged, or not a journal; nothing was changed.
        CodecRefused: It cannot be read without other codecs or keys; nothing was changed.
        OSError: The disk failed; run again when it works.
    """
    report = Report(directory=disk.path, medium=disk.medium().sentence)
    if disk.medium().warning:
        report.warnings.append(disk.medium().warning)
    names = disk.names()
    disk.sync_names()  # 2
    manifest = _manifest(disk, options, names, make_id or disk.new_id, report)  # 3, 4
    closed = closed if closed is not None and closed.holds_for(manifest) else None
    walk = _Walk(disk, options, manifest, names, report)  # 5
    known = ahead if closed is not None else None
    walk.begin(known)  # 6
    _note_progress(progress, len(walk.headers), int(manifest.segment_bytes), report)
    walk.walk(closed, known)  # 7 to 10
    _check_snapshot(disk, walk.found, walk.end)
    _check_strict(disk, options, walk.end, report)
    if tail is not None:
        tail.read(manifest.id, walk.end.lsn - 1, walk.coder)
    _drop_half_made(disk)
    looked, end, headers = walk.looked(), walk.end, walk.headers
    number = headers[-1][0] + 1 if headers else int(manifest.oldest)
    is_zero = _replay(disk, looked, number, closed, replay)  # 14
    _keep_tail(disk, end, report)  # 11
    return _begin(disk, options, looked, headers, end, now_ns, number, is_zero=is_zero)  # 12, 13


def _replay(
    disk: Disk,
    found: Recovery,
    number: int,
    closed: Closed | None,
    replay: Callable[[Recovery], None] | None,
) -> bool:
    """Have the records stepped; returns whether the segment to begin is known to be all zeros."""
    is_zero = closed is not None and closed.spare == number
    if replay is None:
        return is_zero
    if is_zero:
        replay(found)
        return True
    name = segment_name(number)
    return look_meanwhile(disk, name, found.manifest.segment_bytes, lambda: replay(found))


def _begin(
    disk: Disk,
    options: Options,
    found: Recovery,
    headers: list[tuple[int, Any]],
    end: _End,
    now_ns: int,
    number: int,
    *,
    is_zero: bool,
) -> Recovery:
    """A new segment whose header names the end, then a manifest that names the segment."""
    # A recovery that was cut off before 13 has used up an epoch that the manifest does not know.
    epoch = max(found.manifest.epoch, *(header.epoch for _, header in headers), 0)
    manifest = found.manifest._replace(
        epoch=epoch + 1,
        is_clean=False,
        depth=options.depth,
        durable_seq=end.seq - 1,
        durable_lsn=end.lsn - 1,
        features=found.manifest.features | (blocks.CODED if options.codec else 0),
        snapshots=_sound(found.manifest, found.snapshot),
    )
    header = Header(
        manifest.id,
        number,
        manifest.epoch,
        end.seq,
        end.lsn,
        end.segment,
        end.seq - 1,
        end.chain,
        end.how,
        manifest.segment_bytes,
        now_ns,
        manifest.features,
    )
    prepare(disk, number, manifest.segment_bytes, is_zero=is_zero)
    disk.write(segment_name(number), 0, blocks.pack_header(header))  # 12
    manifest = write_manifest(disk, manifest._replace(current=number))  # 13
    found.report.epoch = manifest.epoch
    tidy(disk, manifest.oldest, {lsn for lsn, _ in manifest.snapshots}, is_start=True)
    return replace(found, manifest=manifest, header=header)


# --- 3, 4: the manifest -------------------------------------------------------------------------


def _manifest(
    disk: Disk, options: Options, names: list[str], make_id: Callable[[], bytes], report: Report
) -> Any:
    """The manifest that is there, or a new one."""
    if MANIFEST in names:
        return read_manifest(disk, report)
    _refuse_orphans(disk, names)
    return _create(disk, options, make_id())


def read_manifest(disk: Disk, report: Report | None = None) -> Any:
    """Return the newest sound copy.

    Raises:
        JournalRefused: There is none.
    """
    if disk.size(MANIFEST) != MANIFEST_BYTES:
        raise JournalRefused(
            f"{disk.path}/{MANIFEST}",
            f"it has {disk.size(MANIFEST)} bytes instead of "
            f"{MANIFEST_BYTES}; restore it, or rebuild it with `pybehave journal repair`",
        )
    disk.sync(MANIFEST)
    content = read_blocks(disk, MANIFEST, MANIFEST_BYTES, report)
    found = []
    for slot in (0, SLOT_B):
        copies = [blocks.unpack_manifest(content[at : at + BLOCK]) for at in (slot, slot + BLOCK)]
        found += [copy for copy in copies if copy is not None]
        if report is not None and None in copies and copies != [None, None]:
            report.warnings.append("one copy of a manifest slot is damaged; the other was used")
    if not found:
        raise JournalRefused(
            f"{disk.path}/{MANIFEST}",
            "none of its copies is sound; rebuild it from the segments "
            "with `pybehave journal repair`",
        )
    return max(found, key=lambda copy: copy.counter)


def write_manifest(disk: Disk, manifest: Any) -> Any:
    """Write a manifest to the slot whose turn it is; returns it as written."""
    manifest = manifest._replace(counter=manifest.counter + 1)
    slot = SLOT_B if manifest.counter & 1 else 0
    disk.write(MANIFEST, slot, blocks.pack_manifest(manifest))
    return manifest


def _create(disk: Disk, options: Options, journal_id: bytes) -> Any:
    """A manifest that says: nothing yet. It appears whole, by rename."""
    size, depth = options.segment_bytes, options.depth
    manifest = Manifest(journal_id, 0, 0, 1, 1, size, depth, 0, 0, False, NO_SNAPSHOTS, 0, 0)
    content = bytearray(MANIFEST_BYTES)
    slot = blocks.pack_manifest(manifest)
    content[: len(slot)] = slot
    disk.put(f"{MANIFEST}.tmp", bytes(content))
    _name(disk, f"{MANIFEST}.tmp", MANIFEST)
    return manifest


def _refuse_orphans(disk: Disk, names: list[str]) -> None:
    orphans = [name for name in names if segment_number(name) is not None]
    if orphans:
        raise JournalRefused(
            disk.path,
            f"it holds {orphans[0]} but no {MANIFEST}; restore the manifest, or rebuild "
            "it with `pybehave journal repair`",
        )


# --- 5: segments --------------------------------------------------------------------------------


def _headers(disk: Disk, names: list[str], manifest: Any, report: Report) -> list[tuple[int, Any]]:
    """The segments in use, in order, with their headers."""
    there = {number for name in names if (number := segment_number(name)) is not None}
    found: list[tuple[int, Any]] = []
    number = manifest.oldest
    is_new = manifest.epoch == 0
    while number in there or (number <= manifest.current and not is_new):
        name = segment_name(number)
        if number not in there:
            raise JournalRefused(
                f"{disk.path}/{name}",
                f"the segment is missing; the journal needs those from {manifest.oldest} to "
                f"{manifest.current}; {SALVAGE}",
            )
        header = _header(disk, name, manifest, report)
        if header is None:
            if number <= manifest.current and not is_new:
                size, whole = disk.size(name), manifest.segment_bytes
                what = f"it has {size} bytes instead of {whole}"
                if size == whole:
                    what = "neither copy of its header is sound"
                raise JournalRefused(
                    f"{disk.path}/{name}", f"{what}, and the journal needs it; {SALVAGE}"
                )
            break  # a spare, or one whose header was being written
        if header.number != number or header.id != manifest.id:
            raise JournalRefused(
                f"{disk.path}/{name}",
                "it belongs to another journal or another place; put the right file back",
            )
        found.append((number, header))
        number += 1
    return found


def _header(disk: Disk, name: str, manifest: Any, report: Report) -> Any:
    if disk.size(name) != manifest.segment_bytes:
        return None
    disk.sync(name)
    content = read_blocks(disk, name, 2 * BLOCK, report)
    copies = [blocks.unpack_header(content[at : at + BLOCK]) for at in (0, BLOCK)]
    if None in copies and copies != [None, None]:
        report.warnings.append(f"one copy of the header of {name} is damaged; the other was used")
    return copies[0] or copies[1]


# --- 6: the snapshot ----------------------------------------------------------------------------


def _snapshot(
    disk: Disk, manifest: Any, headers: list[tuple[int, Any]], report: Report, coder: Coder
) -> Snapshot | None:
    """The newest that is sound; None when the segments reach back to the beginning."""
    unreadable: OSError | None = None
    for lsn, digest in manifest.snapshots:
        if lsn == 0:
            continue
        try:
            found = snapshot.read(disk, lsn, digest, coder)
        except (JournalRefused, OSError) as error:
            if isinstance(error, OSError):
                if error.errno != errno.EIO:
                    raise
                unreadable = error
            report.snapshots_rejected.append((lsn, str(error)))
            report.warnings.append(f"{error}; the one before it is used, and the replay is longer")
            continue
        if found.journal_id == manifest.id:
            return found
        report.snapshots_rejected.append((lsn, "it belongs to another journal"))
        report.warnings.append(f"the snapshot of lsn {lsn} belongs to another journal")
    if not headers or headers[0][1].first_lsn == 1:
        return None
    if unreadable is not None:
        raise unreadable  # a failing disk, no damaged file: it may be read at another try
    raise JournalRefused(
        disk.path,
        f"no snapshot can be read, and the segments begin only with lsn "
        f"{headers[0][1].first_lsn}; restore a snapshot from a copy",
    )


def _sound(manifest: Any, found: Snapshot | None) -> tuple[tuple[int, bytes], ...]:
    """The snapshots that the manifest names from now on: not those that could not be read. Else the
    next one would be kept beside a damaged one, and what the sound one needs be removed.
    """
    last = found.lsn if found is not None else 0
    kept = [named for named in manifest.snapshots if 0 < named[0] <= last]
    return (*kept, *NO_SNAPSHOTS)[:2]


def _check_snapshot(disk: Disk, found: Snapshot | None, end: _End) -> None:
    if found is not None and found.lsn >= end.lsn:
        raise JournalRefused(
            disk.path,
            f"the snapshot holds lsn {found.lsn}, but the segments end with "
            f"{end.lsn - 1}, so some of what had been durable is gone; restore it from a copy",
        )


def tidy(disk: Disk, oldest: int, snapshots: set[int], *, is_start: bool) -> None:
    """Remove segments and snapshots that the manifest, durable by now, no longer needs.

    Args:
        oldest: The number of the first segment that is needed.
        snapshots: The lsns of the snapshots that are needed.
        is_start: Nothing else is at work in the folder: a snapshot without its name goes too.
    """
    removed = False
    for name in disk.names():
        number, lsn = segment_number(name), snapshot_lsn(name)
        is_old = number is not None and number < oldest
        is_loose = lsn is not None and lsn not in snapshots
        if lsn is not None and lsn > max(snapshots, default=0) and not is_start:
            is_loose = False  # the next one, which waits until all in it is durable
        if is_old or is_loose:
            disk.remove(name)
            removed = True
    if removed:
        disk.sync_names()


def _drop_half_made(disk: Disk) -> None:
    """Remove what a crash or a full disk left half made, before there has to be room for more."""
    half_made = [name for name in disk.names() if name.endswith(".tmp")]
    for name in half_made:
        disk.remove(name)
    if half_made:
        disk.sync_names()


# --- 7 to 10: where it ends ---------------------------------------------------------------------


@dataclass(slots=True)
class _End:
    """The first thing that does not count, and what is before it."""

    segment: int = 0
    seq: int = 1
    lsn: int = 1
    chain: bytes = NO_HASH
    how: int = ENDED_NONE
    time_ns: int = 0
    tail: bytes = b""


@final
class _Walk:
    """Steps 5 to 10: through all segments, to where they end.

    Attributes:
        headers: Number and header of each.
        coder: Opens what codecs have made.
        found: The snapshot that counts.
        pieces: What counts of the segments walked.
        end: Where it ends.
        walked: How far the last one is sound.
        content: That one.
    """

    def __init__(
        self,
        disk: Disk,
        options: Options,
        manifest: Any,
        names: list[str],
        report: Report,
    ) -> None:
        self._disk, self._manifest, self._report = disk, manifest, report
        self.headers = _headers(disk, names, manifest, report)
        self.coder = Coder(options.codec, manifest.id)
        self.found: Snapshot | None = None
        self.pieces: list[Piece] = []
        self.end = _End()
        self.walked: Any = None
        self.content = memoryview(b"")

    def begin(self, ahead: Ahead | None) -> None:
        """Find the snapshot, which may have been read already."""
        manifest, report = self._manifest, self._report
        found = None if ahead is None else ahead.found.snapshot
        named = (*manifest.snapshots[0], manifest.id)
        if found is None or (found.lsn, found.digest, found.journal_id) != named:
            found = _snapshot(self._disk, manifest, self.headers, report, self.coder)
        self.found = found
        report.snapshot_lsn = found.lsn if found is not None else 0

    def looked(self) -> Recovery:
        """What was found."""
        found, end, pieces = self.found, self.end, tuple(self.pieces)
        lsn, time_ns = end.lsn - 1, end.time_ns
        return Recovery(self._manifest, None, pieces, found, lsn, time_ns, self._report)

    def walk(
        self, closed: Closed | None = None, ahead: Ahead | None = None, *, is_live: bool = False
    ) -> None:
        """Walk all segments.

        Args:
            closed: What the process says that has just closed it.
            ahead: What this process has read of it before that.
            is_live: Another process writes it: the end is as far as it has come.
        """
        headers, report, end = self.headers, self._report, self.end
        if not headers:
            _refuse_claims(self._disk, self._manifest, end)
            report.outcome = "new"
            return
        end.seq, end.lsn, end.chain = headers[0][1].first_seq, headers[0][1].first_lsn, b""
        there = []
        if ahead is not None:
            there = self._go_on(closed, ahead)
        first = len(self.pieces)
        contents = segments_ahead(
            self._disk,
            [number for number, _ in headers[first + len(there) :]],
            self._manifest,
            report,
            closed,
            there,
        )
        for index, (_, content) in enumerate(contents, first):
            start = ahead if there and index == first else None
            if self._take(index, content, start, is_live=is_live):
                contents.keep()
        report.last_seq, report.last_lsn = self.end.seq - 1, self.end.lsn - 1

    def _go_on(self, closed: Closed | None, ahead: Ahead) -> list[tuple[int, memoryview]]:
        """Take over what was walked before, if it still is the beginning of what is there.

        Returns:
            Number and content of the segment to go on with; nothing if there is none.
        """
        ahead.is_used = False  # a look that was thwarted may have gone on there
        oldest, size = self.headers[0][0], self._manifest.segment_bytes // BLOCK
        known = [piece for piece in ahead.found.pieces if piece.number >= oldest]
        is_same = [(piece.number, piece.header) for piece in known] == self.headers[: len(known)]
        if not known or not is_same or ahead.found.manifest.id != self._manifest.id:
            return []
        number, begin = known[-1].number, ahead.walked.block * BLOCK
        end = BLOCK * (size if closed is None else closed.blocks_of(number, size))
        try:
            rest = self._disk.read(segment_name(number), begin, end - begin)
        except OSError:
            return []  # all of it is read again, and judged
        end = begin + len(rest)
        ahead.content[begin:end] = rest
        for piece, (_, follower) in zip(known[:-1], self.headers[1:], strict=False):
            self._report.segments += 1
            self._report.frames += follower.first_seq - piece.header.first_seq
            self._report.records += piece.lsn_end - piece.header.first_lsn
            self._report.bytes += piece.block_end * BLOCK
            self.pieces.append(replace(piece, content=None))
        if self.pieces:
            header = known[-1].header
            before, how, time_ns = header.before, header.before_end, ahead.found.time_ns
            self.end = _End(before, header.first_seq, header.first_lsn, header.chain, how, time_ns)
        ahead.is_used = True
        return [(number, ahead.content[:end])]

    def _take(self, index: int, content: memoryview, start: Ahead | None, *, is_live: bool) -> bool:
        """Walk one segment; returns whether its content is kept."""
        disk, manifest, report = self._disk, self._manifest, self._report
        number, header = self.headers[index]
        follower = self.headers[index + 1][1] if index + 1 < len(self.headers) else None
        file = f"{disk.path}/{segment_name(number)}"
        _check_join(disk, self.end, number, header, is_first=index == 0)
        last_seq = 2**64 - 1 if follower is None else follower.before_seq
        if start is None:
            walked = blocks.walk(content, header, last_seq)
            marks = blocks.find_marks(content, manifest.id, walked.block, self.coder)
        else:
            walked = blocks.walk(content, header, last_seq, start.walked)
            since = content, manifest.id, walked.block, self.coder, start.walked.block
            marks = start.found.pieces[-1].marks + blocks.find_marks(*since)
        report.segments += 1
        report.frames += walked.frames
        report.records += walked.records
        report.bytes += walked.block * BLOCK
        time_ns = max(self.end.time_ns, walked.time_ns, header.made_ns)
        self.end = _End(number, walked.seq, walked.lsn, walked.chain, _how(walked), time_ns)
        if follower is not None:
            if walked.seq != follower.before_seq + 1 or walked.chain != follower.chain:
                evidence.refuse(file, number, walked, ["b"])
            if follower.before_end == ENDED_RECOVERED:
                evidence.refuse_second_writer(file, header, follower, walked, content)
        elif not is_live:
            evidence.judge(file, manifest, header, walked, content, report)
            self.end.tail = bytes(content[walked.block * BLOCK :][: report.torn_bytes])
        self.walked, self.content = walked, content
        kept = sum(piece.content is not None for piece in self.pieces)
        is_kept = kept < CONTENTS_KEPT and walked.lsn > report.snapshot_lsn + 1
        self.pieces.append(
            Piece(number, header, walked.block, walked.lsn, content if is_kept else None, marks)
        )
        return is_kept


def _refuse_claims(disk: Disk, manifest: Any, end: _End) -> None:
    if manifest.durable_seq >= end.seq or manifest.is_clean:
        raise JournalRefused(
            f"{disk.path}/{MANIFEST}",
            f"it counts {manifest.durable_seq} durable frames, but "
            "there is no segment; restore them from a copy",
        )


def _note_progress(progress: Progress | None, segments: int, size: int, report: Report) -> None:
    if progress is not None:
        progress.begin("reading", "bytes", segments * size, lambda: report.segments * size)


def _how(walked: Any) -> int:
    return {blocks.END_SEAL: ENDED_SEALED, blocks.END_CLOSE: ENDED_CLOSED}.get(
        walked.end, ENDED_RECOVERED
    )


def _check_join(disk: Disk, end: _End, number: int, header: Any, *, is_first: bool) -> None:
    """A segment begins where the one before it ended."""
    if is_first:
        return
    is_joined = (
        header.before == end.segment
        and header.first_seq == end.seq
        and header.first_lsn == end.lsn
        and header.chain == end.chain
    )
    if not is_joined:
        raise JournalRefused(
            f"{disk.path}/{segment_name(number)}",
            f"it does not follow segment {end.segment}, "
            f"which ends before seq {end.seq} and lsn {end.lsn}; restore both from one copy",
        )


def _check_strict(disk: Disk, options: Options, end: _End, report: Report) -> None:
    if not (report.torn_bytes and options.strict):
        return
    raise JournalRefused(
        disk.path,
        f"the end is torn at seq {end.seq}, as after a crash, and strict recovery does not "
        f"accept that; start without strict to cut it off",
    )


# --- 11, 12: the tail, and a new segment ---------------------------------------------------------


def _keep_tail(disk: Disk, end: _End, report: Report) -> None:
    if not end.tail:
        return
    name = f"quarantine/{segment_name(end.segment)}-seq-{end.seq}"
    disk.put(f"{name}.tmp", end.tail)
    disk.rename(f"{name}.tmp", name)
    report.quarantine = name


def prepare(disk: Disk, number: int, count: int, *, is_zero: bool = False) -> None:
    """Make the segment's file, all zeros and durable, name and all; keep one that is there.

    Args:
        is_zero: One that is there is known to be so.

    Raises:
        OSError: ENOSPC and the like; what is half made is removed by the next try.
    """
    name = segment_name(number)
    if name in disk.names():
        if disk.size(name) == count and (is_zero or is_zero_file(disk, name, count)):
            return
        disk.remove(name)  # a header that was being written when the power went
    if SPARE in disk.names():
        disk.remove(SPARE)
    try:
        disk.fill(SPARE, count)
    except OSError:
        with contextlib.suppress(OSError):  # it may not even have been made
            disk.remove(SPARE)
        raise
    _name(disk, SPARE, name)


def _name(disk: Disk, old: str, new: str) -> None:
    """Give a file its name for good. When that fails the name is taken away again: a sync that
    succeeds after one that failed says nothing about what the failed one had lost (fsyncgate).
    """
    try:
        disk.rename(old, new)
        disk.sync_names()
    except OSError:
        with contextlib.suppress(OSError):
            disk.remove(new)
        raise

"""A store on one disk, of one process: each change is a record of a journal of its own.

Theory. The streams are in memory (streams.py), and every change to them is recorded before it is
applied: format, group commit, evidence and recovery are the journal's, whose every sector has been
torn before (docs/journal-format.md, section 11). A start reads the newest *base*, all streams as of
one lsn, and applies the records behind it. Snapshots of streams may be large, so their contents are
files of their own, durable before the record that names them.

Many threads share a flush: whoever finds the disk idle writes what has gathered, for all; the
others wait, and what they bring meanwhile is the next frame (as the writers of LevelDB do).

Invariants
  (D1) Records are in the order in which changes were applied.
  (D2) A file `stream-*.pbs` that a durable record names is durable; it is removed only when a
       record that replaces it is durable. What nobody names is removed at the next start.
  (D3) After the first failure of the disk nothing more is said: every call raises DurabilityLost.
  (D4) The disk has at most two bases, and segments of twice the older one's size, and a few.

Does not know: what a call may do (local_store.py, streams.py), the loop.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, final

import msgspec

from pybehave._uring import blocks
from pybehave._uring.commit import Commit
from pybehave.errors import DurabilityLost, JournalRefused
from pybehave.journal import recovery, segment_files, snapshot
from pybehave.journal.contents import FORMAT, content_name
from pybehave.journal.disk import BLOCK, Disk
from pybehave.journal.local_store import LocalStore
from pybehave.journal.reader import FRAME_FIELDS, RECORD_FIELDS, STORE, TIME
from pybehave.journal.recovery import Options, Piece, Recovery
from pybehave.journal.segment_files import segment_name
from pybehave.journal.snapshot import Entry, Snapshot
from pybehave.journal.store import Lease
from pybehave.journal.streams import (
    INBOX_MESSAGES_MAX,
    Change,
    Kept,
    decode_change,
    decode_stream,
    encode_change,
    encode_stream,
)

OPTIONS: Final = Options(segment_bytes=16 << 20, frame_bytes_max=4 << 20)
"""Smaller than a node's: the next segment is filled with zeros while callers wait."""

BASE_SEGMENTS: Final = 4
"""A base is taken behind so many segments; behind more when it is large, for it is all written
again each time. Each start begins a segment, too."""

MANIFEST_FD: Final = 0
"""Nothing is opened for long here: what the journal takes for descriptors are segments' numbers."""

HEADER_BLOCKS: Final = 2

logger = logging.getLogger("pybehave.journal")


@final
class DiskStore(LocalStore):
    """Streams on a disk.

    Args:
        disk: The folder, for this alone: `FolderDisk(path)`, or a `SimDisk` in tests.
        options: How its journal is kept; the size of segments is that of the first start. It takes
            no codec: what streams hold is the business of who appends it.
        clock: Seconds, never going back: what leases are measured by.
        unix_ns: Unix time, for information in headers.
        inbox_messages_max: How many messages may wait in one inbox.
        make_id: Gives the id of a new journal.

    Raises:
        JournalLocked: Another process has it open.
        JournalRefused: It is damaged, or the folder holds something else.
        OSError: The disk failed.
        ValueError: The options have a codec.
    """

    def __init__(
        self,
        disk: Disk,
        options: Options = OPTIONS,
        *,
        clock: Callable[[], float] = time.monotonic,
        unix_ns: Callable[[], int] = time.time_ns,
        inbox_messages_max: int = INBOX_MESSAGES_MAX,
        make_id: Callable[[], bytes] = lambda: os.urandom(16),
    ) -> None:
        if options.codec:
            raise ValueError("codec= is not allowed in a store; encode what is appended to it")
        super().__init__(clock, inbox_messages_max)
        self._disk = disk
        self._options = options
        self._unix_ns = unix_ns
        self._commit = Commit()
        self._is_writing = False
        self._pid = os.getpid()
        disk.lock()
        try:
            found = recovery.recover(disk, options, now_ns=unix_ns(), make_id=make_id)
            self._id = found.manifest.id
            self._segment_bytes = int(found.manifest.segment_bytes)
            self._load(found)
            self._remove_orphans()
            self._begin(found)
        except BaseException:
            disk.unlock()
            raise

    # --- opening -------------------------------------------------------------------------------

    def _load(self, found: Recovery) -> None:
        last_lsn = 0
        if found.snapshot is not None:
            last_lsn = found.snapshot.lsn
            self._load_base(found.snapshot)
        for piece in found.pieces:
            if piece.lsn_end > last_lsn + 1:
                for lsn, kind, payload in self._records(piece):
                    if lsn > last_lsn and kind != TIME:
                        self._load_record(kind, payload)
        newest = found.snapshot
        self._base_bytes = sum(len(each.state) for each in newest.entries) if newest else 0
        self._base_lsn = last_lsn
        self._starts = [(piece.number, piece.header.first_lsn) for piece in found.pieces]
        self._starts.append((found.header.number, found.header.first_lsn))

    def _load_base(self, base: Snapshot) -> None:
        for entry in base.entries:
            facts = msgspec.msgpack.decode(entry.facts)
            if not isinstance(facts, dict) or facts.get("format") != FORMAT:
                raise self._is_no_store()
            self._streams.by_name[facts["name"]] = decode_stream(entry.state)

    def _load_record(self, kind: int, payload: memoryview) -> None:
        if kind != STORE:
            raise self._is_no_store()
        self._streams.apply(decode_change(payload))

    def _is_no_store(self) -> JournalRefused:
        return JournalRefused(
            self._disk.path, "it holds the journal of a node, and no store; use another folder"
        )

    def _records(self, piece: Piece) -> Iterator[tuple[int, int, memoryview]]:
        """The records of a segment, which recovery has found sound: lsn, type, payload."""
        content = piece.content
        if content is None:
            content = segment_files.read_segment(self._disk, piece.number, self._segment_bytes)
        block = HEADER_BLOCKS
        while block < piece.block_end:
            at = block * BLOCK
            frame = FRAME_FIELDS.unpack_from(content, at)
            body_bytes, records, first_lsn = frame[4], frame[5], frame[9]
            block += -(-(FRAME_FIELDS.size + body_bytes) // BLOCK)
            at += FRAME_FIELDS.size
            for lsn in range(first_lsn, first_lsn + records):
                size, kind, *_ = RECORD_FIELDS.unpack_from(content, at)
                at += RECORD_FIELDS.size + size
                yield lsn, kind, content[at - size : at]

    def _remove_orphans(self) -> None:
        """(D2)"""
        named = [kept for found in self._streams.by_name.values() for kept in found.snapshots]
        files = {content_name(kept.number) for kept in named}
        orphans = [
            name for name in self._disk.names() if name.startswith("stream-") and name not in files
        ]
        for name in orphans:
            self._disk.remove(name)
        if orphans:
            self._disk.sync_names()
        self._numbers = itertools.count(max((kept.number for kept in named), default=0) + 1)

    def _begin(self, found: Recovery) -> None:
        self._commit.open(
            self._disk.path,
            blocks.pack_manifest(found.manifest),
            blocks.pack_header(found.header),
            found.header.number,
            MANIFEST_FD,
            self._disk.medium().how,
            self._options.frame_bytes_max,
            found.time_ns,
        )
        self._commit.on_rolled = self._rolled
        for warning in found.report.warnings:
            logger.warning("%s: %s", self._disk.path, warning)
        self._segments_behind: int = sum(lsn > self._base_lsn for _, lsn in self._starts)
        with self._lock:
            self._settle()

    def _rolled(self, _: int) -> None:
        self._starts.append((self._commit.current_segment, self._commit.segment_first_lsn))
        self._segments_behind += 1

    # --- changes -------------------------------------------------------------------------------

    def _keep(self, change: Change) -> None:
        """(D1)"""
        if os.getpid() != self._pid:
            raise JournalRefused(
                self._disk.path,
                "this store was opened before fork() and belongs to the parent; open it there",
            )
        if self._commit.error:
            raise self._lost()
        self._prepare_spare()
        self._commit.try_record(STORE, 0, encode_change(change), self._unix_ns())

    def _settle(self) -> None:
        batch = self._commit.batch_of_last()
        while self._commit.durable_batch < batch:
            self._go_on()
        if self._commit.error:
            raise self._lost()
        if self._is_base_due:
            self._take_base()

    def _go_on(self) -> None:
        """One more write, by us or by whoever is at it."""
        if self._commit.error:
            raise self._lost()
        if self._is_writing:
            self._lock.wait()
            return
        wanted = self._commit.take_write(self._unix_ns())
        assert wanted is not None, "there is something to write, and room for it"
        slot, fd, offset, data = wanted
        name = recovery.MANIFEST if fd == MANIFEST_FD else segment_name(fd)
        result = -errno.EIO
        self._is_writing = True
        self._lock.release()
        try:
            self._disk.write(name, offset, data)
            result = len(data)
        except OSError as error:
            result = -(error.errno or errno.EIO)
        finally:
            self._lock.acquire()
            self._is_writing = False
            self._lock.notify_all()
            self._commit.complete_write(slot, result)

    def _lost(self) -> DurabilityLost:
        """(D3)"""
        return DurabilityLost(os.strerror(self._commit.error))

    def _prepare_spare(self) -> None:
        """The next segment; without room for it records are refused when this one is full."""
        number = self._commit.current_segment + 1
        if not self._commit.wants_spare:
            return
        try:
            recovery.prepare(self._disk, number, self._segment_bytes)
        except OSError as error:
            if not self._commit.is_full:
                logger.error("no room for the next segment in %s: %s", self._disk.path, error)
            self._commit.no_room()
        else:
            self._commit.give_spare(number, number)

    # --- bases ---------------------------------------------------------------------------------

    @property
    def _is_base_due(self) -> bool:
        """(D4)"""
        enough = max(BASE_SEGMENTS, 2 * self._base_bytes // self._segment_bytes)
        return self._segments_behind >= enough

    def _take_base(self) -> None:
        """Write all streams down, and remove the records that only older bases needed."""
        if self._commit.next_lsn - 1 == self._base_lsn:  # many starts, and no work: another lsn
            now_ns = self._unix_ns()
            self._commit.record(TIME, 0, now_ns.to_bytes(8, "little"), now_ns)
        while not self._commit.is_idle:
            self._go_on()
        if not self._is_base_due:  # another thread has taken it meanwhile
            return
        self._segments_behind = 0  # also when it fails: not again at once
        lsn = self._commit.next_lsn - 1
        entries = self._entries()
        content = snapshot.encode(self._id, lsn, self._unix_ns(), entries)
        try:
            digest = snapshot.write(self._disk, content, lsn)
        except (OSError, JournalRefused) as error:
            logger.error("no base could be written in %s: %s", self._disk.path, error)
            return
        self._base_lsn, self._base_bytes = lsn, sum(len(entry.state) for entry in entries)
        oldest, kept = snapshot.still_needed(self._starts, lsn, self._commit.snapshots[0])
        named: list[bool] = []
        self._commit.snapshot_taken(lsn, digest, oldest, lambda: named.append(True))
        while not named:
            self._go_on()
        self._starts = [start for start in self._starts if start[0] >= oldest]
        with contextlib.suppress(OSError):  # the next base tries again
            recovery.tidy(self._disk, oldest, kept, is_start=False)

    def _entries(self) -> list[Entry]:
        return [
            Entry(
                msgspec.msgpack.encode({"name": name, "number": number, "format": FORMAT}),
                encode_stream(found),
            )
            for number, (name, found) in enumerate(self._streams.by_name.items(), 1)
        ]

    # --- snapshots of streams ------------------------------------------------------------------

    def _put_content(self, lease: Lease, sequence: int, content: bytes) -> Kept:
        number = next(self._numbers)
        facts = {"name": lease.stream, "epoch": lease.epoch, "format": FORMAT}
        data = snapshot.encode(
            self._id, sequence, self._unix_ns(), [Entry(msgspec.msgpack.encode(facts), content)]
        )
        name = content_name(number)
        digest = snapshot.write_as(self._disk, name, data)
        return Kept(lease.stream, sequence, lease.epoch, number, digest)

    def _get_content(self, kept: Sequence[Kept]) -> tuple[Kept, bytes] | None:
        for each in kept:
            name = content_name(each.number)
            try:
                data = self._disk.read(name, 0, self._disk.size(name))
                found = snapshot.decode(name, data)
            except (OSError, JournalRefused) as error:
                logger.warning("%s: %s", self._disk.path, error)
                continue
            if found.digest == each.digest and found.journal_id == self._id:
                return each, found.entries[0].state
        return None

    def _drop_content(self, kept: Sequence[Kept]) -> None:
        for each in kept:
            with contextlib.suppress(OSError):  # the next start removes it
                self._disk.remove(content_name(each.number))

    # --- the end -------------------------------------------------------------------------------

    def close(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            with contextlib.suppress(DurabilityLost):  # and then recovery finds the end
                while not self._commit.is_idle:
                    self._go_on()
                self._commit.finish()
                while not self._commit.is_closed:
                    self._go_on()
            while self._is_writing:
                self._lock.wait()
            self._disk.unlock()

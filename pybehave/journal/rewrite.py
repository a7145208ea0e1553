"""Write a journal anew, from records: whole, closed, and dense, into a folder of its own.

For the tools that take one journal and make another (import, compact). A node's own journal is
written by the core, block by block as commits come; here everything is known beforehand, so frames
are filled up to a mebibyte. MANIFEST is written last, so what is cut off is no journal, and nobody
takes it for one.

Invariants
  (W1) Records keep their lsn, and with it every reference from one to another.
  (W2) Records keep their time: a frame ends where the time changes without a TIME record.
  (W3) Until `finish` returns there is no MANIFEST; then all of it is durable, names too.

Does not know: where records come from, what they mean.
Source: docs/journal-format.md, sections 2 to 5.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final, final

from pybehave._uring import blocks
from pybehave.errors import JournalRefused
from pybehave.journal import recovery, segment_files, snapshot
from pybehave.journal.codec import PLAIN, Coder
from pybehave.journal.disk import make_folder, sync_folder
from pybehave.journal.reader import (
    BLOCK,
    CLOSE,
    CODED,
    DATA,
    FRAME_FIELDS,
    RECORD_FIELDS,
    SEAL,
    STORE,
    TIME,
    Record,
    hash_of,
)

FRAME_BODY_BYTES: Final = 1 << 20
"""A frame is ended when it has this much: its header and padding are nothing beside it, and a
reader that takes frames whole needs no more."""

EPOCH: Final = 1
DEPTH: Final = 1
SEALED: Final = 1
HEADER_BLOCKS: Final = 2


@final
class Rewriter:
    """A journal that is being written.

    Args:
        target: A folder that does not exist yet, or is empty.
        journal_id: The new journal's; that of the old one, since random numbers begin with it.
        segment_bytes: Size of its segments.
        first_lsn: Of the first record.
        made_ns: Unix time, for information in headers.
        coder: Is applied to frames; whoever gives snapshots to `finish` applies it to those.

    Raises:
        JournalRefused: The target is not empty.
        OSError: It cannot be written.

    Attributes:
        next_lsn: Of the record that is expected next.
        segments: How many segments there are.
    """

    def __init__(
        self,
        target: str,
        journal_id: bytes,
        segment_bytes: int,
        first_lsn: int,
        made_ns: int,
        coder: Coder = PLAIN,
    ) -> None:
        refuse_existing(target)
        make_folder(target)
        self.target = Path(target)
        self.journal_id = journal_id
        self.segment_bytes = segment_bytes
        self.next_lsn = first_lsn
        self.segments = 0
        self._made_ns = made_ns
        self._coder = coder
        self._features = CODED if coder.is_on else 0
        self._seq = 1
        self._chain = bytes(16)
        self._body = bytearray()
        self._body_lsn = first_lsn
        self._frame_ns = 0
        self._time_ns = 0
        self._begin_segment()

    def __enter__(self) -> Rewriter:
        """Write, and let the file be closed also when it goes wrong."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Close what is open; what went wrong leaves an empty folder, for another try."""
        self._file.close()
        if kind is None:
            return
        with contextlib.suppress(OSError):  # what went wrong before is what is told
            for each in self.target.iterdir():  # it was empty, so all of it is ours
                if each.is_dir():
                    shutil.rmtree(each)
                else:
                    each.unlink()

    def add(self, record: Record) -> None:
        """Append a record.

        Raises:
            JournalRefused: It does not follow the one before, fits no segment, or is a store's,
                which take no codec.
            OSError: The disk is full, or failed.
        """
        if record.lsn != self.next_lsn:
            raise JournalRefused(
                str(self.target), f"lsn {record.lsn} comes where {self.next_lsn} is due"
            )
        if record.type == STORE and self._coder.is_on:
            raise JournalRefused(str(self.target), "it is a store's, and a store takes no codec")
        size = len(record.extensions) + len(record.payload)
        if self._blocks(RECORD_FIELDS.size + size) > self._room(HEADER_BLOCKS):
            raise JournalRefused(
                str(self.target),
                f"record {record.lsn} has {size} bytes, and a segment of {self.segment_bytes} "
                "bytes has no room for it",
            )
        is_later = record.type != TIME and record.time_ns != self._time_ns
        if self._body and (is_later or not self._fits(RECORD_FIELDS.size + size)):
            self._end_frame(DATA)
        if not self._body:
            self._frame_ns = self._time_ns = record.time_ns
        self._body += RECORD_FIELDS.pack(
            size, record.type, record.kind, record.flags, record.server, record.outcome
        )
        self._body += record.extensions
        self._body += record.payload
        self._time_ns = record.time_ns
        self.next_lsn += 1

    def put(self, name: str, content: bytes) -> None:
        """Write a file that belongs to the journal, durable; its name is when `finish` returns.

        Raises:
            OSError: The disk is full, or failed.
        """
        self._put(name, content)

    def finish(self, snapshots: Sequence[tuple[int, bytes]]) -> None:
        """Close the journal, and make it one.

        Args:
            snapshots: lsn and file content, newest first, two at most.
        """
        if self._body:
            self._end_frame(DATA)
        self._end_frame(CLOSE)
        self._end_segment()
        for lsn, content in snapshots:
            self._put(snapshot.snapshot_name(lsn), content)
        sync_folder(str(self.target))
        named = [
            (lsn, snapshot.check("snapshot", memoryview(content)).digest)
            for lsn, content in snapshots
        ]
        manifest = blocks.Manifest(
            self.journal_id,
            1,
            EPOCH,
            1,
            self.segments,
            self.segment_bytes,
            DEPTH,
            self._seq - 1,
            self.next_lsn - 1,
            True,
            (*named, *recovery.NO_SNAPSHOTS)[:2],
            0,
            0,
            self._features,
        )
        self._put(f"{recovery.MANIFEST}.tmp", manifest_file(manifest))
        os.rename(self.target / f"{recovery.MANIFEST}.tmp", self.target / recovery.MANIFEST)
        sync_folder(str(self.target))

    # --- frames --------------------------------------------------------------------------------

    def _fits(self, size: int) -> bool:
        size += len(self._body)
        return size <= FRAME_BODY_BYTES and self._blocks(size) <= self._room(HEADER_BLOCKS)

    def _blocks(self, body_bytes: int) -> int:
        return -(-(FRAME_FIELDS.size + body_bytes) // BLOCK)

    def _room(self, block: int) -> int:
        """Blocks for frames of records from a block on; the last one is for SEAL or CLOSE, and one
        for what codecs may add.
        """
        return self.segment_bytes // BLOCK - block - (2 if self._coder.is_on else 1)

    def _end_frame(self, kind: int) -> None:
        body = bytes(self._body)
        if kind == DATA and self._blocks(len(body)) > self._room(self._block):
            self._body.clear()
            self._write_frame(SEAL, b"", 0, self._body_lsn)
            self._end_segment()
            self._begin_segment()
        records = self.next_lsn - self._body_lsn
        self._write_frame(kind, body, records, self._body_lsn)
        self._body.clear()
        self._body_lsn = self.next_lsn

    def _write_frame(self, kind: int, body: bytes, records: int, first_lsn: int) -> None:
        flags = self._features if kind == DATA else 0
        if flags:
            place = EPOCH, self._seq, first_lsn, records, self._frame_ns
            body = self._coder.encode_frame(*place, body)
        fields = (
            b"pbhvfrm\n", kind, flags, FRAME_FIELDS.size, len(body), records, self._block,
            self.segments, self._seq, first_lsn, self._seq - 1, self._frame_ns, EPOCH, 0,
            self._chain,
        )  # fmt: skip
        head = FRAME_FIELDS.pack(*fields, bytes(16), bytes(16))[:96]
        header_hash = hash_of(self.journal_id, head)
        self._chain = hash_of(header_hash, body)
        padding = -(FRAME_FIELDS.size + len(body)) % BLOCK
        self._file.write(b"".join((head, header_hash, self._chain, body, bytes(padding))))
        self._block += self._blocks(len(body))
        self._seq += 1

    # --- files ---------------------------------------------------------------------------------

    def _begin_segment(self) -> None:
        self.segments += 1
        self._block = HEADER_BLOCKS
        header = blocks.Header(
            self.journal_id,
            self.segments,
            EPOCH,
            self._seq,
            self._body_lsn,
            self.segments - 1,
            self._seq - 1,
            self._chain,
            SEALED if self.segments > 1 else 0,
            self.segment_bytes,
            self._made_ns,
            self._features,
        )
        file = Path(self.target, segment_files.segment_name(self.segments))
        self._file = file.open("xb")
        self._file.write(blocks.pack_header(header))

    def _end_segment(self) -> None:
        """What is behind the last frame is a hole: nobody writes to this file again."""
        with self._file:
            self._file.truncate(self.segment_bytes)
            self._file.flush()
            os.fsync(self._file.fileno())

    def _put(self, name: str, content: bytes) -> None:
        with Path(self.target, name).open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


def refuse_existing(target: str) -> None:
    """Refuse a folder that holds anything, and what is no folder.

    Raises:
        JournalRefused: It does.
    """
    folder = Path(target)
    if not target:
        raise JournalRefused("''", "a folder's name cannot be empty; name one")
    if folder.exists() and not folder.is_dir():
        raise JournalRefused(target, "it is a file; name a folder that is not there yet")
    if folder.exists() and any(folder.iterdir()):
        raise JournalRefused(target, "the folder is not empty; name one that is not there yet")


def manifest_file(manifest: blocks.Manifest) -> bytes:
    """Return the content of a MANIFEST that says this and nothing else."""
    slot = blocks.pack_manifest(manifest)
    content = bytearray(recovery.MANIFEST_BYTES)
    begin = recovery.SLOT_B if manifest.counter & 1 else 0
    content[begin : begin + len(slot)] = slot
    return bytes(content)

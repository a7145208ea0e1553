"""The second reader: a journal read by its page alone (docs/journal-format.md), in plain Python.

It shares no code with the writer and with recovery but the thread that reads ahead (ahead.py) and
codecs (codec.py), so what both misunderstand alike is found by tests that compare them. It serves
the tools. It never writes, takes no lock, and works beside a node that is writing: what is being
written then looks like a torn end.

Does not know: servers' code, policies, how to mend anything.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import xxhash

from pybehave.errors import JournalRefused
from pybehave.journal.ahead import make_room
from pybehave.journal.codec import PLAIN

BLOCK: Final = 4096
MANIFEST: Final = "MANIFEST"
SLOTS: Final = (0, BLOCK, 32768, 32768 + BLOCK)
FORMAT: Final = 1
CHUNK_BYTES: Final = 8 << 20
"""Bytes asked of the disk at once."""

MEND: Final = "restore it from a copy, or save what can be saved with `pybehave journal repair`"
"""What there is to do about a file that is missing or damaged."""

MANIFEST_FIELDS: Final = struct.Struct("<8sII16sQQQQQIIQQIIIIQ16sQ16sQI")
HEADER_FIELDS: Final = struct.Struct("<8sII16sQQQQQQ16sIIQIIQ")
FRAME_FIELDS: Final = struct.Struct("<8sBBHIIIQQQQQQQ16s16s16s")
RECORD_FIELDS: Final = struct.Struct("<IBBHII")

CODED: Final = 1
"""An incompatible feature of manifests and segments: there may be frames with the flag of the same
number, whose bodies codecs have made (section 12)."""

DATA, SEAL, CLOSE = 1, 2, 3
INPUT, SERVER, TIME, START, SKIP, EFFECT, STATE, STORE, FORGET = 1, 2, 3, 4, 5, 6, 7, 8, 9
TYPES: Final = {
    INPUT: "input",
    SERVER: "server",
    TIME: "time",
    START: "start",
    SKIP: "skip",
    EFFECT: "effect",
    STATE: "state",
    STORE: "store",
    FORGET: "forget",
}
KINDS: Final = {1: "call", 2: "cast", 3: "info", 4: "continue", 5: "timer"}
FAILED, CAUSE, REQUEST, STOPS, FROM = 1, 2, 4, 8, 16
FLAGS: Final = {
    FAILED: "failed",
    CAUSE: "cause",
    REQUEST: "request",
    STOPS: "stops",
    FROM: "from",
}


@final
@dataclass(frozen=True, slots=True)
class Manifest:
    """Where reading begins (section 2)."""

    journal_id: bytes
    counter: int
    epoch: int
    oldest: int
    current: int
    segment_bytes: int
    depth: int
    durable_seq: int
    durable_lsn: int
    is_clean: bool
    snapshots: tuple[tuple[int, bytes], ...]
    features: int = 0


@final
@dataclass(frozen=True, slots=True)
class Header:
    """A segment's header (section 3)."""

    journal_id: bytes
    number: int
    epoch: int
    first_seq: int
    first_lsn: int
    before: int
    before_seq: int
    chain: bytes
    before_end: int
    size: int


@final
@dataclass(frozen=True, slots=True)
class Frame:
    """A frame's header (section 4), and where its body lies in the segment."""

    type: int
    body_bytes: int
    records: int
    block: int
    segment: int
    seq: int
    first_lsn: int
    durable_seq: int
    time_ns: int
    epoch: int
    chain: bytes
    header_hash: bytes
    body_hash: bytes
    flags: int = 0

    @property
    def body(self) -> slice:
        """Where the body lies."""
        begin = self.block * BLOCK + FRAME_FIELDS.size
        return slice(begin, begin + self.body_bytes)

    @property
    def blocks(self) -> int:
        """How many blocks it takes."""
        return -(-(FRAME_FIELDS.size + self.body_bytes) // BLOCK)


@final
@dataclass(frozen=True, slots=True)
class Record:
    """One record (section 5).

    Attributes:
        extensions: What the flags say that stands before the payload, as it is.
        payload: What is behind it.
    """

    lsn: int
    type: int
    kind: int
    flags: int
    server: int
    outcome: int
    time_ns: int
    extensions: bytes
    payload: bytes


@final
@dataclass(frozen=True, slots=True)
class Stop:
    """The first thing in a segment that is not as it should be.

    Attributes:
        reason: What about it.
        seq: The seq that was expected there.
        lsn: The lsn that was expected there.
        block: Where.
        is_empty: From there to the segment's end everything is zero.
    """

    reason: str
    seq: int
    lsn: int
    block: int
    is_empty: bool


def hash_of(*parts: bytes | memoryview) -> bytes:
    """Return the hash of the parts, one behind the other."""
    state = xxhash.xxh3_128()
    for part in parts:
        state.update(part)
    return state.digest()


def _is_zero(data: memoryview) -> bool:
    return not any(
        memoryview(data)[at : at + BLOCK].tobytes().strip(b"\0")
        for at in range(0, len(data), BLOCK)
    )


def _block(content: memoryview, at: int, magic: bytes) -> memoryview | None:
    """A block that ends in the hash of all before it, or None."""
    block = content[at : at + BLOCK]
    if len(block) < BLOCK or block[:8] != magic:
        return None
    return block if hash_of(block[: BLOCK - 16]) == block[BLOCK - 16 :] else None


def read_manifest(path: str) -> Manifest:
    """Return the manifest that counts.

    Raises:
        JournalRefused: There is none, or a newer version wrote it.
    """
    file = os.path.join(path, MANIFEST)
    found = _manifest_copies(file)
    if not found:
        raise JournalRefused(file, f"none of its copies is sound; {MEND}")
    best = max(found, key=lambda fields: fields[4])
    if best[2] > FORMAT or best[14] & ~CODED:
        raise JournalRefused(file, "a newer version of pybehave wrote it; use that one")
    return Manifest(
        best[3],
        best[4],
        best[5],
        best[6],
        best[7],
        best[8],
        best[10],
        best[11],
        best[12],
        bool(best[13] & 1),
        ((best[17], best[18]), (best[19], best[20])),
        best[14],
    )


def is_manifest_lost(path: str) -> bool:
    """Whether no copy of the manifest is sound; one that a newer version wrote is."""
    try:
        return not _manifest_copies(os.path.join(path, MANIFEST))
    except JournalRefused:
        return True


def _manifest_copies(file: str) -> list[tuple[Any, ...]]:
    content = _content(file, file)
    blocks = (_block(content, at, b"pbhvman\n") for at in SLOTS)
    return [MANIFEST_FIELDS.unpack_from(block) for block in blocks if block is not None]


@final
class Segment:
    """One segment file. Only its header is read at first.

    Args:
        path: The journal's folder.
        number: Which.

    Raises:
        JournalRefused: It is missing, or of another journal.

    Attributes:
        has_header: A copy of its header is sound; without one nothing else may be asked.
        coder: Opens bodies that codecs have made; what needs no key is opened anyway.
    """

    def __init__(self, path: str, number: int, journal_id: bytes) -> None:
        self.file = os.path.join(path, f"seg-{number:016x}.pbj")
        self._place = self.file
        self.coder = PLAIN
        self._content: memoryview | None = None
        head = _content(self.file, self.file, 2 * BLOCK)
        blocks = [_block(head, at, b"pbhvseg\n") for at in (0, BLOCK)]
        sound = [block for block in blocks if block is not None]
        self.has_header = bool(sound)
        if not sound:
            return
        fields = HEADER_FIELDS.unpack_from(sound[0])
        if fields[1] > FORMAT or fields[14] & ~CODED:
            raise JournalRefused(self.file, "a newer version of pybehave wrote it; use that one")
        self.header = Header(
            fields[3],
            fields[4],
            fields[5],
            fields[6],
            fields[7],
            fields[8],
            fields[9],
            fields[10],
            fields[11],
            fields[13],
        )
        if self.header.journal_id != journal_id or self.header.number != number:
            raise JournalRefused(self.file, "it belongs to another journal or another place")

    @property
    def content(self) -> memoryview:
        """All of it, read when it is asked for first.

        Raises:
            JournalRefused: It cannot be read.
        """
        return self._content if self._content is not None else self.load()

    def load(self, room: memoryview | None = None) -> memoryview:
        """Read all of it, again if need be, into memory that is given if that is large enough."""
        self._content = _content(self.file, self._place, room=room)
        return self._content

    def release(self) -> None:
        """Let the content go; what asks for it again reads it again."""
        self._content = None

    def read_from(self, fd: int) -> None:
        """From now on read what is open there: the file, whether it has a name still or not."""
        self._place = f"/proc/self/fd/{fd}"

    def frame_at(self, block: int) -> Frame | None:
        """Return the frame whose header is sound at that block, or None."""
        at = block * BLOCK
        head = bytes(self.content[at : at + FRAME_FIELDS.size])
        if len(head) < FRAME_FIELDS.size or not head.startswith(b"pbhvfrm\n"):
            return None
        if hash_of(self.header.journal_id, head[:96]) != head[96:112]:
            return None
        fields = FRAME_FIELDS.unpack(head)
        frame = Frame(
            type=fields[1],
            body_bytes=fields[4],
            records=fields[5],
            block=fields[6],
            segment=fields[7],
            seq=fields[8],
            first_lsn=fields[9],
            durable_seq=fields[10],
            time_ns=fields[11],
            epoch=fields[12],
            chain=fields[14],
            header_hash=fields[15],
            body_hash=fields[16],
            flags=fields[2],
        )
        is_known = (
            fields[2] & ~CODED == 0 and fields[3] == FRAME_FIELDS.size and frame.type in (1, 2, 3)
        )
        return frame if is_known else None

    def frames(self, last_seq: int | None = None) -> Iterator[Frame | Stop]:
        """Yield the frames that count, in order, and a Stop where they end other than by SEAL,
        CLOSE or `last_seq`.
        """
        block, seq, lsn = 2, self.header.first_seq, self.header.first_lsn
        chain = self.header.chain
        while block * BLOCK < len(self.content) and (last_seq is None or seq <= last_seq):
            frame = self.frame_at(block)
            reason = self._problem(frame, block, seq, lsn, chain)
            if frame is None or reason is not None:
                rest = self.content[block * BLOCK :]
                yield Stop(reason or "no sound frame header", seq, lsn, block, _is_zero(rest))
                return
            yield frame
            block, seq = block + frame.blocks, seq + 1
            lsn, chain = lsn + frame.records, frame.body_hash
            if frame.type != DATA:
                return

    def _problem(
        self, frame: Frame | None, block: int, seq: int, lsn: int, chain: bytes
    ) -> str | None:
        if frame is None:
            return "no sound frame header"
        if (frame.segment, frame.block, frame.seq) != (self.header.number, block, seq):
            return "a frame of another segment, place or turn"
        if frame.chain != chain:
            return "the chain is broken"
        if frame.first_lsn != lsn:
            return "the record numbers do not follow"
        if (block + frame.blocks) * BLOCK > len(self.content):
            return "it reaches behind the segment's end"
        if hash_of(frame.header_hash, self.content[frame.body]) != frame.body_hash:
            return "the body's hash is wrong"
        if not _is_zero(self.content[frame.body.stop : (block + frame.blocks) * BLOCK]):
            return "the padding is not zero"
        return None

    def claims(self, block: int) -> tuple[int, int]:
        """Return the highest seq and durable seq that sound headers from a block on name."""
        seq = durable = 0
        for at in range(block, len(self.content) // BLOCK):
            frame = self.frame_at(at)
            if frame is not None and frame.segment == self.header.number and frame.block == at:
                seq, durable = max(seq, frame.seq), max(durable, frame.durable_seq)
        return seq, durable

    def records(self, frame: Frame) -> Iterator[Record]:
        """Yield a frame's records.

        Raises:
            JournalRefused: They do not fill the body exactly.
            CodecRefused: It cannot be read without other codecs or keys.
        """
        body = self._body(frame)
        at, time_ns = 0, frame.time_ns
        for lsn in range(frame.first_lsn, frame.first_lsn + frame.records):
            if len(body) - at < RECORD_FIELDS.size:
                raise JournalRefused(self.file, f"record {lsn} does not fit its frame")
            size, kind_of, kind, flags, server, outcome = RECORD_FIELDS.unpack_from(body, at)
            at += RECORD_FIELDS.size
            skipped = (12 if flags & CAUSE else 0) + (24 if flags & REQUEST else 0)
            if size > len(body) - at or skipped > size:
                raise JournalRefused(self.file, f"record {lsn} does not fit its frame")
            extensions = bytes(body[at : at + skipped])
            payload = bytes(body[at + skipped : at + size])
            at += size
            if kind_of == TIME and len(payload) == 8:
                time_ns = int.from_bytes(payload, "little")
            yield Record(lsn, kind_of, kind, flags, server, outcome, time_ns, extensions, payload)
        if at != len(body):
            raise JournalRefused(self.file, f"frame {frame.seq} has bytes behind its last record")

    def _body(self, frame: Frame) -> memoryview:
        """A frame's records, whatever codecs have made of them."""
        body = self.content[frame.body]
        if not frame.flags & CODED:
            return body
        place = frame.epoch, frame.seq, frame.first_lsn, frame.records, frame.time_ns
        return memoryview(self.coder.decode_frame(*place, bytes(body)))


def segment_numbers(path: str) -> list[int]:
    """Return the numbers of the segment files, in order."""
    return sorted(
        int(found.stem.removeprefix("seg-"), 16)
        for found in Path(path).glob("seg-*.pbj")
        if len(found.stem) == 20
    )


def _content(
    file: str, place: str, count: int | None = None, *, room: memoryview | None = None
) -> memoryview:
    """A file, or its beginning, as the disk holds it: around the cache, or with it emptied first.

    Args:
        file: What it is called where something is said of it.
        place: Where to open it.
        count: How many bytes at most; None = all.
        room: Memory on a page's boundary to be used for it; too little is not used.
    """
    try:
        try:
            return _read(place, os.O_DIRECT, count, room)
        except OSError as error:
            if error.errno != errno.EINVAL:  # this file system has no O_DIRECT
                raise
        return _read(place, 0, count, room)
    except FileNotFoundError:
        raise JournalRefused(file, f"it is missing; {MEND}") from None
    except OSError as error:
        raise JournalRefused(file, f"it cannot be read: {error.strerror}") from error


def _read(place: str, direct: int, count: int | None, room: memoryview | None) -> memoryview:
    is_held = place.startswith("/proc/self/fd/")  # a link there, and it leads where it should
    fd = os.open(place, os.O_RDONLY | os.O_CLOEXEC | direct | (0 if is_held else os.O_NOFOLLOW))
    try:
        if not direct:
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        size = os.fstat(fd).st_size
        size = size if count is None else min(count, size)
        needed = -(-size // BLOCK) * BLOCK
        if room is None or len(room) < needed:
            room = make_room(needed)
        done = 0
        while done < size:
            got = os.preadv(fd, [room[done : min(done + CHUNK_BYTES, needed)]], done)
            done += got
            if got == 0 or (got % BLOCK and direct):
                break  # it ends here
        return room[: min(done, size)].toreadonly()
    finally:
        os.close(fd)

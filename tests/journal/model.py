"""What was recorded and what was acknowledged, and what a disk really holds: by struct alone.

The records of a journal, one behind the other, are one stream of bytes. Whatever is recovered must
be a prefix of the stream that was recorded, at least as long as what was acknowledged. Nothing here
shares code with the writer or with recovery; the offsets are those of docs/journal-format.md.
"""

import hashlib
import struct

from pybehave.journal.recovery import Recovery
from pybehave.journal.segment_files import segment_name
from pybehave.testing.disk import SimDisk
from tests.journal.marked import Marked

BLOCK = 4096
RECORD = struct.Struct("<IBBHII")
FRAME = struct.Struct("<8sBBHIIIQQQQQQ")
TIME = 3
DATA, SEAL, CLOSE = 1, 2, 3
ZEROS = bytes(1 << 20)


class Model:
    """The stream as recorded; `ends[n]` is where record n ends in it."""

    def __init__(self) -> None:
        self.stream = bytearray()
        self.ends = [0]
        self.acked = 0

    @property
    def recorded(self) -> int:
        return len(self.ends) - 1

    def add(self, kind: int, server: int, payload: bytes) -> None:
        self.stream += RECORD.pack(len(payload), kind, 0, 0, server, 0) + payload
        self.ends.append(len(self.stream))

    def cut(self, last_lsn: int) -> None:
        """After a recovery: what was found is there for good, the rest never was."""
        del self.ends[last_lsn + 1 :]
        del self.stream[self.ends[-1] :]
        self.acked = last_lsn

    def state(self, lsn: int) -> bytes:
        """What a server would have become by then: a digest of all that it was told."""
        return hashlib.sha256(memoryview(self.stream)[: self.ends[lsn]]).digest()


def first_lsn(found: Recovery) -> int:
    """The first record that is still there."""
    return found.pieces[0].header.first_lsn if found.pieces else 1


def read_back(disk: SimDisk, found: Recovery) -> bytes:
    """The stream that a recovery says counts, as far as it is still there, taken from the disk."""
    bodies = []
    seq = found.pieces[0].header.first_seq if found.pieces else 1
    lsn = first_lsn(found)
    for piece in found.pieces:
        content = disk.read(segment_name(piece.number), 0, piece.block_end * BLOCK)
        block = 2
        while block < piece.block_end:
            at = block * BLOCK
            magic, kind, flags, _, size, records, place, number, *where = FRAME.unpack_from(
                content, at
            )
            its_seq, its_lsn, _, time_ns, epoch = where
            assert magic == b"pbhvfrm\n" and (place, number) == (block, piece.number)
            assert (its_seq, its_lsn) == (seq, lsn), "a gap, or a turn twice"
            assert kind == DATA or size == 0
            body = bytes(content[at + 128 : at + 128 + size])
            context = epoch, its_seq, its_lsn, records, time_ns
            bodies.append(opened(body, found.manifest.id, context) if flags else body)
            seq += 1
            lsn += records
            block += (128 + size + BLOCK - 1) // BLOCK
        assert block == piece.block_end
    assert lsn == found.last_lsn + 1
    return b"".join(bodies)


def opened(body: bytes, journal_id: bytes, numbers: tuple[int, ...]) -> bytes:
    """What a frame's body stands for, by the page on the format, section 12."""
    assert body.startswith(b"\x06marked")
    context = b"frame\0\0\0" + journal_id + struct.pack("<5Q", *numbers)
    return Marked().decode(body[7:], context)


def check(model: Model, before: SimDisk, disk: SimDisk, found: Recovery) -> None:
    """I1, I2, I3, I8 of durability.md 4.4 for what `recover` made of `before`."""
    last = found.last_lsn
    assert last >= model.acked, f"I1: acknowledged {model.acked}, recovered {last}"
    assert last <= model.recorded, f"I2: recorded {model.recorded}, recovered {last}"
    begin = first_lsn(found) - 1
    stream = model.stream[model.ends[begin] : model.ends[last]]
    assert read_back(disk, found) == stream, "I2, I3: another stream"
    check_snapshot(model, found, begin)
    assert found.report.outcome == outcome(before, found), "I8"
    assert bool(found.report.may_be_affected) == (found.report.outcome == "torn"), "I8"


def check_snapshot(model: Model, found: Recovery, begin: int) -> None:
    """I4: the state of a snapshot is that of its lsn, and the records behind it are there."""
    if found.snapshot is None:
        assert begin == 0, "I4: nothing says what the first records were"
        return
    lsn = found.snapshot.lsn
    assert begin <= lsn <= found.last_lsn, "I4: a gap behind the snapshot"
    assert found.snapshot.entries[0].state == model.state(lsn), "I4: another state"


def outcome(before: SimDisk, found: Recovery) -> str:
    """How the journal ended, as a stranger sees it."""
    if not found.pieces:
        return "new"
    piece = found.pieces[-1]
    content = before.read(segment_name(piece.number), 0, 1 << 30)
    end = piece.block_end * BLOCK
    last = 0
    block = 2
    while block < piece.block_end:
        _, last, _, _, size, *_ = FRAME.unpack_from(content, block * BLOCK)
        block += (128 + size + BLOCK - 1) // BLOCK
    if last in (SEAL, CLOSE):
        return "sealed" if last == SEAL else "clean"
    return "end" if content[end:] == ZEROS[: len(content) - end] else "torn"

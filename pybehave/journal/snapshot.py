"""Snapshot files: the states of all servers as of one lsn, so that older records can be forgotten.

A file is written beside the journal under another name, synced, read back from the disk and
checked, then renamed; the manifest names it last. Two are kept, with the segments that the older
one needs, so an unreadable one costs a longer replay and nothing else (F-21, F-22).

    at   bytes  field (docs/journal-format.md, section 8)
    0    8      "pbhvsnp" and a newline
    8    4      format version (1; 2 = it has servers of the format "absent")
    12   4      entries
    16   16     journal id
    32   8      lsn: the last record that the states contain
    40   8      Unix time ns of its making
    48   8      bytes of the body
    56   4      flags: 1 = the body is encoded (codec.py)
    96   32     SHA-256 of bytes 0 to 95 and the body
    128         the body: for each server 4 bytes length of its facts, 8 bytes length of its state,
                then both

Does not know: how states become bytes (durable/snapshots.py), when one is taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, final

from pybehave.errors import JournalRefused
from pybehave.journal.codec import PLAIN, Coder
from pybehave.journal.disk import Disk

MAGIC: Final = b"pbhvsnp\n"
VERSION: Final = 1
VERSION_ABSENT: Final = 2
"""With servers of the format "absent", which readers of the first version would take for states."""

HEADER: Final = struct.Struct("<8sII16sQQQI36x32s")
ENTRY: Final = struct.Struct("<IQ")
HASHED: Final = 96
CODED: Final = 1
"""A flag: the body is what codecs have made of it."""


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """One server.

    Attributes:
        facts: What is to be known beside its state: a map, as journal values are encoded.
        state: Its state, in the form that its facts name.
    """

    facts: bytes
    state: bytes


@final
@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that was read and found sound.

    Attributes:
        journal_id: Of the journal that it belongs to.
        lsn: The last record that the states contain.
        time_ns: Unix time of its making.
        digest: The first 16 bytes of its SHA-256: how the manifest knows it.
        entries: The servers.
        version: Of its format.
    """

    journal_id: bytes
    lsn: int
    time_ns: int
    digest: bytes
    entries: tuple[Entry, ...]
    version: int = VERSION


def snapshot_name(lsn: int) -> str:
    """Return the file name of the snapshot of an lsn."""
    return f"snap-{lsn:016x}.pbs"


def snapshot_lsn(name: str) -> int | None:
    """Return the lsn in a snapshot's file name; None for any other file."""
    if not (name.startswith("snap-") and name.endswith(".pbs") and len(name) == 25):
        return None
    try:
        return int(name[5:21], 16)
    except ValueError:
        return None


def encode(
    journal_id: bytes,
    lsn: int,
    time_ns: int,
    entries: Sequence[Entry],
    version: int = VERSION,
    coder: Coder = PLAIN,
) -> bytes:
    """Return the bytes of a snapshot file.

    Raises:
        CodecRefused: A codec failed.
    """
    body: list[bytes] = []
    for entry in entries:
        body += ENTRY.pack(len(entry.facts), len(entry.state)), entry.facts, entry.state
    if coder.is_on:
        body = [coder.encode(b"".join(body), "snapshot", lsn)]
    flags = CODED if coder.is_on else 0
    fields = (MAGIC, version, len(entries), journal_id, lsn, time_ns, sum(map(len, body)), flags)
    digest = hashlib.sha256(HEADER.pack(*fields, bytes(32))[:HASHED])
    for piece in body:
        digest.update(piece)
    return b"".join([HEADER.pack(*fields, digest.digest()), *body])


def decode(name: str, content: memoryview, coder: Coder = PLAIN) -> Snapshot:
    """Take a snapshot file apart.

    Raises:
        JournalRefused: It is damaged, or a newer version wrote it.
        CodecRefused: It is whole, and cannot be read without other codecs or keys.
    """
    return _opened(name, check(name, content), content, coder)


def check(name: str, content: memoryview) -> Snapshot:
    """Say what a snapshot file is, without the entries if codecs have made them: that takes none.

    Raises:
        JournalRefused: It is damaged, or a newer version wrote it.
    """
    if len(content) < HEADER.size:
        raise JournalRefused(name, "the snapshot is cut short")
    fields = HEADER.unpack_from(content)
    magic, version, count, journal_id, lsn, time_ns, size, flags, digest = fields
    if magic != MAGIC:
        raise JournalRefused(name, "it is not a snapshot")
    if version not in (VERSION, VERSION_ABSENT) or flags & ~CODED:
        raise JournalRefused(name, "a newer version of pybehave wrote it; use that one")
    body = content[HEADER.size :]
    if size != len(body) or _digest(content[:HASHED], body) != digest:
        raise JournalRefused(name, "the snapshot is damaged: its SHA-256 is another")
    entries = () if flags & CODED else tuple(_entries(name, body, count))
    return Snapshot(journal_id, lsn, time_ns, digest[:16], entries, version)


def _opened(name: str, found: Snapshot, content: memoryview, coder: Coder) -> Snapshot:
    """With the entries that codecs have made."""
    _, _, count, _, _, _, _, flags, _ = HEADER.unpack_from(content)
    if not flags & CODED:
        return found
    body = coder.decode(bytes(content[HEADER.size :]), "snapshot", found.lsn)
    return replace(found, entries=tuple(_entries(name, memoryview(body), count)))


def _entries(name: str, body: memoryview, count: int) -> list[Entry]:
    found = []
    at = 0
    for _ in range(count):
        if len(body) - at < ENTRY.size:
            raise JournalRefused(name, "the snapshot has fewer servers than it says")
        facts, state = ENTRY.unpack_from(body, at)
        at += ENTRY.size
        if facts + state > len(body) - at:
            raise JournalRefused(name, "the snapshot has fewer bytes than it says")
        middle, end = at + facts, at + facts + state
        found.append(Entry(bytes(body[at:middle]), bytes(body[middle:end])))
        at = end
    return found


def _digest(head: bytes | memoryview, body: bytes | bytearray | memoryview) -> bytes:
    digest = hashlib.sha256(head)
    digest.update(body)
    return digest.digest()


def write(disk: Disk, content: bytes, lsn: int) -> bytes:
    """Put a snapshot on the disk, durable, name and all, and read it back.

    Returns:
        Its digest, for the manifest.

    Raises:
        JournalRefused: What was read back is not what was written.
        OSError: The disk is full, or failed.
    """
    return write_as(disk, snapshot_name(lsn), content)


def write_as(disk: Disk, name: str, content: bytes) -> bytes:
    """Put a snapshot on the disk under a name; as `write`."""
    try:
        disk.put(f"{name}.tmp", content)
        read = check(f"{name}.tmp", disk.read(f"{name}.tmp", 0, len(content)))
    except (OSError, JournalRefused):
        with contextlib.suppress(OSError):  # on a full disk it takes the room that commands need
            disk.remove(f"{name}.tmp")
        raise
    disk.rename(f"{name}.tmp", name)
    disk.sync_names()
    return read.digest


def read(disk: Disk, lsn: int, digest: bytes, coder: Coder = PLAIN) -> Snapshot:
    """Return a snapshot that the manifest names.

    Raises:
        JournalRefused: It is missing, damaged, or another one.
        CodecRefused: It cannot be read without other codecs or keys.
    """
    name = snapshot_name(lsn)
    if name not in disk.names():
        raise JournalRefused(f"{disk.path}/{name}", "the snapshot is missing")
    disk.sync(name)
    content = disk.read(name, 0, disk.size(name))
    found = check(f"{disk.path}/{name}", content)
    if found.lsn != lsn or found.digest != digest:
        raise JournalRefused(f"{disk.path}/{name}", "it is not the snapshot that was taken")
    return _opened(f"{disk.path}/{name}", found, content, coder)


def segment_behind(starts: Sequence[tuple[int, int]], lsn: int) -> int:
    """Return the number of the segment that holds the record behind an lsn.

    Args:
        starts: The segments there are: number and first lsn, oldest first.
    """
    found = [number for number, first_lsn in starts if first_lsn <= lsn + 1]
    return found[-1] if found else starts[0][0]


def still_needed(
    starts: Sequence[tuple[int, int]], newest: int, before: int
) -> tuple[int, set[int]]:
    """Return what may not be removed when a snapshot is named: the oldest segment, and snapshots.

    Two snapshots are kept, and the segments behind the older: if the newest turns out unreadable,
    that one and a longer replay come to the same (F-22).

    Args:
        newest: lsn of the snapshot that is about to be named.
        before: lsn of the newest until now; 0 = none, and all segments are needed.
    """
    return segment_behind(starts, before), {newest, before}

"""A block device whose every write and flush is logged, and the images a power cut could leave.

qemu-storage-daemon's blklogwrites logs (the format is Linux' dm-log-writes), its FUSE export is the
file under a loop device. What was acknowledged is put into the same log: a marker block behind the
file system, written when the answer has come. So each point of the log knows what must be there.

An image at a point: everything before the last flush, and of what came after it any blocks.
"""

from __future__ import annotations

import contextlib
import os
import random
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path

from tests.power.clients import Client
from tests.power.machine import loop_device, unmount, wait_for

BLOCK = 4096
SECTOR = 512
DEVICE_BYTES = 48 << 20
FILE_SYSTEM_BYTES = 47 << 20
"""The markers lie behind it."""

MAGIC = 0x6A736677736872
FLUSH, DISCARD = 1, 4
SUPER = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")
MARKER = struct.Struct("<8sQQ")


@contextlib.contextmanager
def logged_device(folder: Path) -> Iterator[str]:
    """A loop device; its log is `folder/log`, complete when the block has ended."""
    data, log, export = folder / "data.img", folder / "log", folder / "export"
    for path, size in ((data, DEVICE_BYTES), (log, 0), (export, 0)):
        with open(path, "wb") as file:
            file.truncate(size)
    command = ["qemu-storage-daemon"]
    for name, path in (("data", data), ("log", log)):
        command += ["--blockdev", f"driver=file,node-name={name},filename={path}"]
    command += ["--blockdev", "driver=blklogwrites,node-name=both,file=data,log=log"]
    command += ["--export", f"type=fuse,id=e,node-name=both,mountpoint={export},writable=on"]
    process = subprocess.Popen(command)
    try:
        wait_for(lambda: export.stat().st_size == DEVICE_BYTES, "qemu-storage-daemon serves")
        with loop_device(export) as device:
            yield device
    finally:
        process.terminate()
        process.wait(20)
        if os.path.ismount(export):
            unmount(export)
        data.unlink()


class Markers:
    """Writes what clients were told to the end of the device."""

    def __init__(self, device: str) -> None:
        self._fd = os.open(device, os.O_RDWR | os.O_DIRECT)

    def close(self) -> None:
        """No more of them."""
        os.close(self._fd)

    def watch(self, index: int, client: Client) -> None:
        """Mark each of a client's answers, or every second of those that come in bundles."""
        every = max(1, client.depth // 8)

        def mark() -> None:
            if client.acked % every == 0:
                with mmap(-1, BLOCK) as block:
                    block[: MARKER.size] = MARKER.pack(b"acknowl.", index, client.acked)
                    os.pwritev(self._fd, [block], FILE_SYSTEM_BYTES + index * BLOCK)

        client.on_acked = mark


@dataclass(frozen=True)
class Entry:
    """One line of the log."""

    offset: int
    data: bytes
    is_flush: bool
    is_discard: bool
    count: int


def read_log(path: Path) -> list[Entry]:
    """All of it."""
    content = path.read_bytes()
    magic, version, count, sector = SUPER.unpack_from(content)
    assert (magic, version) == (MAGIC, 1)
    entries, at = [], sector
    for _ in range(count):
        start, sectors, flags, _ = ENTRY.unpack_from(content, at)
        at += sector
        has_data = not flags & DISCARD
        size = sectors * sector
        data = content[at : at + size] if has_data else b""
        at += len(data)
        is_flush, is_discard = bool(flags & FLUSH), bool(flags & DISCARD)
        entries.append(Entry(start * sector, data, is_flush, is_discard, size))
    return entries


class Past:
    """A device on its way through the log."""

    def __init__(self, entries: list[Entry], clients: int) -> None:
        self.entries = entries
        self.must = [0] * clients
        self._durable = bytearray(DEVICE_BYTES)
        self._pending: list[tuple[int, bytes]] = []
        self._at = 0

    def go_to(self, point: int) -> None:
        """Take what was logged before that point."""
        for entry in self.entries[self._at : point]:
            self._take(entry)
        self._at = point

    def _take(self, entry: Entry) -> None:
        data = bytes(entry.count) if entry.is_discard else entry.data
        if entry.offset >= FILE_SYSTEM_BYTES and data[:8] == b"acknowl.":
            _, index, count = MARKER.unpack_from(data)
            self.must[index] = max(self.must[index], count)
            return
        for at in range(0, len(data), BLOCK):
            self._pending.append((entry.offset + at, data[at : at + BLOCK]))
        if entry.is_flush:
            for offset, block in self._pending:
                self._durable[offset : offset + len(block)] = block
            self._pending.clear()

    def image(self, chance: random.Random, share: float) -> bytes:
        """What a power cut here may leave: that share of what was not flushed."""
        found = bytearray(self._durable)
        for offset, block in self._pending:
            if chance.random() < share:
                found[offset : offset + len(block)] = block
        return bytes(found)


def points(entries: list[Entry], count: int, chance: random.Random) -> list[tuple[int, float]]:
    """Where to cut, and what share of the unflushed survives: half at flushes, half anywhere,
    all behind the first answer.
    """
    first = next(i for i, entry in enumerate(entries) if entry.offset >= FILE_SYSTEM_BYTES)
    flushes = [i + 1 for i, entry in enumerate(entries) if entry.is_flush and i >= first]
    chosen = [(chance.choice(flushes), 0.0) for _ in range(count // 2)]
    while len(chosen) < count:
        chosen.append((chance.randrange(first, len(entries)), chance.choice((0, 0.3, 0.7, 1))))
    return sorted(chosen)

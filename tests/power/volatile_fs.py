"""A file system in memory that forgets what was not synced: run beside the tests, over FUSE.

Theory. A file has bytes that live and bytes that are durable, and the 512-byte sectors in which
they differ; a folder has names that live, names that are durable, and what happened to them since.
fsync of a file makes its sectors durable and no name; fsync of a folder makes its names durable and
no content. A crash keeps a random part of the rest, in any order, which is all that POSIX promises.

    python -m tests.power.volatile_fs PLACE      commands on stdin, an answer to each on stdout

    mount                      serve at PLACE until it is unmounted
    crash SEED SHARE           the power goes: from here on everything fails with EIO; on the next
                               mount that share of what was not synced is there, chosen by SEED
    cut KIND COUNT SEED SHARE  the same, right behind the COUNTth operation of that kind from now
    fault KIND ERRNO COUNT     the next COUNT write, fsync or fsyncdir fail (-1 = all)
    room BYTES                 what fits (-1 = everything)
    hits                       which names the faults have met

A failed fsync forgets its sectors as Linux does: they count as clean, cached reads show them, the
next fsync is fine, and only O_DIRECT reads what the disk has (fsyncgate). Mounted without
direct_io: with it RWF_DSYNC would sync nothing (durability.md 4.1 a2).
"""

from __future__ import annotations

import errno
import os
import queue
import random
import stat
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from mfusepy import FUSE, FuseOSError, Operations

SECTOR = 512


class File:
    """Bytes that live, and bytes that are durable."""

    def __init__(self) -> None:
        self.live = bytearray()
        self.durable = bytearray()
        self.dirty: set[int] = set()
        self.lost: set[int] = set()  # dirty sectors whose fsync failed: clean, and not durable

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if end > len(self.live):
            self.live.extend(bytes(end - len(self.live)))
        self.live[offset:end] = data
        touched = range(offset // SECTOR, (end + SECTOR - 1) // SECTOR)
        self.dirty.update(touched)
        self.lost.difference_update(touched)

    def sync(self) -> None:
        """Make every dirty sector and the size durable."""
        self.keep(self.dirty)
        self.dirty.clear()

    def keep(self, sectors: set[int]) -> None:
        """Make some sectors durable."""
        self.resize(len(self.live))
        for first, last in runs(sectors):
            self.durable[first * SECTOR : last * SECTOR] = self.live[first * SECTOR : last * SECTOR]

    def resize(self, count: int) -> None:
        """Give the durable bytes another size."""
        del self.durable[count:]
        self.durable.extend(bytes(count - len(self.durable)))

    def fail(self) -> None:
        """An fsync that failed."""
        self.lost |= self.dirty
        self.dirty.clear()

    def read(self, offset: int, count: int, *, is_direct: bool) -> bytes:
        if not is_direct or not self.lost:
            return bytes(self.live[offset : offset + count])
        truth = bytearray(self.live)
        for first, last in runs(self.lost):
            truth[first * SECTOR : last * SECTOR] = self.durable[first * SECTOR : last * SECTOR]
        return bytes(truth[offset : offset + count])

    def crash(self, chance: random.Random, share: float) -> None:
        kept = {sector for sector in sorted(self.dirty) if chance.random() < share}
        if kept or chance.random() < share:
            self.keep(kept)
        self.live = bytearray(self.durable)
        self.dirty.clear()
        self.lost.clear()


class Folder:
    """Names that live, names that are durable, and the steps between them."""

    def __init__(self) -> None:
        self.live: dict[str, File | Folder] = {}
        self.durable: dict[str, File | Folder] = {}
        self.steps: list[dict[str, File | Folder | None]] = []

    def step(self, change: dict[str, Any]) -> None:
        """One change of names, whole or not at all."""
        apply(self.live, change)
        self.steps.append(change)

    def sync(self) -> None:
        self.durable = dict(self.live)
        self.steps.clear()

    def fail(self) -> None:
        """An fsync that failed: the steps stay unsynced."""

    def crash(self, chance: random.Random, share: float) -> None:
        for change in self.steps:
            if chance.random() < share:
                apply(self.durable, change)
        self.sync_back()
        for node in self.live.values():
            node.crash(chance, share)

    def sync_back(self) -> None:
        self.live = dict(self.durable)
        self.steps.clear()


def apply(names: dict[str, Any], change: dict[str, Any]) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def runs(sectors: set[int]) -> Iterator[tuple[int, int]]:
    """Neighbours together: (first, behind the last)."""
    first = last = -1
    for sector in sorted(sectors):
        if sector != last:
            if last > first:
                yield first, last
            first = sector
        last = sector + 1
    if last > first:
        yield first, last


class VolatileFs(Operations):
    """The file system; one lock, so that a crash falls between two operations."""

    use_ns = True

    def __init__(self) -> None:
        self.root = Folder()
        self.mutex = threading.RLock()
        self.is_dead = False
        self.room = -1
        self.faults: dict[str, tuple[int, int]] = {}
        self.hits: list[str] = []
        self.last_kind, self.left, self.at_last = "", 0, [""]
        self._open: dict[int, tuple[File, bool]] = {}
        self._next = 1

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in GUARDED:
            return found

        def guarded(*words: Any) -> Any:
            with self.mutex:
                if self.is_dead:
                    raise FuseOSError(errno.EIO)
                answer = found(*words)
                if name == self.last_kind:
                    self._count_down()
                return answer

        return guarded

    def _count_down(self) -> None:
        self.left -= 1
        if self.left == 0:
            self.command(self.at_last)

    # --- commands ------------------------------------------------------------------------------

    def command(self, words: list[str]) -> str:
        with self.mutex:
            match words:
                case ["crash", seed, share]:
                    self.root.crash(random.Random(int(seed)), float(share))
                    self.is_dead = True
                case ["cut", kind, count, *how]:
                    self.last_kind, self.left = kind, int(count)
                    self.at_last = ["crash", *how]
                case ["fault", kind, number, count]:
                    self.faults[kind] = (int(number), int(count))
                case ["room", count]:
                    self.room = int(count)
                case ["hits"]:
                    hits, self.hits = self.hits, []
                    return " ".join(hits) or "-"
                case _:
                    return f"unknown {words}"
        return "ok"

    def power_on(self) -> None:
        self.is_dead = False
        self.last_kind = ""
        self.faults.clear()
        self._open.clear()

    def _fault(self, kind: str, path: str, node: File | Folder) -> None:
        number, count = self.faults.get(kind, (0, 0))
        if count == 0:
            return
        self.faults[kind] = (number, count - 1)
        self.hits.append(f"{kind}:{path.rpartition('/')[2] or '/'}")
        if kind != "write":
            node.fail()
        raise FuseOSError(number)

    def _need(self, count: int) -> None:
        if self.room >= 0 and count > 0 and self._used(self.root) + count > self.room:
            raise FuseOSError(errno.ENOSPC)

    def _used(self, folder: Folder) -> int:
        return sum(
            self._used(node) if isinstance(node, Folder) else len(node.live)
            for node in folder.live.values()
        )

    # --- names ---------------------------------------------------------------------------------

    def _find(self, path: str) -> Any:
        node: Any = self.root
        for name in path.split("/"):
            if name:
                if not isinstance(node, Folder) or name not in node.live:
                    raise FuseOSError(errno.ENOENT)
                node = node.live[name]
        return node

    def _place(self, path: str) -> tuple[Folder, str]:
        parent, _, name = path.rpartition("/")
        return self._find(parent), name

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        node = self._open[fh][0] if fh in self._open else self._find(path)
        now = time.time_ns()
        times = {"st_atime": now, "st_mtime": now, "st_ctime": now, "st_nlink": 1}
        if isinstance(node, Folder):
            return {"st_mode": stat.S_IFDIR | 0o755, **times}
        return {"st_mode": stat.S_IFREG | 0o644, "st_size": len(node.live), **times}

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *self._find(path).live]

    def mkdir(self, path: str, mode: int) -> int:
        folder, name = self._place(path)
        folder.step({name: Folder()})
        return 0

    def unlink(self, path: str) -> int:
        folder, name = self._place(path)
        folder.step({name: None})
        return 0

    def rename(self, old: str, new: str) -> int:
        (source, old_name), (target, new_name) = self._place(old), self._place(new)
        if source is not target:
            raise FuseOSError(errno.EXDEV)
        source.step({new_name: source.live[old_name], old_name: None})
        return 0

    # --- content -------------------------------------------------------------------------------

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        folder, name = self._place(path)
        folder.step({name: File()})
        return self.open(path, os.O_RDWR)

    def open(self, path: str, flags: int) -> int:
        self._next += 1
        self._open[self._next] = (self._find(path), bool(flags & os.O_DIRECT))
        return self._next

    def release(self, path: str, fh: int) -> int:
        self._open.pop(fh, None)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        file, is_direct = self._open[fh]
        return file.read(offset, size, is_direct=is_direct)

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        file, _ = self._open[fh]
        self._fault("write", path, file)
        self._need(offset + len(data) - len(file.live))
        file.write(data, offset)
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        file = self._open[fh][0] if fh in self._open else self._find(path)
        if length > len(file.live):
            file.write(bytes(length - len(file.live)), len(file.live))
        del file.live[length:]
        return 0

    def fallocate(self, path: str, mode: int, offset: int, length: int, fh: int) -> int:
        if mode:
            raise FuseOSError(errno.EOPNOTSUPP)
        file, _ = self._open[fh]
        self._need(offset + length - len(file.live))
        if offset + length > len(file.live):
            file.write(bytes(offset + length - len(file.live)), len(file.live))
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        file, _ = self._open[fh]
        self._fault("fsync", path, file)
        file.sync()
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        folder = self._find(path)
        self._fault("fsyncdir", path, folder)
        folder.sync()
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": 1 << 18, "f_bavail": 1 << 17}


NAMES = ("getattr", "readdir", "mkdir", "unlink", "rename", "create", "open", "statfs")
CONTENT = ("read", "write", "truncate", "fallocate", "fsync", "fsyncdir")
GUARDED = frozenset(NAMES + CONTENT)


def obey(fs: VolatileFs, mounts: queue.Queue[bool]) -> None:
    """Answer commands until stdin ends, then end the process: nobody is left to serve."""
    for line in sys.stdin:
        words = line.split()
        answer = "ok"
        if words == ["mount"]:
            mounts.put(True)
        else:
            answer = fs.command(words)
        sys.stdout.write(answer + "\n")
        sys.stdout.flush()
    mounts.put(False)


def main(place: str) -> None:
    """Serve mount after mount; the content stays from one to the next."""
    fs, mounts = VolatileFs(), queue.Queue[bool]()
    threading.Thread(target=obey, args=(fs, mounts), daemon=True).start()
    while mounts.get():
        fs.power_on()
        FUSE(fs, place, foreground=True, nothreads=True, fsname="volatile")


if __name__ == "__main__":
    main(sys.argv[1])

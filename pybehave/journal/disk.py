"""One folder on a disk: the blocking operations that the journal needs, and what it is good for.

Everything here may block. The loop's own writes do not come this way (src/_uring/commit.pyx); this
is for recovery, for preparing segments, for snapshots. The simulator has the same operations over a
disk of its own (pybehave/testing/disk.py), so recovery runs there unchanged.

Reading goes around the page cache: after a failed write the cache may show bytes that the disk
never got (fsyncgate), and a restarted process must see what a power cut would leave.

Source: durability.md 3.6 (methods by file system), 4.3 (what the page cache shows after EIO).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import mmap
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, final

from pybehave.errors import JournalLocked, JournalRefused
from pybehave.journal.ahead import make_room

BLOCK: Final = 4096
CHUNK_BYTES: Final = 1 << 20
"""Zeros are written in pieces of this size."""

AT_ONCE_BYTES: Final = 4 << 20
"""Smaller files are written at once, and synced once: a third of the time that pieces take, each
durable by itself; the device is busy with it no longer than a commit may take now and then."""

READ_BYTES: Final = 1 << 20
"""Files are read in pieces of this size: commits wait behind a piece (decision 0007). With memory
of the caller's own a file is read at once, for who starts disturbs nobody: between two pieces the
disk would idle until the thread that reads has the GIL again, which a step holds."""

WRITE_DSYNC: Final = 0
WRITE_FDATASYNC: Final = 1
"""Numbers of `enum write_how` in src/_uring/source.h."""

DIRECT_SYNC_FILE_SYSTEMS: Final = frozenset({"ext4", "ext3", "xfs"})
"""Where O_DIRECT with RWF_DSYNC over written blocks was shown to be durable and fastest."""

VOLATILE_FILE_SYSTEMS: Final = frozenset({"tmpfs", "ramfs"})
REMOTE_FILE_SYSTEMS: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p"})

LAYERED_FILE_SYSTEMS: Final = ("fuse", "overlay")
"""Begins the names of those that pass a sync on to something else, or do not."""

logger = logging.getLogger("pybehave.journal")

LOCK: Final = "LOCK"
LOCK_TRIES: Final = 6
LOCK_PAUSE_S: Final = 0.05


@final
@dataclass(frozen=True, slots=True)
class Medium:
    """What a folder's file system gives.

    Attributes:
        file_system: Its type, as the kernel names it.
        device: What it is mounted from.
        is_direct: O_DIRECT works there.
        how: How commits are made durable: `WRITE_DSYNC` or `WRITE_FDATASYNC`.
        sentence: All of it for people.
        warning: What to know before trusting it; mostly nothing.
    """

    file_system: str
    device: str
    is_direct: bool
    how: int
    sentence: str
    warning: str = ""


class Disk(Protocol):
    """What recovery and the journal's upkeep ask of a folder. Names have no slashes, but for one
    in `quarantine/...`; errors are OSError.
    """

    path: str

    def medium(self) -> Medium:
        """Say what the folder is good for."""

    def new_id(self) -> bytes:
        """Return 16 bytes that no other journal has: its id. Its servers' randomness follows."""
        return os.urandom(16)

    def lock(self) -> None:
        """Become the one writer, or raise JournalLocked; until `unlock` or the process ends."""

    def unlock(self) -> None:
        """Let others write."""

    def names(self) -> list[str]:
        """Return the names of files, sorted; and of folders that stand in a file's place."""

    def names_below(self, folder: str) -> list[str]:
        """Names of files in a folder of the journal's, each with the folder; none if it is not."""

    def size(self, name: str) -> int:
        """Return a file's bytes."""

    def read(
        self, name: str, offset: int, count: int, room: memoryview | None = None
    ) -> memoryview:
        """Return what the disk, not the cache, holds; less than `count` only at the file's end.

        Args:
            room: Memory on a page's boundary that may be used for it, if that is large enough.
        """

    def write(self, name: str, offset: int, data: bytes | memoryview) -> None:
        """Write whole blocks durably into an existing file."""

    def fill(self, name: str, count: int) -> None:
        """Create a file of zeros, or overwrite it with them, durably; not its name yet."""

    def put(self, name: str, data: bytes) -> None:
        """Create a small file, durable but for its name."""

    def sync(self, name: str) -> None:
        """Make a file's content durable, whoever wrote it."""

    def rename(self, old: str, new: str) -> None:
        """Give a file another name; `sync_names` makes it last."""

    def remove(self, name: str) -> None:
        """Take a file away; `sync_names` makes it last."""

    def sync_names(self) -> None:
        """Make the folder itself durable."""

    def open(self, name: str) -> int:
        """Open a file for the loop's writes; returns a descriptor for the completion source."""

    def is_removed(self, fd: int) -> bool:
        """Whether the file behind a descriptor has no name any more: no start would find it."""

    def close(self, fd: int) -> None:
        """Close what `open` gave."""

    def free_bytes(self) -> int | None:
        """Return how many bytes more this user's files may take; None when nothing limits them."""

    def shared(self, name: str, count: int) -> memoryview:
        """Return memory that outlives the process, though not a power cut."""

    def shared_bytes(self, name: str) -> int:
        """Return how much of it there is under a name, 0 = none."""


@final
class FolderDisk(Disk):
    """A folder of the real file system.

    Args:
        path: Made when it is not there yet.
        is_volatile_allowed: Take a tmpfs too, where nothing survives a power cut.

    Raises:
        JournalRefused: It cannot be used; says why.
    """

    def __init__(self, path: str | os.PathLike[str], *, is_volatile_allowed: bool = False) -> None:
        self.path = str(path)
        self._is_volatile_allowed = is_volatile_allowed
        self._lock_fd = -1
        self._medium: Medium | None = None
        if not self.path:
            raise JournalRefused("''", "a folder's name cannot be empty; name one")
        try:
            make_folder(self.path)
        except OSError as error:
            raise JournalRefused(self.path, explain(error, self.path)) from error
        if not os.access(self.path, os.R_OK | os.W_OK | os.X_OK):
            is_read_only = os.statvfs(self.path).f_flag & os.ST_RDONLY
            why = OSError(errno.EROFS if is_read_only else errno.EACCES, "")
            raise JournalRefused(self.path, explain(why, self.path))

    # --- what it is good for -------------------------------------------------------------------

    def medium(self) -> Medium:
        if self._medium is None:
            self._medium = self._probe()
        return self._medium

    def _probe(self) -> Medium:
        file_system, device = mount_of(self.path)
        is_direct = self._takes_direct()
        if file_system in REMOTE_FILE_SYSTEMS:
            raise JournalRefused(
                self.path,
                f"it lies on {file_system}, where locks and flushes cannot be trusted; "
                "use a local disk",
            )
        if file_system in VOLATILE_FILE_SYSTEMS and not self._is_volatile_allowed:
            raise JournalRefused(
                self.path,
                f"it lies on {file_system}, which is memory: nothing would survive a "
                "power cut; use a folder on a disk, or allow it with --volatile",
            )
        if is_direct and file_system in DIRECT_SYNC_FILE_SYSTEMS:
            how, words = WRITE_DSYNC, "O_DIRECT with RWF_DSYNC"
        else:
            how, words = WRITE_FDATASYNC, "a write, then fdatasync"
        sentence = f"{file_system} on {device}: commits by {words}"
        warning = ""
        if file_system.startswith(LAYERED_FILE_SYSTEMS):
            warning = (
                f"it lies on {file_system}: whether a sync there reaches a disk is up to what is "
                "below it, and nothing here can tell; a folder on ext4 or xfs is the safer place"
            )
        return Medium(file_system, device, is_direct, how, sentence, warning)

    def _takes_direct(self) -> bool:
        name = os.path.join(self.path, "probe.tmp")
        flags = os.O_RDWR | os.O_CREAT | os.O_DIRECT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(name, flags, 0o640)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP):
                return False
            raise JournalRefused(self.path, explain(error, self.path)) from error
        try:
            with mmap.mmap(-1, BLOCK) as block:
                os.pwritev(fd, [block], 0)
        except OSError as error:
            if error.errno == errno.EINVAL:
                return False
            raise JournalRefused(self.path, explain(error, self.path)) from error
        finally:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(name)
        return True

    # --- the lock ------------------------------------------------------------------------------

    def lock(self) -> None:
        fd = os.open(self._at(LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            _try_lock(fd, fcntl.LOCK_EX)
        except BlockingIOError:
            pid = _holder(fd)
            os.close(fd)
            raise JournalLocked(self.path, pid) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()} {boot_id()}\n".encode(), 0)
        self._lock_fd = fd

    def unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    # --- files ---------------------------------------------------------------------------------

    def names(self) -> list[str]:
        with os.scandir(self.path) as entries:
            return sorted(
                entry.name
                for entry in entries
                if not entry.is_dir() or entry.name.endswith(("MANIFEST", ".pbj"))
            )

    def names_below(self, folder: str) -> list[str]:
        place = self._at(folder)
        return (
            sorted(f"{folder}/{name}" for name in os.listdir(place)) if os.path.isdir(place) else []
        )

    def size(self, name: str) -> int:
        found = os.lstat(self._at(name))
        if not stat.S_ISREG(found.st_mode):
            raise JournalRefused(self._at(name), "it is not a regular file; put it elsewhere")
        return found.st_size

    def read(
        self, name: str, offset: int, count: int, room: memoryview | None = None
    ) -> memoryview:
        assert offset % BLOCK == 0
        fd = self._open(name, os.O_RDONLY, is_direct=self.medium().is_direct)
        try:
            if not self.medium().is_direct:
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            needed = max(round_up(count), BLOCK)
            view = room if room is not None and len(room) >= needed else make_room(needed)
            most = READ_BYTES if room is None else needed
            done = 0
            while done < count:
                piece = view[done : min(done + most, needed)]
                got = os.preadv(fd, [piece], offset + done)
                if got == 0:
                    break
                done += got
                if got % BLOCK and done < count:
                    break  # the file's end
            return view[: min(done, count)].toreadonly()
        finally:
            os.close(fd)

    def write(self, name: str, offset: int, data: bytes | memoryview) -> None:
        fd = self.open(name)
        try:
            self._write(fd, offset, data)
            if self.medium().how != WRITE_DSYNC:
                os.fdatasync(fd)
        finally:
            os.close(fd)

    def _write(self, fd: int, offset: int, data: bytes | memoryview) -> None:
        flags = os.RWF_DSYNC if self.medium().how == WRITE_DSYNC else 0
        with mmap.mmap(-1, len(data)) as block:
            block[:] = data
            view = memoryview(block)
            try:
                done = 0
                while done < len(data):
                    got = os.pwritev(fd, [view[done:]], offset + done, flags)
                    done += got - got % BLOCK
            finally:
                view.release()

    def fill(self, name: str, count: int) -> None:
        fd = self._open(name, os.O_RDWR | os.O_CREAT, is_direct=self.medium().is_direct)
        try:
            os.posix_fallocate(fd, 0, count)
            with mmap.mmap(-1, CHUNK_BYTES) as zeros:
                for offset in range(0, count, CHUNK_BYTES):
                    size = min(CHUNK_BYTES, count - offset)
                    with memoryview(zeros) as view:
                        written = os.pwritev(fd, [view[:size]], offset)
                    if written != size:
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
            os.fsync(fd)
        finally:
            os.close(fd)

    def put(self, name: str, data: bytes) -> None:
        folder = os.path.dirname(self._at(name))
        if not os.path.isdir(folder):
            os.makedirs(folder, exist_ok=True)
            sync_folder(self.path)
        is_paced = len(data) > AT_ONCE_BYTES and self.medium().how == WRITE_DSYNC
        fd = self._open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, is_direct=is_paced)
        try:
            if is_paced:
                self._put_paced(fd, data)
            else:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)

    def _put_paced(self, fd: int, data: bytes) -> None:
        """Piece by piece, each durable before the next. All of it at once, and one sync behind it,
        would stand in the device's queue before the loop's commits: while 100 MB were written 99
        of 100 commits took up to 30 ms, and 8 ms this way, which is what they took without it.
        """
        view = memoryview(data)
        for at in range(0, len(data), CHUNK_BYTES):
            piece = view[at : at + CHUNK_BYTES]
            self._write(fd, at, bytes(piece) + bytes(-len(piece) % BLOCK))
        os.ftruncate(fd, len(data))

    def sync(self, name: str) -> None:
        fd = self._open(name, os.O_RDWR, is_direct=False)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, old: str, new: str) -> None:
        os.rename(self._at(old), self._at(new))
        if "/" in new:  # sync_names is about the journal's own folder
            sync_folder(os.path.dirname(self._at(new)))

    def remove(self, name: str) -> None:
        os.unlink(self._at(name))

    def sync_names(self) -> None:
        sync_folder(self.path)

    def open(self, name: str) -> int:
        is_direct = self.medium().how == WRITE_DSYNC
        return self._open(name, os.O_RDWR, is_direct=is_direct)

    def is_removed(self, fd: int) -> bool:
        return os.fstat(fd).st_nlink == 0

    def close(self, fd: int) -> None:
        os.close(fd)

    def free_bytes(self) -> int:
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def shared(self, name: str, count: int) -> memoryview:
        """Return a file's pages; memory of our own where the file system has none to share."""
        fd = self._open(name, os.O_RDWR | os.O_CREAT, is_direct=False)
        try:
            missing = count - os.fstat(fd).st_size
            # Blocks of its own: a store must not find the disk full.
            if missing > 0 and os.pwrite(fd, bytes(missing), count - missing) < missing:
                os.ftruncate(fd, count - missing)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return memoryview(mmap.mmap(fd, count))
        except OSError as error:
            logger.warning("%s/%s cannot be mapped: %s", self.path, name, error)
            return memoryview(bytearray(count))
        finally:
            os.close(fd)

    def shared_bytes(self, name: str) -> int:
        return self.size(name) if name in self.names() else 0

    def _open(self, name: str, flags: int, *, is_direct: bool) -> int:
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_DIRECT if is_direct else 0)
        try:
            return os.open(self._at(name), flags, 0o640)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                raise JournalRefused(self._at(name), "it is not a regular file") from error
            raise

    def _at(self, name: str) -> str:
        return os.path.join(self.path, name)


def make_folder(path: str) -> None:
    """Make a folder, and durable what leads to it: without its name all that is in it is lost.

    The folder above is synced also when nothing had to be made: whoever made it may have been
    killed before that.
    """
    is_there = os.path.isdir(path)
    above = [os.path.dirname(os.path.abspath(path))]
    while not os.path.isdir(above[-1]):
        above.append(os.path.dirname(above[-1]))
    os.makedirs(path, mode=0o750, exist_ok=True)
    for folder in above:
        try:
            sync_folder(folder)
        except OSError as error:
            if not is_there or error.errno not in (errno.EACCES, errno.EPERM, errno.EINVAL):
                raise


@contextlib.contextmanager
def unserved(path: str) -> Iterator[None]:
    """Let nobody write the journal in a folder until the block ends; nothing is changed there.

    Raises:
        JournalLocked: Somebody writes it.
    """
    try:
        fd = os.open(os.path.join(path, LOCK), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:  # nobody ever served it
        yield
        return
    try:
        _try_lock(fd, fcntl.LOCK_SH)
    except BlockingIOError:
        raise JournalLocked(path, _holder(fd)) from None
    else:
        yield
    finally:
        os.close(fd)


def _try_lock(fd: int, how: int) -> None:
    """Try for a moment: a killed process may hold its files a little longer (F-27)."""
    for _ in range(LOCK_TRIES - 1):
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_S)
        else:
            return
    fcntl.flock(fd, how | fcntl.LOCK_NB)


def _holder(fd: int) -> int:
    """The process that holds a lock file; 0 = unknown.

    The kernel knows it; the file says only who served last, for a tool that keeps others away
    writes nothing.
    """
    found = os.fstat(fd)
    place = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with contextlib.suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            words = line.split()
            if words[1] == "FLOCK" and words[5] == place and int(words[4]) > 0:
                return int(words[4])
    said = os.pread(fd, 100, 0).split()
    return int(said[0]) if said and said[0].isdigit() else 0


def sync_folder(path: str) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def round_up(count: int) -> int:
    """Return `count` rounded up to whole blocks."""
    return (count + BLOCK - 1) // BLOCK * BLOCK


def boot_id() -> str:
    """Return what names this boot of the kernel, or "-"."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "-"


def mount_of(path: str) -> tuple[str, str]:
    """Return file-system type and device of the mount that a path lies in (proc(5), mountinfo)."""
    device_number = os.stat(path).st_dev
    wanted = f"{os.major(device_number)}:{os.minor(device_number)}"
    real = os.path.realpath(path)
    best = ("unknown", "unknown", "")
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines():
        left, _, right = line.partition(" - ")
        fields, rest = left.split(), right.split()
        place = fields[4].encode().decode("unicode_escape")
        is_above = real == place or real.startswith(place.rstrip("/") + "/")
        better = fields[2] == wanted or is_above
        if better and is_above and len(place) >= len(best[2]):
            best = (rest[0], rest[1], place)
    return best[0], best[1]


def explain(error: OSError, path: str) -> str:
    """Say in one sentence what keeps a folder from being used, and what to do."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"user {os.geteuid()} may not write there; change its owner, or use another folder"
    if error.errno == errno.EROFS:
        return "the file system is read-only; remount it, or use another folder"
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return "it is not a folder; use another path"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "there is no room left on the device; free some, or use another folder"
    if error.errno == errno.ENOENT and os.path.isdir(path):
        return "no files can be made in it; use a folder on a disk"
    return f"{error.strerror or error}"

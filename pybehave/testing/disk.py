"""A disk in memory that can lose power, lie, fail and fill up; everything from a seed.

    disk = SimDisk()
    recover(disk, options, now_ns=0)         the code that runs on real folders
    after = disk.cut(random)                 what the machine finds when the power is back

Theory. A file is bytes on a platter of 512-byte sectors. A write of the loop is in flight from
`begin` to `end`; the blocking operations are in flight only inside the call. At a cut each sector
in flight, independently of all others, has arrived, is still what it was, or is garbage. Names are
another layer: what was done to them since the last `sync_names` has or has not happened, each thing
for itself. A failed `sync_names` has lost what it was to make durable, even when the next one
succeeds (fsyncgate). `cut` leaves this disk as it is and returns another, so one run can be cut at
every point; contents are shared until somebody writes.

Invariants
  (K1) What `end`, `write`, `fill`, `put` and `sync_names` said is durable survives every cut,
       unless the fault "lying", "lost" or "misdirected" was asked for.
  (K2) The same seed and the same calls give the same bytes.

Does not know: what is written, the loop's time (src/_uring/sim_disk.c draws it).
Source: FoundationDB's simulated disk (per-sector outcomes); durability.md 4.4, T-1.
"""

from __future__ import annotations

import errno
import os
import random as _random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, final

from pybehave.errors import JournalLocked
from pybehave.journal.attempts import MARKER
from pybehave.journal.disk import BLOCK, WRITE_DSYNC, Disk, Medium

SECTOR: Final = 512
FD_BASE: Final = 1 << 24
"""Above every real descriptor and every simulated socket: a real call on one fails."""

PER_MILLE: Final = 1000
GARBAGE: Final = bytes(range(256)) * 2
MEDIUM: Final = Medium("sim", "memory", True, WRITE_DSYNC, "sim: a simulated disk")

Kind: TypeAlias = Literal["write", "read", "fill", "put", "sync", "names"]
"""Operations that can fail; "write" is the loop's and the blocking one, "names" is sync_names."""

Lie: TypeAlias = Literal["lost", "misdirected", "lying", "short"]
"""Of a write that claims success: it never arrived; it went elsewhere; it is durable only in name.
"short" is honest: less was written, and it says so."""


class PowerCut(Exception):  # noqa: N818 -- it is not an error
    """The operation that was asked for has not returned: the machine is off."""


@final
@dataclass(frozen=True, slots=True)
class Weather:
    """Faults per mille of each operation, drawn from the disk's seed."""

    write_error: int = 0
    short: int = 0
    interrupted: int = 0
    lost: int = 0
    misdirected: int = 0
    lying: int = 0


@dataclass(slots=True)
class _Planned:
    kinds: frozenset[str]
    left: int
    what: int | Lie
    is_forever: bool


@dataclass(slots=True)
class _Flying:
    """A write whose sectors nobody knows: in flight, or acknowledged by a lie."""

    file: int
    offset: int
    data: bytes
    is_lie: bool = False


@dataclass(frozen=True, slots=True)
class _NameChange:
    """`file` 0 removes; `source` is the other name of a rename."""

    name: str
    file: int
    source: str = ""
    is_doomed: bool = False

    def apply(self, names: dict[str, int]) -> None:
        if self.source:
            names.pop(self.source, None)
        if self.file:
            names[self.name] = self.file
        else:
            names.pop(self.name, None)


@final
class SimDisk(Disk):
    """A folder on a simulated disk.

    Args:
        seed: Of the weather, of what failed writes leave behind, and of a new journal's id.
        room: Bytes that files may take; None = no end.
        weather: Faults at random; none by default.

    Attributes:
        operations: How many were begun so far; `cut_at` counts in these.
        cut_at: The operation in which the power goes: PowerCut is raised.
        failures: How many operations met a planned fault.
        spoiled: (name, block) that cannot be read: latent sector errors.
    """

    is_simulated = True

    def __init__(
        self, seed: int = 0, *, room: int | None = None, weather: Weather | None = None
    ) -> None:
        self.path = "sim-disk"
        self.room = room
        self.weather = weather
        self.random = _random.Random(seed)
        self._seed = seed
        self.operations = 0
        self.failures = 0
        self.cut_at = 0
        self.spoiled: set[tuple[str, int]] = set()
        self._planned: list[_Planned] = []
        self._content: dict[int, bytearray] = {}
        self._shared: set[int] = set()
        self._names: dict[str, int] = {}
        self._durable_names: dict[str, int] = {}
        self._changes: list[_NameChange] = []
        self._flying: dict[int, _Flying] = {}
        self._unknown: list[_Flying] = []
        self._open: dict[int, int] = {}
        self._next = 1
        self._memory: dict[str, bytearray] = {}
        self._memory_before: dict[str, bytes] = {}
        self._is_locked = False
        self._is_off = False
        self._is_gone = False

    # --- faults --------------------------------------------------------------------------------

    def fail(
        self,
        what: int | Lie,
        *,
        at: int = 1,
        kinds: Iterable[Kind] = ("write",),
        is_forever: bool = False,
    ) -> None:
        """Plan a fault: the `at`-th operation of these kinds from now on, and all later ones."""
        self._planned.append(_Planned(frozenset(kinds), at, what, is_forever))

    def heal(self) -> None:
        """Forget every planned fault, the weather, and latent sector errors."""
        self._planned.clear()
        self.spoiled.clear()
        self.weather = None
        self.cut_at = 0

    def _fault(self, kind: Kind) -> int | Lie:
        """What befalls this operation: 0, errno or a lie."""
        self._must_be_on()
        self.operations += 1
        found: int | Lie = 0
        for plan in self._planned:
            if kind in plan.kinds:
                plan.left -= 1
                if plan.left == 0 or (plan.left < 0 and plan.is_forever):
                    found = plan.what
                    self.failures += 1
        if self.weather is not None and not found and kind == "write":
            found = self._draw(self.weather)
        return found

    def _draw(self, weather: Weather) -> int | Lie:
        at = self.random.randrange(PER_MILLE)
        faults: tuple[tuple[int, int | Lie], ...] = (
            (weather.write_error, errno.EIO),
            (weather.short, "short"),
            (weather.interrupted, errno.EINTR),
            (weather.lost, "lost"),
            (weather.misdirected, "misdirected"),
            (weather.lying, "lying"),
        )
        for chance, what in faults:
            if at < chance:
                return what
            at -= chance
        return 0

    def _must_be_on(self) -> None:
        if self._is_gone:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        if self._is_off:
            raise PowerCut

    def _may_cut(self) -> None:
        if self.cut_at and self.operations >= self.cut_at:
            self._is_off = True
            raise PowerCut

    def _run(self, kind: Kind) -> None:
        """An operation without content."""
        fault = self._fault(kind)
        self._may_cut()
        if isinstance(fault, int) and fault:
            raise OSError(fault, os.strerror(fault))

    # --- the power -----------------------------------------------------------------------------

    def cut(self, random: _random.Random) -> SimDisk:
        """Return the disk that is found when the power is back; this one stays as it is."""
        found = self._bare()
        names = found._names
        for change in self._changes:
            if random.getrandbits(1):
                change.apply(names)
        found._durable_names = dict(names)
        for write in [*self._flying.values(), *self._unknown]:
            if write.file in found._content:
                found._scatter(random, write)
        for name in sorted(
            self._memory.keys() - {MARKER}
        ):  # which says of kills, not of power cuts
            found._memory[name] = self._written_back(random, name)
            found._memory_before[name] = bytes(found._memory[name])
        return found

    def _written_back(self, random: _random.Random, name: str) -> bytearray:
        """Shared memory after a power cut: of each page the kernel has written back what it was at
        some time; here, what it was after the power cut before or what it is now.
        """
        pages = self._memory[name]
        left = bytearray(self._memory_before.get(name, b"").ljust(len(pages), b"\0"))
        for at in range(0, len(pages), BLOCK):
            if left[at : at + BLOCK] != pages[at : at + BLOCK] and random.getrandbits(1):
                left[at : at + BLOCK] = pages[at : at + BLOCK]
        return left

    def cut_exactly(self, outcomes: Sequence[int]) -> SimDisk:
        """Like `cut`, but these are the outcomes of the `undecided` sectors.

        Args:
            outcomes: 0 = it is what it was, 1 = it has arrived, 2 = it is garbage.
        """
        found = self._bare()
        for change in self._changes:
            change.apply(found._names)
        found._durable_names = dict(found._names)
        for (file, place, data), what in zip(self.undecided(), outcomes, strict=True):
            if what:
                content = found._own(file)
                content[place : place + SECTOR] = data if what == 1 else GARBAGE
        return found

    def undecided(self) -> list[tuple[int, int, bytes]]:
        """The sectors that a cut would decide about: those in flight that change anything."""
        found = []
        for write in [*self._flying.values(), *self._unknown]:
            content = self._content[write.file]
            for at in range(0, len(write.data), SECTOR):
                data, place = write.data[at : at + SECTOR], write.offset + at
                if content[place : place + SECTOR] != data:
                    found.append((write.file, place, data))
        return found

    def copy(self) -> SimDisk:
        """Return the same disk with the power still on, but without descriptors and faults: what
        another process finds after the one that wrote was killed. What was in flight can be read
        and is not durable until somebody syncs the file.
        """
        found = self._bare()
        found._names = dict(self._names)
        found._changes = list(self._changes)
        found._unknown = [*self._flying.values(), *self._unknown]
        found._memory = {name: bytearray(data) for name, data in self._memory.items()}
        found._memory_before = dict(self._memory_before)
        return found

    def _bare(self) -> SimDisk:
        """Another disk with what is durable here; contents are shared."""
        found = SimDisk(room=self.room)
        found.random = self.random
        found._content = dict(self._content)
        self._shared = set(self._content)
        found._shared = set(self._content)
        found._names = dict(self._durable_names)
        found._durable_names = dict(self._durable_names)
        found._next = self._next
        return found

    def _scatter(self, random: _random.Random, write: _Flying) -> None:
        """Decide of each sector of a write whether it has arrived."""
        style = random.randrange(6)
        if style == 0:
            return
        content = self._own(write.file)
        end = write.offset + len(write.data)
        if style == 1:
            content[write.offset : end] = write.data
            return
        sectors = len(write.data) // SECTOR
        if style == 2:  # a beginning
            count = random.randrange(sectors + 1) * SECTOR
            content[write.offset : write.offset + count] = write.data[:count]
            return
        arrived = random.getrandbits(sectors)
        if style == 3:  # nearly all
            arrived |= random.getrandbits(sectors) | random.getrandbits(sectors)
        garbage = random.getrandbits(sectors) & random.getrandbits(sectors) if style == 5 else 0
        for index in range(sectors):
            place, at = write.offset + index * SECTOR, index * SECTOR
            if garbage >> index & 1:
                content[place : place + SECTOR] = random.randbytes(SECTOR)
            elif arrived >> index & 1:
                content[place : place + SECTOR] = write.data[at : at + SECTOR]

    def _own(self, file: int) -> bytearray:
        if file in self._shared:
            self._shared.discard(file)
            self._content[file] = bytearray(self._content[file])
        return self._content[file]

    # --- writes of the loop --------------------------------------------------------------------

    def begin(self, fd: int, offset: int, data: bytes) -> int:
        """A write of the loop is in flight from now on; returns its name."""
        assert offset % BLOCK == 0 and len(data) % BLOCK == 0 and data, "not whole blocks"
        file = self._open[fd]
        assert offset + len(data) <= len(self._content[file]), "behind the end of the file"
        name = self._next
        self._next += 1
        self._flying[name] = _Flying(file, offset, data)
        return name

    def end(self, name: int) -> int:
        """The write's time is over: bytes that are durable, or -errno."""
        if self._is_off:
            return -errno.EIO
        write = self._flying[name]
        fault = self._fault("write")
        if self.cut_at and self.operations >= self.cut_at:
            self._is_off = True
            return -errno.EIO
        del self._flying[name]
        return self._settle(write, fault)

    def switch_off(self) -> None:
        """Let every operation fail from now on, as when the device is pulled out."""
        self._is_off = self._is_gone = True

    def _settle(self, write: _Flying, fault: int | Lie) -> int:
        count = len(write.data)
        if fault == 0:
            self._own(write.file)[write.offset : write.offset + count] = write.data
            self._forget(write)
        elif fault == "short":
            count = self.random.randrange(1, count) if count > 1 else count
            whole = count - count % SECTOR
            content = self._own(write.file)
            content[write.offset : write.offset + whole] = write.data[:whole]
        elif fault == "misdirected":
            content = self._own(write.file)
            place = self.random.randrange((len(content) - count) // BLOCK + 1) * BLOCK
            content[place : place + count] = write.data
        elif fault == "lying":
            write.is_lie = True
            self._unknown.append(write)
        elif fault in (errno.EINTR, errno.EAGAIN):
            return -errno.EINTR if fault == errno.EINTR else -errno.EAGAIN
        elif isinstance(fault, int):
            if fault == errno.EIO:
                self._scatter(self.random, write)
            return -fault
        return count

    def _forget(self, write: _Flying) -> None:
        """What was unknown below a write that is durable now is known."""
        if not self._unknown:
            return
        end = write.offset + len(write.data)
        self._unknown = [
            other
            for other in self._unknown
            if other.file != write.file or other.offset < write.offset or other.offset >= end
        ]

    # --- the Disk protocol ---------------------------------------------------------------------

    def medium(self) -> Medium:
        return MEDIUM

    def new_id(self) -> bytes:
        return _random.Random(f"id {self._seed}").randbytes(16)

    def lock(self) -> None:
        if self._is_locked:
            raise JournalLocked(self.path, os.getpid())
        self._is_locked = True

    def unlock(self) -> None:
        self._is_locked = False

    def names(self) -> list[str]:
        return sorted(name for name in self._names if "/" not in name)

    def names_below(self, folder: str) -> list[str]:
        return sorted(name for name in self._names if name.startswith(f"{folder}/"))

    def shared(self, name: str, count: int) -> memoryview:
        return memoryview(self._memory.setdefault(name, bytearray(count)))

    def shared_bytes(self, name: str) -> int:
        return len(self._memory.get(name, b""))

    def size(self, name: str) -> int:
        return len(self._content[self._at(name)])

    def read(
        self, name: str, offset: int, count: int, room: memoryview | None = None
    ) -> memoryview:
        assert offset % BLOCK == 0
        self._run("read")
        file = self._at(name)
        if self.spoiled and any(
            spoiled == name and offset <= block * BLOCK < offset + count
            for spoiled, block in self.spoiled
        ):
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)
        content = self._content[file]
        if self._unknown:  # what a lying disk shows as long as it has power
            content = bytearray(content)
            for write in self._unknown:
                if write.file == file:
                    content[write.offset : write.offset + len(write.data)] = write.data
        return memoryview(content)[offset : offset + count].toreadonly()

    def write(self, name: str, offset: int, data: bytes | memoryview) -> None:
        assert offset % BLOCK == 0 and len(data) % BLOCK == 0
        write = _Flying(self._at(name), offset, bytes(data))
        fault = self._fault("write")
        if self.cut_at and self.operations >= self.cut_at:
            self._unknown.append(write)
            self._may_cut()
        if fault in ("short", errno.EINTR, errno.EAGAIN):
            fault = 0  # the real one goes on with the rest before it returns
        result = self._settle(write, fault)
        if result < 0:
            raise OSError(-result, os.strerror(-result), name)

    def free_bytes(self) -> int | None:
        if self.room is None:
            return None
        return max(0, self.room - sum(map(len, self._content.values())))

    def fill(self, name: str, count: int) -> None:
        self._make("fill", name, bytes(count))

    def put(self, name: str, data: bytes) -> None:
        self._make("put", name, data)

    def _make(self, kind: Kind, name: str, data: bytes) -> None:
        """A new file under a name that is not durable. Cut off, it holds what nobody knows."""
        fault = self._fault(kind)
        free = self.free_bytes()
        if free is not None and len(data) > free and not fault:
            fault = errno.ENOSPC
        file = self._next
        self._next += 1
        is_cut = bool(self.cut_at) and self.operations >= self.cut_at
        if is_cut or fault:
            count = self.random.randrange(len(data) + 1)
            self._content[file] = bytearray(data[:count])
        else:
            self._content[file] = bytearray(data)
        self._change(_NameChange(name, file))
        if is_cut:
            self._may_cut()
        if isinstance(fault, int) and fault:
            raise OSError(fault, os.strerror(fault), name)

    def sync(self, name: str) -> None:
        file = self._at(name)
        fault = self._fault("sync")
        self._may_cut()
        for write in [write for write in self._unknown if write.file == file and not write.is_lie]:
            self._unknown.remove(write)
            self._settle(write, fault and errno.EIO)
        if isinstance(fault, int) and fault:
            raise OSError(fault, os.strerror(fault), name)

    def rename(self, old: str, new: str) -> None:
        self._must_be_on()
        self._change(_NameChange(new, self._at(old), old))

    def remove(self, name: str) -> None:
        self._must_be_on()
        self._at(name)
        self._change(_NameChange(name, 0))

    def _change(self, change: _NameChange) -> None:
        self._changes.append(change)
        change.apply(self._names)
        self._collect()

    def sync_names(self) -> None:
        try:
            self._run("names")
        except OSError:
            self._changes = [replace(change, is_doomed=True) for change in self._changes]
            raise
        touched = set()
        for change in self._changes:
            if not change.is_doomed:
                change.apply(self._durable_names)
                touched |= {change.name, change.source}
        self._changes = [
            change for change in self._changes if change.is_doomed and change.name not in touched
        ]
        self._collect()

    def _collect(self) -> None:
        """Let go of files that no name, change or descriptor leads to."""
        kept = {*self._names.values(), *self._durable_names.values(), *self._open.values()}
        kept.update(change.file for change in self._changes)
        for file in [file for file in self._content if file not in kept]:
            del self._content[file]
            self._unknown = [write for write in self._unknown if write.file != file]

    def open(self, name: str) -> int:
        fd = FD_BASE + self._next
        self._next += 1
        self._open[fd] = self._at(name)
        return fd

    def is_removed(self, fd: int) -> bool:
        """Nobody but the journal itself removes files here."""
        return False

    def close(self, fd: int) -> None:
        file = self._open.pop(fd)
        if self._is_off:
            return
        assert file in self._open.values() or not any(
            write.file == file for write in self._flying.values()
        ), "closed under a write"

    def _at(self, name: str) -> int:
        try:
            return self._names[name]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name) from None

    # --- for tests -----------------------------------------------------------------------------

    @property
    def descriptors(self) -> int:
        """How many are open."""
        return len(self._open)

    def contents(self) -> dict[str, bytes]:
        """Every file, as the platter has it."""
        return {name: bytes(self._content[file]) for name, file in sorted(self._names.items())}

    def patch(self, name: str, offset: int, data: bytes) -> None:
        """Change bytes behind everybody's back: bit rot."""
        self._own(self._at(name))[offset : offset + len(data)] = data

    def install(self, name: str, data: bytes) -> None:
        """Let a file be there, durably, name and all."""
        file = self._next
        self._next += 1
        self._content[file] = bytearray(data)
        self._names[name] = self._durable_names[name] = file

    def lose(self, name: str) -> None:
        """Let a file be gone, durably."""
        self._names.pop(name, None)
        self._durable_names.pop(name, None)

"""States out of memory: servers that hibernate, and members of families that sleep.

Theory. A journaled server's state follows from the journal, so a copy of it need not be durable: it
is only to be at hand. `Hibernate` encodes it as a snapshot would and puts it into a file beside the
journal that has no name; the server keeps where it is. The next input brings it back first. A crash
of the process, or a power cut, takes the file away, and the next start steps the journal again as
ever. A snapshot takes the bytes as they are: nothing wakes for it, and journal segments that are
removed after it are needed by nobody who sleeps.

    at   bytes  what lies in the file
    0    4      CRC-32 of the rest
    4    4      bytes of the state
    8           the state, as the server's `dump` and types make it, and codecs have made of it;
                then room up to a power of two

Invariants
  (H1) A state is put away only if it can be read back: `load(dump(state))` dumps the same again,
       and nobody waits for a reply: what is read has no caller who could get one.
  (H2) What cannot be read back (a disk that fails) is built again from the journal.
  (H3) Room that is given back is used again; the file does not grow by sleeping and waking.
  (H4) While a snapshot is made nothing in the file changes that was there when it began: another
       process reads it.

Does not know: when servers hibernate (src/_uring/dispatch.pyx), what a snapshot is.
Source: OTP erlang:hibernate/3 and proc_lib:hibernate/3, where the heap is shrunk instead.
"""

from __future__ import annotations

import io
import logging
import os
import struct
import tempfile
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeVar, final

from pybehave._uring.servers import Asleep
from pybehave.errors import NotJournalable, PybehaveError
from pybehave.journal.codec import PLAIN, Coder
from pybehave.runtime.tree.workers import spec_of

if TYPE_CHECKING:
    from pybehave._uring.servers import Server
    from pybehave.runtime.durable.journaling import NodeJournal
    from pybehave.runtime.durable.replay import Known

T = TypeVar("T")

HEAD: Final = struct.Struct("<II")

ROOM_MIN: Final = 64
"""Bytes; a power of two, as all rooms are."""

logger = logging.getLogger("pybehave.journal")


@final
class Swap:
    """Pieces of bytes in a file without a name.

    Args:
        folder: Where the file lies; None keeps them in memory, for disks that are simulated.
        coder: What is done to them: a file without a name is on the disk, too.
    """

    def __init__(self, folder: str | None, coder: Coder = PLAIN) -> None:
        self._coder = coder
        self._file: BinaryIO = io.BytesIO()
        self.fd: int | None = None
        if folder is not None:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 -- close()
            self.fd = self._file.fileno()
        self._end = 0
        self._free: dict[int, list[int]] = {}
        self.count = 0

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        return self._end

    def put(self, data: bytes) -> Asleep:
        """Keep some bytes.

        Raises:
            OSError: The disk is full, or failed.
            CodecRefused: A codec failed.
        """
        if self._coder.is_on:
            data = self._coder.encode(data, "asleep", 0)
        room = _room(len(data))
        free = self._free.get(room)
        at = free.pop() if free else self._end
        try:
            self._write(HEAD.pack(zlib.crc32(data), len(data)) + data, at)
        except OSError:
            if at < self._end:
                self._free.setdefault(room, []).append(at)
            raise
        self._end = max(self._end, at + room)
        self.count += 1
        return Asleep(at, len(data))

    def get(self, key: Asleep) -> bytes:
        """Return the bytes.

        Raises:
            OSError: They cannot be read, or are others.
        """
        piece = self._read(HEAD.size + key.size, key.at)
        crc, size = HEAD.unpack_from(piece) if len(piece) >= HEAD.size else (0, -1)
        data = piece[HEAD.size :]
        if size != key.size or len(data) != size or zlib.crc32(data) != crc:
            raise OSError("what was put away is damaged")
        return self._coder.decode(data, "asleep", 0) if self._coder.is_on else data

    def free(self, key: Asleep, *, is_sound: bool = True) -> None:
        """Give the room back; one that was found damaged is not used again."""
        if is_sound:
            self._free.setdefault(_room(key.size), []).append(key.at)
        self.count -= 1

    def close(self) -> None:
        """Forget everything."""
        self._file.close()

    def _write(self, data: bytes, at: int) -> None:
        if self.fd is None:
            self._file.seek(at)
            self._file.write(data)
            return
        view = memoryview(data)
        while view:
            count = os.pwrite(self.fd, view, at)
            view, at = view[count:], at + count

    def _read(self, count: int, at: int) -> bytes:
        if self.fd is not None:
            return os.pread(self.fd, count, at)
        self._file.seek(at)
        return self._file.read(count)


@final
class Hibernation:
    """The states of one journal's servers that are out of memory.

    Args:
        journal: Whose.
    """

    def __init__(self, journal: NodeJournal) -> None:
        self._journal = journal
        self._swap: Swap | None = None
        self._complained: set[type] = set()
        self._left: list[Asleep] = []
        self.slept = 0
        self.woken = 0

    def stats(self) -> dict[str, int]:
        """How many sleep, how often that was begun and ended, and the bytes of the file."""
        swap = self._swap
        return {
            "asleep": 0 if swap is None else swap.count - len(self._left),
            "slept": self.slept,
            "woken": self.woken,
            "file_bytes": 0 if swap is None else swap.size_bytes,
        }

    # --- servers that run ---------------------------------------------------------------------

    def hibernate(self, server: Server) -> Asleep | None:
        """Put a server's state away; None: it stays in memory."""
        if not self._journal.is_open or self._journal.node.host.isolation is not None:
            return None
        key = self._put(server.name, server.instance, server.state)
        if key is not None:
            self._journal.forget(server.name)  # what it began with is out of memory, too
        return key

    def wake(self, server: Server, key: Asleep) -> Any:
        """Return the state of a server that gets an input.

        Raises:
            PybehaveError: It cannot be read, and not be built again either.
        """
        data = self._take(key)
        if data is not None:
            return server.instance.load(self._journal.values_named(server.name).decode(data))
        rebuilt = self._journal.rebuild(spec_of(server.owner))  # (H2)
        if rebuilt is None:
            raise PybehaveError(f"the state of server {server.name!r}, which slept, is lost")
        return rebuilt.state

    def look(self, server: Server, look: Callable[[Server], T]) -> T:
        """Look at a server as if it were awake; one that sleeps sleeps on (as in OTP)."""
        is_asleep = type(server.state) is Asleep
        dispatcher = self._journal.node.loop.dispatcher
        dispatcher.wake(server)
        try:
            return look(server)
        finally:
            if is_asleep:
                dispatcher.hibernate(server)

    # --- servers that do not run --------------------------------------------------------------

    def lay_down(self, name: str, ended: Server | None = None) -> None:
        """Put away what is known of a server that does not run, until it is started.

        Args:
            ended: The incarnation that it was, if that is known.
        """
        known = self._journal.remembered(name)
        if self._journal.node.loop.dispatcher.whereis(name) is not None:
            return
        if known is None or known.is_dirty or known.dump is None or type(known.state) is Asleep:
            return
        instance = known.dump.__self__  # type: ignore[attr-defined]
        key = self._put(name, instance, known.state)
        if key is not None:
            for incarnation in (ended, known.server):
                if incarnation is not None:
                    incarnation.replace_state(None)  # `dump` keeps it, and the state with it
            known.state, known.server = key, None

    def get_up(self, name: str, known: Known) -> None:
        """What is known of a server is needed: its state is in memory again, or it is dirty."""
        if type(known.state) is not Asleep:
            return
        data = self._take(known.state)
        if data is None:
            known.state, known.is_dirty = None, True  # (H2): it is built again
            return
        known.state = self._loaded(name, known, data)

    def read(self, name: str, known: Known) -> Any:
        """The state of one that sleeps, and sleeps on; None and dirty: it cannot be read."""
        try:
            data = self.encoded(known.state)
        except OSError:
            self.get_up(name, known)
            return None
        return self._loaded(name, known, data)

    def _loaded(self, name: str, known: Known, data: bytes) -> Any:
        assert known.dump is not None
        instance = known.dump.__self__  # type: ignore[attr-defined]
        return instance.load(self._journal.values_named(name).decode(data))

    def drop(self, known: Known) -> None:
        """A server is forgotten: its state is needed by nobody."""
        if type(known.state) is Asleep:
            self._left.append(known.state)
            self._give_back()

    # --- bytes --------------------------------------------------------------------------------

    def encoded(self, key: Asleep) -> bytes:
        """The state as a snapshot keeps it; it sleeps on.

        Raises:
            OSError: It cannot be read.
        """
        assert self._swap is not None
        return self._swap.get(key)

    @property
    def descriptors(self) -> list[int]:
        """What a process that makes a snapshot has to keep."""
        return [] if self._swap is None or self._swap.fd is None else [self._swap.fd]

    def close(self) -> None:
        """The node ends: what sleeps is in the journal."""
        if self._swap is not None:
            self._swap.close()

    def _put(self, name: str, instance: Any, state: Any) -> Asleep | None:
        values = self._journal.values_named(name)
        try:
            values.has_waiting = False
            data = values.encode(instance.dump(state))
            if values.has_waiting:  # of another server (H1)
                return None
            if values.encode(instance.dump(instance.load(values.decode(data)))) != data:
                raise NotJournalable("load(dump(state)) is another state")  # (H1)
            if self._swap is None:
                disk = self._journal.disk
                folder = None if getattr(disk, "is_simulated", False) else disk.path
                self._swap = Swap(folder, self._journal.coder)
            self._give_back()
            key = self._swap.put(data)
        except Exception as error:  # noqa: BLE001 -- whatever `dump` does: it stays awake
            self._complain(name, type(instance), error)
            return None
        self.slept += 1
        return key

    def _take(self, key: Asleep) -> bytes | None:
        assert self._swap is not None
        try:
            data = self._swap.get(key)
        except OSError as error:
            logger.error("a state that was put away cannot be read: %s; it is built again", error)
            self._swap.free(key, is_sound=False)
            return None
        self._left.append(key)
        self._give_back()
        self.woken += 1
        return data

    def _give_back(self) -> None:
        """(H4)"""
        assert self._swap is not None
        if self._journal.snapshots.is_busy:
            return
        for key in self._left:
            self._swap.free(key)
        self._left.clear()

    def _complain(self, name: str, kind: type, error: Exception) -> None:
        if kind not in self._complained:
            self._complained.add(kind)
            logger.warning("server %r cannot hibernate and stays in memory: %s", name, error)


def _room(size: int) -> int:
    """The bytes that are set aside for a state."""
    return max(ROOM_MIN, 1 << (HEAD.size + size - 1).bit_length())

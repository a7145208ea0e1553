"""A journal that another process writes, followed until it is this one's.

Theory. A process that is to replace another one (runtime/release/handover.py) has to recover its
journal while all clients wait. Most of that can be done before they do: what is there is read and
stepped while the other one still serves, and when that has closed the journal, only what came
since is left. This is a standby server's log shipping; the log is in the same place here.

Invariants
  (B1) Nothing is written while another process has the lock, not even a marker.
  (B2) What was stepped counts only when the one that closed the journal says where it ends, what
       was read is the beginning of what is there, and no record since then says something of one
       before (marks.py). Else all is done again, as at any start.
  (B3) What fails here may be the other one's writing, or what only one process can have, and is
       tried again at the start; but code that does not read or repeat the journal never will, and
       keys that do not open it: that is refused while the other one can go on. So is code that
       would not read what the other one is given from now on.

Does not know: sockets, who the other process is.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final, cast, final

from pybehave._uring import blocks
from pybehave.errors import (
    CodecRefused,
    CodeRefused,
    JournalRefused,
    NonDeterminism,
    SpecError,
)
from pybehave.journal import recovery
from pybehave.journal.ahead import make_room
from pybehave.journal.marks import Marks
from pybehave.journal.segment_files import segment_number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pybehave.journal.disk import Disk
    from pybehave.journal.marks import Mark
    from pybehave.runtime.durable.journaling import NodeJournal
    from pybehave.runtime.durable.replay import Replay

PIECE_BYTES: Final = 1 << 20
"""Read at a time: the other process's commits wait behind it."""

LITTLE: Final = 5000
ROUNDS_MAX: Final = 10
"""With fewer records behind it a standby has caught up; a process that writes as fast as another
steps is not followed for ever."""

FAILURES_MAX: Final = 3
"""So many looks are not thwarted by snapshots that end, and segments that go with them."""

LASTING: Final = (CodeRefused, CodecRefused, NonDeterminism, SpecError)
"""What no other process has to do with, and no second attempt mends (B3)."""

logger = logging.getLogger("pybehave.journal")


@final
class Unhurried:
    """A disk that leaves others half of its time, and looks no further than a segment is written.

    Two segments that were read at once held up the commits of the process that serves by 40 to 100
    milliseconds.

    Args:
        disk: It.
    """

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        """All else is the disk's."""
        return getattr(self._disk, name)

    def read(
        self, name: str, offset: int, count: int, room: memoryview | None = None
    ) -> memoryview:
        """Read piece by piece; of a segment as far as it was written to."""
        room = make_room(count) if room is None else room
        done = 0
        while done < count:
            began = time.monotonic()
            most = min(PIECE_BYTES, count - done)
            piece = self._disk.read(name, offset + done, most)
            room[done : done + len(piece)] = piece
            done += len(piece)
            is_end = segment_number(name) is not None and blocks.is_zero(piece)
            if is_end or len(piece) < most:
                break
            time.sleep(time.monotonic() - began)
        return room[:done].toreadonly()


@final
class Standby:
    """What a process knows of a journal before it has it.

    Args:
        journal: Which is not open yet.

    Attributes:
        ahead: What was read; None = nothing.
        lsn: Up to which it was stepped.
    """

    def __init__(self, journal: NodeJournal) -> None:
        self.ahead: recovery.Ahead | None = None
        self.lsn = 0
        self._journal = journal
        self._stepped: Replay | None = None
        self._skipped: frozenset[int] = frozenset()

    def follow(self) -> None:
        """Read and step what is there, and then what came meanwhile, until that is little.

        Raises:
            CodeRefused, CodecRefused, NonDeterminism, SpecError: The code does not read or repeat
                it, and would not at the start either.
        """
        disk, failures = self._journal.disk, 0
        try:
            for _ in range(ROUNDS_MAX):
                before = self.lsn
                try:
                    ahead = recovery.look(
                        cast("Disk", Unhurried(disk)), self._journal.options, self.ahead
                    )
                except (JournalRefused, OSError):  # a segment may have gone in the midst of it
                    failures += 1
                    if failures < FAILURES_MAX:
                        continue
                    raise
                self._seen(ahead)
                if self._stepped is None or self.lsn - before < LITTLE:
                    break
        except LASTING:
            raise
        except Exception as error:  # noqa: BLE001 -- also what an init raises while another runs
            self._stepped = None
            logger.info("the journal in %s is read when it is free: %s", disk.path, error)

    def _seen(self, ahead: recovery.Ahead) -> None:
        """Step what a look has found."""
        before, self.ahead = self.ahead, ahead
        found = ahead.found
        if before is None and not self._journal.quarantine.attempts.are_counted():
            self._begin(found)  # else one may end this process, and is not counted
        elif before is None or self._has_marks(_marks_of(found)) or not before.is_used:
            self._stepped = None
        if self._stepped is not None:
            self._step(found, self._stepped)
            self._stepped.check_upcasts()

    def _begin(self, found: recovery.Recovery) -> None:
        journal = self._journal
        journal.adopt(found)
        journal.marks = Marks(_marks_of(found))
        self._skipped = frozenset(journal.marks.skipped)
        journal.quarantine.skipped.update(self._skipped)
        self._stepped = journal.replay_of(journal.specs().without(journal.reset))
        self._stepped.replayer.keeps_absent = True

    def _step(self, found: recovery.Recovery, stepped: Replay) -> None:
        dispatcher = self._journal.node.loop.dispatcher
        clock = dispatcher.unix_now()
        try:
            self._journal.step_all(found, stepped, self.lsn)
        finally:
            dispatcher.set_unix_now(clock)
        self.lsn = found.last_lsn

    def _has_marks(self, marks: Iterable[Mark]) -> bool:
        """Whether a record says something of one that was stepped already."""
        since = Marks([mark for mark in marks if mark[1] > self.lsn])
        return bool(since.skipped or since.forgotten)

    def take(self, marks: Iterable[Mark], skipped: set[int]) -> Replay | None:
        """Return what was stepped, for the records behind `lsn`; None if it does not count (B2).

        Args:
            marks: All that the journal has now.
            skipped: The inputs that are not to be stepped.
        """
        stepped, self._stepped = self._stepped, None
        ahead, self.ahead = self.ahead, None  # which may be many megabytes
        if ahead is None or not ahead.is_used or skipped != self._skipped:
            return None
        return None if self._has_marks(marks) else stepped


def _marks_of(found: recovery.Recovery) -> list[Mark]:
    return [mark for piece in found.pieces for mark in piece.marks]

"""The file `tail`: what a process that is killed had recorded and the disk did not have yet.

Used at the level "os" (src/_uring/tail.pyx says how it is written). A start takes over what is in
it: the records are stepped and recorded again under the same lsns, before all others. The file is
not emptied: a power cut may bring any older page of it back, and that must do no harm anyway.

Invariants
  (K1) Every start takes over all that the tail has behind the end of the segments, whatever its
       servers acknowledge, and records nothing before that.
  (K2) The file is not written before what was taken over is durable.
  (K3) So whatever is found in it at any time is in the segments, or goes on where they end: an lsn
       that the tail has had is never given to another record.

Does not know: servers, replies.
"""

from __future__ import annotations

import logging
import mmap
from typing import Final, NamedTuple, final

from pybehave._uring.commit import Commit
from pybehave._uring.tail import marks_in, read_tail
from pybehave.errors import JournalRefused
from pybehave.journal.codec import Coder
from pybehave.journal.disk import BLOCK, Disk
from pybehave.journal.marks import Mark

TAIL: Final = "tail"
TAIL_BYTES_MIN: Final = 16 * BLOCK
"""Two areas, each with room for some runs."""

logger = logging.getLogger("pybehave.journal")


class Run(NamedTuple):
    """Records one after the other.

    Attributes:
        lsn: Of the first.
        records: How many.
        body: Their bytes, as in a frame.
    """

    lsn: int
    records: int
    body: bytes


@final
class TailFile:
    """The tail of one journal.

    Args:
        disk: Where it lies; locked by us.
        tail_bytes: Of a file that is not there yet.

    Attributes:
        runs: What the process before has left, behind the end of the segments.
    """

    def __init__(self, disk: Disk, tail_bytes: int) -> None:
        self.disk = disk
        self.runs: list[Run] = []
        self._bytes = tail_bytes
        self._journal_id = b""
        self._commit: Commit | None = None
        self._is_wanted = False
        self._is_adopting = False

    def read(self, journal_id: bytes, last_lsn: int, coder: Coder) -> None:
        """Find what is behind the end of the segments.

        Args:
            last_lsn: Of the last record that they have.
            coder: Opens what codecs have made.

        Raises:
            CodecRefused: It cannot be read without other codecs or keys.
        """
        self._journal_id = journal_id
        there = self.disk.shared_bytes(TAIL)
        if there:
            if there >= TAIL_BYTES_MIN and there % (2 * BLOCK) == 0:
                self._bytes = there  # else somebody has cut it, and it is made whole again
            pages = self.disk.shared(TAIL, there)
            found = read_tail(pages, journal_id, last_lsn, coder)
            self.runs = [Run(*run) for run in found]

    @property
    def records(self) -> int:
        """How many were found."""
        return sum(run.records for run in self.runs)

    def marks(self) -> list[Mark]:
        """Those among them that say something of records before them."""
        return [mark for run in self.runs for mark in marks_in(run.body, run.lsn, run.records)]

    def adopt(self, commit: Commit, *, is_wanted: bool) -> None:
        """Record again what was found (K1); the journal is open.

        Args:
            is_wanted: Keep records from then on.

        Raises:
            JournalRefused: It does not fit, for frames have become smaller.
        """
        self._commit, self._is_wanted = commit, is_wanted
        for run in self.runs:
            assert run.lsn == commit.next_lsn
            try:
                commit.adopt(run.body)
            except ValueError as error:
                raise JournalRefused(
                    f"{self.disk.path}/{TAIL}",
                    f"{error}; start with the frame_bytes_max that the journal had before",
                ) from error
        self._is_adopting = True
        commit.when_durable(commit.batch_of_last(), self._adopted)

    def want(self) -> None:
        """Keep records from now on; what is still to be adopted comes first."""
        self._is_wanted = True
        if self._commit is not None and not self._is_adopting and self._commit.tail is None:
            self._attach(self._commit)

    def _adopted(self) -> None:
        """What was in the file is durable elsewhere (K2)."""
        self._is_adopting = False
        assert self._commit is not None
        if self._is_wanted:
            self._attach(self._commit)

    def _attach(self, commit: Commit) -> None:
        pages = self.disk.shared(TAIL, self._bytes)
        is_own = isinstance(pages.obj, mmap.mmap) or getattr(self.disk, "is_simulated", False)
        if not is_own:
            logger.warning(
                'no file in %s can be mapped: replies at the level "os" wait for the disk',
                self.disk.path,
            )
            return
        commit.attach_tail(pages, self._journal_id)

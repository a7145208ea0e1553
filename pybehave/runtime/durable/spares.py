"""The next segment of a journal, prepared while the one before it fills.

To give a segment its zeros takes longer than clients should wait, so a thread does it ahead of the
roll. When the disk has no room for it, inputs are refused once the segment in use is full (F-15),
and the disk is asked again.

Does not know: what is written to a segment, when one is full.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final, final

from pybehave.journal import recovery
from pybehave.journal.disk import BLOCK
from pybehave.journal.segment_files import segment_name

if TYPE_CHECKING:
    from pybehave.runtime.durable.journaling import NodeJournal

RETRY_S: Final = 1.0
"""How often a full disk is asked again."""

AWAITED_S: Final = 1.0
"""How long a process that clients have waited for leaves the disk to them."""

LOOK_S: Final = 0.02
EARLY_PART: Final = 4
"""How often it looks meanwhile whether that part of its segment is used."""

RETRIES_LOGGED: Final = 300
"""Of so many tries one is logged: the first, and then one in five minutes."""

logger = logging.getLogger("pybehave.journal")


@final
class Spares:
    """Keeps a segment ready.

    Args:
        journal: Whose it is.
    """

    def __init__(self, journal: NodeJournal) -> None:
        self._journal = journal
        self._is_preparing = False
        self._refusals = 0
        self._fd = -1
        self._waits_until = 0.0

    def begin(self, *, is_awaited: bool) -> None:
        """Prepare the first, now or when those who wait for this process have been answered; and
        before it is needed.
        """
        journal = self._journal
        if is_awaited:
            self._waits_until = journal.node.loop.now() + AWAITED_S
        is_early = journal.node.loop.now() < self._waits_until
        used = journal.commit.block * BLOCK * EARLY_PART
        if is_early and journal.is_open and used < journal.segment_bytes:
            again = partial(self.begin, is_awaited=False)
            journal.node.loop.dispatcher.start_alarm(LOOK_S, again)
        else:
            self.prepare()

    def prepare(self) -> None:
        """Begin to prepare the next segment, unless there is one or it is under way."""
        journal = self._journal
        if self._is_preparing or not journal.is_open or not journal.commit.wants_spare:
            return
        self._is_preparing = True
        number = journal.commit.current_segment + 1

        def work() -> None:
            recovery.prepare(journal.disk, number, journal.segment_bytes)
            self._fd = journal.disk.open(segment_name(number))

        journal.off_loop(work, lambda _, error: self._prepared(number, error))

    def close(self) -> None:
        """Close what was prepared and not taken: no thread is at it any more."""
        if self._fd >= 0:
            self._journal.disk.close(self._fd)
            self._fd = -1

    def _prepared(self, number: int, error: BaseException | None) -> None:
        self._is_preparing = False
        journal = self._journal
        if not journal.is_open:
            return
        if error is None:
            if self._refusals:
                logger.warning("the journal in %s has room again", journal.disk.path)
            self._refusals = 0
            fd, self._fd = self._fd, -1
            journal.commit.give_spare(number, fd)
            journal.node.loop.dispatcher.resume_stalled()
        else:
            if self._refusals % RETRIES_LOGGED == 0:
                logger.error(
                    "the journal's next segment in %s cannot be made: %s", journal.disk.path, error
                )
            self._refusals += 1
            journal.commit.no_room()
            journal.node.loop.dispatcher.start_alarm(RETRY_S, self.prepare)

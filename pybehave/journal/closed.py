"""What a process that has just closed a journal says to the one that opens it next.

A start reads each segment to its end, for what may stand behind the last frame, and its spare, for
whether it is all zeros: 64 MiB each, with clients waiting. Whoever wrote them knows, or has looked
when it began. It is taken at its word only when the manifest says that nobody has opened the
journal since; and what counts is read and checked all the same.

Does not know: how it is said (runtime/release/handover.py).
"""

from __future__ import annotations

from typing import Any, Final, final

import msgspec

UNKNOWN: Final = 0


@final
class Closed(msgspec.Struct, frozen=True):
    """Where a journal ends.

    Attributes:
        journal_id: Which journal it is.
        epoch: The manifest's.
        segment: The last one.
        block_end: Its first block that nothing was written to.
        spare: The segment that is prepared, all zeros; 0 = none is.
        ends: The same of earlier segments that are not full: their numbers, and those blocks.
    """

    journal_id: bytes
    epoch: int
    segment: int
    block_end: int
    spare: int = UNKNOWN
    ends: tuple[tuple[int, int], ...] = ()

    def holds_for(self, manifest: Any) -> bool:
        """Whether nobody has opened the journal since."""
        now = (manifest.id, manifest.epoch, manifest.current, manifest.is_clean)
        return bool(now == (self.journal_id, self.epoch, self.segment, True))

    def blocks_of(self, segment: int, most: int) -> int:
        """How many blocks of a segment are to be read.

        Args:
            most: Blocks that it has.
        """
        return min({self.segment: self.block_end, **dict(self.ends)}.get(segment, most), most)

"""A store in memory: the contract without durability, for tests and for state that may be lost.

It survives nothing but its callers. Beside that it keeps every word of the contract, so what is
written against it runs on the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import count
from typing import final

from pybehave.journal.local_store import LocalStore
from pybehave.journal.store import Lease
from pybehave.journal.streams import INBOX_MESSAGES_MAX, Change, Kept


@final
class MemoryStore(LocalStore):
    """Streams in memory.

    Args:
        clock: Seconds, never going back.
        inbox_messages_max: How many messages may wait in one inbox.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        inbox_messages_max: int = INBOX_MESSAGES_MAX,
    ) -> None:
        super().__init__(clock, inbox_messages_max)
        self._contents: dict[int, bytes] = {}
        self._numbers = count(1)

    def _keep(self, change: Change) -> None:
        pass  # what is applied is kept

    def _settle(self) -> None:
        pass

    def _put_content(self, lease: Lease, sequence: int, content: bytes) -> Kept:
        number = next(self._numbers)
        self._contents[number] = content
        return Kept(lease.stream, sequence, lease.epoch, number, b"")

    def _get_content(self, kept: Sequence[Kept]) -> tuple[Kept, bytes] | None:
        content = self._contents.get(kept[0].number)
        return None if content is None else (kept[0], content)

    def _drop_content(self, kept: Sequence[Kept]) -> None:
        for each in kept:
            del self._contents[each.number]

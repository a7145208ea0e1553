"""Give back the memory that the start of many servers took and nobody needs any more.

Theory. A table that grows is copied into a larger one. The C library keeps what is freed for later,
and beside 100,000 servers there is no later: a third of what they took was such memory. When some
thousands have been started, and for a second none was, it is told to give back what it can: 1.5 ms
of the loop's time for a hundred thousand.

Does not know: servers. A C library that has no malloc_trim (musl) keeps what it has.
Source: malloc_trim(3).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Final, final

STARTED_MIN: Final = 10_000
"""Servers started since the last time; fewer have left a megabyte behind at most."""

QUIET_S: Final = 1.0
"""So long none was started: the others may still be on their way."""


def trim() -> None:
    """Let the C library give back whole pages that are free, wherever they lie."""
    found = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if found is not None:
        found(0)


@final
class Trimmer:
    """Counts starts, and trims when they are over.

    Args:
        after: Calls a function on the loop after so many seconds.
    """

    __slots__ = ("_after", "_count", "_is_due", "_seen")

    def __init__(self, after: Callable[[float, Callable[[], None]], None]) -> None:
        self._after = after
        self._count = 0
        self._seen = 0
        self._is_due = False

    def started(self) -> None:
        """One more server runs."""
        self._count += 1
        if self._count >= STARTED_MIN and not self._is_due:
            self._is_due = True
            self._wait()

    def _wait(self) -> None:
        self._seen = self._count
        self._after(QUIET_S, self._look)

    def _look(self) -> None:
        if self._count != self._seen:
            self._wait()
            return
        self._count = 0
        self._is_due = False
        trim()

"""The first minute of a release: its servers' crashes are counted, and too many say so.

Too many are as many as was asked for, or as many of one server as its supervisor tolerates: one
more, and it would give up, and there would be nothing left to take back.

Does not know: what follows (releases.py), how servers crash.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

from pybehave.runtime.events import ChildTerminated, Event

WATCH_S: Final = 60.0
"""How long a release is on probation: the first minute shows most mistakes."""

CRASHES: Final = 3
"""Crashes within that time which take it back, unless its supervisor would give up before."""


@final
class Probation:
    """Crashes of the servers of a new release.

    Args:
        paths: Where its servers stand, and how many crashes of each place are too many.
        crashes: How many are too many together.
        too_many: Called once when that is so.
    """

    def __init__(
        self, paths: dict[str, int], crashes: int, too_many: Callable[[str], None]
    ) -> None:
        self.crashes = 0
        self._paths = paths
        self._limit = crashes
        self._too_many: Callable[[str], None] | None = too_many

    def __call__(self, event: Event) -> None:
        """An event of supervision."""
        path = f"{event.supervisor}/{event.child}"
        if not isinstance(event, ChildTerminated) or path not in self._paths:
            return
        self.crashes += 1
        self._paths[path] -= 1
        tell = self._too_many
        if tell is not None and (self.crashes >= self._limit or self._paths[path] <= 0):
            self._too_many = None
            tell(f"{self.crashes} crashes since; the latest of {path}")

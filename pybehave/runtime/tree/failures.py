"""Failures that have not been outlived yet: of whom, how many in a row, since when.

Theory. One failure is an accident, a row of them is a state. A failure stands until its place has
been healthy for so many seconds; another one before that continues the row. So health recovers by
itself, and a crash loop is seen as one thing with an age, however fast it turns.

What is counted here costs a crash a dictionary's entry, and nothing else anything: whoever looks
does the work.

Invariants
  (F1) At most ROWS_MAX rows stand; for one more, the one that failed longest ago is dropped.
  (F2) A row holds names and numbers, no exception: an exception keeps the frames that it came
       through, and with them states.

Does not know: clocks (now is an argument), what a failure means for a node (health.py).
Source: Suture v4, failure decay; features.md A4-3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, final

ROWS_MAX: Final = 1000
"""Places that fail at the same time; who reads of more than that needs no longer list."""


@final
class Row:
    """Failures of one place, each less than a healthy time after the one before.

    Attributes:
        kind: What failed: "crashes", "steps", ...
        where: Path or name.
        within: The supervisor's path; "" where there is none.
        why: The latest failure in a word.
        count: How many.
        first: When the row began, monotonic seconds.
        latest: When it was continued last.
    """

    __slots__ = ("count", "first", "kind", "latest", "where", "why", "within")

    def __init__(self, kind: str, where: str, within: str, now: float) -> None:
        self.kind = kind
        self.where = where
        self.within = within
        self.why = ""
        self.count = 0
        self.first = self.latest = now


@final
class Failures:
    """The rows of one node.

    Args:
        healthy_after: Seconds without another failure after which a row is over.

    Attributes:
        failed: Failures of all time, by supervisor.
        restarted: Restarts of all time, by supervisor.
    """

    def __init__(self, healthy_after: float) -> None:
        self.healthy_after = healthy_after
        self.failed: dict[str, int] = {}
        self.restarted: dict[str, int] = {}
        self._rows: dict[tuple[str, str, str], Row] = {}  # the one that failed last comes last

    def note(
        self,
        kind: str,
        where: str,
        now: float,
        *,
        within: str = "",
        why: str = "",
        count: int = 1,
    ) -> None:
        """Take note of a failure, or of several at once.

        Args:
            kind, where, within, why: As for Row.
            now: Monotonic seconds.
            count: How many.
        """
        key = (kind, within, where)
        row = self._rows.pop(key, None)
        if row is None or now - row.latest >= self.healthy_after:
            row = Row(kind, where, within, now)
        row.count += count
        row.latest = now
        row.why = why
        self._rows[key] = row
        if len(self._rows) > ROWS_MAX:  # (F1)
            del self._rows[next(iter(self._rows))]

    def count(self, counters: dict[str, int], supervisor: str) -> None:
        """Count one more of a supervisor's: `failed` or `restarted`.

        Supervisors come and go; beyond ROWS_MAX of them, all others are counted as "".
        """
        try:
            counters[supervisor] += 1
        except KeyError:
            known = supervisor if len(counters) < ROWS_MAX else ""
            counters[known] = counters.get(known, 0) + 1

    def standing(self, now: float, is_down: Callable[[Row], bool] = lambda row: False) -> list[Row]:
        """Return the rows that are not over, and forget those that are.

        Args:
            now: Monotonic seconds.
            is_down: Says of a row whose time is over that its place is not back yet.
        """
        for key, row in list(self._rows.items()):
            if now - row.latest >= self.healthy_after and not is_down(row):
                del self._rows[key]
        return list(self._rows.values())

"""How far a long piece of work is: noted by who does it, read by who shows it, on any thread.

Theory. Work has phases, one behind the other; a phase has a total and a number of things done,
which only grows. Who works never calls who watches: a step that hangs is just what one wants to
see. The rate is that of the phase so far, and the time left what the rest takes at that rate.

Does not know: how it is shown, nor which clock it is (an argument).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

RATE_S_MIN: Final = 0.01
"""A phase that is younger has no rate yet."""


@final
@dataclass(frozen=True, slots=True)
class Moment:
    """Where the work stands.

    Attributes:
        phase: What is done: "reading", "replaying".
        unit: What is counted: "bytes", "records".
        done: So many of them.
        total: Of so many.
        rate: So many a second; 0 = not known yet.
        left_s: Seconds to the phase's end; None = not known yet.
    """

    phase: str
    unit: str
    done: int
    total: int
    rate: float
    left_s: float | None

    @property
    def sentence(self) -> str:
        """All of it for people."""
        share = f"{self.done * 100 // max(self.total, 1)} %"
        text = f"{self.phase} the journal: {self.amounts}, {share}"
        if self.left_s is None:
            return text
        return f"{text}, {self.speed}, {self.left_s:.0f} s left"

    @property
    def amounts(self) -> str:
        """What is done, of what."""
        if self.unit == "bytes":
            return f"{self.done / 1e6:,.0f} of {self.total / 1e6:,.0f} MB"
        return f"{self.done:,} of {self.total:,} {self.unit}"

    @property
    def speed(self) -> str:
        """The rate."""
        if self.unit == "bytes":
            return f"{self.rate / 1e6:,.0f} MB/s"
        return f"{self.rate:,.0f} {self.unit}/s"


@final
class Progress:
    """One piece of work.

    Args:
        clock: Seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._phase: tuple[str, str, int, Callable[[], int], float] | None = None

    def begin(self, phase: str, unit: str, total: int, done: Callable[[], int]) -> None:
        """A phase begins.

        Args:
            done: Says how many are done; called on other threads.
        """
        self._phase = phase, unit, total, done, self._clock()

    def end(self) -> None:
        """The last phase is over."""
        self._phase = None

    def moment(self) -> Moment | None:
        """Where it stands; None = nothing is under way."""
        found = self._phase
        if found is None:
            return None
        phase, unit, total, done_now, began = found
        done = min(done_now(), total)
        seconds = self._clock() - began
        if done <= 0 or seconds < RATE_S_MIN:
            return Moment(phase, unit, max(done, 0), total, 0.0, None)
        rate = done / seconds
        return Moment(phase, unit, done, total, rate, (total - done) / rate)

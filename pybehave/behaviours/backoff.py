"""Waiting before another attempt: longer each time, never in step with others.

Theory. A dependency that is down stays down for a while: to start again at once burns the restart
budget in microseconds, and when it is back, everybody at once is the next failure. So the n-th
failure in a row waits `first * factor ** (n - 1)` seconds, at most `maximum`, and jitter spreads
that. A run of `reset_after` seconds counts as healthy: the next failure is the first again.

| jitter         | a wait of d seconds becomes                                                   |
|----------------|-------------------------------------------------------------------------------|
| "none"         | d                                                                             |
| "half"         | between d and 1.5 d (Suture's)                                                |
| "full"         | between 0 and d                                                               |
| "decorrelated" | between `first` and three times the wait before, at most `maximum`            |

Does not know: clocks and random sources; `draw` is an argument.
Source: Suture v4, `DefaultJitter`; AWS Architecture Blog, "Exponential Backoff And Jitter", for the
last two; Akka, BackoffSupervisor, for the reset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal, TypeAlias, final

from pybehave.behaviours.rules import Rule, check, is_number, one_of, refused

Jitter: TypeAlias = Literal["none", "half", "full", "decorrelated"]

DOUBLINGS_MAX: Final = 64
"""Failures in a row that make a wait longer; by then any `maximum` is reached."""

_SECONDS: Final = Rule(lambda value: is_number(value) and value >= 0, "seconds >= 0")

_RULES: Final[Mapping[str, Rule]] = {
    "first": _SECONDS,
    "maximum": _SECONDS,
    "factor": Rule(lambda value: is_number(value) and value >= 1, "a number >= 1"),
    "jitter": one_of("none", "half", "full", "decorrelated"),
    "reset_after": _SECONDS,
}


@final
@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next attempt.

    Attributes:
        first: Seconds after the first failure.
        maximum: Seconds at most, before jitter.
        factor: So much longer after each further failure in a row.
        jitter: How a wait is spread.
        reset_after: Seconds without a failure after which the next one is the first again.

    Raises:
        SpecError: A field is not what it may be, or `maximum` is less than `first`.
    """

    first: float = 0.1
    maximum: float = 30.0
    factor: float = 2.0
    jitter: Jitter = "half"
    reset_after: float = 60.0

    def __post_init__(self) -> None:
        check("Backoff", _RULES, self.to_data())
        if self.maximum < self.first:
            raise refused("Backoff", "maximum", self.maximum, f"at least first={self.first}")

    def to_data(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def seconds(self, failures: int, before: float, draw: float) -> float:
        """Return how long to wait.

        Args:
            failures: In a row, this one included.
            before: The wait before, 0 if there was none.
            draw: A random number, 0 <= draw < 1.
        """
        plain = min(self.maximum, self.first * self.factor ** min(failures - 1, DOUBLINGS_MAX))
        if self.jitter == "none":
            return plain
        if self.jitter == "half":
            return plain * (1 + draw / 2)
        if self.jitter == "full":
            return plain * draw
        top = max(self.first, 3 * before)
        return min(self.maximum, self.first + (top - self.first) * draw)


BACKOFF_RULE: Final = Rule(
    lambda value: value is None or isinstance(value, Backoff), "a Backoff, or None for none"
)


@final
class Row:
    """Failures in a row: of one child, or of a supervisor that pauses.

    Attributes:
        failures: How many.
        wait: The latest, seconds.
        latest: When the latest was over and the next attempt began, monotonic seconds.
    """

    __slots__ = ("failures", "latest", "wait")

    def __init__(self) -> None:
        self.failures = 0
        self.wait = 0.0
        self.latest = 0.0

    def next(self, backoff: Backoff, now: float, draw: float) -> tuple[int, float]:
        """Return what one more failure makes of it, without taking note: how many, the wait."""
        is_healthy = self.failures == 0 or now - self.latest >= backoff.reset_after
        failures, before = (1, 0.0) if is_healthy else (self.failures + 1, self.wait)
        return failures, backoff.seconds(failures, before, draw)

    def note(self, failures: int, wait: float, now: float) -> None:
        """Take note of a failure and of the wait that follows."""
        self.failures, self.wait, self.latest = failures, wait, now + wait

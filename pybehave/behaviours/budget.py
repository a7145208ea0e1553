"""How many restarts a supervisor bears: OTP's sliding window, or a count that decays.

Theory. OTP keeps the times of the attempts and drops those before `now - period`; one more than
`intensity` is too many. Suture keeps one number: each failure adds 1, and it halves every `decay`
seconds, so that a burst is forgotten gradually and no failure is forgotten at once. Both are asked
before an attempt whether it would be one too many, and charged when it is made.

A run of `reset_after` seconds without an attempt clears either.

Does not know: clocks; `now` is an argument, monotonic seconds.
Source: OTP stdlib, supervisor, `add_restart/1`; Suture v4, `FailureDecay`, `FailureThreshold`.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from pybehave.behaviours.supervisor import Supervisor


@final
class Budget:
    """What a supervisor has charged.

    Attributes:
        attempts: When the last attempts were charged, at most `intensity` of them, and none from
            before the period of the latest: with an intensity that nobody reaches they would be
            kept for ever. Whether one more is too many depends on no others: see `is_exhausted`.
        count: With decay, the failures at the time of the latest.
    """

    __slots__ = ("_spec", "attempts", "count", "latest")

    def __init__(self, spec: Supervisor) -> None:
        self._spec = spec
        self.attempts: deque[float] = deque(maxlen=min(spec.intensity, sys.maxsize))
        self.count = 0.0
        self.latest: float | None = None

    def failures(self, now: float) -> float:
        """Return the decayed count."""
        decay = self._spec.decay
        if decay is None or self.latest is None or self._is_healthy(now):
            return 0.0
        return float(self.count * 0.5 ** ((now - self.latest) / decay))

    def is_exhausted(self, now: float) -> bool:
        """Say whether an attempt made now would be one too many.

        OTP drops the attempts before `now - period`, adds `now`, and gives up when more than
        `intensity` remain. That is so exactly when the attempt `intensity` places back is still
        within the period, bound included; so only that many are kept, and one is looked at.
        """
        spec = self._spec
        if spec.decay is not None:
            return self.failures(now) + 1 > spec.intensity
        attempts = self.attempts
        if len(attempts) < spec.intensity or (attempts and self._is_healthy(now)):
            return False
        return not attempts or attempts[0] >= now - spec.period

    def charged(self, now: float) -> float:
        """Return how many attempts count against the intensity; with decay, what is left."""
        if self._spec.decay is not None:
            return self.failures(now)
        if self._is_healthy(now):
            return 0.0
        self._expire(now)
        return float(len(self.attempts))

    def charge(self, now: float) -> None:
        """Take note of an attempt."""
        spec = self._spec
        if spec.reset_after is not None and self._is_healthy(now):
            self.clear()
        if spec.decay is not None:
            self.count = self.failures(now) + 1
        self._expire(now)
        self.attempts.append(now)
        self.latest = now

    def adopt(self, spec: Supervisor) -> None:
        """Go by other flags from now on; what was charged stays, the latest attempts first."""
        self._spec = spec
        self.attempts = deque(self.attempts, maxlen=min(spec.intensity, sys.maxsize))

    def clear(self) -> None:
        """Forget all attempts."""
        self.attempts.clear()
        self.count = 0.0
        self.latest = None

    def _expire(self, now: float) -> None:
        while self.attempts and self.attempts[0] < now - self._spec.period:
            self.attempts.popleft()

    def _is_healthy(self, now: float) -> bool:
        reset_after, latest = self._spec.reset_after, self.latest
        return reset_after is not None and latest is not None and now - latest >= reset_after

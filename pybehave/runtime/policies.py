"""Which recovery policy a journaled server gets when it fails: one, or the next of a ladder.

A server that fails again soon after it was started again has not been helped by its policy, so the
next one of its list is tried; one that has lived for a while begins at the first again. The last
one stays.

Does not know: how a policy is carried out (journaling.py, host.py).
"""

from __future__ import annotations

from typing import Any, Final, final

from pybehave.behaviours.child_spec import Worker

CALM_NS: Final = 5_000_000_000
"""After so long without a failure a ladder begins anew: OTP's default period of a supervisor."""


@final
class Policies:
    """What the servers of one journal were given at their latest failure."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, int]] = {}

    def failed(self, server: str, now_ns: int) -> None:
        """Take note of a failure."""
        count, at = self._failures.get(server, (0, 0))
        self._failures[server] = (count + 1 if now_ns - at <= CALM_NS else 1, now_ns)

    def of(self, worker: Worker[Any, Any]) -> Any:
        """Return what holds for the latest failure: a word, or a Rollback."""
        if not isinstance(worker.recovery, tuple):
            return worker.recovery
        count, _ = self._failures.get(worker.name, (1, 0))
        return worker.recovery[min(count, len(worker.recovery)) - 1]

"""Which recovery policy a journaled server gets when it fails: one, or the next of a ladder.

A server that fails again soon after it was started again has not been helped by its policy, so the
next one of its ladder is tried; one that has lived for a while begins at the first again. The last
one stays. Where the class of the exception selects the ladder, each ladder counts for itself: two
kinds of failures in turns climb both.

Does not know: how a policy is carried out (journaling.py, host.py), what selects a ladder
(behaviours/policies.py).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, final

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.policies import Row, ladder_of, row_of
from pybehave.errors import ApplicationEnded, show_reason

if TYPE_CHECKING:
    from pybehave._uring.servers import Server
    from pybehave.runtime.node import Node

CALM_NS: Final = 5_000_000_000
"""After so long without a failure a ladder begins anew: OTP's default period of a supervisor."""

logger = logging.getLogger("pybehave.journal")


@final
class Policies:
    """What the servers of one journal were given at their latest failure."""

    def __init__(self) -> None:
        self._failures: dict[tuple[str, Row], tuple[int, int]] = {}
        self._latest: dict[str, Row] = {}

    def failed(self, worker: Worker[Any, Any], reason: object, now_ns: int) -> None:
        """Take note of a failure.

        Args:
            worker: Whose.
            reason: What was raised.
            now_ns: Unix time.
        """
        row = self._latest[worker.name] = row_of(worker.recovery, reason)
        count, at = self._failures.get((worker.name, row), (0, 0))
        count = count + 1 if now_ns - at <= CALM_NS else 1
        self._failures[worker.name, row] = count, now_ns

    def forget(self, server: str) -> None:
        """A server is as if it had never been."""
        self._latest.pop(server, None)
        for key in [key for key in self._failures if key[0] == server]:
            del self._failures[key]

    def of(self, worker: Worker[Any, Any]) -> Any:
        """Return what holds for the latest failure: a word, or a Rollback."""
        row = self._latest.get(worker.name)
        ladder = ladder_of(worker.recovery, row)
        count, _ = self._failures.get((worker.name, row), (1, 0))
        return ladder[min(count, len(ladder)) - 1]


def stop_for(node: Node, server: Server, reason: object) -> None:
    """A server with the policy "stop" has failed: an operator is to look at it."""
    which = "an ephemeral input"
    if server.failed_lsn:
        which = f"the input of lsn {server.failed_lsn}, which is a dead letter"
    logger.critical(
        "server %r failed on %s, and its policy is to stop: the node ends, and the next start goes "
        "on with the state before it",
        server.name,
        which,
    )
    why = f"server {server.name!r} failed, and its policy is to stop: {show_reason(reason)}"
    error = ApplicationEnded(node.app.name, why)
    error.__cause__ = reason if isinstance(reason, BaseException) else None
    node.give_up(error)

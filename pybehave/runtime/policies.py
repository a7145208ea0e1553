"""Which recovery policy a journaled server gets when it fails: one, or the next of a ladder.

A server that fails again soon after it was started again has not been helped by its policy, so the
next one of its list is tried; one that has lived for a while begins at the first again. The last
one stays.

Does not know: how a policy is carried out (journaling.py, host.py).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, final

from pybehave.behaviours.child_spec import Worker
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
        self._failures: dict[str, tuple[int, int]] = {}

    def failed(self, server: str, now_ns: int) -> None:
        """Take note of a failure."""
        count, at = self._failures.get(server, (0, 0))
        self._failures[server] = (count + 1 if now_ns - at <= CALM_NS else 1, now_ns)

    def forget(self, server: str) -> None:
        """A server is as if it had never been."""
        self._failures.pop(server, None)

    def of(self, worker: Worker[Any, Any]) -> Any:
        """Return what holds for the latest failure: a word, or a Rollback."""
        if not isinstance(worker.recovery, tuple):
            return worker.recovery
        count, _ = self._failures.get(worker.name, (1, 0))
        return worker.recovery[min(count, len(worker.recovery)) - 1]


def stop_for(node: Node, server: Server, reason: object) -> None:
    """A server with the policy "stop" has failed: an operator is to look at it."""
    logger.critical(
        "server %r failed on the input of lsn %d, and its policy is to stop: the node ends; "
        "the input is a dead letter, and the next start goes on with the state before it",
        server.name,
        server.failed_lsn,
    )
    why = f"server {server.name!r} failed, and its policy is to stop: {show_reason(reason)}"
    error = ApplicationEnded(node.app.name, why)
    error.__cause__ = reason if isinstance(reason, BaseException) else None
    node.give_up(error)

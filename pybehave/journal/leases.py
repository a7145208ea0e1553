"""Which leases have not run out, by a clock that never goes back.

They are not kept on any disk: a store of one process is opened by one process, so whoever held a
lease before is gone. What must outlive the process is the epoch, and that is the streams'.

Does not know: streams, who asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

from pybehave.errors import Fenced, LeaseHeld
from pybehave.journal.store import Lease


@final
class Leases:
    """The leases of one store.

    Args:
        clock: Seconds, never going back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: dict[str, tuple[Lease, float]] = {}

    def check_free(self, stream: str) -> None:
        """Let pass when nobody holds it.

        Raises:
            LeaseHeld: Somebody does.
        """
        lease, end = self._held.get(stream, (None, 0.0))
        left_s = end - self._clock()
        if lease is not None and left_s > 0:
            raise LeaseHeld(stream, lease.holder, left_s)

    def grant(self, lease: Lease) -> None:
        """From now on it is held."""
        self._held[lease.stream] = lease, self._clock() + lease.ttl_s

    def check(self, lease: Lease, newest: int) -> None:
        """Let pass when the lease is not over.

        Args:
            newest: The newest epoch of its stream.

        Raises:
            Fenced: It is over.
        """
        held, end = self._held.get(lease.stream, (None, 0.0))
        if held is None or held.epoch != lease.epoch or end <= self._clock():
            raise Fenced(lease.stream, lease.epoch, newest)

    def end(self, lease: Lease) -> None:
        """Nobody holds it, unless another lease has followed."""
        held, _ = self._held.get(lease.stream, (None, 0.0))
        if held is not None and held.epoch == lease.epoch:
            del self._held[lease.stream]

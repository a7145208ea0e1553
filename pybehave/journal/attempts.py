"""Inputs that end the process: counted before they are stepped again, and put aside in time.

A step that raises is caught. One that ends the process (a fault in a library's C code, memory that
runs out, a watchdog that kills) would do so at every start: the journal is stepped again, a timer
that was due fires again, a message that had not arrived is brought again. So while such an input is
stepped, a marker in the journal's folder says which it is. The marker lies in a page of the file's
cache: writing it is a store, it outlives the process; a power cut, which it does not outlive, is
nobody's fault.

At the next start a marker that was left is one attempt of its input. The count is made durable
before anything is stepped; at ATTEMPTS_MAX the input is not stepped again and becomes a dead
letter. An input from a client that ends the process at its first step was not durable then: it is
gone, and a client that sends it again is refused by nobody.

Invariants
  (A1) An input is stepped at most ATTEMPTS_MAX times with the process ending in it each time.
  (A2) The counts are durable before the next attempt.

Does not know: how inputs are stepped, what becomes of those that are put aside.
Source: the delivery count of message brokers (AMQP 1.0, section 3.2.1).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final, final

import msgspec

from pybehave.journal.disk import Disk

ATTEMPTS_MAX: Final = 3
"""Once may be a coincidence (somebody else's kill), twice bad luck."""

ATTEMPTS: Final = "attempts.json"
MARKER: Final = "marker"
MARKER_BYTES: Final = 4096

MARK_REPLAY: Final = 1
MARK_TIMER: Final = 2
MARK_MESSAGE: Final = 3
"""What a marker says: the first of its three numbers; then the server's, then lsn or due time. For
a message of another input, or an answer to it: its index, then the lsn of that input."""

logger = logging.getLogger("pybehave.journal")


@final
@dataclass(frozen=True, slots=True)
class Suspect:
    """An input in which the process ended.

    Attributes:
        kind: MARK_REPLAY, MARK_TIMER or MARK_MESSAGE.
        server: The number of its server; of a message, its index among those of its input.
        key: Its lsn, or the Unix time in ns that the timer was due at; of a message, the lsn of the
            input that it follows from.
    """

    kind: int
    server: int
    key: int


class _Count(msgspec.Struct):
    kind: int
    server: int
    key: int
    attempts: int


@final
class Attempts:
    """The counts of one journal.

    Args:
        disk: Where it lies; locked by us.
    """

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.counts: dict[Suspect, int] = {}
        self.marker: memoryview | None = None

    def begin(self) -> None:
        """Count what the process before ended in, durably (A2), and clear the marker.

        Raises:
            OSError: The disk is full, or failed.
        """
        if ATTEMPTS in self.disk.names():
            self.counts = _decode(self.disk.read(ATTEMPTS, 0, self.disk.size(ATTEMPTS)))
        self.marker = self.disk.shared(MARKER, MARKER_BYTES).cast("Q")
        kind, server, key = self.marker[:3]
        if kind in (MARK_REPLAY, MARK_TIMER, MARK_MESSAGE) and key:
            suspect = Suspect(kind, server, key)
            self.counts[suspect] = self.counts.get(suspect, 0) + 1
            logger.warning(
                "the process before ended while it stepped %s (attempt %d of %d)",
                describe(suspect),
                self.counts[suspect],
                ATTEMPTS_MAX,
            )
            self._write()
        self.marker[0] = 0

    def are_counted(self) -> bool:
        """Whether inputs are known that have ended a process; also of a journal that others have.

        Raises:
            OSError: The counts cannot be read.
        """
        if ATTEMPTS not in self.disk.names():
            return False
        return bool(_decode(self.disk.read(ATTEMPTS, 0, self.disk.size(ATTEMPTS))))

    def poison(self, kind: int) -> list[Suspect]:
        """Return the inputs of a kind that are not to be stepped again."""
        return [
            suspect
            for suspect, count in self.counts.items()
            if suspect.kind == kind and count >= ATTEMPTS_MAX
        ]

    def keep(self, suspects: set[Suspect]) -> None:
        """Forget all others: they were stepped, or exist no more."""
        left = {suspect: n for suspect, n in self.counts.items() if suspect in suspects}
        if left != self.counts:
            self.counts = left
            self._write()

    def _write(self) -> None:
        found = [_Count(s.kind, s.server, s.key, count) for s, count in self.counts.items()]
        self.disk.put(f"{ATTEMPTS}.tmp", msgspec.json.encode(found))
        self.disk.rename(f"{ATTEMPTS}.tmp", ATTEMPTS)
        self.disk.sync_names()


def describe(suspect: Suspect) -> str:
    """Return what people call an input."""
    if suspect.kind == MARK_REPLAY:
        return f"the input of lsn {suspect.key}"
    if suspect.kind == MARK_MESSAGE:
        return f"message {suspect.server} of the input of lsn {suspect.key}"
    return f"the timer of server number {suspect.server} that was due at {suspect.key / 1e9:.3f}"


def _decode(content: memoryview) -> dict[Suspect, int]:
    try:
        found = msgspec.json.decode(content, type=list[_Count])
    except msgspec.MsgspecError as error:  # it is ours alone, and only a count
        logger.warning("%s cannot be read, counting begins anew: %s", ATTEMPTS, error)
        return {}
    return {Suspect(each.kind, each.server, each.key): each.attempts for each in found}

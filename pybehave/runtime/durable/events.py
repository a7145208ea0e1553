"""What a journal reports to the hooks of a node, beside what supervision does (events.py).

| event            | when                                                                         |
|------------------|------------------------------------------------------------------------------|
| RecoveryDone     | the journal has been read and stepped again; the tree starts next            |
| Quarantined      | an input is put aside: it is a dead letter, and is not stepped again         |
| SnapshotSaved    | a snapshot and all before it are durable                                     |
| SnapshotRejected | one could not be written, or, at a start, not be read: the one before counts |
| JournalFailed    | nothing can be written any more; the node stops                              |

They are told with `EventHub.hand_on`: the log has each already, in its place, with what an operator
needs. `supervisor` is empty, `child` is the server's name where there is one.

Whoever wants those of the start adds the hook before it: `Node(app)`, `events.add`, `start`.

Does not know: journals; who listens.
"""

from __future__ import annotations

import logging

from pybehave.runtime.events import Event


class RecoveryDone(Event, frozen=True):
    """A journal was recovered.

    Attributes:
        directory: Where it lies.
        outcome: `"new"`, `"clean"`, `"sealed"`, `"end"` or `"torn"` (docs/operating/journal.md).
        last_lsn: Of the last record that counts.
        replayed: Inputs that were stepped again.
        passed_over: Inputs that were not: they had failed, or are put aside.
        seconds: How long it all took.
    """

    directory: str
    outcome: str
    last_lsn: int
    replayed: int
    passed_over: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"the journal in {self.directory} is recovered ({self.outcome}) up to lsn "
            f"{self.last_lsn}: {self.replayed} inputs stepped again, {self.passed_over} passed "
            f"over, in {self.seconds:.3f} s"
        )


class Quarantined(Event, frozen=True):
    """An input of a server is a dead letter from now on.

    Attributes:
        lsn: Its number in the journal, and the letter's.
        why: What its step raised, or what became of the process.
    """

    level = logging.ERROR

    lsn: int
    why: str

    def __str__(self) -> str:
        return f"the input of lsn {self.lsn} of server {self.child!r} is put aside: {self.why}"


class SnapshotSaved(Event, frozen=True):
    """A snapshot is durable.

    Attributes:
        lsn: It holds the states behind this one.
    """

    level = logging.DEBUG

    lsn: int

    def __str__(self) -> str:
        return f"the snapshot of lsn {self.lsn} is durable"


class SnapshotRejected(Event, frozen=True):
    """A snapshot does not count.

    Attributes:
        lsn: Its number.
        why: What is wrong with it.
    """

    level = logging.ERROR

    lsn: int
    why: str

    def __str__(self) -> str:
        return f"the snapshot of lsn {self.lsn} does not count: {self.why}"


class JournalFailed(Event, frozen=True):
    """A write or a sync has failed, and is the last that was tried.

    Attributes:
        directory: Where the journal lies.
        why: What the system says.
    """

    level = logging.CRITICAL

    directory: str
    why: str

    def __str__(self) -> str:
        return f"the journal in {self.directory} cannot be written any more: {self.why}"

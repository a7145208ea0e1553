"""What a play of a script has come to: the first broken promise, the histories, the proof.

Does not know: how it came to that (playing.py), what is done about it (trial.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from pybehave.testing.linearizability import History
from pybehave.testing.script import Act

Promise: TypeAlias = Literal[
    "invariant", "crash", "history", "unanswered", "snapshot", "end", "start"
]
"""See the table in trial.py."""


@final
@dataclass(frozen=True, slots=True)
class Failure:
    """The first promise that was broken.

    Attributes:
        promise: Which one.
        name: More of it: the invariant's, the exception's, the server's.
        text: What happened, for people.
    """

    promise: Promise
    name: str
    text: str

    def __str__(self) -> str:
        return f"{self.promise} {self.name!r}: {self.text}"

    def is_like(self, other: Failure | None) -> bool:
        """Say whether another run has failed in the same way."""
        return other is not None and (self.promise, self.name) == (other.promise, other.name)


@final
@dataclass(frozen=True, slots=True)
class Played:
    """What a script has come to.

    Attributes:
        seed: Of the world.
        script: What happened.
        failure: The first broken promise, or None.
        trace_hash: Of all that clients heard and the loop did; the same in each replay.
        histories: What the clients saw, by server.
        counts: What was met: answers, errors, lives of the node, crashes, ...
        met: The names of servers that have said something.
        missed: Names that nobody had when they were asked for.
    """

    seed: int
    script: tuple[Act, ...]
    failure: Failure | None
    trace_hash: str
    histories: Mapping[str, History]
    counts: Counter[str]
    met: frozenset[str] = frozenset()
    missed: frozenset[str] = frozenset()

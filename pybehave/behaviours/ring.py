"""A bounded ring of events that many handlers read, each at its own pace.

Theory. Events are published under growing sequence numbers and lie in the ring once; handlers see
the object itself. Each handler has a sequence: the last event it is done with. A slot is free again
when every handler is past it, so the slowest one holds the publishers back: that is the back-
pressure, and what a full ring means is the publisher's policy. A handler that depends on others
takes an event only when they are done with it.

Invariants
  (R1) Sequences grow by one; an event is in the ring from its publishing until all are done with
       it.
  (R2) At most `capacity` events are in the ring.
  (R3) A handler sees the events in order, each at most once; all of them unless it was made to miss
       some (drop_oldest), which are counted.

Does not know: handlers' code, who publishes, what becomes of publishers that wait.
Source: M. Thompson et al., "Disruptor: High performance alternative to bounded queues for
exchanging data between concurrent threads" (LMAX, 2011): ring buffer, sequence, gating sequence,
sequence barrier.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any, Generic, TypeVar, final

T = TypeVar("T")


@final
class Ring(Generic[T]):
    """The events that somebody is not done with yet.

    Args:
        capacity: Events that may be in it.

    Raises:
        ValueError: It has no room at all.

    Attributes:
        published: The sequence of the latest event; 0 = none yet.
    """

    __slots__ = ("_events", "_first", "capacity", "published")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity={capacity} is not allowed; use 1 or more")
        self.capacity = capacity
        self.published = 0
        self._first = 1
        self._events: deque[T] = deque()

    def __len__(self) -> int:
        return len(self._events)

    @property
    def is_full(self) -> bool:
        """Whether there is no free slot (R2)."""
        return len(self._events) >= self.capacity

    @property
    def is_empty(self) -> bool:
        """Whether everybody is done with everything."""
        return not self._events

    @property
    def first(self) -> int:
        """The sequence of the oldest event in the ring; behind `published` when it is empty."""
        return self._first

    def publish(self, event: T) -> int:
        """Put an event in; its sequence.

        Raises:
            IndexError: The ring is full.
        """
        if self.is_full:
            raise IndexError("the ring is full")
        self._events.append(event)
        self.published += 1
        return self.published

    def offer(self, event: T) -> bool:
        """Put an event in if there is a free slot; whether there was."""
        if len(self._events) >= self.capacity:
            return False
        self._events.append(event)
        self.published += 1
        return True

    def offer_all(self, events: list[T]) -> int:
        """Put events in as far as there are free slots, the first first; how many."""
        taken = min(len(events), self.capacity - len(self._events))
        self._events.extend(events if taken == len(events) else events[:taken])
        self.published += taken
        return taken

    def get(self, sequence: int) -> T:
        """Return the event of a sequence that is in the ring."""
        return self._events[sequence - self._first]

    def slice(self, first: int, last: int) -> list[T]:
        """Return the events of these sequences, both included; all are in the ring."""
        start = first - self._first
        if start == 0 and last == self.published:
            return list(self._events)
        return list(islice(self._events, start, last - self._first + 1))

    def release(self, sequences: Iterable[int]) -> None:
        """Free what is behind all of these sequences; with none, everything."""
        gate = min(sequences, default=self.published)
        if gate == self.published:
            self.release_all()
        while self._first <= gate:
            self._events.popleft()
            self._first += 1

    def release_all(self) -> None:
        """Free everything: all are past it."""
        self._events.clear()
        self._first = self.published + 1

    def dump(self) -> list[Any]:
        """For a snapshot: what `load` takes."""
        return [self._first, list(self._events)]

    def load(self, dumped: list[Any]) -> None:
        """Take over what `dump` made."""
        self._first = dumped[0]
        self._events = deque(dumped[1])
        self.published = self._first + len(self._events) - 1

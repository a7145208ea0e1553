"""A model of the storage contract that is nothing but lists: what a store must answer.

It says what a call may return, or which exception it must raise, and shares no code with any store.
What the contract leaves open it leaves open, too: epochs and positions only have to grow, entries
that may be forgotten (S9) may still be there.

Does not know: time, but for whether a lease has run out; what a store survives.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

from pybehave.errors import (
    Fenced,
    InboxFull,
    LeaseHeld,
    NotQueued,
    SequenceMismatch,
    StoreRefused,
    Trimmed,
)
from pybehave.journal.store import Batch, Entry, Lease, Message, Store, StreamSnapshot


@final
@dataclass(slots=True)
class ModelStream:
    """All that one name stands for; `ends` is when the lease runs out, None = there is none."""

    epoch: int = 0
    ends: float | None = None
    entries: list[Entry] = field(default_factory=list)
    inbox: list[Message] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    snapshots: list[StreamSnapshot] = field(default_factory=list)

    def copy(self) -> ModelStream:
        """Return the same, to go on with in another way; what the lists hold never changes."""
        return ModelStream(
            self.epoch,
            self.ends,
            [*self.entries],
            [*self.inbox],
            {**self.numbers},
            [*self.snapshots],
        )

    @property
    def floor(self) -> int:
        """The first entry that must be there (S9)."""
        return self.snapshots[-2].sequence + 1 if len(self.snapshots) > 1 else 1


@final
class StoreModel:
    """What a store holds.

    Args:
        inbox_messages_max: How many messages may wait in one inbox.

    Attributes:
        streams: By name.
        now: What the clock says.
    """

    def __init__(self, inbox_messages_max: int = 1 << 30) -> None:
        self.streams: dict[str, ModelStream] = {}
        self.now = 0.0
        self._inbox_messages_max = inbox_messages_max

    def copy(self) -> StoreModel:
        """Return the same, to go on with in another way."""
        found = StoreModel(self._inbox_messages_max)
        found.streams, found.now = self._copies(), self.now
        return found

    def _copies(self) -> dict[str, ModelStream]:
        return {name: found.copy() for name, found in self.streams.items()}

    def stream(self, name: str) -> ModelStream:
        """What a name stands for."""
        return self.streams.setdefault(name, ModelStream())

    def lose_leases(self) -> None:
        """The process of all holders has ended."""
        for found in self.streams.values():
            found.ends = None

    # --- calls: None = it is done, or what is to be raised ---------------------------------------

    def acquire(self, stream: str) -> type[StoreRefused] | None:
        """`acquired` must follow, with what the store gave."""
        ends = self.stream(stream).ends
        return LeaseHeld if ends is not None and ends > self.now else None

    def acquired(self, lease: Lease) -> None:
        """The store has given a lease: the epoch is a new one (S4)."""
        found = self.stream(lease.stream)
        assert lease.epoch > found.epoch, "S4: an epoch that was there before"
        assert lease.sequence == len(found.entries), "the lease says another end"
        found.epoch, found.ends = lease.epoch, self.now + lease.ttl_s

    def is_over(self, lease: Lease) -> bool:
        """Whether a lease gives no right any more."""
        found = self.stream(lease.stream)
        return lease.epoch != found.epoch or found.ends is None or found.ends <= self.now

    def renew(self, lease: Lease) -> type[StoreRefused] | None:
        """As `Store.renew`."""
        if self.is_over(lease):
            return Fenced
        self.stream(lease.stream).ends = self.now + lease.ttl_s
        return None

    def release(self, lease: Lease) -> None:
        """As `Store.release`."""
        if lease.epoch == self.stream(lease.stream).epoch:
            self.stream(lease.stream).ends = None

    def commit(
        self, lease: Lease, expected: int, batch: Batch, taken: list[int]
    ) -> type[StoreRefused] | None:
        """As `Store.commit`.

        Args:
            taken: What the batch's positions are in the inbox, as indices; -1 = none.
        """
        found = self.stream(lease.stream)
        if self.is_over(lease):
            return Fenced
        if expected != len(found.entries):
            return SequenceMismatch
        if not all(0 <= index < len(found.inbox) for index in taken):
            return NotQueued
        before = self._copies()
        found.inbox = [each for index, each in enumerate(found.inbox) if index not in taken]
        if not self._queue(batch.sent):
            self.streams = before
            return InboxFull
        for content in batch.entries:
            found.entries.append(Entry(len(found.entries) + 1, lease.epoch, content))
        for client in batch.forgotten:
            numbers = found.numbers
            numbers.pop(client, None)
        return None

    def enqueue(self, stream: str, messages: list[Message]) -> type[StoreRefused] | None:
        """As `Store.enqueue`."""
        before = self._copies()
        if self._queue([(stream, message) for message in messages]):
            return None
        self.streams = before
        return InboxFull

    def _queue(self, sent: list[tuple[str, Message]] | tuple[tuple[str, Message], ...]) -> bool:
        for stream, message in sent:
            found = self.stream(stream)
            if message.number > found.numbers.get(message.client, 0):
                found.numbers[message.client] = message.number
                found.inbox.append(message)
                if len(found.inbox) > self._inbox_messages_max:
                    return False
        return True

    def put_snapshot(
        self, lease: Lease, sequence: int, content: bytes
    ) -> type[StoreRefused] | None:
        """As `Store.put_snapshot`."""
        found = self.stream(lease.stream)
        if self.is_over(lease):
            return Fenced
        if sequence > len(found.entries):
            return SequenceMismatch
        if not found.snapshots or sequence > found.snapshots[-1].sequence:
            found.snapshots.append(StreamSnapshot(sequence, lease.epoch, content))
        return None

    # --- what is seen ----------------------------------------------------------------------------

    def check(self, store: Store, name: str) -> None:
        """Compare everything that a stream shows."""
        wrong = self.difference(store, name)
        assert wrong is None, f"stream {name!r}: {wrong}"

    def difference(self, store: Store, name: str) -> str | None:
        """Say what of all that a stream shows is not as it should be; None = it is."""
        found = self.stream(name)
        waiting = store.inbox(name)
        positions = [each.position for each in waiting]
        snapshot = found.snapshots[-1] if found.snapshots else None
        if store.read(name, found.floor) != tuple(found.entries[found.floor - 1 :]):
            return f"its entries from {found.floor} on are not the {len(found.entries)} committed"
        if [each.message for each in waiting] != found.inbox:
            return f"{len(waiting)} messages wait, not the {len(found.inbox)} that were sent"
        if positions != sorted(set(positions)):
            return f"positions do not grow: {positions}"
        if store.get_snapshot(name) != snapshot:
            return "its snapshot is another one"
        return self._forgotten_difference(store, name, found)

    def _forgotten_difference(self, store: Store, name: str, found: ModelStream) -> str | None:
        """What may be gone is gone, or as it was."""
        first = 1
        try:
            left = store.read(name, first)
        except Trimmed as error:
            first = error.oldest
            if not 1 < first <= found.floor:
                return f"S9: what is before {first} is held by no snapshot"
            left = store.read(name, first)
        same = left == tuple(found.entries[first - 1 :])
        return None if same else f"its entries from {first} on are others"

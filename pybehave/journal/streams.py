"""What a store holds, and how each change changes it: values in, values out.

Theory. A call is looked at first (`plan_...`): either it is refused, or it is a *change*, a value
that says all that will be different. Then the change is applied, which cannot fail and depends on
nothing but the streams and the change. So a store in memory applies changes; a store on a disk
records them before, and applies them again after a restart (docs/internals/store.md).

Invariants
  (A1) `apply` of the same changes in the same order gives the same streams.
  (A2) A plan changes nothing; what it returns may be applied as long as nothing else was.
  (A3) A change holds no message that came before: what is applied is all new.

Does not know: leases that run out (leases.py), files, threads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias, final

import msgspec

from pybehave.errors import InboxFull, NotQueued, SequenceMismatch, Trimmed
from pybehave.journal.store import (
    READ_COUNT_MAX,
    SNAPSHOTS_KEPT,
    Batch,
    Entry,
    Message,
    Queued,
)

INBOX_MESSAGES_MAX: Final = 100_000
"""Of one stream: who does not take them for so long will not."""

Sent: TypeAlias = tuple[str, str, int, bytes]
"""Stream, client, number, content."""


class Acquired(msgspec.Struct, frozen=True, tag=1, array_like=True):
    """A stream has a new epoch."""

    stream: str
    epoch: int
    holder: str


class Committed(msgspec.Struct, frozen=True, tag=2, array_like=True):
    """A batch, under an epoch."""

    stream: str
    epoch: int
    entries: tuple[bytes, ...]
    taken: tuple[int, ...]
    sent: tuple[Sent, ...]
    forgotten: tuple[str, ...]


class Enqueued(msgspec.Struct, frozen=True, tag=3, array_like=True):
    """Messages for an inbox."""

    sent: tuple[Sent, ...]


class Kept(msgspec.Struct, frozen=True, tag=4, array_like=True):
    """A snapshot: its content lies elsewhere, under a number that no other has."""

    stream: str
    sequence: int
    epoch: int
    number: int
    digest: bytes


Change: TypeAlias = Acquired | Committed | Enqueued | Kept


@final
class Stream(msgspec.Struct, array_like=True):
    """All that one name stands for.

    Attributes:
        sequence: The last entry.
        entries: Those that are not forgotten.
        position: Of the latest message that was queued.
        inbox: Messages by position, in order.
        numbers: The highest number of each client.
        snapshots: Newest first.
    """

    epoch: int = 0
    holder: str = ""
    sequence: int = 0
    entries: list[tuple[int, bytes]] = []
    position: int = 0
    inbox: dict[int, tuple[str, int, bytes]] = {}
    numbers: dict[str, int] = {}
    snapshots: tuple[Kept, ...] = ()

    @property
    def oldest(self) -> int:
        """The first entry that can be read, or the next one."""
        return self.sequence - len(self.entries) + 1

    def waiting(self, after: int) -> Iterator[Queued]:
        """Yield the messages behind a position."""
        for position, (client, number, content) in self.inbox.items():
            if position > after:
                yield Queued(position, Message(client, number, content))


NOTHING: Final = Stream()
"""What a name stands for that nobody has used."""


@final
class Streams:
    """The streams of a store.

    Args:
        inbox_messages_max: How many messages may wait in one inbox.

    Attributes:
        by_name: Those that are not empty.
    """

    def __init__(self, inbox_messages_max: int = INBOX_MESSAGES_MAX) -> None:
        self.by_name: dict[str, Stream] = {}
        self._inbox_messages_max = inbox_messages_max

    def get(self, stream: str) -> Stream:
        """What a name stands for; it is not to be changed."""
        return self.by_name.get(stream, NOTHING)

    def read(self, stream: str, first: int, last: int) -> tuple[Entry, ...]:
        """Return entries, READ_COUNT_MAX at most.

        Raises:
            Trimmed: The first is gone.
        """
        found = self.get(stream)
        begin = first - found.oldest
        if begin < 0:
            raise Trimmed(stream, found.oldest)
        count = max(min(last - first + 1, READ_COUNT_MAX), 0)
        entries = found.entries[begin : begin + count]
        return tuple(Entry(first + at, *entry) for at, entry in enumerate(entries))

    # --- plans ---------------------------------------------------------------------------------

    def plan_acquire(self, stream: str, holder: str) -> Acquired:
        """Nobody holds it."""
        return Acquired(stream, self.get(stream).epoch + 1, holder)

    def plan_commit(
        self, stream: str, epoch: int, expected_sequence: int, batch: Batch
    ) -> Committed:
        """The epoch is the newest, and its lease is not over.

        Raises:
            SequenceMismatch, NotQueued, InboxFull: As `Store.commit` says.
        """
        found = self.get(stream)
        if found.sequence != expected_sequence:
            raise SequenceMismatch(stream, expected_sequence, found.sequence)
        for position in batch.taken:
            if position not in found.inbox:
                raise NotQueued(stream, position)
        sent = ((to, m.client, m.number, m.content) for to, m in batch.sent)
        new = self._new(sent, {stream: len(batch.taken)})
        return Committed(stream, epoch, batch.entries, batch.taken, new, batch.forgotten)

    def plan_enqueue(self, stream: str, messages: Sequence[Message]) -> Enqueued:
        """Return a change with the messages that are new; there may be none.

        Raises:
            InboxFull: They find no room.
        """
        sent = ((stream, m.client, m.number, m.content) for m in messages)
        return Enqueued(self._new(sent, {}))

    def is_newer(self, stream: str, sequence: int) -> bool:
        """Whether a snapshot is to be kept.

        Raises:
            SequenceMismatch: There are not so many entries.
        """
        found = self.get(stream)
        if sequence > found.sequence:
            raise SequenceMismatch(stream, sequence, found.sequence)
        return not found.snapshots or sequence > found.snapshots[0].sequence

    def _new(self, sent: Iterable[Sent], freed: Mapping[str, int]) -> tuple[Sent, ...]:
        """Those messages that did not come before (S7); they find room in their inboxes.

        Args:
            freed: How many messages leave an inbox in the same change.
        """
        highest: dict[tuple[str, str], int] = {}
        news: list[Sent] = []
        for each in sent:
            stream, client, number, _ = each
            known = self.get(stream).numbers.get(client, 0)
            if number > highest.get((stream, client), known):
                highest[stream, client] = number
                news.append(each)
        for stream, count in Counter(stream for stream, *_ in news).items():
            waiting = len(self.get(stream).inbox) - freed.get(stream, 0)
            if waiting + count > self._inbox_messages_max:
                raise InboxFull(stream, self._inbox_messages_max)
        return tuple(news)

    # --- changes -------------------------------------------------------------------------------

    def apply(self, change: Change) -> set[str]:
        """Let it be so; returns the streams that have new entries or messages."""
        match change:
            case Acquired():
                found = self._own(change.stream)
                assert change.epoch > found.epoch  # (S4)
                found.epoch, found.holder = change.epoch, change.holder
                return set()
            case Committed():
                return self._commit(change)
            case Enqueued():
                return self._queue(change.sent)
            case Kept():
                self._keep(change)
                return set()

    def _commit(self, change: Committed) -> set[str]:
        found = self._own(change.stream)
        assert change.epoch == found.epoch  # (S5)
        found.entries += [(change.epoch, content) for content in change.entries]
        found.sequence += len(change.entries)
        for position in change.taken:
            del found.inbox[position]
        woken = self._queue(change.sent)
        for client in change.forgotten:  # last: also what it has just sent to itself
            found.numbers.pop(client, None)
        return woken | ({change.stream} if change.entries else set())

    def _queue(self, sent: Iterable[Sent]) -> set[str]:
        woken = set()
        for stream, client, number, content in sent:
            found = self._own(stream)
            assert number > found.numbers.get(client, 0)  # (S7)
            found.numbers[client] = number
            found.position += 1
            found.inbox[found.position] = client, number, content
            woken.add(stream)
        return woken

    def _keep(self, change: Kept) -> None:
        """(S9)"""
        found = self._own(change.stream)
        found.snapshots = (change, *found.snapshots)[:SNAPSHOTS_KEPT]
        if len(found.snapshots) == SNAPSHOTS_KEPT:
            del found.entries[: max(found.snapshots[-1].sequence + 1 - found.oldest, 0)]

    def _own(self, stream: str) -> Stream:
        return self.by_name.setdefault(stream, Stream())


_changes = msgspec.msgpack.Decoder(Change)
_streams = msgspec.msgpack.Decoder(Stream)


def encode_change(change: Change) -> bytes:
    """Return a change as bytes (docs/journal-format.md, section 11)."""
    return msgspec.msgpack.encode(change)


def decode_change(data: bytes | memoryview) -> Change:
    """Return the change that these bytes are.

    Raises:
        msgspec.DecodeError: They are none.
    """
    found: Change = _changes.decode(data)
    return found


def encode_stream(stream: Stream) -> bytes:
    """Return all of a stream as bytes."""
    return msgspec.msgpack.encode(stream)


def decode_stream(data: bytes | memoryview) -> Stream:
    """Return the stream that these bytes are.

    Raises:
        msgspec.DecodeError: They are none.
    """
    return _streams.decode(data)

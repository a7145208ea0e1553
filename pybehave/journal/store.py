"""The storage contract: what a server's durable life asks of memory, a disk, or a cluster.

Theory. A store holds *streams*, each named, each with five things: a lease that says who may write,
a log of entries, an inbox of messages for whoever holds it, two snapshots, and numbers that tell
which messages have come before. One writer a stream, and that it is the right one is decided by the
store at the moment of the write: every write shows a lease, a lease has an *epoch*, epochs of a
stream strictly grow, and a write with another than the newest is refused. So a holder that was
asleep, or cut off, or believes its clock, can do no harm; a lease that runs out only decides when
somebody else may try (Lamport's ballots; Burrows, Chubby, 2006, "sequencers").

Everything that one input changes is one `commit`: entries, messages taken from the inbox, messages
to other streams. It happens whole or not at all, so nothing is ever left between two calls.

Guarantees, for every implementation (tests: pybehave/testing/store_conformance.py)
  (S1) Durable at return: what a method has said, or shown, survives whatever the store survives.
  (S2) Linearizable: each call happens at one moment between its begin and its end, for all streams.
  (S3) All or nothing: a call that raises a StoreRefused or ValueError has changed nothing.
  (S4) Epochs of a stream strictly grow, for ever; each `acquire` gives a new one.
  (S5) Fenced: when `acquire` has returned, nothing is written under an older epoch of that stream.
  (S6) Entries are numbered 1, 2, 3 ... without gaps, and never change. Their epochs never go back.
  (S7) A message is queued once, however often it is sent, for ever; messages keep their order.
  (S8) A subscription shows every entry behind its position once, in order, or says `Trimmed`.
  (S9) What is forgotten is held by a snapshot: entries up to the older of the two kept, no others.

Any other exception (DurabilityLost of a disk; a cluster that does not answer) means that the
outcome is unknown: the call has happened, will happen, or never does, and whole. `enqueue`,
`put_snapshot` and `release` are simply sent again. For `commit` the holder reads behind
`expected_sequence`: what it finds there under its own epoch is its own.

Clocks. The store's clock alone says when a lease runs out; only its rate matters, and only for how
soon: (S5) needs no clock. A holder counts on its own clock, from before it asked, and stops serving
what it has in memory when that time is over: it is wrong by the difference of the two rates.

Calls return when it is done, and may be made from any thread; many at once share the cost of a disk
or a network (decision 0022). A loop makes them from its worker threads.

Does not know: servers, loops, what bytes mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, final

NAME_BYTES_MAX: Final = 255
"""Of the names of streams, holders and clients, in UTF-8: what a file's name may have."""

BATCH_BYTES_MAX: Final = 1 << 20
"""Of all that one commit or enqueue carries; etcd takes 1.5 MiB in a request by default."""

BATCH_COUNT_MAX: Final = 100
"""Things that one commit or enqueue carries; etcd takes 128 operations in a transaction, and some
of them are conditions."""

READ_COUNT_MAX: Final = 1000
"""Entries or messages that one call returns at most; who wants more asks again behind the last."""

NUMBER_MAX: Final = 2**63 - 1
SNAPSHOTS_KEPT: Final = 2
TTL_S_MAX: Final = 86_400.0


@final
@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write to a stream, as long as it lasts.

    Attributes:
        stream: Which.
        holder: Whose, for people.
        epoch: What is compared at each write.
        ttl_s: It runs out so many seconds after it was acquired or renewed last.
        sequence: Where the stream ended when it was acquired; since then only the holder adds.
    """

    stream: str
    holder: str
    epoch: int
    ttl_s: float
    sequence: int


@final
@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a stream's log.

    Attributes:
        sequence: Its number, from 1.
        epoch: Of the lease under which it was committed.
        content: Whatever the holder says.
    """

    sequence: int
    epoch: int
    content: bytes


@final
@dataclass(frozen=True, slots=True)
class Message:
    """Something for a stream's inbox.

    Attributes:
        client: Who says it: a name that nobody else uses.
        number: From 1. One that is not above the highest that this client has sent to this stream
            came before, and is not queued again: a client sends in the order of its numbers.
        content: What is said.
    """

    client: str
    number: int
    content: bytes


@final
@dataclass(frozen=True, slots=True)
class Queued:
    """A message that waits in an inbox.

    Attributes:
        position: Its place there, from 1; a later message's is greater.
        message: What was enqueued.
    """

    position: int
    message: Message


@final
@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit changes, all of it at one moment.

    Attributes:
        entries: Contents that are appended to the log.
        taken: Positions of messages that leave the stream's own inbox.
        sent: Streams, and messages for their inboxes, queued as by `enqueue`.
        forgotten: Clients that will never send to this stream again: their numbers need not be
            remembered. This comes last.
    """

    entries: tuple[bytes, ...] = ()
    taken: tuple[int, ...] = ()
    sent: tuple[tuple[str, Message], ...] = ()
    forgotten: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it changes nothing."""
        return not (self.entries or self.taken or self.sent or self.forgotten)


@final
@dataclass(frozen=True, slots=True)
class StreamSnapshot:
    """What a stream's entries have come to.

    Attributes:
        sequence: The last entry that it contains.
        epoch: Of the lease under which it was put.
        content: Whatever the holder says.
    """

    sequence: int
    epoch: int
    content: bytes


class Subscription(Protocol):
    """One reader's place in a stream's log."""

    @property
    def position(self) -> int:
        """The last entry that `take` has returned; where to subscribe again after a restart."""

    def take(self) -> tuple[Entry, ...]:
        """Return what is behind the position, in order, and move it; empty when there is nothing.

        Returns:
            READ_COUNT_MAX entries at most: take again until nothing comes.

        Raises:
            Trimmed: The next entry is gone; get the snapshot, and subscribe behind it.
        """

    def close(self) -> None:
        """Be called no more."""


class Store(Protocol):
    """What keeps streams. A stream that nobody has written to is empty, and there is no other."""

    def acquire(self, stream: str, holder: str, ttl_s: float) -> Lease:
        """Become the one who may write to a stream.

        A lease that is held is not taken away, also not from a holder of the same name: it may be
        a process that still runs.

        Args:
            holder: For people; need not be unique.
            ttl_s: Seconds, up to TTL_S_MAX.

        Returns:
            A lease with an epoch that the stream never had (S4); all older ones are void (S5).

        Raises:
            LeaseHeld: Somebody's lease has not run out.
        """

    def renew(self, lease: Lease) -> None:
        """Let a lease last for its `ttl_s` from now on.

        Raises:
            Fenced: It is over.
        """

    def release(self, lease: Lease) -> None:
        """Give a lease back, so that nobody waits for its end; nothing happens if it is over."""

    def commit(self, lease: Lease, expected_sequence: int, batch: Batch) -> int:
        """Change the stream, and the inboxes of others, at one moment.

        With an empty batch it is a question: does this lease still hold, and does the stream end
        there? Who answers from memory asks that first, or lets time decide.

        Args:
            expected_sequence: The last entry that the caller knows of.

        Returns:
            The last entry now.

        Raises:
            Fenced: The lease is over. This is looked at first.
            SequenceMismatch: The stream ends elsewhere.
            NotQueued: A message that was to be taken is not there.
            InboxFull: A message finds no room.
            ValueError: The batch breaks a limit.
        """

    def read(self, stream: str, first: int, last: int | None = None) -> tuple[Entry, ...]:
        """Return entries in order.

        Args:
            first: The number of the first, from 1.
            last: Of the last; None, or more than there is, is the end.

        Returns:
            READ_COUNT_MAX of them at most, empty behind the end.

        Raises:
            Trimmed: The first is gone.
        """

    def enqueue(self, stream: str, messages: Sequence[Message]) -> int:
        """Put messages into a stream's inbox, all at one moment. No lease is needed.

        Returns:
            How many were new (S7).

        Raises:
            InboxFull: They find no room.
            ValueError: They break a limit.
        """

    def inbox(self, stream: str, after: int = 0) -> tuple[Queued, ...]:
        """Return the messages that wait, in order; they stay until a commit takes them.

        Args:
            after: Only those behind this position.

        Returns:
            READ_COUNT_MAX of them at most.
        """

    def subscribe(self, stream: str, after: int, wake: Callable[[], object]) -> Subscription:
        """Follow a stream's log, and hear of its inbox.

        Args:
            after: The last entry that the caller has.
            wake: Called after entries or messages have come: soon, on any thread, perhaps once for
                many, perhaps for nothing. It must neither block nor use the store; mostly it puts
                a note into a loop's inbox. It is a hint, and a cluster may lose one: whoever must
                not be late looks from time to time, too. What `take` returns has no gaps anyway.
        """

    def put_snapshot(self, lease: Lease, sequence: int, content: bytes) -> None:
        """Keep what the entries up to `sequence` have come to; they may be forgotten later (S9).

        One that is not newer than the newest is not kept, and that is no error.

        Raises:
            Fenced: The lease is over.
            SequenceMismatch: The stream ends before `sequence`.
        """

    def get_snapshot(self, stream: str) -> StreamSnapshot | None:
        """Return the newest that is sound, None when there was none yet."""

    def close(self) -> None:
        """Let go of everything; what is under way on other threads is finished first."""


# --- the door -------------------------------------------------------------------------------------


def check_name(what: str, name: str) -> None:
    """Refuse what is no name.

    Args:
        what: Whose, for the sentence: "stream", "holder", "client".

    Raises:
        ValueError: It is not.
    """
    size = len(name.encode("utf-8", "surrogatepass")) if isinstance(name, str) else 0
    if not 1 <= size <= NAME_BYTES_MAX:
        raise ValueError(
            f"{what}={name!r:.60} is not allowed; use a text of 1 to {NAME_BYTES_MAX} bytes"
        )


def check_number(what: str, number: int, least: int) -> None:
    """Refuse what is no number, or too small.

    Raises:
        ValueError: It is.
    """
    is_number = isinstance(number, int) and not isinstance(number, bool)
    if not is_number or not least <= number <= NUMBER_MAX:
        raise ValueError(f"{what}={number!r:.60} is not allowed; use an integer from {least} on")


def check_ttl(ttl_s: float) -> None:
    """Refuse a time that is none.

    Raises:
        ValueError: It is.
    """
    is_time = isinstance(ttl_s, (int, float)) and not isinstance(ttl_s, bool)
    if not is_time or not math.isfinite(ttl_s) or not 0 < ttl_s <= TTL_S_MAX:
        raise ValueError(
            f"ttl_s={ttl_s!r:.60} is not allowed; use seconds above 0, up to {TTL_S_MAX:.0f}"
        )


def check_content(what: str, content: bytes) -> None:
    """Refuse what is not bytes.

    Raises:
        ValueError: It is not.
    """
    if not isinstance(content, bytes):
        raise ValueError(f"{what} of type {type(content).__name__} is not allowed; use bytes")


def check_messages(messages: Iterable[Message]) -> None:
    """Refuse messages that break a limit; see `check_batch`.

    Raises:
        ValueError: They do.
    """
    count = size = 0
    for message in messages:
        check_name("client", message.client)
        check_number("number", message.number, 1)
        check_content("a message", message.content)
        count += 1
        size += len(message.content)
    _check_limits(count, size)


def check_batch(batch: Batch) -> None:
    """Refuse a batch that breaks a limit.

    Raises:
        ValueError: It does.
    """
    for content in batch.entries:
        check_content("an entry", content)
    for position in batch.taken:
        check_number("position", position, 1)
    if len(set(batch.taken)) != len(batch.taken):
        raise ValueError("a batch takes a message twice; name each position once")
    for client in batch.forgotten:
        check_name("client", client)
    for stream, _ in batch.sent:
        check_name("stream", stream)
    check_messages(message for _, message in batch.sent)
    contents = [*batch.entries, *(message.content for _, message in batch.sent)]
    count = len(contents) + len(batch.taken) + len(batch.forgotten)
    _check_limits(count, sum(map(len, contents)))


def _check_limits(count: int, size: int) -> None:
    if count > BATCH_COUNT_MAX:
        raise ValueError(f"{count} things at once are not allowed; use {BATCH_COUNT_MAX} at most")
    if size > BATCH_BYTES_MAX:
        raise ValueError(f"{size} bytes at once are not allowed; use {BATCH_BYTES_MAX} at most")

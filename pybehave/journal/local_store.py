"""What stores of one process have in common: the contract over `Streams`, under one lock.

Theory. Each call is one passage through the lock: look (leases, a plan), keep the change where it
outlives what it should, apply it, wait until it is durable, wake. A store says what "keep" and
"durable" mean (`_keep`, `_settle`). `_settle` may let go of the lock while it waits, so others get
in meanwhile: their changes are durable with ours, or later. Who only reads waits, too: what is
shown must not be taken back (S1).

Invariants
  (B1) Nothing is applied that was not kept before; nothing is kept that was not planned on exactly
       these streams.
  (B2) Nothing leaves a method before all that was applied then is durable.
  (B3) `wake` is called without the lock, for changes that are durable.

Does not know: disks.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar, final

from pybehave.errors import JournalBusy, JournalRefused, LoopClosed, StoreRefused
from pybehave.journal.leases import Leases
from pybehave.journal.store import (
    NUMBER_MAX,
    READ_COUNT_MAX,
    Batch,
    Entry,
    Lease,
    Message,
    Queued,
    Store,
    StreamSnapshot,
    Subscription,
    check_batch,
    check_content,
    check_messages,
    check_name,
    check_number,
    check_ttl,
)
from pybehave.journal.streams import (
    INBOX_MESSAGES_MAX,
    Acquired,
    Change,
    Committed,
    Enqueued,
    Kept,
    Streams,
)

Planned = TypeVar("Planned", bound=Change)


class LocalStore(Store, ABC):
    """A store of this process alone.

    Args:
        clock: Seconds, never going back: what leases are measured by.
        inbox_messages_max: How many messages may wait in one inbox.
    """

    def __init__(
        self, clock: Callable[[], float], inbox_messages_max: int = INBOX_MESSAGES_MAX
    ) -> None:
        self._lock = threading.Condition()
        self._streams = Streams(inbox_messages_max)
        self._leases = Leases(clock)
        self._followers: dict[str, list[_Follower]] = {}
        self._is_closed = False

    # --- what a store says ---------------------------------------------------------------------

    @abstractmethod
    def _keep(self, change: Change) -> None:
        """Let a change outlive whatever the store outlives, when `_settle` has returned.

        Raises:
            JournalBusy: Not now; after `_settle` there is room.
        """

    @abstractmethod
    def _settle(self) -> None:
        """Wait until all that was kept so far is durable; the lock may be let go meanwhile."""

    @abstractmethod
    def _put_content(self, lease: Lease, sequence: int, content: bytes) -> Kept:
        """Keep a snapshot's content, durably, under a number of its own; without the lock."""

    @abstractmethod
    def _get_content(self, kept: Sequence[Kept]) -> tuple[Kept, bytes] | None:
        """Return the content of the first that is there and sound; without the lock."""

    @abstractmethod
    def _drop_content(self, kept: Sequence[Kept]) -> None:
        """These are needed no more."""

    # --- leases --------------------------------------------------------------------------------

    def acquire(self, stream: str, holder: str, ttl_s: float) -> Lease:
        check_name("stream", stream)
        check_name("holder", holder)
        check_ttl(ttl_s)

        def plan() -> Acquired:
            self._leases.check_free(stream)
            return self._streams.plan_acquire(stream, holder)

        with self._open():
            change, _ = self._change(plan)
            sequence = self._streams.get(stream).sequence
            lease = Lease(stream, holder, change.epoch, float(ttl_s), sequence)
            self._leases.grant(lease)  # before anybody else gets in
            self._settle()
        return lease

    def renew(self, lease: Lease) -> None:
        with self._open():
            self._check(lease)
            self._leases.grant(lease)
            self._settle()

    def release(self, lease: Lease) -> None:
        with self._open():
            self._leases.end(lease)

    def _check(self, lease: Lease) -> None:
        self._leases.check(lease, self._streams.get(lease.stream).epoch)

    # --- the log -------------------------------------------------------------------------------

    def commit(self, lease: Lease, expected_sequence: int, batch: Batch) -> int:
        check_number("expected_sequence", expected_sequence, 0)
        check_batch(batch)

        def plan() -> Committed:
            self._check(lease)
            return self._streams.plan_commit(lease.stream, lease.epoch, expected_sequence, batch)

        woken: set[str] = set()
        with self._open():
            if batch.is_empty:
                plan()
            else:
                _, woken = self._change(plan)
            self._settle()
        self._wake(woken)
        return expected_sequence + len(batch.entries)

    def read(self, stream: str, first: int, last: int | None = None) -> tuple[Entry, ...]:
        check_name("stream", stream)
        check_number("first", first, 1)
        if last is not None:
            check_number("last", last, 0)
        with self._open():
            found = self._streams.read(stream, first, NUMBER_MAX if last is None else last)
            self._settle()
        return found

    # --- the inbox -----------------------------------------------------------------------------

    def enqueue(self, stream: str, messages: Sequence[Message]) -> int:
        check_name("stream", stream)
        check_messages(messages)

        def plan() -> Enqueued:
            return self._streams.plan_enqueue(stream, messages)

        count, woken = 0, set[str]()
        with self._open():
            if plan().sent:
                change, woken = self._change(plan)
                count = len(change.sent)
            self._settle()
        self._wake(woken)
        return count

    def inbox(self, stream: str, after: int = 0) -> tuple[Queued, ...]:
        check_name("stream", stream)
        check_number("after", after, 0)
        with self._open():
            found = tuple(islice(self._streams.get(stream).waiting(after), READ_COUNT_MAX))
            self._settle()
        return found

    # --- followers -----------------------------------------------------------------------------

    def subscribe(self, stream: str, after: int, wake: Callable[[], object]) -> Subscription:
        check_name("stream", stream)
        check_number("after", after, 0)
        follower = _Follower(self, stream, after, wake)
        with self._open():
            self._followers.setdefault(stream, []).append(follower)
        return follower

    def _forget(self, follower: _Follower) -> None:
        with self._lock:
            there = self._followers.get(follower.stream, [])
            if follower in there:
                there.remove(follower)
            if not there:
                self._followers.pop(follower.stream, None)

    def _wake(self, streams: Iterable[str]) -> None:
        """(B3)"""
        with self._lock:
            woken = [each for stream in streams for each in self._followers.get(stream, ())]
        for follower in woken:
            follower.wake()

    # --- snapshots -----------------------------------------------------------------------------

    def put_snapshot(self, lease: Lease, sequence: int, content: bytes) -> None:
        check_number("sequence", sequence, 1)
        check_content("a snapshot", content)
        with self._open():
            is_new = self._is_newer(lease, sequence)
            self._settle()
        if not is_new:
            return
        kept = self._put_content(lease, sequence, content)
        try:
            with self._open():
                before = self._streams.get(lease.stream).snapshots
                if self._is_newer(lease, sequence):
                    self._change(lambda: kept)
                needed = self._streams.get(lease.stream).snapshots
                self._settle()
        except StoreRefused:  # the lease has ended meanwhile
            self._drop_content([kept])
            raise
        self._drop_content([each for each in (kept, *before) if each not in needed])

    def _is_newer(self, lease: Lease, sequence: int) -> bool:
        self._check(lease)
        return self._streams.is_newer(lease.stream, sequence)

    def get_snapshot(self, stream: str) -> StreamSnapshot | None:
        check_name("stream", stream)
        while True:
            with self._open():
                kept = self._streams.get(stream).snapshots
                self._settle()
            if not kept:
                return None
            found = self._get_content(kept)
            with self._lock:
                is_gone = kept != self._streams.get(stream).snapshots
            if found is not None and (found[0] == kept[0] or not is_gone):
                return StreamSnapshot(found[0].sequence, found[0].epoch, found[1])
            if not is_gone:
                raise JournalRefused(
                    f"stream {stream!r}",
                    "none of its snapshots can be read; restore the store from a copy",
                )

    # --- the one passage -----------------------------------------------------------------------

    @contextlib.contextmanager
    def _open(self) -> Iterator[None]:
        """Under the lock, as long as the store is open."""
        with self._lock:
            if self._is_closed:
                raise LoopClosed("This store is closed; open another one")
            yield

    def _change(self, plan: Callable[[], Planned]) -> tuple[Planned, set[str]]:
        """Plan, keep, apply; returns the change, and the streams that have something new (B1)."""
        while True:
            change = plan()
            try:
                self._keep(change)
            except JournalBusy:
                self._settle()  # and then these are other streams
            else:
                return change, self._streams.apply(change)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True


@final
class _Follower(Subscription):
    """One reader's place."""

    def __init__(
        self, store: LocalStore, stream: str, after: int, wake: Callable[[], object]
    ) -> None:
        self.stream = stream
        self.wake = wake
        self._store = store
        self._position = after

    @property
    def position(self) -> int:
        return self._position

    def take(self) -> tuple[Entry, ...]:
        found = self._store.read(self.stream, self._position + 1)
        if found:
            self._position = found[-1].sequence
        return found

    def close(self) -> None:
        self._store._forget(self)

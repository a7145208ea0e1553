"""The storage contract as tests: what implements `pybehave.journal.store.Store` passes them all.

    class TestMyStore(StoreConformance):
        def open_store(self, clock):
            return MyStore(..., clock=clock)

    TestMyStoreAgainstTheModel = walk_beside_the_model(lambda clock: MyStore(..., clock=clock))

These are the sentences of the contract, one by one; the second line is of store_walk.py. A store
whose clock cannot be set, as a cluster's, gives another `Clock`, which waits.

Needs pytest (`pip install pybehave[testing]`). Does not know: what a store survives; that is each
one's own to prove.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from pybehave.errors import Fenced, LeaseHeld, NotQueued, SequenceMismatch, Trimmed
from pybehave.journal.store import (
    BATCH_BYTES_MAX,
    BATCH_COUNT_MAX,
    NAME_BYTES_MAX,
    READ_COUNT_MAX,
    TTL_S_MAX,
    Batch,
    Entry,
    Lease,
    Message,
    Store,
    StreamSnapshot,
)

TTL_S: Final = 10.0
WAKE_S: Final = 10.0
THREADS: Final = 8


class Clock:
    """The store's clock, under the test's control.

    Attributes:
        seconds: What it says.
    """

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Let so much time go by; one that cannot be set sleeps here."""
        self.seconds += seconds


class StoreConformance:
    """The sentences of the contract. Derive from it, and say how a store is opened."""

    @pytest.fixture
    def clock(self) -> Clock:
        """The clock that leases are measured by."""
        return Clock()

    def open_store(self, clock: Clock) -> Store:
        """Return an empty store; it is closed by the suite."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, clock: Clock) -> Iterator[Store]:
        """The store under test."""
        store = self.open_store(clock)
        yield store
        store.close()

    @pytest.fixture
    def lease(self, store: Store) -> Lease:
        """The right to write to the stream "a"."""
        return store.acquire("a", "me", TTL_S)

    # --- leases --------------------------------------------------------------------------------

    def test_a_lease_says_what_it_is(self, store: Store) -> None:
        lease = store.acquire("a", "me", TTL_S)
        assert lease == Lease("a", "me", lease.epoch, TTL_S, 0)
        assert lease.epoch > 0

    @pytest.mark.parametrize("holder", ["you", "me"])
    def test_a_lease_that_is_held_is_not_given_again(
        self, store: Store, lease: Lease, holder: str
    ) -> None:
        with pytest.raises(LeaseHeld) as refused:
            store.acquire("a", holder, TTL_S)
        assert (refused.value.stream, refused.value.holder) == ("a", "me")
        assert 0 < refused.value.left_s <= TTL_S
        assert store.commit(lease, 0, Batch((b"x",))) == 1

    def test_streams_have_leases_of_their_own(self, store: Store, lease: Lease) -> None:
        other = store.acquire("b", "you", TTL_S)
        store.commit(lease, 0, Batch((b"a",)))
        store.commit(other, 0, Batch((b"b",)))
        assert store.read("a", 1) == (Entry(1, lease.epoch, b"a"),)
        assert store.read("b", 1) == (Entry(1, other.epoch, b"b"),)

    def test_epochs_grow_whoever_acquires(self, store: Store, clock: Clock) -> None:
        epochs = []
        for how in range(6):
            lease = store.acquire("a", "me", TTL_S)
            epochs.append(lease.epoch)
            if how % 2:
                store.release(lease)
            else:
                clock.advance(TTL_S)
        assert epochs == sorted(set(epochs))

    def test_a_lease_says_where_the_stream_ends(self, store: Store, lease: Lease) -> None:
        store.commit(lease, 0, Batch((b"1", b"2")))
        store.release(lease)
        assert store.acquire("a", "you", TTL_S).sequence == 2

    def test_a_lease_that_has_run_out_may_not_write(
        self, store: Store, lease: Lease, clock: Clock
    ) -> None:
        clock.advance(TTL_S)
        for attempt in writes(store, lease):
            with pytest.raises(Fenced):
                attempt()
        assert store.read("a", 1) == ()
        assert store.get_snapshot("a") is None

    def test_a_lease_lasts_until_then(self, store: Store, lease: Lease, clock: Clock) -> None:
        clock.advance(TTL_S / 2)
        assert store.commit(lease, 0, Batch((b"x",))) == 1

    def test_a_lease_lasts_longer_when_it_is_renewed(
        self, store: Store, lease: Lease, clock: Clock
    ) -> None:
        for _ in range(4):
            clock.advance(TTL_S / 2)
            store.renew(lease)
        clock.advance(TTL_S / 2)
        with pytest.raises(LeaseHeld):
            store.acquire("a", "you", TTL_S)
        assert store.commit(lease, 0, Batch((b"x",))) == 1

    def test_a_fenced_holder_never_writes(self, store: Store, lease: Lease, clock: Clock) -> None:
        clock.advance(TTL_S)
        newer = store.acquire("a", "you", TTL_S)
        for attempt in writes(store, lease):
            with pytest.raises(Fenced) as refused:
                attempt()
            assert (refused.value.epoch, refused.value.newest) == (lease.epoch, newer.epoch)
        assert store.commit(newer, 0, Batch((b"mine",))) == 1
        assert store.read("a", 1) == (Entry(1, newer.epoch, b"mine"),)

    def test_what_is_released_is_free_at_once(self, store: Store, lease: Lease) -> None:
        store.release(lease)
        for attempt in writes(store, lease):
            with pytest.raises(Fenced):
                attempt()
        assert store.acquire("a", "you", TTL_S).epoch > lease.epoch

    def test_a_late_release_takes_nothing_from_who_followed(
        self, store: Store, lease: Lease
    ) -> None:
        store.release(lease)
        newer = store.acquire("a", "you", TTL_S)
        store.release(lease)
        assert store.commit(newer, 0, Batch((b"x",))) == 1

    # --- commit and read -----------------------------------------------------------------------

    def test_entries_are_numbered_without_gaps(self, store: Store, lease: Lease) -> None:
        assert store.commit(lease, 0, Batch((b"1", b"2"))) == 2
        assert store.commit(lease, 2, Batch((b"3",))) == 3
        assert [entry.sequence for entry in store.read("a", 1)] == [1, 2, 3]
        assert store.read("a", 2, 2) == (Entry(2, lease.epoch, b"2"),)
        assert store.read("a", 3, 2) == store.read("a", 4) == store.read("a", 99, 100) == ()
        assert store.read("nobody", 1) == ()

    @pytest.mark.parametrize("expected", [0, 1, 3, 100])
    def test_another_sequence_changes_nothing(
        self, store: Store, lease: Lease, expected: int
    ) -> None:
        store.commit(lease, 0, Batch((b"1", b"2")))
        with pytest.raises(SequenceMismatch) as refused:
            store.commit(lease, expected, Batch((b"x",), sent=(("b", Message("c", 1, b"")),)))
        assert (refused.value.expected, refused.value.actual) == (expected, 2)
        assert len(store.read("a", 1)) == 2
        assert store.inbox("b") == ()

    def test_a_commit_that_is_sent_again_is_refused(self, store: Store, lease: Lease) -> None:
        store.commit(lease, 0, Batch((b"once",)))
        with pytest.raises(SequenceMismatch):
            store.commit(lease, 0, Batch((b"once",)))
        assert store.read("a", 1) == (Entry(1, lease.epoch, b"once"),)

    def test_an_empty_batch_asks(self, store: Store, lease: Lease) -> None:
        assert store.commit(lease, 0, Batch()) == 0
        with pytest.raises(SequenceMismatch):
            store.commit(lease, 1, Batch())
        store.release(lease)
        with pytest.raises(Fenced):
            store.commit(lease, 0, Batch())

    def test_everything_in_a_batch_or_nothing(self, store: Store, lease: Lease) -> None:
        store.enqueue("a", [Message("c", 1, b"in")])
        (queued,) = store.inbox("a")
        whole = Batch((b"x",), (queued.position,), (("b", Message("a", 1, b"out")),))
        with pytest.raises(NotQueued) as refused:
            store.commit(lease, 0, replace(whole, taken=(queued.position, queued.position + 7)))
        assert refused.value.position == queued.position + 7
        assert (store.read("a", 1), store.inbox("a"), store.inbox("b")) == ((), (queued,), ())
        store.commit(lease, 0, whole)
        assert store.read("a", 1) == (Entry(1, lease.epoch, b"x"),)
        assert store.inbox("a") == ()
        assert [each.message.content for each in store.inbox("b")] == [b"out"]

    def test_a_long_read_comes_in_pieces(self, store: Store, lease: Lease) -> None:
        count = READ_COUNT_MAX + 1
        for first in range(0, count, BATCH_COUNT_MAX):
            some = range(first, min(first + BATCH_COUNT_MAX, count))
            store.commit(lease, first, Batch(tuple(b"%d" % number for number in some)))
        assert len(store.read("a", 1)) == READ_COUNT_MAX
        (last,) = store.read("a", READ_COUNT_MAX + 1)
        assert last == Entry(count, lease.epoch, b"%d" % (count - 1))

    # --- the inbox -----------------------------------------------------------------------------

    def test_messages_wait_in_order_until_they_are_taken(self, store: Store, lease: Lease) -> None:
        assert store.enqueue("a", [Message("c", 1, b"1"), Message("d", 5, b"2")]) == 2
        assert store.enqueue("a", [Message("c", 3, b"3")]) == 1
        waiting = store.inbox("a")
        assert [each.message.content for each in waiting] == [b"1", b"2", b"3"]
        assert [each.position for each in waiting] == sorted({each.position for each in waiting})
        assert store.inbox("a", waiting[0].position) == waiting[1:]
        store.commit(lease, 0, Batch(taken=(waiting[1].position,)))
        assert store.inbox("a") == (waiting[0], waiting[2])
        with pytest.raises(NotQueued):
            store.commit(lease, 0, Batch(taken=(waiting[1].position,)))

    def test_a_message_is_queued_once_also_when_it_was_taken(
        self, store: Store, lease: Lease
    ) -> None:
        message = Message("c", 7, b"once")
        assert store.enqueue("a", [message, message]) == 1
        assert store.enqueue("a", [message]) == 0
        (queued,) = store.inbox("a")
        store.commit(lease, 0, Batch(taken=(queued.position,)))
        sent = ("a", message)
        assert store.commit(lease, 0, Batch(sent=(sent, sent))) == 0
        assert store.enqueue("a", [Message("c", 6, b"late"), message]) == 0
        assert store.inbox("a") == ()
        assert store.enqueue("a", [Message("d", 1, b"another")]) == 1

    def test_a_client_that_is_forgotten_begins_anew(self, store: Store, lease: Lease) -> None:
        store.enqueue("a", [Message("c", 7, b"once")])
        store.commit(lease, 0, Batch(forgotten=("c", "nobody")))
        assert store.enqueue("a", [Message("c", 1, b"again")]) == 1

    def test_nobody_needs_a_lease_to_send(self, store: Store) -> None:
        assert store.enqueue("new", [Message("c", 1, b"x")]) == 1
        assert store.acquire("new", "me", TTL_S).sequence == 0

    # --- subscriptions -------------------------------------------------------------------------

    def wait_for_wake(self, woken: threading.Event) -> None:
        """Return when a hint has come, or when it is too late for one."""
        woken.wait(WAKE_S)

    def test_a_subscription_shows_each_entry_once(self, store: Store, lease: Lease) -> None:
        store.commit(lease, 0, Batch((b"1", b"2")))
        woken = threading.Event()
        reader = store.subscribe("a", 1, woken.set)
        assert [entry.sequence for entry in reader.take()] == [2]
        assert (reader.take(), reader.position) == ((), 2)
        woken.clear()
        store.commit(lease, 2, Batch((b"3", b"4")))
        self.wait_for_wake(woken)
        assert [entry.content for entry in reader.take()] == [b"3", b"4"]
        reader.close()
        assert store.subscribe("a", reader.position, woken.set).take() == ()

    def test_without_any_hint_nothing_is_missed(self, store: Store, lease: Lease) -> None:
        reader = store.subscribe("a", 0, lambda: None)
        contents = [b"%d" % number for number in range(20)]
        seen: list[Entry] = []
        for number, content in enumerate(contents):
            store.commit(lease, number, Batch((content,)))
            if number % 3 == 0:
                seen += reader.take()
        seen += reader.take()
        assert [entry.content for entry in seen] == contents

    def test_messages_wake_too(self, store: Store) -> None:
        woken = threading.Event()
        reader = store.subscribe("a", 0, woken.set)
        woken.clear()
        store.enqueue("a", [Message("c", 1, b"x")])
        self.wait_for_wake(woken)
        assert woken.is_set()
        reader.close()

    def test_who_has_closed_is_woken_no_more(self, store: Store, lease: Lease) -> None:
        woken = threading.Event()
        store.subscribe("a", 0, woken.set).close()
        woken.clear()
        store.commit(lease, 0, Batch((b"x",)))
        assert not woken.is_set()

    # --- snapshots -----------------------------------------------------------------------------

    def test_the_newest_snapshot_is_found(self, store: Store, lease: Lease) -> None:
        assert store.get_snapshot("a") is None
        store.commit(lease, 0, Batch((b"1", b"2", b"3")))
        for sequence in (1, 3, 2, 3):
            store.put_snapshot(lease, sequence, b"up to %d" % sequence)
        assert store.get_snapshot("a") == StreamSnapshot(3, lease.epoch, b"up to 3")

    def test_a_snapshot_of_entries_that_do_not_exist_is_refused(
        self, store: Store, lease: Lease
    ) -> None:
        with pytest.raises(SequenceMismatch):
            store.put_snapshot(lease, 1, b"")
        assert store.get_snapshot("a") is None

    def test_only_what_a_snapshot_holds_is_forgotten(self, store: Store, lease: Lease) -> None:
        store.commit(lease, 0, Batch(tuple(b"%d" % number for number in range(1, 11))))
        store.put_snapshot(lease, 3, b"3")
        assert len(store.read("a", 1)) == 10  # there is no other snapshot to fall back on
        store.put_snapshot(lease, 7, b"7")
        assert [entry.sequence for entry in store.read("a", 4)] == list(range(4, 11))
        try:
            assert len(store.read("a", 1)) == 10
        except Trimmed as error:
            assert error.oldest <= 4
            assert store.read("a", error.oldest)[0].sequence == error.oldest

    def test_a_reader_that_is_too_late_is_told(self, store: Store, lease: Lease) -> None:
        reader = store.subscribe("a", 0, lambda: None)
        for sequence in range(1, 4):
            store.commit(lease, sequence - 1, Batch((b"%d" % sequence,)))
            store.put_snapshot(lease, sequence, b"s%d" % sequence)
        try:
            assert [entry.sequence for entry in reader.take()] == [1, 2, 3]
        except Trimmed:
            snapshot = store.get_snapshot("a")
            assert snapshot is not None
            reader = store.subscribe("a", snapshot.sequence, lambda: None)
            assert [entry.sequence for entry in reader.take()] == []
        assert reader.position == 3 or reader.position == store.read("a", 3)[0].sequence

    # --- limits --------------------------------------------------------------------------------

    def test_names_have_limits(self, store: Store) -> None:
        for name in ("", "x" * (NAME_BYTES_MAX + 1), "ü" * (NAME_BYTES_MAX // 2 + 1), None, 7):
            for attempt in named(store, name):
                with pytest.raises(ValueError, match="is not allowed; use a text of 1 to"):
                    attempt()
        longest = "x" * NAME_BYTES_MAX
        assert store.acquire(longest, longest, TTL_S).stream == longest

    @pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf"), TTL_S_MAX + 1, True, "1"])
    def test_times_have_limits(self, store: Store, ttl_s: Any) -> None:
        with pytest.raises(ValueError, match=r"ttl_s=.* is not allowed; use seconds above 0"):
            store.acquire("a", "me", ttl_s)
        assert store.acquire("a", "me", TTL_S_MAX).ttl_s == TTL_S_MAX

    def test_batches_have_limits(self, store: Store, lease: Lease) -> None:
        message = Message("c", 1, b"")
        half = b"x" * (BATCH_BYTES_MAX // 2)
        for batch, why in (
            (Batch((b"",) * (BATCH_COUNT_MAX + 1)), "things at once"),
            (Batch((half,), sent=(("b", replace(message, content=half + b"x")),)), "bytes at once"),
            (Batch(taken=(1, 1)), "twice"),
            (Batch(taken=(0,)), "position=0"),
            (Batch(("text",)), "an entry of type str"),  # type: ignore[arg-type]
            (Batch(sent=(("", message),)), "stream="),
            (Batch(forgotten=("",)), "client="),
        ):
            with pytest.raises(ValueError, match=why):
                store.commit(lease, 0, batch)
        assert store.commit(lease, 0, Batch((b"",) * BATCH_COUNT_MAX)) == BATCH_COUNT_MAX
        assert store.commit(lease, BATCH_COUNT_MAX, Batch((half, half))) == BATCH_COUNT_MAX + 2

    @pytest.mark.parametrize("number", [0, -1, 1 << 63, True, 1.5, "1"])
    def test_messages_have_limits(self, store: Store, number: Any) -> None:
        with pytest.raises(ValueError, match=r"number=.* is not allowed; use an integer from 1 on"):
            store.enqueue("a", [Message("b", 1, b""), Message("c", number, b"")])
        assert store.inbox("a") == ()

    # --- many at once --------------------------------------------------------------------------

    def test_of_many_one_acquires(self, store: Store) -> None:
        got: list[Lease] = []

        def attempt(_: int) -> None:
            with contextlib.suppress(LeaseHeld):
                got.append(store.acquire("a", "me", TTL_S))

        at_once(attempt)
        assert len(got) == 1

    def test_of_many_commits_on_one_sequence_one_is_done(self, store: Store, lease: Lease) -> None:
        done: list[int] = []

        def attempt(number: int) -> None:
            for sequence in range(10):
                try:
                    store.commit(lease, sequence, Batch((b"%d" % number,)))
                except SequenceMismatch:
                    continue
                done.append(sequence)

        at_once(attempt)
        assert sorted(done) == list(range(len(store.read("a", 1))))

    def test_many_streams_do_not_meet(self, store: Store) -> None:
        def attempt(number: int) -> None:
            lease = store.acquire(f"s{number}", "me", TTL_S)
            for sequence in range(20):
                sent = (("all", Message(f"s{number}", sequence + 1, b"x")),)
                store.commit(lease, sequence, Batch((b"%d.%d" % (number, sequence),), (), sent))

        at_once(attempt)
        for number in range(THREADS):
            contents = [entry.content for entry in store.read(f"s{number}", 1)]
            assert contents == [b"%d.%d" % (number, sequence) for sequence in range(20)]
        waiting = [each.message for each in store.inbox("all")]
        for number in range(THREADS):
            assert [m.number for m in waiting if m.client == f"s{number}"] == list(range(1, 21))


def writes(store: Store, lease: Lease) -> list[Callable[[], object]]:
    """Whatever needs a lease that is not over."""
    return [
        lambda: store.commit(lease, 0, Batch((b"x",))),
        lambda: store.commit(lease, 0, Batch()),
        lambda: store.commit(lease, 99, Batch((b"x",))),
        lambda: store.renew(lease),
        lambda: store.put_snapshot(lease, 1, b"x"),
    ]


def named(store: Store, name: Any) -> list[Callable[[], object]]:
    """Whatever takes a name."""
    return [
        lambda: store.acquire(name, "me", TTL_S),
        lambda: store.acquire("a", name, TTL_S),
        lambda: store.read(name, 1),
        lambda: store.enqueue(name, []),
        lambda: store.enqueue("a", [Message(name, 1, b"")]),
        lambda: store.inbox(name),
        lambda: store.subscribe(name, 0, lambda: None),
        lambda: store.get_snapshot(name),
    ]


def at_once(attempt: Callable[[int], None]) -> None:
    """Run something on many threads; what one of them raises is raised here."""
    failed: list[BaseException] = []
    gate = threading.Barrier(THREADS)

    def run(number: int) -> None:
        try:
            gate.wait()
            attempt(number)
        except BaseException as error:  # noqa: BLE001 -- it is raised below
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]

"""Random walks of a store beside a model: each call must do what the model says.

    TestMyStore = walk_beside_the_model(lambda clock: MyStore(..., clock=clock))

Hypothesis looks for the shortest walk that does not. See store_conformance.py for the sentences.

Needs Hypothesis (`pip install pybehave[testing]`). Does not know: what a store survives, but for
what `reopen` does to it.
"""

from __future__ import annotations

import unittest
from collections.abc import Callable
from typing import Any, Final, cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from pybehave.errors import StoreRefused, Trimmed
from pybehave.journal.store import Batch, Entry, Lease, Message, Store
from pybehave.testing.store_conformance import TTL_S, Clock
from pybehave.testing.store_model import StoreModel

STREAMS: Final = ("a", "b")
STEPS: Final = 40

streams = st.sampled_from(STREAMS)
contents = st.binary(max_size=3)
messages = st.builds(Message, st.sampled_from(("c", "d")), st.integers(1, 6), contents)


class Walk(RuleBasedStateMachine):
    """One store, one model, the same calls. `open_store` and `reopen` are set by the subclass."""

    open_store: Callable[[Clock], Store]
    reopen: Callable[[Store, Clock], Store] | None = None
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.store = type(self).open_store(self.clock)
        self.model = StoreModel()
        self.model.now = self.clock()
        self.seen: dict[str, list[Entry]] = {name: [] for name in STREAMS}
        self.follow()

    def follow(self) -> None:
        """Read on where we stopped."""
        self.readers = {
            name: self.store.subscribe(name, len(self.seen[name]), lambda: None) for name in STREAMS
        }

    def teardown(self) -> None:
        """The end of a walk."""
        self.store.close()

    def agree(self, expected: type[StoreRefused] | None, call: Callable[[], Any]) -> Any:
        """The store does what the model says."""
        try:
            result = call()
        except StoreRefused as error:
            assert type(error) is expected, f"{error}; the model says {expected}"
            return None
        assert expected is None, f"it is done; the model says {expected}"
        return result

    @rule(target=leases, stream=streams, holder=st.sampled_from(("x", "y")))
    def acquire(self, stream: str, holder: str) -> Any:
        """Somebody asks for a lease."""
        expected = self.model.acquire(stream)
        lease = self.agree(expected, lambda: self.store.acquire(stream, holder, TTL_S))
        if lease is None:
            return multiple()
        assert (lease.stream, lease.holder, lease.ttl_s) == (stream, holder, TTL_S)
        self.model.acquired(lease)
        return lease

    @rule(lease=leases)
    def renew(self, lease: Lease) -> None:
        """Somebody wants to go on."""
        self.agree(self.model.renew(lease), lambda: self.store.renew(lease))

    @rule(lease=leases)
    def release(self, lease: Lease) -> None:
        """Somebody has enough."""
        self.model.release(lease)
        self.store.release(lease)

    @rule(seconds=st.sampled_from((TTL_S / 4, TTL_S / 4, TTL_S)))
    def wait(self, seconds: float) -> None:
        """Time goes by."""
        self.clock.advance(seconds)
        self.model.now = self.clock()

    @rule(
        lease=leases,
        shift=st.sampled_from((0, 0, 0, 0, 1, -1)),
        entries=st.lists(contents, max_size=3),
        taken=st.sets(st.integers(0, 3), max_size=2),
        sent=st.lists(st.tuples(streams, messages), max_size=2),
        forgotten=st.sets(st.sampled_from(("c", "d")), max_size=1),
    )
    def commit(
        self,
        lease: Lease,
        shift: int,
        entries: list[bytes],
        taken: set[int],
        sent: list[tuple[str, Message]],
        forgotten: set[str],
    ) -> None:
        """Somebody writes, who may or not, with an end that is right or not."""
        waiting = self.store.inbox(lease.stream)
        beyond = waiting[-1].position + 1 if waiting else 1
        places = [
            waiting[index].position if index < len(waiting) else beyond + index for index in taken
        ]
        sequence = max(len(self.model.stream(lease.stream).entries) + shift, 0)
        batch = Batch(tuple(entries), tuple(places), tuple(sent), tuple(forgotten))
        expected = self.model.commit(lease, sequence, batch, list(taken))
        last = self.agree(expected, lambda: self.store.commit(lease, sequence, batch))
        assert expected is not None or last == sequence + len(entries)

    @rule(stream=streams, sent=st.lists(messages, max_size=3))
    def enqueue(self, stream: str, sent: list[Message]) -> None:
        """Somebody sends, perhaps again."""
        before = len(self.model.stream(stream).inbox)
        expected = self.model.enqueue(stream, sent)
        count = self.agree(expected, lambda: self.store.enqueue(stream, sent))
        assert count == len(self.model.stream(stream).inbox) - before

    @rule(lease=leases, back=st.integers(-1, 4), content=contents)
    def put_snapshot(self, lease: Lease, back: int, content: bytes) -> None:
        """Somebody keeps a state."""
        sequence = max(len(self.model.stream(lease.stream).entries) - back, 1)
        expected = self.model.put_snapshot(lease, sequence, content)
        self.agree(expected, lambda: self.store.put_snapshot(lease, sequence, content))

    @rule(stream=streams)
    def take(self, stream: str) -> None:
        """A reader looks (S8)."""
        seen, entries = self.seen[stream], self.model.stream(stream).entries
        try:
            seen += self.readers[stream].take()
        except Trimmed as error:
            assert len(seen) + 1 < error.oldest <= self.model.stream(stream).floor
            snapshot = self.store.get_snapshot(stream)
            assert snapshot is not None
            seen += entries[len(seen) : snapshot.sequence]
            self.readers[stream] = self.store.subscribe(stream, snapshot.sequence, lambda: None)
        else:
            assert seen == entries
        assert self.readers[stream].position == len(seen)

    @rule()
    def open_again(self) -> None:
        """The process of all holders and readers ends, and another one goes on."""
        reopen = type(self).reopen
        if reopen is not None:
            self.store = reopen(self.store, self.clock)
            self.model.lose_leases()
            self.follow()

    @invariant()
    def shows_what_the_model_holds(self) -> None:
        """Whatever has happened."""
        for name in STREAMS:
            self.model.check(self.store, name)


def walk_beside_the_model(
    open_store: Callable[[Clock], Store],
    reopen: Callable[[Store, Clock], Store] | None = None,
    *,
    walks: int = 100,
) -> type[unittest.TestCase]:
    """Return a test case, to be a module's variable whose name begins with `Test`.

    Args:
        open_store: Opens an empty store.
        reopen: Ends a store as a process does, and opens what is left. None = it cannot.
        walks: How many are tried.
    """
    chosen: dict[str, object] = {"open_store": staticmethod(open_store)}
    if reopen is not None:
        chosen["reopen"] = staticmethod(reopen)
    walk: type[Walk] = type("StoreWalk", (Walk,), chosen)
    case = cast("type[unittest.TestCase]", walk.TestCase)
    chosen_settings = settings(max_examples=walks, stateful_step_count=STEPS, deadline=None)
    case.settings = chosen_settings  # type: ignore[attr-defined]
    return case

"""A random life of a store on a simulated disk, with power cuts and failing disks inside its calls.

One seed is one life: calls of all kinds, mostly right ones; in half of them the power goes after
some operation of the disk, or an operation fails. What the machine may find then is opened several
times over, and each time it must be what the model held before the call, or what it holds behind
it, and nothing between; a call that had returned must be found done. Recovery is cut off, too. The
life goes on with one of the states found.

Does not know: how a store keeps things; the model is pybehave/testing/store_model.py.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from pybehave.errors import DurabilityLost, JournalFull, RecordTooLarge, StoreRefused
from pybehave.journal.disk_store import DiskStore
from pybehave.journal.recovery import Options
from pybehave.journal.store import Batch, Lease, Message
from pybehave.testing.disk import PowerCut, SimDisk
from pybehave.testing.store_model import StoreModel

CALLS = 80
CUTS = 3
"""Crash states tried of each power cut."""

NESTED_MAX = 3
FULL_FOR = 25
"""Calls for which a disk stays full: enough to use up a segment."""

TTL_S = 10.0
STREAMS = ("a", "b", "c")
SIZES = (0, 1, 50, 700, 4000, 9000)
OPTIONS = Options(segment_bytes=64 << 10, frame_bytes_max=40 << 10)

Call = tuple[str, Callable[[], Any], Callable[[StoreModel], Any]]


class StoreLife:
    """One seed.

    Attributes:
        counts: What happened, by name; "states" are crash states that were opened and checked.
    """

    def __init__(self, seed: int, *, cuts: int = CUTS) -> None:
        self.random = random.Random(seed)
        self.cuts = cuts
        self.counts: Counter[str] = Counter()
        self.model = StoreModel()
        self.leases: list[Lease] = []
        self.numbers: Counter[str] = Counter()
        self.full_for = 0
        self.disk = SimDisk(seed)
        self.store = self.open(self.disk)

    def open(self, disk: SimDisk) -> DiskStore:
        return DiskStore(
            disk,
            OPTIONS,
            clock=lambda: self.model.now,
            unix_ns=lambda: 1,
            make_id=lambda: b"i" * 16,
        )

    def run(self, calls: int = CALLS) -> None:
        for _ in range(calls):
            self.model.now += self.random.choice((0, 0, 0, 0, 1, TTL_S))
            is_idle = all(map(self.model.is_over, self.leases))
            call = self.random.choices(
                (self.commit, self.enqueue, self.acquire, self.put_snapshot, self.release),
                (10, 3, 20 if is_idle else 2, 5, 1),
            )[0]()
            if call is not None:
                self.carry_out(*call)
                if self.random.randrange(30) == 0:
                    self.close()

    # --- calls: what to do, and what it means ---------------------------------------------------

    def acquire(self) -> Call | None:
        stream = self.random.choice(STREAMS)
        if self.model.acquire(stream) is not None:
            return None
        return "acquire", lambda: self.store.acquire(stream, "me", TTL_S), StoreModel.acquired

    def release(self) -> Call | None:
        lease = self.a_lease()
        if lease is None:
            return None
        return "release", lambda: self.store.release(lease), lambda model: model.release(lease)

    def commit(self) -> Call | None:
        lease = self.a_lease()
        if lease is None:
            return None
        waiting = self.store.inbox(lease.stream)
        taken = sorted(self.random.sample(range(len(waiting)), min(len(waiting), 2)))
        sent = [(self.random.choice(STREAMS), self.a_message()) for _ in range(self.dice(3))]
        batch = Batch(
            tuple(self.content() for _ in range(self.dice(3))),
            tuple(waiting[index].position for index in taken),
            tuple(sent),
            ("c9",) * self.dice(2),
        )
        sequence = len(self.model.stream(lease.stream).entries) + self.random.choice(
            (0,) * 9 + (1,)
        )
        return (
            "commit",
            lambda: self.store.commit(lease, sequence, batch),
            lambda model: model.commit(lease, sequence, batch, taken),
        )

    def enqueue(self) -> Call:
        stream = self.random.choice(STREAMS)
        sent = [self.a_message() for _ in range(1 + self.dice(2))]
        return (
            "enqueue",
            lambda: self.store.enqueue(stream, sent),
            lambda model: model.enqueue(stream, sent),
        )

    def put_snapshot(self) -> Call | None:
        lease = self.a_lease()
        if lease is None:
            return None
        sequence = max(len(self.model.stream(lease.stream).entries) - self.dice(3), 1)
        content = self.content()
        return (
            "put_snapshot",
            lambda: self.store.put_snapshot(lease, sequence, content),
            lambda model: model.put_snapshot(lease, sequence, content),
        )

    def a_lease(self) -> Lease | None:
        """Mostly one that holds, now and then one of former times."""
        good = [lease for lease in self.leases if not self.model.is_over(lease)]
        some = self.leases if self.random.randrange(10) == 0 else good
        return self.random.choice(some) if some else None

    def a_message(self) -> Message:
        client = f"c{self.dice(3)}"
        self.numbers[client] += self.random.choice((1, 1, 1, 0))
        return Message(client, max(self.numbers[client], 1), self.content())

    def content(self) -> bytes:
        return self.random.randbytes(1) * self.random.choice(SIZES)

    def dice(self, sides: int) -> int:
        return self.random.randrange(sides)

    # --- what becomes of them -------------------------------------------------------------------

    def carry_out(self, what: str, call: Callable[[], Any], apply: Callable[..., Any]) -> None:
        before = self.model.copy()
        self.plan_trouble()
        expected = apply(self.model) if what != "acquire" else None
        self.counts[what] += 1
        try:
            result = call()
        except StoreRefused as error:
            assert type(error) is expected
            self.counts["refused"] += 1
        except (JournalFull, RecordTooLarge):
            self.counts["no room"] += 1
            self.model = before
        except (PowerCut, DurabilityLost, OSError) as error:
            self.counts[type(error).__name__] += 1
            self.crash(before, self.model)
            return
        else:
            assert expected is None
            if what == "acquire":
                apply(self.model, result)
                self.leases.append(result)
        if self.full_for == 0:
            self.disk.heal()
        if self.dice(10) == 0:
            self.crash(self.model, self.model)

    def plan_trouble(self) -> None:
        if self.full_for:
            self.full_for -= 1
            return
        what = self.dice(16)
        if what == 15 and self.dice(4) == 0:
            self.disk.fail(errno.ENOSPC, kinds=("fill",), is_forever=True)
            self.full_for = FULL_FOR
        elif what < 5:
            self.disk.cut_at = self.disk.operations + 1 + self.dice(8)
        elif what == 5:
            kind = self.random.choice(("write", "names", "put", "read"))
            self.disk.fail(errno.EIO, at=1 + self.dice(3), kinds=(kind,))
        elif what == 6:
            self.disk.fail(errno.ENOSPC, kinds=("fill", "put"))

    def crash(self, before: StoreModel, after: StoreModel) -> None:
        """Whatever is found is one of the two; the life goes on with the last."""
        self.full_for = 0
        for model in (before, after):
            model.lose_leases()
        is_killed = not self.disk._is_off and self.dice(3) == 0
        for _ in range(self.cuts):
            disk = self.disk.copy() if is_killed else self.disk.cut(self.random)
            if self.dice(3) == 0:
                disk = self.crash_again(disk)
            store = self.open(disk)
            found = self.compare(store, before, after)
            self.counts["states"] += 1
            self.counts["based"] += any(name.startswith("snap-") for name in disk.names())
        self.disk, self.store, self.model = disk, store, found.copy()
        self.model.now = max(before.now, after.now)

    def crash_again(self, disk: SimDisk) -> SimDisk:
        """Cut recovery off."""
        for _ in range(1 + self.dice(NESTED_MAX)):
            disk.cut_at = disk.operations + 1 + self.dice(14)
            with contextlib.suppress(PowerCut):
                self.open(disk)
            disk = disk.cut(self.random)
            self.counts["nested"] += 1
        return disk

    def compare(self, store: DiskStore, before: StoreModel, after: StoreModel) -> StoreModel:
        if all(after.difference(store, stream) is None for stream in STREAMS):
            return after
        self.check(before, store)
        self.counts["undone"] += 1
        return before

    def check(self, model: StoreModel, store: DiskStore) -> None:
        for stream in STREAMS:
            model.check(store, stream)

    def close(self) -> None:
        self.disk.heal()
        self.full_for = 0
        self.store.close()
        self.model.lose_leases()
        self.store = self.open(self.disk)
        self.check(self.model, self.store)
        self.counts["closes"] += 1


def play(seed: int, *, cuts: int = CUTS) -> StoreLife:
    """One life; a failure says how to see it again."""
    logger = logging.getLogger("pybehave")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)  # disks fail by the thousand here
    try:
        life = StoreLife(seed, cuts=cuts)
        life.run()
    except BaseException as error:
        error.add_note(f"seed {seed}: run again with  pytest tests/journal --journal-seed {seed}")
        raise
    finally:
        logger.setLevel(level)
    return life

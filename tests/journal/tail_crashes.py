"""Random lives of a journal with a tail: kills and power cuts at any moment, in any order.

One seed is one life: records, keeps (the level "os"), frames in flight, starts that want the tail
and starts that do not, each ended by a kill, which leaves the kernel's pages as they are, or by a
power cut, which leaves of each page what it was at some time. Beside that, after every step copies
are killed and cut, also in the middle of a start. What is found must be a beginning of what was
recorded; behind a kill it has all that was kept, behind a power cut all that was durable (rules K1
to K3 of pybehave/journal/tail.py).

Does not know: servers, replies; how a tail is laid out.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter

from pybehave._uring.commit import Commit
from pybehave.errors import JournalBusy, JournalFull, RecordTooLarge
from pybehave.journal.recovery import MANIFEST, Options, Recovery, prepare, recover
from pybehave.journal.segment_files import segment_name
from pybehave.journal.tail import TAIL, TailFile
from pybehave.testing.disk import PowerCut, SimDisk
from tests.journal.engine import begin
from tests.journal.marked import Marked
from tests.journal.model import RECORD, Model, read_back

STEPS = 80
INPUT = 1
LINE = 64
"""Of the processor's cache."""

SIZES = (0, 8, 30, 100, 700, 4000, 12_000)


class TailLife:
    """One seed.

    Attributes:
        counts: What happened, by name; "states" are those that were recovered and checked.
        kept: The last lsn that outlives a kill.
    """

    def __init__(self, seed: int, *, has_codec: bool = False) -> None:
        self.random = random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.options = Options(
            segment_bytes=self.random.choice((128, 192)) << 10,
            frame_bytes_max=64 << 10,
            depth=self.random.choice((1, 2)),
            tail_bytes=self.random.choice((64, 128)) << 10,
            codec=(Marked(),) if has_codec else (),
        )
        self.disk = SimDisk(seed)
        self.model = Model()
        self.kept = 0
        self.flying: list[tuple[int, int]] = []
        self.open()

    def run(self, steps: int = STEPS) -> None:
        actions = {
            self.record: 12, self.keep: 8, self.pump: 5, self.complete: 5, self.spare: 5,
            self.kill: 1, self.lose_power: 1,
        }  # fmt: skip
        for action in self.random.choices(list(actions), list(actions.values()), k=steps):
            action()
            if action != self.record:
                self.die()

    # --- one start ------------------------------------------------------------------------------

    def recover(self, disk: SimDisk) -> tuple[Recovery, TailFile]:
        disk.lock()
        try:
            tail = TailFile(disk, self.options.tail_bytes)
            found = recover(disk, self.options, now_ns=1, make_id=lambda: b"i" * 16, tail=tail)
        finally:
            disk.unlock()
        return found, tail

    def open(self) -> None:
        found, tail = self.recover(self.disk)
        last_lsn = found.last_lsn + tail.records
        self.model.cut(last_lsn)
        self.model.acked = found.last_lsn
        self.kept = last_lsn
        self.manifest_fd = self.disk.open(MANIFEST)
        self.commit: Commit = begin(self.disk, found, self.options, self.manifest_fd)
        is_wanted = self.random.randrange(4) > 0
        tail.adopt(self.commit, is_wanted=is_wanted)
        self.counts["adopted"] += bool(tail.records)
        self.counts["unwanted"] += not is_wanted
        assert self.commit.next_lsn == last_lsn + 1, "K1"

    # --- steps ----------------------------------------------------------------------------------

    def record(self) -> None:
        for _ in range(self.random.choice((1, 1, 2, 5))):
            payload = self.random.randbytes(1) * self.random.choice(SIZES)
            with contextlib.suppress(JournalBusy, JournalFull, RecordTooLarge):
                self.commit.record(INPUT, 1, payload, self.random.randrange(1, 1 << 40))
            self.learn()

    def learn(self) -> None:
        """Add to the model what has been recorded, bytes as they are."""
        for first_lsn, records, body in self.commit.pending():
            at = 0
            for lsn in range(first_lsn, first_lsn + records):
                size, kind, _, _, server, _ = RECORD.unpack_from(body, at)
                end = at + RECORD.size + size
                if lsn > self.model.recorded:
                    self.model.add(kind, server, body[at + RECORD.size : end])
                at = end
        assert self.model.recorded == self.commit.next_lsn - 1

    def keep(self) -> None:
        before = self.pages(self.disk)
        if self.commit.keep_now():
            self.survive(self.killed_within(before), self.kept)
            self.kept = self.model.recorded
            self.counts["keeps"] += 1
        else:
            self.counts["not kept"] += 1

    def pages(self, disk: SimDisk) -> bytes:
        count = disk.shared_bytes(TAIL)
        return bytes(disk.shared(TAIL, count)) if count else b""

    def killed_within(self, before: bytes) -> SimDisk:
        """A kill in the middle of a keep: of each line of memory it has been written or not."""
        disk = self.disk.copy()
        pages = disk.shared(TAIL, disk.shared_bytes(TAIL))
        for at in range(0, len(pages), LINE):
            if pages[at : at + LINE] != before[at : at + LINE] and self.random.getrandbits(1):
                pages[at : at + LINE] = before[at : at + LINE]
        return disk

    def pump(self) -> None:
        while (wanted := self.commit.take_write(1)) is not None:
            slot, fd, offset, data = wanted
            self.flying.append((slot, self.disk.begin(fd, offset, data)))

    def complete(self) -> None:
        if not self.flying:
            self.pump()
        if self.flying:
            slot, name = self.flying.pop(self.random.randrange(len(self.flying)))
            self.commit.complete_write(slot, self.disk.end(name))
            self.model.acked = max(self.model.acked, self.commit.durable_lsn)
            self.kept = max(self.kept, self.model.acked)

    def spare(self) -> None:
        if self.commit.wants_spare:
            number = self.commit.current_segment + 1
            prepare(self.disk, number, self.options.segment_bytes)
            self.commit.give_spare(number, self.disk.open(segment_name(number)))

    def kill(self) -> None:
        self.counts["kills"] += 1
        self.go_on_with(self.disk.copy())

    def lose_power(self) -> None:
        self.counts["cuts"] += 1
        self.go_on_with(self.disk.cut(self.random))

    def go_on_with(self, disk: SimDisk) -> None:
        self.disk = disk
        self.flying.clear()
        self.open()

    # --- on copies ------------------------------------------------------------------------------

    def die(self) -> None:
        self.survive(self.disk.copy(), self.kept)
        self.survive(self.disk.cut(self.random), self.model.acked)

    def survive(self, disk: SimDisk, least: int) -> None:
        """One state that a machine may be in; a start may be killed, too."""
        while self.random.randrange(4) == 0:
            disk.cut_at = disk.operations + self.random.randrange(1, 12)
            with contextlib.suppress(PowerCut):
                self.recover(disk)
            disk = disk.copy()
            self.counts["nested"] += 1
        found, tail = self.recover(disk)
        last_lsn = found.last_lsn + tail.records
        assert last_lsn >= least, f"I1: {least} were promised, {last_lsn} found"
        assert last_lsn <= self.model.recorded, "I2: more than was recorded"
        stream = read_back(disk, found) + b"".join(run.body for run in tail.runs)
        is_same = stream == self.model.stream[: self.model.ends[last_lsn]]
        assert is_same, "K3: another history"  # compared before: pytest's diff of it takes minutes
        self.counts["states"] += 1
        self.counts["from the tail"] += bool(tail.records)


def play(seed: int, *, has_codec: bool = False) -> TailLife:
    """One life; a failure says how to see it again."""
    try:
        life = TailLife(seed, has_codec=has_codec)
        life.run()
    except BaseException as error:
        error.add_note(f"seed {seed}: run again with  pytest tests/journal --journal-seed {seed}")
        raise
    return life

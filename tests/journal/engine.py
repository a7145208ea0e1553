"""A random life of a journal on a simulated disk, with the power cut at every point of it.

One seed is one life: records of random sizes, frames in flight completing in any order, rolls,
watermarks, clean closes, real power cuts, each followed by more life on the same disk. After every
step the disk is cut on copies, and each copy must recover to what the model says (model.py), also
when the recovery itself is cut off or meets a failing disk. The life goes on undisturbed.

With `has_snapshots` it takes snapshots too, as a node does: written while frames are in flight,
named when all of it is durable, and then what only older ones needed is removed; the power goes in
every step of that (F-21, F-23), and files that were written are found damaged later (F-22). It is a
way of its own because the others' seeds must go on meaning what they meant. And so is `has_codec`,
which begins to encode what it writes in some epoch, behind what is plain.

Does not know: servers, loops, virtual time: `Commit` is driven by take_write and complete_write.
"""

import contextlib
import errno
import random
from collections import Counter
from dataclasses import replace

from pybehave._uring import blocks
from pybehave._uring.commit import Commit
from pybehave.errors import JournalBusy, JournalFull, JournalRefused, RecordTooLarge
from pybehave.journal import recovery, snapshot
from pybehave.journal.codec import Coder
from pybehave.journal.recovery import MANIFEST, Options, Recovery, prepare, recover
from pybehave.journal.segment_files import segment_name
from pybehave.testing.disk import PowerCut, SimDisk
from tests.journal.marked import Marked
from tests.journal.model import TIME, Model, check, read_back

STEPS = 60
CUTS = 3
"""Crash states tried after each step that leaves writes in flight; one after any other."""

NESTED_MAX = 3
LIVES_MAX = 6
INPUT = 1


class Life:
    """One seed.

    Attributes:
        counts: What happened, by name; "states" are crash states that were recovered and checked.
    """

    def __init__(
        self,
        seed: int,
        *,
        cuts: int = CUTS,
        has_snapshots: bool = False,
        has_codec: bool = False,
    ) -> None:
        self.random = random.Random(seed)
        self.has_codec = has_codec
        self.cuts = cuts
        self.has_snapshots = has_snapshots
        self.counts: Counter[str] = Counter()
        self.depth = self.random.choice((1, 2, 4))
        self.options = Options(
            segment_bytes=self.random.choice((64, 80, 128)) << 10, depth=self.depth
        )
        self.disk = SimDisk(seed)
        self.model = Model()
        self.now = 1_000
        self.flying: list[tuple[int, int]] = []
        self.commit: Commit
        self.lives = 0
        self.open()

    # --- one epoch -----------------------------------------------------------------------------

    def open(self) -> None:
        if self.lives == 0:
            self.die()  # before there is anything, and while the first files are made
        self.lives += 1
        if self.has_codec and not self.options.codec and self.random.getrandbits(1):
            self.options = replace(self.options, codec=(Marked(),))
        self.counts["coded lives"] += bool(self.options.codec)
        before = self.disk.copy()
        self.disk.lock()
        found = self.recover(self.disk)
        check(self.model, before, self.disk, found)
        self.model.cut(found.last_lsn)
        self.latest = found.time_ns
        self.time = (0, 0)
        self.manifest_fd = self.disk.open(MANIFEST)
        self.commit = begin(self.disk, found, self.options, self.manifest_fd)
        self.counts["opens"] += 1
        if self.has_snapshots:
            self.starts = [(piece.number, piece.header.first_lsn) for piece in found.pieces]
            self.starts.append((found.header.number, found.header.first_lsn))
            self.written: tuple[int, bytes] | None = None
            self.commit.on_rolled = self.rolled

    def recover(self, disk: SimDisk) -> Recovery:
        return recover(disk, self.options, now_ns=self.now, make_id=lambda: b"i" * 16)

    def run(self, steps: int = STEPS) -> None:
        """Live, and die at every step on a copy."""
        actions = {
            self.record: 34,
            self.pump: 22,
            self.complete: 30,
            self.spare: 6,
            self.watermark: 4,
            self.close: 2,
            self.lose_power: 2,
        }
        if self.has_snapshots:
            actions |= {self.take_snapshot: 10, self.spoil: 1}
        chosen = self.random.choices(list(actions), list(actions.values()), k=steps)
        self.die()
        for action in chosen:
            action()
            if action != self.record:
                self.die()

    def record(self) -> None:
        """A few records; now and then one that fills a frame, or does not fit."""
        for _ in range(self.random.choice((1, 1, 2, 5))):
            size = self.random.choice((0, 8, 30, 100, 700, 4000 - 16, 5000, 20_000, 52_000))
            payload = self.random.randbytes(1) * size
            server = self.random.randrange(1, 5)
            self.now = max(self.now + self.random.choice((0, 0, 1, 1000, -50)), 1)
            first = self.commit.next_lsn
            try:
                self.commit.record(INPUT, server, payload, self.now)
            except (JournalBusy, JournalFull, RecordTooLarge):
                self.note_time(first)
                self.counts["refused"] += 1
            else:
                self.note_time(first)
                self.model.add(INPUT, server, payload)
            assert self.commit.next_lsn == self.model.recorded + 1

    def note_time(self, first: int) -> None:
        """The writer puts a TIME record before the first record of a time or of a frame."""
        time = (max(self.now, self.latest), self.commit.batch)
        if time != self.time and self.commit.next_lsn > first:
            self.model.add(TIME, 0, time[0].to_bytes(8, "little"))
            self.time = time

    def pump(self) -> None:
        while (wanted := self.commit.take_write(self.now)) is not None:
            slot, fd, offset, data = wanted
            if fd != self.manifest_fd:
                self.latest = max(self.latest, time_of(data))
            self.flying.append((slot, self.disk.begin(fd, offset, data)))
            self.counts["writes"] += 1

    def complete(self) -> None:
        if not self.flying:
            self.pump()
        if self.flying:
            slot, name = self.flying.pop(self.random.randrange(len(self.flying)))
            fault = self.random.randrange(40)
            if fault < 3:
                self.disk.fail((errno.EINTR, errno.EAGAIN, "short")[fault])
            self.commit.complete_write(slot, self.disk.end(name))
            assert self.commit.durable_lsn >= self.model.acked
            self.model.acked = self.commit.durable_lsn
            if self.has_snapshots:
                self.name_snapshot()

    def spare(self) -> None:
        """Prepare the next segment; it may fail, and the power may go meanwhile."""
        if not self.commit.wants_spare:
            return
        number = self.commit.current_segment + 1
        bad_luck = self.random.randrange(16)
        if bad_luck == 0:
            self.disk.cut_at = self.disk.operations + self.random.randrange(1, 5)
        elif bad_luck < 4:
            kind = self.random.choice(("fill", "names", "read"))
            self.disk.fail(errno.EIO, at=self.random.randrange(1, 3), kinds=(kind,))
        try:
            prepare(self.disk, number, self.options.segment_bytes)
        except OSError:
            self.counts["spares failed"] += 1
        except PowerCut:
            self.lose_power()
        else:
            self.commit.give_spare(number, self.disk.open(segment_name(number)))
            self.counts["spares"] += 1
        finally:
            self.disk.heal()

    def watermark(self) -> None:
        self.commit.watermark()

    # --- snapshots -----------------------------------------------------------------------------

    def rolled(self, old_fd: int) -> None:
        self.disk.close(old_fd)
        self.starts.append((self.commit.current_segment, self.commit.segment_first_lsn))

    def take_snapshot(self) -> None:
        """Write the state of all that is recorded; it may fail, lie, or lose power (F-21)."""
        lsn = self.commit.next_lsn - 1
        if self.written is not None or lsn <= self.commit.snapshots[0]:
            return
        content = self.snapshot_of(lsn)
        bad_luck = self.random.randrange(12)
        if bad_luck == 0:
            self.disk.cut_at = self.disk.operations + self.random.randrange(1, 4)
        elif bad_luck < 4:
            kind = self.random.choice(("put", "names", "read"))
            what = self.random.choice((errno.EIO, errno.ENOSPC, "lying"))
            self.disk.fail(what if kind == "put" else errno.EIO, kinds=(kind,))
        try:
            self.written = lsn, snapshot.write(self.disk, content, lsn)
        except (OSError, JournalRefused):
            self.counts["snapshots failed"] += 1
        except PowerCut:
            self.counts["snapshots cut"] += 1
            self.lose_power()
        finally:
            self.disk.heal()
        self.name_snapshot()

    def snapshot_of(self, lsn: int) -> bytes:
        entry = snapshot.Entry(b"\x80", self.model.state(lsn))
        coder = Coder(self.options.codec, b"i" * 16)
        return snapshot.encode(b"i" * 16, lsn, max(self.now, 1), [entry], coder=coder)

    def name_snapshot(self) -> None:
        """It counts when every record in it is durable."""
        if self.written is None or self.commit.durable_lsn < self.written[0]:
            return
        (lsn, digest), self.written = self.written, None
        plan = snapshot.still_needed(self.starts, lsn, self.commit.snapshots[0])
        self.commit.snapshot_taken(lsn, digest, plan[0], lambda: self.forget(*plan))
        self.counts["snapshots"] += 1

    def forget(self, oldest: int, kept: set[int]) -> None:
        """The manifest names it, durably: what only older ones needed goes (F-23)."""
        self.starts = [start for start in self.starts if start[0] >= oldest]
        before = len(self.disk.names())
        if self.random.randrange(6) == 0:
            self.disk.fail(errno.EIO, kinds=("names",))
        with contextlib.suppress(OSError):
            recovery.tidy(self.disk, oldest, kept, is_start=False)
        self.disk.heal()
        self.counts["forgotten"] += before - len(self.disk.names())

    def spoil(self) -> None:
        """The newest snapshot is found damaged; the one before it comes to the same (F-22)."""
        names = [snapshot.snapshot_name(lsn) for lsn in self.commit.snapshots if lsn]
        there = [name for name in names if name in self.disk.names()]
        if len(there) < 2 and self.starts[0][0] > 1:
            return  # the only one: without it there is nothing (test_snapshot_faults.py)
        disk = self.disk.cut(self.random)
        manifest = recovery.read_manifest(disk)
        sound = [lsn for lsn, _ in manifest.snapshots if lsn]
        if not sound or (len(sound) < 2 and manifest.oldest > 1):
            return
        name = snapshot.snapshot_name(sound[0])
        at = self.random.randrange(disk.size(name))
        disk.patch(name, at, bytes([disk.contents()[name][at] ^ 1 << self.random.randrange(8)]))
        before = disk.copy()
        found = self.recover(disk)
        check(self.model, before, disk, found)
        assert any("the one before it is used" in words for words in found.report.warnings)
        assert found.report.snapshot_lsn < sound[0]
        assert found.manifest.snapshots[0][0] == found.report.snapshot_lsn
        assert name not in disk.names()
        self.counts["spoiled"] += 1
        self.disk = disk
        self.flying.clear()
        self.model.cut(found.last_lsn)
        self.again()

    def close(self) -> None:
        """A clean end, and the next epoch."""
        self.commit.finish()
        life = self.lives, self.counts["cuts"]
        while not self.commit.is_closed:
            self.spare()
            self.complete()
            if self.random.randrange(3) == 0:
                self.die()
            if life != (self.lives, self.counts["cuts"]):
                return  # the power went
        assert self.model.acked == self.model.recorded
        for fd in self.commit.take_descriptors():
            self.disk.close(fd)
        assert self.disk.descriptors == 0, "I9"
        self.disk.unlock()
        self.counts["closes"] += 1
        self.again()

    def lose_power(self) -> None:
        self.disk = self.disk.cut(self.random)
        self.flying.clear()
        self.counts["cuts"] += 1
        self.again()

    def again(self) -> None:
        if self.lives >= LIVES_MAX:  # journals only grow: a new one
            self.disk = SimDisk(self.lives)
            self.model = Model()
            self.lives = 0
            self.options = replace(self.options, codec=())
        self.open()

    # --- on copies -----------------------------------------------------------------------------

    def die(self) -> None:
        for _ in range(self.cuts if self.flying else 1):
            disk = self.disk.cut(self.random)
            way = self.random.randrange(4)
            if way == 1:
                disk = self.die_again(disk)
            elif way == 2:
                self.suffer(disk)
            self.survive(disk)

    def survive(self, disk: SimDisk) -> None:
        """One crash state: recovers, to the right thing."""
        before = disk.copy()
        found = self.recover(disk)
        check(self.model, before, disk, found)
        self.counts["states"] += 1
        self.counts[found.report.outcome] += 1
        if self.random.randrange(8) == 0:  # I5, and once more over another crash
            again = self.recover(disk if self.random.getrandbits(1) else disk.cut(self.random))
            assert again.last_lsn == found.last_lsn, "I5"
            assert again.header.epoch > found.header.epoch, "an epoch twice"
            assert again.report.last_seq == found.report.last_seq, "I5"
            assert read_back(disk, again) == read_back(disk, found), "I5"
            self.counts["states"] += 1

    def die_again(self, disk: SimDisk) -> SimDisk:
        """Cut recovery off, up to NESTED_MAX times."""
        for _ in range(self.random.randrange(1, NESTED_MAX + 1)):
            disk.cut_at = disk.operations + self.random.randrange(1, 16)
            with contextlib.suppress(PowerCut):
                self.recover(disk)
            disk = disk.cut(self.random)
            self.counts["nested"] += 1
        return disk

    def suffer(self, disk: SimDisk) -> None:
        """Let something fail during recovery; the next one, on the same boot or not, is right."""
        kind = self.random.choice(("write", "fill", "put", "sync", "names", "read"))
        what = self.random.choice((errno.EIO, errno.ENOSPC)) if kind == "fill" else errno.EIO
        disk.fail(what, at=self.random.randrange(1, 6), kinds=(kind,))
        with contextlib.suppress(OSError):
            self.recover(disk)
        disk.heal()
        self.counts["suffered"] += 1


def time_of(data: bytes) -> int:
    """The time in a frame or a segment's header; 0 when a write begins with something else."""
    at = {b"pbhvfrm\n": 56, b"pbhvseg\n": 120}.get(data[:8])
    return int.from_bytes(data[at : at + 8], "little") if at else 0


def begin(disk: SimDisk, found: Recovery, options: Options, manifest_fd: int) -> Commit:
    """A writer that goes on where recovery left off."""
    commit = Commit()
    if options.codec:
        commit.coder = Coder(options.codec, found.manifest.id)
    fd = disk.open(segment_name(found.header.number))
    commit.open(
        disk.path,
        blocks.pack_manifest(found.manifest),
        blocks.pack_header(found.header),
        fd,
        manifest_fd,
        disk.medium().how,
        options.frame_bytes_max,
        found.time_ns,
    )
    commit.on_rolled = disk.close
    return commit


def play(
    seed: int, *, cuts: int = CUTS, has_snapshots: bool = False, has_codec: bool = False
) -> Life:
    """One life; a failure says how to see it again."""
    life = None
    try:
        life = Life(seed, cuts=cuts, has_snapshots=has_snapshots, has_codec=has_codec)
        life.run()
    except BaseException as error:
        error.add_note(f"seed {seed}: run again with  pytest tests/journal --journal-seed {seed}")
        raise
    return life

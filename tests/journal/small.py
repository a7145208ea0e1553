"""Small journals on a script: the same steps every time, and what may be asked of them at any step.

A script is a string, one letter a step:
  r a small record (one sector)     R a large one (three sectors)     F one that fills a frame
  p hand out what may be written    c complete the oldest write       C complete the newest
  s prepare the next segment        w write the watermark             x close, to the end
"""

from collections.abc import Callable

from pybehave._uring.commit import Commit
from pybehave.errors import JournalBusy, JournalFull, RecordTooLarge
from pybehave.journal.recovery import MANIFEST, Options, Recovery, prepare, recover
from pybehave.journal.segment_files import segment_name
from pybehave.testing.disk import SimDisk
from tests.journal.engine import INPUT, begin, time_of
from tests.journal.model import TIME, Model, check

SEGMENT_BYTES = 64 << 10
SIZES = {"r": 100, "R": 1200, "F": 50_000}
STEP_NS = 1000


class Small:
    """One journal that follows a script.

    Attributes:
        on_step: Called after each step with this.
        error: What the writer says of a failed write.
        manifest_counter: Of the latest manifest that is durable.
    """

    def __init__(self, disk: SimDisk, *, depth: int = 2, model: Model | None = None) -> None:
        self.disk = disk
        self.options = Options(segment_bytes=SEGMENT_BYTES, depth=depth)
        self.model = model or Model()
        self.on_step: Callable[[Small], None] = lambda _: None
        self.flying: list[tuple[int, int]] = []
        self.now = 1
        self.manifest_writes: dict[int, int] = {}
        self.manifest_counter = 0
        self.open()

    @property
    def error(self) -> int:
        return self.commit.error

    def open(self) -> None:
        found = self.recover(self.disk)
        self.model.cut(found.last_lsn)
        self.latest, self.time = found.time_ns, (0, 0)
        self.manifest_fd = self.disk.open(MANIFEST)
        self.commit: Commit = begin(self.disk, found, self.options, self.manifest_fd)

    def recover(self, disk: SimDisk) -> Recovery:
        """Recover, and compare with the model."""
        before = disk.copy()
        found = recover(disk, self.options, now_ns=self.now, make_id=lambda: b"i" * 16)
        check(self.model, before, disk, found)
        return found

    def recover_unread(self, disk: SimDisk) -> Recovery:
        """Recover where the disk cannot be read everywhere; nothing is compared."""
        return recover(disk, self.options, now_ns=self.now)

    def run(self, script: str) -> "Small":
        """Follow a script; stops where the writer has failed."""
        for letter in script:
            if self.commit.error:
                break
            self.step(letter)
            self.on_step(self)
        return self

    def step(self, letter: str) -> None:
        if letter in SIZES:
            self.record(SIZES[letter])
        elif letter == "p":
            self.pump()
        elif letter in "cC":
            self.complete(0 if letter == "c" else -1)
        elif letter == "s":
            self.spare()
        elif letter == "w":
            self.commit.watermark()
        else:
            self.close()

    def record(self, size: int) -> None:
        self.now += STEP_NS
        time = (max(self.now, self.latest), self.commit.batch)
        payload = bytes([self.model.recorded % 251 + 1]) * size
        first = self.commit.next_lsn
        try:
            self.commit.record(INPUT, 1, payload, self.now)
        except (JournalBusy, JournalFull, RecordTooLarge):
            payload = b""
        if time != self.time and self.commit.next_lsn > first:
            self.model.add(TIME, 0, time[0].to_bytes(8, "little"))
            self.time = time
        if payload:
            self.model.add(INPUT, 1, payload)
        assert self.commit.next_lsn == self.model.recorded + 1

    def pump(self) -> None:
        while (wanted := self.commit.take_write(self.now)) is not None:
            slot, fd, offset, data = wanted
            if fd != self.manifest_fd:
                self.latest = max(self.latest, time_of(data))
            name = self.disk.begin(fd, offset, data)
            self.flying.append((slot, name))
            if fd == self.manifest_fd:
                self.manifest_writes[name] = int.from_bytes(data[32:40], "little")

    def complete(self, index: int) -> None:
        if self.flying:
            slot, name = self.flying.pop(index)
            self.commit.complete_write(slot, self.disk.end(name))
            self.model.acked = max(self.model.acked, self.commit.durable_lsn)
            counter = self.manifest_writes.pop(name, 0)
            self.manifest_counter = max(self.manifest_counter, counter)

    def spare(self) -> None:
        if self.commit.wants_spare:
            number = self.commit.current_segment + 1
            prepare(self.disk, number, SEGMENT_BYTES)
            self.commit.give_spare(number, self.disk.open(segment_name(number)))

    def drain(self) -> None:
        """Complete everything, as far as it goes."""
        self.pump()
        while self.flying:
            self.complete(0)
            self.pump()

    def close(self) -> None:
        self.commit.finish()
        self.pump()
        while self.flying and not self.commit.error:
            self.on_step(self)
            self.complete(0)
            self.pump()
        self.leave()

    def leave(self) -> None:
        """Let go of the descriptors; nothing may be in flight."""
        while self.flying:
            self.complete(0)
        assert not self.commit.is_busy
        for fd in self.commit.take_descriptors():
            self.disk.close(fd)
        assert self.disk.descriptors == 0, "I9"

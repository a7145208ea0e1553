"""A node's journal: replayed before the tree starts, kept while it runs, closed at its end.

One journal serves all servers of a node (decision 0006). Recovery (pybehave/journal/recovery.py)
finds its end; here the records are stepped again (step 14), and what each server had become waits
in `_known` until the tree starts that server.

A restart while the node runs goes the same way: a server that crashed may have changed its state
half way, so its state is built again from the journal without the input it failed on. One that
declares itself `pure` has not, and one that was merely stopped neither.

Invariants
  (N1) A journaled server has a number, by the order of first starts, until it is forgotten.
  (N2) Every incarnation begins with a START record; inputs before it belong to the one before.
  (N3) There is a prepared segment, or one being prepared, or the disk is full and we say so
       (spares.py).

Does not know: strategies, sockets, how a frame is written.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, final

from pybehave._uring import blocks
from pybehave._uring.commit import Commit
from pybehave._uring.replay import Diverged
from pybehave._uring.values import Values
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.recovery import Failure
from pybehave.behaviours.schema import version_of
from pybehave.errors import (
    DurabilityLost,
    JournalBusy,
    JournalRefused,
    PybehaveError,
    RecordTooLarge,
    StateNotKept,
)
from pybehave.journal import recovery, segment_files, snapshot
from pybehave.journal.closed import Closed
from pybehave.journal.codec import PLAIN, Coder
from pybehave.journal.disk import Disk
from pybehave.journal.marks import Mark, Marks
from pybehave.journal.progress import Progress
from pybehave.journal.recovery import Options, Piece, Recovery, recover
from pybehave.journal.segment_files import segment_name
from pybehave.journal.tail import TailFile
from pybehave.runtime.durable import forgetting, recovered, undelivered
from pybehave.runtime.durable.absent import Absent, say_absent
from pybehave.runtime.durable.events import JournalFailed
from pybehave.runtime.durable.hibernation import Hibernation
from pybehave.runtime.durable.letters import DeadLetters
from pybehave.runtime.durable.numbers import Numbers
from pybehave.runtime.durable.policies import Policies
from pybehave.runtime.durable.quarantine import Quarantine
from pybehave.runtime.durable.recoveries import Offer, told_again
from pybehave.runtime.durable.replay import (
    RECORD_SERVER,
    RECORD_START,
    Known,
    Replay,
    Undelivered,
)
from pybehave.runtime.durable.snapshots import Snapshots
from pybehave.runtime.durable.spares import Spares
from pybehave.runtime.families import Specs
from pybehave.runtime.servers import make_values
from pybehave.runtime.watching import Watch, watched
from pybehave.types import Rollback

if TYPE_CHECKING:
    from pybehave._uring.replay import Replayer
    from pybehave._uring.servers import Server
    from pybehave.runtime.durable.standby import Standby
    from pybehave.runtime.node import Node

LSN_MAX: Final = 2**64 - 1
WATERMARK_IDLE_S: Final = 0.02
WATERMARK_BUSY_S: Final = 1.0
"""How long after the last commit the manifest says what is durable (durability.md 3.2)."""

CLOSE_S: Final = 30.0
"""F-41: a disk that has not answered by then is given up, and the next start recovers."""

logger = logging.getLogger("pybehave.journal")


@final
class NodeJournal:
    """The journal of one node.

    Args:
        node: Whose it is.
        disk: Where it lies.
        options: How it is kept.

    Attributes:
        recovery: What was found when it was opened; None before.
        before: What the process says that has just closed it; set before it is opened.
        closed: What this one can say, once it has.
        progress: Where opening it stands.
        watch: How that is shown; may be changed until it is opened.
        undelivered: Messages of before this start that are still to be posted.
        absent: Servers that it knows and that have not been started by this process.
        marks: What its records say of those before them.
        reset: Names of servers that begin anew, whatever it knows of them; set before it is opened.
        to_reset: Of servers that begin anew at their next start, because somebody has asked.
        newest: The snapshot that the manifest names, or is to name: its lsn, its digest.
    """

    def __init__(self, node: Node, disk: Disk, options: Options) -> None:
        self.node = node
        self.disk = disk
        self.options = options
        self.commit, self.coder = Commit(), PLAIN
        self.recovery: Recovery | None = None
        self.before: Closed | None = None
        self.standby: Standby | None = None
        self.closed: Closed | None = None
        self.seconds = 0.0
        self.progress = Progress(time.monotonic)
        self.watch = Watch()
        self.segment_starts: list[tuple[int, int]] = []
        self.snapshots = Snapshots(self)
        self.hibernation = Hibernation(self)
        self.letters = DeadLetters(self)
        self.quarantine = Quarantine(self)
        self.policies = Policies()
        self.tail = TailFile(disk, options.tail_bytes)
        self._spares = Spares(self)
        self._dispatcher = node.loop.dispatcher
        self._values: dict[str, Values] = {}
        self._numbers = Numbers()
        self.marks = Marks(())
        self.reset: frozenset[str] = frozenset()
        self.to_reset: set[str] = set()
        self._known: dict[str, Known] = {}
        self._planned: Specs = Specs([], {})
        self._added: dict[str, Worker[Any, Any]] = {}
        self.absent: dict[str, Absent] = {}
        self._named: set[str] = set()
        self.newest: tuple[int, bytes] | None = None
        self.undelivered: list[Undelivered] = []
        self._is_old = False
        self._time_ns = 0
        self._jobs: set[Future[Any]] = set()
        self._is_open = False
        self._watermark_lsn = 0

    # --- opening -------------------------------------------------------------------------------

    def open(self) -> None:
        """Recover, replay, and begin to write.

        Raises:
            JournalRefused, CodecRefused, JournalLocked, NonDeterminism: Nothing was changed.
        """
        began = time.perf_counter()
        self.disk.lock()
        try:
            with self._watched():
                found = self._recover()
            found = self.recovery = found.without_contents()
            self._begin(found)
        except BaseException:
            self.disk.unlock()
            raise
        self.seconds = time.perf_counter() - began
        if self.absent:
            say_absent(found.report.directory, self.absent)
        recovered.say(found.report, self.seconds, self.node.events.hand_on)

    def _watched(self) -> contextlib.AbstractContextManager[None]:
        if getattr(self.disk, "is_simulated", False):  # there is nobody, and no second thread
            return contextlib.nullcontext()
        return watched(self.progress, self.watch)

    def _recover(self) -> Recovery:
        """Steps 1 to 14, the last one before anything is written."""
        began = time.perf_counter()

        def replay(found: Recovery) -> None:
            found.report.seconds_reading = time.perf_counter() - began
            self.recovery = found
            self.adopt(found)
            found.report.kept = self.tail.records
            self._replay(found)

        return recover(
            self.disk,
            self.options,
            now_ns=self._dispatcher.unix_now(),
            progress=self.progress,
            closed=self.before,
            ahead=None if self.standby is None else self.standby.ahead,
            tail=self.tail,
            replay=replay,
        )

    def adopt(self, found: Recovery) -> None:
        """Be the journal that was found, as far as steps can tell."""
        self._dispatcher.seed = int.from_bytes(found.manifest.id[:8], "little")
        self.coder = Coder(self.options.codec, found.manifest.id)

    def _begin(self, found: Recovery) -> None:
        fd = self.disk.open(segment_name(found.header.number))
        manifest_fd = self.disk.open(recovery.MANIFEST)
        if found.snapshot is not None:
            self.newest = (found.snapshot.lsn, found.snapshot.digest)
        self.commit.coder = self.coder if self.coder.is_on else None
        self.commit.open(
            self.disk.path,
            blocks.pack_manifest(found.manifest),
            blocks.pack_header(found.header),
            fd,
            manifest_fd,
            self.disk.medium().how,
            self.options.frame_bytes_max,
            self._time_ns,
        )
        self.commit.on_rolled = self._rolled
        self.commit.on_failed = self._failed
        self.commit.on_durable = self._durable
        self._dispatcher.raise_clock(self._time_ns)
        self._is_open = self._numbers.is_final = True
        self._dispatcher.numbers = self._numbers
        self.segment_starts = [(p.number, p.header.first_lsn) for p in found.pieces]
        self.segment_starts.append((found.header.number, found.header.first_lsn))
        self.snapshots.begin(found.report.snapshot_lsn)
        self.node.loop.attach_journal(self.commit, found.header.epoch)
        is_kept = any(worker.acknowledge == "os" for worker in self.specs().values())
        self.tail.adopt(self.commit, is_wanted=is_kept)
        self.quarantine.record()
        self._dispatcher.on_hibernate = self.hibernation.hibernate
        self._dispatcher.on_wake = self.hibernation.wake
        self._dispatcher.set_marker(self.quarantine.attempts.marker, self.quarantine.messages)
        self._spares.begin(is_awaited=self.standby is not None)
        forgetting.begin(self)

    # --- 14: replay ----------------------------------------------------------------------------

    def _replay(self, found: Recovery) -> None:
        began, clock = time.perf_counter(), self._dispatcher.unix_now()
        planned = self._planned = self.specs()
        specs = planned.without(self.reset)
        marks = [m for p in found.pieces for m in p.marks] + self.tail.marks()
        self.marks = Marks(marks)
        self.quarantine.begin(found)
        while True:
            behind, stepped = self._stepped_ahead(marks, specs)
            found.report.ahead = behind
            stepped.replayer.keeps_absent = True
            self._note_progress(found, stepped.replayer)
            stepped.replayer.on_skipped = self.quarantine.passed_over
            try:
                with self.quarantine.replaying():
                    self.step_all(found, stepped, behind)
            except Diverged as error:
                self.quarantine.skip_too(self._numbers[error.server], error)
                found.report.rebuilds += 1
            else:
                break
            finally:
                found.report.replayed = stepped.replayer.inputs
                found.report.passed_over = stepped.replayer.failed
                found.report.seconds_replaying = time.perf_counter() - began
                self._dispatcher.set_unix_now(clock)  # it was that of the input stepped last
        self.progress.end()
        self._known = stepped.known()
        self.absent = stepped.absent()
        self.undelivered = stepped.undelivered()
        self._is_old = stepped.is_old
        self.quarantine.take_away(self._known, self.undelivered)
        forgetting.check(self, planned)

    def _stepped_ahead(
        self, marks: list[Mark], specs: dict[str, Worker[Any, Any]]
    ) -> tuple[int, Replay]:
        """What was stepped before the journal was this process's, and up to where."""
        standby = self.standby
        if standby is None or (stepped := standby.take(marks, self.quarantine.skipped)) is None:
            self._numbers = Numbers()
            return 0, self.replay_of(specs)
        stepped.replayer.set_marker(self.quarantine.attempts.marker)
        return standby.lsn, stepped

    def _note_progress(self, found: Recovery, replayer: Replayer) -> None:
        before = found.report.snapshot_lsn
        total = found.last_lsn - before
        self.progress.begin("replaying", "records", total, lambda: replayer.lsn - before)

    def specs(self) -> Specs:
        """The journaled workers of all applications, by name."""
        planned = self.node.applications
        listed = {worker.name: worker for worker in planned.workers() if worker.journal}
        return Specs([app.tree for app in planned.planned], listed)

    def replay_of(self, specs: dict[str, Worker[Any, Any]]) -> Replay:
        """Begin to step the journal for some workers."""
        quarantine = self.quarantine
        return Replay(
            self,
            specs,
            skipped=quarantine.skipped,
            forgotten=self.marks.forgotten,
            marker=quarantine.attempts.marker,
        )

    def step_all(self, found: Recovery, stepped: Replay, lsn: int = 0) -> None:
        """Step all behind an lsn; 0 = behind the snapshot."""
        if found.snapshot is not None and not lsn:
            lsn, self._time_ns = found.snapshot.lsn, found.snapshot.time_ns
            stepped.begin(found.snapshot)
        for piece, content in self._contents(found, lsn):
            stepped.replayer.feed(content, found.manifest.id, piece.block_end, lsn + 1, LSN_MAX)
        for run in self.tail.runs:
            stepped.replayer.feed_body(run.body, run.lsn, run.records)
        self._time_ns = max(self._time_ns, found.time_ns, stepped.replayer.time_ns)

    def _contents(self, found: Recovery, lsn: int) -> Iterator[tuple[Piece, memoryview]]:
        """The segments that hold records behind an lsn; those not in memory are read ahead."""
        needed = [piece for piece in found.pieces if piece.lsn_end > lsn + 1]
        first = list(takewhile(lambda piece: piece.content is not None, needed))
        there = [(piece.number, piece.content) for piece in first if piece.content is not None]
        away = [piece.number for piece in needed[len(first) :]]
        contents = segment_files.segments_ahead(self.disk, away, found.manifest, there=there)
        for piece, (number, content) in zip(needed, contents, strict=True):
            assert piece.number == number, "the first ones stay in memory"
            yield piece, content

    def rebuild(self, worker: Worker[Any, Any]) -> Known | None:
        """Build one server's state again from all that is recorded, durable or not.

        Blocks for as long as reading its journal takes. None = nothing is recorded.
        """
        return self._stepped_again(worker).known().get(worker.name)

    def _stepped_again(
        self, worker: Worker[Any, Any], *, recent: int = 0, on_skipped: Any = None
    ) -> Replay:
        clock = self._dispatcher.unix_now()
        stepped = self.replay_of({worker.name: worker})
        stepped.replayer.keep_recent, stepped.replayer.on_skipped = recent, on_skipped
        try:
            with self.quarantine.replaying():
                self._step_again(stepped)
            self.snapshots.read_again(worker.recovery)
        finally:
            self._dispatcher.set_unix_now(clock)
        return stepped

    def _step_again(self, stepped: Replay) -> None:
        assert self.recovery is not None
        journal_id = self.recovery.manifest.id
        lsn = self._begin_from_snapshot(stepped)
        for piece in self.recovery.pieces:
            if piece.lsn_end <= lsn + 1:
                continue
            count = piece.block_end * blocks.BLOCK
            content = segment_files.read_segment(self.disk, piece.number, count)
            stepped.replayer.feed(content, journal_id, piece.block_end, lsn + 1, LSN_MAX)
        for number, _ in self._own_segments(lsn):
            self._feed_own(stepped.replayer, number, lsn)
        for lsn, records, body in self.commit.pending():
            stepped.replayer.feed_body(body, lsn, records)

    def _begin_from_snapshot(self, stepped: Replay) -> int:
        """The lsn of the newest snapshot that the manifest names, its states taken over."""
        if self.newest is None:
            return 0
        lsn, digest = self.newest
        stepped.begin(snapshot.read(self.disk, lsn, digest, self.coder))
        return lsn

    def _own_segments(self, lsn: int) -> list[tuple[int, int]]:
        """Segments of this epoch that hold records behind an lsn."""
        assert self.recovery is not None
        first = self.recovery.header.number
        starts = [start for start in self.segment_starts if start[0] >= first]
        ends = [start[1] for start in starts[1:]] + [LSN_MAX]
        return [start for start, end in zip(starts, ends, strict=True) if end > lsn + 1]

    def _feed_own(self, replayer: Replayer, number: int, lsn: int) -> None:
        """A segment of this epoch, up to what is durable."""
        is_current = number == self.commit.current_segment
        count = self.commit.block * blocks.BLOCK if is_current else self.segment_bytes
        content = segment_files.read_segment(self.disk, number, count)
        header = blocks.unpack_header(content[: blocks.BLOCK])
        if header is None:
            raise JournalRefused(segment_name(number), "its header cannot be read any more")
        walked = blocks.walk(content, header, self.commit.durable_seq)
        replayer.feed(content, header.id, walked.block, lsn + 1, self.commit.durable_lsn)

    def deliver(self) -> None:
        """Post what servers had sent to others, and what had not arrived; the tree runs."""
        undelivered.deliver(self, self._dispatcher, self._values)
        for name in self._known:  # members of families that nobody has asked for yet
            if self._dispatcher.whereis(name) is None:
                self.hibernation.lay_down(name)
        if self._is_old:  # then no older input is stepped by newer code again
            self.snapshots.take()
        else:
            self.snapshots.check()  # if no input ever comes, nothing else asks

    # --- servers -------------------------------------------------------------------------------

    def values_of(self, worker: Worker[Any, Any], instance: Any) -> Values:
        """What encodes a server's inputs; one for each name, so that handles stay the same."""
        found = self._values.get(worker.name)
        if found is None:
            found = self._values[worker.name] = make_values(worker.name, instance)
            found.live_in(self._dispatcher)
        return found

    def number_of(self, name: str) -> int:
        """The server's number, or what it is to be once it is recorded (N1)."""
        return self._numbers.of(name)

    def set_number(self, name: str, number: int) -> None:
        """Take a number from the journal."""
        self._numbers.take(name, number)

    def drop_number(self, name: str) -> None:
        """Take it from the journal that a server was forgotten."""
        self._numbers.drop(name)

    def erase(self, name: str, lsn: int) -> None:
        """A server that does not run is forgotten, as the record of that lsn says."""
        self.marks.forgotten[self._numbers.pop(name)] = self.marks.names[name] = lsn
        known = self._known.pop(name, None)
        if known is not None:
            self.hibernation.drop(known)
        for by_name in (self.absent, self._added, self._values):
            by_name.pop(name, None)
        self.undelivered = [each for each in self.undelivered if each[2] != name]
        self._named.discard(name)
        self.letters.drop(name)
        self.policies.forget(name)

    def known(self, worker: Worker[Any, Any], *, is_asked: bool) -> Known | None:
        """What a server that is about to start goes on from; None = it begins anew.

        `is_asked`: its init is told of it, whatever the policy.
        """
        if worker.name in self.to_reset:
            self.to_reset.discard(worker.name)
            forgetting.write(self, worker.name, "reset", is_own=True)
        found = self._find_out(worker, is_asked=is_asked)
        self.letters.complete(worker, found)
        return found

    def _find_out(self, worker: Worker[Any, Any], *, is_asked: bool) -> Known | None:
        found = self._known.get(worker.name)
        if found is not None:
            self.hibernation.get_up(worker.name, found)
        if found is None and worker.name in self._numbers:
            return self._learn(worker)  # added while the node runs, as in an earlier run
        if found is None or not found.is_after_crash:
            return self._learn(worker) if found is not None and found.is_dirty else found
        policy = self.policies.of(worker)
        if isinstance(policy, Rollback):
            if not found.is_rolled_back:  # else this is another try, for init has failed
                self._roll_back(worker, policy.count)
        elif not found.is_dirty or (policy == "clean" and not is_asked):
            return found
        rebuilt = self._learn(worker)
        if rebuilt is not None:
            rebuilt.is_after_crash = True
            rebuilt.is_rolled_back = isinstance(policy, Rollback)
            rebuilt.failure = told_again(found.failure, rebuilt.failure)
        return rebuilt

    def offer(self, worker: Worker[Any, Any], server: Server, known: Known) -> Offer:
        """What the init of a server that is about to start is told.

        Raises:
            StateNotKept: Its state has no encoding.
        """
        failure = known.failure
        if failure is not None and not failure.error:
            known.failure = replace(failure, error=self.letters.error_of(failure.lsn))
        offer = Offer(
            server, known, self.policies.of(worker) if known.is_after_crash else "last_good"
        )
        if not getattr(server.instance, "pure", False):
            known.is_dirty = True  # init may change it, and then raise
        return offer

    def _roll_back(self, worker: Worker[Any, Any], count: int) -> None:
        """Let the latest inputs of a server be passed over from now on."""
        number = self._numbers[worker.name]
        stepped = self._stepped_again(worker, recent=count)
        self.quarantine.roll_back(number, stepped.replayer.recent(number))
        self._stepped_again(worker, on_skipped=self.quarantine.passed_over)
        self.quarantine.record()

    def _learn(self, worker: Worker[Any, Any]) -> Known | None:
        rebuilt = self.rebuild(worker)
        if rebuilt is not None:
            self._known[worker.name] = rebuilt
        self.absent.pop(worker.name, None)
        return rebuilt

    def build_dirty(self) -> None:
        """Build the states of servers that failed and were not started again, for a snapshot.

        Blocks as `rebuild` does, but once for each such end.
        """
        dirty = [(name, found) for name, found in self._known.items() if found.is_dirty]
        if dirty:
            self._planned = self.specs()  # another release may run than was started
        for name, found in dirty:
            worker = self._added.get(name) or self._planned.get(name)
            if worker is None or self._dispatcher.whereis(name) is not None:
                continue
            try:
                rebuilt = self._learn(worker)
            except PybehaveError as error:
                logger.warning("the state of %r cannot be built again: %s", name, error)
                continue
            if rebuilt is not None:
                rebuilt.is_after_crash = found.is_after_crash
                rebuilt.is_rolled_back = found.is_rolled_back
                rebuilt.failure = told_again(found.failure, rebuilt.failure)

    def started(
        self,
        worker: Worker[Any, Any],
        server: Server,
        choice: dict[str, Any],
        reason: str = "start",
    ) -> None:
        """Record that an incarnation begins (N2), and with what; or that it goes on with other
        code, for the reason "upgrade".

        Raises:
            StateNotKept: The state that its init chose does not fit into a frame.
        """
        now_ns = self._dispatcher.unix_now()
        number = server.number
        self._numbers.record(worker.name, number)
        encode = self._values[worker.name].encode
        if worker.name not in self._planned:
            self._added[worker.name] = worker
        if worker.name not in self._named:
            self._named.add(worker.name)
            kind = type(server.instance)
            who = {
                "name": worker.name,
                "number": number,
                "module": kind.__module__,
                "class": kind.__qualname__,
                "seed": self._dispatcher.seed,
            }
            self.commit.record(RECORD_SERVER, number, encode(who), now_ns)
        start = {
            "incarnation": server.incarnation,
            **choice,
            "reason": reason,
            "version": version_of(server.instance),
        }
        try:
            self.commit.record(RECORD_START, number, encode(start), now_ns)
        except (RecordTooLarge, JournalBusy) as error:
            raise StateNotKept(worker.name, str(error)) from error

    def ended(self, server: Server, *, is_crash: bool, failure: Failure | None) -> None:
        """Remember what a server had become; the next incarnation goes on from there."""
        is_dirty = is_crash and not getattr(server.instance, "pure", False)
        state = None if is_dirty else server.state
        self._known[server.name] = Known(
            state,
            server.due or {},
            server.idle_s,
            server.incarnation,
            is_dirty,
            is_crash,
            server.instance.dump,
            requests=server.requests,
            asked=server.asked,
            version=version_of(server.instance),
            failure=failure,
        )

    def is_mended(self, server: Server, worker: Worker[Any, Any]) -> bool:
        """Whether a server that has failed goes on as if the input it failed on had not come."""
        return bool(server.number) and self.policies.of(worker) not in ("clean", "stop")

    @property
    def numbers(self) -> dict[str, int]:
        """The servers that have a number, by name."""
        return self._numbers

    @property
    def is_open(self) -> bool:
        """Whether records are taken."""
        return self._is_open

    def forget(self, name: str) -> None:
        """A server that runs has a state of its own by now."""
        self._known.pop(name, None)

    def remembered(self, name: str) -> Known | None:
        """What is known of a server that does not run."""
        return self._known.get(name)

    def remember(self, name: str, known: Known) -> None:
        """Put something else in the place of what is known of a server that does not run."""
        self._known[name] = known

    def set_values(self, name: str, values: Values) -> None:
        """A server's values are encoded by other code from now on."""
        self._values[name] = values
        values.live_in(self._dispatcher)

    def values_named(self, name: str) -> Values:
        """What encodes a server's values."""
        return self._values[name]

    def encoder_of(self, name: str) -> Values:
        """What encodes a message to a server, which may be one that is absent."""
        return self._values.get(name) or Values()

    def now_ns(self) -> int:
        """Unix time of this tick."""
        return self._dispatcher.unix_now()

    # --- upkeep --------------------------------------------------------------------------------

    def _durable(self) -> None:
        self.node.loop.dispatcher.start_alarm(WATERMARK_IDLE_S, self._watermark)

    def _watermark(self) -> None:
        if not self._is_open:
            return
        if not self.commit.is_idle and self.commit.durable_lsn != self._watermark_lsn:
            self._watermark_lsn = self.commit.durable_lsn
            self.node.loop.dispatcher.start_alarm(WATERMARK_BUSY_S, self._write_watermark)
            return
        self._write_watermark()

    def _write_watermark(self) -> None:
        if self._is_open:
            if number := self._lost_files():
                self.commit.fail(number)
                return
            self.snapshots.check()
            self.commit.watermark()
            self.commit.on_durable = self._durable

    def _lost_files(self) -> int:
        """An error number when no start would find what is acknowledged from here; else 0."""
        try:
            if not any(self.disk.is_removed(fd) for fd in self.commit.descriptors):
                return 0
        except OSError as error:  # an xfs that has shut down does not even tell that
            return error.errno or errno.EIO
        logger.critical("a file of the journal in %s was removed", self.disk.path)
        return errno.ENOENT

    def _rolled(self, old_fd: int) -> None:
        self.disk.close(old_fd)
        self.segment_starts.append((self.commit.current_segment, self.commit.segment_first_lsn))
        self._spares.prepare()

    def name_snapshot(
        self, lsn: int, digest: bytes, then: Callable[[], None] | None = None
    ) -> None:
        """Let the manifest name a snapshot; then what only older ones needed is removed.

        Args:
            then: Called when the manifest does, durably.
        """
        before = self.commit.snapshots[0]
        oldest, kept = snapshot.still_needed(self.segment_starts, lsn, before)
        self.newest = (lsn, digest) if lsn else None

        def named() -> None:
            if then is not None:
                then()
            self._remove_old(oldest, kept)

        self.commit.snapshot_taken(lsn, digest, oldest, named)

    def segment_behind(self, lsn: int) -> int:
        """The number of the segment that holds the record behind an lsn."""
        return snapshot.segment_behind(self.segment_starts, lsn)

    def _remove_old(self, oldest: int, kept: set[int]) -> None:
        self.segment_starts = [start for start in self.segment_starts if start[0] >= oldest]

        def work() -> int:
            recovery.tidy(self.disk, oldest, kept, is_start=False)
            return 0

        self.off_loop(work, lambda _, error: self._removed(error))

    def _removed(self, error: BaseException | None) -> None:
        if error is not None:
            logger.error("old segments in %s cannot be removed: %s", self.disk.path, error)

    def off_loop(
        self,
        work: Callable[[], Any],
        done: Callable[[Any, BaseException | None], None],
    ) -> None:
        """Run something that blocks on a thread; in the simulator at once, in virtual time."""
        if getattr(self.disk, "is_simulated", False):
            try:
                result = work()
            except OSError as error:
                self.node.host.defer(lambda error=error: done(None, error))  # type: ignore[misc]
            else:
                self.node.host.defer(lambda: done(result, None))
            return
        future = self.node.host.workers.submit(work)
        self._jobs.add(future)

        def finished(found: Any) -> None:
            self._jobs.discard(found)
            error = found.exception()
            value = None if error is not None else found.result()
            try:
                self.node.host.defer(lambda: done(value, error))
            except PybehaveError:  # the loop has closed meanwhile
                logger.debug("the loop closed before %r was done", work)

        future.add_done_callback(finished)

    def _failed(self, number: int) -> None:
        logger.critical(
            "the journal in %s cannot be written any more: %s; nothing is acknowledged from here "
            "on, and the node stops",
            self.disk.path,
            os.strerror(number),
        )
        why = os.strerror(number)
        self.node.give_up(DurabilityLost(why))
        self.node.events.hand_on(JournalFailed("", "", self.disk.path, why))

    @property
    def segment_bytes(self) -> int:
        """The size of each segment."""
        assert self.recovery is not None
        return int(self.recovery.manifest.segment_bytes)

    def stats(self) -> dict[str, Any]:
        """Counters and positions."""
        return {
            **self.commit.stats(),
            "medium": self.disk.medium().sentence,
            "snapshots": self.snapshots.stats(),
            "hibernation": self.hibernation.stats(),
            "recovery": self.recovery.report.as_json() if self.recovery is not None else {},
        }

    # --- the end -------------------------------------------------------------------------------

    def close(self, *, is_followed: bool = False) -> None:
        """Write what is left, mark the journal clean, let others open it.

        Args:
            is_followed: Another process has stepped most of it already, and clients wait for it.
        """
        if not self._is_open:
            return
        if not is_followed:
            self.snapshots.take_last(CLOSE_S)
        self.commit.finish()
        loop, until = self.node.loop, self.node.loop.now() + CLOSE_S
        loop.run_once(0.0)  # what is left is on its way to the disk when a tick has ended
        while not self.commit.is_closed and loop.now() < until:
            if self.commit.error and not self.commit.is_busy:
                break
            loop.run_once(0.05)
        self._is_open = False
        if not wait(list(self._jobs), timeout=CLOSE_S).not_done:  # a dead letter may be on its way
            self._spares.close()
        if self.commit.is_closed and self.recovery is not None:
            self.closed = self._closed(self.recovery)
        if not self.commit.is_busy:
            for fd in self.commit.take_descriptors():
                self.disk.close(fd)
        self.hibernation.close()
        self.disk.unlock()

    def _closed(self, found: Recovery) -> Closed:
        last, block = self.commit.current_segment, self.commit.block
        spare = 0 if self.commit.wants_spare else last + 1
        ends = tuple((piece.number, piece.block_end) for piece in found.pieces)
        return Closed(found.manifest.id, found.manifest.epoch, last, block, spare, ends)

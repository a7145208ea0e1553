"""When snapshots are taken, and how states become bytes.

Between two turns all states stand at one lsn. There the process forks, and the child, which sees
them as they are and stay, encodes them, writes them and reads them back; the loop goes on at once.
In the simulator the states are encoded on the spot. The manifest names a snapshot only when every
record in it is durable.

A server that is known but does not run is kept too, also one whose code is not there (absent.py).
One whose state cannot be encoded keeps all segments: nothing that is still needed is ever removed.

Does not know: how the file is laid out (pybehave/journal/snapshot.py).
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import signal
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, final

from pybehave._uring.servers import Asleep
from pybehave._uring.values import TooLargeError, Values
from pybehave.behaviours.policies import policies_in
from pybehave.behaviours.schema import version_of
from pybehave.errors import NotJournalable, PybehaveError
from pybehave.journal import recovery, snapshot
from pybehave.journal.snapshot import Entry
from pybehave.runtime.durable import asked
from pybehave.runtime.durable.events import SnapshotRejected, SnapshotSaved
from pybehave.runtime.durable.recoveries import list_of
from pybehave.runtime.durable.replay import Encoded, Known
from pybehave.runtime.servers import is_ephemeral
from pybehave.types import RecoverySpec, Rollback

if TYPE_CHECKING:
    from pybehave._uring.servers import Server
    from pybehave.runtime.durable.journaling import NodeJournal

SNAPSHOT_RECORDS: Final = 1_000_000
"""Records between snapshots: about a second of replay at the next start."""

SNAPSHOT_BYTES: Final = 128 << 20
"""Journal bytes between snapshots: two segments of the usual size."""

LAST_SNAPSHOT_RECORDS: Final = 100_000
LAST_SNAPSHOT_SEGMENTS: Final = 3
"""With more than this to replay, or to keep, a clean end takes a snapshot first."""

REREAD_RECORDS: Final = 100_000
"""Records read again after crashes: a tenth of a second, less than that of one long replay. Without
it each of n crashes reads all that the others have left, and a client's bad commands hold up the
node for longer and longer (decision 0043)."""

CHILD_NICE: Final = 10
"""A snapshot is not urgent unless somebody waits for it; the node is."""

CHILD_IGNORES: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
"""A terminal's and a service manager's signals go to all processes of the node, and the node says
what becomes of its snapshot."""

DIGEST_BYTES: Final = 16

SNAPSHOT_SEGMENTS: Final = 4
"""Or segments between snapshots: each start begins one, so without this a server that is killed
again and again would fill its disk with segments that are almost empty, and read them all."""

PR_SET_PDEATHSIG: Final = 1
"""prctl(2): which signal a process gets when its parent ends."""

logger = logging.getLogger("pybehave.journal")
_libc = ctypes.CDLL(None)


@final
class Snapshots:
    """Takes the snapshots of one journal.

    Args:
        journal: Whose.
        records: Take one after so many records.
        count_bytes: Or after so many bytes of journal.
        reread: Or after so many records were read again after crashes.
    """

    def __init__(
        self,
        journal: NodeJournal,
        records: int = SNAPSHOT_RECORDS,
        count_bytes: int = SNAPSHOT_BYTES,
        reread: int = REREAD_RECORDS,
    ) -> None:
        self.journal = journal
        self.records = records
        self.count_bytes = count_bytes
        self.reread = reread
        self._reread_here = 0
        self.taken = 0
        self.failed = 0
        self.seconds_longest = 0.0
        self.lsn = 0
        self._bytes_then = 0
        self.is_forking = not getattr(journal.disk, "is_simulated", False)
        self._segment_then = 0
        self._is_busy = False
        self._on_written: Callable[[BaseException | None], bool] | None = None
        self._on_named: Callable[[], None] | None = None
        self.why_not = ""
        self._complained: set[str] = set()

    def begin(self, lsn: int) -> None:
        """A journal was opened whose newest snapshot is of that lsn."""
        starts = self.journal.segment_starts
        first_lsn = dict(starts)[self.journal.segment_behind(lsn)]
        self.lsn = lsn
        # Of those that starts without any input have left, all of which begin with the same lsn,
        # the first: all that followed it count.
        self._segment_then = next(number for number, first in starts if first == first_lsn)

    @property
    def segments_since(self) -> int:
        """How many segments were begun since the newest was."""
        return self.journal.commit.current_segment - self._segment_then

    @property
    def is_busy(self) -> bool:
        """Whether one is being written."""
        return self._is_busy

    def stats(self) -> dict[str, Any]:
        """Counters, and the longest time that turns had to wait."""
        return {
            "taken": self.taken,
            "failed": self.failed,
            "lsn": self.lsn,
            "seconds_longest": self.seconds_longest,
        }

    def check(self) -> None:
        """Take a snapshot if one is due; on the loop's thread, between turns."""
        commit = self.journal.commit
        is_due = (
            commit.next_lsn - self.lsn > self.records
            or commit.bytes_written - self._bytes_then > self.count_bytes
            or self.segments_since > SNAPSHOT_SEGMENTS
            or self._reread_here > self.reread
        )
        if is_due and not self._is_busy and not commit.error:
            self.take()

    def read_again(self, recovery: RecoverySpec) -> None:
        """A server's records behind the newest snapshot were read, for it crashed or woke.

        One that may take inputs back needs those records, and counts for nothing here: what is in
        a snapshot can be taken back no more.

        Args:
            recovery: What the server's worker says.
        """
        if not any(isinstance(each, Rollback) for each in policies_in(recovery)):
            self._reread_here += self.journal.commit.next_lsn - self.lsn

    def take_last(self, seconds: float) -> None:
        """Take one before a clean end, so that the next start is short, and old segments go.

        Args:
            seconds: How long that may take.
        """
        journal, commit, loop = self.journal, self.journal.commit, self.journal.node.loop
        has_news = journal.newest is None or journal.newest[0] != commit.next_lsn - 1
        # Without news only the older snapshot and what it needs can go: not before it must.
        segments = len(journal.segment_starts) if has_news else self.segments_since
        is_worth_it = (
            commit.next_lsn - self.lsn > LAST_SNAPSHOT_RECORDS or segments > LAST_SNAPSHOT_SEGMENTS
        )
        if not is_worth_it or commit.error or not self.take():
            return
        until = loop.now() + seconds
        while self._is_busy and not commit.error and loop.now() < until:
            loop.run_once(0.05)

    def take(
        self,
        on_written: Callable[[BaseException | None], bool] | None = None,
        on_named: Callable[[], None] | None = None,
        *,
        bytes_here: int = 0,
    ) -> bool:
        """Take a snapshot now; whether one is on its way. `why_not` says why none is.

        Args:
            on_written: Called with None when it and all before it are durable, or with why it is
                not; says whether the manifest is to name it.
            on_named: Called when the manifest names it, durably.
            bytes_here: States up to so many bytes in all are encoded here and not in a fork.
        """
        if self._is_busy:
            return False
        loop, commit = self.journal.node.loop, self.journal.commit
        began = loop.now()
        for server in loop.dispatcher.unfinished():  # else what it goes on with would be nowhere
            loop.dispatcher.finish(server)
        self._on_written, self._on_named = on_written, on_named
        newest = self.journal.newest or recovery.NO_SNAPSHOTS[0]
        if on_written is not None and newest[0] == commit.next_lsn - 1 and not self._move_on():
            return False
        lsn = commit.next_lsn - 1
        self.lsn, self._bytes_then = lsn, commit.bytes_written  # a failure is not repeated at once
        self._segment_then = commit.current_segment
        self._reread_here = 0
        if on_written is None and newest[0] == lsn:
            # Nothing has happened since, or never yet: written anew it would take the file from the
            # one that the manifest names. Only what is older goes.
            self.journal.name_snapshot(*newest, on_named)
            self.taken += 1
            return True
        if lsn < 1:
            return False
        try:
            self.journal.build_dirty()
            work = self._begin(lsn, bytes_here)
        except OSError as error:  # no process or descriptor is left: there is a next time
            self._written(lsn, None, error)
            return False
        self.seconds_longest = max(self.seconds_longest, loop.now() - began)
        if work is None:
            return False
        self._is_busy = True
        batch = commit.batch_of_last()
        self.journal.off_loop(work, lambda digest, error: self._made(lsn, batch, digest, error))
        return True

    def _move_on(self) -> bool:
        """Nothing has happened since the newest snapshot, and the states are others all the same: a
        file of the same lsn would take that one's place before the manifest names it. So something
        happens: it gets late.
        """
        try:
            self.journal.commit.mark_time(self.journal.now_ns())
        except PybehaveError as error:
            self._written(self.journal.commit.next_lsn - 1, None, error)
            return False
        return True

    def _begin(self, lsn: int, bytes_here: int) -> Callable[[], bytes] | None:
        if not self.is_forking:
            return self._begin_here(lsn)
        if bytes_here:
            try:
                return self._begin_here(lsn, bytes_here)
            except TooLargeError:
                logger.debug("the states are larger than %d bytes", bytes_here)
        return self._begin_in_child(lsn)

    def _begin_here(self, lsn: int, bytes_max: int = 0) -> Callable[[], bytes] | None:
        """Encode the states now; the rest is for a thread.

        Raises:
            TooLargeError: They take more than `bytes_max`.
        """
        entries = self._entries(bytes_max)
        if entries is None:
            return None
        assert self.journal.recovery is not None
        journal_id, now_ns = self.journal.recovery.manifest.id, self.journal.now_ns()
        is_plain = all(absent.is_plain for absent in self.journal.absent.values())
        version = snapshot.VERSION if is_plain else snapshot.VERSION_ABSENT
        disk, coder = self.journal.disk, self.journal.coder
        return lambda: snapshot.write(
            disk, snapshot.encode(journal_id, lsn, now_ns, entries, version, coder), lsn
        )

    def _begin_in_child(self, lsn: int) -> Callable[[], bytes] | None:
        """Let a fork's child encode the states as they are now, and write them (decision 0007)."""
        reading, writing = os.pipe()
        node = os.getpid()
        gc.freeze()  # a full collection would write to each object, and so copy every page
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other threads: see 0007
            try:
                pid = os.fork()
            except OSError:
                gc.unfreeze()
                os.close(reading)
                os.close(writing)
                raise
        if pid == 0:
            self._be_the_child(lsn, writing, node)
        os.close(writing)
        return lambda: _result_of(pid, reading)

    def _be_the_child(self, lsn: int, writing: int, node: int) -> None:
        """Never returns. What is inherited is let go first: a connection that the node closes must
        not stay open here, nor the lock be held. It does not outlive the node: the next one must
        find the folder left alone.
        """
        status = 1
        try:
            for number in CHILD_IGNORES:
                signal.signal(number, signal.SIG_IGN)
            _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != node:
                return  # it died in between
            below = 3
            for kept in sorted([writing, *self.journal.hibernation.descriptors]):
                os.closerange(below, kept)
                below = kept + 1
            os.closerange(below, max(below, os.sysconf("SC_OPEN_MAX")))
            gc.disable()
            if self._on_written is None:
                os.nice(CHILD_NICE)
            work = self._begin_here(lsn)
            if work is None:
                os.write(writing, f"!{self.why_not}"[:4096].encode())
            else:
                os.write(writing, work())
                status = 0
        except BaseException as error:  # noqa: BLE001 -- the parent is told, whatever it is
            os.write(writing, f"!{type(error).__name__}: {error}"[:4096].encode())
        finally:
            os._exit(status)

    def _made(
        self, lsn: int, batch: int, digest: bytes | None, error: BaseException | None
    ) -> None:
        """The file is there; it counts when every record in it is durable."""
        if digest is None or not self.journal.is_open:
            self._written(lsn, digest, error)
            return
        self.journal.commit.when_durable(batch, lambda: self._written(lsn, digest, None))

    def _written(self, lsn: int, digest: bytes | None, error: BaseException | None) -> None:
        self._is_busy = False
        is_wanted, self._on_written = self._on_written or (lambda error: True), None
        on_named, self._on_named = self._on_named, None
        if digest is None or not self.journal.is_open:
            error = error or OSError("the journal has been closed")
            self.failed += 1
            logger.error("the snapshot of lsn %d could not be written: %s", lsn, error)
            self.journal.node.events.hand_on(SnapshotRejected("", "", lsn, str(error)))
            is_wanted(error)
            return
        self.taken += 1
        if is_wanted(None):
            self.journal.name_snapshot(lsn, digest, on_named)
        self.journal.node.events.hand_on(SnapshotSaved("", "", lsn))

    # --- states to bytes -----------------------------------------------------------------------

    def _entries(self, bytes_max: int = 0) -> list[Entry] | None:
        """All servers, or None when one of them cannot be kept."""
        journal = self.journal
        found: list[Entry] = []
        size = 0
        for name, number in journal.numbers.items():
            server = journal.node.loop.dispatcher.whereis(name)
            known = journal.remembered(name)
            left = max(1, bytes_max - size) if bytes_max else 0
            try:
                if server is not None and server.number == number:
                    entry = self._running(server, left)
                elif known is not None and not known.is_dirty and known.dump is not None:
                    entry = self._stopped(name, number, known, left)
                elif known is None and name in journal.absent:
                    entry = journal.absent[name].entry()
                else:
                    raise NotJournalable("its state could not be built again")
            except TooLargeError:
                raise
            except Exception as error:  # noqa: BLE001 -- whatever `dump` does
                self._complain(name, error)
                return None
            found.append(entry)
            size += len(entry.state)
        outbox = self._outbox()
        return found if outbox is None else [*found, outbox]

    def _outbox(self) -> Entry | None:
        """Messages between servers that are under way, as an entry of no server."""
        sent = self.under_way()
        return Entry(Values().encode({"name": "", "number": 0}), sent) if sent else None

    def under_way(self, but_to: str = "") -> bytes:
        """Messages between servers that are under way, but to one, encoded; empty = none."""
        journal = self.journal
        sent = []
        outbox = journal.node.loop.dispatcher.outbox.items()
        now = [(*origin, *message) for origin, message in outbox]
        for lsn, index, name, kind, message in (*journal.undelivered, *now):
            receiver = journal.node.loop.dispatcher.whereis(name)
            if name == but_to or is_ephemeral(receiver, kind, message):
                continue
            try:
                is_encoded = isinstance(message, Encoded)
                data = message.data if is_encoded else journal.encoder_of(name).encode(message)
            except Exception as error:  # noqa: BLE001 -- it will be refused where it arrives, too
                logger.warning("a message to %r has no form in the journal: %s", name, error)
                continue
            sent.append([lsn, index, name, kind, data])
        return Values().encode(sent) if sent else b""

    def _running(self, server: Server, bytes_max: int) -> Entry:
        kind = type(server.instance)
        values = self.journal.values_named(server.name)
        facts = {
            "name": server.name,
            "number": server.number,
            "incarnation": server.incarnation,
            "module": kind.__module__,
            "class": kind.__qualname__,
            "version": version_of(kind),
            "idle": server.idle_s,
            "timers": _timers(server.due or {}, values),
            "asked": asked.dump(server.asked, values),
            "random": server.random_state(),
            "requests": server.requests.dump() if server.requests is not None else [],
            "format": "values",
        }
        state = self._bytes(server.instance.dump, server.state, values, bytes_max)
        return Entry(values.encode(facts), state)

    def _stopped(self, name: str, number: int, known: Known, bytes_max: int) -> Entry:
        assert known.dump is not None
        values = self.journal.values_named(name)
        facts = {
            "name": name,
            "number": number,
            "incarnation": known.incarnation,
            "module": "",
            "class": "",
            "version": known.version,
            "failure": b"" if known.failure is None else values.encode(list_of(known.failure)),
            "idle": known.idle_s,
            "timers": _timers(known.due, values),
            "asked": asked.dump(known.asked, values),
            "random": None,
            "requests": known.requests.dump() if known.requests is not None else [],
            "format": "values",
        }
        state = self._bytes(known.dump, known.state, values, bytes_max)
        return Entry(values.encode(facts), state)

    def _bytes(
        self, dump: Callable[[Any], Any], state: Any, values: Values, bytes_max: int
    ) -> bytes:
        """A state; one that is out of memory as it lies there."""
        if type(state) is Asleep:
            return self.journal.hibernation.encoded(state)
        return values.encode(dump(state), bytes_max)

    def _complain(self, name: str, error: BaseException) -> None:
        self.why_not = f"the state of server {name!r} cannot be kept: {error}"
        if name not in self._complained:
            self._complained.add(name)
            logger.warning(
                "no snapshot can be taken, so the journal grows: the state of server %r cannot be "
                "kept: %s; give it `dump` and `load`",
                name,
                error,
            )


def _timers(due: dict[Any, tuple[int, Any]], values: Values) -> bytes:
    """As bytes of their own: only the server's types can read the messages."""
    return values.encode({name: list(at) for name, at in due.items()})


def _result_of(pid: int, reading: int) -> bytes:
    """Wait for a child that writes a snapshot; its digest.

    Raises:
        OSError: It failed; says why.
    """
    try:
        said = b""
        while piece := os.read(reading, 8192):
            said += piece
    finally:
        os.close(reading)
        _, status = os.waitpid(pid, 0)
        gc.unfreeze()  # what somebody else had frozen, too: it is the one list that there is
    if os.waitstatus_to_exitcode(status) != 0 or len(said) != DIGEST_BYTES:
        raise OSError(said[1:].decode("utf-8", "replace") or "the child that wrote it ended early")
    return said

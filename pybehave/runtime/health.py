"""How a node fares: "ok", "degraded" or "failing", why, and whether it is to get requests.

Theory. Everything is in counters already, or comes as an event that is rare; nobody looks unless
asked, or every so many seconds if that was ordered (`HealthLimits.every`). What has gone wrong
stands as a reason until it is mended, or until it has not happened for `healthy_after` seconds.

| reason            | level    | what is wrong                                                     |
|-------------------|----------|-------------------------------------------------------------------|
| starting          | failing  | the tree and the listeners are not there yet          (not ready) |
| stopping          | failing  | the node stops or has stopped                         (not ready) |
| loop_stuck        | failing  | the loop does not answer                     (not ready, not live)|
| journal_failed    | failing  | nothing can be written any more              (not ready, not live)|
| disk_full         | failing  | the journal has no room for its next segment          (not ready) |
| application_ended | failing  | an application has ended by itself, and the node goes on          |
| crashes           | degraded | a server failed, or did not start; failing after `failing_after`  |
| gave_up           | degraded | a supervisor ended, one restart too many                          |
| down              | degraded | a child waits to be started again; failing after `failing_after`  |
| paused            | degraded | a supervisor starts nothing again for now                         |
| quarantined       | degraded | an input became a dead letter                                     |
| snapshots         | degraded | the latest snapshot does not count                                |
| disk_low          | degraded | less room than for `disk_segments` segments                       |
| mailbox           | degraded | a mailbox is nearly full                                          |
| overloaded        | degraded | inputs were refused or dropped at a full mailbox                  |
| steps             | degraded | a step took longer than its budget                                |
| accept_errors     | degraded | connections could not be accepted: descriptors, memory            |
| refused           | degraded | connections over a listener's `connections_max`                   |
| suspended         | degraded | somebody has suspended servers                                    |

Invariants
  (H1) "ok" means that there is no reason; "failing", that one of them is failing.
  (H2) Looking changes nothing but what was told last; a disk is asked on another thread than the
       loop's, for it may take its time.

Does not know: who asks (observer/, cli/); when a child is started again.
Source: features.md A4-3; Kubernetes' probes for ready and live.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

from msgspec import Struct

from pybehave.behaviours.plan import Status
from pybehave.behaviours.rules import Rule, check, is_count, is_number
from pybehave.errors import LoopClosed, Timeout
from pybehave.runtime import systemd
from pybehave.runtime.durable.events import Quarantined, SnapshotRejected, SnapshotSaved
from pybehave.runtime.events import (
    ChildStarted,
    ChildTerminated,
    Escalated,
    Event,
    IntensityReached,
    ShutdownError,
    StartError,
)
from pybehave.runtime.tree.failures import Failures, Row
from pybehave.runtime.watchdog import StepTooLong

if TYPE_CHECKING:
    from pybehave.runtime.durable.journaling import NodeJournal
    from pybehave.runtime.node import Node

Level: TypeAlias = Literal["degraded", "failing"]
HealthStatus: TypeAlias = Literal["ok", "degraded", "failing"]

ASK_S: Final = 5.0
"""A loop that does not answer within this is in a step that takes too long."""

REASONS_MAX: Final = 50
"""The gravest; what is beyond is counted only."""

CHILDREN_SHOWN: Final = 5
"""Of one supervisor; more that fail are one reason, the supervisor's."""

NOT_READY: Final = frozenset(("starting", "stopping", "loop_stuck", "journal_failed", "disk_full"))
NOT_LIVE: Final = frozenset(("loop_stuck", "journal_failed"))

_TENTH_DOWN: Final = 0.9
_SECONDS: Final = Rule(lambda value: is_number(value) and value > 0, "seconds > 0")
_RULES: Final = {
    "healthy_after": _SECONDS,
    "failing_after": _SECONDS,
    "mailbox_share": Rule(
        lambda value: is_number(value) and 0 < value <= 1, "a number above 0, at most 1"
    ),
    "disk_segments": Rule(is_count, "an int >= 0"),
    "every": Rule(
        lambda value: value is None or (is_number(value) and value > 0), "seconds > 0, or None"
    ),
}

logger = logging.getLogger("pybehave.health")


@final
class HealthLimits(Struct, frozen=True, kw_only=True):
    """From when on something is a reason.

    Attributes:
        healthy_after: Seconds without another failure of its kind after which one counts no more.
        failing_after: Seconds after which a server that still fails, or is still down, is more than
            a nuisance.
        mailbox_share: Of its capacity; a mailbox that holds as much is nearly full.
        disk_segments: So many of the journal's segments must fit the disk; 0: nobody looks.
        every: Seconds between two looks that nobody asked for; None: there are none.

    Raises:
        SpecError: A field is not what it may be.
    """

    healthy_after: float = 60.0
    failing_after: float = 300.0
    mailbox_share: float = _TENTH_DOWN
    disk_segments: int = 4
    every: float | None = None

    def __post_init__(self) -> None:
        check(
            "HealthLimits", _RULES, {name: getattr(self, name) for name in self.__struct_fields__}
        )


@final
class Reason(Struct, frozen=True):
    """One thing that is wrong.

    Attributes:
        what: Its name in the table above.
        level: "degraded" or "failing".
        where: Path, name or folder; "" = the node.
        count: How many times, or of how many.
        seconds: For how long; 0 where that is not known.
        text: One sentence for people.
    """

    what: str
    level: Level
    where: str
    count: int
    seconds: float
    text: str

    def __str__(self) -> str:
        return self.text


@final
class Health(Struct, frozen=True):
    """How a node fares.

    Attributes:
        status: "ok", "degraded" or "failing" (H1).
        reasons: Why, the gravest first; at most REASONS_MAX.
        reasons_more: How many there are beyond.
        is_ready: Whether it should get requests.
        is_live: Whether it can get well without another process.
    """

    status: HealthStatus
    reasons: tuple[Reason, ...] = ()
    reasons_more: int = 0
    is_ready: bool = True
    is_live: bool = True

    @classmethod
    def of(cls, reasons: list[Reason]) -> Health:
        """Return what so many reasons make."""
        graver = sorted(reasons, key=lambda reason: reason.level != "failing")
        kinds = {reason.what for reason in reasons}
        return cls(
            graver[0].level if graver else "ok",
            tuple(graver[:REASONS_MAX]),
            max(0, len(graver) - REASONS_MAX),
            is_ready=not kinds & NOT_READY,
            is_live=not kinds & NOT_LIVE,
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values for programs."""
        return {**fields_of(self), "reasons": [fields_of(reason) for reason in self.reasons]}

    def __str__(self) -> str:
        if not self.reasons:
            return self.status
        more = len(self.reasons) - 1 + self.reasons_more
        return f"{self.status}: {self.reasons[0].text}" + (f" (and {more} more)" if more else "")


class HealthChanged(Event, frozen=True):
    """A node fares better or worse than when somebody looked last.

    Attributes:
        before: How it was.
        health: How it is.
    """

    before: HealthStatus
    health: Health

    @property
    def severity(self) -> int:
        """Worse news are louder."""
        return _SEVERITIES[self.health.status]

    def __str__(self) -> str:
        return f"health was {self.before} and is {self.health}"


_SEVERITIES: Final = {"ok": logging.INFO, "degraded": logging.WARNING, "failing": logging.ERROR}


@final
class HealthWatch:
    """What is known of one node's health, and who looks.

    Args:
        node: Whose.
        limits: From when on something is a reason.

    Attributes:
        failures: What failed lately.
    """

    def __init__(self, node: Node, limits: HealthLimits) -> None:
        self._node = node
        self.limits = limits
        self.failures = Failures(limits.healthy_after)
        self._is_serving = self._is_stopping = False
        self._ended: dict[str, str] = {}
        self._snapshot: tuple[float, str] | None = None
        self._counters: dict[str, int] = {}
        self._room_bytes: int | None = None
        self._is_measuring = False
        self._told: Health | None = None
        node.events.add(self._heard)

    # --- life ----------------------------------------------------------------------------------

    def serving(self) -> None:
        """The tree runs and the listeners are open; on the loop's thread."""
        self._is_serving = True
        if self.limits.every is not None:
            self._look_again()

    def stopping(self) -> None:
        """The node stops."""
        self._is_stopping = True

    @property
    def is_serving(self) -> bool:
        """Whether it has started and does not stop yet."""
        return self._is_serving and not self._is_stopping

    def _look_again(self) -> None:
        if self._is_stopping:
            return
        self.look()
        self._measure()
        assert self.limits.every is not None
        self._node.loop.dispatcher.start_alarm(self.limits.every, self._look_again)

    def _measure(self) -> None:
        """Ask the disk for its room, on a thread: a disk may take its time (H2)."""
        journal = self._node.journal
        if journal is None or self._is_measuring or not self.limits.disk_segments:
            return
        self._is_measuring = True

        def measured(room: int | None, error: BaseException | None) -> None:
            self._is_measuring = False
            self._room_bytes = room if error is None else self._room_bytes

        journal.off_loop(journal.disk.free_bytes, measured)

    # --- asking --------------------------------------------------------------------------------

    def ask(self, timeout: float | None = ASK_S) -> Health:
        """Look now; from any thread.

        Args:
            timeout: Seconds for the loop to answer; None waits as long as it takes.
        """
        if not self.is_serving:
            return Health.of(list(self._of_life()))
        if self._node.loop.thread != threading.get_ident():
            self._measure_here()
        try:
            return self._node.run_on_loop(self.look, timeout=timeout)
        except Timeout:
            return Health.of([self._stuck(timeout)])
        except LoopClosed:
            return Health.of(list(self._of_life(is_closed=True)))

    def ask_later(self, answer: Callable[[Health], None]) -> None:
        """Look when the disk has said how much room it has; on the loop's thread."""
        journal = self._node.journal
        if journal is None or not self.limits.disk_segments:
            answer(self.look())
            return

        def measured(room: int | None, error: BaseException | None) -> None:
            self._room_bytes = room if error is None else self._room_bytes
            answer(self.look())

        journal.off_loop(journal.disk.free_bytes, measured)

    def _measure_here(self) -> None:
        journal = self._node.journal
        if journal is not None and self.limits.disk_segments:
            try:
                self._room_bytes = journal.disk.free_bytes()
            except OSError as error:  # the journal itself will say what is wrong with its folder
                logger.debug("no room can be measured in %s: %s", journal.disk.path, error)

    def _stuck(self, timeout: float | None) -> Reason:
        stepping, doing = self._node.loop.dispatcher.stepping(), self._node.host.doing
        name = stepping[0].name if stepping is not None else doing[0] if doing is not None else ""
        by = f"; server {name!r} has it" if name else ""
        seconds = timeout or 0.0
        text = f"the loop has not answered for {seconds:g} s{by}"
        return Reason("loop_stuck", "failing", name, 1, seconds, text)

    # --- looking -------------------------------------------------------------------------------

    def look(self) -> Health:
        """Look now; on the loop's thread."""
        now = self._node.loop.now()
        self._count(now)
        health = Health.of(
            [
                *self._of_life(),
                *self._of_journal(now),
                *self._of_trees(now),
                *self._of_failures(now),
                *self._of_load(),
            ]
        )
        self._tell(health)
        return health

    def _tell(self, health: Health) -> None:
        told, self._told = self._told, health
        if told is not None and str(told) == str(health):
            return
        if told is not None or health.reasons or self._node.journal is not None:
            line = " ".join(str(health).split())  # another line would be another notice
            systemd.notify(f"STATUS={line}", wait=0.0)  # instead of how far a recovery was
        before: HealthStatus = "ok" if told is None else told.status
        if before != health.status:
            event = HealthChanged("", "", before, health)
            logger.log(event.severity, "%s", event)
            self._node.events.hand_on(event)

    def _of_life(self, *, is_closed: bool = False) -> Iterator[Reason]:
        if self._is_stopping or is_closed:
            yield Reason("stopping", "failing", "", 1, 0.0, "the node stops, or has stopped")
        elif not self._is_serving:
            yield Reason("starting", "failing", "", 1, 0.0, "the node has not started yet")

    def _of_journal(self, now: float) -> Iterator[Reason]:
        journal = self._node.journal
        if journal is None:
            return
        where, commit = journal.disk.path, journal.commit
        if commit.error:
            text = f"the journal cannot be written any more: {os.strerror(commit.error)}"
            yield Reason("journal_failed", "failing", where, 1, 0.0, text)
        elif commit.is_full:
            text = "the disk has no room for the journal's next segment: inputs are refused"
            yield Reason("disk_full", "failing", where, 1, 0.0, text)
        elif self._room_bytes is not None:
            wanted = self.limits.disk_segments * _segment_bytes(journal)
            if self._room_bytes < wanted:
                text = f"the disk has room for {self._room_bytes >> 20} MiB; {wanted >> 20} are low"
                yield Reason("disk_low", "degraded", where, self._room_bytes, 0.0, text)
        if self._snapshot is not None:
            since, why = self._snapshot
            text = f"the latest snapshot does not count: {why}"
            yield Reason("snapshots", "degraded", where, 1, now - since, text)

    def _of_trees(self, now: float) -> Iterator[Reason]:
        trees = self._node.applications.trees()
        running = {tree.root_id for tree in trees}
        for name, why in list(self._ended.items()):
            if name in running:
                del self._ended[name]
                continue
            text = f"application {name!r} has ended by itself ({why}), and the node goes on"
            yield Reason("application_ended", "failing", name, 1, 0.0, text)
        for tree in trees:
            for path, node in tree.supervisors.items():
                if node.state.is_paused:
                    waiting, row = len(node.state.waiting), node.state.pauses
                    text = f"{path} starts nothing again for now; {waiting} children wait"
                    seconds = max(0.0, now - row.latest + row.wait)
                    yield Reason("paused", "degraded", path, waiting, seconds, text)

    def _of_failures(self, now: float) -> Iterator[Reason]:
        by_supervisor: dict[tuple[str, str], list[Row]] = {}
        for row in self.failures.standing(now, self._is_down):
            by_supervisor.setdefault((row.kind, row.within), []).append(row)
        for (kind, within), rows in by_supervisor.items():
            if len(rows) <= CHILDREN_SHOWN or not within:
                yield from (self._reason_of(row, now) for row in rows)
                continue
            first = min(row.first for row in rows)
            count = sum(row.count for row in rows)
            text = f"{len(rows)} children of {within} have failed, {_times(count)} in all"
            level = self._level_of(kind, now - first)
            yield Reason(kind, level, within, count, now - first, text)

    def _reason_of(self, row: Row, now: float) -> Reason:
        seconds, kind = now - row.first, row.kind
        where = f"{row.within}/{row.where}" if row.within else row.where
        if kind == "crashes" and self._is_down(row):
            kind = "down"
        text = _SENTENCES[kind].format(where=where, times=_times(row.count), why=row.why)
        return Reason(kind, self._level_of(kind, seconds), where, row.count, seconds, text)

    def _level_of(self, kind: str, seconds: float) -> Level:
        is_long = kind in ("crashes", "down") and seconds >= self.limits.failing_after
        return "failing" if is_long else "degraded"

    def _is_down(self, row: Row) -> bool:
        """Whether the child that a row is of waits to be started again."""
        if row.kind != "crashes":
            return False
        for tree in self._node.applications.trees():
            node = tree.supervisors.get(row.within)
            child = None if node is None else node.state.children.get(row.where)
            if child is not None:
                return child.status is Status.RESTARTING
        return False

    def _of_load(self) -> Iterator[Reason]:
        dispatcher = self._node.loop.dispatcher
        for server in dispatcher.filled(self.limits.mailbox_share):
            count, name = server.mailbox_count, server.name
            text = f"{count} inputs wait for {name!r}, whose mailbox holds {server.capacity}"
            yield Reason("mailbox", "degraded", name, count, 0.0, text)
        count = dispatcher.suspended_count
        if count:
            text = f"{count} servers are suspended; their inputs wait until somebody resumes them"
            yield Reason("suspended", "degraded", "", count, 0.0, text)

    def _count(self, now: float) -> None:
        """What the core has counted since the look before is a failure of the node's own."""
        found = self._node.loop.stats()["loop"]
        for kind in ("overloaded", "accept_errors", "refused"):
            more = found[kind] - self._counters.get(kind, 0)
            self._counters[kind] = found[kind]
            if more:
                self.failures.note(kind, "", now, count=more)

    # --- what is heard -------------------------------------------------------------------------

    def _heard(self, event: Event) -> None:
        if type(event) is ChildStarted:  # of all events the only one that comes in thousands
            if event.restarts:
                self.failures.count(self.failures.restarted, event.supervisor)
            return
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def _child_failed(self, event: Any) -> None:
        if type(event) is StartError and event.context == "request":
            return  # whoever asked has the error
        failures = self.failures
        failures.count(failures.failed, event.supervisor)
        reason = event.reason
        why = reason if isinstance(reason, str) else type(reason).__name__  # (F2)
        now = self._node.loop.now()
        failures.note("crashes", event.child, now, within=event.supervisor, why=why)

    def _gave_up(self, event: Any) -> None:
        self.failures.note("gave_up", event.supervisor, self._node.loop.now(), why=event.child)

    def _escalated(self, event: Any) -> None:
        if not event.supervisor and event.cause in ("give_up", "terminate"):
            self._ended[event.child] = event.cause

    def _quarantined(self, event: Any) -> None:
        now = self._node.loop.now()
        self.failures.note("quarantined", event.child, now, why=f"lsn {event.lsn}")

    def _step_too_long(self, event: Any) -> None:
        now = self._node.loop.now()
        self.failures.note("steps", event.child, now, why=f"{event.seconds:.3g} s")

    def _snapshot_rejected(self, event: Any) -> None:
        since = self._node.loop.now() if self._snapshot is None else self._snapshot[0]
        self._snapshot = (since, event.why)

    def _snapshot_saved(self, event: Any) -> None:
        self._snapshot = None


def fields_of(struct: Struct) -> dict[str, Any]:
    """Return a structure's fields by name, the values as they are."""
    return {name: getattr(struct, name) for name in struct.__struct_fields__}


def _segment_bytes(journal: NodeJournal) -> int:
    assert journal.recovery is not None  # it is open
    return int(journal.recovery.manifest.segment_bytes)


_HANDLERS: Final[dict[type[Event], Callable[[HealthWatch, Any], None]]] = {
    ChildTerminated: HealthWatch._child_failed,
    StartError: HealthWatch._child_failed,
    ShutdownError: HealthWatch._child_failed,
    IntensityReached: HealthWatch._gave_up,
    Escalated: HealthWatch._escalated,
    Quarantined: HealthWatch._quarantined,
    SnapshotRejected: HealthWatch._snapshot_rejected,
    SnapshotSaved: HealthWatch._snapshot_saved,
    StepTooLong: HealthWatch._step_too_long,
}

_SENTENCES: Final = {
    "crashes": "{where} has failed {times}, the last time with {why}",
    "down": "{where} has failed {times} and waits to be started again",
    "gave_up": "{where} gave up: {why} needed one restart too many",
    "quarantined": "an input of server {where!r} became a dead letter {times}, at last {why}",
    "steps": "a step of server {where!r} took longer than its budget {times}, at last {why}",
    "overloaded": "an input was refused or dropped at a full mailbox {times}",
    "accept_errors": "a connection could not be accepted {times}; see ulimit -n",
    "refused": "a connection was refused {times}, for connections_max was reached",
}
"""What a row says; it has `where`, `times` and `why`."""


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")

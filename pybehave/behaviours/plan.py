"""What decisions about a supervisor's children are made of, and what they are: plans.

The lists, statuses and plans are plain data; what is decided is in restart.py, and whoever carries
a plan out takes its steps one by one.

Status of a child

    STOPPED --started--> RUNNING --ended, or stopped--> STOPPED
    STOPPED --its restart failed, or waits--> RESTARTING --retry begins, or cancelled--> STOPPED

Does not know: what is decided when (restart.py, child_requests.py), clocks, servers.
Source: OTP stdlib, supervisor, records `state` and `child`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from enum import Enum
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

from pybehave.behaviours.backoff import Backoff, Row
from pybehave.behaviours.budget import Budget
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.supervisor import ChildSpec, Supervisor
from pybehave.errors import TerminateTree
from pybehave.types import Restart

T = TypeVar("T")


class Status(Enum):
    """Where a child stands, as which_children shows it."""

    RUNNING = "running"
    STOPPED = "stopped"
    RESTARTING = "restarting"


class Verdict(Enum):
    """What a plan is for.

    Attributes:
        word: Its value, which an enumeration takes its time to give.
    """

    def __init__(self, word: str) -> None:
        self.word = word

    START = "start"
    """The supervisor's own start: all children, in order."""

    ROLL_BACK = "roll_back"
    """That start failed: what had started stops, then the supervisor ends."""

    RESTART = "restart"
    """A child ended, or a retry is due: stop the range, start the range."""

    KEEP = "keep"
    """The child ended and stays in the list as stopped."""

    FORGET = "forget"
    """The child ended and leaves the list."""

    GIVE_UP = "give_up"
    """One attempt too many: the others stop, then the supervisor ends."""

    DELAY = "delay"
    """The child ended, and is started again when its back-off is over."""

    PAUSE = "pause"
    """One attempt too many: the child waits until its supervisor goes on, the others run."""

    TERMINATE = "terminate"
    """The child ended with the order to end its supervisor: the others stop, then it ends."""

    AUTO_SHUTDOWN = "auto_shutdown"
    """Significant children ended: the others stop, then the supervisor ends."""

    STOP = "stop"
    """The supervisor was asked to end: all children stop, in reverse."""

    REQUEST = "request"
    """Somebody asked for one child to be started or stopped."""


# To look a member up in its enumeration takes ten times as long as a name of the module (0.14 us in
# Python 3.11, whose metaclass has a __getattr__), and a restart would do so thirty times.
STOPPED: Final = Status.STOPPED
RUNNING: Final = Status.RUNNING
RESTARTING: Final = Status.RESTARTING
START: Final = Verdict.START
ROLL_BACK: Final = Verdict.ROLL_BACK
RESTART: Final = Verdict.RESTART
KEEP: Final = Verdict.KEEP
FORGET: Final = Verdict.FORGET
GIVE_UP: Final = Verdict.GIVE_UP
DELAY: Final = Verdict.DELAY
PAUSE: Final = Verdict.PAUSE
TERMINATE: Final = Verdict.TERMINATE
AUTO_SHUTDOWN: Final = Verdict.AUTO_SHUTDOWN
STOP: Final = Verdict.STOP
REQUEST: Final = Verdict.REQUEST


class Rare:
    """What few children have: one for those that have, and one that all others share.

    A hundred thousand children of one supervisor are nothing unusual, and each slot of each of them
    is most of a megabyte. `Kept` reads and writes what is in here as the child's attributes; what a
    restart does often, it does here, for a descriptor's call takes as long as what it is for.

    Attributes: as `Child` has them.
    """

    __slots__ = ("attempt", "is_free", "restarts", "row")

    def __init__(self) -> None:
        self.attempt = 0
        self.restarts = 0
        self.row: Row | None = None
        self.is_free = False


class Kept(Generic[T]):
    """An attribute that nearly all children have at its default, so that those keep nothing of it.

    Args:
        default: What a child has that was never given another; the same as `Rare` says.
    """

    __slots__ = ("_default", "_name")

    def __init__(self, default: T) -> None:
        self._default = default
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, child: Child, owner: type | None = None) -> T:
        value: T = getattr(child.rare, self._name)
        return value

    def __set__(self, child: Child, value: T) -> None:
        if value is not self._default or child.rare is not child.usual:
            setattr(child.own(), self._name, value)


class Child:
    """One entry of a supervisor's list.

    Attributes:
        id: Its key in the list.
        spec: What it was specified as.
        status: Where it stands.
        attempt: Numbers the retries: one with another number than this was overtaken (R7).
        ref: What the runtime knows it by while it runs; else None.
        restarts: How often it was started again by its supervisor.
        row: Its failures in a row, once it has failed, if it has a back-off.
        is_free: Starting it again after its latest failure is not charged (R10).
        rare: What few children have; most have the one that they share (`Rare`).
        usual: That one.
    """

    __slots__ = ("id", "rare", "ref", "spec", "status")

    attempt = Kept(0)
    restarts = Kept(0)
    row: Kept[Row | None] = Kept(None)
    is_free = Kept(False)

    usual: ClassVar[Rare] = Rare()

    def __init__(self, child_id: str, spec: ChildSpec) -> None:
        self.id = child_id
        self.spec = spec
        self.status: Status = STOPPED
        self.ref: Any = None
        self.rare: Any = self.usual

    def own(self) -> Any:
        """What it has of its own of what few have, to put something in."""
        if self.rare is self.usual:
            self.rare = type(self.usual)()
        return self.rare

    @property
    def restart(self) -> Restart:
        """When it is started again."""
        return self.spec.restart

    @property
    def significant(self) -> bool:
        """Whether its end may end its supervisor."""
        return self.spec.significant

    @property
    def backoff(self) -> Backoff | None:
        """How long each of its restarts waits. A supervisor's own back-off is another thing."""
        return self.spec.backoff if isinstance(self.spec, Worker) else None

    @property
    def began(self) -> float | None:
        """Monotonic seconds since which it runs, as far as who runs it says so."""
        return getattr(self.ref, "began", None)

    def adopt(self, spec: ChildSpec) -> None:
        """Go by another specification from now on."""
        self.spec = spec

    def __repr__(self) -> str:
        return f"<{self.id} {self.status.value}>"


class SupervisorState:
    """What decisions depend on: the flags, the ordered list, what has been charged.

    Attributes:
        spec: The flags.
        children: In start order, by id.
        budget: Which attempts were charged.
        waiting: While it is paused, the children that are to be started again, and the attempt
            that each waits for (R7).
        is_paused: Whether restarts wait for its back-off.
        pauses: Its pauses in a row.
        made: How many children a simple_one_for_one has made; numbers those without a name.
    """

    __slots__ = (
        "budget",
        "children",
        "is_paused",
        "is_simple",
        "made",
        "pauses",
        "spec",
        "waiting",
    )

    def __init__(self, spec: Supervisor) -> None:
        self.spec = spec
        self.children: dict[str, Child] = {}
        self.budget = Budget(spec)
        self.waiting: dict[Child, int] = {}
        self.is_paused = False
        self.pauses = Row()
        self.is_simple = spec.is_simple
        self.made = 0

    @classmethod
    def of(cls, spec: Supervisor, status: Status = RUNNING) -> SupervisorState:
        """Return the state of a supervisor whose children all have the same status."""
        state = cls(spec)
        assert not state.is_simple, "a template is no child"
        for child_id, child_spec in zip(spec.child_ids, spec.children, strict=True):
            child = state.children[child_id] = Child(child_id, child_spec)
            child.status = status
        return state

    @property
    def attempts(self) -> deque[float]:
        """When the last attempts were charged."""
        return self.budget.attempts


class Wait(NamedTuple):
    """How long a restart waits.

    Attributes:
        failures: In a row, with the one that it waits for.
        seconds: How long.
        since: Monotonic seconds.
    """

    failures: int
    seconds: float
    since: float


class Plan:
    """Who stops and who starts, in execution order, and how far that has got.

    Attributes:
        verdict: What the plan is for.
        child: The child that ended, is retried or was asked for; None when it is about all.
        stops: From last to first.
        starts: From first to last.
        charged_at: When the attempt is charged; None when it is not.
        wait: DELAY and PAUSE: how long, by which failure in a row, from when; None when the
            supervisor is paused already.
        order: TERMINATE: what the child has ordered.
    """

    __slots__ = (
        "charged_at",
        "child",
        "order",
        "start_index",
        "starts",
        "stop_index",
        "stops",
        "verdict",
        "wait",
    )

    def __init__(
        self,
        verdict: Verdict,
        child: Child | None = None,
        stops: Sequence[Child] = (),
        starts: Sequence[Child] = (),
        charged_at: float | None = None,
        *,
        wait: Wait | None = None,
        order: TerminateTree | None = None,
    ) -> None:
        self.verdict = verdict
        self.child = child
        self.stops = stops
        self.starts = starts
        self.charged_at = charged_at
        self.wait = wait
        self.order = order
        self.stop_index = 0
        self.start_index = 0

    def next_stop(self) -> Child | None:
        """Take the next child to stop; None when all have been taken."""
        index = self.stop_index
        if index < len(self.stops):
            self.stop_index = index + 1
            return self.stops[index]
        return None

    def next_start(self) -> Child | None:
        """Take the next child to start; None when all have been taken, or one has failed."""
        assert self.stop_index == len(self.stops)  # (R2)
        index, starts = self.start_index, self.starts
        if index < len(starts):
            self.start_index = index + 1
            return starts[index]
        return None

    def __repr__(self) -> str:
        stops = " ".join(child.id for child in self.stops)
        starts = " ".join(child.id for child in self.starts)
        return f"<{self.verdict.value}: stop [{stops}], start [{starts}]>"

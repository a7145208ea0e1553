"""Decide who of a worker pool does which job, and how many workers there are.

Theory. A *hand* is one worker: a thread, or a process with the thread that talks to it. Jobs wait
in one queue, first come first served. A hand is started when a job waits that no idle and no
starting hand will take, up to the most that are allowed; the job goes to the hand that has been
idle for the shortest time, so those that are not needed stay idle, and after a while they end, down
to the least that are wanted. So the size follows a step of the load once, up and down, and cannot
swing. Nothing here starts anything: what comes in returns a list of steps, in execution order.

| hand     | under way                   | leaves to                                               |
|----------|-----------------------------|---------------------------------------------------------|
| STARTING | it is being made            | IDLE; gone when it dies                                 |
| IDLE     | nothing                     | BUSY with a job; gone after its idle time, or in a drain|
| BUSY     | a job                       | IDLE with the answer; STRAY or gone when nobody wants it|
| STRAY    | a job that nobody waits for | IDLE or gone when its function returns at last          |

A job that is given up while it runs (cancelled, or its time over) is told at once. A process is
killed for it; a thread cannot be interrupted, becomes STRAY and has a substitute.

Invariants
  (P1) Every job that was taken is told exactly one outcome, in a `Tell`.
  (P2) STARTING + IDLE + BUSY hands are at most `size[1]`, and with the STRAY ones twice that: a
       function that never returns costs a hand, and the node stays bounded.
  (P3) At most `queue` jobs wait, beside those for which a hand is starting.
  (P4) While it is open, the pool has at least `size[0]` hands, or some are starting.

Does not know: threads, processes, clocks (now is an argument), what a job's function is.
Source: the elastic pools of features.md A3-38; java.util.concurrent, ThreadPoolExecutor, for sizes.
"""

from __future__ import annotations

import heapq
from collections import deque
from enum import Enum
from typing import Any, Final, Generic, TypeAlias, TypeVar, final

from msgspec import Struct

from pybehave.errors import JobCancelled, JobTimedOut, PoolOverloaded, Stopped, WorkerDied

START_FAILURES_MAX: Final = 3
"""So many hands that died before they were ready, one after the other, are the pool's failure."""

STRAY_FACTOR: Final = 2
"""With stray hands a pool has at most this many times its size (P2)."""

DEADLINES_SLACK: Final = 64
"""Time limits of jobs that are over are kept up to this many beside the living; then dropped."""

What = TypeVar("What")


class PoolSettings(Struct, frozen=True):
    """What a pool may use.

    Attributes:
        kind: "thread" or "process".
        size: The least and the most workers.
        idle_s: Seconds after which a worker above the least ends, if it had nothing to do.
        queue: How many jobs may wait.
    """

    kind: str
    size: tuple[int, int]
    idle_s: float
    queue: int


class HandStatus(Enum):
    """Where a hand stands; the table is in the module's header."""

    STARTING = "starting"
    IDLE = "idle"
    BUSY = "busy"
    STRAY = "stray"


@final
class Job(Generic[What]):
    """One job.

    Attributes:
        what: What is to be done; the machine does not look at it.
        timeout: Seconds it may take, waiting included; None is no limit.
        hand: Who does it; None while it waits.
        is_told: Its outcome has been told (P1).
    """

    __slots__ = ("hand", "is_told", "timeout", "what")

    def __init__(self, what: What, timeout: float | None = None) -> None:
        self.what = what
        self.timeout = timeout
        self.hand: Hand | None = None
        self.is_told = False


@final
class Hand:
    """One worker.

    Attributes:
        status: Where it stands.
        job: What it does.
        idle_since: When it became idle.
    """

    __slots__ = ("idle_since", "job", "status")

    def __init__(self) -> None:
        self.status = HandStatus.STARTING
        self.job: Job[Any] | None = None
        self.idle_since = 0.0


class StartHand(Struct, frozen=True):
    """Make a worker; `ready` or `died` follows."""

    hand: Hand


class Give(Struct, frozen=True):
    """Let an idle worker do a job; `done` or `died` follows."""

    hand: Hand
    job: Job[Any]


class EndHand(Struct, frozen=True):
    """Let an idle worker end; nothing follows that is heard."""

    hand: Hand


class KillHand(Struct, frozen=True):
    """End a worker at once, whatever it does; nothing follows that is heard."""

    hand: Hand


class Tell(Struct, frozen=True):
    """A job has its outcome: the value, or the error if there is one."""

    job: Job[Any]
    value: Any
    error: BaseException | None


class Fail(Struct, frozen=True):
    """The pool cannot work: its end is a crash of that child."""

    error: BaseException


Step: TypeAlias = StartHand | Give | EndHand | KillHand | Tell | Fail


@final
class PoolMachine:
    """One pool.

    Args:
        name: For errors.
        settings: What it may use.

    Attributes:
        counts: What has come of jobs and hands so far.
    """

    def __init__(self, name: str, settings: PoolSettings) -> None:
        self.name = name
        self.settings = settings
        self.counts = dict.fromkeys(
            ("taken", "done", "raised", "cancelled", "timed_out", "refused", "died", "started"), 0
        )
        self.hands: set[Hand] = set()
        self.waiting: deque[Job[Any]] = deque()
        self._idle: list[Hand] = []  # longest idle first
        self._deadlines: list[tuple[float, int, Job[Any]]] = []
        self._failures = 0
        self._ended: object = None
        self._is_open = True
        self._most = 0

    # --- what comes in -----------------------------------------------------------------------

    def open(self, now: float) -> list[Step]:
        """Begin with the least number of hands."""
        return self._balanced(now, [])

    def submit(self, job: Job[Any], now: float) -> list[Step]:
        """Take a job, or tell at once why not."""
        if not self._is_open:
            return [self._tell(job, None, Stopped(self.name, self._ended))]
        self.waiting.append(job)
        steps = self._balanced(now, [])
        if job.hand is None and len(self.waiting) > self.settings.queue + self._starting:
            self.waiting.remove(job)
            self.counts["refused"] += 1
            return [*steps, self._tell(job, None, PoolOverloaded(self.name, self.settings.queue))]
        self.counts["taken"] += 1
        if job.timeout is not None:
            self._watch(job, now + job.timeout)
        return steps

    def _watch(self, job: Job[Any], due: float) -> None:
        heapq.heappush(self._deadlines, (due, self.counts["taken"], job))
        if len(self._deadlines) > DEADLINES_SLACK + 2 * (len(self.waiting) + len(self.hands)):
            self._deadlines = [entry for entry in self._deadlines if not entry[2].is_told]
            heapq.heapify(self._deadlines)

    def ready(self, hand: Hand, now: float) -> list[Step]:
        """A hand that was starting can work."""
        if hand not in self.hands:
            return []
        self._failures = 0
        return self._balanced(now, self._rest(hand, now))

    def done(self, hand: Hand, value: Any, error: BaseException | None, now: float) -> list[Step]:
        """A hand's function has returned or raised."""
        if hand not in self.hands:
            return []
        steps: list[Step] = []
        job, hand.job = hand.job, None
        if job is not None and not job.is_told:
            self.counts["done" if error is None else "raised"] += 1
            steps.append(self._tell(job, value, error))
        return self._balanced(now, steps + self._rest(hand, now))

    def died(self, hand: Hand, how: str, now: float) -> list[Step]:
        """A hand is gone that was not told to go."""
        if hand not in self.hands:
            return []
        self._forget(hand)
        self.counts["died"] += 1
        error = WorkerDied(self.name, how)
        if hand.status is HandStatus.STARTING:
            self._failures += 1
            if self._failures >= START_FAILURES_MAX:
                return [Fail(error)]
        steps: list[Step] = []
        if hand.job is not None and not hand.job.is_told:
            steps.append(self._tell(hand.job, None, error))
        return self._balanced(now, steps)

    def cancel(self, job: Job[Any], now: float) -> list[Step]:
        """Give a job up because whoever asked for it says so."""
        if job.is_told:
            return []
        self.counts["cancelled"] += 1
        return self._give_up(job, JobCancelled(self.name), now)

    def tick(self, now: float) -> list[Step]:
        """Act on what time has brought: jobs that took too long, hands that are not needed."""
        steps: list[Step] = []
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].is_told):
            job = heapq.heappop(self._deadlines)[2]
            if not job.is_told:
                self.counts["timed_out"] += 1
                steps += self._give_up(job, JobTimedOut(self.name, job.timeout or 0.0), now)
        least, idle_s = self.settings.size[0], self.settings.idle_s
        while self._idle and self._alive > least and self._idle[0].idle_since + idle_s <= now:
            steps.append(self._end(self._idle[0]))
        return steps

    def next_tick(self) -> float | None:
        """Return when `tick` is due; None is never."""
        due = []
        while self._deadlines and self._deadlines[0][2].is_told:
            heapq.heappop(self._deadlines)
        if self._deadlines:
            due.append(self._deadlines[0][0])
        if self._idle and self._alive > self.settings.size[0]:
            due.append(self._idle[0].idle_since + self.settings.idle_s)
        return min(due, default=None)

    # --- the end -----------------------------------------------------------------------------

    def drain(self, reason: object) -> list[Step]:
        """Take no more; jobs that wait are told, those that run may finish."""
        self._is_open, self._ended = False, reason
        steps: list[Step] = []
        while self.waiting:
            steps.append(self._tell(self.waiting.popleft(), None, Stopped(self.name, reason)))
        for hand in list(self.hands):
            if hand.status is HandStatus.IDLE:
                steps.append(self._end(hand))
            elif hand.status in (HandStatus.STARTING, HandStatus.STRAY):
                steps.append(self._kill(hand))
        return steps

    def kill(self, reason: object) -> list[Step]:
        """End at once; jobs that run are told, too."""
        steps = self.drain(reason)
        for hand in list(self.hands):
            if hand.job is not None and not hand.job.is_told:
                steps.append(self._tell(hand.job, None, Stopped(self.name, reason)))
            steps.append(self._kill(hand))
        return steps

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it that anybody waits for."""
        return not self._is_open and not self.hands

    # --- reports -----------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """Counters, and where the hands stand."""
        hands = {status.value: 0 for status in HandStatus}
        for hand in self.hands:
            hands[hand.status.value] += 1
        return {
            **self.counts,
            "kind": self.settings.kind,
            "waiting": len(self.waiting),
            "hands": hands,
            "hands_most": self._most,
        }

    # --- steps -------------------------------------------------------------------------------

    @property
    def _alive(self) -> int:
        """Hands that work for somebody, or could."""
        return sum(hand.status is not HandStatus.STRAY for hand in self.hands)

    @property
    def _starting(self) -> int:
        return sum(hand.status is HandStatus.STARTING for hand in self.hands)

    def _balanced(self, now: float, steps: list[Step]) -> list[Step]:
        """Give what waits to who is idle, and start whom it takes (P2, P4)."""
        while self.waiting and self._idle:
            job, hand = self.waiting.popleft(), self._idle.pop()
            hand.status, hand.job, job.hand = HandStatus.BUSY, job, hand
            steps.append(Give(hand, job))
        if not self._is_open:
            return steps
        least, most = self.settings.size
        alive = self._alive
        starting = self._starting
        while (
            (starting < len(self.waiting) or alive < least)
            and alive < most
            and len(self.hands) < STRAY_FACTOR * most
        ):
            hand = Hand()
            self.hands.add(hand)
            self.counts["started"] += 1
            alive, starting = alive + 1, starting + 1
            steps.append(StartHand(hand))
        self._most = max(self._most, alive)
        return steps

    def _rest(self, hand: Hand, now: float) -> list[Step]:
        """A hand has nothing to do any more: it is idle, or one too many."""
        was_stray = hand.status is HandStatus.STRAY
        if not self._is_open or (was_stray and self._alive >= self.settings.size[1]):
            return [self._end(hand)]
        hand.status, hand.idle_since = HandStatus.IDLE, now
        self._idle.append(hand)
        return []

    def _give_up(self, job: Job[Any], error: BaseException, now: float) -> list[Step]:
        steps: list[Step] = [self._tell(job, None, error)]
        hand = job.hand
        if hand is None:
            self.waiting.remove(job)
        elif self.settings.kind == "process":
            steps.append(self._kill(hand))
        elif self._is_open:
            hand.status = HandStatus.STRAY
        else:
            steps.append(self._kill(hand))
        return self._balanced(now, steps)

    def _tell(self, job: Job[Any], value: Any, error: BaseException | None) -> Tell:
        assert not job.is_told  # (P1)
        job.is_told = True
        return Tell(job, value, error)

    def _end(self, hand: Hand) -> EndHand:
        self._forget(hand)
        return EndHand(hand)

    def _kill(self, hand: Hand) -> KillHand:
        self._forget(hand)
        return KillHand(hand)

    def _forget(self, hand: Hand) -> None:
        self.hands.discard(hand)
        if hand.status is HandStatus.IDLE and hand in self._idle:
            self._idle.remove(hand)

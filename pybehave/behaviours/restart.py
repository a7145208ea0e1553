"""Decide which children stop and start after one of them ended.

Theory. A supervisor's children are an ordered list. The end of a child first meets its *restart
type*, which says whether it is started again at all; then the supervisor's *window*, which says
whether one more attempt is borne; then the *strategy*, which selects a range of the list. The
range is stopped from last to first, then started from first to last. The result is a `Plan`: who
stops, who starts, in execution order. Nothing here stops or starts anything.

A start can fail half way through a group, so a plan is resumable: whoever carries it out takes
the next step, and tells `start_failed` when a start did not succeed. What runs by then keeps
running, the failed child is *restarting*, and a retry comes later as an event of its own
(`plan_retry`), never as a loop in place. So a stop, or a request, gets in between.

| restart type | clean end              | abnormal end | afterwards in the list | charged       |
|--------------|------------------------|--------------|------------------------|---------------|
| permanent    | restarted              | restarted    | yes                    | every time    |
| transient    | stays stopped          | restarted    | yes                    | abnormal only |
| temporary    | forgotten              | forgotten    | no                     | never         |

Status of a child

    STOPPED --started--> RUNNING --ended, or stopped--> STOPPED
    STOPPED --a restart's start failed--> RESTARTING --retry begins, or cancelled--> STOPPED

Invariants
  (R1) A plan never names a child outside the failed child's own supervisor.
  (R2) All stops precede all starts.
  (R3) Starts are in list order, stops in its exact reverse.
  (R4) A temporary child in the range is stopped and never started again.
  (R5) The failed child is never among the stops: it has ended, its terminate ran.
  (R6) Every attempt, the first and each retry, is charged before it is made; the attempt that
       would exceed the intensity is not made.
  (R7) A retry that was overtaken (cancelled, or the child was started otherwise) is ignored.

  (R8) A child of a simple_one_for_one that is neither running nor about to be is not in the list:
       it has no specification of its own to keep.

Does not know: clocks (now is an argument), servers, the loop.
Source: OTP stdlib, supervisor: `do_restart/3`, `restart/3`, `add_restart/1`, `do_auto_shutdown/2`,
and for (R8) `del_child_and_maybe_shutdown/3`.
Differs from OTP 25 in one thing: the window uses exact times, not whole seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, Final, TypeAlias

from pybehave.behaviours.supervisor import ChildSpec, Supervisor
from pybehave.types import KILLED, SHUTDOWN, is_clean

CRASHED: Final = "crashed"
"""Stands for any abnormal reason where only the kind matters."""


class Status(Enum):
    """Where a child stands, as which_children shows it."""

    RUNNING = "running"
    STOPPED = "stopped"
    RESTARTING = "restarting"


class Verdict(Enum):
    """What a plan is for."""

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

    AUTO_SHUTDOWN = "auto_shutdown"
    """Significant children ended: the others stop, then the supervisor ends."""

    STOP = "stop"
    """The supervisor was asked to end: all children stop, in reverse."""

    REQUEST = "request"
    """Somebody asked for one child to be started or stopped."""


class Child:
    """One entry of a supervisor's list.

    Attributes:
        id: Its key in the list.
        spec: What it was specified as.
        status: Where it stands.
        attempt: Numbers the retries: one with another number than this was overtaken (R7).
        ref: What the runtime knows it by while it runs; else None.
        restarts: How often it was started again by its supervisor.
    """

    __slots__ = ("attempt", "id", "ref", "restart", "restarts", "significant", "spec", "status")

    def __init__(self, child_id: str, spec: ChildSpec) -> None:
        self.id = child_id
        self.spec = spec
        self.restart = spec.restart
        self.significant = spec.significant
        self.status = Status.STOPPED
        self.attempt = 0
        self.ref: Any = None
        self.restarts = 0

    def __repr__(self) -> str:
        return f"<{self.id} {self.status.value}>"


class SupervisorState:
    """What decisions depend on: the flags, the ordered list, the window of attempts.

    Attributes:
        spec: The flags.
        children: In start order, by id.
        attempts: When the last attempts were charged, at most `intensity` of them. Whether one
            more is too many depends on no others: see `is_exhausted`.
        made: How many children a simple_one_for_one has made; numbers those without a name.
    """

    __slots__ = ("attempts", "children", "is_simple", "made", "spec")

    def __init__(self, spec: Supervisor) -> None:
        self.spec = spec
        self.children: dict[str, Child] = {}
        self.attempts: deque[float] = deque(maxlen=spec.intensity)
        self.is_simple = spec.is_simple
        self.made = 0

    @classmethod
    def of(cls, spec: Supervisor, status: Status = Status.RUNNING) -> SupervisorState:
        """Return the state of a supervisor whose children all have the same status."""
        state = cls(spec)
        assert not state.is_simple, "a template is no child"
        for child_id, child_spec in zip(spec.child_ids, spec.children, strict=True):
            child = state.children[child_id] = Child(child_id, child_spec)
            child.status = status
        return state

    def is_exhausted(self, now: float) -> bool:
        """Say whether an attempt made now would be one too many.

        OTP drops the attempts before `now - period`, adds `now`, and gives up when more than
        `intensity` remain. That is so exactly when the attempt `intensity` places back is still
        within the period, bound included; so only that many are kept, and one is looked at.

        Args:
            now: Monotonic seconds.
        """
        attempts = self.attempts
        if len(attempts) < self.spec.intensity:
            return False
        return not attempts or attempts[0] >= now - self.spec.period


class Plan:
    """Who stops and who starts, in execution order, and how far that has got.

    Attributes:
        verdict: What the plan is for.
        child: The child that ended, is retried or was asked for; None when it is about all.
        stops: From last to first.
        starts: From first to last.
        charged_at: When the attempt is charged; None when it is not.
    """

    __slots__ = ("charged_at", "child", "start_index", "starts", "stop_index", "stops", "verdict")

    def __init__(
        self,
        verdict: Verdict,
        child: Child | None = None,
        stops: Sequence[Child] = (),
        starts: Sequence[Child] = (),
        charged_at: float | None = None,
    ) -> None:
        self.verdict = verdict
        self.child = child
        self.stops = stops
        self.starts = starts
        self.charged_at = charged_at
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
        index = self.start_index
        if index < len(self.starts):
            self.start_index = index + 1
            return self.starts[index]
        return None

    def __repr__(self) -> str:
        stops = " ".join(child.id for child in self.stops)
        starts = " ".join(child.id for child in self.starts)
        return f"<{self.verdict.value}: stop [{stops}], start [{starts}]>"


# --- the decision ------------------------------------------------------------


def plan_restart(state: SupervisorState, failed: str, now: float, reason: object = CRASHED) -> Plan:
    """Decide what follows from the end of a child. Pure: `begin` takes note of it.

    Args:
        state: The child's supervisor.
        failed: The id of the child that ended; its own terminate has run.
        now: Monotonic seconds.
        reason: What it ended with.

    Returns:
        The plan: RESTART, KEEP, FORGET, GIVE_UP or AUTO_SHUTDOWN.

    Source: OTP supervisor, `do_restart/3`.
    """
    child = state.children[failed]
    if child.restart == "permanent" or (child.restart == "transient" and not is_clean(reason)):
        return _plan_attempt(state, child, now)
    if child.significant and _ends_supervisor(state, child):
        return Plan(Verdict.AUTO_SHUTDOWN, child, _running(state, child))
    is_kept = child.restart != "temporary" and not state.is_simple  # (R8)
    return Plan(Verdict.KEEP if is_kept else Verdict.FORGET, child)


def plan_retry(state: SupervisorState, failed: str, now: float) -> Plan:
    """Decide how a start that failed during a restart is tried again. Pure.

    Under rest_for_one the range begins at the child whose start failed, so those of the first
    range that started stay up.

    Args:
        state: The child's supervisor.
        failed: The id of the child whose start failed; its status is RESTARTING.
        now: Monotonic seconds.

    Source: OTP supervisor, `handle_cast({try_again_restart, Id}, State)`.
    """
    return _plan_attempt(state, state.children[failed], now)


def plan_start(state: SupervisorState) -> Plan:
    """Decide how a supervisor starts: every child, in order. Pure."""
    return Plan(Verdict.START, starts=list(state.children.values()))


def plan_stop(state: SupervisorState, verdict: Verdict = Verdict.STOP) -> Plan:
    """Decide how a supervisor ends: every child that runs, in the reverse of list order. Pure."""
    return Plan(verdict, stops=_running(state, None))


def _plan_attempt(state: SupervisorState, child: Child, now: float) -> Plan:
    if state.is_exhausted(now):  # (R6)
        return Plan(Verdict.GIVE_UP, child, _running(state, child))
    stops, starts = _RANGES[state.spec.strategy](state, child)
    return Plan(Verdict.RESTART, child, stops, starts, now)


def _ends_supervisor(state: SupervisorState, child: Child) -> bool:
    if state.spec.auto_shutdown == "any_significant":
        return True
    return not any(
        other.significant and other.status is not Status.STOPPED
        for other in state.children.values()
        if other is not child
    )


def _running(state: SupervisorState, but: Child | None) -> list[Child]:
    return [
        child
        for child in reversed(state.children.values())
        if child.status is Status.RUNNING and child is not but
    ]


# --- strategies: the range that stops, the range that starts -----------------

_Range: TypeAlias = tuple[Sequence[Child], Sequence[Child]]


def _only_the_failed(state: SupervisorState, failed: Child) -> _Range:
    return (), [failed]


def _everyone(state: SupervisorState, failed: Child) -> _Range:
    return _running(state, failed), _startable(list(state.children.values()))


def _from_the_failed_on(state: SupervisorState, failed: Child) -> _Range:
    after: list[Child] = []
    for child in reversed(state.children.values()):
        if child is failed:
            break
        after.append(child)
    stops = [child for child in after if child.status is Status.RUNNING]
    after.append(failed)
    after.reverse()
    return stops, _startable(after)


def _startable(children: list[Child]) -> list[Child]:
    return [child for child in children if child.restart != "temporary"]  # (R4)


_RANGES: Final[dict[str, Callable[[SupervisorState, Child], _Range]]] = {
    "one_for_one": _only_the_failed,
    "one_for_all": _everyone,
    "rest_for_one": _from_the_failed_on,
    "simple_one_for_one": _only_the_failed,
}


# --- taking note of what happens ---------------------------------------------


def begin(state: SupervisorState, plan: Plan) -> None:
    """Take note that a plan is being carried out: charge it, and mark who has ended.

    Args:
        state: The supervisor the plan was made for.
        plan: From `plan_restart` or `plan_retry`.
    """
    if plan.charged_at is not None:
        state.attempts.append(plan.charged_at)
    if plan.verdict is Verdict.RESTART and plan.child is not None:
        cancel_retry(plan.child)
        plan.child.ref = None
    elif plan.child is not None:
        stopped(state, plan.child)
    for child in plan.starts:
        if child.status is Status.RESTARTING:
            cancel_retry(child)


def stopped(state: SupervisorState, child: Child) -> None:
    """Take note that a child has ended; a temporary one leaves the list, and so does (R8)."""
    cancel_retry(child)
    child.ref = None
    if child.restart == "temporary" or state.is_simple:
        del state.children[child.id]


def started(state: SupervisorState, child: Child) -> None:
    """Take note that a child runs; one that was not in the list joins its end."""
    child.status = Status.RUNNING
    if child.id not in state.children:
        state.children[child.id] = child


def ignored(state: SupervisorState, child: Child) -> None:
    """Take note that a child's init returned `Ignore()`: no failure, but it does not run.

    It stays in the list, or joins it, as stopped; a temporary one leaves it, and so does (R8).
    """
    child.status = Status.STOPPED
    if child.restart == "temporary" or state.is_simple:
        state.children.pop(child.id, None)
    else:
        state.children.setdefault(child.id, child)


def start_failed(state: SupervisorState, plan: Plan, child: Child) -> Plan | None:
    """Decide what follows from a start that failed, and take note of it.

    Args:
        state: The supervisor the plan belongs to.
        plan: The plan being carried out; no further start is taken from it.
        child: The child that did not start.

    Returns:
        For the supervisor's own start, the plan that stops what had started. Else None; then a
        child of a RESTART has become RESTARTING and `plan_retry` is due at the end of the queue.

    Source: OTP supervisor, `start_children/2`, `restart_multiple_children/3`.
    """
    plan.starts = plan.starts[: plan.start_index]
    if plan.verdict is Verdict.START:
        return plan_stop(state, Verdict.ROLL_BACK)
    if plan.verdict is Verdict.RESTART:
        child.status = Status.RESTARTING
    return None


def is_retry_due(child: Child, attempt: int) -> bool:
    """Say whether a queued retry still stands (R7)."""
    return child.status is Status.RESTARTING and child.attempt == attempt


def cancel_retry(child: Child) -> None:
    """Mark a child as stopped; a retry that is queued for it becomes void (R7)."""
    child.status = Status.STOPPED
    child.attempt += 1


# --- what is an error in a report --------------------------------------------


def is_end_reported(child: Child, reason: object) -> bool:
    """Say whether a child's end is reported as an error.

    Source: OTP supervisor, `child_terminated`: for a permanent child any reason, also normal.
    """
    return child.restart == "permanent" or not is_clean(reason)


def is_shutdown_error(child: Child, reason: Any) -> bool:
    """Say whether a child that was told to stop answered with a reason that is reported.

    `"shutdown"` is what it was told. Another clean reason is fine unless the child is permanent.
    A killed child is an error unless killing was asked for. Nothing else follows from it.

    Source: OTP supervisor, `shutdown_error`.
    """
    brutal = child.spec.shutdown == "brutal_kill"
    if isinstance(reason, str) and reason == (KILLED if brutal else SHUTDOWN):
        return False
    return child.restart == "permanent" or not is_clean(reason)

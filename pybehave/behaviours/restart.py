"""Decide which children stop and start after one of them ended.

Theory. A supervisor's children are an ordered list. The end of a child first meets its *restart
type*, which says whether it is started again at all; then its *back-off*, if it has one, which says
when; then the supervisor's *budget*, which says whether one more attempt is borne; then the
*strategy*, which selects a range of the list. The
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

A child that ends with an order (orders.py) is not started again, whatever its restart type.

When the budget is spent a supervisor gives up (OTP), or, with a back-off of its own, it pauses
(Suture): the failed children wait, the others run, requests are carried out. After the pause the
budget is new, and those that waited are started one after the other, not charged.

Invariants
  (R1) A plan never names a child outside the failed child's own supervisor.
  (R2) All stops precede all starts.
  (R3) Starts are in list order, stops in its exact reverse.
  (R4) A temporary child in the range is stopped and never started again.
  (R5) The failed child is never among the stops: it has ended, its terminate ran.
  (R6) Every attempt, the first and each retry, is charged before it is made, but for (R10); the
       attempt that would exceed the intensity is not made.
  (R7) A retry that was overtaken (cancelled, or the child was started otherwise) is ignored.
  (R8) A child of a simple_one_for_one that is neither running nor about to be is not in the list:
       it has no specification of its own to keep.
  (R9) A pause ends after its time, whatever fails meanwhile.
  (R10) The first attempt after a failure that cannot come again is free: the call or cast that a
       journaled server failed on is put aside, its state is kept (decision 0019). Retries are not.

Does not know: clocks (now is an argument), servers, the loop.
Source: OTP stdlib, supervisor: `do_restart/3`, `restart/3`, `add_restart/1`, `do_auto_shutdown/2`,
and for (R8) `del_child_and_maybe_shutdown/3`.
Differs from OTP 25 in one thing: the window uses exact times, not whole seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from pybehave.behaviours.backoff import Row
from pybehave.behaviours.orders import order_of
from pybehave.behaviours.plan import (
    AUTO_SHUTDOWN,
    DELAY,
    FORGET,
    GIVE_UP,
    KEEP,
    PAUSE,
    REQUEST,
    RESTART,
    RESTARTING,
    ROLL_BACK,
    RUNNING,
    START,
    STOP,
    STOPPED,
    TERMINATE,
    Child,
    Plan,
    SupervisorState,
    Verdict,
    Wait,
)
from pybehave.errors import TerminateTree
from pybehave.types import KILLED, SHUTDOWN, is_clean

CRASHED: Final = "crashed"
"""Stands for any abnormal reason where only the kind matters."""


# --- the decision ------------------------------------------------------------


def plan_restart(
    state: SupervisorState, failed: str, now: float, reason: object = CRASHED, draw: float = 0.0
) -> Plan:
    """Decide what follows from the end of a child. Pure: `begin` takes note of it.

    Args:
        state: The child's supervisor.
        failed: The id of the child that ended; its own terminate has run.
        now: Monotonic seconds.
        reason: What it ended with.
        draw: A random number, 0 <= draw < 1, for the jitter of a back-off.

    Returns:
        The plan: RESTART, DELAY, PAUSE, KEEP, FORGET, GIVE_UP, TERMINATE or AUTO_SHUTDOWN.

    Source: OTP supervisor, `do_restart/3`.
    """
    child = state.children[failed]
    order = order_of(reason)
    if isinstance(order, TerminateTree):
        return Plan(TERMINATE, child, _running(state, child), order=order)
    how = child.spec.restart
    is_restarted = how == "permanent" or (how == "transient" and not is_clean(reason))
    if is_restarted and order is None:
        delay = None if child.backoff is None else plan_delay(child, now, draw)
        return delay or _plan_attempt(state, child, now, draw)
    if child.significant and _ends_supervisor(state, child):
        return Plan(AUTO_SHUTDOWN, child, _running(state, child))
    is_kept = child.restart != "temporary" and not state.is_simple  # (R8)
    return Plan(KEEP if is_kept else FORGET, child)


def plan_delay(child: Child, now: float, draw: float) -> Plan | None:
    """Decide how long the restart of a child waits; None if it has no back-off. Pure."""
    backoff = child.backoff
    if backoff is None:
        return None
    failures, seconds = (child.row or Row()).next(backoff, now, draw)
    return Plan(DELAY, child, wait=Wait(failures, seconds, now))


def plan_retry(
    state: SupervisorState, failed: str, now: float, draw: float = 0.0, *, is_free: bool = False
) -> Plan:
    """Decide how a start that failed during a restart, or has waited, is tried again. Pure.

    Under rest_for_one the range begins at the child whose start failed, so those of the first
    range that started stay up.

    Args:
        state: The child's supervisor.
        failed: The id of the child whose start failed; its status is RESTARTING.
        now: Monotonic seconds.
        draw: As for `plan_restart`.
        is_free: It has waited for its supervisor's pause to end, so it is not charged.

    Source: OTP supervisor, `handle_cast({try_again_restart, Id}, State)`.
    """
    return _plan_attempt(state, state.children[failed], now, draw, is_free=is_free)


def plan_start(state: SupervisorState) -> Plan:
    """Decide how a supervisor starts: every child, in order. Pure."""
    return Plan(START, starts=list(state.children.values()))


def plan_stop(state: SupervisorState, verdict: Verdict = STOP) -> Plan:
    """Decide how a supervisor ends: every child that runs, in the reverse of list order. Pure."""
    return Plan(verdict, stops=_running(state, None))


def _plan_attempt(
    state: SupervisorState, child: Child, now: float, draw: float, *, is_free: bool = False
) -> Plan:
    is_free = is_free or child.rare.is_free  # (R10)
    if state.is_paused:
        return Plan(PAUSE, child)  # (R9)
    if not is_free and state.budget.is_exhausted(now):  # (R6)
        backoff = state.spec.backoff
        if backoff is None:
            return Plan(GIVE_UP, child, _running(state, child))
        failures, seconds = state.pauses.next(backoff, now, draw)
        return Plan(PAUSE, child, wait=Wait(failures, seconds, now))
    stops, starts = _RANGES[state.spec.strategy](state, child)
    return Plan(RESTART, child, stops, starts, None if is_free else now)


def _ends_supervisor(state: SupervisorState, child: Child) -> bool:
    if state.spec.auto_shutdown == "any_significant":
        return True
    return not any(
        other.significant and other.status is not STOPPED
        for other in state.children.values()
        if other is not child
    )


def _running(state: SupervisorState, but: Child | None) -> list[Child]:
    return [
        child
        for child in reversed(state.children.values())
        if child.status is RUNNING and child is not but
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
    stops = [child for child in after if child.status is RUNNING]
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
        state.budget.charge(plan.charged_at)
    verdict = plan.verdict
    if verdict is RESTART and plan.child is not None:
        cancel_retry(plan.child)
        plan.child.ref = None
    elif verdict is DELAY or verdict is PAUSE:
        assert plan.child is not None
        _wait(state, plan, plan.child)
    elif plan.child is not None:
        stopped(state, plan.child)
    for child in plan.starts:
        if child.status is RESTARTING:
            cancel_retry(child)


def _wait(state: SupervisorState, plan: Plan, child: Child) -> None:
    cancel_retry(child)
    child.ref = None
    child.status = RESTARTING
    if plan.verdict is PAUSE:
        state.waiting[child] = child.attempt
        if plan.wait is not None:
            state.is_paused = True
            state.pauses.note(*plan.wait)
    else:
        assert plan.wait is not None
        child.row = child.row or Row()
        child.row.note(*plan.wait)


def resume(state: SupervisorState) -> list[tuple[Child, int]]:
    """Take note that a pause is over: the budget is new.

    Returns:
        The children that waited and are still to be started, with the attempt that stands (R7).
    """
    waiting, state.waiting = state.waiting, {}
    state.is_paused = False
    state.budget.clear()
    return [(child, attempt) for child, attempt in waiting.items() if is_retry_due(child, attempt)]


def stopped(state: SupervisorState, child: Child, plan: Plan | None = None) -> None:
    """Take note that a child has ended; a temporary one leaves the list, and so does (R8).

    Not if the plan that stops it is a request to start it again: it keeps its place.
    """
    cancel_retry(child)
    child.ref = None
    is_back_soon = plan is not None and plan.verdict is REQUEST and len(plan.starts) > 0
    if (child.restart == "temporary" or state.is_simple) and not is_back_soon:
        del state.children[child.id]


def started(state: SupervisorState, child: Child) -> None:
    """Take note that a child runs; one that was not in the list joins its end."""
    child.status = RUNNING
    state.children.setdefault(child.id, child)


def ignored(state: SupervisorState, child: Child) -> None:
    """Take note that a child's init returned `Ignore()`: no failure, but it does not run.

    It stays in the list, or joins it, as stopped; a temporary one leaves it, and so does (R8).
    """
    child.status = STOPPED
    if child.restart == "temporary" or state.is_simple:
        state.children.pop(child.id, None)
    else:
        state.children.setdefault(child.id, child)


def start_failed(
    state: SupervisorState, plan: Plan, child: Child, error: object = CRASHED
) -> Plan | None:
    """Decide what follows from a start that failed, and take note of it.

    Args:
        state: The supervisor the plan belongs to.
        plan: The plan being carried out; no further start is taken from it.
        child: The child that did not start.
        error: Why.

    Returns:
        For the supervisor's own start, the plan that stops what had started; the plan TERMINATE
        if that is what a child of a RESTART has ordered. Else None; then such a child has become
        RESTARTING, unless it ordered otherwise, and `plan_retry` is due at the end of the queue.

    Source: OTP supervisor, `start_children/2`, `restart_multiple_children/3`.
    """
    child.is_free = False  # (R10)
    plan.starts = plan.starts[: plan.start_index]
    if plan.verdict is START:
        return plan_stop(state, ROLL_BACK)
    if plan.verdict is RESTART:
        order = order_of(error)
        if isinstance(order, TerminateTree):
            return Plan(TERMINATE, child, _running(state, None), order=order)
        if order is None:
            child.status = RESTARTING
        else:
            ignored(state, child)
    elif child.restart == "temporary" or state.is_simple:
        state.children.pop(child.id, None)  # it was asked to start again: (R8)
    return None


def is_retry_due(child: Child, attempt: int) -> bool:
    """Say whether a queued retry still stands (R7)."""
    return child.status is RESTARTING and child.attempt == attempt


def cancel_retry(child: Child) -> None:
    """Mark a child as stopped; a retry that is queued for it becomes void (R7)."""
    if child.status is RESTARTING:
        child.attempt += 1
    child.status = STOPPED


# --- what is an error in a report --------------------------------------------


def is_end_reported(child: Child, reason: object) -> bool:
    """Say whether a child's end is reported as an error.

    Source: OTP supervisor, `child_terminated`: for a permanent child any reason, also normal.
    """
    return child.spec.restart == "permanent" or not is_clean(reason)


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

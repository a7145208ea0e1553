"""`plan_restart` is pure: who stops and who starts, from the list, the reason and the time."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from pybehave.behaviours.plan import Child, Plan, Status, SupervisorState, Verdict
from pybehave.behaviours.restart import (
    begin,
    is_end_reported,
    is_retry_due,
    is_shutdown_error,
    plan_restart,
    plan_retry,
    plan_start,
    plan_stop,
    start_failed,
    started,
    stopped,
)
from pybehave.behaviours.supervisor import ChildSpec
from pybehave.types import Shutdown
from tests.builders import supervisor, workers

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
RESTARTS = ("permanent", "transient", "temporary")
CLEAN = ("normal", "shutdown", Shutdown(1))
ABNORMAL = ("boom", "killed", ValueError("boom"))


def state_of(strategy: str, *children: ChildSpec | str, **fields: Any) -> SupervisorState:
    return SupervisorState.of(supervisor(strategy, *children, **fields))


def ids(children: Any) -> str:
    return " ".join(child.id for child in children)


def carry_out(state: SupervisorState, plan: Plan, fails: str = "") -> list[str]:
    """The simplest way to carry a plan out: note what was done, in order."""
    begin(state, plan)
    trace = []
    while (child := plan.next_stop()) is not None:
        trace.append(f"term {child.id}")
        stopped(state, child)
    while (child := plan.next_start()) is not None:
        if child.id == fails:
            trace.append(f"initfail {child.id}")
            start_failed(state, plan, child)
        else:
            trace.append(f"init {child.id}")
            started(state, child)
    return trace


# --- strategies --------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "stops", "starts"),
    [
        ("one_for_one", "", "b"),
        ("one_for_all", "d c a", "a b c d"),
        ("rest_for_one", "d c", "b c d"),
    ],
)
def test_S1_4_a_strategy_selects_the_range(strategy: str, stops: str, starts: str) -> None:
    plan = plan_restart(state_of(strategy, "a b c d"), failed="b", now=0)
    assert plan.verdict is Verdict.RESTART
    assert ids(plan.stops) == stops
    assert ids(plan.starts) == starts


def test_R10_a_failure_that_cannot_come_again_is_free_and_its_retries_are_not() -> None:
    state = state_of("one_for_one", "a", intensity=0)
    child = state.children["a"]
    for _ in range(3):
        child.is_free = True
        assert carry_out(state, plan_restart(state, "a", 0)) == ["init a"]
    assert not state.attempts
    child.is_free = True
    assert carry_out(state, plan_restart(state, "a", 0), fails="a") == ["initfail a"]
    assert plan_retry(state, "a", 0).verdict is Verdict.GIVE_UP


def test_planning_changes_nothing() -> None:
    state = state_of("one_for_all", "a b c")
    first = repr(plan_restart(state, failed="b", now=0))
    assert repr(plan_restart(state, failed="b", now=0)) == first
    assert not state.attempts
    assert {child.status for child in state.children.values()} == {Status.RUNNING}


ROWS = list(product(STRATEGIES, "abcde", product((Status.RUNNING, Status.STOPPED), repeat=4)))


@pytest.mark.parametrize(("strategy", "failed", "others"), ROWS)
def test_R1_to_R5_hold_for_every_small_tree(
    strategy: str, failed: str, others: tuple[Status, ...]
) -> None:
    temporary = "c" if failed != "c" else "d"
    children = [
        worker
        for name in "abcde"
        for worker in workers(name, restart="temporary" if name == temporary else "permanent")
    ]
    state = state_of(strategy, *children)
    rest = [child for child in state.children.values() if child.id != failed]
    for child, status in zip(rest, others, strict=True):
        child.status = status
    plan = plan_restart(state, failed, now=0)
    stops, starts = ids(plan.stops).split(), ids(plan.starts).split()
    assert set(stops + starts) <= set("abcde")  # (R1)
    assert starts == sorted(starts)  # (R3)
    assert stops == sorted(stops, reverse=True)  # (R3)
    assert temporary not in starts  # (R4)
    assert failed not in stops  # (R5)
    assert failed in starts
    trace = carry_out(state, plan)
    assert trace == [f"term {name}" for name in stops] + [f"init {name}" for name in starts]  # R2


# --- restart types -----------------------------------------------------------


@pytest.mark.parametrize("reason", [*CLEAN, *ABNORMAL])
def test_S1_3_a_permanent_child_is_restarted_whatever_it_ended_with(reason: object) -> None:
    plan = plan_restart(state_of("one_for_one", "a"), "a", 0, reason)
    assert plan.verdict is Verdict.RESTART
    assert plan.charged_at == 0


@pytest.mark.parametrize(
    ("reason", "verdict"),
    [(r, Verdict.KEEP) for r in CLEAN] + [(r, Verdict.RESTART) for r in ABNORMAL],
)
def test_S1_3_a_transient_child_is_restarted_after_an_abnormal_end(
    reason: object, verdict: Verdict
) -> None:
    state = state_of("one_for_all", "a", *workers("b", restart="transient"))
    plan = plan_restart(state, "b", 0, reason)
    assert plan.verdict is verdict
    assert (plan.charged_at is not None) == (verdict is Verdict.RESTART)
    carry_out(state, plan)
    assert "b" in state.children


@pytest.mark.parametrize("reason", [*CLEAN, *ABNORMAL])
def test_S1_3_a_temporary_child_is_forgotten_and_never_charged(reason: object) -> None:
    state = state_of("one_for_all", "a", *workers("b", restart="temporary"), intensity=0)
    plan = plan_restart(state, "b", 0, reason)
    assert plan.verdict is Verdict.FORGET
    assert carry_out(state, plan) == []
    assert list(state.children) == ["a"]
    assert not state.attempts


# --- intensity ---------------------------------------------------------------


def attempts_until_end(intensity: int, period: float, times: list[float]) -> int | None:
    """The number of the attempt that ended the supervisor, from 1; None if none did."""
    state = state_of("one_for_one", "a", intensity=intensity, period=period)
    for number, now in enumerate(times, 1):
        plan = plan_restart(state, "a", now)
        if plan.verdict is Verdict.GIVE_UP:
            return number
        carry_out(state, plan)
    return None


def attempts_until_end_as_OTP_says(intensity: int, period: float, times: list[float]) -> int | None:
    """Drop what is before now - period, add now, give up if more than intensity remain."""
    window: list[float] = []
    for number, now in enumerate(times, 1):
        window = [time for time in window if time >= now - period] + [now]
        if len(window) > intensity:
            return number
    return None


@pytest.mark.parametrize(
    ("intensity", "period", "times", "end"),
    [
        (0, 5, [0], 1),
        (1, 5, [0, 1], 2),
        (1, 5, [0, 5], 2),  # the bound is inclusive
        (1, 5, [0, 5.001], None),
        (1, 5, [0, 6, 12, 18], None),
        (2, 5, [0, 4, 8, 12], None),
        (2, 5, [0, 2, 4], 3),
        (5, 10, [0, 1, 2, 3, 4, 5], 6),
        (1, 1, [0, 1.77], None),  # exact times; whole seconds would have ended it
    ],
)
def test_S1_5_the_attempt_over_the_intensity_is_not_made(
    intensity: int, period: float, times: list[float], end: int | None
) -> None:
    assert attempts_until_end(intensity, period, times) == end


STEPS = list(product((0, 1, 2), repeat=6))


@pytest.mark.parametrize("intensity", range(5))
def test_S1_5_one_look_at_the_window_says_what_OTP_counts(intensity: int) -> None:
    for steps in STEPS:
        times = [float(sum(steps[: n + 1])) for n in range(len(steps))]
        for period in (1, 2, 3):
            expected = attempts_until_end_as_OTP_says(intensity, period, times)
            assert attempts_until_end(intensity, period, times) == expected


def test_S1_5_all_children_share_one_window() -> None:
    state = state_of("one_for_one", "a b c", intensity=2)
    for failed in "ab":
        carry_out(state, plan_restart(state, failed, 0))
    assert plan_restart(state, "c", 0).verdict is Verdict.GIVE_UP


def test_S1_5_a_group_is_one_charge() -> None:
    state = state_of("one_for_all", "a b c", intensity=2)
    carry_out(state, plan_restart(state, "a", 0))
    assert len(state.attempts) == 1


def test_S1_5_giving_up_stops_the_others_in_reverse_and_starts_nobody() -> None:
    plan = plan_restart(state_of("one_for_one", "a b c", intensity=0), "b", 0)
    assert plan.verdict is Verdict.GIVE_UP
    assert (ids(plan.stops), ids(plan.starts)) == ("c a", "")
    assert plan.charged_at is None


# --- a start that fails ------------------------------------------------------


def restarting(state: SupervisorState) -> list[str]:
    return [child.id for child in state.children.values() if child.status is Status.RESTARTING]


def test_S1_6_what_started_stays_up_and_the_failed_child_is_restarting() -> None:
    state = state_of("one_for_all", "a b c d")
    trace = carry_out(state, plan_restart(state, "b", 0), fails="c")
    assert trace == ["term d", "term c", "term a", "init a", "init b", "initfail c"]
    assert restarting(state) == ["c"]
    assert state.children["d"].status is Status.STOPPED


@pytest.mark.parametrize(
    ("strategy", "trace"),
    [
        ("one_for_one", "init b"),
        ("one_for_all", "term b, term a, init a, init b, init c, init d"),
        ("rest_for_one", "init c, init d"),
    ],
)
def test_S1_6_a_retry_begins_where_its_strategy_says(strategy: str, trace: str) -> None:
    state = state_of(strategy, "a b c d", intensity=2)
    fails = "b" if strategy == "one_for_one" else "c"
    carry_out(state, plan_restart(state, "b", 0), fails=fails)
    assert ", ".join(carry_out(state, plan_retry(state, fails, 0))) == trace
    assert len(state.attempts) == 2


def test_S1_6_every_retry_is_charged_before_it_is_made() -> None:
    state = state_of("one_for_one", "a b", intensity=4)
    plan = plan_restart(state, "a", 0)
    starts = 0
    while plan.verdict is Verdict.RESTART:
        starts += carry_out(state, plan, fails="a").count("initfail a")
        plan = plan_retry(state, "a", 0)
    assert starts == 4
    assert ids(plan.stops) == "b"


def overtaken_by_a_stop(state: SupervisorState, child: Child) -> None:
    stopped(state, child)


def overtaken_by_a_start(state: SupervisorState, child: Child) -> None:
    started(state, child)


def overtaken_by_another_failure(state: SupervisorState, child: Child) -> None:
    carry_out(state, plan_restart(state, "a", 0), fails="a")


@pytest.mark.parametrize(
    "overtake", [overtaken_by_a_stop, overtaken_by_a_start, overtaken_by_another_failure]
)
def test_R7_a_retry_that_was_overtaken_is_void(
    overtake: Callable[[SupervisorState, Child], None],
) -> None:
    state = state_of("one_for_all", "a b c", intensity=9)
    carry_out(state, plan_restart(state, "b", 0), fails="b")
    child = state.children["b"]
    attempt = child.attempt
    assert is_retry_due(child, attempt)
    overtake(state, child)
    assert not is_retry_due(child, attempt)


def test_S1_2_a_first_start_that_fails_is_rolled_back_in_reverse() -> None:
    state = SupervisorState.of(supervisor("one_for_one", "a b c d"), Status.STOPPED)
    plan = plan_start(state)
    for child in (plan.next_start(), plan.next_start()):
        assert child is not None
        started(state, child)
    failed = plan.next_start()
    assert failed is not None
    rollback = start_failed(state, plan, failed)
    assert rollback is not None
    assert (rollback.verdict, ids(rollback.stops)) == (Verdict.ROLL_BACK, "b a")
    assert plan.next_start() is None


def test_S1_2_a_supervisor_stops_what_runs_in_reverse() -> None:
    state = state_of("one_for_one", "a b c")
    stopped(state, state.children["b"])
    assert ids(plan_stop(state).stops) == "c a"


# --- groups ------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_S1_4_a_group_resurrects_stopped_children_and_forgets_temporary_ones(
    strategy: str,
) -> None:
    state = state_of(strategy, "a b", *workers("t", restart="temporary"), "c")
    stopped(state, state.children["b"])
    trace = carry_out(state, plan_restart(state, "a", 0))
    assert trace == ["term c", "term t", "init a", "init b", "init c"]
    assert list(state.children) == ["a", "b", "c"]


# --- auto_shutdown -----------------------------------------------------------


def significant(auto: str, *statuses: Status) -> SupervisorState:
    """The failed child s0 and more significant ones, one per status, beside the ordinary x."""
    names = " ".join(f"s{n}" for n in range(len(statuses) + 1))
    children = workers(names, restart="transient", significant=True)
    state = state_of("one_for_one", *children, "x", auto_shutdown=auto)
    for number, status in enumerate(statuses, 1):
        state.children[f"s{number}"].status = status
    return state


ENDS = [
    ("any_significant", (), True),
    ("any_significant", (Status.RUNNING,), True),
    ("all_significant", (), True),
    ("all_significant", (Status.STOPPED,), True),
    ("all_significant", (Status.RUNNING,), False),
    ("all_significant", (Status.RESTARTING,), False),
    ("all_significant", (Status.STOPPED, Status.RUNNING), False),
]


@pytest.mark.parametrize(("auto", "others", "ends"), ENDS)
def test_S1_7_significant_children_that_end_end_their_supervisor(
    auto: str, others: tuple[Status, ...], ends: bool
) -> None:
    state = significant(auto, *others)
    plan = plan_restart(state, "s0", 0, "normal")
    assert plan.verdict is (Verdict.AUTO_SHUTDOWN if ends else Verdict.KEEP)
    assert plan.charged_at is None
    if ends:
        assert ids(plan.stops).split()[0] == "x"


def test_S1_7_an_abnormal_end_of_a_significant_transient_child_is_restarted() -> None:
    plan = plan_restart(significant("any_significant"), "s0", 0, "boom")
    assert plan.verdict is Verdict.RESTART


def test_S1_7_an_ordinary_child_never_ends_its_supervisor() -> None:
    children = workers("t", restart="temporary")
    state = state_of("one_for_one", *children, auto_shutdown="any_significant")
    assert plan_restart(state, "t", 0, "normal").verdict is Verdict.FORGET


# --- reports -----------------------------------------------------------------


def child(restart: str, shutdown: Any = 5.0) -> Child:
    return Child("a", workers("a", restart=restart, shutdown=shutdown)[0])


@pytest.mark.parametrize("restart", RESTARTS)
def test_S9_an_end_is_reported_when_it_is_abnormal_or_the_child_permanent(restart: str) -> None:
    for reason in CLEAN:
        assert is_end_reported(child(restart), reason) == (restart == "permanent")
    for reason in ABNORMAL:
        assert is_end_reported(child(restart), reason)


@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize("shutdown", [5.0, "infinity", "brutal_kill"])
def test_S1_2_which_answers_to_a_stop_are_errors(restart: str, shutdown: Any) -> None:
    told = "killed" if shutdown == "brutal_kill" else "shutdown"
    for reason in (*CLEAN, *ABNORMAL):
        is_fine = reason == told or (reason in CLEAN and restart != "permanent")
        assert is_shutdown_error(child(restart, shutdown), reason) is not is_fine

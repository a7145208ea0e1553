"""How long a restart waits, and how many a supervisor bears: pure functions of time and a draw."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybehave import Backoff
from pybehave.behaviours.backoff import Jitter, Row
from pybehave.behaviours.budget import Budget
from pybehave.behaviours.orders import order_of
from pybehave.behaviours.supervisor import Supervisor
from pybehave.errors import DoNotRestart, InitStopped, SpecError, StartFailed, TerminateTree
from tests.builders import supervisor

DRAWS = st.floats(0, 1, exclude_max=True)


def test_each_failure_in_a_row_waits_longer_up_to_the_maximum() -> None:
    backoff = Backoff(first=1, maximum=10, factor=2, jitter="none")
    assert [backoff.seconds(n, 0, 0.9) for n in (1, 2, 3, 4, 5, 10_000)] == [1, 2, 4, 8, 10, 10]


@given(draw=DRAWS, failures=st.integers(1, 10**6), before=st.floats(0, 100))
def test_jitter_stays_within_its_bounds(draw: float, failures: int, before: float) -> None:
    plain = Backoff(first=1, maximum=30, jitter="none").seconds(failures, 0, 0)
    jitters: tuple[Jitter, ...] = ("half", "full", "decorrelated")
    made = {each: Backoff(1, 30, jitter=each).seconds(failures, before, draw) for each in jitters}
    assert plain <= made["half"] < 1.5 * plain or made["half"] == pytest.approx(1.5 * plain)
    assert 0 <= made["full"] <= plain
    assert 1 <= made["decorrelated"] <= min(30, max(1, 3 * before))


def test_a_healthy_run_begins_the_row_anew() -> None:
    row, backoff = Row(), Backoff(1, 10, jitter="none", reset_after=60)
    for now, expected in ((0.0, 1), (2.0, 2), (63.9, 4), (127.8, 8), (195.8, 1)):
        failures, wait = row.next(backoff, now, 0.0)
        assert wait == expected
        row.note(failures, wait, now)


@pytest.mark.parametrize(
    "fields",
    [
        {"first": -1},
        {"first": 2, "maximum": 1},
        {"factor": 0.5},
        {"jitter": "some"},
        {"reset_after": float("nan")},
    ],
)
def test_a_backoff_that_is_none_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="Backoff"):
        Backoff(**fields)


# --- budgets -------------------------------------------------------------------


def decaying(intensity: int, **fields: Any) -> Budget:
    return Budget(supervisor("one_for_one", "a", intensity=intensity, decay=30.0, **fields))


def test_suture_counts_one_then_two_and_half_after_one_decay() -> None:
    budget = decaying(5)
    budget.charge(0)
    assert budget.failures(0) == 1
    budget.charge(0)
    assert budget.failures(0) == 2
    assert budget.failures(30) == 1
    budget.charge(30)
    assert budget.failures(30) == 2


def test_suture_crossing_the_threshold_is_one_too_many_and_meeting_it_is_not() -> None:
    budget = decaying(3)
    for _ in range(3):
        assert not budget.is_exhausted(0)
        budget.charge(0)
    assert budget.is_exhausted(0)
    assert not budget.is_exhausted(20)


@given(st.lists(st.floats(0, 50), max_size=30))
def test_a_decayed_count_is_the_sum_of_what_is_left_of_each_failure(gaps: list[float]) -> None:
    budget, times, now = decaying(100), list[float](), 0.0
    for gap in gaps:
        now += gap
        budget.charge(now)
        times.append(now)
    expected = sum(0.5 ** ((now - time) / 30.0) for time in times)
    assert budget.failures(now) == pytest.approx(expected)


@pytest.mark.parametrize("decay", [None, 1000.0])
def test_a_healthy_run_clears_the_budget(decay: float | None) -> None:
    spec = supervisor("one_for_one", "a", intensity=1, period=1000, decay=decay, reset_after=60)
    budget = Budget(spec)
    budget.charge(0)
    assert budget.is_exhausted(59)
    assert not budget.is_exhausted(60)
    budget.charge(60)
    assert budget.is_exhausted(61)


def test_an_intensity_of_zero_bears_nothing_however_healthy_the_run() -> None:
    budget = Budget(supervisor("one_for_one", "a", intensity=0, reset_after=1))
    assert budget.is_exhausted(0)


def test_a_tree_with_backoffs_is_read_back_from_json() -> None:
    tree = supervisor("one_for_one", "a b", decay=3, backoff=Backoff(1, 2), reset_after=9)
    assert Supervisor.from_json(tree.to_json()) == tree
    with pytest.raises(SpecError, match="Backoff"):
        Supervisor.from_json(tree.to_json().replace('"first": 1', '"second": 1'))


# --- orders --------------------------------------------------------------------


def raised_from(cause: BaseException) -> BaseException:
    error = ValueError("wrapped")
    error.__cause__ = cause
    return error


STOP, END, ROOT = DoNotRestart(), TerminateTree(scope="supervisor"), TerminateTree()


@pytest.mark.parametrize(
    ("reason", "order"),
    [
        (STOP, STOP),
        (raised_from(raised_from(ROOT)), ROOT),
        (ExceptionGroup("", [ValueError(), STOP]), STOP),
        (ExceptionGroup("", [STOP, raised_from(END), ValueError()]), END),
        (ExceptionGroup("", [END, ROOT, STOP]), ROOT),
        (StartFailed("a/b", InitStopped("b", END)), END),
        (ValueError(), None),
        ("normal", None),
    ],
)
def test_an_order_is_found_behind_causes_and_in_groups(reason: object, order: object) -> None:
    assert order_of(reason) is order


def test_causes_that_go_round_in_a_circle_are_looked_at_once() -> None:
    one, two = ValueError(), ValueError()
    one.__cause__, two.__cause__ = two, one
    assert order_of(one) is None


def test_a_scope_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="scope="):
        TerminateTree(scope="child")

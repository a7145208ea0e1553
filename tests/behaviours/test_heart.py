"""What the end of a looked-after process means: the table of pybehave/behaviours/heart.py."""

from __future__ import annotations

import itertools
import signal
from typing import Any

import pytest

from pybehave.behaviours.backoff import Backoff
from pybehave.behaviours.heart import Again, End, Heart, HeartRules, Over
from pybehave.errors import SpecError

NO_WAIT = Backoff(first=0.0, maximum=0.0)


def heart(*, has_served: bool = True, asked: bool = False, **rules: Any) -> Heart:
    made = Heart(HeartRules(backoff=NO_WAIT, **rules))
    made.has_served = has_served
    made.asked = {signal.SIGTERM} if asked else set()
    return made


def again(made: Heart, end: End) -> bool:
    return isinstance(made.ended(end, 0.0, 0.0), Again)


BOOLS = (False, True)


@pytest.mark.parametrize("status", [None, 0, 1, 2, 3])
def test_all_ends_by_the_table(status: int | None) -> None:
    for asked, ever, served, said in itertools.product(BOOLS, repeat=4):
        if served and not ever:
            continue
        end = End(status, signal.SIGSEGV if status is None else 0, served, said)
        verdict = heart(has_served=ever, asked=asked).ended(end, 0.0, 0.0)
        if asked:  # R1
            assert verdict == Over(139 if status is None else status)
        elif status is None:  # R2
            assert verdict == Again(0.0)
        elif not ever:  # R3
            assert verdict == Over(status)
        elif not served:  # R4, R5
            assert verdict == (Over(2) if status == 2 else Again(0.0))
        elif status == 1 or not said:  # R6, R8
            assert verdict == Again(0.0)
        else:  # R7
            assert verdict == Over(status)


def test_a_process_that_term_meets_before_it_can_drain_has_stopped_as_asked() -> None:
    made = heart(asked=True)
    assert made.ended(End(None, signal.SIGTERM), 0.0, 0.0) == Over(0)
    assert made.ended(End(None, signal.SIGKILL), 0.0, 0.0) == Over(128 + signal.SIGKILL)


KILLED = End(None, signal.SIGKILL, has_served=True)


@pytest.mark.parametrize("intensity", [0, 1, 5])
def test_so_many_restarts_are_borne_and_not_one_more(intensity: int) -> None:
    made = heart(intensity=intensity, period=10.0)
    assert [again(made, KILLED) for _ in range(intensity)] == [True] * intensity
    assert made.ended(KILLED, 10.0, 0.0) == Over(1, has_given_up=True)
    assert made.restarts == intensity


def test_restarts_that_are_long_ago_count_no_more() -> None:
    made = heart(intensity=1, period=10.0)
    for now in (0.0, 10.1, 20.2):
        assert isinstance(made.ended(KILLED, now, 0.0), Again)


def test_failures_in_a_row_wait_longer_each_time() -> None:
    made = Heart(HeartRules(backoff=Backoff(first=1.0, maximum=5.0, jitter="none")))
    waits = [made.ended(KILLED, float(now), 0.0) for now in range(4)]
    assert waits == [Again(1.0), Again(2.0), Again(4.0), Again(5.0)]


@pytest.mark.parametrize(
    ("field", "value"),
    [("timeout", -1), ("timeout", 0.09), ("timeout", float("nan")), ("intensity", -1),
     ("intensity", 1.5), ("period", 0), ("backoff", None)],
)  # fmt: skip
def test_rules_that_are_none_are_refused(field: str, value: object) -> None:
    with pytest.raises(SpecError, match=f"HeartRules: {field}="):
        HeartRules(**{field: value})  # type: ignore[arg-type]


def test_zero_and_the_least_are_times() -> None:
    assert [HeartRules(timeout=seconds).timeout for seconds in (0, 0.1)] == [0, 0.1]

"""Failures that have not been outlived: rows continue, end by themselves, and are bounded."""

from __future__ import annotations

import pytest

from pybehave.runtime.tree.failures import ROWS_MAX, Failures


def test_a_row_continues_while_failures_come_within_the_healthy_time() -> None:
    failures = Failures(10.0)
    for now in (0.0, 9.0, 18.0):
        failures.note("crashes", "a", now, within="root", why=f"at {now:g}")
    (row,) = failures.standing(27.9)
    assert (row.count, row.first, row.latest, row.why) == (3, 0.0, 18.0, "at 18")


@pytest.mark.parametrize(("now", "standing"), [(9.999, 1), (10.0, 0), (10.001, 0)])
def test_a_row_is_over_after_the_healthy_time(now: float, standing: int) -> None:
    failures = Failures(10.0)
    failures.note("crashes", "a", 0.0)
    assert len(failures.standing(now)) == standing


def test_a_failure_after_the_healthy_time_begins_another_row() -> None:
    failures = Failures(10.0)
    failures.note("crashes", "a", 0.0)
    failures.note("crashes", "a", 10.0)
    (row,) = failures.standing(10.0)
    assert (row.count, row.first) == (1, 10.0)


def test_a_place_that_is_still_down_keeps_its_row() -> None:
    failures = Failures(10.0)
    failures.note("crashes", "a", 0.0)
    assert len(failures.standing(99.0, lambda row: row.where == "a")) == 1
    assert failures.standing(99.0) == []


def test_F1_the_place_that_failed_longest_ago_is_dropped() -> None:
    failures = Failures(10.0)
    for index in range(ROWS_MAX):
        failures.note("crashes", str(index), 0.0)
    failures.note("crashes", "0", 1.0)
    assert len(failures.standing(1.0)) == ROWS_MAX
    failures.note("crashes", "one more", 2.0)
    names = {row.where for row in failures.standing(2.0)}
    assert len(names) == ROWS_MAX
    assert {"0", "one more"} < names and "1" not in names


def test_supervisors_are_counted_one_by_one_up_to_a_bound() -> None:
    failures = Failures(10.0)
    for index in range(ROWS_MAX):
        failures.count(failures.failed, str(index))
    failures.count(failures.failed, "beyond")
    failures.count(failures.failed, "0")
    assert len(failures.failed) == ROWS_MAX + 1
    assert (failures.failed["0"], failures.failed[""]) == (2, 1)

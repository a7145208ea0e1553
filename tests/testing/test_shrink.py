"""Shrinking leaves what is needed for the failure, and no act more."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pybehave.testing.script import Act, Ask, PowerCut
from pybehave.testing.shrink import shrink


def asks(count: int) -> list[Act]:
    return [Ask(n / 10, "c", "s", n, delay=0.5, back=0.5, lost="reply") for n in range(count)]


def numbers(script: list[Act]) -> set[int]:
    return {act.request for act in script if isinstance(act, Ask)}


@given(st.integers(1, 60), st.sets(st.integers(0, 59), max_size=5))
def test_what_is_left_is_what_is_needed(count: int, needed: set[int]) -> None:
    needed &= set(range(count))
    small = shrink(asks(count), lambda script: needed <= numbers(script))
    assert numbers(small) == needed


def test_no_act_can_be_left_out_of_what_is_left() -> None:
    def fails(script: list[Act]) -> bool:
        return sum(numbers(script)) >= 100

    small = shrink(asks(40), fails)
    assert fails(small)
    assert not any(fails([act for act in small if act is not one]) for one in small)


def test_acts_are_made_simpler_where_that_changes_nothing() -> None:
    def fails(script: list[Act]) -> bool:
        return any(isinstance(act, Ask) and act.request == 7 and act.delay for act in script)

    [act] = shrink(asks(10), fails)
    assert act == Ask(0.7, "c", "s", 7, delay=0.5)


def test_it_ends_after_so_many_tries_with_the_smallest_so_far() -> None:
    tries = 0

    def fails(script: list[Act]) -> bool:
        nonlocal tries
        tries += 1
        return True

    small = shrink([*asks(64), PowerCut(9.0)], fails, tries_max=2)
    assert tries == 2
    assert 0 < len(small) < 64


def test_an_empty_script_may_be_what_is_left() -> None:
    assert shrink(asks(9), lambda _: True) == []

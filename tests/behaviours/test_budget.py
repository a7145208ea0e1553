"""What a supervisor keeps of its restarts: no more than decides."""

import itertools
import sys

import pytest

from pybehave.behaviours.budget import Budget
from tests.builders import supervisor


def budget(intensity: int, period: float) -> Budget:
    return Budget(supervisor("one_for_one", "a", intensity=intensity, period=period))


def test_an_intensity_that_nobody_reaches_keeps_one_period_and_not_all() -> None:
    charged = budget(10**9, 1.0)
    for n in range(10_000):
        charged.charge(n / 10)
    assert list(charged.attempts) == [n / 10 for n in range(9_989, 10_000)]


@pytest.mark.parametrize("intensity", [0, 1, 2, 3])
def test_what_is_dropped_would_not_have_decided(intensity: int) -> None:
    """OTP's own words: the attempts since `now - period`, this one included, are too many."""
    for gaps in itertools.product([0, 1, 2, 3], repeat=5):
        charged, times, now = budget(intensity, 2), [], 0
        for gap in gaps:
            now += gap
            too_many = len([t for t in times if t >= now - 2]) + 1 > intensity
            assert charged.is_exhausted(now) == too_many
            charged.charge(now)
            times.append(now)


def test_flags_beyond_what_a_deque_counts_are_adopted() -> None:
    charged = budget(3, 5)
    charged.charge(1.0)
    charged.adopt(supervisor("one_for_one", "a", intensity=sys.maxsize + 1, period=5))
    assert list(charged.attempts) == [1.0]
    assert not charged.is_exhausted(1.0)

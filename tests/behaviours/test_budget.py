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


@pytest.mark.parametrize("intensity", [0, 1, 3, 10])
def test_what_counts_is_what_was_charged_within_the_period(intensity: int) -> None:
    charged = budget(intensity, 2)
    for now in (0.0, 1.0, 1.5):
        charged.charge(now)
    counts = [charged.charged(now) for now in (1.5, 2.0, 2.5, 3.25, 9.0)]
    assert counts == [min(many, intensity) for many in (3, 3, 2, 1, 0)]


def test_what_counts_is_gone_after_a_healthy_run_and_decays() -> None:
    charged = Budget(supervisor("one_for_one", "a", intensity=3, period=9, reset_after=2))
    charged.charge(0.0)
    assert [charged.charged(now) for now in (1.0, 2.0)] == [1, 0]
    charged = Budget(supervisor("one_for_one", "a", intensity=3, decay=2))
    charged.charge(0.0)
    assert [charged.charged(now) for now in (0.0, 2.0, 4.0)] == [1, 0.5, 0.25]


def test_flags_beyond_what_a_deque_counts_are_adopted() -> None:
    charged = budget(3, 5)
    charged.charge(1.0)
    charged.adopt(supervisor("one_for_one", "a", intensity=sys.maxsize + 1, period=5))
    assert list(charged.attempts) == [1.0]
    assert not charged.is_exhausted(1.0)

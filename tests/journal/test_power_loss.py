"""T-1: random lives of a journal, the power cut at every step of them (engine.py)."""

from collections.abc import Callable

import pytest

from tests.journal.engine import play

EVENTS = [
    "new",
    "end",
    "torn",
    "sealed",
    "clean",
    "nested",
    "suffered",
    "refused",
    "spares",
    "spares failed",
    "cuts",
    "closes",
]
"""What a suite of this size must have met; else it proves nothing."""


@pytest.mark.timeout(0)  # bounded by the number of states
def test_every_crash_state_recovers_to_what_was_acknowledged(
    play_many: Callable[..., None],
) -> None:
    play_many(play, EVENTS)


def test_the_same_seed_gives_the_same_life() -> None:
    for seed in range(5):
        once, again = play(seed), play(seed)
        assert once.counts == again.counts
        assert once.disk.contents() == again.disk.contents()

"""T-1: random lives of a journal, the power cut at every step of them (engine.py)."""

import time
from collections import Counter
from collections.abc import Callable, Iterator

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
    journal_seeds: Callable[[], Iterator[int]], states: int, capsys: pytest.CaptureFixture[str]
) -> None:
    counts: Counter[str] = Counter()
    began = time.perf_counter()
    for seed in journal_seeds():
        counts += play(seed).counts
        counts["seeds"] += 1
        if counts["states"] >= states:
            break
    with capsys.disabled():
        rate = counts["states"] / (time.perf_counter() - began)
        print(f"\n{dict(counts)}, {rate:.0f} crash states a second")
    if counts["seeds"] > 100:
        assert [event for event in EVENTS if counts[event] == 0] == []


def test_the_same_seed_gives_the_same_life() -> None:
    for seed in range(5):
        once, again = play(seed), play(seed)
        assert once.counts == again.counts
        assert once.disk.contents() == again.disk.contents()

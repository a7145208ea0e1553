"""Options of the power-loss suites: which seeds, how many crash states."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.effort import rounds

pytest.register_assert_rewrite(
    "tests.journal.model",
    "tests.journal.engine",
    "tests.journal.store_crashes",
    "tests.journal.tail_crashes",
    "pybehave.testing.store_conformance",
    "pybehave.testing.store_model",
    "pybehave.testing.store_walk",
)

FAILED_ONCE = Path(__file__).with_name("seeds.txt")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("journal")
    group.addoption("--journal-seed", type=int, help="run this seed only")


@pytest.fixture(scope="session")
def states() -> int:
    """How many crash states the random suite tries; ten million take half an hour."""
    return rounds("PYBEHAVE_CRASH_STATES")


@pytest.fixture(scope="session")
def sample() -> int:
    """Of exhaustive suites every n-th case; PYBEHAVE_EXHAUSTIVE=1 takes all."""
    return 1 if os.environ.get("PYBEHAVE_EXHAUSTIVE") else 50


@pytest.fixture(scope="session")
def journal_seeds(request: pytest.FixtureRequest) -> Callable[[], Iterator[int]]:
    """The seed that was asked for; or those that failed once, then 0, 1, 2 ... without end."""
    only = request.config.getoption("--journal-seed", None)

    def choose() -> Iterator[int]:
        if only is not None:
            yield only
            return
        words = (line.partition("#")[0].strip() for line in FAILED_ONCE.read_text().splitlines())
        yield from (int(word) for word in words if word)
        seed = 0
        while True:
            yield seed
            seed += 1

    return choose


@pytest.fixture
def play_many(
    journal_seeds: Callable[[], Iterator[int]], states: int, tell: Callable[[str], None]
) -> Callable[..., None]:
    """Play lives until they have had enough crash states; together they must have met every event.

    The arguments are what plays a seed, the names of the events, one part of how many states is
    enough, and more than how many lives must have met everything.
    """

    def run(
        play: Callable[[int], Any], events: list[str], *, share: int = 1, lives: int = 100
    ) -> None:
        counts: Counter[str] = Counter()
        began = time.perf_counter()
        for seed in journal_seeds():
            counts += play(seed).counts
            counts["seeds"] += 1
            if counts["states"] >= states // share:
                break
        rate = counts["states"] / (time.perf_counter() - began)
        tell(f"{dict(counts)}, {rate:.0f} crash states a second")
        if counts["seeds"] > lives:
            assert [event for event in events if counts[event] == 0] == []

    return run

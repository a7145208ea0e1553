"""Options of the power-loss suites: which seeds, how many crash states."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite(
    "tests.journal.model",
    "tests.journal.engine",
    "tests.journal.store_crashes",
    "tests.journal.tail_crashes",
    "pybehave.testing.store_conformance",
    "pybehave.testing.store_model",
    "pybehave.testing.store_walk",
)

STATES = 100_000
"""Twenty seconds; PYBEHAVE_CRASH_STATES=10000000 is the long mode, half an hour."""

FAILED_ONCE = Path(__file__).with_name("seeds.txt")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("journal")
    group.addoption("--journal-seed", type=int, help="run this seed only")


@pytest.fixture(scope="session")
def states() -> int:
    """How many crash states the random suite tries."""
    return int(os.environ.get("PYBEHAVE_CRASH_STATES", STATES))


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

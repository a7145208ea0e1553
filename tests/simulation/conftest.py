"""Options and fixtures of the simulator suite: which seeds, how many, for how long."""

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pybehave._uring import sim
from tests.effort import rounds

pytest.register_assert_rewrite("tests.simulation.storm", "tests.simulation.ledger")

FAILED_ONCE = Path(__file__).with_name("seeds.txt")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seed", type=int, help="run this seed only")
    group.addoption("--seeds", type=int, help="how many seeds, from 0 (default: tests/effort.py)")
    group.addoption("--sim-seconds", type=float, help="stop after this long (default: never)")


@pytest.fixture(scope="session")
def seeds(request: pytest.FixtureRequest) -> Callable[[], Iterator[int]]:
    """The seeds to run: the one that was asked for; or those that failed once, then 0, 1, 2 ..."""
    only = request.config.getoption("--seed", None)
    count = request.config.getoption("--seeds", None) or rounds("PYBEHAVE_STORM_SEEDS")
    seconds = request.config.getoption("--sim-seconds", None) or math.inf

    def choose() -> Iterator[int]:
        if only is not None:
            yield only
            return
        words = (line.partition("#")[0].strip() for line in FAILED_ONCE.read_text().splitlines())
        yield from (int(word) for word in words if word)
        end = time.monotonic() + seconds
        for seed in range(count):
            if time.monotonic() > end:
                return
            yield seed

    return choose


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of crashes are wanted here; their tracebacks in the log are not."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(autouse=True)
def loud_breach(request: pytest.FixtureRequest) -> Iterator[None]:
    """A breach of the source's contract ends the process: let its sentence pass the capture."""
    capture = request.config.pluginmanager.getplugin("capturemanager")

    def say(sentence: str) -> None:
        if capture is not None:
            capture.suspend_global_capture(in_=True)
        sys.stderr.write(f"\n{sentence}\n{request.node.nodeid}\n")
        sys.stderr.flush()

    sim.on_broken = say
    yield
    sim.on_broken = None

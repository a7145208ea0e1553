"""Random programs and random outside events: what must hold, holds (random_runs.py)."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.effort import rounds
from tests.runtime.random_runs import Run

SEEDS = rounds("PYBEHAVE_PROGRAM_SEEDS")
SEEDS_A_TEST = 30
"""More of them are more tests: a test has a time limit, and processors share tests."""
SEEDS_THAT_SEE_ALL = 12
WANTED = (
    "cut", "copy", "stop", "came to rest", "compared", "answers", "arrived", "upgrade", "gathered",
    "full", "crowd", "migrate",
)  # fmt: skip
"""Of each some must have been seen, or the runs say little."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize("first", range(0, SEEDS, SEEDS_A_TEST))
@pytest.mark.parametrize("asks", [False, True], ids=["by actions", "by requests, too"])
def test_random_programs_keep_their_promises(asks: bool, first: int) -> None:
    counts: Counter[str] = Counter()
    seeds = range(first, min(first + SEEDS_A_TEST, SEEDS))
    for seed in seeds:
        try:
            counts += Run(seed, asks=asks).run()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
    if len(seeds) >= SEEDS_THAT_SEE_ALL:
        assert [each for each in WANTED if not counts[each]] == []

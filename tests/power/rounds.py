"""How many rounds, from which seed, and which one failed."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

VOLUME = float(os.environ.get("PYBEHAVE_POWER", "1"))
SEED = int(os.environ.get("PYBEHAVE_POWER_SEED", "0")) or random.SystemRandom().randrange(1, 10**9)


def rounds(usual: int, name: str) -> Iterator[tuple[int, random.Random]]:
    """Number and chance of each round; a failure says which one, and how to see it again."""
    count = max(1, round(usual * VOLUME))
    number = 0
    try:
        for number in range(count):
            yield number, random.Random(f"{SEED} {name} {number}")
    except BaseException:
        print(f"{name}: round {number} of {count}, PYBEHAVE_POWER_SEED={SEED}")
        raise


def check_source(name: str) -> str:
    """The source, or a skip that says why it cannot be had."""
    from pybehave._uring.loop import Loop
    from pybehave.errors import SourceUnavailable

    try:
        Loop(name).close()
    except SourceUnavailable as error:
        pytest.skip(f"{name}: {error.reason}")
    return name

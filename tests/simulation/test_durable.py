"""Journaled servers through power cuts, hundreds of seeds: see durable.py for the promises."""

from collections import Counter

import pytest

from tests.effort import rounds
from tests.simulation.durable import Durable
from tests.simulation.wires import HTTP, LINES, Wire

SEEDS = rounds("PYBEHAVE_DURABLE_SEEDS")
FAILED_ONCE = (3258,)
"""3258: a server that crashed while the disk was full could not start; its supervisor gave up."""

EVENTS = ["answers", "errors", "keep", "boom", "cuts", "closes", "found", "looks", "rolls"]


def play(seed: int, *, shake: bool = True, wire: Wire = LINES) -> Durable:
    durable = Durable(seed, shake=shake, wire=wire)
    try:
        durable.run()
    except BaseException as error:
        name = "HTTP" if wire is HTTP else "LINES"
        call = f"play({seed}, shake={shake}, wire={name})"
        error.add_note(
            f"seed {seed}: run again with  "
            f".venv/bin/python -c 'from tests.simulation.test_durable import *; {call}'"
        )
        raise
    return durable


@pytest.mark.parametrize("shake", [True, False])
def test_what_was_answered_survives_every_cut(shake: bool) -> None:
    counts: Counter[str] = Counter()
    for seed in (*FAILED_ONCE, *range(SEEDS)):
        counts += play(seed, shake=shake).counts
    assert bool(counts["failed"]) == shake
    assert [event for event in EVENTS if counts[event] == 0] == []


@pytest.mark.parametrize("shake", [True, False])
def test_what_was_answered_over_http_survives_every_cut(shake: bool) -> None:
    counts: Counter[str] = Counter()
    for seed in range(SEEDS // 4):
        counts += play(seed, shake=shake, wire=HTTP).counts
    assert [event for event in EVENTS if counts[event] == 0] == []

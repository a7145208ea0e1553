"""Random trees, clients and weather, thousands of seeds: see storm.py for the promises."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import pytest

from tests.effort import rounds
from tests.simulation.storm import Storm
from tests.simulation.wires import HTTP, WIRES, Wire

Seeds = Callable[[], Iterator[int]]

EVENTS = [
    "answers",
    "errors",
    "failed asks",
    "calls refused",
    "crashes",
    "clean ends",
    "restarts",
    "given up",
    "down",
    "connections open",
    "connections ended",
    "connections reset",
]
"""What a suite of this size must have met; else it proves nothing."""


def play(seed: int, *, shake: bool = True, wires: Sequence[Wire] = tuple(WIRES)) -> Storm:
    storm = Storm(seed, shake=shake, wires=wires)
    try:
        storm.run()
    except BaseException as error:
        error.add_note(f"seed {seed}: run again with  pytest tests/simulation --seed {seed}")
        raise
    return storm


@pytest.mark.timeout(0)  # bounded by the number of seeds
def test_every_seed_keeps_every_promise(seeds: Seeds, tell: Callable[[str], None]) -> None:
    counts: Counter[str] = Counter()
    for seed in seeds():
        counts += play(seed).counts
        counts["seeds"] += 1
    tell(f"{dict(counts)}")
    if counts["seeds"] > 500:
        assert [event for event in EVENTS if counts[event] == 0] == []


def test_every_promise_holds_in_calm_weather() -> None:
    """And more: no connection is reset for which the client did not ask."""
    for seed in range(rounds("PYBEHAVE_CALM_SEEDS")):
        play(seed, shake=False)


@pytest.mark.parametrize("shake", [True, False])
def test_every_promise_holds_over_http(shake: bool) -> None:
    counts: Counter[str] = Counter()
    for seed in range(rounds("PYBEHAVE_HTTP_SEEDS")):
        counts += play(seed, shake=shake, wires=[HTTP]).counts
    assert all(counts[event] for event in ("answers", "errors", "crashes", "restarts"))


def test_the_same_seed_gives_the_same_run() -> None:
    for seed in range(40):
        once, again = play(seed), play(seed)
        assert once.trace_hash == again.trace_hash
        assert once.counts == again.counts


def test_other_seeds_give_other_runs() -> None:
    assert len({play(seed).trace_hash for seed in range(40)}) == 40

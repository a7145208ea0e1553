"""Mistakes planted in our own code are found by trials; without them the same trials find nothing.

See planted.py for the trials, which are written as users write them, and for the mistakes;
planted_compiled.py for those in the core.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from pybehave.testing import TrialFailed
from tests.journal.mutants import ROOT
from tests.journal.test_mutations import BUILT
from tests.simulation.planted import PLANTED, SEEDS, TRIALS
from tests.simulation.planted_compiled import COMPILED


@pytest.mark.parametrize("name", TRIALS)
def test_without_a_mistake_nothing_is_found(name: str) -> None:
    counts = TRIALS[name]().check(range(SEEDS))
    assert counts["seeds"] == SEEDS
    assert counts["answers"] + counts["errors"] > 0


@pytest.mark.parametrize("name", PLANTED)
def test_a_mistake_is_found_and_repeats_by_its_seed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    PLANTED[name].patch(monkeypatch)
    trial = TRIALS[PLANTED[name].trial]()
    with pytest.raises(TrialFailed) as caught:
        trial.check(range(SEEDS), tries_max=60)
    played = caught.value.played
    assert played.failure is not None
    assert played.failure.promise in PLANTED[name].promises, str(played.failure)
    again = trial.play(played.seed, played.script)
    assert (again.failure, again.trace_hash) == (played.failure, played.trace_hash)


@pytest.mark.skipif(not BUILT.exists(), reason="mutants are linked with what make build left")
@pytest.mark.parametrize("name", COMPILED)
def test_a_mistake_in_a_compiled_module_is_found(name: str) -> None:
    command = [sys.executable, "-m", "tests.simulation.planted_compiled", name]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1, f"nobody noticed: {done.stdout}{done.stderr[-2000:]}"
    assert done.stdout.startswith(COMPILED[name].promises), done.stdout + done.stderr[-2000:]


def test_every_trial_has_a_mistake_that_it_finds() -> None:
    planted = [*PLANTED.values(), *COMPILED.values()]
    assert {each.trial for each in planted} == set(TRIALS)

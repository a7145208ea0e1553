"""Every safeguard of the mutation table is missed by a suite as soon as it is taken away."""

import subprocess
import sys
import sysconfig

import pytest

from pybehave._uring.loop import Loop
from pybehave.errors import SourceUnavailable
from tests.journal.mutants import BUILD, MUTANTS, ROOT

OUT_OF_DATE = ("TypeError", "AttributeError", "NameError")

BUILT = BUILD / f"commit{sysconfig.get_config_var('EXT_SUFFIX')}"


@pytest.mark.skipif(not BUILT.exists(), reason="mutants are linked with what make build left")
@pytest.mark.parametrize("name", MUTANTS)
def test_without_it_a_suite_fails(name: str) -> None:
    if MUTANTS[name].needs_ring:
        try:
            Loop("basic").close()
        except SourceUnavailable as error:
            pytest.skip(f"nothing is linked without a ring: {error.reason}")
    command = [sys.executable, "-m", "tests.journal.mutants", name]
    done = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (1, -6, -11), f"nobody noticed: {done.stdout}{done.stderr[-2000:]}"
    assert done.stdout.startswith(MUTANTS[name].suites) or done.returncode < 0, done.stderr[-2000:]
    told = done.stdout.partition(": ")[2].partition(" ")[0]
    assert told not in OUT_OF_DATE, f"the mutant does not fit what it replaces: {done.stdout}"

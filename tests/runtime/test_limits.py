"""How many connections fit into the limit of open files."""

import resource
import subprocess
import sys

import pytest

from pybehave.runtime.limits import DESCRIPTORS_RESERVED


@pytest.mark.parametrize(
    ("hard", "fit"),
    [(64, 48), (256, 192), (257, 193), (1024, 1024 - DESCRIPTORS_RESERVED)],
)
def test_a_low_limit_has_room_for_some(hard: int, fit: int) -> None:
    program = "from pybehave.runtime.limits import raise_descriptors; print(raise_descriptors())"
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, ({hard},) * 2)\n"
    ran = subprocess.run(
        [sys.executable, "-c", limit + program], capture_output=True, text=True, check=True
    )
    assert int(ran.stdout) == fit
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > hard  # only that process was limited

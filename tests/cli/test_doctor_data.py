"""`pybehave doctor --data`: what a folder is good for, and flushes that cannot have been any."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pybehave.cli import doctor
from pybehave.journal import testdisk
from pybehave.journal.disk import FolderDisk
from tests.processes import run

FACTS = {"io_uring_disabled": 0, "seccomp": 0, "connections_max": 100_000}
WARNING = "no device flushes that fast: this folder would not survive a power cut"


class Clock:
    """Each look at it is so much later."""

    def __init__(self, step_s: float) -> None:
        self.now_s, self.step_s = 0.0, step_s

    def perf_counter(self) -> float:
        self.now_s += self.step_s
        return self.now_s


@pytest.mark.parametrize(
    "commit_us, is_plausible", [(1, False), (4, False), (6, True), (150, True)]
)
def test_flushes_that_are_too_fast_to_be_true_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, commit_us: int, is_plausible: bool
) -> None:
    monkeypatch.setattr(testdisk, "time", Clock(commit_us / 1e6))
    found = testdisk.measure(FolderDisk(tmp_path, is_volatile_allowed=True), commits=3)
    assert found.is_plausible is is_plausible
    advice = doctor.advise({**FACTS, "journal": {"plausible": found.is_plausible}})
    assert [WARNING in line for line in advice] == [True] * (not is_plausible)


def test_a_folder_is_named_with_what_it_gives(tmp_path: Path) -> None:
    found = json.loads(run("doctor", "--json", "--data", str(tmp_path)).stdout)["journal"]
    assert found["usable"] and found["commit_us"]["p50"] <= found["commit_us"]["p99"]
    (tmp_path / "file").touch()
    found = json.loads(run("doctor", "--json", "--data", str(tmp_path / "file")).stdout)["journal"]
    assert not found["usable"] and "it is not a folder" in found["reason"]

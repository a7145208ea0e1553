"""`pybehave doctor --data`: what a folder is good for, and flushes that cannot have been any."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pybehave.cli import doctor
from pybehave.journal import disk, testdisk
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


def doctor_on(folder: object, *options: str) -> tuple[int, dict[str, Any]]:
    result = run("doctor", "--json", "--data", str(folder), *options)
    return result.returncode, json.loads(result.stdout)["journal"]


def test_a_folder_that_is_not_there_is_tried_and_not_left_behind(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    status, found = doctor_on(tmp_path / "kept" / "new" / "deep")
    assert (status, found["usable"]) == (0, True)
    assert list((tmp_path / "kept").iterdir()) == []


@pytest.mark.parametrize(
    "folder, says",
    [("/proc", "no files can be made in it"), ("", "a folder's name cannot be empty")],
)
def test_a_folder_without_files_fails_with_the_reason(folder: str, says: str) -> None:
    status, found = doctor_on(folder)
    assert (status, found["usable"]) == (1, False)
    assert says in found["reason"]


def test_an_unusable_folder_is_something_to_do() -> None:
    (line,) = doctor.advise({**FACTS, "journal": {"usable": False}})
    assert "the journal cannot be kept there" in line


def test_a_folder_in_memory_is_judged_as_run_judges_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "mount_of", lambda _: ("tmpfs", "tmpfs"))
    found = doctor.try_folder(str(tmp_path))
    assert not found["usable"] and "allow it with --volatile" in found["reason"]
    assert doctor.try_folder(str(tmp_path), is_volatile_allowed=True)["usable"]

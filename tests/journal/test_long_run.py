"""The long run: it may be killed at any moment, and its summary names what was played."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.journal import long_run
from tests.journal.long_run import Summary, run

SEEDS = 2


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_run, "CHUNK_SEEDS", SEEDS)


def fails_at_three(seed: int) -> Counter[str]:
    if seed == 3:
        raise AssertionError("I1: acknowledged 2, recovered 1")
    return Counter(states=10)


@pytest.mark.parametrize("kind", long_run.KINDS)
def test_it_goes_on_behind_the_last_chunk_and_counts_each_seed_once(
    kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "summary.json"
    for chunks in (1, 2):
        summary = Summary(path, [kind])
        run(summary, [kind], summary.states + 1, processes=1)
        assert summary.kinds[kind]["next_seed"] == chunks * SEEDS
    counts = sum((long_run.KINDS[kind](seed) for seed in range(2 * SEEDS)), Counter())
    said = json.loads(path.read_text())
    assert said["kinds"][kind]["counts"] == {**dict(sorted(counts.items())), "seeds": 2 * SEEDS}
    assert said["states"] == counts["states"]


def test_a_seed_that_fails_stands_in_the_summary_and_the_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(long_run.KINDS, "plain", fails_at_three)
    summary = Summary(tmp_path / "summary.json", ["plain"])
    run(summary, ["plain"], 50, processes=1)
    assert summary.has_failed
    said = json.loads(summary.path.read_text())["kinds"]["plain"]
    assert said["failed"] == {"3": "AssertionError: I1: acknowledged 2, recovered 1"}
    assert said["next_seed"] == 6
    assert "FAILED plain 3" in capsys.readouterr().out

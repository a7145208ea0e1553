"""The tree does what Erlang/OTP's own supervisor does, scenario by scenario.

`recorded.jsonl` holds what OTP 25.2.3 answered (record.py writes it). Where erl is installed, more
seeds are put to it live; PYBEHAVE_OTP_SEEDS=1000:2000 chooses others. A scenario covers nested
trees, the three strategies, restart types, significance, failing and ignoring inits, requests,
and requests that come between a failed restart and its retry.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.otp.scenarios import OnTree, make, record_on_otp

RECORDED = [
    json.loads(line) for line in Path(__file__).with_name("recorded.jsonl").read_text().splitlines()
]


@pytest.mark.parametrize("recorded", RECORDED, ids=lambda recorded: f"seed{recorded['seed']}")
def test_the_tree_answers_as_OTP_did(recorded: dict[str, Any]) -> None:
    assert OnTree(recorded).record() == recorded["otp"]


@pytest.mark.skipif(
    shutil.which("erlc") is None or shutil.which("erl") is None, reason="erl is not installed"
)
def test_the_tree_answers_as_the_OTP_that_is_installed(tmp_path: Path) -> None:
    first, _, last = os.environ.get("PYBEHAVE_OTP_SEEDS", "100:130").partition(":")
    seeds = range(int(first), int(last))
    scenarios = [make(seed) for seed in seeds]
    answers = record_on_otp(scenarios, tmp_path)
    for seed, scenario, expected in zip(seeds, scenarios, answers, strict=True):
        assert OnTree(scenario).record() == expected, f"seed {seed}"

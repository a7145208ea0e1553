"""A simple_one_for_one does what Erlang/OTP's own does, scenario by scenario.

`simple_recorded.jsonl` holds what OTP 25.2.3 answered. Where erl is installed, more seeds are put
to it live; PYBEHAVE_OTP_SEEDS=1000:2000 chooses others.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.otp.simple_scenarios import RECORDED, OnTree, make, record_on_otp

LINES = [json.loads(line) for line in RECORDED.read_text().splitlines()]


@pytest.mark.parametrize("recorded", LINES, ids=lambda recorded: f"seed{recorded['seed']}")
def test_a_simple_one_for_one_answers_as_OTP_did(recorded: dict[str, Any]) -> None:
    assert OnTree(recorded).record() == recorded["otp"]


def test_the_recorded_scenarios_show_every_answer() -> None:
    answers = {line.split("|")[0] for recorded in LINES for line in recorded["otp"]}
    assert answers >= {"ok", "failed", "not_found", "simple_one_for_one", "noproc"}


@pytest.mark.skipif(
    shutil.which("erlc") is None or shutil.which("erl") is None, reason="erl is not installed"
)
def test_a_simple_one_for_one_answers_as_the_OTP_that_is_installed(tmp_path: Path) -> None:
    first, _, last = os.environ.get("PYBEHAVE_OTP_SEEDS", "100:160").partition(":")
    seeds = range(int(first), int(last))
    scenarios = [make(seed) for seed in seeds]
    answers = record_on_otp(scenarios, tmp_path)
    for seed, scenario, expected in zip(seeds, scenarios, answers, strict=True):
        assert OnTree(scenario).record() == expected, f"seed {seed}"

"""gen_statem's engine delivers the events that OTP's delivers, in random machines."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.conformance.otp.statem_record import RECORDED
from tests.conformance.otp.statem_scenarios import make, play, play_as_server, record_on_otp

LINES = [json.loads(line) for line in RECORDED.read_text().splitlines()]
LIVE_SEEDS = range(int(os.environ.get("PYBEHAVE_OTP_SEEDS", "300")))


@pytest.mark.parametrize("recorded", LINES, ids=range(len(LINES)))
def test_a_recorded_machine_goes_as_on_otp(recorded: dict) -> None:
    assert play(recorded) == recorded["otp"]
    assert play_as_server(recorded) == recorded["otp"]


def test_the_recorded_machines_show_every_kind_of_event() -> None:
    kinds = {word.split()[0] for line in LINES for word in line["otp"].split(";")}
    assert kinds == {
        "enter", "call", "cast", "info", "internal", "timeout", "state_timeout", "a", "b",
        "terminate",
    }  # fmt: skip


@pytest.mark.skipif(shutil.which("erlc") is None, reason="needs Erlang")
def test_random_machines_go_as_on_otp(tmp_path: Path) -> None:
    scenarios = [make(seed) for seed in LIVE_SEEDS]
    answers = record_on_otp(scenarios, tmp_path)
    differing = [
        seed
        for seed, scenario, answer in zip(LIVE_SEEDS, scenarios, answers, strict=True)
        if play(scenario) != answer or play_as_server(make(seed)) != answer
    ]
    assert differing == []

"""The rounds of tests/effort.py: the variable goes before the effort, and nonsense is refused.
How long they take is no matter.
"""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.effort import EFFORTS, ROUNDS, rounds

STATES = "PYBEHAVE_CRASH_STATES"


@pytest.mark.parametrize("effort", EFFORTS)
def test_the_effort_chooses_the_rounds(effort: str) -> None:
    assert rounds(STATES, {"PYBEHAVE_EFFORT": effort}) == getattr(ROUNDS[STATES], effort)


def test_without_a_word_the_rounds_are_the_usual_ones() -> None:
    assert {each: rounds(each, {}) for each in ROUNDS} == {k: v.usual for k, v in ROUNDS.items()}


def test_the_own_variable_goes_before_the_effort() -> None:
    assert rounds(STATES, {"PYBEHAVE_EFFORT": "full", STATES: "17"}) == 17


@pytest.mark.parametrize("said", ["0", "-1", "", "many", "1e6"])
def test_a_number_of_rounds_that_cannot_be_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match=f"^{STATES}={said} is no number from 1$"):
        rounds(STATES, {STATES: said})


def test_an_effort_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^PYBEHAVE_EFFORT=more is neither usual nor full$"):
        rounds(STATES, {"PYBEHAVE_EFFORT": "more"})


def test_full_is_more_than_usual_and_each_number_is_used() -> None:
    assert all(each.full > each.usual for each in ROUNDS.values())
    root = Path(__file__).resolve().parent
    used = {
        name
        for path in root.rglob("*.py")
        for name in re.findall(r'rounds\("(PYBEHAVE_\w+)"\)', path.read_text(encoding="utf-8"))
    }
    assert used == set(ROUNDS)


def test_CI_plays_the_full_rounds() -> None:
    text = (Path(__file__).resolve().parent.parent / ".ci/run").read_text(encoding="utf-8")
    assert re.search(r"^export .*\bPYBEHAVE_EFFORT=full\b", text, re.MULTILINE)


def test_no_property_fails_because_the_machine_is_busy() -> None:
    assert settings.default is not None
    assert settings.default.deadline is None
    assert HealthCheck.too_slow in settings.default.suppress_health_check

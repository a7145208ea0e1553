"""In CI a skip is a failure, unless tests/skips.py says what shows the same there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.skips import ALLOWED

pytest_plugins = ["pytester"]

SKIPS = """
import pytest

def test_a():
    pytest.skip("full: not here")

@pytest.mark.skipif(True, reason="erl is not installed")
def test_b(): ...

@pytest.mark.power
def test_c():
    pytest.skip("needs root")

@pytest.fixture
def tool():
    pytest.skip("redis-cli is not installed")

def test_d(tool): ...
"""


@pytest.mark.parametrize(
    ("environment", "words", "failed"),
    [
        ({"CI": "true"}, (), {"test_a", "test_d"}),
        ({"CI": "true"}, ("-n", "2"), {"test_a", "test_d"}),
        ({"CI": "true", "PYBEHAVE_MAY_SKIP": "^(full|basic): "}, (), {"test_d"}),
        ({}, (), set()),
    ],
    ids=["CI", "CI in two processes", "CI without io_uring", "elsewhere"],
)
def test_a_skip_in_CI_is_a_failure_unless_it_is_no_gap(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    words: tuple[str, ...],
    failed: set[str],
) -> None:
    for name in ("CI", "PYBEHAVE_MAY_SKIP"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    root = Path(__file__).resolve().parent.parent
    monkeypatch.setenv("PYTHONPATH", str(root))
    pytester.makeini("[pytest]\nmarkers = power: x\n")
    pytester.makeconftest("from tests.conftest import pytest_runtest_makereport\n")
    pytester.makepyfile(SKIPS)
    out = pytester.runpytest_subprocess("-rA", *words).stdout.str()
    told = set(re.findall(r"^(?:FAILED|ERROR) \S+::(\w+)", out, re.MULTILINE))
    assert told == failed, out
    assert out.count("Mend: see tests/skips.py") >= len(failed)


def test_what_may_be_skipped_is_the_reason_of_a_test() -> None:
    reasons = set()
    for path in Path(__file__).resolve().parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and "skip" in ast.unparse(node.func):
                words = [*node.args, *(each.value for each in node.keywords)]
                reasons |= {each.value for each in words if isinstance(each, ast.Constant)}
    texts = [reason for reason in reasons if isinstance(reason, str)]
    for pattern in ALLOWED:
        assert any(re.search(pattern, text) for text in texts), pattern

"""What tests tell stands at the end of the run, be it one process or several."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

TELLS = """
def test_a(tell):
    tell("17 states")

def test_b(tell):
    tell("a failure's count")
    assert False

def test_c(): ...
"""


@pytest.mark.parametrize("words", [[], ["-n", "2"]], ids=["one process", "two"])
def test_what_tests_tell_stands_at_the_end_once(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
    pytester.makeconftest("from tests.conftest import pytest_terminal_summary, tell\n")
    path = pytester.makepyfile(TELLS)
    said = pytester.runpytest_subprocess(*words).stdout
    for name, line in (("test_a", "17 states"), ("test_b", "a failure's count")):
        said.fnmatch_lines([f"{path.name}::{name}", f"    {line}"])
        assert said.str().count(f"    {line}\n") == 1
    said.no_fnmatch_line(f"{path.name}::test_c")

"""The table of what was asked for names tests that are there, and each row once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "internals" / "catalogue.md"
ROW = re.compile(r"^\| ([A-Z][^|]*) \| ([^|]+) \| ([^|]+) \|$", re.M)
NAME = re.compile(r"`([\w/]+\.py)(?:::(test_\w+))?`")


def rows(text: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """Each row's id, and the files and names of its tests; "" = all of a file."""
    return [(match[1], NAME.findall(match[3])) for match in ROW.finditer(text)]


def missing(text: str) -> list[str]:
    """What a table names that is not there, and rows that name nothing."""
    found = []
    for row, tests in rows(text):
        found += [] if tests else [row]
        for file, name in tests:
            path = ROOT / "tests" / file
            if not path.is_file() or (name and f"def {name}(" not in path.read_text("utf-8")):
                found.append(f"{row}: {file}::{name}")
    return found


def test_every_row_names_tests_that_are_there() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert missing(text) == []
    ids = [row for row, _ in rows(text)]
    assert len(ids) == len(set(ids)) == text.count("\n| ") - text.count("\n| row |")
    assert len(ids) > 120


@pytest.mark.parametrize(
    "tests",
    ["", "`docs/test_catalogue.py::test_that_there_is_not`", "`docs/test_nothing.py`"],
)
def test_a_row_without_its_test_would_be_found(tests: str) -> None:
    assert missing(f"\n| A0-1 | something | {tests or 'nothing'} |\n")

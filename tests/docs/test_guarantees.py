"""Each guarantee names the tests that show it, and those tests exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/concepts/durable.md"
DEFINITION = re.compile(r"^\[([^\]]+)\]: (\S+)$", re.M)
ITEM = re.compile(r"^(?:\d+\.|\*) .*(?:\n {2,}\S.*)*", re.M)
CRASHES = re.compile(r"^\| it ends in \|.*\n\|[-|]+\n((?:\|.*\n)+)", re.M)
GUARANTEES_MIN = 20


def text() -> str:
    return PAGE.read_text(encoding="utf-8")


def definitions(page: str) -> dict[str, str]:
    return dict(DEFINITION.findall(page))


def cells(page: str) -> list[str]:
    """What the table of crashes says of each place, column by column."""
    rows = [
        row.strip("| ").split(" | ")
        for found in CRASHES.findall(page)
        for row in found.splitlines()
    ]
    return [cell for _, *said in rows for cell in said]


def items(page: str) -> list[str]:
    return ITEM.findall(page) + cells(page)


def labels(item: str) -> set[str]:
    """What stands in square brackets, without links that have a target of their own."""
    return set(re.findall(r"\[([^\]]+)\](?![(:])", item.replace("\n", " ")))


def names_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def unproven(page: str) -> list[str]:
    """The items of a page that name no test."""
    known = definitions(page).keys()
    return [item for item in items(page) if not labels(item) & known]


def test_every_guarantee_names_a_test() -> None:
    assert len(ITEM.findall(text())) >= GUARANTEES_MIN
    assert unproven(text()) == []


def test_the_table_of_crashes_has_two_columns_for_each_place() -> None:
    assert len(cells(text())) == 14


@pytest.mark.parametrize("label", sorted(definitions(text())))
def test_the_test_exists_and_is_named_for_something(label: str) -> None:
    path, _, name = definitions(text())[label].partition("#")
    assert name in names_in(PAGE.parent / path), f"{path} has no {name}"
    assert any(label in labels(item) for item in items(text())), "no guarantee names it"


def test_every_label_is_defined() -> None:
    used = {label for item in items(text()) for label in labels(item)}
    assert used - definitions(text()).keys() == set()


def test_a_guarantee_without_a_test_would_be_found() -> None:
    page = "1. proven ([a])\n2. not\n   at all\n* nor [this](b)\n\n[a]: x.py#test_a\n"
    assert unproven(page) == ["2. not\n   at all", "* nor [this](b)"]

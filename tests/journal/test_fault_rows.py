"""Each row of the fault list (durability.md, section 2) has a test that carries its id."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROWS = range(1, 47)
IN_NAME = re.compile(r"F(\d\d)(?=_)")
IN_TEXT = re.compile(r"F-(\d\d)\b")


def rows_of(path: Path) -> set[int]:
    """The rows that tests of a file name: in their own names, or in what they say of themselves.

    The docstring of a file counts where the file has tests.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    tests = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    texts = [ast.get_docstring(node) or "" for node in (tree, *tests)] if tests else []
    found = [row for node in tests for row in IN_NAME.findall(node.name)]
    return {int(row) for row in (*found, *IN_TEXT.findall(" ".join(texts)))}


def test_every_row_has_a_test_that_carries_its_id() -> None:
    found = {row for path in TESTS.rglob("test_*.py") for row in rows_of(path)}
    assert sorted(set(ROWS) - found) == []

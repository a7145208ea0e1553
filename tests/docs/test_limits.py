"""The defaults that the pages name are those that `pybehave run --show-config` prints."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pybehave.cli import main

ROOT = Path(__file__).parents[2]
LIMITS = ROOT / "docs/reference/limits.md"
HEALTH = ROOT / "docs/operating/health.md"
CHECKED_MIN = 20

LINE = re.compile(r"^(?P<name>\S+(?: \S+)?) = (?P<value>.*?)  \((?P<origin>[^()]*)\)$")
PLACE = re.compile(r"`(?P<name>[\w.]+)\((?P<fields>(?:\w+=(?:, )?)+)\)`|`(?P<option>--[\w-]+)`")


@pytest.fixture(scope="module")
def printed() -> dict[str, str]:
    """Name -> value, as it is printed."""
    result = CliRunner().invoke(main, ["run", "examples.kv:app", "--show-config"])
    assert (result.exit_code, result.stderr) == (0, "")
    found = {}
    for line in result.stdout.splitlines():
        match = LINE.match(line)
        assert match, line
        found[match["name"]] = match["value"]
    return found


def shapes(text: str) -> set[str]:
    """Every way in which a page may write a value."""
    try:
        value: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return {text}
    if value is None:
        return {"no limit", "off", "never", "none", "nobody looks"}
    if isinstance(value, tuple):
        return {" to ".join(map(str, value))}
    if isinstance(value, str):
        return {f"`{value}`", "no limit"} if value == "infinity" else {f"`{value}`"}
    found = {f"{value:g}", f"{value:,}"}
    for power, unit in ((10, "KiB"), (20, "MiB")):
        if isinstance(value, int) and value >= 1 << power and value % (1 << power) == 0:
            found.add(f"{value >> power} {unit}")
    return found


def rows(page: Path) -> list[list[str]]:
    """The cells of a page's tables."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]


def is_named(value: str, said: str) -> bool:
    """Whether a cell holds a value, in any shape, as a word of its own."""
    return any(re.search(rf"(?<![\w.,]){re.escape(s)}(?![\w])", said) for s in shapes(value))


def checked(printed: dict[str, str], row: list[str]) -> list[tuple[str, bool]]:
    """The settings that a row names, and whether what it says of them is so."""
    found = []
    for match in PLACE.finditer(row[-1]):
        if match["option"]:
            names = [match["option"]]
        else:
            names = [f"{match['name']}({field}=)" for field in re.findall(r"\w+", match["fields"])]
        found += [(name, is_named(printed[name], row[-2])) for name in names if name in printed]
    return found


def test_the_defaults_of_the_page_are_those_that_are_printed(printed: dict[str, str]) -> None:
    found = [each for row in rows(LIMITS) if len(row) == 3 for each in checked(printed, row)]
    assert [name for name, is_so in found if not is_so] == []
    assert len(found) >= CHECKED_MIN


def test_the_limits_of_health_are_those_that_are_printed(printed: dict[str, str]) -> None:
    fields = {row[0].strip("`"): row[1] for row in rows(HEALTH) if len(row) == 3}
    names = [name for name in printed if name.startswith("HealthLimits(")]
    assert len(names) == 5
    for name in names:
        field = name.removeprefix("HealthLimits(").removesuffix("=)")
        assert is_named(printed[name], fields[field]), name


@pytest.mark.parametrize(
    ("value", "said", "is_so"),
    [
        ("5.0", "1 in 5 s", True),
        ("5.0", "1 in 50 s", False),
        ("5.0", "1 in 1.5 s", False),
        ("65536", "64 KiB, resumes", True),
        ("65536", "64 MiB", False),
        ("None", "no limit", True),
        ("None", "5 s", False),
        ("(0, 4)", "0 to 4, at most", True),
        ("'block'", "1024 inputs, policy `block`", True),
        ("'block'", "1024 inputs, policy `reject`", False),
    ],
)
def test_a_default_that_is_wrong_would_be_found(value: str, said: str, is_so: bool) -> None:
    assert is_named(value, said) == is_so

"""The page of events names all that there are, with their fields."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybehave.runtime.events import Event

PAGE = (Path(__file__).parents[2] / "docs/operating/events.md").read_text(encoding="utf-8")

for module in ("watchdog", "durable.events", "signals", "isolation", "health"):
    importlib.import_module(f"pybehave.runtime.{module}")


def kinds(kind: type[Event] = Event) -> Iterator[type[Event]]:
    for each in kind.__subclasses__():
        if each.__module__.startswith("pybehave."):
            yield each
        yield from kinds(each)


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
def test_every_event_is_on_the_page(kind: type[Event]) -> None:
    (line,) = (line for line in PAGE.splitlines() if line.startswith("|") and kind.__name__ in line)
    for field in kind.__struct_fields__:
        if field not in ("supervisor", "child", "is_made"):
            assert f"`{field}`" in line

"""Memory that starts have left behind is given back once they are over, and not before."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.runtime import trimming
from pybehave.runtime.trimming import STARTED_MIN, Trimmer


class Alarms:
    """What was asked for, to be let go by hand."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def after(self, seconds: float, function: Callable[[], None]) -> None:
        assert seconds > 0
        self.waiting.append(function)

    def fire(self) -> None:
        waiting, self.waiting = self.waiting, []
        for function in waiting:
            function()


@pytest.fixture
def trims(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    found: list[int] = []
    monkeypatch.setattr(trimming, "trim", lambda: found.append(1))
    return found


@pytest.mark.parametrize(("more", "expected"), [(-1, 0), (0, 1), (1, 1)])
def test_many_starts_are_followed_by_one_trim(trims: list[int], more: int, expected: int) -> None:
    alarms = Alarms()
    trimmer = Trimmer(alarms.after)
    for _ in range(STARTED_MIN + more):
        trimmer.started()
    for _ in range(3):
        alarms.fire()
    assert len(trims) == expected


def test_as_long_as_servers_start_nothing_is_trimmed(trims: list[int]) -> None:
    alarms = Alarms()
    trimmer = Trimmer(alarms.after)
    for _ in range(STARTED_MIN):
        trimmer.started()
    for _ in range(3):
        trimmer.started()
        alarms.fire()
    assert trims == []
    alarms.fire()
    assert trims == [1]


def test_it_begins_anew_afterwards(trims: list[int]) -> None:
    alarms = Alarms()
    trimmer = Trimmer(alarms.after)
    for count in (1, 2):
        for _ in range(STARTED_MIN):
            trimmer.started()
        alarms.fire()
        assert len(trims) == count
        assert alarms.waiting == []


class Idle(GenServer[Any, Any, Any]):
    def init(self, args: Any) -> Any:
        return 0

    def step(self, command: Any, state: Any) -> Any:
        return state, state


def test_a_node_trims_after_its_children_have_started(
    start: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    was_trimmed = threading.Event()
    monkeypatch.setattr(trimming, "STARTED_MIN", 3)
    monkeypatch.setattr(trimming, "QUIET_S", 0.001)
    monkeypatch.setattr(trimming, "trim", was_trimmed.set)
    workers = [Worker(f"w{number}", Idle) for number in range(3)]
    node = start(Application("a", Supervisor("one_for_one", workers)))
    assert was_trimmed.wait(30)
    assert node.call("w2", 1) == 0


def test_trimming_harms_nobody() -> None:
    kept = [bytes(1000) for _ in range(1000)]
    trimming.trim()
    assert kept == [bytes(1000)] * 1000

"""The state that a server begins with is its own, and the journal's: a crash, a restart or another
configuration never brings in what steps have made of it, or what init would return today.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pybehave import (
    Application,
    EventHandler,
    GenEvent,
    GenServer,
    GenStatem,
    Supervisor,
    Worker,
    events,
    family,
)
from pybehave.actions import Reply, StartTimer
from pybehave.errors import Crashed
from pybehave.runtime.durable.recoveries import has_shared
from pybehave.statem import KeepState
from pybehave.testing import SimDisk, Simulator


class Count(GenServer[dict[str, int], Any, Any]):
    """Begins with its args, and changes them in place."""

    def step(self, command: Any, state: dict[str, int]) -> Any:
        if command == "break":
            state["n"] += 100
            raise ValueError("a deliberate bug")
        if command == "add":
            state["n"] += 1
        return state, "ok" if command == "add" else dict(state)


class Machine(GenStatem):
    def init(self, args: Any) -> Any:
        return "counting", args

    def counting(self, kind: Any, content: Any, data: dict[str, int]) -> Any:
        _, output = Count().step(content, data)
        return KeepState(data, Reply(kind[1], output))


class Keep(EventHandler):
    def handle_event(self, event: Any, state: list[Any]) -> list[Any]:
        state.append(event)
        return state


class Configured(GenServer[int, Any, Any]):
    """Begins with what its class says at the moment: a configuration, a constant."""

    start: ClassVar[Any] = 100

    def init(self, args: Any) -> Any:
        return self.start, StartTimer("t", 3600.0, "tick")

    def step(self, command: Any, state: int) -> Any:
        if command == "break":
            raise ValueError("a deliberate bug")
        state += 1 if command == "add" else 0
        return state, state


def application(kind: Any, args: Any = None, **options: Any) -> Application:
    return Application("a", Supervisor("one_for_one", [Worker("a", kind, args, **options)]))


def crash(node: Any, name: str = "a") -> None:
    with pytest.raises(Crashed):
        node.call(name, "break")


@pytest.mark.parametrize(
    ("kind", "journal"),
    [(Count, False), (Count, True), (Machine, True)],
    ids=["memory", "journal", "machine"],
)
def test_a_restart_begins_with_args_as_they_were_written(
    start: Callable[..., Any], tmp_path: Path, kind: Any, journal: bool
) -> None:
    args = {"n": 0}
    app = application(kind, args, journal=journal)
    for life in range(2):
        node = start(app, data=tmp_path / "data")
        for _ in range(3):
            node.call("a", "add")
        crash(node)
        kept = 3 * (life + 1) if journal else 0
        assert node.call("a", "get") == {"n": kept}
        node.stop()
    assert kind is Machine or args == {"n": 0}


class Alias(GenServer[dict[str, list[Any]], Any, Any]):
    """Has a list in two places."""

    def init(self, args: Any) -> Any:
        both: list[Any] = []
        return {"all": both, "recent": both}

    def step(self, command: Any, state: Any) -> Any:
        if command == "break":
            raise ValueError("a deliberate bug")
        state["all"].append(command)
        return state, len(state["recent"])


def test_an_object_that_is_in_two_places_is_one_after_a_crash_and_a_start(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    """It was two: a server did not repeat itself any more, and its node did not start."""
    app = application(Alias, journal=True)
    node = start(app, data=tmp_path / "data")
    assert [node.call("a", each) for each in (1, 2)] == [1, 2]
    crash(node)
    assert node.call("a", 3) == 3
    node.stop()
    assert start(app, data=tmp_path / "data").call("a", 4) == 4


class Plain:
    def __init__(self, *values: Any) -> None:
        self.values = values


@dataclass(frozen=True)
class Frozen:
    value: Any


ONE: list[Any] = [1]
KEYS: dict[str, int] = {"a": 1}
TIME = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("value", "is_shared"),
    [
        ([ONE, ONE], True),
        ({"a": KEYS, "b": KEYS}, True),
        ((ONE, {"x": (2, ONE)}), True),
        ([Plain(ONE), Frozen(ONE)], True),
        ([EMPTY := Plain(), EMPTY], True),
        ([[1], [1], "a", "a", (1, 2), (1, 2)], False),
        ([TIME, TIME, Frozen(1), Frozen(1)], False),
        ([SAME := Frozen((1, 2)), SAME, Plain, Plain], False),
        ({1: {"a": 1}, 2: {"a": 1}}, False),
    ],
)
def test_what_can_be_changed_in_two_places_is_found(value: Any, is_shared: bool) -> None:
    assert has_shared(value) is is_shared


def test_args_that_cannot_be_copied_are_told_of_once(
    start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    class Own(Count):
        pass

    tree = [Worker(name, Own, {"n": 0, "lock": threading.Lock()}) for name in "ab"]
    with caplog.at_level(logging.WARNING, "pybehave"):
        start(Application("a", Supervisor("one_for_one", tree))).call("a", "add")
    (said,) = [each.getMessage() for each in caplog.records if "cannot be copied" in each.msg]
    assert said.startswith("Own has no init, and its args cannot be copied (TypeError: ")


def test_members_and_managers_have_args_of_their_own(start: Callable[..., Any]) -> None:
    seen: list[Any] = []
    tree = Supervisor(
        "one_for_one",
        [
            family("u-*", Count, {"n": 0}),
            Worker("bus", GenEvent, [events.add_handler(Keep, seen)]),
        ],
    )
    node = start(Application("a", tree))
    assert node.call("u-1", "add") == "ok"
    assert node.call("u-2", "get") == {"n": 0}
    node.call("bus", events.sync_notify("event"))
    assert node.sys.get_state("bus")[0][1] == ["event"]
    assert seen == []


def test_args_that_cannot_be_copied_are_the_state_themselves(start: Callable[..., Any]) -> None:
    lock = threading.Lock()

    class Held(GenServer[Any, Any, Any]):
        def step(self, command: Any, state: Any) -> Any:
            return state, state is lock

    assert start(application(Held, lock)).call("a", "same")


@pytest.mark.parametrize("now", [0, 200, None])
def test_another_configuration_changes_no_history(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: Any
) -> None:
    app = application(Configured, journal=True)
    node = start(app, data=tmp_path / "data")
    assert [node.call("a", "add") for _ in range(2)] == [101, 102]
    monkeypatch.setattr(Configured, "start", now)
    crash(node)
    assert node.call("a", "add") == 103
    node.stop()
    node = start(app, data=tmp_path / "data")
    assert node.call("a", "get") == 103


def test_a_clean_restart_begins_with_what_init_returns_then(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = application(Configured, journal=True, recovery="clean")
    node = start(app, data=tmp_path / "data")
    assert node.call("a", "add") == 101
    monkeypatch.setattr(Configured, "start", 200)
    crash(node)
    assert node.call("a", "add") == 201
    node.stop()
    monkeypatch.setattr(Configured, "start", 300)
    assert start(app, data=tmp_path / "data").call("a", "get") == 201


def test_a_first_state_without_a_form_is_told_once(
    start: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Locked(GenServer[Any, Any, Any]):
        def init(self, args: Any) -> Any:
            return {"lock": threading.Lock(), "n": 0}

        def step(self, command: Any, state: Any) -> Any:
            state["n"] += 1
            return state, state["n"]

    logging.getLogger("pybehave").setLevel(logging.WARNING)
    tree = Supervisor("one_for_one", [Worker(name, Locked, journal=True) for name in ("a", "b")])
    app = Application("a", tree)
    node = start(app, data=tmp_path / "data")
    assert node.call("a", "up") == 1
    node.stop()
    assert start(app, data=tmp_path / "data").call("a", "up") == 2
    told = [record.getMessage() for record in caplog.records if "its first state" in record.message]
    assert len(told) == 1
    assert "server 'a': no snapshot will be able to keep its first state" in told[0]


def test_a_large_first_state_is_made_again() -> None:
    class Large(GenServer[list[int], Any, int]):
        def init(self, args: Any) -> list[int]:
            return [0] * 100_000

        def step(self, command: Any, state: list[int]) -> Any:
            state[0] += 1
            return state, state[0]

    disk = SimDisk(1)
    app = application(Large, journal=True)
    for life in range(3):
        with Simulator(1, app, disk=disk) as sim:
            assert sim.node.call("a", "up") == life + 1

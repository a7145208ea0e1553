"""The debug mode names what servers share by accident; and nothing else."""

from __future__ import annotations

import dataclasses
import decimal
import enum
import fractions
import functools
import logging
import uuid
from collections import deque
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from pybehave import (
    Application,
    GenEvent,
    GenServer,
    GenStatem,
    Pool,
    Supervisor,
    Worker,
    both,
    either,
    events,
)
from pybehave.actions import Cast, Run
from pybehave.runtime import isolation
from pybehave.runtime.isolation import SharedState, UndeclaredGlobal, can_change, walk
from pybehave.statem import KeepState
from tests.runtime.work import until

CACHE: dict[Any, Any] = {}
TABLE: dict[str, int] = {"read": 1}
COUNT = 0


class Mode(enum.Enum):
    """A state of its own, if a global holds it."""

    OFF = 0
    ON = 1


class Slots:
    """Can be changed, without a dictionary."""

    __slots__ = ("__hidden", "value")

    def __init__(self, value: Any, hidden: Any = None) -> None:
        self.value = value
        self.__hidden = hidden


MODE = Mode.OFF
SLOTS = Slots(0)
PLACE = Path("first")
LOG = logging.LoggerAdapter(logging.getLogger("x"), {})


@functools.cache
def doubled(number: int) -> int:
    return number * 2


@dataclasses.dataclass
class Account:
    """Can be changed."""

    owner: list[str]


@dataclasses.dataclass(frozen=True)
class Receipt:
    """Cannot."""

    amount: int


class Coin(msgspec.Struct, frozen=True):
    """Cannot."""

    value: Any


class Keeper(GenServer[dict[str, Any], Any, Any]):
    """Keeps what it gets, and passes it on."""

    seen: ClassVar[list[Any]] = []
    count: ClassVar[int] = 0
    steps: ClassVar[int] = 0

    def init(self, args: Any) -> dict[str, Any]:
        return {"kept": []}

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        match command:
            case ("pass", receiver, thing):
                state["kept"].append(thing)
                return state, None, Cast(receiver, ("keep", thing))
            case ("keep", thing):
                state["kept"].append(thing)
            case "class attribute":
                self.seen.append(1)
            case "class count":
                Keeper.count += 1
            case "own class's count":
                type(self).steps += 1
            case "static":
                self.clear()
            case other:
                return touch(other, state)
        return state, None

    @staticmethod
    def clear() -> None:
        SLOTS.value += 1


def touch(command: Any, state: Any) -> Any:
    global COUNT, MODE, PLACE
    if command == "cache":
        CACHE[len(CACHE)] = 1
    if command == "count":
        COUNT += 1
    if command == "mode":
        MODE = Mode.ON if MODE is Mode.OFF else Mode.OFF
    if command == "place":
        PLACE = PLACE / "next"
    if command == "nothing":
        LOG.debug("%s %s", doubled(len(PLACE.parts)), MODE)
    return state, TABLE["read"]


class Declared(Keeper):
    """The same, and says so."""

    shared: ClassVar[tuple[Any, ...]] = (
        CACHE, "COUNT", "seen", "count", "steps", "MODE", "PLACE", SLOTS
    )  # fmt: skip


class Own(GenServer[Any, Any, Any]):
    """Keeps things in its instance instead of its state."""

    def step(self, command: Any, state: Any) -> Any:
        self.kept = command
        return state, None


class Door(GenStatem):
    """A machine whose data is shared."""

    callback_mode = "handle_event_function"

    def init(self, args: Any) -> Any:
        return "open", []

    def handle_event(self, kind: Any, event: Any, state: Any, data: list[Any]) -> Any:
        data.append(event)
        return KeepState(data)


def watched(start: Any, *children: Any, **options: Any) -> tuple[Any, list[Any]]:
    """A node with these children, and the findings."""
    node = start(
        Application("t", Supervisor("one_for_one", children, intensity=100)),
        debug_isolation=True,
        **options,
    )
    found: list[Any] = []
    node.events.add(
        lambda e: found.append(e) if isinstance(e, SharedState | UndeclaredGlobal) else 0
    )
    return node, found


@pytest.mark.parametrize("journal", [False, True])
def test_an_object_in_two_states_is_reported_with_both_paths(
    start: Any, tmp_path: Path, journal: bool
) -> None:
    workers = [Worker(name, Keeper, journal=journal) for name in ("a", "b")]
    node, found = watched(start, *workers, data=tmp_path)
    node.call("a", ("pass", "b", [1, 2]))
    until(lambda: found)
    assert [(e.child, e.path, e.other, e.other_path, e.kind) for e in found] == [
        ("b", "state['kept'][0]", "a", "state['kept'][0]", "list")
    ]
    assert "send a copy" in str(found[0])
    node.call("a", "again")
    assert len(found) == 1, "told once"
    assert node.stats()["isolation"]["findings"] == 1


VALUES = (
    (1, "text", b"bytes"), frozenset({1}), Receipt(1), Coin(2), len, Keeper, None, Mode.ON,
    Path("/a/b"), decimal.Decimal(1), fractions.Fraction(1, 2), uuid.UUID(int=1),
    functools.partial(int, base=2), doubled, LOG, list[int], Any, ValueError("no"),
)  # fmt: skip


def test_what_cannot_be_changed_may_be_shared(start: Any) -> None:
    node, found = watched(start, Worker("a", Keeper), Worker("b", Keeper))
    for thing in VALUES:
        node.call("a", ("pass", "b", thing))
    until(lambda: len(node.get_state("b")["kept"]) == len(VALUES))
    assert [str(each) for each in found] == []


@pytest.mark.parametrize(
    ("thing", "path"),
    [
        (Account(["me"]), "state['kept'][0]"),
        ((1, [2]), "state['kept'][0][1]"),
        (Receipt([1]), "state['kept'][0].amount"),  # type: ignore[arg-type]
        (Coin([1]), "state['kept'][0].value"),
        ({"k": {3}}, "state['kept'][0]"),
        (deque([1]), "state['kept'][0]"),
        (bytearray(b"x"), "state['kept'][0]"),
        (Slots(1), "state['kept'][0]"),
        (Coin(Slots(1)), "state['kept'][0].value"),
        ((functools.partial(len, [1]),), "state['kept'][0][0].args[0]"),
        (ValueError("no", [1]), "state['kept'][0].args[1]"),
    ],
)
def test_the_way_to_what_is_shared_is_told(thing: Any, path: str, start: Any) -> None:
    node, found = watched(start, Worker("a", Keeper), Worker("b", Keeper))
    node.call("a", ("pass", "b", thing))
    until(lambda: found)
    assert found[0].path == path


def test_attributes_of_the_instance_are_looked_at(start: Any) -> None:
    node, found = watched(start, Worker("a", Own), Worker("b", Own))
    thing: list[int] = []
    node.call("a", thing)
    node.call("b", thing)
    assert [(e.path, e.other_path) for e in found] == [("self['kept']", "self['kept']")]


def test_arguments_that_two_workers_keep_are_found_at_the_start(start: Any) -> None:
    class Given(GenServer[Any, Any, Any]):
        def init(self, args: Any) -> Any:
            return args

        def step(self, command: Any, state: Any) -> Any:
            return state, None

    args: dict[str, int] = {}
    node, _ = watched(start, Worker("a", Given, args), Worker("b", Given, args))
    assert node.stats()["isolation"]["findings"] == 1


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("cache", "CACHE"),
        ("count", "COUNT"),
        ("mode", "MODE"),
        ("place", "PLACE"),
        ("static", "SLOTS"),
        ("class attribute", "Keeper.seen"),
        ("class count", "Keeper.count"),
        ("own class's count", "Keeper.steps"),
    ],
)
def test_a_global_that_a_step_changes_is_reported(start: Any, command: str, name: str) -> None:
    node, found = watched(start, Worker("a", Keeper))
    node.call("a", "nothing")
    assert found == []
    node.call("a", command)
    node.call("a", command)
    assert [type(e) for e in found] == [UndeclaredGlobal]
    assert found[0].name.endswith(f"test_isolation.{name}")


COMMANDS = (
    "cache", "count", "mode", "place", "static", "class attribute", "class count",
    "own class's count",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_global_that_is_declared_is_not_reported(start: Any, command: str) -> None:
    node, found = watched(start, Worker("a", Declared))
    node.call("a", command)
    assert found == []


@pytest.mark.parametrize("combine", [both, either])
def test_globals_of_sides_are_looked_at_and_declared_by_them(start: Any, combine: Any) -> None:
    workers = [
        Worker(name, combine(kind, Own), (None, None))
        for name, kind in (("tells", Keeper), ("declares", Declared))
    ]
    node, found = watched(start, *workers)
    for name in ("tells", "declares"):
        node.call(name, ("cache", 1) if combine is both else (0, "cache"))
    assert [(e.child, e.name.rpartition(".")[2]) for e in found] == [("tells", "CACHE")]


def test_a_server_that_has_ended_shares_nothing(start: Any) -> None:
    node, found = watched(start, Worker("a", Keeper), Worker("b", Keeper))
    thing: list[int] = []
    node.call("a", ("keep", thing))
    node.terminate_child("root", "a")
    node.call("b", ("keep", thing))
    assert found == []


def test_machines_managers_and_pools_run_in_this_mode(start: Any) -> None:
    node, found = watched(
        start,
        Worker("door", Door),
        Worker("bus", GenEvent),
        Pool("p"),
        Worker("a", Keeper),
    )
    thing: list[int] = []
    node.cast("door", thing)
    node.call("a", ("keep", thing))
    assert [e.child for e in found] == ["a"]
    assert node.call("bus", events.which_handlers()) == []
    assert node.call("p", "stats")["taken"] == 0
    assert Run(len, "").args == ("",)


def test_a_large_state_is_looked_at_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "OBJECTS_MAX", 100)
    found, is_whole = walk([("state", [[each] for each in range(60)])], set())
    assert not is_whole
    assert 1 < len(found) <= 100
    assert walk([("state", [[each] for each in range(40)])], set())[1]


def test_cycles_end() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert len(walk([("state", loop)], set())[0]) == 1


def test_loggers_and_classes_are_no_state() -> None:
    found, _ = walk([("state", [logging.getLogger("x"), Keeper, len, isolation])], set())
    assert len(found) == 1


@pytest.mark.parametrize("thing", [1, "x", b"x", None, (1,), frozenset(), 1.5, Coin(1), Receipt(1)])
def test_values_cannot_be_changed(thing: Any) -> None:
    assert not can_change(thing)


def test_without_the_mode_classes_are_as_they_were(start: Any) -> None:
    node = start(Application("t", Supervisor("one_for_one", [Worker("a", Keeper)])))
    server = node.loop.dispatcher.whereis("a")
    assert type(server.instance) is Keeper
    assert "isolation" not in node.stats()

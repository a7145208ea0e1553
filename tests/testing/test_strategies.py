"""What is drawn of a class is what its server takes; drawn trees and scripts are allowed."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, TypedDict

import msgspec
import pytest
from hypothesis import find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.errors import SpecError
from pybehave.testing import Trial, fold
from pybehave.testing.simulate import Simulator
from pybehave.testing.strategies import child_specs, commands, inputs, scripts, trees


class Deposit(msgspec.Struct, frozen=True):
    amount: Annotated[int, msgspec.Meta(ge=1, lt=100, multiple_of=5)]


class Withdraw(msgspec.Struct, frozen=True):
    amount: Annotated[float, msgspec.Meta(gt=0, le=10)]
    note: Annotated[str, msgspec.Meta(max_length=3)] = ""


class Account(GenServer[float, Deposit | Withdraw, float]):
    def init(self, args: Any) -> float:
        return 0

    def step(self, command: Deposit | Withdraw, state: float) -> Any:
        sign = 1 if isinstance(command, Deposit) else -1
        return state + sign * command.amount, state


class ByCall(GenServer[Any, Any, Any]):
    def handle_call(self, request: tuple[Literal["put"], bytes], caller: Any, state: Any) -> Any:
        return state, request


class ByBase(GenServer[int, list[bytes], None]):
    def step(self, command: Any, state: int) -> Any:
        return state, None


class Below(ByBase):
    pass


class Says(GenServer[Any, Any, Any]):
    def step(self, command: Any, state: Any) -> Any:
        return state, None


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Node:
    value: int
    below: list[Node]


class Pair(NamedTuple):
    left: int
    right: str | None


class Options(TypedDict, total=False):
    depth: int


@given(st.lists(inputs(Account)))
def test_all_that_is_drawn_is_taken(drawn: list[Any]) -> None:
    assert len(fold(Account, drawn).outputs) == len(drawn)


@given(inputs(Account))
def test_constraints_of_the_edge_are_kept(drawn: Any) -> None:
    assert msgspec.convert(msgspec.to_builtins(drawn), type(drawn)) == drawn


def test_all_kinds_of_inputs_are_drawn() -> None:
    for kind in (Deposit, Withdraw):
        assert isinstance(find(inputs(Account), lambda one, kind=kind: isinstance(one, kind)), kind)


@given(inputs(ByCall), inputs(ByBase), inputs(Below))
def test_what_is_taken_is_read_from_callbacks_and_bases(call: Any, base: Any, below: Any) -> None:
    assert call[0] == "put"
    assert isinstance(call[1], bytes)
    assert all(isinstance(part, bytes) for part in [*base, *below])


def test_a_class_that_does_not_say_what_it_takes_is_refused() -> None:
    with pytest.raises(SpecError, match="does not say what it takes"):
        inputs(Says)


def test_an_annotation_that_cannot_be_read_is_refused() -> None:
    class Hidden(msgspec.Struct):
        x: int

    class Server(GenServer[Any, Any, Any]):
        def step(self, command: Hidden, state: Any) -> Any:
            return state, None

    with pytest.raises(SpecError, match="'Hidden' is not defined; move the type"):
        inputs(Server)


@pytest.mark.parametrize(
    "kind",
    [
        int,
        bool,
        float,
        str,
        bytes,
        bytearray,
        None,
        Colour,
        Node,
        Pair,
        Options,
        Literal["a", 3],
        tuple[int, ...],
        list[Pair],
        set[int],
        frozenset[str],
        dict[str, Colour | None],
        Annotated[str, msgspec.Meta(pattern="^[ab]+$", min_length=2, max_length=5)],
        Annotated[list[int], msgspec.Meta(min_length=2, max_length=3)],
    ],
    ids=str,
)
def test_what_is_drawn_of_a_type_is_what_a_decoder_lets_through(kind: Any) -> None:
    @settings(max_examples=30)
    @given(inputs(kind))
    def check(drawn: Any) -> None:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(drawn), type=kind) == drawn

    check()


def test_a_type_of_which_nothing_is_known_is_refused() -> None:
    with pytest.raises(SpecError, match="nothing can be drawn of the type"):
        inputs(msgspec.Raw)


@given(commands({b"SET": (st.binary(), st.integers()), b"GET": (st.text(),)}))
def test_commands_are_lists_of_bytes(command: Any) -> None:
    assert command[0] in (b"SET", b"GET")
    assert all(isinstance(part, bytes) for part in command)


# --- trees ----------------------------------------------------------------------------------------


@given(child_specs([Account, Says], "one", restart="transient"))
def test_workers_are_drawn_as_asked_for(worker: Worker[Any, Any]) -> None:
    assert (worker.name, worker.restart) == ("one", "transient")
    assert worker.server in (Account, Says)


@settings(max_examples=25)
@given(trees(Account), st.integers(0, 1 << 16))
def test_every_tree_starts_and_stops(tree: Supervisor, seed: int) -> None:
    with Simulator(seed, Application("drawn", tree)) as world:
        world.run(0.01)
        names = world.node.names()
        assert set(names) == {f"w{n}" for n in range(1, len(names) + 1)}
    assert world.stop() == 0


def test_trees_are_as_deep_as_asked_for() -> None:
    assert find(trees(Account, depth_max=2), lambda tree: tree.depth == 2).depth == 2
    with pytest.raises(NoSuchExample):
        find(trees(Account, depth_max=2), lambda tree: tree.depth > 2)


# --- scripts --------------------------------------------------------------------------------------

ASKS = st.tuples(st.just("account"), inputs(Account))


def account() -> Application:
    worker = Worker("account", Saved, journal=True)
    return Application("account", Supervisor("one_for_one", [worker], intensity=100))


class Saved(Account):
    types = (Deposit, Withdraw)


@settings(max_examples=25)
@given(scripts(ASKS), st.integers(0, 1000))
def test_scripts_that_are_drawn_are_played(script: Any, seed: int) -> None:
    trial = Trial(account, lambda dice: ("account", Deposit(5)))
    played = trial.play(seed, script)
    assert played.failure is None
    assert played.script == tuple(script)

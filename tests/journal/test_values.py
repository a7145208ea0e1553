"""What a journal cannot hold: a clear error for whoever asks, nothing written, nobody restarted."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave._uring.values import Values
from pybehave.actions import Call, CallFailed, Cast
from pybehave.errors import NotJournalable, RecordTooLarge
from pybehave.protocols import Http, Status
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial

LEVELS_MAX = 64


class Deposit(msgspec.Struct):
    amount: int


@dataclasses.dataclass
class Note:
    text: str


class Color(enum.Enum):
    RED = "red"


class Unknown:
    pass


class Raising:
    def __repr__(self) -> str:
        raise RuntimeError("a deliberate bug")


def nested(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = wrap(value)
    return value


def looped(wrap: Callable[[list[Any]], Any]) -> Any:
    found: list[Any] = []
    found.append(wrap(found))
    return found


def doubled(levels: int) -> Any:
    """Small in memory, and two to the power of its levels written down."""
    value: Any = b"x" * 1000
    for _ in range(levels):
        value = [value, value]
    return value


WRAPS: dict[str, Callable[[Any], Any]] = {
    "lists": lambda value: [value],
    "tuples": lambda value: (value,),
    "dicts": lambda value: {"k": value},
    "frozensets": lambda value: frozenset([value]),
}

REFUSED: dict[str, Callable[[], Any]] = {
    **{
        f"{name} of 65 levels": lambda wrap=wrap: nested(LEVELS_MAX + 1, wrap)
        for name, wrap in WRAPS.items()
    },
    "a list in itself": lambda: looped(lambda found: found),
    "a dict in itself": lambda: looped(lambda found: {"k": found}),
    "a str with a surrogate": lambda: "\ud800",
    "a key with a surrogate": lambda: {"\ud800": 1},
    "an unknown class": Unknown,
    "one that cannot be shown": Raising,
    "a generator": lambda: (each for each in ()),
    "a function": lambda: len,
    "a class": lambda: Unknown,
    "a bytearray": lambda: bytearray(b"x"),
    "a complex number": lambda: 1j,
    "an int's subclass": lambda: type("Number", (int,), {})(1),
    "an undeclared Struct": msgspec.defstruct("Other", []),
    "a Struct that holds something else": lambda: Deposit("five"),  # type: ignore[arg-type]
    "a Struct with a surrogate": lambda: Note("\ud800"),
    "a dataclass that holds something else": lambda: Note(5),  # type: ignore[arg-type]
    "a Struct with too large a number": lambda: Deposit(1 << 70),
    "a Struct with an object": lambda: Deposit(Unknown()),  # type: ignore[arg-type]
}

KEPT: dict[str, Callable[[], Any]] = {
    **{
        f"{name} of 63 levels, in a list": lambda wrap=wrap: nested(LEVELS_MAX - 1, wrap)
        for name, wrap in WRAPS.items()
    },
    "an int of 64 bits": lambda: (1 << 64) - 1,
    "an int of 65 bits": lambda: 1 << 64,
    "a negative int of 64 bits": lambda: -(1 << 63) - 1,
    "an int of 4000 bits": lambda: -(1 << 4000),
    "infinity": lambda: float("-inf"),
    "declared": lambda: [Deposit(5), Note("x"), Color.RED],
    "sets of sets": lambda: nested(40, lambda value: frozenset([value, 1])),
}


class Box(GenServer[list[Any], Any, int]):
    """Keeps whatever it is given."""

    types = (Deposit, Note, Color)

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        state.append(command)
        return state, len(state)

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return [*state, message], None


def app(**options: Any) -> Application:
    worker = Worker("box", Box, journal=True)
    return Application("t", Supervisor("one_for_one", [worker]), **options)


@pytest.mark.parametrize("what", REFUSED)
def test_what_has_no_form_is_refused_and_nothing_is_written(what: str) -> None:
    disk = SimDisk(1)
    with Simulator(1, app(), disk=disk) as world:
        node = world.node
        before = node.journal.commit.next_lsn
        with pytest.raises(NotJournalable, match="The input cannot be journaled: "):
            node.call("box", REFUSED[what]())
        node.cast("box", REFUSED[what]())
        world.run(0.1)
        assert node.journal.commit.next_lsn == before
        assert node.stats()["loop"]["casts_lost"] == 1
        assert (node.call("box", "next"), node.whereis("box")) == (1, 1)
    with Simulator(1, app(), disk=disk) as world:
        assert world.node.get_state("box") == ["next"]


@pytest.mark.parametrize("what", KEPT)
def test_what_is_taken_is_there_at_the_next_start(what: str) -> None:
    disk = SimDisk(1)
    with Simulator(1, app(), disk=disk) as world:
        assert world.node.call("box", KEPT[what]()) == 1
    for _ in range(2):
        with Simulator(1, app(), disk=disk) as world:
            assert world.node.get_state("box") == [KEPT[what]()]
            assert world.node.journal.snapshots.take()
            world.run(1.0)


def test_no_number_is_taken_and_comes_back() -> None:
    disk = SimDisk(1)
    with Simulator(1, app(), disk=disk) as world:
        world.node.call("box", float("nan"))
    with Simulator(1, app(), disk=disk) as world:
        [found] = world.node.get_state("box")
        assert found != found


@pytest.mark.parametrize("large", [lambda: b"x" * (1 << 26), lambda: doubled(50)])
def test_what_is_larger_than_a_frame_is_refused(large: Callable[[], Any]) -> None:
    """Also when it is only large written down: then not before memory is full."""
    with Simulator(1, app(), disk=SimDisk(1)) as world:
        before = world.node.journal.commit.next_lsn
        with pytest.raises(RecordTooLarge):
            world.node.call("box", large())
        assert world.node.journal.commit.next_lsn == before
        assert (world.node.call("box", "next"), world.node.whereis("box")) == (1, 1)


class Asker(GenServer[list[Any], Any, None]):
    """Asks a server that keeps nothing, whose answers have no form."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        return state, None, [Call("odd", "x", tag="t"), Cast("odd", "x")]

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        assert isinstance(message, CallFailed)
        return [*state, type(message.error).__name__], None


class Odd(GenServer[None, Any, Any]):
    def step(self, command: Any, state: None) -> Any:
        return state, Unknown()


def test_an_answer_without_a_form_is_a_failed_call() -> None:
    workers = [Worker("asker", Asker, journal=True), Worker("odd", Odd)]
    tree = Supervisor("one_for_one", workers)
    disk = SimDisk(1)
    for incarnation in (1, 2):
        with Simulator(1, Application("t", tree), disk=disk) as world:
            if not world.node.get_state("asker"):
                world.node.call("asker", "ask")
            world.run(1.0)
            assert world.node.get_state("asker") == ["NotJournalable"]
            assert world.node.whereis("asker") == incarnation


def test_an_info_without_a_form_is_lost_and_counted() -> None:
    with Simulator(1, app(), disk=SimDisk(1)) as world:
        world.node.info("box", Unknown())
        world.run(0.1)
        assert world.node.stats()["loop"]["casts_lost"] == 1
        assert (world.node.get_state("box"), world.node.whereis("box")) == ([], 1)


def test_json_too_deep_is_the_client_s_mistake(start: Callable[..., Any], tmp_path: Path) -> None:
    node = start(
        app(listeners=[Listener("tcp://127.0.0.1:0", Http(body="json"), to="box")]),
        data=tmp_path / "data",
    )
    lsn = node.journal.commit.next_lsn
    deep = json.dumps(nested(LEVELS_MAX + 1, WRAPS["lists"])).encode()
    with dial(node) as client:
        for body, status in ((deep, b"422"), (b"1", b"200")):
            client.sendall(
                b"POST /box HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            answer = client.recv(4096)
            assert answer.split(b" ")[1] == status, answer
            if status == b"422":
                assert b"nested deeper than 64 levels" in answer
                assert node.journal.commit.next_lsn == lsn
    assert (node.get_state("box"), node.whereis("box")) == ([1], 1)


def test_a_sequence_of_any_depth_is_read_as_it_was_put() -> None:
    values = Values()
    for wrap in WRAPS.values():
        for levels in range(LEVELS_MAX + 1):
            value = nested(levels, wrap)
            assert values.decode(values.encode(value)) == value


def test_bytes_of_extensions_in_extensions_are_malformed() -> None:
    data = b"\xc0"
    for _ in range(20_000):
        size = len(data)
        data = b"\xc9" + size.to_bytes(4, "big") + b"\x01" + data
    with pytest.raises(ValueError, match="holds no array"):
        Values().decode(data)


class Shrinking(Exception):
    """Empties the list that it stands in when its text is asked for."""

    def __init__(self, holder: list[Any]) -> None:
        self.holder = holder

    def __str__(self) -> str:
        self.holder.clear()
        return ""


@pytest.mark.parametrize("wrap", [lambda found: found, lambda found: (found,)])
def test_a_list_that_changes_while_it_is_encoded_is_refused(wrap: Callable[[Any], Any]) -> None:
    """What lay behind its end was read."""
    values = Values()
    for behind in (b"x", 1):
        holder: list[Any] = []
        holder += [Shrinking(holder), *[behind] * 1000]
        with pytest.raises(NotJournalable, match="changes while it is encoded"):
            values.encode(wrap(holder))
        assert values.decode(values.encode([1])) == [1]


class Letting(Exception):
    """Lets go of the list that it stands in when its text is asked for."""

    def __init__(self, holder: list[Any]) -> None:
        self.holder = holder

    def __str__(self) -> str:
        self.holder[0] = None
        return ""


def test_what_is_encoded_stays_though_its_list_lets_it_go() -> None:
    """It was encoded where it had been. PYTHONMALLOC=debug shows each such use by its end."""
    script = """from tests.journal.test_values import Letting, Values
outer = [None, b"behind"]
outer[0] = [b"i" * 50, Letting(outer), b"def", b"k"]
values = Values()
inner, behind = values.decode(values.encode(outer))
assert (inner[0], inner[2:], behind) == (b"i" * 50, [b"def", b"k"], b"behind")
"""
    result = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONMALLOC": "debug"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


@given(st.lists(st.sampled_from(["OK", Status("OK"), "no", "n" * 70, b"OK", "\ud800", 1, None])))
def test_an_outcome_does_not_depend_on_those_before_it(outputs: list[Any]) -> None:
    values = Values()
    assert [values.outcome_of(each) for each in outputs] == [
        Values().outcome_of(each) for each in outputs
    ]


def test_an_output_that_was_long_is_not_kept() -> None:
    values, outputs = Values(), ["x" * size for size in (61, 62, 63, 1000, 100_000)]
    before = [sys.getrefcount(each) for each in outputs]
    assert len({values.outcome_of(each) for each in outputs}) == len(outputs)
    after = [sys.getrefcount(each) for each in outputs]
    assert [now - then for now, then in zip(after, before, strict=True)] == [0, 1, 0, 0, 0]


class Asking(str):
    """Asks for another one's outcome when it ends."""

    __slots__ = ()
    values = Values()

    def __del__(self) -> None:
        self.values.outcome_of("inner")


def test_an_output_that_ends_may_ask_for_an_outcome() -> None:
    asked = Asking("first"), "second"
    assert Asking.values.outcome_of(asked[0]) == Values().outcome_of("first")
    second = asked[1]
    del asked
    for _ in range(2):
        assert Asking.values.outcome_of(second) == Values().outcome_of("second")
    assert Asking.values.outcome_of("inner") == Values().outcome_of("inner")


class Carrying(str):
    """Has attributes."""


def test_what_an_output_carries_is_not_kept() -> None:
    values, output = Values(), Carrying("x")
    before = sys.getrefcount(output)
    values.outcome_of(output)
    assert sys.getrefcount(output) == before

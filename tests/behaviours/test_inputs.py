"""What a class declares of its inputs, and what follows from it, without a loop."""

import collections.abc
import types
import typing
from typing import Any, Optional

import pytest

from pybehave import GenEvent, GenServer, GenStatem, Tagged
from pybehave.behaviours.inputs import classes_of, refusal
from pybehave.errors import BadReturn, EphemeralTrace, InputTypeMismatch, Rejected, SpecError
from pybehave.testing import fold, run


class Adder(GenServer[int, int, int]):
    accepts = int

    def init(self, args: Any) -> int:
        return 0

    def validate(self, command: int, state: int) -> object:
        if command < 0:
            return ValueError("it is negative")
        return "too much" if state + command > 100 else None

    def step(self, command: int, state: int) -> tuple[int, int]:
        return state + command, state + command


@pytest.mark.parametrize(
    ("declared", "classes"),
    [
        (int, (int,)),
        (int | str, (int, str)),
        ((int, (str, int)), (int, str)),
        (Optional[int], (int, types.NoneType)),  # noqa: UP045 -- the old way is one, too
        (typing.Union[int, str], (int, str)),  # noqa: UP007
        (None, (types.NoneType,)),
        ((), ()),
        (collections.abc.Mapping, (collections.abc.Mapping,)),
    ],
)
def test_declarations_are_taken_apart(declared: Any, classes: tuple[type, ...]) -> None:
    assert classes_of(declared) == classes


@pytest.mark.parametrize("declared", [list[bytes], 5, "int", Any, (int, list[int]), [int]])
def test_what_cannot_be_asked_with_is_refused_where_it_is_written(declared: Any) -> None:
    with pytest.raises(SpecError, match=r"Wrong: accepts=.* is not allowed; use classes"):
        type("Wrong", (GenServer,), {"accepts": declared})


def test_who_accepts_everything_has_no_gate() -> None:
    assert GenServer._gate() == (None, None)
    assert GenStatem._gate() == (None, None)
    everything: Any = type("All", (GenServer,), {"accepts": int | object})
    assert everything._gate() == (None, None)


def test_a_derived_class_takes_over_what_it_does_not_declare() -> None:
    derived: Any = type("Derived", (Adder,), {"accepts": (int, float)})
    assert derived._gate() == ((int, float), Adder._validate)
    more: Any = type("More", (derived,), {})
    assert more._gate() == derived._gate()


def test_a_run_refuses_as_a_node_does() -> None:
    with pytest.raises(InputTypeMismatch) as wrong:
        run(Adder, [1, "two"])
    assert (wrong.value.server, wrong.value.got, wrong.value.accepts) == ("Adder", "str", ("int",))
    with pytest.raises(Rejected) as rejected:
        run(Adder, [60, 50])
    assert rejected.value.reason == "too much"
    assert fold(Adder, [60, 40]).state == 100


def test_an_exception_is_the_cause_of_the_rejection() -> None:
    error = refusal("a", Adder(), -1, 0)
    assert isinstance(error, Rejected)
    assert isinstance(error.__cause__, ValueError)
    assert str(error) == (
        "Server 'a' has rejected the input: ValueError: it is negative; nothing was changed"
    )


def test_yes_and_no_are_no_answers() -> None:
    kind = type("Bad", (GenServer,), {"validate": lambda *_: True})
    with pytest.raises(BadReturn, match="validate returned True; return None for an input"):
        refusal("b", kind(), 1, None)


@pytest.mark.parametrize("words", [{"accepts": int}, {"validate": lambda *_: None}])
def test_an_event_manager_has_no_say(words: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="leave accepts, ephemeral and validate away"):
        type("Bus", (GenEvent,), words)


class Asked(GenServer[list[Any], Any, Any]):
    accepts = (int, Tagged("add", "clear"))
    ephemeral = Tagged("size", 7)

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        match command:
            case ("add", word):
                return [*state, word], "added"
            case ("size",) | [7]:
                return state, len(state)
            case ("size", "and", "more"):
                return [*state, "more"], len(state)
        return state, command


@pytest.mark.parametrize(
    ("message", "is_one"),
    [
        (["size"], True),
        (("size", 1, 2), True),
        ([7], True),
        ([7.0], True),  # as in a set
        (["sizes"], False),
        ([["size"]], False),
        ([], False),
        ((), False),
        ("size", False),
        ({"size": 1}, False),
        (None, False),
    ],
)
def test_a_tag_is_the_first_item(message: Any, is_one: bool) -> None:
    tagged: Any = Asked.ephemeral
    assert isinstance(message, tagged) is is_one


def test_tags_stand_where_classes_do() -> None:
    assert fold(Asked, [("add", "x"), ("size",), [7], 5]).outputs == ("added", 1, 1, 5)
    error = refusal("a", Asked(), ("drop",), [])
    assert isinstance(error, InputTypeMismatch)
    assert error.accepts == ("int", "Tagged('add', 'clear')", "Tagged('size', 7)")
    with pytest.raises(EphemeralTrace, match="has tuple beginning with 'size' among its ephemeral"):
        fold(Asked, [("size", "and", "more")])


def test_tags_are_equal_by_what_they_hold() -> None:
    assert Tagged("a", "b") == Tagged("b", "a", "b") != Tagged("a")
    assert len({Tagged("a"), Tagged("a")}) == 1
    assert Tagged("a") != "a"
    assert classes_of((Tagged("a"), (Tagged("a"), int))) == (Tagged("a"), int)


@pytest.mark.parametrize("tags", [(), (["a"],), ({},)])
def test_what_can_be_no_tag_is_refused(tags: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        Tagged(*tags)

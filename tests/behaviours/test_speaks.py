"""Versions of what clients say: the chain of bridges, both ways, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybehave import Bridge, Once, Speaks, Together
from pybehave.behaviours.speaks import VERSION_MAX, Edge
from pybehave.errors import DecodeError, EncodeError, SpecError

Values = tuple[str, ...]


def step(number: int, *, is_invertible: bool = False) -> Bridge[Values, Values, Values, Values]:
    """Each function says on what it was called that it was."""
    return Bridge(
        up_input=lambda value: (*value, f"{number}>{number + 1}"),
        down_output=lambda value: (*value, f"{number + 1}>{number}"),
        down_input=(lambda value: (*value, f"{number + 1}>{number}")) if is_invertible else None,
        up_output=(lambda value: (*value, f"{number}>{number + 1}")) if is_invertible else None,
    )


def speaks(version: int, oldest: int = 1, **more: Any) -> Speaks:
    return Speaks(version, {each: step(each) for each in range(oldest, version)}, **more)


@given(st.integers(1, 6), st.integers(1, 6))
def test_inputs_go_up_and_outputs_down_by_each_step_once(one: int, other: int) -> None:
    old, new = sorted((one, other))
    edge = Edge(speaks(new))
    assert edge.up(old, ()) == tuple(f"{each}>{each + 1}" for each in range(old, new))
    assert edge.down(old, ()) == tuple(f"{each + 1}>{each}" for each in reversed(range(old, new)))


@given(st.integers(1, 6), st.integers(1, 6))
def test_a_release_that_was_taken_back_understands_newer_clients(one: int, other: int) -> None:
    old, new = sorted((one, other))
    bridges = {each: step(each, is_invertible=True) for each in range(1, new)}
    edge = Edge(speaks(old), before=Edge(Speaks(new, bridges)))
    assert edge.understands(new)
    assert edge.up(new, ()) == tuple(f"{each + 1}>{each}" for each in reversed(range(old, new)))
    assert edge.down(new, ()) == tuple(f"{each}>{each + 1}" for each in range(old, new))


def test_without_inverse_functions_they_are_not_understood() -> None:
    edge = Edge(speaks(1), before=Edge(speaks(2)))
    assert (edge.understands(1), edge.understands(2)) == (True, False)
    with pytest.raises(DecodeError, match="does not lead back from version 2"):
        edge.up(2, ())
    with pytest.raises(EncodeError, match="does not lead back from version 2"):
        edge.down(2, ())


def test_what_was_known_of_newer_versions_outlives_another_upgrade() -> None:
    two = Speaks(2, {1: step(1, is_invertible=True)})
    there = Edge(two, Edge(Speaks(1), Edge(two)))
    assert Edge(Speaks(1), there).understands(2)


def test_the_commands_of_a_together_are_converted_each() -> None:
    edge = Edge(speaks(2))
    assert edge.up(1, Together([(), ("a",)])) == Together([("1>2",), ("a", "1>2")])
    assert edge.down_all(1, [(), ("b",)]) == [("2>1",), ("b", "2>1")]


def test_a_bridge_that_raises_is_the_clients_mistake_on_the_way_in() -> None:
    edge = Edge(Speaks(2, {1: Bridge(int, str)}))
    with pytest.raises(DecodeError, match="an input of version 1 does not become one of version 2"):
        edge.up(1, "x")
    assert edge.up(1, "7") == 7
    edge = Edge(Speaks(2, {1: Bridge(int, int)}))
    with pytest.raises(EncodeError, match="does not become one of version 1: ValueError"):
        edge.down(1, "x")


@pytest.mark.parametrize(
    ("said", "found"),
    [(None, 0), (1, 1), (3, 3)],
)
def test_a_declaration(said: Any, found: int) -> None:
    assert Edge(speaks(3, declares=lambda _: said)).declared("x") == found


@pytest.mark.parametrize("said", [0, 4, "2", True, 2.0, -1])
def test_a_declaration_of_what_is_not_spoken(said: Any) -> None:
    with pytest.raises(DecodeError, match="is not spoken here; 2 to 3 are"):
        Edge(speaks(3, oldest=2, declares=lambda _: said)).declared("x")


def test_a_declaration_that_raises() -> None:
    with pytest.raises(DecodeError, match="ZeroDivisionError"):
        Edge(speaks(3, declares=lambda _: 1 // 0)).declared("x")


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, BaseException])
def test_whatever_users_code_raises_ends_one_input(kind: type[BaseException]) -> None:
    """In a step it is a crash; here it would be the end of the loop, but for Ctrl-C."""

    def fail(value: Any) -> Any:
        raise kind("as it was told to")

    edge = Edge(Speaks(2, {1: Bridge(fail, fail)}, declares=fail))
    with pytest.raises(DecodeError, match="as it was told to"):
        edge.declared("x")
    with pytest.raises(DecodeError, match="as it was told to"):
        edge.up(1, "x")
    with pytest.raises(EncodeError, match="as it was told to"):
        edge.down(1, "x")


def test_ctrl_c_is_nobodys_mistake() -> None:
    def interrupted(value: Any) -> Any:
        raise KeyboardInterrupt

    edge = Edge(Speaks(2, {1: Bridge(interrupted, interrupted)}, declares=interrupted))
    for function in (edge.declared, lambda x: edge.up(1, x), lambda x: edge.down(1, x)):
        with pytest.raises(KeyboardInterrupt):
            function("x")


def test_a_command_declares_also_with_a_name_and_among_others() -> None:
    edge = Edge(speaks(3, declares=lambda said: said or None))
    assert edge.declared(Once("client", 1, 2)) == 2
    assert edge.declared(Together([0, 2, 0])) == 2
    assert edge.declared(Once("client", 1, Together([0, 3]))) == 3
    assert edge.declared(Together([0])) == 0
    with pytest.raises(DecodeError, match=r"one input declares the versions \[1, 2\]"):
        edge.declared(Together([1, 2]))


def test_who_says_nothing_is_greeted_as_assumed() -> None:
    assert [Edge(speaks(3)).greeting, Edge(speaks(3, assumed=1)).greeting, Edge().greeting] == [
        3,
        1,
        1,
    ]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"version": 0}, "version=0 is not allowed"),
        ({"version": VERSION_MAX + 1}, "is not allowed; use an integer from 1 to 65535"),
        ({"version": True}, "version=True is not allowed"),
        ({"version": "2"}, "version='2' is not allowed"),
        ({"version": 3, "bridges": {1: step(1)}}, "there is none from version 2 to version 3"),
        ({"version": 2, "bridges": {2: step(2)}}, "bridges=2 is not allowed"),
        ({"version": 2, "bridges": {"1": step(1)}}, "bridges='1' is not allowed"),
        ({"version": 2, "bridges": [step(1)]}, "a dict of Bridge by the older version"),
        ({"version": 2, "bridges": {1: str}}, "is not allowed; use a Bridge"),
        ({"version": 2, "assumed": 1}, "assumed=1 is not allowed"),
        ({"version": 2, "declares": 1}, "declares=1 is not allowed"),
    ],
)
def test_what_cannot_be_is_one_sentence(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecError) as caught:
        Speaks(**fields)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("fields", [{"up_input": 1}, {"down_output": None}, {"down_input": int}])
def test_a_bridge_has_functions(fields: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        Bridge(**{"up_input": int, "down_output": int} | fields)

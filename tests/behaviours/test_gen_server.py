"""What a server's callbacks may return, and what their defaults do (otp.md section 2)."""

from typing import Any, NamedTuple

import pytest

from pybehave.actions import NO_REPLY, Cast, Continue, Ignore, Stop
from pybehave.behaviours.gen_server import (
    GenServer,
    Initial,
    Turn,
    interpret,
    interpret_init,
    overrides,
)
from pybehave.errors import BadReturn, Stopped
from pybehave.types import IGNORED

CAST = Cast("other", 1)
GO = Continue("go")


class Point(NamedTuple):
    x: int
    y: int


class Adder(GenServer[int, int, int]):
    def step(self, command: int, state: int) -> tuple[int, int]:
        return state + command, state


class Quiet(GenServer[None, Any, Any]):
    def handle_info(self, message: Any, state: None) -> Any:
        return state, None


class Plain:
    def step(self, command: Any, state: Any) -> Any:
        return state, None


@pytest.mark.parametrize(
    ("value", "turn"),
    [
        ((1, 2), Turn(1, 2, ())),
        ((1, NO_REPLY), Turn(1, NO_REPLY, ())),
        ((1, 2, CAST), Turn(1, 2, (CAST,))),
        ((1, 2, [CAST, GO]), Turn(1, 2, (CAST, GO))),
        ((1, 2, (CAST,)), Turn(1, 2, (CAST,))),
        ((1, 2, []), Turn(1, 2, ())),
        ((1, 2, None), Turn(1, 2, ())),
        (((1, 2), (3, 4)), Turn((1, 2), (3, 4), ())),
    ],
)
def test_S2_a_step_returns_state_output_and_perhaps_actions(value: Any, turn: Turn) -> None:
    assert interpret("kv", "step", value) == turn


@pytest.mark.parametrize(
    "value",
    [None, 1, "ab", [1, 2], (), (1,), (1, 2, 3), (1, 2, [3]), (1, 2, "ab"), (1, 2, CAST, GO), CAST],
)
def test_S2_bad_return_any_other_value_is_a_crash_that_shows_it(value: Any) -> None:
    with pytest.raises(BadReturn) as caught:
        interpret("kv", "handle_call", value)
    assert (caught.value.server, caught.value.callback) == ("kv", "handle_call")
    assert caught.value.value == value


@pytest.mark.parametrize("output", [CAST, [CAST], (CAST, GO)])
def test_G3_actions_in_the_place_of_the_output_are_a_bad_return(output: Any) -> None:
    for value in ((1, output), (1, output, [GO])):
        with pytest.raises(BadReturn, match="actions are the third"):
            interpret("kv", "handle_info", value)
    assert interpret("kv", "step", (1, [CAST, 2])).output == [CAST, 2]


def test_G1_a_named_tuple_is_never_taken_apart() -> None:
    with pytest.raises(BadReturn):
        interpret("kv", "step", Point(1, 2))


@pytest.mark.parametrize(
    ("value", "initial"),
    [
        ({}, Initial({}, ())),
        (None, Initial(None, ())),
        ((1, 2), Initial((1, 2), ())),
        ((1,), Initial((1,), ())),
        ((), Initial((), ())),
        ((1, CAST), Initial(1, (CAST,))),
        ((1, GO, CAST), Initial(1, (GO, CAST))),
        ((1, CAST, 2), Initial((1, CAST, 2), ())),
    ],
)
def test_S2_init_returns_the_state_or_the_state_and_actions(value: Any, initial: Initial) -> None:
    assert interpret_init("kv", value) == initial


def test_S2_init_may_ignore() -> None:
    assert interpret_init("kv", Ignore()) is IGNORED


@pytest.mark.parametrize("reason", ["normal", "shutdown", "no disk"])
def test_S2_init_stop_is_a_failed_start_even_with_a_normal_reason(reason: str) -> None:
    with pytest.raises(Stopped) as caught:
        interpret_init("kv", Stop(reason))
    assert caught.value.reason == reason


def test_init_hands_the_arguments_on_as_the_first_state() -> None:
    assert GenServer[Any, Any, Any]().init({"x": 1}) == {"x": 1}


def test_A3_1_a_server_with_step_alone_takes_calls_and_casts() -> None:
    server = Adder()
    assert server.handle_call(2, None, 1) == (3, 1)
    assert server.handle_cast(2, 1) == (3, 1)


def test_S2_info_without_a_handler_is_ignored() -> None:
    assert interpret("kv", "handle_info", Adder().handle_info("tick", 7)).state == 7


@pytest.mark.parametrize("callback", ["handle_call", "handle_cast", "handle_continue"])
def test_S2_call_cast_and_continue_without_a_handler_are_crashes(callback: str) -> None:
    arguments = ("x", None, None) if callback == "handle_call" else ("x", None)
    with pytest.raises(NotImplementedError, match="Quiet"):
        getattr(Quiet(), callback)(*arguments)


def test_the_other_defaults_change_nothing() -> None:
    server = Adder()
    assert server.terminate("shutdown", 1) is None
    assert server.code_change("1", 7, None) == 7
    assert server.format_status({"state": 7}) == {"state": 7}
    assert server.pure is False


def test_overrides_knows_own_callbacks_from_inherited_ones() -> None:
    assert overrides(Adder(), "step")
    assert not overrides(Adder(), "handle_call")
    assert overrides(Quiet(), "handle_info")
    assert not overrides(Adder(), "handle_info")
    assert overrides(Plain(), "step")
    assert not overrides(Plain(), "handle_info")

"""`run` folds inputs over a server with no loop."""

from typing import Any

import pytest

from pybehave.actions import Cast, Continue, Ignore, Stop
from pybehave.behaviours.gen_server import GenServer
from pybehave.errors import BadReturn, Stopped
from pybehave.testing import fold, run


def add(command: int, state: int) -> tuple[int, int]:
    return state + command, state + command


class Adder(GenServer[int, int, int]):
    def init(self, args: Any) -> int:
        return args or 0

    def step(self, command: int, state: int) -> tuple[int, int]:
        return add(command, state)


class Chatty(GenServer[list[Any], Any, Any]):
    def init(self, args: Any) -> Any:
        return args if args is not None else ([], Continue("begin"))

    def handle_call(self, request: Any, caller: Any, state: list[Any]) -> Any:
        return [*state, request], len(state), request

    def handle_continue(self, term: Any, state: list[Any]) -> Any:
        return [*state, term], None, Continue("more") if term == "begin" else None


def test_A0_1_a_step_function_is_run_as_it_is() -> None:
    assert run(add, [1, 2, 3], state=10) == 16


def test_a_class_starts_from_its_init() -> None:
    assert run(Adder, [1, 2], args=5) == 8


def test_an_object_may_be_given_too() -> None:
    assert run(Adder(), [1], state=1) == 2


def test_fold_shows_state_outputs_and_actions() -> None:
    cast = Cast("other", 1)
    outcome = fold(Chatty, [cast, None])
    assert outcome.state == ["begin", "more", cast, None]
    assert outcome.outputs == (2, 3)
    assert outcome.actions == (cast,)


def test_a_crash_is_the_exception_itself() -> None:
    with pytest.raises(TypeError):
        run(Adder, [1, "x"])


def test_a_bad_return_is_a_crash() -> None:
    with pytest.raises(BadReturn):
        run(lambda command, state: None, [1], state=0)


def test_nothing_is_handled_after_stop() -> None:
    assert run(Chatty, [Stop("normal")], state=[]) == 0
    with pytest.raises(Stopped):
        run(Chatty, [Stop("normal"), None], state=[])


@pytest.mark.parametrize("first", [Ignore(), Stop("no disk")])
def test_an_init_that_does_not_start_the_server_is_an_error(first: Any) -> None:
    with pytest.raises(Stopped):
        run(Chatty, [None], args=first)


def test_a_step_function_needs_a_state_and_run_an_input() -> None:
    with pytest.raises(ValueError, match="state="):
        run(add, [1])
    with pytest.raises(ValueError, match="at least one input"):
        run(add, [], state=0)


class Dice(GenServer[None, Any, Any]):
    def step(self, command: Any, state: None) -> Any:
        return state, (self.context.random.random(), self.context.now, self.context.name)


def test_the_context_is_the_same_in_every_run() -> None:
    assert run(Dice, [1], state=None) == run(Dice, [1], state=None)

"""`run` folds inputs over a server with no loop."""

from typing import Any

import pytest

from pybehave.actions import NO_REPLY, Cast, Continue, Ignore, Reply, Stop
from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.gen_statem import GenStatem
from pybehave.errors import BadReturn, Stopped
from pybehave.statem import KeepState, KeepStateAndData, NextState, StateTimeout
from pybehave.statem import Stop as machine_stop
from pybehave.testing import FixedCaller, Outcome, fold, run


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


class Seat(GenStatem):
    """Answers in every form that there is."""

    def init(self, args: Any) -> Any:
        return "free", []

    def free(self, kind: Any, content: Any, data: list[Any]) -> Any:
        reply = Reply(kind[1], content)
        match content:
            case "next":
                return NextState("free", data, reply)
            case "list":
                return NextState("free", data, [reply])
            case "timed":
                return KeepState(data, [StateTimeout(5), reply])
            case "wait":
                return KeepState([*data, kind[1]])
            case "wake":
                return KeepState([], [Reply(data[0], "woken"), reply])
            case "stop":
                return machine_stop("normal", data, [reply])
        return KeepStateAndData(reply)


@pytest.mark.parametrize("form", ["next", "list", "keep", "timed", "stop"])
def test_a_reply_to_its_own_caller_is_the_output_of_an_input(form: str) -> None:
    outcome = fold(Seat, [form])
    assert outcome.outputs == (form,)
    assert not [action for action in outcome.actions if isinstance(action, Reply)]


def test_a_reply_that_was_put_off_is_an_action_to_the_caller_of_its_input() -> None:
    outcome = fold(Seat, ["keep", "wait", "wake"])
    assert outcome.outputs == ("keep", NO_REPLY, "wake")
    assert outcome.actions == (Reply(FixedCaller(1), "woken"),)


class Late(GenServer[Any, Any, Any]):
    def step(self, command: Any, state: Any) -> Any:
        return state, NO_REPLY, Continue((self.context.caller, command))

    def handle_continue(self, term: Any, state: Any) -> Any:
        return self.context.caller, None, [Reply(*term), Reply(term[0], "a second one")]


def test_a_continue_may_reply_and_has_no_caller_itself() -> None:
    assert fold(Late, [1, 2], state="?") == Outcome(None, (1, 2), ())


class Dice(GenServer[None, Any, Any]):
    def step(self, command: Any, state: None) -> Any:
        return state, (self.context.random.random(), self.context.now, self.context.name)


def test_the_context_is_the_same_in_every_run() -> None:
    assert run(Dice, [1], state=None) == run(Dice, [1], state=None)

"""Commands that are stepped as one input, without a loop."""

import pickle
from typing import Any

import pytest

from pybehave import GenEvent, GenServer, GenStatem, Once, Together
from pybehave.actions import NO_REPLY, Cast, Continue, Reply, Send, StartTimer, Stop
from pybehave.behaviours.inputs import refusal
from pybehave.behaviours.schema import Schema
from pybehave.behaviours.together import step_together
from pybehave.errors import BadReturn, InputTypeMismatch
from pybehave.statem import KeepState, StateTimeout
from pybehave.testing import FixedContext, run
from pybehave.together import COMMANDS_MAX


class Adder(GenServer[int, Any, Any]):
    accepts = int, str

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: Any, state: int) -> Any:
        if command == "later":
            return state, NO_REPLY
        if command == "act":
            return state, None, [Continue("go on"), Stop("done")]
        return state + command, state + command, Cast("log", command)


def adder() -> Adder:
    server = Adder()
    server.context = FixedContext("a")
    return server


def test_each_command_gets_the_state_that_the_one_before_has_left() -> None:
    assert step_together(adder(), Adder, (1, 2, 3), True, None, 10) == (
        16,
        [11, 13, 16],
        [Cast("log", 1), Cast("log", 2), Cast("log", 3)],
    )
    assert run(Adder, [Together([1, 2]), Together([3])]) == [6]


def test_T1_actions_come_behind_the_last_command_in_their_order() -> None:
    state, outputs, actions = step_together(adder(), Adder, ("act", 5), True, None, 0)
    assert (state, outputs) == (5, [None, 5])
    assert actions == [Continue("go on"), Stop("done"), Cast("log", 5)]


def test_T2_a_reply_that_is_put_off_is_a_bad_return() -> None:
    with pytest.raises(BadReturn, match="is answered at once"):
        step_together(adder(), Adder, (1, "later"), True, None, 0)
    assert step_together(adder(), Adder, (1, "later"), False, None, 0)[0] == 1  # nobody waits


def test_an_error_says_which_command_it_was() -> None:
    with pytest.raises(TypeError) as failed:
        step_together(adder(), Adder, (1, "two", 3), True, None, 0)
    assert failed.value.__notes__ == ["command 2 of 3, 'two': none of them has happened"]


@pytest.mark.parametrize("commands", [5, None, "ab", b"ab"])
def test_what_is_no_list_is_refused(commands: Any) -> None:
    with pytest.raises(TypeError, match="Together: commands is a list of commands, not "):
        Together(commands)


@pytest.mark.parametrize("command", [Once("c", 1, 1), Together([1])])
def test_what_is_no_command_is_refused(command: Any) -> None:
    with pytest.raises(TypeError, match="is no command; put a Together into a Once"):
        Together([1, command])
    assert Once("c", 1, Together([1])).request == Together((1,))


@pytest.mark.parametrize(("count", "is_allowed"), [
    (0, False), (1, True), (COMMANDS_MAX - 1, True), (COMMANDS_MAX, True), (COMMANDS_MAX + 1, False)
])  # fmt: skip
def test_there_are_one_to_ten_thousand(count: int, is_allowed: bool) -> None:
    if is_allowed:
        assert len(Together(range(count)).commands) == count
    else:
        with pytest.raises(ValueError, match=f"1 to {COMMANDS_MAX} commands, not {count}"):
            Together(range(count))


def test_it_is_a_value() -> None:
    one = Together(iter([1, 2]))
    assert one == Together((1, 2)) != Together((2, 1))
    assert pickle.loads(pickle.dumps(one)) == one
    assert repr(one) == "Together(commands=(1, 2))"


def test_each_command_is_asked_about() -> None:
    assert refusal("a", adder(), Together([1, "act"]), 0) is None
    error = refusal("a", adder(), Together([1, 2.5]), 0)
    assert isinstance(error, InputTypeMismatch)
    assert error.got == "float"


class Old(Adder):
    version = 2

    def upcast(self, version: int, message: Any) -> Any:
        return message * 100


def test_each_command_is_upcast() -> None:
    schema = Schema("a", Old())
    assert schema.message(1, Together([1, 2]), "it") == Together([100, 200])
    assert schema.message(2, Together([1, 2]), "it") == Together([1, 2])


class Lamp(GenStatem):
    def init(self, args: Any) -> Any:
        return "off", 0

    def off(self, kind: Any, content: Any, data: int) -> Any:
        return KeepState(data + content, [Reply(kind[1], data), StateTimeout(content, "late")])


def test_a_state_machine_takes_them_one_by_one() -> None:
    lamp = Lamp()
    lamp.context = FixedContext("l")
    machine = lamp._initial("l", None).state  # type: ignore[union-attr]
    machine, outputs, actions = step_together(lamp, Lamp, (1, 2), True, "caller", machine)
    assert (machine.data, outputs) == (3, [0, 1])
    assert [type(action) for action in actions].count(StartTimer) == 2
    assert not [action for action in actions if isinstance(action, Send)]


def test_to_an_event_manager_it_is_an_event() -> None:
    assert GenEvent._handle_together is None

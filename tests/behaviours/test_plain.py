"""Callbacks that are no plain functions are refused where their class is written."""

import re

import pytest

from pybehave import EventHandler, GenServer, GenStatem
from pybehave.behaviours.plain import HANDLER_CALLBACKS, SERVER_CALLBACKS
from pybehave.errors import BadReturn, SpecError
from pybehave.testing import run


async def suspended(*_args: object) -> None: ...


async def producing(*_args: object) -> object:
    yield None


def yielding(*_args: object) -> object:
    yield None


@pytest.mark.parametrize("base", [GenServer, GenStatem])
@pytest.mark.parametrize("name", SERVER_CALLBACKS)
def test_a_server_has_no_async_callback(base: type, name: str) -> None:
    for function in (suspended, producing):
        with pytest.raises(SpecError, match=f"Bad: async def {name} is not allowed; .* action Run"):
            type("Bad", (base,), {name: function})


@pytest.mark.parametrize("name", [name for name in SERVER_CALLBACKS if name != "terminate"])
def test_no_callback_but_terminate_yields(name: str) -> None:
    with pytest.raises(SpecError, match=f"Bad: {name} must not yield"):
        type("Bad", (GenServer,), {name: yielding})
    assert type("Good", (GenServer,), {"terminate": yielding})


@pytest.mark.parametrize("name", HANDLER_CALLBACKS)
def test_a_handler_has_plain_callbacks_only(name: str) -> None:
    for function in (suspended, yielding):
        with pytest.raises(SpecError, match=f"Bad: .*{name}"):
            type("Bad", (EventHandler,), {name: function})


def test_types_are_a_tuple() -> None:
    with pytest.raises(SpecError, match=r"Bad: types=<class 'int'> is not allowed; use a tuple"):
        type("Bad", (GenServer,), {"types": int})


def test_a_state_machine_has_no_step_and_one_of_two_modes() -> None:
    with pytest.raises(SpecError, match="Bad: step is never called: events go to the method"):
        type("Bad", (GenStatem,), {"step": lambda self, command, state: (state, None)})
    with pytest.raises(SpecError, match=r'callback_mode=.* use "state_functions" or "handle_event'):
        type("Bad", (GenStatem,), {"callback_mode": "bogus"})


@pytest.mark.parametrize("name", ["init", "terminate", "handle_event", "validate"])
def test_a_state_has_no_callbacks_name(name: str) -> None:
    machine = type("Bad", (GenStatem,), {"init": lambda self, args: (args, None)})
    with pytest.raises(BadReturn, match="that is the name of a callback; call the state something"):
        run(machine, [1], args=name)


def test_helpers_may_be_what_they_like() -> None:
    assert type("Good", (GenServer,), {"fetch": suspended, "_pieces": yielding})


def test_what_was_never_run_is_told_as_that() -> None:
    generator = yielding()
    error = BadReturn("s", "handle_call", generator)
    assert re.search("it is suspended and nobody runs it.*without async or yield$", str(error))


def test_a_third_that_is_no_action_is_named() -> None:
    assert "its third is no action of pybehave.actions" in str(BadReturn("s", "step", (0, 1, "x")))
    assert "its third" not in str(BadReturn("s", "step", (0, 1, 2, 3)))

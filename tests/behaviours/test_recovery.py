"""Which inits are told of the time before."""

from __future__ import annotations

from typing import Any

import pytest

from pybehave import GenServer, GenStatem, Recovery
from pybehave.behaviours.gen_server import Initial, initial_of
from pybehave.behaviours.recovery import takes_recovery
from pybehave.errors import SpecError
from pybehave.testing import run

RECOVERY = Recovery(7, "last_good")


class Told(GenServer[Any, Any, Any]):
    def init(self, args: Any, recovery: Recovery[Any] | None = None) -> Any:
        return args if recovery is None else recovery.state

    def step(self, command: Any, state: Any) -> Any:
        return state, state


class Required(GenServer[Any, Any, Any]):
    def init(self, args: Any, recovery: Any) -> Any:  # type: ignore[override]
        return recovery


class Plain(GenServer[Any, Any, Any]):
    def init(self, args: Any, *rest: Any, recovery: Any = None, **more: Any) -> Any:
        return args


@pytest.mark.parametrize("kind, is_told", [(Told, True), (Required, True), (Plain, False)])
def test_an_init_is_told_if_it_has_a_parameter_of_that_name(kind: Any, is_told: bool) -> None:
    assert takes_recovery(kind()) is is_told
    assert not takes_recovery(GenServer()) and not takes_recovery(object())


def test_a_parameter_of_another_name_is_its_own() -> None:
    class Own(GenServer[Any, Any, Any]):
        def init(self, args: Any, seen: Any = "mine") -> Any:
            return seen

    class Both(GenServer[Any, Any, Any]):
        def init(self, args: Any, seen: Any = "mine", recovery: Any = None) -> Any:
            return seen, recovery

    assert not takes_recovery(Own())
    assert initial_of("s", Own(), 1, RECOVERY) == Initial("mine", ())
    assert initial_of("s", Both(), 1, RECOVERY) == Initial(("mine", RECOVERY), ())


@pytest.mark.parametrize("base", [GenServer, GenStatem])
def test_an_init_that_wants_more_than_there_is_is_refused(base: Any) -> None:
    with pytest.raises(SpecError, match=r"Bad: init has a parameter 'more', .* recovery=None\)"):
        type("Bad", (base,), {"init": lambda self, args, more: args})


def test_init_gets_what_it_takes() -> None:
    assert initial_of("s", Told(), 1, RECOVERY) == Initial(7, ())
    assert initial_of("s", Told(), 1) == Initial(1, ())
    assert initial_of("s", Required(), 1) == Initial(None, ())
    assert initial_of("s", Plain(), 1, RECOVERY) == Initial(1, ())


def test_a_unit_test_begins_with_nothing_to_go_on_from() -> None:
    assert run(Told, ["?"], args=3) == 3

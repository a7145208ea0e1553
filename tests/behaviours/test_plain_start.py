"""The short way of most machines' starts comes to what a Turn comes to, or leaves it to one."""

from __future__ import annotations

from typing import Any

import pytest

from pybehave import GenStatem
from pybehave.actions import StartTimer
from pybehave.behaviours.gen_server import Initial
from pybehave.behaviours.statem_engine import MINE, Machine, Turn, plain_start
from pybehave.statem import (
    CANCEL,
    UPDATE,
    EventTimeout,
    KeepStateAndData,
    NextEvent,
    StateTimeout,
    Timeout,
)


class Lamp(GenStatem):
    """Notes what it enters."""

    def init(self, args: Any) -> Any:
        return "off", [], args

    def off(self, event_type: Any, content: Any, data: list[Any]) -> Any:
        data.append((event_type, content))
        return KeepStateAndData()


class Entered(Lamp):
    state_enter = True


PLAIN = (
    None,
    StateTimeout(1.0),
    StateTimeout(2, "content"),
    EventTimeout(0.5),
    EventTimeout(3.0, [1]),
    Timeout("named", 4.0),
    Timeout("named", 4.0, {"a": 1}),
)

LEFT = (
    StateTimeout(0),
    StateTimeout(CANCEL),
    StateTimeout(UPDATE, "x"),
    StateTimeout(float("inf")),
    StateTimeout(1e9, absolute=True),
    NextEvent("internal", "go"),
    StartTimer("other", 1.0, None),
    [StateTimeout(1.0), EventTimeout(1.0)],
    [],
    (),
    7.5,
)


def by_turn(server: Any, actions: Any) -> Initial:
    turn = Turn(server, Machine("off", []))
    turn.begin(actions)
    return Initial(turn.machine(), (*turn.timers, *turn.out))


@pytest.mark.parametrize("actions", PLAIN, ids=repr)
def test_the_short_way_comes_to_what_a_turn_comes_to(actions: Any) -> None:
    lamp = Lamp()
    plain = plain_start("off", [], actions)
    assert plain is not None
    assert Initial(*plain) == by_turn(lamp, actions) == lamp._initial("lamp", actions)


@pytest.mark.parametrize("actions", LEFT, ids=repr)
def test_all_else_is_left_to_a_turn(actions: Any) -> None:
    class Timed(Lamp):
        context: Any = type("Context", (), {"monotonic": 5.0, "name": "lamp"})()

    assert plain_start("off", [], actions) is None
    assert Timed()._initial("lamp", actions) == by_turn(Timed(), actions)


def test_a_first_state_is_entered_also_without_actions() -> None:
    initial: Any = Entered()._initial("lamp", None)
    assert initial.state.data == [("enter", "off")]


def test_a_machine_with_one_time_out_shares_its_name_with_all_others() -> None:
    one, two = (plain_start("off", [], StateTimeout(1.0)) for _ in range(2))
    assert one is not None
    assert two is not None
    assert one[0].running is two[0].running
    assert one[1][0].name == (MINE, "state_timeout")

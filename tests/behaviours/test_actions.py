"""Actions are immutable data that print, compare and pickle; building one does nothing."""

import pickle
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from pybehave import actions
from pybehave.actions import (
    NO_REPLY,
    TIMEOUT,
    Action,
    Call,
    Cast,
    Continue,
    Reply,
    Run,
    StartTimer,
    Stop,
)

ACTIONS = [
    actions.Reply("caller", 1),
    actions.Cast("kv", 1),
    actions.Call("kv", 1),
    actions.Info("kv", 1),
    actions.StartTimer("tick", 1.0, "tick"),
    actions.CancelTimer("tick"),
    actions.IdleTimeout(1.0),
    actions.Continue("go"),
    actions.Send("connection", b"x"),
    actions.Close("connection"),
    actions.Active("connection", "once"),
    actions.Connect("tcp://h:1", "protocol"),
    actions.Run(len, "abc", tag="length"),
    actions.Cancel("length"),
    actions.Monitor("kv", 1),
    actions.Demonitor("kv", 1),
    actions.Link("kv"),
    actions.Unlink("kv"),
    actions.Join("group"),
    actions.Leave("group"),
    actions.CastGroup("group", 1),
    actions.Stop(),
    actions.Hibernate(),
]


def test_every_action_has_a_sample() -> None:
    kinds = {
        kind
        for kind in vars(actions).values()
        if isinstance(kind, type) and issubclass(kind, Action) and kind is not Action
    }
    assert kinds == {type(action) for action in ACTIONS}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__)
def test_A1_an_action_cannot_be_changed(action: Any) -> None:
    names = type(action).__match_args__
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        setattr(action, names[0] if names else "any", 1)


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: type(action).__name__)
def test_an_action_survives_pickling_and_compares_by_value(action: Any) -> None:
    assert pickle.loads(pickle.dumps(action)) == action
    assert not hasattr(action, "__dict__")


@pytest.mark.parametrize("marker", [NO_REPLY, TIMEOUT])
def test_markers_are_unique_also_after_pickling(marker: Any) -> None:
    assert pickle.loads(pickle.dumps(marker)) is marker


def test_defaults_are_those_of_OTP() -> None:
    assert Stop().reason == "normal"
    assert Call("kv", 1).timeout == 5.0


def test_run_takes_its_arguments_as_the_function_does() -> None:
    action = Run(divmod, 7, 2, tag="t")
    assert (action.function, action.args, action.tag) == (divmod, (7, 2), "t")


def test_run_takes_nothing_that_must_be_awaited() -> None:
    async def job() -> int:
        return 1

    with pytest.raises(TypeError, match=r"nobody awaits <function .*job.*calls asyncio.run"):
        Run(job)


def test_actions_match_by_position() -> None:
    match Reply("c", 1), Cast("kv", 2), Continue("x"), StartTimer("t", 1.0, "m"):
        case Reply("c", 1), Cast("kv", 2), Continue("x"), StartTimer("t", 1.0, "m"):
            matched = True
        case _:
            matched = False
    assert matched


@pytest.mark.parametrize(
    "make",
    [
        lambda seconds: StartTimer("t", seconds, None),
        actions.IdleTimeout,
        lambda seconds: Call("kv", 1, timeout=seconds),
        lambda seconds: Run(len, "abc", timeout=seconds),
    ],
)
def test_a_duration_is_one_that_a_clock_can_count(make: Any) -> None:
    for seconds in (0, 1.5, 2**64, 10**305, float("inf")):
        make(seconds)
    with pytest.raises(ValueError, match="is more than a float can be"):
        make(10**400)

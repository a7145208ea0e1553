"""Several effects and one continuation (A3-37): `await_all`, `await_any`, through restarts, too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from pybehave import NO_REPLY, Application, GenServer, Supervisor, Worker
from pybehave.actions import (
    Call,
    CallFailed,
    CallReply,
    Cancel,
    Cast,
    Connect,
    Connected,
    ConnectFailed,
    Reply,
    Run,
    RunDone,
    RunFailed,
)
from pybehave.awaiting import Awaiting, await_all, await_any
from pybehave.errors import NoProc
from pybehave.protocols import Lines
from pybehave.testing import SimDisk, Simulator

Start = Callable[..., Any]


def gone() -> int:
    raise OSError("gone")


class Counter(GenServer[int, Any, Any]):
    """Adds."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: int, state: int) -> Any:
        return state + command, state + command


EFFECTS: dict[str, Any] = {
    "five": Call("counter", 5),
    "nobody": Call("nobody", 1),
    "sum": Run(sum, [1, 2], idempotent=True),
    "gone": Run(gone),
}


class Shop(GenServer[dict[str, Any], Any, Any]):
    """Answers an order when all that it asks for is there, with what it has seen meanwhile."""

    def init(self, args: Any) -> dict[str, Any]:
        return {"seen": 0, "orders": {}}

    def handle_call(self, order: Any, caller: Any, state: dict[str, Any]) -> Any:
        number, ask, *names = order
        effects = {name: EFFECTS[name] for name in names}
        waiting, actions = (await_any if ask == "any" else await_all)(effects, tag=number)
        state["orders"][number] = (waiting, caller)
        return state, NO_REPLY, actions

    def handle_cast(self, message: int, state: dict[str, Any]) -> Any:
        return {**state, "seen": state["seen"] + message}, None

    def handle_info(self, info: Any, state: dict[str, Any]) -> Any:
        for number, (before, caller) in list(state["orders"].items()):
            waiting = before.take(info)
            state["orders"][number] = (waiting, caller)
            if waiting.is_done:
                del state["orders"][number]
                failed = {key: type(error).__name__ for key, error in waiting.errors.items()}
                answer = (waiting.values, failed, state["seen"])
                return state, None, [Reply(caller, answer), *waiting.cancels]
        return state, None


def shop(**words: Any) -> Application:
    workers = [Worker("counter", Counter), Worker("shop", Shop, **words)]
    return Application("shop", Supervisor("one_for_one", workers))


def test_A3_37_all_have_answered(start: Start) -> None:
    node = start(shop())
    values, failed, _ = node.call("shop", (1, "all", "five", "sum", "nobody", "gone"))
    assert values == {"five": 5, "sum": 3}
    assert failed == {"nobody": "NoProc", "gone": "OSError"}


def test_A3_37_the_first_that_succeeds(start: Start) -> None:
    node = start(shop())
    assert node.call("shop", (1, "any", "nobody", "five")) == ({"five": 5}, {"nobody": "NoProc"}, 0)
    values, failed, _ = node.call("shop", (2, "any", "nobody", "gone"))
    assert (values, failed) == ({}, {"nobody": "NoProc", "gone": "OSError"})


@pytest.fixture(params=[False, True])
def sim(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    """A shop in a simulation, whose jobs take a second."""
    disk = SimDisk(1) if request.param else None
    with Simulator(1, shop(journal=request.param), disk=disk, work=lambda run: 1.0) as sim:
        yield sim


def test_A3_37_what_has_changed_meanwhile_is_seen(sim: Simulator) -> None:
    order = sim.node.send_request("shop", (1, "all", "sum"))
    sim.run(0.5)
    sim.node.cast("shop", 7)
    sim.run_until(order.done)
    assert order.result() == ({"sum": 3}, {}, 7)


def test_A3_37_two_under_way_do_not_mix(sim: Simulator) -> None:
    orders = [
        sim.node.send_request("shop", (number, "all", "sum", other))
        for number, other in ((1, "nobody"), (2, "five"))
    ]
    sim.run_until(lambda: all(order.done() for order in orders))
    assert [order.result()[0] for order in orders] == [{"sum": 3}, {"sum": 3, "five": 5}]


def test_A3_37_it_goes_on_after_a_power_cut() -> None:
    app = shop(journal=True)
    with Simulator(1, app, disk=SimDisk(1), work=lambda run: 9.0) as sim:
        sim.node.send_request("shop", (1, "all", "nobody", "sum"))
        sim.run(1.0)
        [(waiting, _)] = sim.node.sys.get_state("shop")["orders"].values()
        assert (waiting.missing, list(waiting.errors)) == (("sum",), ["nobody"])
        found = sim.lose_power(Random(1))
    with Simulator(2, app, disk=found, work=lambda run: 9.0) as sim:
        [(kept, _)] = sim.node.sys.get_state("shop")["orders"].values()
        assert (kept.tag, kept.until, kept.missing) == (1, "all", ("sum",))
        assert isinstance(kept.errors["nobody"], NoProc)
        sim.run_until(lambda: not sim.node.sys.get_state("shop")["orders"])


@pytest.mark.parametrize(
    "info",
    [
        CallReply("t", "s", 1),
        CallReply(("t", "x"), "s", 1),
        CallReply(("u", "a"), "s", 1),
        RunDone(["t", "a"], 1),
        "t",
        ("t", "a"),
    ],
)
def test_what_is_about_something_else_changes_nothing(info: Any) -> None:
    waiting, _ = await_all({"a": Call("s", 1)}, tag="t")
    assert waiting.take(info) is waiting


def test_an_effect_is_answered_once() -> None:
    waiting, _ = await_any({"a": Call("s", 1), "b": Run(len)}, tag="t")
    first = waiting.take(CallReply(("t", "a"), "s", 1))
    assert first.take(CallReply(("t", "a"), "s", 2)) is first
    assert (waiting.is_done, first.is_done, first.missing) == (False, True, ("b",))
    assert first.cancels == [Cancel(("t", "b"))]
    for late in (RunDone(("t", "b"), 2), RunFailed(("t", "b"), OSError())):
        assert first.take(late) is first


def test_what_came_of_each_kind() -> None:
    effects = {"c": Connect("tcp://127.0.0.1:1", Lines()), "r": Run(len), "s": Call("s", 1)}
    waiting, actions = await_all(effects, tag=0)
    assert [action.tag for action in actions] == [(0, "c"), (0, "r"), (0, "s")]
    good: list[Any] = [Connected((0, "c"), "C"), RunDone((0, "r"), 2), CallReply((0, "s"), "s", 3)]
    error = OSError()
    bad: list[Any] = [
        ConnectFailed((0, "c"), error), RunFailed((0, "r"), error), CallFailed((0, "s"), "s", error)
    ]  # fmt: skip
    done = failed = waiting
    for info in good:
        done = done.take(info)
    for info in bad:
        failed = failed.take(info)
    assert (done.values, done.errors, done.is_done) == ({"c": "C", "r": 2, "s": 3}, {}, True)
    assert (failed.values, set(failed.errors), failed.is_done) == ({}, {"c", "r", "s"}, True)


def test_all_else_of_an_effect_stays() -> None:
    run = Run(sum, [1], pool="p", timeout=3, idempotent=True)
    call = Call("s", 1, timeout=9, idempotent=True, on_restart="wait")
    _, (run_again, call_again) = await_all({1: run, 2: call}, tag="t")
    assert run_again == Run(sum, [1], tag=("t", 1), pool="p", timeout=3, idempotent=True)
    assert call_again == Call("s", 1, ("t", 2), 9, True, "wait")


@pytest.mark.parametrize(("ask", "name"), [(await_all, "await_all"), (await_any, "await_any")])
def test_what_is_no_effect_is_refused(ask: Callable[..., Any], name: str) -> None:
    with pytest.raises(TypeError, match=rf"{name}: an effect is a Call, a Run or a Connect, not "):
        ask({"a": Cast("s", 1)}, tag="t")
    with pytest.raises(TypeError, match=rf"{name}: effects is a dict of them by keys, not \["):
        ask([Call("s", 1)], tag="t")
    with pytest.raises(ValueError, match=name):
        ask({}, tag="t")


def test_an_awaiting_is_a_value() -> None:
    assert await_all({"a": Call("s", 1)}, tag="t")[0] == Awaiting("t", "all", ("a",), {})

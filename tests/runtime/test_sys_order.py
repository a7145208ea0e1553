"""A system request has its place among what waits for its server; a node that stops lets servers
take what waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pybehave import (
    Application,
    EventHandler,
    GenEvent,
    GenServer,
    Supervisor,
    Worker,
    events,
)
from pybehave.actions import Cast, IdleTimeout
from pybehave.errors import LoopClosed, NoProc
from pybehave.testing import Simulator
from tests.power.machine import wait_for
from tests.runtime.test_sys import in_thread

MANY = 300
"""More than a server takes in one round."""

INPUTS_PER_TURN = 64
"""What it takes in one (dispatch.pyx)."""


class Sum(GenServer[int, Any, int]):
    """Adds; "hold" waits in the step until the test lets go."""

    held = threading.Event()
    released = threading.Event()

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: Any, state: int) -> Any:
        match command:
            case "hold":
                self.held.set()
                assert self.released.wait(60)
            case "break":
                raise ValueError("a deliberate bug")
            case "slow":
                until = time.monotonic() + 0.02
                while time.monotonic() < until:
                    pass
            case "on":
                return state + 1, state, Cast(self.context.name, "on")
            case "idle":
                return state, state, IdleTimeout(0.001)
            case int():
                state += command
        return state, state

    def handle_info(self, message: Any, state: int) -> Any:
        return state + 1000, None


def application(name: str = "own", **options: Any) -> Application:
    tree = Supervisor("one_for_one", [Worker(name, Sum, restart="temporary", **options)])
    return Application(name, tree)


@pytest.fixture(params=[False, True], ids=["memory", "journal"])
def node(request: pytest.FixtureRequest, start: Callable[..., Any], tmp_path: Path) -> Any:
    Sum.held.clear()
    Sum.released.clear()
    return start(application("a", journal=request.param), data=tmp_path / "data")


def cast_many(node: Any) -> None:
    for _ in range(MANY):
        node.cast("a", 1)


def held(node: Any) -> None:
    node.cast("a", "hold")
    assert Sum.held.wait(60)


def asked(node: Any, *functions: Callable[[], Any]) -> list[tuple[threading.Thread, list[Any]]]:
    """Ask on a thread for each, one behind the other, while the loop is held up."""
    begun = []
    for function in functions:
        before = node.loop.inbox_count
        begun.append(in_thread(function))
        wait_for(lambda before=before: node.loop.inbox_count > before, "it has asked")
    return begun


def outcomes(begun: list[tuple[threading.Thread, list[Any]]]) -> list[Any]:
    for thread, _ in begun:
        thread.join(60)
    return [outcome for _, (outcome,) in begun]


def test_a_request_sees_what_was_cast_before_it(node: Any) -> None:
    cast_many(node)
    assert node.sys.get_state("a") == MANY
    cast_many(node)
    assert node.sys.get_status("a").state == 2 * MANY
    cast_many(node)
    assert node.sys.replace_state("a", lambda state: -state) == -3 * MANY
    cast_many(node)
    node.sys.suspend("a")
    cast_many(node)
    assert node.sys.get_state("a") == -2 * MANY
    node.sys.resume("a")
    assert node.sys.get_state("a") == -MANY


class Heard(EventHandler):
    """Keeps what it is told."""

    def handle_event(self, event: Any, state: list[Any]) -> Any:
        return [*state, event]


@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
def test_a_manager_hands_out_what_was_cast_before_a_request(
    start: Callable[..., Any], tmp_path: Path, journal: bool
) -> None:
    """A batch ends before it: its events stood in the ring, and were handled behind the request."""
    manager = Worker("e", GenEvent, [events.add_handler(Heard, [])], journal=journal)
    node = start(Application("e", Supervisor("one_for_one", [manager])), data=tmp_path / "data")
    for number in range(20):
        node.cast("e", events.notify(number))
        ((_, state),) = node.sys.get_state("e")
        assert state == list(range(number + 1))
    node.cast("e", events.notify("old"))
    node.sys.replace_state("e", lambda handlers: [(key, []) for key, _ in handlers])
    node.cast("e", events.notify("new"))
    node.sys.suspend("e")
    ((_, state),) = node.sys.get_state("e")
    assert state == ["new"]


@pytest.mark.parametrize("overflow", ["reject", "drop_oldest"])
def test_requests_take_no_input_s_place(start: Callable[..., Any], overflow: str) -> None:
    Sum.held.clear()
    Sum.released.clear()
    node = start(application("a", mailbox=5, overflow=overflow))
    held(node)
    node.cast("a", 1)
    casts = [partial(node.cast, "a", number) for number in (20, 300, 4000)]
    begun = asked(node, *[partial(node.sys.get_state, "a")] * 4, *casts)
    Sum.released.set()
    assert outcomes(begun) == [1] * 4 + [None] * 3
    assert node.call("a", 0) == 4321


@pytest.mark.parametrize("way", ["stop_server", "terminate"])
def test_a_server_takes_what_was_cast_before_it_is_ended(node: Any, way: str) -> None:
    ends = node.monitor("a")
    cast_many(node)
    answer = in_thread(lambda: node.call("a", 0))
    answer[0].join(60)
    cast_many(node)
    future = node.send_request("a", 0)
    node.stop_server("a") if way == "stop_server" else node.sys.terminate("a")
    assert answer[1] == [MANY]
    assert future.result(60) == 2 * MANY
    assert ends.result(60).reason == "normal"


def test_what_waits_is_no_matter_to_a_suspended_server(node: Any) -> None:
    held(node)
    begun = asked(
        node,
        lambda: node.cast("a", 1),
        lambda: node.sys.suspend("a"),
        lambda: node.cast("a", 10),
        lambda: node.sys.get_state("a"),
        lambda: node.sys.resume("a"),
    )
    Sum.released.set()
    assert outcomes(begun) == [None, None, None, 1, None]
    assert node.sys.get_state("a") == 11


def test_a_request_to_a_server_that_ends_before_its_turn_says_so(node: Any) -> None:
    held(node)
    begun = asked(
        node,
        lambda: node.cast("a", "break"),
        lambda: node.sys.get_state("a"),
        lambda: node.sys.replace_state("a", lambda state: state),
    )
    Sum.released.set()
    outcome, *others = outcomes(begun)
    assert outcome is None
    assert [type(error) for error in others] == [NoProc, NoProc]


def test_a_server_that_is_never_done_is_looked_at_all_the_same(node: Any) -> None:
    node.cast("a", "on")
    assert node.sys.get_state("a") > 0
    assert node.run_on_loop(lambda: node.call("a", 0)) > 0


def test_a_node_that_stops_lets_servers_take_what_waits(node: Any) -> None:
    server = node.loop.dispatcher.whereis("a")
    cast_many(node)
    node.stop()
    assert server.inputs == MANY


def test_a_node_that_stops_without_a_drain_does_not(node: Any) -> None:
    server = node.loop.dispatcher.whereis("a")
    held(node)
    (future,) = [node.send_request("a", 1)]
    begun = in_thread(lambda: node.stop(drain=False))
    wait_for(lambda: node.is_asked_to_stop, "it is asked to stop")
    Sum.released.set()
    begun[0].join(60)
    assert isinstance(future.exception(60), NoProc | LoopClosed)
    assert server.inputs == 1


def test_a_server_that_is_never_done_does_not_hold_a_stop_up(node: Any) -> None:
    server = node.loop.dispatcher.whereis("a")
    node.cast("a", "on")
    cast_many(node)
    node.stop()
    assert server.inputs > MANY


def test_an_application_that_stops_lets_servers_take_what_waits(start: Callable[..., Any]) -> None:
    node = start(application("own"))
    node.start_application(application("a"))
    server = node.loop.dispatcher.whereis("a")
    cast_many(node)
    node.stop_application("a")
    assert server.inputs == MANY
    assert node.names() == ["own"]


def test_between_two_ticks_what_waits_is_taken_first() -> None:
    with Simulator(1, application("a")) as sim:
        cast_many(sim.node)
        assert sim.node.sys.get_state("a") == MANY
        cast_many(sim.node)
        assert sim.node.sys.replace_state("a", lambda state: -state) == -2 * MANY
        sim.node.cast("a", "on")
        assert sim.node.sys.get_state("a") == 1 - 2 * MANY


def test_an_idle_time_out_comes_though_a_request_waits(start: Callable[..., Any]) -> None:
    node = start(application("a"))
    node.start_application(application("b"))
    server = node.loop.dispatcher.whereis("a")
    seen: list[Any] = []

    def fill() -> None:
        for command in [1] * (INPUTS_PER_TURN - 1) + ["idle"]:
            node.cast("a", command)
        node.loop.dispatcher.in_turn("a", lambda: seen.append(server.state))
        node.cast("b", "slow")  # in the same round: then the time is over, and the request waits

    node.run_on_loop(fill)
    wait_for(lambda: server.state == INPUTS_PER_TURN - 1 + 1000, "the time-out came")
    assert seen == [INPUTS_PER_TURN - 1]

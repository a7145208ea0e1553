"""Servers that end by themselves, and whose `terminate` takes its time.

`shutdown` limits what a supervisor orders, and nothing else (OTP supervisor, child specification).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.actions import Down, Exit, Link, Monitor, Stop
from pybehave.errors import Crashed, NoProc, Stopped, Timeout
from pybehave.runtime.node import Node
from tests.runtime.work import until

MINUTES = 600.0


class Slow(GenServer[Any, Any, Any]):
    """Ends as it is told, and takes so many seconds for it."""

    def init(self, args: float) -> float:
        return args

    def step(self, command: Any, state: Any) -> Any:
        match command:
            case "stop":
                return state, "bye", Stop("normal")
            case "crash":
                raise ValueError("asked to")
            case "link":
                return state, None, Link("b")
        return state, command

    def terminate(self, reason: Any, state: float) -> Iterator[float]:
        yield state
        if state < MINUTES and self.context.name == "a":
            ENDED.append(reason)


ENDED: list[Any] = []
"""Reasons of those whose terminate has come to its end."""


@pytest.fixture(autouse=True)
def _nobody_has_ended() -> None:
    ENDED.clear()


def application(seconds: float, shutdown: Any, restart: str = "transient") -> Application:
    worker = Worker("a", Slow, seconds, shutdown=shutdown, restart=restart)
    other = Worker("b", Slow, 0.0, restart="temporary")
    return Application("own", Supervisor("one_for_one", [worker, other], intensity=9))


def stop(node: Node) -> None:
    assert node.call("a", "stop") == "bye"


def crash(node: Node) -> None:
    with pytest.raises(Crashed):
        node.call("a", "crash")


def unlinked(node: Node) -> None:
    node.call("a", "link")
    node.sys.terminate("b", "odd")


@pytest.mark.parametrize("shutdown", [0.0, 0.01, "brutal_kill"])
@pytest.mark.parametrize(
    ("end", "wanted"),
    [
        (stop, "normal"),
        (crash, ValueError),
        (unlinked, "odd"),
        (lambda node: node.stop_server("a", "normal"), "normal"),
        (lambda node: node.sys.terminate("a", "over"), "over"),
    ],
    ids=["stop", "crash", "link", "stop_server", "sys.terminate"],
)
def test_who_ends_by_itself_has_the_time_that_its_terminate_takes(
    start: Callable[..., Node], end: Callable[[Node], None], wanted: Any, shutdown: Any
) -> None:
    node = start(application(0.05, shutdown, "temporary"))
    down = node.monitor("a")
    end(node)
    reason = down.result(9).reason
    assert reason == wanted or type(reason) is wanted
    assert [reason] == ENDED
    assert all(report.reason == reason for report in node.crashes() if report.server == "a")


def test_a_transient_child_that_ended_normally_and_late_stays_down(
    start: Callable[..., Node],
) -> None:
    node = start(application(0.05, 0.01))
    down = node.monitor("a")
    stop(node)
    assert down.result(9).reason == "normal"
    assert [child.status for child in node.which_children("root") if child.id == "a"] == ["stopped"]
    assert node.crashes() == []


def ending(node: Node) -> Future[Down]:
    """Let a server begin to end; its monitor."""
    down = node.monitor("a")
    stop(node)
    until(node.unstopped)
    return down


@pytest.mark.parametrize("shutdown", [0.0, 0.01, "brutal_kill"])
def test_an_order_to_one_that_ends_by_itself_counts_from_then(
    start: Callable[..., Node], shutdown: Any
) -> None:
    node = start(application(MINUTES, shutdown))
    down = ending(node)
    node.terminate_child("root", "a", timeout=9)
    assert down.result(9).reason == "killed"
    assert node.unstopped() == []
    node.restart_child("root", "a")
    assert node.call("a", 1) == 1


@pytest.mark.parametrize("shutdown", [0.01, "brutal_kill"])
def test_a_node_that_stops_orders_those_that_end_by_themselves_too(
    start: Callable[..., Node], shutdown: Any
) -> None:
    node = start(application(MINUTES, shutdown))
    down = ending(node)
    stopping = threading.Thread(target=node.stop)
    stopping.start()
    stopping.join(20)
    assert not stopping.is_alive()
    assert down.result(0).reason == "killed"


def test_who_comes_while_a_server_ends_waits_for_its_end(start: Callable[..., Node]) -> None:
    node = start(application(0.1, 5.0, "temporary"))
    ending(node)
    down = node.monitor("a")
    with pytest.raises(Timeout):
        node.stop_server("a", timeout=0.001)
    node.stop_server("a")
    assert down.result(0).reason == "normal"
    with pytest.raises(NoProc):
        node.stop_server("a")


def test_who_comes_while_a_server_ends_hears_its_own_reason(start: Callable[..., Node]) -> None:
    node = start(application(0.1, 5.0, "temporary"))
    ending(node)
    with pytest.raises(Stopped, match="ended with reason 'normal', not with 'shutdown'"):
        node.stop_server("a", "shutdown")


def test_servers_watch_one_that_is_ending(start: Callable[..., Node]) -> None:
    heard: list[Any] = []

    class Watcher(GenServer[Any, Any, Any]):
        trap_exit = True

        def init(self, args: Any) -> None:
            return None

        def step(self, command: Any, state: Any) -> Any:
            return state, None, [Monitor("a", 1), Link("a")]

        def handle_info(self, message: Any, state: Any) -> Any:
            heard.append(message)
            return state, None

    node = start(application(0.1, 5.0, "temporary"))
    node.start_child("root", Worker("w", Watcher))
    ending(node)
    node.call("w", "watch")
    until(lambda: len(heard) == 2)
    assert heard == [Down("a", 1, "normal", 1), Exit("a", "normal")]


def test_a_supervisor_whose_time_is_over_drops_who_ends_by_itself(
    start: Callable[..., Node],
) -> None:
    worker = Worker("a", Slow, MINUTES, shutdown="infinity", restart="transient")
    inner = Supervisor("one_for_one", [worker], id="inner", shutdown=0.01)
    quick = Supervisor("one_for_one", [inner])
    node = start(Application("late", quick))
    down = ending(node)
    inner_gone = node.terminate_child("root", "inner", timeout=9)
    assert inner_gone is None
    assert down.result(9).reason == "killed"
    assert node.unstopped() == []

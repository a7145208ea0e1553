"""A node or an application that has ended: the last replies leave, whoever asks later is told."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.actions import Stop
from pybehave.errors import ApplicationEnded, LoopClosed, TerminateTree
from pybehave.protocols import Http, Lines, Resp
from pybehave.runtime.node import Node
from pybehave.runtime.watchdog import StepTooLong
from pybehave.testing import SimDisk, Simulator
from tests.conftest import dial, receive_all


class Fragile(GenServer[int, Any, str]):
    def init(self, args: Any) -> int:
        return 0

    def step(self, command: Any, state: int) -> Any:
        match command:
            case "crash" | [b"CRASH"]:
                raise ValueError("a deliberate bug")
            case "leave":
                return state, "bye", Stop("normal")
            case "order":
                raise TerminateTree("it is over")
        return state + 1, f"ok {state + 1}"


def application(protocol: Any, name: str = "a", *, journal: bool = False) -> Application:
    worker = Worker(
        name, Fragile, restart="transient", significant=True, journal=journal, recovery="clean"
    )
    tree = Supervisor("one_for_one", [worker], intensity=0, auto_shutdown="any_significant")
    listener = Listener("tcp://127.0.0.1:0", protocol, to=name, name=name)
    return Application(name, tree, listeners=[listener])


# --- the last replies ---------------------------------------------------------------------------


@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
@pytest.mark.parametrize(
    ("protocol", "sent", "heard"),
    [
        (Lines("utf-8"), b"a\nb\ncrash\n", b"ok 1\nok 2\nerror: server 'a' crashed"),
        (Lines("utf-8"), b"a\nleave\n", b"ok 1\nbye\n"),
        (Lines("utf-8"), b"a\norder\n", b"ok 1\nerror: server 'a' crashed"),
        (Resp(), b"x\r\ncrash\r\n", b"$4\r\nok 1\r\n-CRASHED server 'a' crashed"),
        (Http(), b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\ncrash", b"HTTP/1.1 500 "),
    ],
    ids=["crash", "leave", "order", "resp", "http"],
)
@pytest.mark.filterwarnings("ignore:.*recovery")
def test_whoever_asked_before_a_tree_ends_is_answered(
    start: Callable[..., Any],
    tmp_path: Path,
    protocol: Any,
    sent: bytes,
    heard: bytes,
    journal: bool,
) -> None:
    node = start(application(protocol, journal=journal), data=tmp_path / "data")
    with dial(node) as client:
        client.sendall(sent)
        assert receive_all(client).startswith(heard)
    if b"leave" not in sent:
        with pytest.raises(ApplicationEnded), node:
            pass


def test_whoever_asked_an_application_that_ends_is_answered_and_the_node_goes_on(
    start: Callable[..., Any],
) -> None:
    node = start(application(Lines("utf-8"), "own"))
    other = application(Lines("utf-8"), "other")
    node.start_application(other, "temporary")
    host, _, port = node.urls[1].removeprefix("tcp://").rpartition(":")
    with socket.create_connection((host, int(port)), 10.0) as client:
        client.sendall(b"a\ncrash\n")
        assert receive_all(client).startswith(b"ok 1\nerror: server 'other' crashed")
    assert node.call("own", "a") == "ok 1"
    assert node.names() == ["own"]


# --- too late -----------------------------------------------------------------------------------

REQUESTS: list[Callable[[Any], Any]] = [
    lambda node: node.call("a", "x"),
    lambda node: node.call("a", "x", priority=True),
    lambda node: node.call("nobody", "x"),
    lambda node: node.cast("a", "x"),
    lambda node: node.send_request("a", "x"),
    lambda node: node.multi_call(["a"], "x"),
    lambda node: node.sys.get_state("a"),
    lambda node: node.sys.replace_state("a", lambda state: state),
    lambda node: node.stop_server("a"),
    lambda node: node.forget("a"),
    lambda node: node.reset("a", confirm=True),
    lambda node: node.start_application(application(Lines(), "b")),
    lambda node: node.start_child("root", Worker("b", Fragile)),
    lambda node: node.which_children("root"),
    lambda node: node.wait_durable(10**6),
    lambda node: node.loop.now(),
    lambda node: node.loop.dispatcher.start_alarm(0.1, print),
    lambda node: node.stats(),
]


@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
def test_a_node_that_has_stopped_refuses_on_its_own_thread_too(
    source: str, tmp_path: Path, journal: bool
) -> None:
    node = Node(application(Lines(), journal=journal), backend=source, data=tmp_path / "data")
    node.boot()
    node.call("a", "x")
    node.stop()
    for request in REQUESTS if journal else REQUESTS[:9] + REQUESTS[11:14] + REQUESTS[15:]:
        with pytest.raises(LoopClosed):
            request(node)
    assert node.crashes() == []
    assert node.stop() == 0


class Blocking(GenServer[None, Any, Any]):
    def terminate(self, reason: Any, state: None) -> None:
        threading.Event().wait(0.1)  # a plain one: no limit can end it


@pytest.mark.parametrize("shutdown", [0.01, 30.0, "infinity"])
def test_a_plain_terminate_over_its_limit_is_told(
    shutdown: Any, source: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It left no trace: the limit was nothing but a number."""
    app = Application("a", Supervisor("one_for_one", [Worker("slow", Blocking, shutdown=shutdown)]))
    seen: list[Any] = []
    with app.start(backend=source, data=None) as node:
        node.events.add(seen.append)
        node.terminate_child("root", "slow")
    told = [each.getMessage() for each in caplog.records if each.name == "pybehave.server"]
    events = [event for event in seen if isinstance(event, StepTooLong)]
    if shutdown != 0.01:
        assert (told, events) == ([], [])
        return
    assert told[0].startswith("terminate of server 'slow' took 0.1")
    assert "shutdown=0.01" in told[0]
    assert [(event.child, event.what) for event in events] == [("slow", "terminate")]


def test_a_simulated_node_without_power_refuses() -> None:
    sim = Simulator(1, application(Lines(), journal=True), disk=SimDisk(1)).start()
    sim.node.call("a", "x")
    sim.lose_power(Random(1))
    for request in REQUESTS:
        with pytest.raises(LoopClosed):
            request(sim.node)

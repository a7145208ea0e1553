"""The watchdog sees steps that take too long, says where they stand, and aborts them if told to."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.errors import Crashed, StepAborted
from pybehave.runtime.node import Node
from pybehave.runtime.watchdog import StepTooLong, Watchdog
from tests.runtime.work import until

BUDGET_S = 0.02


class Heard(logging.Handler):
    """What the watchdog logs; lets go whoever waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.heard = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
        self.heard.set()


HEARD = Heard()


class Slow(GenServer[Any, Any, Any]):
    """Blocks until the watchdog has said so, or for ever."""

    def init(self, args: Any) -> Any:
        if args == "slow init":
            HEARD.heard.wait(30)
        return []

    def step(self, command: Any, state: Any) -> Any:
        if command == "slow":
            HEARD.heard.wait(30)
        if command == "endless":
            endless()
        if command == "stubborn":
            try:
                endless()
            except StepAborted:
                return state, "never mind"
        return state, command

    def terminate(self, reason: Any, state: Any) -> None:
        if reason == "shutdown":
            HEARD.heard.wait(30)


def endless() -> None:
    while True:
        threading.Event().wait(0.001)


@pytest.fixture
def heard(start: Any) -> Iterator[Heard]:
    """Listens to the watchdog; `start` has silenced the others."""
    logger = logging.getLogger("pybehave.watchdog")
    HEARD.lines.clear()
    HEARD.heard.clear()
    logger.setLevel(logging.WARNING)
    logger.addHandler(HEARD)
    yield HEARD
    HEARD.heard.set()
    logger.removeHandler(HEARD)
    logger.setLevel(logging.NOTSET)


def app(args: Any = None, **fields: Any) -> Application:
    workers = [Worker("a", Slow, args, **fields), Worker("b", Slow)]
    return Application("t", Supervisor("one_for_one", workers, intensity=100))


def test_a_step_over_its_budget_is_reported_with_its_stack(start: Any, heard: Heard) -> None:
    node = start(app(), step_budget=BUDGET_S)
    events: list[Any] = []
    node.events.add(events.append)
    assert node.call("a", "slow", timeout=None) == "slow"
    assert "step of server 'a'" in heard.lines[0]
    assert "HEARD.heard.wait" in heard.lines[0], "the stack"
    assert "runtime/node.py" not in heard.lines[0], "and no more of it than is the server's"
    until(lambda: [e for e in events if isinstance(e, StepTooLong)])
    assert node.stats()["watchdog"]["steps_too_long"] >= 1
    assert node.stats()["watchdog"]["seconds_longest"] >= BUDGET_S


def test_an_init_over_the_budget_is_reported(start: Any, heard: Heard) -> None:
    start(app("slow init"), step_budget=BUDGET_S)
    assert "init of server 'a'" in heard.lines[0]


def test_a_terminate_over_the_budget_is_reported(start: Any, heard: Heard) -> None:
    start(app(), step_budget=BUDGET_S).terminate_child("root", "b")
    assert "terminate of server 'b'" in heard.lines[0]


def no_thread(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def driven(monkeypatch: pytest.MonkeyPatch, source: str, **limits: float) -> Node:
    """A node on this thread, where the system has no other."""
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    return Node(app(), backend=source, data=None, **limits)


def test_where_there_is_no_thread_for_the_watchdog_the_node_serves(
    monkeypatch: pytest.MonkeyPatch, source: str, heard: Heard
) -> None:
    node = driven(monkeypatch, source, step_budget=BUDGET_S)
    node.boot()
    assert node.call("b", "unharmed") == "unharmed"
    assert "no thread left" in heard.lines[0]
    assert node.stop() == 0


def test_steps_that_were_to_be_aborted_and_cannot_be_refuse_the_start(
    monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    with pytest.raises(OSError, match="no thread left to abort steps"):
        driven(monkeypatch, source, step_abort=BUDGET_S).boot()


@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("command", ["endless", "stubborn"])
def test_a_step_is_aborted_as_a_crash_of_its_server(
    start: Any, heard: Heard, tmp_path: Path, command: str, journal: bool
) -> None:
    node = start(app(journal=journal), step_abort=BUDGET_S, data=tmp_path)
    with pytest.raises(Crashed) as caught:
        node.call("a", command, timeout=None)
    assert isinstance(caught.value.reason, StepAborted)
    assert caught.value.reason.server == "a"
    assert caught.value.reason.seconds >= BUDGET_S
    assert node.call("a", "again", timeout=None) == "again"
    assert node.call("b", "unharmed", timeout=None) == "unharmed"
    assert node.whereis("a") == 2
    assert node.whereis("b") == 1
    assert node.stats()["watchdog"]["steps_aborted"] == 1


TRACED = """
import sys
from tests.runtime.test_watchdog import BUDGET_S, HEARD, app
from pybehave.errors import Crashed

with app().start(backend="epoll", step_abort=BUDGET_S) as node:
    try:
        node.call("a", sys.argv[1], timeout=None)
    except Crashed:
        sys.settrace(lambda *_: None)
        print((lambda: "traced")())
        HEARD.heard.set()
"""


@pytest.mark.parametrize("command", ["endless", "stubborn"])
def test_an_abort_leaves_nothing_pending_for_a_tracer_to_wait_for(command: str) -> None:
    """CPython 3.11 looked for it again and again, and held the interpreter lock meanwhile."""
    run = [sys.executable, "-c", TRACED, command]
    said = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
    assert (said.stdout, said.returncode) == ("traced\n", 0), said.stderr


def test_without_a_budget_there_is_no_thread(start: Any, threads: Any) -> None:
    node = start(app())
    assert node.watchdog is None
    assert threads("pybehave-watchdog") == 0


def test_the_thread_ends_with_the_node(start: Any, threads: Any) -> None:
    HEARD.heard.set()
    start(app(), step_budget=60.0).stop()
    assert threads("pybehave-watchdog") == 0


@pytest.mark.parametrize("value", [0, -1, float("nan"), "1", True])
@pytest.mark.parametrize("field", ["step_budget", "step_abort"])
def test_a_budget_that_is_no_time_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"{field}=.* use seconds > 0"):
        Node(app(), backend="epoll", **{field: value})


class FakeDispatcher:
    """Says what is stepped."""

    def __init__(self) -> None:
        self.now: Any = None

    def stepping(self) -> Any:
        return self.now


class FakeNode:
    """What a watchdog looks at."""

    def __init__(self) -> None:
        self.loop = self.host = self.events = self
        self.dispatcher = FakeDispatcher()
        self.doing = None
        self.thread = 0
        self.handed: list[Any] = []

    def defer(self, function: Any) -> None:
        function()

    def hand_on(self, event: Any) -> None:
        self.handed.append(event)


class FakeServer:
    name = "a"


def test_looks_report_a_step_when_it_has_taken_twice_as_long_again() -> None:
    node: Any = FakeNode()
    watchdog = Watchdog(node, 1.0, None)
    server = FakeServer()
    node.dispatcher.now = (server, 7)
    for now in range(20):
        watchdog.look(now * 0.5)
    assert [event.seconds for event in node.handed] == [1.0, 2.0, 4.0, 8.0]
    assert watchdog.stats()["steps_too_long"] == 1


def test_steps_of_one_server_are_not_taken_for_one() -> None:
    node: Any = FakeNode()
    watchdog = Watchdog(node, 1.0, None)
    server = FakeServer()
    for now in range(100):
        node.dispatcher.now = (server, now) if now % 3 else None
        watchdog.look(now * 0.5)
    assert node.handed == []

"""Rules of otp.md that need a whole node: what its public functions say, on every source.

Found by a walk through otp.md with nothing but the documentation in hand; each was wrong once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pybehave import NO_REPLY, TIMEOUT, Application, GenServer, Supervisor, Worker
from pybehave.actions import Continue, IdleTimeout, Info, Stop
from pybehave.behaviours.supervisor import ChildSpec
from pybehave.errors import NotFound, PybehaveError, SourceUnavailable, StartFailed, Stopped
from pybehave.runtime.node import Node
from pybehave.testing import Simulator
from pybehave.types import Shutdown
from tests.conftest import SOURCES

Until = Callable[[Callable[[], object]], None]
World = Callable[..., tuple[Node, Until]]
TRACE: list[Any] = []
NODES: list[Node] = []


@pytest.fixture(params=[*SOURCES, "sim"])
def world(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    """Start children under a root; gives the node, and how to wait for a condition there."""
    caplog.set_level(logging.CRITICAL, "pybehave")
    TRACE.clear()
    ends: list[Callable[[], object]] = []

    def spin(condition: Callable[[], object]) -> None:
        while not condition():
            pass

    def begin(*children: ChildSpec) -> tuple[Node, Until]:
        app = Application("t", Supervisor("one_for_one", children, intensity=9))
        if request.param == "sim":
            sim = Simulator(1, app)
            sim.__enter__()
            ends.append(lambda: sim.__exit__(None, None, None))
            NODES.append(sim.node)
            return sim.node, sim.run_until
        try:
            node = app.start(backend=request.param)
        except SourceUnavailable as error:
            pytest.skip(f"{request.param}: {error.reason}")
        ends.append(node.stop)
        NODES.append(node)
        return node, spin

    yield begin
    for end in ends:
        end()


class Doer(GenServer[None, Callable[[], Any], Any]):
    """Calls what it is given, within its step."""

    def init(self, args: Any) -> None:
        TRACE.append(f"init {self.context.name}")

    def step(self, command: Callable[[], Any], state: None) -> tuple[None, Any]:
        answer = command()
        TRACE.append(f"done {self.context.name}")
        return state, answer

    def terminate(self, reason: Any, state: None) -> None:
        TRACE.append(f"term {self.context.name}")


class Sender(GenServer[None, Any, Any]):
    """Starts another and sends to it."""

    def init(self, args: Any) -> Any:
        return None, Continue(None)

    def handle_continue(self, term: Any, state: None) -> Any:
        NODES[-1].start_child("root", Worker("d", Hearer))
        return state, None, Info("d", "hello")


class Hearer(GenServer[None, Any, Any]):
    """Notes what it hears."""

    def init(self, args: Any) -> None:
        return None

    def handle_info(self, message: Any, state: None) -> tuple[None, None]:
        TRACE.append(f"{self.context.name} has {message}")
        return state, None


def test_S1_8_what_a_step_starts_runs_at_once_and_has_what_it_is_sent(world: World) -> None:
    """As behind supervisor:start_child/2: a message to it was lost when the start was put off."""
    node, until = world(Worker("a", Doer))

    def ask() -> Any:
        started = node.start_child("root", Worker("b", Doer))
        return NO_REPLY if started is None else started.incarnation

    assert node.call("a", ask) == 1
    assert TRACE == ["init a", "init b", "done a"]
    node.call("a", lambda: node.start_child("root", Worker("c", Sender)) and None)
    until(lambda: "d has hello" in TRACE)


def test_S1_8_what_is_asked_for_behind_a_stop_comes_behind_it(world: World) -> None:
    node, until = world(Worker("a", Doer), Worker("b", Doer))

    def ask() -> None:
        node.remove_child("root", "b")
        node.start_child("root", Worker("b", Doer))

    assert node.call("a", ask) is None
    until(lambda: TRACE == ["init a", "init b", "done a", "term b", "init b"])


def test_S1_8_a_step_that_has_its_own_server_stopped_ends_before_it(world: World) -> None:
    node, until = world(Worker("a", Doer))
    assert node.call("a", lambda: node.terminate_child("root", "a")) is None
    until(lambda: not node.whereis("a"))
    assert TRACE == ["init a", "done a", "term a"]


def test_S1_8_a_step_that_has_its_own_application_stopped_ends_before_it(world: World) -> None:
    node, until = world(Worker("a", Doer))
    [(name, _, _)] = node.which_applications()

    def ask() -> None:
        node.stop_application("nobody")
        node.stop_application(name)

    assert node.call("a", ask) is None
    until(lambda: not node.whereis("a"))
    assert TRACE == ["init a", "done a", "term a"]


def test_S1_8_what_a_step_asks_for_and_is_refused_ends_nothing(world: World) -> None:
    node, until = world(Worker("a", Doer))

    def ask() -> None:
        with pytest.raises(NotFound):
            node.delete_child("root", "nobody")
        node.restart("nowhere", "a")
        node.terminate_child("root", {})
        node.start_child("root", Worker("b", Doer))

    node.call("a", ask)
    until(lambda: node.whereis("b"))
    assert node.whereis("a") == 1


def test_S1_4_a_temporary_child_that_is_restarted_on_purpose_keeps_its_place(world: World) -> None:
    node, _ = world(Worker("a", Doer), Worker("t", Doer, restart="temporary"), Worker("c", Doer))
    node.restart("root", "t")
    assert [child.id for child in node.which_children("root")] == ["c", "t", "a"]
    assert node.whereis("t") == 2


class Fails(Doer):
    """Starts only the first time."""

    def init(self, args: Any) -> None:
        if f"init {self.context.name}" in TRACE:
            raise ValueError("a deliberate bug")
        super().init(args)


@pytest.mark.parametrize("made", [False, True])
def test_S1_3_one_that_does_not_come_back_from_a_restart_is_forgotten(
    world: World, made: bool
) -> None:
    sub = Supervisor("simple_one_for_one", [Worker("t", Fails)], id="sub")
    node, _ = world(sub if made else Worker("t", Fails, restart="temporary"))
    above = "sub" if made else "root"
    if made:
        node.start_child("sub", [], name="t")
    with pytest.raises(StartFailed):
        node.restart(above, "t")
    assert node.which_children(above) == []


class Begins(GenServer[list[Any], Any, Any]):
    """Its init returns what it is given; keeps what it hears."""

    def init(self, args: Any) -> Any:
        return args

    def handle_call(self, request: Any, caller: Any, state: list[Any]) -> Any:
        return state, list(state)

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return [*state, message], None

    def handle_continue(self, term: Any, state: list[Any]) -> Any:
        return [*state, term], None


def test_S2_init_gives_its_actions_one_by_one_or_as_a_list(world: World) -> None:
    actions = [Info("a", "own"), Continue("first")]
    node, until = world(Worker("a", Begins, ([], actions)), Worker("b", Begins, ([], *actions)))
    until(lambda: len(node.call("a", 0)) == 3)
    assert node.call("a", 0) == ["first", "own", "own"]


def test_S2_a_list_of_anything_else_is_part_of_the_state(world: World) -> None:
    node, _ = world(Worker("a", Begins, ([], [])), Worker("b", Begins, ([], [1, Continue(1)])))
    assert node.sys.get_state("a") == ([], [])
    assert node.sys.get_state("b") == ([], [1, Continue(1)])


def test_S2_a_waiting_input_beats_an_idle_time_of_zero_from_init(world: World) -> None:
    node, until = world(Worker("a", Begins, ([], [Info("a", "own"), IdleTimeout(0)])))
    until(lambda: node.call("a", 0))
    assert node.call("a", 0) == ["own"]
    assert TIMEOUT not in node.call("a", 0)


class Quiet(GenServer[int, Any, Any]):
    """Ends without a reply."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: Any, state: int) -> Any:
        return state, NO_REPLY, Stop(command)


@pytest.mark.parametrize("reason", [Shutdown("x"), "normal", "odd"])
def test_S2_a_stop_without_a_reply_is_told_to_the_caller(world: World, reason: object) -> None:
    node, _ = world(Worker("a", Quiet, restart="temporary"))
    with pytest.raises(PybehaveError) as caught:
        node.call("a", reason)
    assert caught.value.reason == reason  # type: ignore[attr-defined]
    assert isinstance(caught.value, Stopped) == (reason != "odd")

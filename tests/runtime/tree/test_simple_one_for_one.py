"""Families of servers on a node: names, restarts, a crowd that stops, the journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.errors import Crashed, NoProc, NotFound
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator

Start = Callable[..., Any]


class Session(GenServer[Any, Any, Any]):
    """Counts from what it was given; ends or crashes when told to."""

    def init(self, args: Any) -> Any:
        return args[0] if args else 0

    def step(self, command: Any, state: Any) -> Any:
        if command == "crash":
            raise ValueError("asked to")
        return state + command, state + command


class Slow(GenServer[Any, Any, Any]):
    """Takes a second to end."""

    def step(self, command: Any, state: Any) -> Any:
        return state, None

    def terminate(self, reason: Any, state: Any) -> Any:
        yield 1.0


def family(server: type[GenServer[Any, Any, Any]], **fields: Any) -> Application:
    template = Worker("session", server, **fields)
    inner = Supervisor("simple_one_for_one", [template], id="sessions", intensity=100)
    return Application("family", Supervisor("one_for_one", [inner]))


def test_children_answer_to_their_names_and_begin_again_with_their_arguments(start: Start) -> None:
    node = start(family(Session))
    ref = node.start_child("sessions", [5])
    node.start_child("sessions", [7], name="seven")
    assert (ref.name, node.call("session-1", 1), node.call("seven", 1)) == ("session-1", 6, 8)
    with pytest.raises(Crashed):
        node.call("seven", "crash")
    assert node.call("seven", 0) == 7
    assert node.count_children("sessions") == (1, 2, 0, 2)
    assert node.which_child("sessions", ref).id == "session-1"
    assert node.get_childspec("sessions", ref) == node.get_childspec("sessions", "session-1")
    node.terminate_child("sessions", ref)
    for look in (node.which_child, node.get_childspec):
        with pytest.raises(NotFound, match="sessions/<Server session-1"):
            look("sessions", ref)
    with pytest.raises(NoProc):
        node.call("session-1", 1)
    assert [info.id for info in node.which_children("sessions")] == ["seven"]


def test_names_that_never_come_again_are_forgotten_and_incarnations_rise(start: Start) -> None:
    node = start(family(Session))
    node.start_child("sessions", [], name="first")
    with pytest.raises(Crashed):
        node.call("first", "crash")
    node.terminate_child("sessions", "first")

    def come_and_go() -> int:
        for _ in range(5000):
            node.terminate_child("sessions", node.start_child("sessions", []).name)
        return len(node.loop.dispatcher.addresses)

    assert node.run_on_loop(come_and_go) <= 1024
    assert node.start_child("sessions", [], name="first").incarnation > 2


def test_a_thousand_slow_children_stop_within_the_time_of_one() -> None:
    with Simulator(1, family(Slow)) as world:
        for _ in range(1000):
            world.node.start_child("sessions", [])
        before = world.now
        world.node.terminate_child("root", "sessions")
        world.run_until(lambda: not world.node.names(), within=1.5)
        assert world.now - before < 1.5


def test_a_journaled_child_goes_on_where_it_was_when_its_name_is_started_again() -> None:
    disk = SimDisk()
    app = family(Session, journal=True)
    with Simulator(1, app, disk=disk) as world:
        world.node.start_child("sessions", [5], name="alice")
        assert world.node.call("alice", 2) == 7
        with pytest.raises(Crashed):
            world.node.call("alice", "crash")
        assert world.node.call("alice", 1) == 8
        world.node.terminate_child("sessions", "alice")
        world.node.start_child("sessions", [5], name="alice")
        assert world.node.call("alice", 1) == 9
    with Simulator(2, app, disk=disk) as world:
        assert world.node.names() == []
        world.node.start_child("sessions", [5], name="alice")
        assert world.node.call("alice", 1) == 10

"""One request to many servers, one message to many; on every source, with and without a journal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import NO_REPLY, Application, GenServer, GenStatem, Supervisor, Worker
from pybehave.actions import Reply, StartTimer
from pybehave.errors import CalledInCallback, Crashed, LoopClosed
from pybehave.statem import KeepState
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator

Start = Callable[..., Any]


class Lab(GenServer[list[Any], Any, Any]):
    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if command == "crash" and self.context.name == "b":
            raise ValueError("asked to")
        if command == "silence" and self.context.name == "b":
            return state, NO_REPLY
        if command == "later":
            return state, NO_REPLY, StartTimer("t", 0.02, self.context.caller)
        if callable(command):
            return state, command()
        return [*state, command], (self.context.name, command)

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return state, None, Reply(message, self.context.name)


class Machine(GenStatem):
    def init(self, args: Any) -> Any:
        return "up", []

    def up(self, kind: Any, content: Any, data: list[Any]) -> Any:
        reply = Reply(kind[1], ("machine", content)) if kind != "cast" else None
        return KeepState([*data, content], reply)


def app(*, journal: bool = False, **words: Any) -> Application:
    servers = [Worker(name, Lab, journal=journal, **words) for name in "abc"]
    return Application(
        "many", Supervisor("one_for_one", [*servers, Worker("m", Machine)], intensity=100)
    )


@pytest.mark.parametrize("journal", [False, True])
def test_replies_come_with_their_names_in_the_order_asked(
    start: Start, tmp_path: Path, journal: bool
) -> None:
    node = start(app(journal=journal), data=tmp_path if journal else None)
    replies, bad = node.multi_call(["c", "nobody", "a", "m"], "x")
    assert replies == [("c", ("c", "x")), ("a", ("a", "x")), ("m", ("machine", "x"))]
    assert bad == ["nobody"]
    refs = [Worker(name, Lab).ref for name in "ab"]
    assert node.multi_call(refs, "y", 5.0)[0] == [("a", ("a", "y")), ("b", ("b", "y"))]
    assert node.multi_call([], "x") == ([], [])


def test_who_crashes_or_is_silent_is_bad_and_the_others_are_not(start: Start) -> None:
    node = start(app())
    replies, bad = node.multi_call(["a", "b", "c"], "crash")
    assert ([name for name, _ in replies], bad) == (["a", "c"], ["b"])
    replies, bad = node.multi_call(["a", "b", "c"], "silence", 0.2)
    assert ([name for name, _ in replies], bad) == (["a", "c"], ["b"])
    while node.run_on_loop(lambda: node.loop.dispatcher.whereis("b").callers_count):
        pass  # a late reply would find nobody
    assert node.call("b", "alive") == ("b", "alive")


def test_the_servers_work_side_by_side(start: Start) -> None:
    node = start(app())
    replies, bad = node.multi_call(["a", "b", "c"], "later", 30.0)
    assert (replies, bad) == ([("a", "a"), ("b", "b"), ("c", "c")], [])


def test_abcast_reaches_all_and_never_fails(start: Start) -> None:
    node = start(app())
    heard = ["hello", "heard?"]
    node.abcast(["a", "nobody", "b", "m"], "hello")
    for name in "ab":
        assert node.call(name, "heard?") == (name, "heard?")  # after what was sent before
    assert node.sys.get_status("m").inputs == 1
    assert [node.get_state(name) for name in "abc"] == [heard, heard, []]
    assert node.sys.get_state("m") == ("up", ["hello"])
    assert node.stats()["loop"]["casts_lost"] == 1


def test_abcast_to_a_mailbox_that_refuses_is_counted(start: Start) -> None:
    node = start(app(mailbox=1, overflow="reject"))
    node.sys.suspend("a")
    for _ in range(3):
        node.abcast(["a"], "x")
    assert node.stats()["loop"]["overloaded"] == 2


def test_one_name_in_place_of_a_list_is_a_mistake_that_is_said(start: Start) -> None:
    node = start(app())
    for ask in (node.multi_call, node.abcast):
        with pytest.raises(TypeError, match=r"a list of names, not one: use \['a'\]"):
            ask("a", "x")
        with pytest.raises(TypeError, match="server"):
            ask([1], "x")
    with pytest.raises(ValueError, match="timeout=-1"):
        node.multi_call(["a"], "x", -1)


def test_within_a_callback_it_is_refused_and_the_cast_goes_out(start: Start) -> None:
    node = start(app())
    with pytest.raises(Crashed) as caught:
        node.call("a", lambda: node.multi_call(["c"], "x"))
    assert isinstance(caught.value.reason, CalledInCallback)
    node.call("a", lambda: node.abcast(["b", "c"], "x"))
    assert node.call("b", "heard?") == ("b", "heard?")
    assert node.get_state("b") == ["x", "heard?"]


def test_a_node_that_ends_meanwhile_says_so(start: Start) -> None:
    node = start(app())
    node.sys.suspend("a")
    caught: list[Any] = []

    def ask() -> None:
        caught.append(node.multi_call(["a"], "x"))

    thread = threading.Thread(target=ask)
    thread.start()
    while not node.run_on_loop(lambda: node.loop.dispatcher.whereis("a").mailbox_count):
        pass
    node.stop(drain=False)
    thread.join(10)
    assert caught == [([], ["a"])]  # its server has ended, and it was told
    with pytest.raises(LoopClosed):
        node.multi_call(["a"], "x")


@pytest.mark.parametrize("journal", [False, True])
def test_on_the_loops_own_thread_in_virtual_time(journal: bool) -> None:
    with Simulator(5, app(journal=journal), disk=SimDisk(5) if journal else None) as sim:
        assert sim.node.multi_call(["a", "x", "c"], 1) == (
            [("a", ("a", 1)), ("c", ("c", 1))],
            ["x"],
        )
        sim.node.abcast(["a", "b"], 2)
        sim.run(1.0)
        assert [sim.node.get_state(name) for name in "ab"] == [[1, 2], [2]]

"""Calls with priority: ahead of a server's mailbox, and otherwise calls like any other."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pybehave import NO_REPLY, Application, GenServer, Supervisor, Worker
from pybehave.actions import Continue, Reply
from pybehave.errors import Crashed, NoProc, Overloaded
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator


class Log(GenServer[list[Any], Any, Any]):
    """Says what it has heard before."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if command == "break":
            raise ValueError("a deliberate bug")
        if command == "look":
            return state, list(state)
        if command == "more":
            return [*state, command], None, Continue("the rest")
        if command == "later":
            return [*state, self.context.caller], NO_REPLY
        if command == "now":
            return [], None, [Reply(caller, "at last") for caller in state]
        return [*state, command], list(state)

    def handle_continue(self, term: Any, state: list[Any]) -> Any:
        return [*state, term], None


def app(*, journal: bool, **options: Any) -> Application:
    worker = Worker("log", Log, journal=journal, **options)
    return Application("t", Supervisor("one_for_one", [worker], intensity=100))


@pytest.fixture(params=[False, True], ids=["memory", "journal"])
def begin(request: Any, start: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Start one server, with a journal and without."""

    def begin(**options: Any) -> Any:
        data = tmp_path if request.param else None
        return start(app(journal=request.param, **options), data=data)

    return begin


@contextmanager
def held(node: Any) -> Iterator[None]:
    """The loop does nothing while this lasts: what is sent meanwhile waits, all of it."""
    stands, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        stands.set()
        go_on.wait()

    node.host.defer(hold)
    stands.wait()
    try:
        yield
    finally:
        go_on.set()


def urgent(node: Any, request: Any) -> Future[Any]:
    return node.send_request("log", request, priority=True)  # type: ignore[no-any-return]


def test_a_call_with_priority_goes_ahead_of_the_mailbox(begin: Callable[..., Any]) -> None:
    node = begin()
    with held(node):
        for number in range(200):
            node.cast("log", number)
        usual = node.send_request("log", "look")
        first = urgent(node, "look")
    assert first.result(10) == []
    assert usual.result(10) == list(range(200))


def test_those_with_priority_stay_in_their_order(begin: Callable[..., Any]) -> None:
    node = begin()
    with held(node):
        node.cast("log", "usual")
        found = [urgent(node, number) for number in range(5)]
    assert [each.result(10) for each in found] == [list(range(n)) for n in range(5)]
    assert node.call("log", "look") == [0, 1, 2, 3, 4, "usual"]


def test_what_an_input_has_left_to_do_is_done_first(begin: Callable[..., Any]) -> None:
    node = begin()
    with held(node):
        node.cast("log", "more")
        node.cast("log", "after")
    node.call("log", "look")
    with held(node):
        node.cast("log", "more")
        found = urgent(node, "look")
    assert found.result(10) == ["more", "the rest", "after"]


def test_a_full_mailbox_has_room_for_them(begin: Callable[..., Any]) -> None:
    node = begin(mailbox=4, overflow="reject")
    with held(node):
        usual = [node.send_request("log", number) for number in range(6)]
        found = urgent(node, "look")
    assert found.result(10) == []
    assert sum(isinstance(each.exception(10), Overloaded) for each in usual) == 2


def test_the_oldest_that_is_dropped_is_none_of_them(begin: Callable[..., Any]) -> None:
    node = begin(mailbox=2, overflow="drop_oldest")
    with held(node):
        found = urgent(node, "look")
        usual = [node.send_request("log", number) for number in range(4)]
    assert found.result(10) == []
    assert [each.exception(10) is None for each in usual] == [False, False, False, True]


def test_the_hard_limit_holds_for_them_too(begin: Callable[..., Any]) -> None:
    node = begin(mailbox=1, overflow="reject")
    with held(node):
        found = [urgent(node, number) for number in range(65)]
    assert [each.exception(10) is None for each in found] == [True] * 64 + [False]
    assert isinstance(found[-1].exception(), Overloaded)


def test_it_fails_as_calls_do(begin: Callable[..., Any]) -> None:
    node = begin()
    with pytest.raises(NoProc):
        node.call("nobody", 1, priority=True)
    with pytest.raises(Crashed):
        node.call("log", "break", priority=True)
    assert node.call("log", "look", priority=True) == []


def test_a_reply_may_come_later(begin: Callable[..., Any]) -> None:
    node = begin()
    found = urgent(node, "later")
    node.call("log", "now")
    assert found.result(10) == "at last"


def test_asyncio_code_and_the_loops_own_thread_have_it(begin: Callable[..., Any]) -> None:
    node = begin()

    async def ask() -> Any:
        return await node.acall("log", "look", priority=True)

    assert asyncio.run(ask()) == []

    def here() -> Any:
        for number in range(3):
            node.cast("log", number)
        return node.call("log", "look", priority=True), node.call("log", "look")

    assert node.run_on_loop(here) == ([], [0, 1, 2])


def test_one_that_waits_for_the_next_incarnation_is_in_time(begin: Callable[..., Any]) -> None:
    node = begin()
    with held(node):
        node.send_request("log", "break")
        found = node.send_request("log", "look", priority=True, on_restart="wait")
        broken = urgent(node, "break")
        late = node.send_request("log", "look", priority=True, on_restart="wait")
    assert found.result(10) == []
    assert isinstance(broken.exception(10), Crashed)
    assert late.result(10) == []


@pytest.mark.parametrize("seed", range(30))
def test_written_with_priority_survives_power_cuts_in_its_place(seed: int) -> None:
    """The journal has inputs in the order in which they were stepped."""
    dice, disk = random.Random(seed), SimDisk(seed)
    said: list[int] = []
    for life in range(4):
        with Simulator(seed, app(journal=True), disk=disk) as world:
            node = world.node
            assert node.get_state("log")[: len(said)] == said
            said = list(node.get_state("log"))
            for number in range(life * 100, life * 100 + dice.randrange(20)):
                if dice.random() < 0.5:
                    node.cast("log", number)
                else:
                    before = node.call("log", number, priority=True)
                    said = [*before, number]
                if dice.random() < 0.3:
                    world.run(0.1)
            disk = world.lose_power(dice)

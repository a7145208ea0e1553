"""asyncio code as a supervised child, and a node as a guest of asyncio; on every source."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from pybehave import Application, AsyncioTask, GenServer, Supervisor, Worker
from pybehave.actions import Call, Cast
from pybehave.errors import (
    Crashed,
    LoopClosed,
    NoProc,
    Overloaded,
    SpecError,
    StartFailed,
    Stopped,
)
from pybehave.runtime.events import ShutdownError
from pybehave.testing.simulate import Simulator
from tests.runtime.work import until


class Keeper(GenServer[list[Any], Any, Any]):
    """Keeps what it gets; an action is carried out."""

    def init(self, args: Any) -> list[Any]:
        if args == "fail":
            raise ValueError("a deliberate bug")
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if isinstance(command, Call | Cast):
            return state, None, command
        if command == "boom":
            raise ValueError("a deliberate bug")
        state.append(command)
        return state, len(state)

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        state.append(message)
        return state, None


async def echo(link: Any) -> None:
    """Answers; ends as it is told to."""
    async for request in link:
        match request.message:
            case "return":
                return
            case "raise":
                raise ValueError("a deliberate bug")
            case "fail":
                request.fail(KeyError("no"))
            case ("ask", command):
                try:
                    request.reply(await link.call("keeper", command))
                except (Crashed, NoProc) as error:
                    request.reply(type(error).__name__)
            case ("tell", message):
                link.cast("keeper", message)
            case message:
                await asyncio.sleep(0)
                request.reply(("echo", message))
                request.reply("the second answer is ignored")


async def note_cancel(link: Any, notes: list[str]) -> None:
    """Cleans up when it is cancelled."""
    notes.append("started")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        notes.append("cleaned up")
        raise


async def say_farewell(link: Any, started: threading.Event) -> None:
    """Tells a server when it is cancelled."""
    started.set()
    try:
        await asyncio.Event().wait()
    finally:
        link.cast("keeper", "cast")
        await link.call("keeper", "farewell")


async def fail_to_clean_up(_link: Any, started: threading.Event) -> None:
    started.set()
    try:
        await asyncio.Event().wait()
    finally:
        raise ValueError("in the cleanup")


async def deaf(_link: Any, release: threading.Event) -> None:
    """Does not take what it is sent, and does not end when it is cancelled."""
    while not release.is_set():
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            continue


def app(task: Any) -> Application:
    return Application(
        "t", Supervisor("one_for_one", [Worker("keeper", Keeper), task], intensity=100)
    )


def test_a_coroutine_is_called_and_cast_by_its_name(start: Any) -> None:
    node = start(app(AsyncioTask("task", echo)))
    assert node.call("task", 1) == ("echo", 1)
    node.cast("task", ("tell", "from asyncio"))
    until(lambda: node.get_state("keeper") == ["from asyncio"])
    with pytest.raises(KeyError):
        node.call("task", "fail")
    assert node.stats()["servers"]["task"]["beside"]["delivered"] == 3


def test_what_is_no_exception_is_refused_where_it_is_given(start: Any) -> None:
    async def fail(link: Any) -> None:
        async for request in link:
            try:
                request.fail("no exception")
            except TypeError as error:
                request.reply(str(error))

    answer = start(app(AsyncioTask("task", fail))).call("task", 1)
    assert answer.startswith("fail takes an exception, not 'no exception'")


def test_a_coroutine_calls_servers(start: Any) -> None:
    node = start(app(AsyncioTask("task", echo)))
    assert node.call("task", ("ask", "a")) == 1
    assert node.call("task", ("ask", "boom")) == "Crashed"
    assert node.get_state("keeper") == []


def test_servers_call_a_coroutine(start: Any) -> None:
    node = start(app(AsyncioTask("task", echo)))
    node.call("keeper", Call("task", "hello", tag=7))
    until(lambda: node.get_state("keeper"))
    assert node.get_state("keeper")[0].value == ("echo", "hello")
    node.call("keeper", Cast("task", ("tell", "back")))
    until(lambda: len(node.get_state("keeper")) == 2)


def test_what_a_coroutine_raises_is_a_crash_of_the_child(start: Any) -> None:
    node = start(app(AsyncioTask("task", echo)))
    with pytest.raises(Crashed) as caught:
        node.call("task", "raise")
    assert isinstance(caught.value.reason, ValueError)
    until(lambda: node.whereis("task") == 2)
    assert node.call("task", 1) == ("echo", 1)


def test_a_coroutine_that_returns_ends_normally(start: Any) -> None:
    node = start(app(AsyncioTask("task", echo, restart="transient")))
    with pytest.raises(Stopped) as caught:
        node.call("task", "return")
    assert caught.value.reason == "normal"
    assert node.whereis("task") is None


def test_a_stop_cancels_the_coroutine_and_waits_for_it(start: Any, threads: Any) -> None:
    notes: list[str] = []
    node = start(app(AsyncioTask("task", note_cancel, notes, shutdown=60.0)))
    until(lambda: notes)
    node.terminate_child("root", "task")
    assert notes == ["started", "cleaned up"]
    assert threads("pybehave-task") == 0


def test_a_cleanup_calls_servers_that_stop_later_when_the_node_stops(start: Any) -> None:
    started = threading.Event()
    events: list[Any] = []
    node = start(app(AsyncioTask("task", say_farewell, started, shutdown=60.0)))
    node.sys.trace("keeper", events.append)
    assert started.wait(60)
    node.stop()
    taken = [each.value for each in events if each.what == "in"]
    assert taken == ["cast", "farewell"]


def test_what_a_cleanup_raises_is_told(start: Any) -> None:
    started = threading.Event()
    heard: list[Any] = []
    node = start(app(AsyncioTask("task", fail_to_clean_up, started, shutdown=60.0)))
    node.events.add(lambda event: heard.append(event) if isinstance(event, ShutdownError) else 0)
    assert started.wait(60)
    node.stop()
    assert [(each.child, str(each.reason)) for each in heard] == [("task", "in the cleanup")]


@pytest.mark.parametrize("shutdown", [0.02, "brutal_kill"])
def test_a_coroutine_that_does_not_end_is_left_alone(start: Any, shutdown: Any) -> None:
    release = threading.Event()
    node = start(app(AsyncioTask("task", deaf, release, shutdown=shutdown)))
    try:
        node.terminate_child("root", "task")
        assert node.whereis("task") is None
        assert node.call("keeper", 1) == 1
    finally:
        release.set()


def test_what_waits_for_a_coroutine_is_bounded(start: Any) -> None:
    release = threading.Event()
    node = start(app(AsyncioTask("task", deaf, release, shutdown="brutal_kill", mailbox=3)))
    try:
        for index in range(4):
            node.cast("task", index)
        with pytest.raises(Overloaded):
            node.call("task", "one too many")
        assert node.stats()["servers"]["task"]["beside"]["lost"] == 2
    finally:
        release.set()


def test_what_is_sent_before_the_loop_runs_arrives(start: Any) -> None:
    node = start(app(Worker("other", Keeper)))

    def at_once() -> None:
        node.start_child("root", AsyncioTask("task", echo))
        for index in range(5):
            node.cast("task", ("tell", index))

    node.run_on_loop(at_once)
    until(lambda: node.get_state("keeper") == [0, 1, 2, 3, 4])


def test_a_loop_factory_makes_the_loop(start: Any) -> None:
    made: list[Any] = []

    def factory() -> Any:
        made.append(asyncio.new_event_loop())
        return made[-1]

    node = start(app(AsyncioTask("task", echo, loop_factory=factory)))
    assert node.call("task", 1) == ("echo", 1)
    assert len(made) == 1


@pytest.mark.parametrize(
    ("function", "options", "said"),
    [
        (len, {}, "function=.*use an `async def`"),
        (echo, {"mailbox": 0}, "mailbox=0.*use an integer"),
        (echo, {"loop_factory": 1}, "loop_factory=1.*use a function"),
    ],
)
def test_a_field_that_is_not_allowed_is_named(function: Any, options: Any, said: str) -> None:
    with pytest.raises(SpecError, match=said):
        AsyncioTask("task", function, **options)


def test_the_simulator_refuses_it_with_the_reason() -> None:
    world = Simulator(1, app(AsyncioTask("task", echo)))
    with pytest.raises(StartFailed, match="virtual time"):
        world.start()


# --- a node as a guest -----------------------------------------------------------------------


def test_a_node_is_a_guest_of_asyncio(source: str) -> None:
    async def main() -> list[int]:
        async with app(AsyncioTask("task", echo)).running(backend=source) as node:
            found = await asyncio.gather(*(node.acall("keeper", i) for i in range(50)))
            assert await node.acall("task", 1) == ("echo", 1)
        with pytest.raises(LoopClosed):
            await node.acall("keeper", 1)
        return found

    assert asyncio.run(main()) == list(range(1, 51))


def test_asyncio_goes_on_while_a_node_starts_and_stops(source: str) -> None:
    gate = threading.Event()

    class Waits(Keeper):
        def init(self, args: Any) -> Any:
            gate.wait(30)
            return []

        def terminate(self, reason: Any, state: Any) -> None:
            gate.wait(30)

    async def main() -> None:
        guest = Application("g", Supervisor("one_for_one", [Worker("w", Waits)]))
        asyncio.get_running_loop().call_soon(gate.set)
        async with guest.running(backend=source):
            gate.clear()
            asyncio.get_running_loop().call_later(0.01, gate.set)

    asyncio.run(main())
    assert gate.is_set()


def test_a_guest_that_does_not_start_says_why(source: str) -> None:
    async def main() -> None:
        failing = Application("g", Supervisor("one_for_one", [Worker("w", Keeper, "fail")]))
        async with failing.running(backend=source):
            raise AssertionError("it started")

    with pytest.raises(StartFailed):
        asyncio.run(main())


def test_a_program_cancelled_while_its_guest_starts_leaves_no_node(source: str) -> None:
    gate, inside = threading.Event(), threading.Event()
    ended: list[Any] = []

    class Waits(Keeper):
        def init(self, args: Any) -> Any:
            inside.set()
            gate.wait(30)
            return []

        def terminate(self, reason: Any, state: Any) -> None:
            ended.append(reason)

    async def guest() -> None:
        application = Application("g", Supervisor("one_for_one", [Worker("w", Waits)]))
        async with application.running(backend=source):
            raise AssertionError("it was cancelled")

    async def main() -> None:
        task = asyncio.create_task(guest())
        while not inside.is_set():
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert ended == ["shutdown"]


def test_an_error_of_the_block_is_the_programs(source: str) -> None:
    async def main() -> None:
        async with app(AsyncioTask("task", echo)).running(backend=source):
            raise KeyError("mine")

    with pytest.raises(KeyError):
        asyncio.run(main())

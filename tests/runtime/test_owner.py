"""What whoever started a node hears of its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, TerminateTree, Worker
from pybehave.actions import Stop
from pybehave.errors import ApplicationEnded, LoopClosed, PybehaveError
from pybehave.runtime.node import Node
from pybehave.testing.simulate import Simulator


class Fragile(GenServer[None, Any, Any]):
    def step(self, command: Any, state: None) -> Any:
        if command == "boom":
            raise ValueError("a deliberate bug")
        if command == "order":
            raise TerminateTree("nothing helps")
        if command == "end":
            return state, "ended", [Stop("normal")]
        return state, command


def app(*, depth: int = 1, intensity: int = 0, **worker: Any) -> Application:
    tree = Supervisor("one_for_one", [Worker("f", Fragile, **worker)], intensity=intensity)
    for _ in range(depth - 1):
        tree = Supervisor("one_for_one", [tree], intensity=intensity)
    return Application("t", tree)


def ask(node: Node, command: str) -> None:
    with pytest.raises(PybehaveError):
        node.call("f", command)


@pytest.mark.parametrize("depth", [1, 3])
def test_leaving_the_block_of_a_node_whose_tree_gave_up_raises_why(
    start: Callable[..., Any], depth: int, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ApplicationEnded, match=r"'t'.*ValueError: a deliberate bug") as caught:
        with start(app(depth=depth), data=None) as node:
            ask(node, "boom")
            node._thread.join(20)
    assert isinstance(caught.value.__cause__, ValueError)
    assert node.exit_status == 1
    logged = [each.getMessage() for each in caplog.records if each.levelname == "CRITICAL"]
    assert logged == [str(caught.value)]


def test_an_order_to_end_is_the_cause(start: Callable[..., Any]) -> None:
    with pytest.raises(ApplicationEnded, match="a server ordered it") as caught:
        with start(app(), data=None) as node:
            ask(node, "order")
            node._thread.join(20)
    assert isinstance(caught.value.__cause__, TerminateTree)


def test_what_the_block_raises_stands_and_has_a_note_of_it(start: Callable[..., Any]) -> None:
    with pytest.raises(KeyError) as caught:
        with start(app(), data=None) as node:
            ask(node, "boom")
            node._thread.join(20)
            raise KeyError("the block's own")
    (note,) = caught.value.__notes__
    assert note.startswith("Before that, the node had ended: ApplicationEnded: ")


def test_who_asks_a_node_that_gave_up_is_told_why(start: Callable[..., Any]) -> None:
    node = start(app(), data=None)
    ask(node, "boom")
    node._thread.join(20)
    with pytest.raises(LoopClosed, match=r"has stopped .*a deliberate bug") as caught:
        node.call("f", "hello")
    assert isinstance(caught.value.__cause__, ApplicationEnded)
    assert node.stop() == 1


def test_an_end_that_was_meant_raises_nothing(start: Callable[..., Any]) -> None:
    worker = Worker("f", Fragile, restart="transient", significant=True)
    tree = Supervisor("one_for_one", [worker], auto_shutdown="any_significant")
    with start(Application("t", tree), data=None) as node:
        assert node.call("f", "end") == "ended"
        node._thread.join(20)
    assert node.exit_status == 0


def test_a_policy_of_stop_is_heard_of(start: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ApplicationEnded, match="its policy is to stop") as caught:
        with start(app(journal=True, recovery="stop"), data=tmp_path / "d") as node:
            ask(node, "boom")
            node._thread.join(20)
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_guest_of_an_asyncio_program_raises_it_too(source: str) -> None:
    async def main() -> None:
        async with app().running(backend=source, data=None) as node:
            with pytest.raises(PybehaveError):
                await node.acall("f", "boom")

    with pytest.raises(ApplicationEnded):
        asyncio.run(main())


def test_in_the_simulator_the_node_keeps_it() -> None:
    world = Simulator(1, app()).start()
    world.node.cast("f", "boom")
    world.run(1)
    assert world.node.exit_status == 1
    assert isinstance(world.node.failure, ApplicationEnded)
    world.stop()


@pytest.mark.parametrize("is_left", [True, False], ids=["left", "stopped"])
def test_a_node_that_has_stopped_is_not_entered_again(
    start: Callable[..., Any], is_left: bool
) -> None:
    node = start(app(), data=None)
    if is_left:
        with node:
            assert node.call("f", "hello") == "hello"
    else:
        node.stop()
    with pytest.raises(LoopClosed, match="a node runs once"):
        node.__enter__()
    with pytest.raises(LoopClosed, match="a node runs once"):
        node.start()


@pytest.mark.parametrize("begin", [Node.start, Node.run, Node.boot])
@pytest.mark.parametrize("is_driven", [False, True], ids=["thread", "driven"])
def test_a_node_that_is_begun_twice_serves_on(
    begin: Callable[[Node], Any], is_driven: bool, source: str
) -> None:
    """The second start could not be, and shut the node down: in the wrong thread, while it ran."""
    node = Node(app(), backend=source, data=None)
    if is_driven:
        node.boot()
    else:
        node.start()
    with pytest.raises(LoopClosed, match="runs already"):
        begin(node)
    assert node.call("f", "hello") == "hello"
    assert node.stop() == 0


def test_a_node_that_runs_is_not_started_again(start: Callable[..., Any]) -> None:
    node = start(app(), data=None)
    with pytest.raises(LoopClosed, match="runs already"):
        node.start()
    assert node.call("f", "hello") == "hello"


class Broken(Exception):
    """Nothing that the loop expects."""


def broken(node: Node) -> None:
    """Let the loop itself fail: what an alarm of the runtime raises is nobody's crash."""

    def fail() -> None:
        raise Broken("of the loop")

    node.loop.dispatcher.start_alarm(0.0, fail)


def test_a_loop_that_fails_on_its_thread_says_where_and_stops_the_tree(
    start: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(Broken, match="of the loop"):
        with start(app(), data=None) as node:
            node.run_on_loop(lambda: broken(node))
            node._thread.join(20)
    assert "the loop of 't' failed" in caplog.text
    assert "in fail" in caplog.text, "the traceback"
    assert node.exit_status == 1


def test_so_does_one_that_runs_on_the_callers_thread(
    source: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it held is free again: the journal's folder, for the next node."""
    journaled = app(journal=True)
    node = Node(journaled, backend=source, data=tmp_path / "data")
    with pytest.raises(Broken, match="of the loop"):
        node.run(on_ready=broken)
    assert "the loop of 't' failed" in caplog.text
    assert "in fail" in caplog.text, "the traceback"
    assert node.exit_status == 1
    assert isinstance(node.failure, Broken)
    with journaled.start(backend=source, data=tmp_path / "data") as again:
        assert again.call("f", "x") == "x"

"""Who has not ended, and where: yielding and blocked terminates, over the whole tree."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pybehave import Application, Backoff, GenServer, Supervisor, TerminateTree, Worker
from pybehave.actions import Stop
from pybehave.errors import Crashed, Timeout
from pybehave.runtime.node import Node
from pybehave.testing.simulate import Simulator


class Slow(GenServer[Any, Any, Any]):
    """Takes a minute to end, in two places."""

    def step(self, command: Any, state: Any) -> Any:
        if command == "end":
            return state, "ended", Stop(TerminateTree("the link is gone"))
        if command == "crash":
            raise ValueError("asked to")
        return state, state

    def terminate(self, reason: Any, state: Any) -> Iterator[float]:
        yield from self.wait_for_the_pump()

    def wait_for_the_pump(self) -> Iterator[float]:
        yield 60.0


class Blocking(GenServer[Any, Any, Any]):
    """Its terminate holds the loop up until it is let go."""

    def init(self, args: Any) -> Any:
        return args

    def step(self, command: Any, state: Any) -> Any:
        return state, None

    def terminate(self, reason: Any, gate: threading.Event) -> None:
        gate.wait()


def nested(worker: Worker[Any, Any, Any]) -> Application:
    inner = Supervisor("one_for_one", [worker], id="inner")
    return Application("late", Supervisor("one_for_one", [inner]))


def test_the_report_names_the_path_and_the_innermost_yield() -> None:
    with Simulator(1, nested(Worker("pump", Slow, shutdown="infinity"))) as world:
        world.node.terminate_child("root", "inner")
        (late,) = world.node.unstopped()
        assert (late.path, late.name, late.is_blocking) == ("root/inner/pump", "pump", False)
        assert late.stack.splitlines()[-1].strip() == "yield 60.0"
        assert "in wait_for_the_pump" in late.stack
        world.run_until(lambda: not world.node.unstopped(), within=61)


def test_a_terminate_that_blocks_the_loop_is_found_from_another_thread(
    start: Callable[..., Node], caplog: pytest.LogCaptureFixture
) -> None:
    gate = threading.Event()
    node = start(nested(Worker("pump", Blocking, gate)))
    with pytest.raises(Timeout, match=r"^The supervisor did not reply within"):
        node.terminate_child("inner", "pump", timeout=0.01)
    with pytest.raises(Timeout, match=r"^The loop did not reply within"):
        node.run_on_loop(node.names, timeout=0.01)
    (late,) = node.unstopped()
    assert (late.path, late.is_blocking) == ("root/inner/pump", True)
    assert "gate.wait()" in late.stack
    gate.set()
    node.terminate_child("inner", "pump")
    assert node.unstopped() == []


def test_a_removal_that_takes_too_long_goes_on_behind(start: Callable[..., Node]) -> None:
    gate = threading.Event()
    node = start(nested(Worker("pump", Blocking, gate)))
    with pytest.raises(Timeout):
        node.remove_child("inner", "pump", timeout=0.01)
    gate.set()
    assert node.which_children("inner") == []


def test_an_order_to_end_the_tree_ends_the_node_with_status_1() -> None:
    app = nested(Worker("pump", Slow, shutdown=1.0, restart="transient"))
    with Simulator(1, app) as world:
        assert world.node.call("pump", "end") == "ended"
        world.run(61)
        assert world.node.tree.ended_because == "terminate"
    assert world.node.exit_status == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_pause_on_virtual_time_ends_with_everybody_back(seed: int) -> None:
    workers = [Worker(f"w{n}", Quick, backoff=Backoff(0.5, 4) if n % 2 else None) for n in range(6)]
    tree = Supervisor("one_for_one", workers, intensity=2, decay=5, backoff=Backoff(3, 30))
    with Simulator(seed, Application("storm", tree)) as world:
        for number in range(12):
            name = f"w{(seed + number) % 6}"
            if name in world.node.names():
                with pytest.raises(Crashed):
                    world.node.call(name, "crash")
            world.run(0.3)
        world.run(60)
        assert sorted(world.node.names()) == [f"w{n}" for n in range(6)]


class Quick(Slow):
    """Ends at once."""

    def terminate(self, reason: Any, state: Any) -> Any:
        return None

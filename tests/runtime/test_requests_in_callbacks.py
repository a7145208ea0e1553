"""Servers that add, stop, restart and remove each other from their own callbacks, on a node.

Whatever they ask for, and whenever: the loop goes on, what was asked is carried out or refused, and
the tree says the same of the servers as the registry does.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pybehave import Application, Backoff, GenServer, Supervisor, Worker, family
from pybehave.errors import PybehaveError
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import until
from tests.processes import run

ROUNDS = 60
NAMES = [f"w{n}" for n in range(6)]
SUPERVISORS = ("one", "all", "rest", "family")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Hundreds of crashes and refusals are wanted here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


class World:
    """What all servers of a run share: the node, a die, and what has become of whom."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.node: Any = None
        self.lives: Counter[str] = Counter()
        self.is_calm = True

    def meddle(self) -> None:
        """Ask for something at random, as code in a callback may."""
        pick, node = self.random, self.node
        if node is None or self.is_calm or pick.random() < 0.6:
            return
        supervisor, name = pick.choice(SUPERVISORS), pick.choice(NAMES)
        spec: Any = [self] if supervisor == "family" else Worker(name, Meddler, [self])
        requests = (
            lambda: node.start_child(supervisor, spec),
            lambda: node.terminate_child(supervisor, name),
            lambda: node.restart_child(supervisor, name),
            lambda: node.delete_child(supervisor, name),
            lambda: node.remove_child(supervisor, name),
            lambda: node.which_children(supervisor),
            lambda: node.terminate_child("root", supervisor),
            lambda: node.restart_child("root", supervisor),
        )
        try:
            pick.choices(requests, (6, 3, 3, 1, 1, 1, 1, 3))[0]()
        except PybehaveError:
            return  # refused, in one sentence


class Meddler(GenServer[Any, str, None]):
    """Meddles in every callback; may fail in each of them; ends at once or after a while."""

    def init(self, args: list[World]) -> World:
        world = args[0]
        world.meddle()
        if not world.is_calm and world.random.random() < 0.1:
            raise RuntimeError("init")
        world.lives[self.context.name] += 1
        return world

    def step(self, command: str, state: World) -> Any:
        state.meddle()
        if command == "crash":
            raise RuntimeError("step")
        return state, None

    def terminate(self, reason: Any, state: World) -> Any:
        state.meddle()
        if state.random.random() < 0.3:
            return self.slowly(state)
        state.lives[self.context.name] -= 1
        return None

    def slowly(self, state: World) -> Iterator[float]:
        yield 0.01
        state.meddle()
        state.lives[self.context.name] -= 1


def app_of(world: World, *, journal: bool) -> Application:
    fields: dict[str, Any] = {"intensity": 20, "backoff": Backoff(0.2, 2)}
    one, two, three, four, five, six = (
        Worker(name, Meddler, [world], shutdown="infinity") for name in NAMES
    )
    template = Worker("s", Meddler, backoff=Backoff(0.05, 0.1))
    groups = [
        Supervisor("one_for_one", [one, two], id="one", **fields),
        Supervisor("one_for_all", [three, four], id="all", **fields),
        Supervisor("rest_for_one", [five, six], id="rest", **fields),
        Supervisor("simple_one_for_one", [template], id="family", **fields),
    ]
    kept = [Worker("kept", Kept, journal=True)] if journal else []
    return Application("meddlers", Supervisor("one_for_one", [*groups, *kept], **fields))


class Kept(GenServer[int, int, int]):
    """Counts, in the journal, while all that goes on."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: int, state: int) -> tuple[int, int]:
        return state + command, state + command


NODES: list[Any] = []
TEMPLATE = Supervisor("simple_one_for_one", [Worker("m", Kept, journal=True)], id="made")
NESTED = Supervisor("one_for_one", [Worker("n", Kept, journal=True)], id="nested")
OTHER = Application("other", Supervisor("one_for_one", [Worker("n", Kept, journal=True)]))
BEHIND = Application("behind", Supervisor("one_for_one", []), depends=[OTHER])
STARTS: dict[str, Callable[[Any], Any]] = {
    "n": lambda node: node.start_child("root", Worker("n", Kept, journal=True)),
    "nested": lambda node: node.start_child("root", NESTED),
    "made": lambda node: node.start_child("made", [], name="n"),
    "again": lambda node: node.restart_child("root", "idle"),
    "deep": lambda node: node.start_child("root", Worker("founder", Founder)),
    "plain": lambda node: node.start_child("root", Worker("n", Kept)),
    "application": lambda node: node.start_application(BEHIND) or None,
    "woken": lambda node: node.cast("member-1", 0),
}


class Founder(GenServer[int, str, Any]):
    """Starts others from its steps, and one from its init if there is no journal."""

    def init(self, args: Any) -> int:
        if args != "journaled":
            NODES[-1].start_child("root", Worker("n", Kept, journal=True))
        return 0

    def step(self, command: str, state: int) -> Any:
        return state + 1, STARTS[command](NODES[-1]) is None


@pytest.mark.parametrize(
    ("command", "is_put_off"),
    [("n", True), ("nested", True), ("made", True), ("again", True), ("deep", False),
     ("plain", False), ("woken", True), ("application", True)],
)  # fmt: skip
def test_a_journaled_step_starts_a_journaled_child_when_it_is_over(
    start: Callable[..., Any], tmp_path: Path, command: str, is_put_off: bool
) -> None:
    """Its start is a record, and that of the step is being made: the process ended by it."""
    idle = Worker("idle", Kept, journal=True)
    members = family("member-*", Kept, journal=True)
    children = [Worker("a", Founder, "journaled", journal=True), idle, TEMPLATE, members]
    node = start(Application("t", Supervisor("one_for_one", children)), data=tmp_path)
    NODES.append(node)
    node.terminate_child("root", "idle")
    assert node.call("a", command) is is_put_off
    name = {"again": "idle", "woken": "member-1"}.get(command, "n")
    until(node, lambda: node.whereis(name))
    assert [node.call(name, 2), node.call(name, 3)] == [2, 5]
    assert node.get_state("a") == 1
    node.stop()
    assert run("journal", "verify", str(tmp_path)).returncode == 0


@pytest.mark.parametrize("journal", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_meddling_leaves_a_tree_that_agrees_with_the_registry(seed: int, journal: bool) -> None:
    world = World(seed)
    disk = SimDisk() if journal else None
    with Simulator(seed, app_of(world, journal=journal), disk=disk) as simulator:
        node = world.node = simulator.node
        world.is_calm = False
        for _ in range(ROUNDS):
            names = [name for name in node.names() if name != "kept"]
            if names:
                node.cast(world.random.choice(names), world.random.choice(("crash", "go")))
            if journal:
                node.call("kept", 1)
            simulator.run(world.random.choice((0.0, 0.005, 0.1)))
        world.is_calm = True
        simulator.run(30)
        running = {
            info.ref.name
            for tree in node.tree.supervisors.values()
            for info in node.which_children(tree.path)
            if info.status == "running" and info.type == "worker"
        }
        assert running == set(node.names())
        assert not node.unstopped()
        assert {name for name, count in world.lives.items() if count} == running - {"kept"}
        assert not any(node.tree.supervisor(s).inbox for s in node.tree.supervisors)
        if journal:
            assert node.call("kept", 0) == ROUNDS
    assert simulator.node.exit_status == 0
    assert not any(world.lives.values())


class Hears(GenServer[list[Any], Any, Any]):
    """Keeps what it hears, and from which side."""

    def init(self, args: Any) -> list[Any]:
        return []

    def handle_call(self, request: Any, caller: Any, state: list[Any]) -> Any:
        return [*state, ("call", request)], "heard"

    def handle_cast(self, message: Any, state: list[Any]) -> Any:
        return [*state, ("cast", message)], None

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return [*state, ("info", message)], None


@pytest.mark.parametrize("journal", [False, True])
def test_what_one_thread_sends_arrives_in_its_order(
    start: Callable[..., Any], tmp_path: Path, journal: bool
) -> None:
    """On the loop's thread, too: a request came behind what was cast after it."""
    worker = Worker("a", Hears, journal=journal)
    app = Application("t", Supervisor("one_for_one", [worker]))
    node = start(app, data=tmp_path if journal else None)

    def send() -> Any:
        future = node.send_request("a", 1)
        node.cast("a", 2)
        node.info("a", 3)
        node.abcast(["a"], 4)
        return future, node.send_request("a", 5)

    wanted: list[Any] = [("call", 1), ("cast", 2), ("info", 3), ("cast", 4), ("call", 5)]
    for sent in (node.run_on_loop(send), send()):
        assert [future.result(10) for future in sent] == ["heard", "heard"]
    assert node.get_state("a") == wanted * 2


FORKS = """
import os, sys
from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.errors import LoopForked

class Silent(GenServer):
    def init(self, args):
        return 0

app = Application("t", Supervisor("one_for_one", [Worker("a", Silent)]))

def fork():
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    heard = 0
    for send in (node.send_request, node.cast, node.info):
        try:
            send("a", 1)
        except LoopForked:
            heard += 1
    os._exit(heard)

with app.start(backend=sys.argv[1]) as node:
    print(os.waitstatus_to_exitcode(node.run_on_loop(fork)))
"""


def test_what_a_forked_child_sends_is_refused(source: str) -> None:
    """It is on the same thread, and the loop is its parent's."""
    command = [sys.executable, "-c", FORKS, source]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert found.stdout == "3\n"

"""Servers that add, stop, restart and remove each other from their own callbacks, on a node.

Whatever they ask for, and whenever: the loop goes on, what was asked is carried out or refused, and
the tree says the same of the servers as the registry does.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from pybehave import Application, Backoff, GenServer, Supervisor, Worker
from pybehave.errors import PybehaveError
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator

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

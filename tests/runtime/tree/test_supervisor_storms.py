"""Supervisors under load: restarts that fail, too many clients, SIGTERM in the middle.

On sockets with each source and on the simulator, by the same clients (worlds.py). While a group of
servers restarts, those outside it answer as if nothing were the matter.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave._uring.loop import Loop
from pybehave.errors import SourceUnavailable
from pybehave.protocols import Lines
from pybehave.testing.simulate import Simulator
from tests.conftest import SOURCES
from tests.processes import serving
from tests.runtime.worlds import SimulatedWorld, SocketWorld, Talker, World

ROUNDS = 24
CLIENTS = 12
CONNECTIONS_MAX = 10
ANSWERS = 200
"""So many everybody has had before SIGTERM: the load has come to its height."""

CRASHES = 2000
"""More than fit before that; fewer than the intensity of the groups that survive."""

FRONT, BEHIND, LIMITED = 0, 1, 2
URLS = ("tcp://127.0.0.1:7001", "tcp://127.0.0.1:7002", "tcp://127.0.0.1:7003")
ANY_PORTS = ("tcp://127.0.0.1:0",) * len(URLS)

Open = Callable[[Application], World]


class Script:
    """What the group is to do, and what it did: shared by its servers and the test."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.trace: list[tuple[str, str]] = []

    def begin(self, name: str) -> None:
        """An init: it fails as often as was asked."""
        if self.failures[name] > 0:
            self.failures[name] -= 1
            self.trace.append((name, "fail"))
            raise RuntimeError(f"init of {name} fails")
        self.trace.append((name, "init"))

    def lives(self, name: str) -> list[str]:
        """What became of one server, without the starts that failed."""
        return [what for who, what in self.trace if who == name and what != "fail"]


class Member(GenServer[tuple[str, Script], bytes, bytes]):
    """Echoes; crashes when told to; its init fails when the script says so."""

    def init(self, args: Any) -> tuple[str, Script]:
        name, script = args
        script.begin(name)
        return name, script

    def step(self, command: bytes, state: Any) -> Any:
        if command == b"crash":
            raise RuntimeError("asked to")
        return state, command

    def terminate(self, reason: object, state: tuple[str, Script]) -> None:
        name, script = state
        script.trace.append((name, "term"))


def storm_app(strategy: Any, intensity: int, script: Script) -> Application:
    """Front, and beside it a group of three."""
    group = Supervisor(
        strategy,
        [Worker(name, Member, (name, script)) for name in ("a", "b", "c")],
        intensity=intensity,
        period=3600,
    )
    front = Worker("front", Member, ("front", Script()))
    return Application(
        "storm",
        Supervisor("one_for_one", [front, group], intensity=10_000),
        listeners=[
            Listener(URLS[FRONT], Lines(), to="front"),
            Listener(URLS[BEHIND], Lines(), to="b"),
            Listener(URLS[LIMITED], Lines(), to="front", connections_max=CONNECTIONS_MAX),
        ],
    )


app = storm_app("one_for_all", 10_000, Script())
"""For the process of the last test."""


@pytest.fixture(params=[*SOURCES, "sim"])
def backend(request: pytest.FixtureRequest) -> str:
    """Every completion source."""
    name: str = request.param
    try:
        Loop(name).close()
    except SourceUnavailable as error:
        pytest.skip(f"{name}: {error.reason}")
    return name


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Hundreds of crashes are wanted here; their tracebacks in the log are not."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def world_of(backend: str) -> Iterator[Open]:
    """Run an application, in this process; it is stopped at the end."""
    with ExitStack() as stack:

        def begin(application: Application) -> World:
            world: World
            if backend == "sim":
                world = SimulatedWorld(Simulator(1, application).start())
            else:
                node = application.start(backend=backend, listen=ANY_PORTS)
                world = SocketWorld([int(url.rpartition(":")[2]) for url in node.urls], node)
            stack.callback(world.close)
            return world

        yield begin


@pytest.fixture
def served(backend: str) -> Iterator[World]:
    """`app` in a process of its own, where there are processes."""
    if backend == "sim":
        world = SimulatedWorld(Simulator(1, app).start())
        yield world
        world.close()
        return
    words = [word for url in ANY_PORTS for word in ("--listen", url)]
    with serving(f"{__name__}:app", backend, "--log-level", "critical", *words) as server:
        ports = [int(line.split()[0].rpartition(":")[2]) for line in server.lines if "->" in line]
        sockets = SocketWorld(ports, process=server.process)
        yield sockets
        sockets.close()


def crowd(world: World, listener: int, count: int, **options: Any) -> list[Talker]:
    """So many clients that talk without end."""
    talkers = [Talker(f"{listener}-{number}", **options) for number in range(count)]
    for talker in talkers:
        world.connect(listener, talker)
    return talkers


def said(talkers: list[Talker]) -> str:
    answered, errors = (sum(getattr(t, what) for t in talkers) for what in ("answered", "errors"))
    return f"{answered} answers ({errors} errors)"


def has_all(world: World) -> bool:
    return {"front", "a", "b", "c"} <= set(world.node.names())


def storm(world: World, script: Script, crash: str) -> None:
    """Crashes one after the other, after which up to five inits fail."""
    for number in range(ROUNDS):
        script.failures.update(b=number % 4, c=number % 3)
        ends = script.trace.count((crash, "term"))
        world.node.cast(crash, b"crash")
        world.until(
            lambda before=ends: (
                script.trace.count((crash, "term")) > before
                and not +script.failures
                and has_all(world)
            )
        )


def groups_started(world: World) -> int:
    """How often the group's supervisor was started, as its own supervisor counts it."""
    (group,) = (child for child in world.node.which_children("root") if child.id != "front")
    return 1 + int(group.restarts)


def settle(world: World, talkers: list[Talker]) -> None:
    """Let every client hear the last of its answers."""
    for talker in talkers:
        talker.finish()
    world.until(lambda: not any(talker.asked for talker in talkers))
    assert not any(talker.rest or talker.is_ended for talker in talkers)


# A group of intensity 2 gives up when three restarts in a row fail: then its supervisor's
# supervisor starts it anew, and that start may fail as well.
@pytest.mark.parametrize("intensity", [10_000, 2], ids=["group survives", "group gives up"])
@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_inits_that_fail_while_a_group_restarts_disturb_nobody_else(
    world_of: Open, strategy: str, intensity: int
) -> None:
    script = Script()
    world = world_of(storm_app(strategy, intensity, script))
    front = crowd(world, FRONT, CLIENTS)
    behind = crowd(world, BEHIND, CLIENTS, may_fail=True)
    storm(world, script, "a")
    settle(world, front + behind)
    for name in ("a", "b", "c"):
        lives = script.lives(name)
        assert lives == ["init", "term"] * (len(lives) // 2) + ["init"], f"{name} lived twice"
    assert (groups_started(world) > 1) == (intensity < ROUNDS)
    fails = Counter(name for name, what in script.trace if what == "fail")
    expected = {"b": sum(n % 4 for n in range(ROUNDS)), "c": sum(n % 3 for n in range(ROUNDS))}
    assert fails == expected
    assert sum(talker.answered for talker in front) == sum(talker.count for talker in front) > 0
    print(f"\n{said(front)} in front, {said(behind)} behind, {len(script.trace)} starts and ends")


def test_too_many_clients_are_told_so_and_the_others_go_on(world_of: Open) -> None:
    world = world_of(storm_app("one_for_all", 10_000, Script()))
    inside = crowd(world, LIMITED, CONNECTIONS_MAX)
    world.until(lambda: all(talker.answered for talker in inside))
    refused = 0
    for _ in range(ROUNDS):
        outside = crowd(world, LIMITED, CONNECTIONS_MAX, lines=1, may_fail=True)
        world.until(lambda those=outside: all(talker.is_ended for talker in those))
        assert [(t.answered, t.errors, t.rest) for t in outside] == [(1, 1, b"")] * len(outside)
        refused += len(outside)
        world.until(lambda: world.node.loop.connections_open == CONNECTIONS_MAX)
    before = [talker.answered for talker in inside]
    world.until(lambda: all(t.answered > b for t, b in zip(inside, before, strict=True)))
    stats = world.node.stats()
    assert stats["loop"]["refused"] == stats["connections"]["ended"]["connections_max"] == refused
    settle(world, inside)


def test_sigterm_under_load_leaves_no_half_answer_and_no_wrong_one(served: World) -> None:
    front = crowd(served, FRONT, 2 * CLIENTS)
    behind = crowd(served, BEHIND, CLIENTS, may_fail=True)
    saboteurs = crowd(served, BEHIND, 1, may_fail=True, lines=CRASHES, text=b"crash")
    served.until(lambda: all(talker.answered > ANSWERS for talker in front + behind))
    assert served.terminate() == 0
    everybody = front + behind + saboteurs
    assert [talker.rest for talker in everybody] == [b""] * len(everybody)
    assert saboteurs[0].errors == saboteurs[0].answered > 0
    print(f"\n{said(front)} in front, {said(behind)} behind, {said(saboteurs)} of the saboteur")

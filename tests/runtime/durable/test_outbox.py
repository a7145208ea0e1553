"""Messages between journaled servers: part of the input that sent them, and delivered once."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker, actions
from pybehave.errors import Crashed
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.power.machine import wait_for

TCP = "tcp://127.0.0.1:7000"


class Stage(GenServer[list[Any], Any, Any]):
    """Keeps what it gets, and passes it on to the next stage; "boom" crashes the last one."""

    def init(self, args: Any) -> Any:
        self.following = args
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if command == b"?":
            return state, b"%d" % len(state)
        state.append(command)
        if command == b"boom" and self.following is None:
            raise ValueError("a deliberate bug")
        sent = [] if self.following is None else [actions.Cast(self.following, command)]
        if self.following is not None and command.startswith(b"twice"):
            sent.append(actions.Info(self.following, command + b" again"))
        return state, b"taken", sent

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        state.append(message)
        return state, None


def chain(**options: Any) -> Application:
    names = ["a", "b", "c"]
    workers = [
        Worker(name, Stage, following, journal=True)
        for name, following in zip(names, [*names[1:], None], strict=True)
    ]
    return Application("t", Supervisor("one_for_one", workers, intensity=1000, period=1), **options)


def expected(sent: list[Any]) -> list[Any]:
    """What a stage has of what the one before it sent."""
    return [each for line in sent for each in (
        (line, line + b" again") if line.startswith(b"twice") else (line,)
    )]  # fmt: skip


class Cuts:
    """One seed: lives of a chain of three servers, ended by power cuts."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.disk = SimDisk(seed)
        self.number = 0

    def run(self) -> None:
        for _ in range(5):
            world = self.life()
            self.disk = world.lose_power(self.dice)
        world = self.life(shake=False)
        world.run(2.0)
        states = {name: world.node.get_state(name) for name in "abc"}
        assert states["b"] == expected(states["a"])
        assert states["c"] == [line for line in expected(states["a"]) if line != b"boom"]
        assert dict(world.node.loop.dispatcher.outbox) == {}
        world.stop()

    def life(self, *, shake: bool = True) -> Simulator:
        app = chain(listeners=[Listener(TCP, Lines(), to="a")])
        world = Simulator(
            self.dice.getrandbits(32),
            app,
            disk=self.disk,
            journal_options=Options(segment_bytes=64 << 10),
            shake=shake,
        ).start()
        world.node.journal.snapshots.records = self.dice.choice((4, 1000))
        world.network.set(disk_ns_max=self.dice.choice((250_000, 20_000_000)))
        clients = [world.connect(TCP) for _ in range(2)]
        for _ in range(self.dice.randrange(1, 15)):
            self.number += 1
            verb = self.dice.choice((b"once", b"once", b"twice", b"boom"))
            line = b"boom" if verb == b"boom" else b"%s %d" % (verb, self.number)
            self.dice.choice(clients).send(line + b"\n")
            world.run(self.dice.random() * 0.02)
        return world


@pytest.mark.parametrize("seed", range(80))
def test_what_one_server_sent_another_gets_once_through_power_cuts(seed: int) -> None:
    Cuts(seed).run()


def test_a_message_to_a_server_that_is_just_restarted_waits_for_it(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(chain(), data=tmp_path / "data")

    def burst() -> None:
        for line in (b"one", b"boom", b"two", b"three"):
            node.cast("a", line)

    def have_arrived() -> bool:
        with contextlib.suppress(Crashed):  # it may stand behind the one that does
            return bool(node.call("c", b"?") == b"3")
        return False

    node.run_on_loop(burst)
    wait_for(have_arrived, "all but the one that crashed arrive")
    assert node.get_state("c") == [b"one", b"two", b"three"]
    node.stop()
    node = start(chain(), data=tmp_path / "data")
    assert node.get_state("c") == [b"one", b"two", b"three"]
    assert dict(node.loop.dispatcher.outbox) == {}


class Flood(GenServer[int, Any, Any]):
    """Sends very much to one that does not run."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: int, state: int) -> Any:
        return state + 1, state, [actions.Cast("gone", number) for number in range(command)]


def test_what_waits_for_a_server_that_does_not_run_is_bounded(tmp_path: Path) -> None:
    """No completion source has a part in this."""
    workers = [Worker("flood", Flood, journal=True), Worker("gone", Stage, journal=True)]
    app = Application("t", Supervisor("one_for_one", workers))
    with app.start(data=tmp_path / "data", backend="epoll") as node:
        node.terminate_child("root", "gone")
        for _ in range(7):
            node.call("flood", 10_000, timeout=60)
        assert node.stats()["loop"]["casts_lost"] == 7 * 10_000 - 65536
        assert len(node.loop.dispatcher.outbox) == 65536

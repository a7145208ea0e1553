"""What a server that ended was not continued with, no replay continues it with (Y8, replay.pyx)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.actions import Cast, Continue, Link, Stop
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines, Protocol
from pybehave.runtime.durable.history import History
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator

SMALL = Options(segment_bytes=64 << 10)

ENDS: dict[str, list[Any]] = {
    "a link, then it": [Link("nobody"), Continue("more")],
    "it, then a link": [Continue("more"), Link("nobody")],
    "a link behind the first": [Continue("link"), Continue("more")],
    "a stop": [Continue("more"), Stop("shutdown")],
    "nothing": [Continue("more"), Continue("still more")],
}


class GoesOn(GenServer[list[Any], Any, Any]):
    def init(self, args: Any) -> Any:
        return [], [Continue("begun")]

    def step(self, command: Any, state: list[Any]) -> Any:
        return [*state, command], len(state), ENDS.get(command)

    def handle_continue(self, term: Any, state: list[Any]) -> Any:
        return [*state, term], None, [Link("nobody")] if term == "link" else None


class Text(Protocol):
    framing = Lines()

    def decode(self, message: bytes) -> str:
        return message.decode()

    def encode(self, output: int) -> bytes:
        return str(output).encode()


def application(url: str) -> Application:
    tree = Supervisor("one_for_one", [Worker("s", GoesOn, journal=True)], id="root", intensity=9)
    return Application("goes on", tree, listeners=[Listener(url, Text(), to="s")])


TCP = "tcp://127.0.0.1:7000"
APP, SERVED = application(TCP), application("tcp://127.0.0.1:0")

WENT = {
    "a link, then it": ["more"],
    "it, then a link": ["more"],
    "a link behind the first": ["link", "more"],
    "a stop": [],
    "nothing": ["more", "still more"],
}


@pytest.mark.parametrize("command", ENDS)
@pytest.mark.parametrize("how", ["cast", "line"])
def test_what_ends_a_server_comes_behind_what_its_input_is_continued_with(
    how: str, command: str
) -> None:
    """When the input had come on a connection, a link to nobody ended it before that, and each
    replay went on with it all the same.
    """
    disk = SimDisk(1)
    with Simulator(1, APP, disk=disk, journal_options=SMALL) as world:
        world.run(0.1)
        if how == "cast":
            world.node.cast("s", command)
        else:
            world.connect(TCP).send(command.encode() + b"\n")
        world.run(0.1)
        world.node.cast("s", "later")
        world.run(0.1)
        live = world.node.get_state("s")
        killed = disk.copy()
    assert live == ["begun", command, *WENT[command], "later"]
    for each in (killed, disk):
        for _ in range(2):
            with Simulator(1, APP, disk=each, journal_options=SMALL) as world:
                world.run(0.1)
                assert world.node.get_state("s") == live


@pytest.mark.parametrize("command", ENDS)
def test_so_it_is_on_a_disk(start: Callable[..., Any], tmp_path: Path, command: str) -> None:
    """As above, on the other completion sources, and in the whole history."""
    data = tmp_path / "data"
    node = start(SERVED, data=data, journal_options=SMALL)
    ended = node.monitor("s")
    node.cast("s", command)
    if command != "nothing":
        ended.result(5)
    assert node.call("s", "later", on_restart="wait", timeout=5.0) > 1
    live = node.get_state("s")
    assert live == ["begun", command, *WENT[command], "later"]
    node.stop()
    history = History(SERVED, str(data))
    try:
        history.advance(history.last_lsn)
        assert history.states()["s"] == live
    finally:
        history.close()
    assert start(SERVED, data=data, journal_options=SMALL).get_state("s") == live


def test_a_child_that_is_stopped_before_it_went_on_has_not() -> None:
    disk = SimDisk(1)
    with Simulator(1, APP, disk=disk, journal_options=SMALL) as world:
        world.node.terminate_child("root", "s")  # its first turn is still to come
        world.node.restart_child("root", "s")
        world.node.call("s", "later")
        live = world.node.get_state("s")
        killed = disk.copy()
    assert live == ["later"]
    for each in (killed, disk):
        with Simulator(1, APP, disk=each, journal_options=SMALL) as world:
            world.run(0.1)
            assert world.node.get_state("s") == live


def found_on(disk: SimDisk) -> Any:
    with Simulator(1, APP, disk=disk, journal_options=SMALL) as world:
        world.run(0.1)
        return world.node.get_state("s")


def test_a_snapshot_has_what_an_init_is_continued_with() -> None:
    """It was taken before, and no later start did it."""
    disk = SimDisk(1)
    with Simulator(1, APP, disk=disk, journal_options=SMALL) as world:
        assert world.node.journal is not None
        assert world.node.journal.snapshots.take()
        world.run(0.1)
        assert world.node.get_state("s") == ["begun"]
        killed = disk.copy()
    assert found_on(killed) == found_on(disk) == ["begun"]


def test_nothing_comes_between_an_input_of_a_connection_and_its_continue() -> None:
    """Something did that took a snapshot: the continue was in none, and in no record."""
    disk = SimDisk(1)
    seen, taken = [], []
    with Simulator(1, APP, disk=disk, journal_options=SMALL) as world:
        node = world.node

        def look() -> None:
            """In each turn of the loop."""
            server = node.loop.dispatcher.whereis("s")
            if server is not None and len(server.state) > 1:
                seen.append(list(server.state))
                if not taken:
                    assert node.journal is not None
                    taken.append(node.journal.snapshots.take())
            node.host.defer(look)

        node.run_on_loop(look)
        world.connect(TCP).send(b"nothing\n")
        world.run(0.05)
        killed = disk.copy()
    whole = ["begun", "nothing", "more", "still more"]
    assert taken == [True]
    assert all(each == whole for each in seen)
    assert found_on(killed) == found_on(disk) == whole


class Begins(GenServer[list[Any], Any, Any]):
    """Tells another one that it has begun."""

    def init(self, args: Any) -> Any:
        return [], [Continue("begun")]

    def step(self, command: Any, state: list[Any]) -> Any:
        return [*state, command], None

    def handle_continue(self, term: Any, state: list[Any]) -> Any:
        return [*state, term], None, [Cast("heard", term)]


class Hears(GenServer[list[Any], Any, Any]):
    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        return [*state, command], None


def test_what_an_init_sends_is_part_of_no_input() -> None:
    """It arrives once at most: in some of these places the power goes before."""
    workers = [Worker("s", Begins, journal=True), Worker("heard", Hears, journal=True)]
    app = Application("begins", Supervisor("one_for_one", workers, id="root"))
    copies, outcomes = [], set()
    for seed in range(6):
        disk = SimDisk(seed)
        with Simulator(seed, app, disk=disk, journal_options=SMALL) as world:
            for _ in range(30):
                copies.append(disk.copy())
                world.run(0.00001)
            assert world.node.get_state("heard") == ["begun"]
    for each in copies:
        with Simulator(1, app, disk=each, journal_options=SMALL) as world:
            world.run(0.1)
            assert world.node.get_state("s") == ["begun"]
            outcomes.add(tuple(world.node.get_state("heard")))
    assert outcomes == {(), ("begun",)}

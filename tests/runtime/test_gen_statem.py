"""Machines on a node: time, connections, crashes, and the journal."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenStatem, Listener, Supervisor, Worker
from pybehave.actions import Reply, Send
from pybehave.errors import Crashed, NoProc, StartFailed
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.statem import (
    EventTimeout,
    KeepState,
    KeepStateAndData,
    NextState,
    Postpone,
    StateTimeout,
    Stop,
    Timeout,
)
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial, kept_by, receive
from tests.power.machine import wait_for
from tests.processes import Process, serving

TCP = "tcp://127.0.0.1:7000"
SMALL = Options(segment_bytes=256 * 1024)


class Door(GenStatem):
    """Opens when pushed, closes by itself; who wants to pass waits until it is open."""

    def init(self, args: Any) -> Any:
        return "closed", {"pushes": 0, "seconds": args or 10.0}

    def closed(self, event_type: Any, content: Any, data: dict[str, Any]) -> Any:
        match event_type, content:
            case ("call", caller), "push" | b"push":
                data = {**data, "pushes": data["pushes"] + 1}
                answer = Reply(caller, b"%d" % data["pushes"])
                return NextState("open", data, [answer, StateTimeout(data["seconds"], "close")])
            case ("call", _), "pass" | b"pass":
                return KeepStateAndData(Postpone())
        return self.anywhere(event_type, content, data, "closed")

    def open(self, event_type: Any, content: Any, data: dict[str, Any]) -> Any:
        match event_type, content:
            case "state_timeout", "close":
                return NextState("closed", data)
            case ("call", caller), "pass" | b"pass":
                return KeepStateAndData(Reply(caller, b"passed"))
        return self.anywhere(event_type, content, data, "open")

    def anywhere(self, event_type: Any, content: Any, data: dict[str, Any], state: str) -> Any:
        match event_type, content:
            case ("call", caller), "break":
                raise ValueError("a deliberate bug")
            case ("call", caller), "stop":
                return Stop("normal", replies=[Reply(caller, "bye")])
            case ("call", caller), _:
                return KeepStateAndData(Reply(caller, state.encode()))
        return KeepStateAndData()


def door(*, journal: bool = False, args: Any = None, **options: Any) -> Application:
    worker = Worker("door", Door, args, journal=journal, restart="transient")
    return Application("t", Supervisor("one_for_one", [worker], intensity=100), **options)


served = door(
    journal=True,
    args=float(os.environ.get("DOOR_S", "10")),
    listeners=[Listener("tcp://127.0.0.1:7000", Lines(), to="door")],
)
"""For `pybehave run`: what a test kills must be a process of its own."""


def test_a_machine_goes_from_state_to_state_in_its_time(start: Callable[..., Any]) -> None:
    node = start(door(args=0.05))
    assert node.call("door", "where") == b"closed"
    assert node.call("door", "push") == b"1"
    assert node.call("door", "pass") == b"passed"
    wait_for(lambda: node.call("door", "where") == b"closed", "the door closes")
    assert node.call("door", "push") == b"2"


def test_who_waits_for_a_state_is_answered_in_it(start: Callable[..., Any]) -> None:
    node = start(door(listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="door")]))
    waiting, pushing = dial(node), dial(node)
    waiting.sendall(b"pass\npass\n")
    wait_for(lambda: len(kept_by(node, "door").postponed) == 2, "both are postponed")
    pushing.sendall(b"push\n")
    assert receive(waiting, 14) == b"passed\npassed\n"
    assert receive(pushing, 2) == b"1\n"


def test_a_crash_tells_those_who_wait_and_starts_anew(start: Callable[..., Any]) -> None:
    node = start(door())
    node.call("door", "push")
    with pytest.raises(Crashed, match="a deliberate bug"):
        node.call("door", "break")
    assert node.call("door", "where") == b"closed"


def test_a_stop_replies_and_ends(start: Callable[..., Any]) -> None:
    node = start(door())
    assert node.call("door", "stop") == "bye"
    assert node.names() == []


@pytest.mark.parametrize("with_snapshot", [False, True])
def test_state_postponed_events_and_time_outs_come_back(
    start: Callable[..., Any], tmp_path: Path, with_snapshot: bool
) -> None:
    app = door(journal=True, args=0.3)
    options = {"data": tmp_path / "data", "journal_options": SMALL}
    node = start(app, **options)
    if with_snapshot:
        node.journal.snapshots.records = 0
    node.call("door", "push")
    with pytest.raises(Crashed):
        node.call("door", "break")
    assert node.call("door", "where") == b"open"
    node.stop()
    node = start(app, **options)
    assert kept_by(node, "door").data["pushes"] == 1
    wait_for(lambda: node.call("door", "where") == b"closed", "the time-out goes on")
    assert node.call("door", "push") == b"2"


@pytest.mark.parametrize(("seconds", "state"), [("3600", b"open"), ("0.2", b"closed")])
def test_a_machine_comes_back_after_kill_9(
    source: str, tmp_path: Path, seconds: str, state: bytes
) -> None:
    def ask(process: Process, word: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", process.port), 20) as client:
            client.sendall(word + b"\n")
            return client.makefile("rb").readline().strip()

    run = partial(serving, f"{__name__}:served", source, "--data", str(tmp_path), DOOR_S=seconds)
    with run() as process:
        assert ask(process, b"push") == b"1"
        process.end(signal.SIGKILL)
    with run() as process:
        wait_for(lambda: ask(process, b"where") == state, "open, or closed when its time is up")
        process.end(signal.SIGKILL)
    with run() as process:
        assert ask(process, b"where") == state
        assert ask(process, b"push") == (b"2" if state == b"closed" else b"open")


def test_an_action_that_fails_takes_no_time_out_with_it(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    class Mistaken(GenStatem):
        def init(self, args: Any) -> Any:
            return "idle", 0

        def idle(self, event_type: Any, content: Any, data: Any) -> Any:
            if content == "where":
                return KeepStateAndData(Reply(event_type[1], "idle"))
            return NextState("late", data, [Reply("nobody", 1), StateTimeout(0.05)])

        def late(self, event_type: Any, content: Any, data: Any) -> Any:
            if event_type == "state_timeout":
                return NextState("idle", data)
            return KeepStateAndData(Reply(event_type[1], "late"))

    tree = Supervisor("one_for_one", [Worker("m", Mistaken, journal=True)])
    node = start(Application("t", tree), data=tmp_path / "data", journal_options=SMALL)
    with pytest.raises(Crashed, match="Reply: to is a caller, not 'nobody'"):
        node.call("m", "go")
    wait_for(lambda: node.call("m", "where") == "idle", "the time-out brings it back")


def test_an_event_that_waits_for_its_state_survives_as_an_event(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    app = door(journal=True, listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="door")])
    options = {"data": tmp_path / "data", "journal_options": SMALL}
    node = start(app, **options)
    client = dial(node)
    client.sendall(b"pass\n")
    wait_for(lambda: len(kept_by(node, "door").postponed) == 1, "it is postponed")
    node.stop(drain=False)
    node = start(app, **options)
    assert len(kept_by(node, "door").postponed) == 1
    assert node.call("door", "push") == b"1"
    assert kept_by(node, "door").postponed == ()


class Walker(GenStatem):
    """Draws its transitions; replay must draw the same."""

    state_enter = True

    def init(self, args: Any) -> Any:
        return 0, []

    def handle_event(self, event_type: Any, content: Any, state: int, data: list[Any]) -> Any:
        if event_type == "enter":
            return KeepStateAndData(StateTimeout(0.01, "slow"))
        if type(event_type) is tuple and event_type[0] == "call":
            if content == b"?":
                answer = Reply(event_type[1], b"%d %d" % (state, len(data)))
                return KeepStateAndData(answer)
            seconds = self.context.random.choice((0, 0.001, 0.02))
            actions = [
                Reply(event_type[1], b"%d %d" % (len(data), state)),
                Timeout(content, seconds, "named"),
                EventTimeout(0.005, "event"),
            ]
            return NextState(self.context.random.randrange(4), [*data, content], actions)
        return KeepState([*data, str(event_type)])


@pytest.mark.parametrize("seed", range(40))
def test_machines_survive_power_cuts(seed: int) -> None:
    dice = random.Random(seed)
    worker = Worker("w", Walker, journal=True)
    app = Application(
        "t", Supervisor("one_for_one", [worker]), listeners=[Listener(TCP, Lines(), to="w")]
    )
    disk, acknowledged = SimDisk(seed), 0
    for life in range(4):
        world = Simulator(
            seed * 10 + life, app, disk=disk, journal_options=Options(segment_bytes=64 << 10)
        ).start()
        world.node.journal.snapshots.records = dice.choice((3, 1000))
        data = kept_by(world.node, "w").data
        assert len([word for word in data if isinstance(word, bytes)]) >= acknowledged
        client = world.connect(TCP)
        for number in range(dice.randrange(1, 12)):
            client.send(b"go %d\n" % number)
            world.run(dice.random() * 0.03)
        acknowledged += bytes(client.received).count(b"\n")
        if life < 3:
            disk = world.lose_power(dice)
        else:
            world.run(1.0)
            assert kept_by(world.node, "w").timeouts == {}
            world.stop()


def test_virtual_time_closes_the_door_to_the_moment() -> None:
    app = door(args=3600.0, listeners=[Listener(TCP, Lines(), to="door")])
    with Simulator(1, app) as world:
        client = world.connect(TCP)
        client.send(b"push\n")
        world.run(3599.9)
        client.send(b"where\n")
        world.run(0.2)
        client.send(b"where\n")
        world.run(0.1)
        assert bytes(client.received) == b"1\nopen\nclosed\n"


def test_actions_of_servers_are_actions_of_machines(start: Callable[..., Any]) -> None:
    class Echo(GenStatem):
        def init(self, args: Any) -> Any:
            return "up", None

        def up(self, event_type: Any, content: Any, data: Any) -> Any:
            sends = [Send(self.context.connection, content), Reply(event_type[1], b"end")]
            return KeepStateAndData(sends)

    tree = Supervisor("one_for_one", [Worker("echo", Echo)])
    node = start(
        Application("t", tree, listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="echo")])
    )
    client = dial(node)
    client.sendall(b"hello\n")
    assert sorted(receive(client, 10).split()) == [b"end", b"hello"]


def test_a_machine_that_stops_in_its_first_turn_does_not_start(start: Callable[..., Any]) -> None:
    class Short(GenStatem):
        def init(self, args: Any) -> Any:
            return "up", None, [StateTimeout(0, "at once")]

        def up(self, event_type: Any, content: Any, data: Any) -> Any:
            return Stop("too short")

    with pytest.raises(StartFailed, match=r"first turn of 'root/s' returned Stop\('too short'\)"):
        start(Application("t", Supervisor("one_for_one", [Worker("s", Short)])))


def test_a_machine_that_fails_in_its_first_turn_does_not_start(start: Callable[..., Any]) -> None:
    class Entered(GenStatem):
        state_enter = True

        def init(self, args: Any) -> Any:
            return "up", None

        def up(self, event_type: Any, content: Any, data: Any) -> Any:
            raise ValueError("in enter")

    with pytest.raises(StartFailed, match="the first turn of 'root/s' failed with ValueError"):
        start(Application("t", Supervisor("one_for_one", [Worker("s", Entered)])))


def test_callers_of_a_machine_that_stops_are_told(start: Callable[..., Any]) -> None:
    node = start(door(listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="door")]))
    client = dial(node)
    client.sendall(b"pass\n")
    wait_for(lambda: len(kept_by(node, "door").postponed) == 1, "it is postponed")
    node.call("door", "stop")
    assert b"door" in client.recv(100)
    with pytest.raises(NoProc):
        node.call("door", "where")

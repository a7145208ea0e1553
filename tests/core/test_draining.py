"""A node that is told to stop answers what it had been sent; on every source and on the disk."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.actions import NO_REPLY, Call, Reply
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial, receive_all

BIG = b"x" * 300_000 + b"\n"
TCP = "tcp://127.0.0.1:1"


class Big(GenServer[None, Any, Any]):
    """A long answer to a short question: the client falls behind, and its questions wait."""

    def step(self, line: Any, state: None) -> Any:
        return state, BIG[:-1]


class Counter(GenServer[int, Any, Any]):
    def init(self, args: Any) -> int:
        return 0

    def step(self, line: Any, state: int) -> Any:
        return state + 1, b"%d" % (state + 1)


class Relay(GenServer[dict[int, Any], Any, Any]):
    """Owes every reply until the counter has made it."""

    def init(self, args: Any) -> dict[int, Any]:
        return {}

    def handle_call(self, request: Any, sender: Any, state: dict[int, Any]) -> Any:
        number = len(state)
        state[number] = sender
        return state, NO_REPLY, [Call("counter", request, tag=number)]

    def handle_info(self, message: Any, state: dict[int, Any]) -> Any:
        return state, None, [Reply(state[message.tag], message.value)]


class Gate(GenServer[None, Any, Any]):
    """The test's own events: the loop stands in this step while a client sends."""

    entered = threading.Event()
    opened = threading.Event()

    def step(self, line: Any, state: None) -> Any:
        if line == b"wait":
            self.entered.set()
            assert self.opened.wait(30)
        return state, line


def stopping(node: Any) -> threading.Thread:
    """Stop the node as TERM does, from a thread of its own."""
    thread = threading.Thread(target=node.stop)
    thread.start()
    return thread


@pytest.mark.parametrize("ends", [False, True], ids=["stays", "half-closed"])
def test_questions_behind_a_client_that_does_not_read_are_answered(serve: Any, ends: bool) -> None:
    node = serve(Big, Lines(), high_water_bytes=65536, low_water_bytes=1024)
    with dial(node) as client:
        client.sendall(b"?\n" * 100)
        while node.stats()["connections"]["pauses"] == 0:
            pass
        if ends:
            client.shutdown(socket.SHUT_WR)
        thread = stopping(node)
        assert receive_all(client) == BIG * 100
    thread.join()


def test_what_was_sent_before_the_stop_is_read_and_answered(serve: Any) -> None:
    Gate.entered.clear()
    Gate.opened.clear()
    node = serve(Gate, Lines())
    with dial(node) as busy, dial(node) as other:
        busy.sendall(b"wait\n")
        assert Gate.entered.wait(30)
        other.sendall(b"one\ntwo\n")
        node.request_stop()
        Gate.opened.set()
        assert receive_all(other) == b"one\ntwo\n"
        assert receive_all(busy) == b"wait\n"


def test_a_client_that_never_reads_holds_up_the_stop_for_its_linger_time(serve: Any) -> None:
    node = serve(Big, Lines(), high_water_bytes=65536, low_water_bytes=1024, linger=0.05)
    with dial(node) as client:
        client.sendall(b"?\n" * 100)
        while node.stats()["connections"]["pauses"] == 0:
            pass
        node.stop(timeout=30)
        with pytest.raises(ConnectionResetError):
            receive_all(client)


@pytest.mark.parametrize("question", [b"", b"?\n", b"half a que"], ids=["idle", "asked", "half"])
def test_a_client_that_stays_does_not_hold_up_the_stop(serve: Any, question: bytes) -> None:
    """As pools of connections do: they look at a socket when they need it next."""
    node = serve(Counter, Lines(), linger=3600.0, loop={"drain_timeout": 3600.0})
    with dial(node) as client:
        client.sendall(question)
        while node.stats()["connections"]["recv_bytes"] < len(question):
            pass
        thread = stopping(node)
        thread.join(timeout=30)
        assert not thread.is_alive()
        assert receive_all(client) == (b"1\n" if question == b"?\n" else b"")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("question", "silence", "shortest", "longest"),
    [(b"", 0, 0, 0.1), (b"?\n", 10, 0, 0.1), (b"?\n", 0, 0.9, 1.1), (b"half", 0, 0.9, 1.1)],
    ids=["idle", "answered-before", "answered-now", "half"],
)
def test_the_close_of_a_client_is_awaited_when_it_has_just_been_talked_to(
    seed: int, question: bytes, silence: float, shortest: float, longest: float
) -> None:
    listener = Listener(TCP, Lines(frame_bytes_max=100), to="counter")
    app = Application(
        "t", Supervisor("one_for_one", [Worker("counter", Counter)]), listeners=[listener]
    )
    world = Simulator(seed, app).start()
    client = world.connect(TCP)
    client.send(question)
    loop = world.node.loop
    world.run_until(lambda: loop.stats()["connections"]["recv_bytes"] == len(question))
    world.run_until(lambda: loop.connections_open == 1)
    world.run(silence)
    began = loop.now()
    loop.finish_connections()
    world.run_until(lambda: loop.connections_open == 0)
    assert shortest <= loop.now() - began <= longest
    world.run_until(lambda: client.state == "ended")
    assert bytes(client.received) == (b"1\n" if question == b"?\n" else b"")
    world.stop()


@pytest.mark.parametrize("seed", range(3))
def test_C7_a_client_that_goes_on_sending_is_read_until_it_is_quiet_or_its_time_is_over(
    seed: int,
) -> None:
    """To close with bytes unread resets the connection, and with it what the client has to get."""
    for words, shortest, longest in ((4, 2.4, 2.7), (100, 4.9, 5.6)):
        listener = Listener(TCP, Lines(), to="counter", linger=5.0)
        app = Application(
            "t", Supervisor("one_for_one", [Worker("counter", Counter)]), listeners=[listener]
        )
        world = Simulator(seed, app).start()
        client = world.connect(TCP)
        client.send(b"?\n")
        loop = world.node.loop
        world.run_until(lambda loop=loop: loop.stats()["connections"]["recv_bytes"] == 2)
        began = loop.now()
        loop.finish_connections()
        for _ in range(words):
            client.peer.send(b"more\n")  # it has not looked whether the other end has ended
            world.run(0.5)
            if loop.connections_open == 0:
                break
        world.run_until(lambda loop=loop: loop.connections_open == 0)
        assert shortest <= loop.now() - began <= longest
        world.stop()


def test_a_reply_that_is_still_on_its_way_is_waited_for() -> None:
    """The network takes three seconds: a close before that could reset what the client is sent."""
    listener = Listener(TCP, Lines(), to="counter")
    app = Application(
        "t", Supervisor("one_for_one", [Worker("counter", Counter)]), listeners=[listener]
    )
    world = Simulator(1, app).start()
    client = world.connect(TCP)
    loop = world.node.loop
    world.run_until(lambda: loop.connections_open == 1)
    client.send(b"?\n")
    world.run_until(lambda: loop.stats()["connections"]["recv_bytes"] == 2)
    world.network.set(latency_ns_min=3_000_000_000, latency_ns_max=3_000_000_000)
    client.send(b"?\n")  # arrives when our end is long said, and must not reset the first reply
    began = loop.now()
    loop.finish_connections()
    world.run_until(lambda: loop.connections_open == 0)
    assert loop.now() - began > 3.0
    world.run_until(lambda: client.state == "ended")
    assert bytes(client.received) == b"1\n"
    world.stop()


def test_what_a_journaled_server_had_read_is_answered(start: Any, tmp_path: Path) -> None:
    tree = Supervisor("one_for_one", [Worker("counter", Counter, journal=True)])
    listener = Listener("tcp://127.0.0.1:0", Lines(), to="counter")
    options = Options(segment_bytes=64 << 10)
    node = start(
        Application("t", tree, listeners=[listener]), data=tmp_path / "d", journal_options=options
    )
    with dial(node) as client:
        client.sendall(b"?\n" * 5000)
        while node.stats()["connections"]["recv_bytes"] < 10_000:
            pass
        thread = stopping(node)
        answers = receive_all(client).split()
    thread.join()
    assert answers == [b"%d" % number for number in range(1, 5001)]


@pytest.mark.parametrize("road", ["step", "owed"])
@pytest.mark.parametrize("seed", range(3))
def test_what_waits_for_the_disk_is_answered(seed: int, road: str) -> None:
    """Far more than a frame of the journal holds has been read when the end comes."""
    workers = [Worker("counter", Counter, journal=True), Worker("relay", Relay)]
    protocol = Lines(frame_bytes_max=16 << 10)
    listener = Listener(TCP, protocol, to="counter" if road == "step" else "relay")
    app = Application("t", Supervisor("one_for_one", workers), listeners=[listener])
    options = Options(segment_bytes=64 << 10)
    world = Simulator(seed, app, disk=SimDisk(seed), journal_options=options).start()
    clients = [world.connect(TCP) for _ in range(40)]
    question = (b"x" * 8000 + b"\n") * 3
    for client in clients:
        client.send(question)
    loop = world.node.loop
    world.run_until(lambda: loop.stats()["connections"]["recv_bytes"] == 40 * len(question))
    loop.finish_connections()
    world.run_until(lambda: loop.connections_open == 0)
    answers = [int(line) for client in clients for line in client.received.split()]
    assert sorted(answers) == list(range(1, 121))
    world.stop()

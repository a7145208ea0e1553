"""Bytes in, bytes out, and every way a connection can end; on every source."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from typing import Any

import pytest

from pybehave import NO_REPLY, GenServer
from pybehave.actions import Close, Closed, Opened, Send
from pybehave.protocols import OK, Fixed, LengthPrefixed, Lines, Raw, Resp
from tests.conftest import dial, receive, receive_all, until


class Echo(GenServer[None, Any, Any]):
    def step(self, command: Any, state: None) -> Any:
        return state, command


class Watcher(GenServer[list[Any], Any, Any]):
    """Keeps what it is told of its connections."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if command == b"bye":
            return state, b"so long", Close(self.context.connection)
        if command == b"flood":
            big = b"x" * 60_000
            return state, NO_REPLY, [Send(self.context.connection, big) for _ in range(400)]
        return state, command

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        state.append(message)
        return state, None


def test_a_message_comes_back(serve: Any) -> None:
    with dial(serve(Echo, Fixed(4))) as client:
        client.sendall(b"abcd")
        assert receive(client, 4) == b"abcd"


def test_byte_at_a_time_is_the_same_as_whole(serve: Any) -> None:
    with dial(serve(Echo, Lines())) as client:
        for byte in b"hello\nworld\n":
            client.sendall(bytes([byte]))
        assert receive(client, 12) == b"hello\nworld\n"


def test_pipelined_messages_are_answered_in_order(serve: Any) -> None:
    with dial(serve(Echo, Lines())) as client:
        asked = b"".join(b"%d\n" % number for number in range(5000))
        client.sendall(asked)
        assert receive(client, len(asked)) == asked


@pytest.mark.parametrize("size", [1, 4095, 4096, 4097, 100_000, 5_000_000])
def test_messages_of_any_size_come_back_whole(serve: Any, size: int) -> None:
    with dial(serve(Echo, LengthPrefixed(frame_bytes_max=8_000_000))) as client:
        message = bytes(index * 7 % 251 for index in range(min(size, 1000))) * (size // 1000 + 1)
        message = struct.pack(">I", size) + message[:size]
        writer = threading.Thread(target=client.sendall, args=(message * 3,))
        writer.start()
        assert receive(client, 3 * len(message)) == message * 3
        writer.join()


def test_a_client_that_stops_writing_still_gets_its_answers(serve: Any) -> None:
    with dial(serve(Echo, Lines())) as client:
        client.sendall(b"one\ntwo\nunfinished")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(client) == b"one\ntwo\n"


def test_a_client_that_does_not_read_is_not_read_from(serve: Any) -> None:
    node = serve(Echo, Lines(), high_water_bytes=65536, low_water_bytes=1024)
    with dial(node) as client:
        client.settimeout(0.5)
        sent = 0
        line = b"x" * 999 + b"\n"
        with pytest.raises(TimeoutError):
            while True:
                sent += client.send(line * 100)
        stats = node.stats()
        assert stats["output"]["bytes_used"] < 4 << 20
        client.settimeout(10)
        received = receive(client, sent // 1000 * 1000)
        assert received == line * (sent // 1000)


def test_a_slow_consumer_of_pushed_data_is_cut_off(serve: Any) -> None:
    node = serve(Watcher, LengthPrefixed(), events=True, output_bytes_max=1 << 20)
    with dial(node) as client:
        client.sendall(struct.pack(">I", 5) + b"flood")
        until(node, lambda: node.loop.stats()["connections"]["ended"]["slow_consumer"] == 1)
    (closed,) = [m for m in node.get_state("s") if isinstance(m, Closed)]
    assert closed.reason == "slow_consumer"


def test_open_and_close_are_told(serve: Any) -> None:
    node = serve(Watcher, Lines(), events=True)
    with dial(node) as client:
        client.sendall(b"x\n")
        assert receive(client, 2) == b"x\n"
        (opened,) = node.get_state("s")
        assert isinstance(opened, Opened)
        assert opened.connection.is_open
        assert opened.connection.peer == ":".join(map(str, client.getsockname()))
    until(node, lambda: len(node.get_state("s")) == 2)
    assert node.get_state("s")[1].reason == "peer"
    assert not opened.connection.is_open


def test_close_lets_the_reply_out_first(serve: Any) -> None:
    with dial(serve(Watcher, Lines())) as client:
        client.sendall(b"hello\nbye\nnever seen\n")
        assert receive_all(client) == b"hello\nso long\n"


def test_a_frame_over_the_limit_is_answered_and_closed(serve: Any) -> None:
    with dial(serve(Echo, Lines(frame_bytes_max=100))) as client:
        client.sendall(b"ok\n" + b"x" * 200)
        answer = receive_all(client)
        assert answer.startswith(b"ok\nerror: ")
        assert b"100 bytes" in answer


def test_a_reset_leaves_the_server_serving(serve: Any) -> None:
    node = serve(Echo, Lines())
    for _ in range(50):
        client = dial(node)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.sendall(b"x\n" * 100)
        client.close()
    with dial(node) as client:
        client.sendall(b"still here\n")
        assert receive(client, 11) == b"still here\n"
    until(node, lambda: node.loop.connections_open == 0)


def test_an_unfinished_message_times_out(serve: Any) -> None:
    node = serve(Echo, Lines(), frame_timeout=0.05)
    with dial(node) as client:
        client.sendall(b"never the end of the line")
        assert receive_all(client) == b""
    until(node, lambda: node.stats()["connections"]["ended"]["frame_timeout"] == 1)


def test_an_idle_connection_times_out_and_a_busy_one_does_not(serve: Any) -> None:
    node = serve(Echo, Lines(), idle_timeout=0.2)
    with dial(node) as idle, dial(node) as busy:
        idle.settimeout(0.01)
        with pytest.raises(TimeoutError):  # not at once
            idle.recv(1)
        idle.setblocking(False)
        while True:
            busy.sendall(b"x\n")
            assert receive(busy, 2) == b"x\n"
            try:
                assert idle.recv(1) == b""
            except BlockingIOError:
                continue
            break
        busy.sendall(b"y\n")
        assert receive(busy, 2) == b"y\n"


def test_the_connection_limit_answers_politely(serve: Any) -> None:
    node = serve(Echo, Resp(), connections_max=2)
    with dial(node) as one, dial(node) as two:
        for client in (one, two):
            client.sendall(b"PING\r\n")
            assert receive(client, 7) == b"+PONG\r\n"
        with dial(node) as three:
            assert receive_all(three).startswith(b"-BUSY")
    until(node, lambda: node.loop.connections_open == 0)
    with dial(node) as again:
        again.sendall(b"PING\r\n")
        assert receive(again, 7) == b"+PONG\r\n"


def test_no_byte_of_one_connection_reaches_its_successor(serve: Any) -> None:
    node = serve(Echo, Fixed(8))
    for turn in range(300):
        first = dial(node)
        first.sendall(b"old%05d" % turn * 4)
        if turn % 2:
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        first.close()
        with dial(node) as second:
            second.sendall(b"new%05d" % turn)
            assert receive(second, 8) == b"new%05d" % turn


@pytest.mark.parametrize(
    "loop",
    [{"buffers": 4, "buffer_bytes": 64}, {"submissions": 2, "completions": 4}],
    ids=["four small buffers", "a tiny ring"],
)
def test_tiny_resources_lose_nothing(serve: Any, loop: dict[str, int]) -> None:
    node = serve(Echo, Lines(), loop=loop)
    clients = [dial(node) for _ in range(50)]
    asked = b"".join(b"%d\n" % number for number in range(500))
    for client in clients:
        client.sendall(asked)
    for client in clients:
        assert receive(client, len(asked)) == asked
        client.close()


def test_ten_thousand_connects_and_closes(serve: Any) -> None:
    node = serve(Echo, Raw())
    for turn in range(10_000):
        client = dial(node)
        if turn % 100 == 0:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
    until(node, lambda: node.loop.connections_open == 0)
    stats = node.stats()
    assert stats["output"]["blocks_used"] == 0
    assert stats["connections"]["opened"] == stats["connections"]["closed"]


GREEDY = """
import socket, sys
held = []
for _ in range(200):
    try:
        held.append(socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5))
    except OSError:
        continue
sys.stdin.readline()
"""

EXHAUSTED = """
import resource, socket, subprocess, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from examples.echo import Echo
from pybehave import Application, Listener, Supervisor, Worker
from pybehave.protocols import Raw

tree = Supervisor("one_for_one", [Worker("e", Echo)])
app = Application("x", tree, listeners=[Listener("tcp://127.0.0.1:0", Raw(), to="e")])
with app.start(backend=sys.argv[1]) as node:
    port = node.urls[0].rpartition(":")[2]
    other = subprocess.Popen([sys.executable, "-c", sys.argv[2], port], stdin=subprocess.PIPE)
    while node.stats()["loop"]["accept_errors"] < 3:
        assert other.poll() is None
    assert node.stats()["loop"]["accept_errors"] < 100, "the listener spins"
    other.stdin.close()
    other.wait()
    while node.loop.connections_open:
        time.monotonic()
    with socket.create_connection(("127.0.0.1", int(port)), 5) as again:
        again.sendall(b"back")
        assert again.recv(4) == b"back"
print("served")
"""


def test_running_out_of_descriptors_neither_stops_nor_spins_the_listener(source: str) -> None:
    result = subprocess.run(
        [sys.executable, "-c", EXHAUSTED, source, GREEDY],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.stdout == "served\n", result.stderr
    assert result.stderr.count("refuses connections: Too many open files; let this process") == 1


class Store(GenServer[dict[bytes, bytes], Any, Any]):
    def init(self, args: Any) -> dict[bytes, bytes]:
        return {}

    def step(self, command: Any, state: dict[bytes, bytes]) -> Any:
        match command:
            case [b"SET", key, value]:
                state[key] = value
                return state, OK
            case [b"GET", key]:
                return state, state.get(key)


def test_big_values_pass_in_both_directions(serve: Any) -> None:
    with dial(serve(Store, Resp())) as client:
        value = bytes(range(256)) * 80_000
        head = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % len(value)
        client.sendall(head + value + b"\r\n")
        assert receive(client, 5) == b"+OK\r\n"
        client.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n" * 3)
        answer = b"$%d\r\n" % len(value) + value + b"\r\n"
        assert receive(client, 3 * len(answer)) == answer * 3

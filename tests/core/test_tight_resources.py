"""Little of everything: buffers, completions, locked memory, and batches of one and of many."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import Any

import pytest

from pybehave import GenServer
from pybehave.actions import NO_REPLY, Send
from pybehave.protocols import Lines
from tests.conftest import dial, receive

LINE = b"x" * 999 + b"\n"
SINK = b"z" * 400_000
ROUNDS = 30
"""Together more than the sockets' buffers take of what nobody reads (about 7 MB)."""


class Echo(GenServer[None, Any, Any]):
    def step(self, command: Any, state: None) -> Any:
        return state, command


class Room(GenServer[list[Any], Any, Any]):
    """What anybody says goes to all who have joined, and much more of it to those who sink."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, line: bytes, state: list[Any]) -> Any:
        match line:
            case b"join" | b"sink":
                return [*state, (self.context.connection, b"" if line == b"join" else SINK)], line
            case b"?":
                return state, b"%d" % len(state)
        return state, NO_REPLY, [Send(member, line + more) for member, more in state]


def connected(node: Any, count: int) -> list[socket.socket]:
    return [dial(node, 30) for _ in range(count)]


def close(clients: list[socket.socket]) -> None:
    for client in clients:
        client.close()


def test_four_buffers_for_sixty_talkers_starve_and_lose_nothing(serve: Any) -> None:
    """On io_uring the kernel finds no buffer (ENOBUFS), and the receive is armed again."""
    node = serve(Echo, Lines(), loop={"buffers": 4, "buffer_bytes": 64})
    clients = connected(node, 60)

    def talk() -> None:
        for client in clients:
            client.sendall(LINE * 20)

    node.run_on_loop(talk)  # there, so that all of it has come when the loop looks
    for client in clients:
        assert receive(client, len(LINE) * 20) == LINE * 20
    close(clients)
    assert node.stats()["io"]["starved"] > 0


def test_sixteen_completions_for_three_hundred_talkers_lose_none(serve: Any) -> None:
    """Far more becomes ready at once than the queue of completions holds."""
    node = serve(Echo, Lines(), loop={"submissions": 8, "completions": 16})
    clients = connected(node, 300)
    for _ in range(5):
        for client in clients:
            client.sendall(b"hello\n" * 10)
        for client in clients:
            assert receive(client, 60) == b"hello\n" * 10
    close(clients)


@pytest.mark.parametrize("members", [1, 256])
def test_a_wait_for_many_sends_ends_with_one_input(serve: Any, members: int) -> None:
    """A wait asks for one completion more than there are new sends: 3 here, and 258.

    One member reads nothing, so in one of the rounds its send stays behind and the number is never
    reached: the input that comes alone must end the wait all the same.
    """
    node = serve(Room, Lines(), output_bytes_max=1 << 30)
    clients = connected(node, members + 1)
    for client, word in zip(clients, [b"sink\n"] + [b"join\n"] * members, strict=True):
        client.sendall(word)
        assert receive(client, 5) == word
    answer = b"%d\n" % (members + 1)
    with dial(node, 30) as speaker:
        for _ in range(ROUNDS):
            speaker.sendall(b"hello\n")
            for client in clients[1:]:
                assert receive(client, 6) == b"hello\n"
            speaker.sendall(b"?\n")
            assert receive(speaker, len(answer)) == answer
    assert node.stats()["output"]["bytes_used"] > 0, "every send went at once"
    close(clients)


LITTLE_MEMORY = """
import os, resource, socket, sys
import encodings.idna, pybehave.runtime.node # now: the next user may not be allowed to read them
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines

class Echo(GenServer):
    def step(self, line, state):
        return state, line

resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
if os.getuid() == 0: # a user without other rings, also such as the kernel is still taking down
    os.setuid(100_000 + os.getpid())
tree = Supervisor("one_for_one", [Worker("e", Echo)])
app = Application("x", tree, listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="e")])
with app.start(backend=sys.argv[1]) as node:
    port = int(node.urls[0].rpartition(":")[2])
    clients = [socket.create_connection(("127.0.0.1", port), 30) for _ in range(200)]
    for client in clients:
        client.sendall(b"hello\\n" * 100)
    for client in clients:
        got = b""
        while len(got) < 600:
            got += client.recv(4096)
        assert got == b"hello\\n" * 100
print("served on", node.loop.source)
"""


def test_64_kib_of_locked_memory_serve_an_ordinary_user(source: str) -> None:
    """Kernels from 6.14 on count a ring against the limit again; a smaller ring is made then."""
    result = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, source],
        capture_output=True, text=True, timeout=60, check=False, cwd=os.sep,
    )  # fmt: skip
    assert result.stdout.startswith("served on "), result.stderr

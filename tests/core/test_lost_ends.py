"""An end that comes on the heels of the last data is noticed, on every source.

Multishot receives of the kernel forget such an end (src/_uring/lost_ends.h). No time limit of the
listener may come to the rescue here: the connection has to be gone because the peer is.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines
from tests.conftest import receive, receive_all

CLIENTS = 500
"""Before the mend 98 in 100 resets and 85 in 100 Unix shutdowns were lost."""


class Echo(GenServer[None, Any, Any]):
    def step(self, command: Any, state: None) -> Any:
        return state, command


@pytest.fixture
def node(start: Callable[..., Any], tmp_path: Path) -> Any:
    """An echo server on TCP and on a Unix socket, that waits for ever."""
    urls = ("tcp://127.0.0.1:0", f"unix://{tmp_path}/s")
    listeners = [Listener(url, Lines(), to="s", frame_timeout=None) for url in urls]
    tree = Supervisor("one_for_one", [Worker("s", Echo)])
    return start(Application("test", tree, listeners=listeners))


def dial(node: Any, family: str) -> socket.socket:
    if family == "tcp":
        return socket.create_connection(("127.0.0.1", int(node.urls[0].rpartition(":")[2])), 20)
    client = socket.socket(socket.AF_UNIX)
    client.connect(node.urls[1].removeprefix("unix://"))
    return client


def wait_until_alone(node: Any) -> None:
    """Turn over with the loop until every connection is gone; the deadline is the test's own."""
    while node.run_on_loop(lambda: node.loop.connections_open):
        pass


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_half_a_message_and_a_reset_is_an_end(node: Any, family: str) -> None:
    for _ in range(CLIENTS):
        with dial(node, family) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sendall(b"half")
    wait_until_alone(node)


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_message_and_a_shutdown_is_answered_and_ended(node: Any, family: str) -> None:
    clients = []
    for _ in range(CLIENTS):  # each at once: the end must be there when the data is read
        client = dial(node, family)
        client.sendall(b"one\n")
        client.shutdown(socket.SHUT_WR)
        clients.append(client)
    for client in clients:
        assert receive_all(client) == b"one\n"
        client.close()
    wait_until_alone(node)


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_pause_after_data_is_no_end(node: Any, family: str) -> None:
    with dial(node, family) as quiet, dial(node, family) as other:
        quiet.sendall(b"one\ntw")
        assert receive(quiet, 4) == b"one\n"
        start = node.loop.now()
        while node.loop.now() - start < 0.2:  # several looks
            other.sendall(b"x\n")
            assert receive(other, 2) == b"x\n"
        quiet.sendall(b"o\n")
        assert receive(quiet, 4) == b"two\n"

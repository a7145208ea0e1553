"""Ten thousand clients that connect and reset: the server serves on, and nothing is left of them.

The server is a process of its own, so are the clients; what is left is read from /proc and from
the server's INFO. The rate is printed (`pytest -s`) and judged by nobody.
"""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import TypeAlias

import pytest

from tests.conftest import receive
from tests.processes import IS_SANITIZED, Process, serving

CLIENTS = 10_000
PROCESSES = 4
DESCRIPTORS_SPARE = 1000
"""Of the hard limit, for all that is not a client of the storm."""

KEPT_BYTES_MAX = 4 << 20
"""What allocators may keep between two storms: less than 420 bytes for each client."""

# One client process: argv are port, clients, and whether all are held open until a line comes.
# A third says nothing, a third half a request, a third a hundred requests whose replies it never
# reads. Prints the seconds of connecting and of resetting.
STORM = """
import resource, socket, struct, sys, time
port, count, is_held = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "held"
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
said = [b"", b"*2\\r\\n$3\\r\\nGET\\r\\n$1", b"PING\\r\\n" * 100]
held = []
started = time.monotonic()
for turn in range(count):
    client = socket.create_connection(("127.0.0.1", port), 60)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.sendall(said[turn % 3])
    if is_held:
        held.append(client)
    else:
        client.close()
print("open", time.monotonic() - started, flush=True)
sys.stdin.readline()
started = time.monotonic()
for client in held:
    client.close()
print("reset", time.monotonic() - started, flush=True)
"""

Clients: TypeAlias = "subprocess.Popen[str]"


def ask(client: socket.socket, request: bytes) -> bytes:
    """The payload of a RESP bulk reply."""
    client.sendall(request)
    head = b""
    while not head.endswith(b"\r\n"):
        head += receive(client, 1)
    assert head.startswith(b"$"), head
    return receive(client, int(head[1:]) + 2)[:-2]


def connections(watcher: socket.socket) -> int:
    """How many the server has, the watcher included."""
    lines = ask(watcher, b"INFO\r\n").splitlines()
    (count,) = (line for line in lines if line.startswith(b"connected_clients:"))
    return int(count.partition(b":")[2])


def wait_until(condition: Callable[[], bool]) -> None:
    """Each question is a round trip through the server; the deadline is the test's own."""
    while not condition():
        pass


def says(client: Clients, word: str) -> float:
    """The next line of a client process: that word, and seconds."""
    assert client.stdout is not None
    said, seconds = client.stdout.readline().split()
    assert said == word
    return float(seconds)


def wave(server: Process, watcher: socket.socket, clients: int, shape: str) -> float:
    """So many clients from several processes; returns the seconds it took."""
    words = [str(server.port), str(clients // PROCESSES), shape]
    command = [sys.executable, "-c", STORM, *words]
    pipe = subprocess.PIPE
    storm = [
        subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(PROCESSES)
    ]
    try:
        taken = max([says(process, "open") for process in storm])
        if shape == "held":
            expected = clients // PROCESSES * PROCESSES + 1
            wait_until(lambda: connections(watcher) == expected)
        for process in storm:
            assert process.stdin is not None
            process.stdin.write("now\n")
            process.stdin.flush()
        taken += max([says(process, "reset") for process in storm])
        wait_until(lambda: connections(watcher) == 1)
    finally:
        for process in storm:
            process.kill()
            process.communicate()
    return taken


def storm(server: Process, watcher: socket.socket, shape: str) -> float:
    """Ten thousand in as few waves as the limit of open files allows; returns their seconds."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    room = CLIENTS if hard == resource.RLIM_INFINITY else hard - DESCRIPTORS_SPARE
    waves = -(-CLIENTS // max(room, PROCESSES))
    return sum(wave(server, watcher, CLIENTS // waves, shape) for _ in range(waves))


def answers_everyone(server: Process) -> bool:
    """A hundred new clients at once each get what they stored."""
    clients = [socket.create_connection(("127.0.0.1", server.port), 60) for _ in range(100)]
    for number, client in enumerate(clients):
        client.sendall(b"SET k%d v%d\r\nGET k%d\r\n" % (number, number, number))
    for number, client in enumerate(clients):
        value = b"v%d" % number
        expected = b"+OK\r\n$%d\r\n%s\r\n" % (len(value), value)
        if receive(client, len(expected)) != expected:
            return False
        client.close()
    return True


@pytest.mark.parametrize("shape", ["held", "hasty"])
def test_ten_thousand_clients_that_reset_leave_nothing_behind(source: str, shape: str) -> None:
    with serving("examples.kv:app", source) as server:
        with socket.create_connection(("127.0.0.1", server.port), 60) as watcher:
            assert connections(watcher) == 1
            descriptors = server.descriptors
            storm(server, watcher, shape)
            assert answers_everyone(server)
            wait_until(lambda: connections(watcher) == 1)
            memory = server.rss_bytes
            seconds = storm(server, watcher, shape)
            assert answers_everyone(server)
            wait_until(lambda: connections(watcher) == 1)
            kept = server.rss_bytes - memory
            assert server.descriptors == descriptors
    print(f"\n{source}, {shape}: {CLIENTS / seconds:.0f} clients a second, {kept} bytes kept")
    assert IS_SANITIZED or kept < KEPT_BYTES_MAX

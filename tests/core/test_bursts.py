"""Ten thousand connections in a burst: all begun at once, all open together, all answered.

The clients are processes of their own and do not wait for one another, so that most of the burst
stands in the listener's backlog before the first is accepted. The rate is printed (`pytest -s`) and
judged by nobody; what is judged is that nobody is refused, forgotten or answered wrongly.
"""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from tests.processes import serving

pytestmark = pytest.mark.timeout(300)

CLIENTS = 10_000
PROCESSES = 4
DESCRIPTORS_SPARE = 1000
"""Of the hard limit, for all that is not a client of the burst."""

# One client process: argv are port and clients. Begins when a line comes; says how many were
# answered with what they had said, and after how many seconds all were open.
BURST = """
import resource, select, socket, struct, sys, time
port, count = int(sys.argv[1]), int(sys.argv[2])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
print("ready", flush=True)
sys.stdin.readline()
poll, clients, answered, opened = select.epoll(), {}, 0, 0
started = time.monotonic()
for number in range(count):
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.connect_ex(("127.0.0.1", port))
    clients[client.fileno()] = (client, b"%08d" % number)
    poll.register(client, select.EPOLLOUT)
while clients and answered < count:
    for fd, event in poll.poll():
        client, said = clients[fd]
        if event & select.EPOLLOUT:
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            opened += 1
            seconds = time.monotonic() - started
            client.sendall(said)
            poll.modify(client, select.EPOLLIN)
        else:
            assert client.recv(64) == said
            answered += 1
            poll.unregister(client)
print(answered, seconds, flush=True)
sys.stdin.readline()
"""


def test_ten_thousand_connections_begun_at_once_are_all_answered(source: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    room = CLIENTS if hard == resource.RLIM_INFINITY else hard - DESCRIPTORS_SPARE
    each = min(CLIENTS, room) // PROCESSES
    with serving("examples.echo:app", source, ECHO_SIZE="8") as server:
        descriptors = server.descriptors
        command = [sys.executable, "-c", BURST, str(server.port), str(each)]
        pipe = subprocess.PIPE
        burst = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(PROCESSES)
        ]
        try:
            for process in burst:
                assert process.stdout is not None and process.stdout.readline() == "ready\n"
            for process in burst:
                assert process.stdin is not None
                process.stdin.write("now\n")
                process.stdin.flush()
            said = [process.stdout.readline().split() for process in burst if process.stdout]
            assert [int(answered) for answered, _ in said] == [each] * PROCESSES
            assert server.descriptors == descriptors + each * PROCESSES
        finally:
            for process in burst:
                process.kill()
                process.communicate()
        while server.descriptors > descriptors:
            assert server.process.poll() is None
    seconds = max(float(seconds) for _, seconds in said)
    print(f"\n{source}: {each * PROCESSES} connections open after {seconds:.2f} s")

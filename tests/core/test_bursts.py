"""Ten thousand connections in a burst: all begun at once, all open together, all answered.

The clients are processes of their own and do not wait for one another, so that most of the burst
stands in the listener's backlog before the first is accepted. The rate is printed (`pytest -s`) and
judged by nobody; what is judged is that nobody is refused, forgotten or answered wrongly, except by
the kernel: it answers such a burst with SYN cookies, and takes one in 200,000 of its own for false.
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
# answered with what they had said, how many were reset before, and after how many seconds all
# were open.
BURST = """
import os, resource, select, socket, struct, sys, time
port, count = int(sys.argv[1]), int(sys.argv[2])
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
print("ready", flush=True)
sys.stdin.readline()
poll, clients, answered, reset = select.epoll(), {}, 0, 0
started = time.monotonic()
for number in range(count):
    client = socket.socket()
    client.setblocking(False)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.connect_ex(("127.0.0.1", port))
    clients[client.fileno()] = (client, b"%08d" % number)
    poll.register(client, select.EPOLLOUT)
while answered + reset < count:
    for fd, event in poll.poll():
        client, said = clients[fd]
        try:
            error = client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                raise OSError(error, os.strerror(error))
            if event & select.EPOLLOUT:
                seconds = time.monotonic() - started
                client.sendall(said)
                poll.modify(client, select.EPOLLIN)
                continue
            assert client.recv(64) == said
            answered += 1
        except ConnectionResetError:
            reset += 1
        poll.unregister(client)
print(answered, reset, seconds, flush=True)
sys.stdin.readline()
"""


def cookies_failed() -> int:
    """How many connections the kernel has reset because it did not know its SYN cookie again."""
    with open("/proc/net/netstat", encoding="ascii") as netstat:
        names, values = (line.split() for line in netstat if line.startswith("TcpExt:"))
    return int(values[names.index("SyncookiesFailed")])


def test_ten_thousand_connections_begun_at_once_are_all_answered(source: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    room = CLIENTS if hard == resource.RLIM_INFINITY else hard - DESCRIPTORS_SPARE
    each = min(CLIENTS, room) // PROCESSES
    taken_for_false = cookies_failed()
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
            answered = sum(int(answered) for answered, _, _ in said)
            reset = sum(int(reset) for _, reset, _ in said)
            assert answered + reset == each * PROCESSES
            assert reset <= cookies_failed() - taken_for_false
            assert server.descriptors == descriptors + answered
        finally:
            for process in burst:
                process.kill()
                process.communicate()
        while server.descriptors > descriptors:
            assert server.process.poll() is None
    seconds = max(float(seconds) for _, _, seconds in said)
    print(f"\n{source}: {each * PROCESSES} connections open after {seconds:.2f} s")

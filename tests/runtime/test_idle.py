"""An idle node asks nothing of the machine: no processor time, no wakings, no iowait.

A wait in io_uring with operations in flight counts as waiting for a disk, so that an idle server
looks like a broken one in top, and keeps the processor's clock high. The source waits with
IORING_ENTER_NO_IOWAIT where the kernel has it.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
import sys
import threading

import pytest

from tests.conftest import receive
from tests.processes import serving, wakings

CONNECTIONS = 1000
WINDOW_S = 1.0
CPU_S_MAX = 0.03
"""The clock of processor time has a grain of 10 ms."""

WAKINGS_MAX = 10
"""Those of a loop that settles; one that polls would need hundreds."""

LOOPS = 32
"""So many that nobody else's disk can be mistaken for them."""

KERNEL_NO_IOWAIT = (6, 15)

IDLE_LOOPS = """
import sys, threading
from pybehave._uring.loop import Loop
ready = threading.Semaphore(0)
def serve():
    loop = Loop(sys.argv[1], submissions=16, completions=32, buffers=16)
    loop.run_once()
    ready.release()
    loop.run()
for _ in range(int(sys.argv[2])):
    threading.Thread(target=serve, daemon=True).start()
for _ in range(int(sys.argv[2])):
    ready.acquire()
print("ready", flush=True)
sys.stdin.readline()
"""


def kernel() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", platform.release())[:2]))


def blocked_on_io() -> int:
    """How many threads of the machine the kernel counts as waiting for a disk."""
    with open("/proc/stat", encoding="ascii") as stat:
        (line,) = (line for line in stat if line.startswith("procs_blocked"))
    return int(line.split()[1])


def sleeping(pid: int) -> int:
    """How many threads of a process wait for something."""
    states = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/stat", encoding="utf-8") as stat:
            states.append(stat.read().rpartition(")")[2].split()[0])
    return sum(state != "R" for state in states)


def test_a_thousand_idle_connections_cost_nothing(source: str) -> None:
    with serving("examples.echo:app", source, ECHO_SIZE="2") as echo:
        clients = [
            socket.create_connection(("127.0.0.1", echo.port), 20) for _ in range(CONNECTIONS)
        ]
        for client in clients:
            client.sendall(b"hi")
            assert receive(client, 2) == b"hi"
        cpu, count = echo.cpu_s, echo.wakings
        threading.Event().wait(WINDOW_S)
        cpu, count = echo.cpu_s - cpu, echo.wakings - count
        print(f"\n{source}: {cpu * 1000:.0f} ms of {WINDOW_S:g} s, {count} wakings")
        assert cpu <= CPU_S_MAX
        assert count <= WAKINGS_MAX
        for client in clients:
            client.sendall(b"yo")
        for client in clients:
            assert receive(client, 2) == b"yo"
            client.close()


def test_an_idle_loop_is_not_counted_as_waiting_for_a_disk(source: str) -> None:
    if source != "epoll" and kernel() < KERNEL_NO_IOWAIT:
        pytest.skip("kernels before 6.15 count every wait in io_uring as iowait")
    command = [sys.executable, "-c", IDLE_LOOPS, source, str(LOOPS)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        is_quiet = False
        while not is_quiet:  # a thread that waits for the interpreter's lock sleeps, too
            before = wakings(process.pid)
            least = min(blocked_on_io() for _ in range(1000))
            is_quiet = wakings(process.pid) == before and sleeping(process.pid) > LOOPS
        process.kill()
    assert least < LOOPS

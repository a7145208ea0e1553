"""The command as a process: started, waited for, talked to, always ended."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "pybehave"]

PORT_MIN = 10_000
"""Services that a machine may have listen below."""

IS_SANITIZED = "asan" in os.environ.get("LD_PRELOAD", "")
"""AddressSanitizer keeps freed memory aside, so resident memory says nothing there."""

STRANGERS = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
"""The environment of programs that are not ours: curl stands still under AddressSanitizer."""


class Process:
    """One `pybehave run`: its address and what it printed until it was ready."""

    def __init__(self, process: subprocess.Popen[str], lines: list[str]) -> None:
        self.process = process
        self.lines = lines
        self.url = next(line.split()[0] for line in lines if "->" in line)

    @property
    def port(self) -> int:
        """Of the first listener."""
        return int(self.url.rpartition(":")[2])

    @property
    def descriptors(self) -> int:
        """How many it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def rss_bytes(self) -> int:
        """Its resident memory."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def cpu_s(self) -> float:
        """Processor time it has used, its own and the kernel's for it."""
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as stat:
            fields = stat.read().rpartition(")")[2].split()  # the name may hold anything
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def wakings(self) -> int:
        """How often its threads have gone to sleep, and so have been woken."""
        return wakings(self.process.pid)

    def end(self, number: int) -> int:
        """Send a signal, wait, return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(20)


def own_port() -> int:
    """A port that is free, and free again for the next process of a test after one has ended.

    The kernel gives it to nobody who asks for any port, be it for a listener or for a connection:
    with tests in several processes somebody always asks.
    """
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as given:
        first, last = map(int, given.read().split())
    others = [*range(PORT_MIN, first), *range(last + 1, 1 << 16)]
    while True:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", random.choice(others) if others else 0))
            return int(probe.getsockname()[1])


def wakings(pid: int) -> int:
    """How often the threads of a process have gone to sleep, and so have been woken."""
    count = 0
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/status", encoding="utf-8") as status:
            (line,) = (line for line in status if line.startswith("voluntary_ctxt_switches"))
        count += int(line.split()[1])
    return count


@contextlib.contextmanager
def serving(target: str, source: str, *words: str, **environment: str) -> Iterator[Process]:
    """Run an application until the block ends; on a free port unless `--listen` is given.

    Its journal, if it has one, lies in a folder of its own unless `--data` is given.
    """
    listen = [] if "--listen" in words else ["--listen", "tcp://127.0.0.1:0"]
    folder = tempfile.mkdtemp(prefix="pybehave-")
    if "--data" not in words:
        listen += ["--data", folder]
    process = subprocess.Popen(
        [*COMMAND, "run", target, "--backend", source, "--log-level", "error", *listen, *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )
    assert process.stdout is not None
    lines = []
    try:
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith("ready"):
                break
        yield Process(process, lines)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environment},
    )

"""Starting contenders: a process each, pinned to one core, always ended again."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from bench import build

CPUS = sorted(os.sched_getaffinity(0))
"""As they were at the start: a benchmark may pin itself later."""

START_SECONDS_MAX = 20.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """One running contender.

    Attributes:
        name: As the tables call it.
        port: Where it listens.
        process: To be ended by `stop`.
    """

    name: str
    port: int
    process: subprocess.Popen[bytes]
    notes: dict[str, Any] = field(default_factory=dict)

    def cpu_seconds(self) -> float:
        """User and system time so far, of all its threads."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND

    def rss_bytes(self) -> int:
        """Resident memory."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_cpu() -> int:
    """Where servers run."""
    return CPUS[0]


def load_cpu() -> int:
    """Where load generators run: another core than the servers' if there is one."""
    return CPUS[-1]


def start(name: str, command: list[str], port: int, **environment: str) -> Server:
    """Start a contender and wait until it accepts.

    Raises:
        RuntimeError: It ended, or did not listen in time.
    """
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.sched_setaffinity(process.pid, {server_cpu()})
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return Server(name, port, process)
    stop(process)
    raise RuntimeError(f"{name} did not start: {' '.join(command)}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that we started, and wait for it."""
    process.kill()
    process.wait()


@contextlib.contextmanager
def running(recipes: dict[str, Any]) -> Iterator[list[Server]]:
    """Start all contenders; those that cannot be had are named and left out.

    Args:
        recipes: name -> function of a port that returns (command, environment).
    """
    servers: list[Server] = []
    try:
        for name, recipe in recipes.items():
            port = free_port()
            try:
                command, environment = recipe(port)
                servers.append(start(name, command, port, **environment))
            except (build.CannotBuildError, RuntimeError) as error:
                print(f"left out: {name}: {error}", file=sys.stderr)
        yield servers
    finally:
        for server in servers:
            stop(server.process)


def pybehave(app: str, backend: str, *, data: str | None = None, **environment: str) -> Any:
    """Recipe: an application of ours on one backend; durable below `data`, else in memory."""

    def recipe(port: int) -> tuple[list[str], dict[str, str]]:
        url = f"tcp://127.0.0.1:{port}"
        command = [sys.executable, "-m", "pybehave", "run", app, "--listen", url]
        command += ["--backend", backend, "--log-level", "error"]
        journal = ["--no-journal"] if data is None else ["--data", f"{data}/{port}"]
        return [*command, *journal], environment

    return recipe


def redis(*options: str) -> Any:
    """Recipe: a Redis server."""

    def recipe(port: int) -> tuple[list[str], dict[str, str]]:
        program = shutil.which("redis-server")
        if program is None:
            raise build.CannotBuildError("no redis-server; apt-get install redis-server")
        return [program, "--port", str(port), "--save", "", *options], {}

    return recipe

"""One of a thousand servers crashes a hundred times a second: what do the others notice?

A thousand servers, one listener for `w1`; `w7` crashes by a timer of its own. Windows with and
without crashes alternate; the p99 of the requests to `w1` is compared. (Crashes sent from another
thread would measure the hand-over of the interpreter lock.)
"""

from __future__ import annotations

import logging
import os
from typing import Any

from bench import echo, figures, generator, servers
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.actions import StartTimer
from pybehave.protocols import Fixed

SERVERS = 1000
CRASHES_PER_SECOND = 100
TIMER = StartTimer("crash", 1 / CRASHES_PER_SECOND, "crash")
BAR = 1.10


mood = {"is_crashing": False}


class Echo(GenServer[None, Any, Any]):
    """Answers."""

    def step(self, command: Any, state: None) -> tuple[None, Any]:
        """One message."""
        return state, command


class Fragile(GenServer[None, Any, Any]):
    """Crashes at that pace, while it is asked to."""

    def init(self, args: Any) -> Any:
        """Wait for the time."""
        return None, TIMER

    def handle_info(self, message: Any, state: None) -> Any:
        """The time has come."""
        if mood["is_crashing"]:
            raise ValueError("asked to")
        return state, None, TIMER


def application(port: int) -> Application:
    """The tree with its listener."""
    workers = [Worker(f"w{i}", Fragile if i == 7 else Echo) for i in range(SERVERS)]
    return Application(
        "isolation",
        Supervisor("one_for_one", workers, intensity=10_000_000),
        listeners=[Listener(f"tcp://127.0.0.1:{port}", Fixed(echo.SIZE), to="w1")],
    )


def window(load: Any, seconds: float, crashes: bool) -> float:
    """p99 in microseconds."""
    mood["is_crashing"] = crashes
    return float(load.window(seconds)["p99_us"])


def main(quick: bool) -> Any:
    """Run, print, return."""
    logging.getLogger("pybehave").setLevel(logging.CRITICAL)
    rounds, seconds = (2, 0.3) if quick else (12, 1.0)
    port = servers.free_port()
    os.sched_setaffinity(0, {servers.server_cpu()})  # this process is the server
    quiet, noisy = [], []
    with application(port).start() as node:
        load = generator.Load(Here(port), 64, 1)
        try:
            for _ in range(rounds):
                quiet.append(window(load, seconds, False))
                noisy.append(window(load, seconds, True))
        finally:
            load.close()
        crashes = node.stats()["crashes"]
    rows = [["quiet", figures.spread(quiet)], [f"{crashes} crashes", figures.spread(noisy)]]
    print(figures.table(["p99 us of the others", ""], rows))
    ratio = figures.median(figures.ratios(noisy, quiet))
    print(f"  with / without crashes: {ratio:.3f} ({'met' if ratio < BAR else 'MISSED'}, < {BAR})")
    return {"quiet_us": quiet, "noisy_us": noisy, "crashes": crashes}


class Here(servers.Server):
    """The server is this process: its CPU time is not told apart."""

    def __init__(self, port: int) -> None:
        self.name = "isolation"
        self.port = port

    def cpu_seconds(self) -> float:
        """Not measured."""
        return 0.0

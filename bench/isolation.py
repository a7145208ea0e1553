"""One of a thousand servers crashes a hundred times a second: what do the others notice?

A thousand servers, one listener for `w1`; another server crashes by a cast. Windows with and
without crashes alternate; the p99 of the requests to `w1` is compared.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

from bench import echo, figures, servers
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Fixed

SERVERS = 1000
CRASHES_PER_SECOND = 100
BAR = 1.10


class Echo(GenServer[None, Any, Any]):
    """Answers, or crashes."""

    def step(self, command: Any, state: None) -> tuple[None, Any]:
        """One message."""
        if command == "crash":
            raise ValueError("asked to")
        return state, command


def application(port: int) -> Application:
    """The tree with its listener."""
    workers = [Worker(f"w{index}", Echo) for index in range(SERVERS)]
    return Application(
        "isolation",
        Supervisor("one_for_one", workers, intensity=10_000_000),
        listeners=[Listener(f"tcp://127.0.0.1:{port}", Fixed(echo.SIZE), to="w1")],
    )


def crashing(node: Any, stop: threading.Event) -> None:
    """Crash one server at that pace until told to stop."""
    while not stop.wait(1 / CRASHES_PER_SECOND):
        node.cast("w7", "crash")


def window(node: Any, load: Any, seconds: float, crashes: bool) -> float:
    """p99 in microseconds."""
    stop = threading.Event()
    thread = threading.Thread(target=crashing, args=(node, stop))
    if crashes:
        thread.start()
    result = load.window(seconds)
    stop.set()
    if crashes:
        thread.join()
    return float(result["p99_us"])


def main(quick: bool) -> Any:
    """Run, print, return."""
    logging.getLogger("pybehave").setLevel(logging.CRITICAL)
    rounds, seconds = (2, 0.3) if quick else (12, 1.0)
    port = servers.free_port()
    quiet, noisy = [], []
    with application(port).start() as node:
        load = echo.Load(Here(port), 64, 1)
        try:
            for _ in range(rounds):
                quiet.append(window(node, load, seconds, False))
                noisy.append(window(node, load, seconds, True))
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

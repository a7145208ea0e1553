"""A crash until the next answer could be given: one server, and a subtree of a thousand.

Measured on the loop's thread from the call that crashes to its error, by which time the new
incarnation runs. Nobody listens to the log: with a handler a record costs more than the restart.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from bench import figures
from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.errors import Crashed

SUBTREE = 1000
BAR_ONE_US = 20.0
BAR_SUBTREE_MS = 20.0


class Fragile(GenServer[int, str, int]):
    """Crashes when told to."""

    def init(self, args: object) -> int:
        """Start at 0."""
        return 0

    def step(self, command: str, state: int) -> tuple[int, int]:
        """Count, or crash."""
        if command == "crash":
            raise ValueError("asked to")
        return state + 1, state


def restarts(strategy: Any, count: int) -> float:
    """Seconds for each restart of a tree of a thousand under that strategy."""
    workers = [Worker(f"w{index}", Fragile) for index in range(SUBTREE)]
    tree = Supervisor(strategy, workers, intensity=1_000_000)
    with Application("restart", tree).start() as node:

        def crash() -> float:
            began = time.perf_counter()
            for _ in range(count):
                try:
                    node.call("w7", "crash")
                except Crashed:
                    continue
            return (time.perf_counter() - began) / count

        seconds: float = node.run_on_loop(crash)
        assert node.whereis("w7") == count + 1
    return seconds


def main(quick: bool) -> Any:
    """Run, print, return."""
    logger = logging.getLogger("pybehave")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    rounds = 2 if quick else 9
    one = [restarts("one_for_one", 200 if quick else 2000) * 1e6 for _ in range(rounds)]
    many = [restarts("one_for_all", 2 if quick else 10) * 1e3 for _ in range(rounds)]
    rows = [
        ["one_for_one, us", figures.spread(one, digits=1)],
        [f"one_for_all of {SUBTREE}, ms", figures.spread(many, digits=1)],
    ]
    print(figures.table(["crash and restart", ""], rows))
    print(f"  one: {figures.verdict(BAR_ONE_US / figures.median(one), 1.0)}")
    print(f"  subtree: {figures.verdict(BAR_SUBTREE_MS / figures.median(many), 1.0)}")
    return {"one_us": one, "subtree_ms": many}

"""Driving servers with the compiled load generator (load/load.c), in interleaved windows.

All contenders are up at once, each with its own load generator that keeps its connections; short
windows alternate in random order. What is compared is compared within one round.
"""

from __future__ import annotations

import json
import random
import subprocess
from typing import Any

from bench import build, servers


class Load:
    """One load generator with its connections to one server.

    Args:
        server: Whom it drives.
        connections: How many it opens, once.
        pipeline: Messages in flight on each.
        size: Bytes of a message, or of a value.
        keys: 0: messages are echoed; else they are RESP SETs, with keys drawn from so many.
    """

    def __init__(
        self,
        server: servers.Server,
        connections: int,
        pipeline: int,
        *,
        size: int = 64,
        keys: int = 0,
    ) -> None:
        self.server = server
        program = str(build.compiled("load/load.c", "m"))
        words = [server.port, connections, pipeline, size, servers.load_cpu()]
        words += ["set", keys] if keys else []
        self.process = subprocess.Popen(
            [program, *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        if self._read() != "ready":
            raise RuntimeError(f"the load generator did not connect to {server.name}")

    def window(self, seconds: float) -> dict[str, float]:
        """Drive for so long; rate, percentiles, requests per CPU second of the server."""
        assert self.process.stdin is not None
        before = self.server.cpu_seconds()
        self.process.stdin.write(f"window {seconds}\n")
        self.process.stdin.flush()
        result: dict[str, float] = json.loads(self._read())
        if result["errors"]:
            raise RuntimeError(f"{self.server.name} answered wrongly {result['errors']} times")
        cpu = self.server.cpu_seconds() - before
        result["rate"] = result["count"] / result["seconds"]
        result["per_cpu_s"] = result["count"] / cpu if cpu > 0 else 0.0
        return result

    def close(self) -> None:
        """End it; its connections go with it."""
        self.process.kill()
        self.process.wait()

    def _read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


def measure(
    contenders: dict[str, Any],
    shape: tuple[int, int],
    rounds: int,
    seconds: float,
    **what: int,
) -> dict[str, Any]:
    """All contenders at one shape: name -> list of windows, one for each round.

    Args:
        contenders: Recipes, as `servers.running` takes them.
        shape: Connections, and messages in flight on each.
        rounds: Windows for each contender.
        seconds: Of each window.
        what: `size` and `keys`, as `Load` takes them.
    """
    with servers.running(contenders) as up:
        return drive(up, shape, rounds, seconds, **what)


def drive(
    up: list[servers.Server],
    shape: tuple[int, int],
    rounds: int,
    seconds: float,
    **what: int,
) -> dict[str, Any]:
    """Like `measure`, of servers that are up already."""
    windows: dict[str, list[dict[str, float]]] = {}
    loads: list[Load] = []
    try:
        loads.extend(Load(server, *shape, **what) for server in up)
        for load in loads:
            load.window(seconds / 2)  # warms caches, pools and the adaptive parts
        for _ in range(rounds):
            for load in random.sample(loads, len(loads)):
                windows.setdefault(load.server.name, []).append(load.window(seconds))
    finally:
        for load in loads:
            load.close()
    return windows

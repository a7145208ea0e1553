"""A node that changes its release under load: the longest time a client waits, and who is dropped.

A process serves a RESP counter and is told to upgrade, to roll back, ...; clients in this one keep
requests under way on every connection and note the longest time to an answer in each window.
Windows in which the release changes alternate with windows in which it does not. In the rows
"process replaced" it is `pybehave release replace` instead: another process takes the sockets over.
The state's keys come by a request, as a state's contents do, before the first window.

    python -m bench upgrade
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from bench import figures
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Resp

BAR_MS = 50.0
CONNECTIONS = 64
PIPELINE = 8
WINDOW_S = 0.5
KEYS = {"memory, 1,000 keys": (False, 1000), "journal, 1,000 keys": (True, 1000),
        "journal, 100,000 keys": (True, 100_000)}  # fmt: skip
REPLACED = {"process replaced, 1,000 keys": 1000, "process replaced, 100,000 keys": 100_000}

REQUEST = b"*2\r\n$4\r\nINCR\r\n$%d\r\n%s\r\n"
FILL = b"FILL"


class Counts(GenServer[Any, Any, Any]):
    """The first release: numbers by key."""

    def init(self, args: Any) -> Any:
        """None yet."""
        return {}

    def step(self, command: Any, state: Any) -> Any:
        """INCR a key, or FILL the state with so many."""
        if command[0] == FILL:
            state.update((b"key%d" % index, 0) for index in range(int(command[1])))
            return state, len(state)
        key = command[1]
        state[key] = state.get(key, 0) + 1
        return state, state[key]


class Pairs(Counts):
    """The second: a pair of number and version by key."""

    version = 2

    def step(self, command: Any, state: Any) -> Any:
        """INCR a key."""
        key = command[1]
        count = state[key][0] + 1 if key in state else 1
        state[key] = (count, 2)
        return state, count

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        """There, and back."""
        if old_version == ("down", 1):
            return {key: count for key, (count, _) in state.items()}
        return {key: (count, 1) for key, count in state.items()}


def application(kind: Any, version: str, is_journaled: bool) -> Application:
    """One release."""
    worker = Worker("counts", kind, journal=is_journaled)
    listeners = [Listener("tcp://127.0.0.1:0", Resp(), to="counts")]
    return Application(
        "counts", Supervisor("one_for_one", [worker]), version=version, listeners=listeners
    )


journaled = application(Counts, "1", is_journaled=True)


def serve(is_journaled: bool) -> None:
    """Print the port; for every line read change the release, and print the pause."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        options: dict[str, Any] = {"data": folder if is_journaled else None}
        with application(Counts, "1", is_journaled).start(**options) as node:
            releases: Any = node.releases  # type: ignore[attr-defined]
            print(node.urls[0].rpartition(":")[2], flush=True)
            for _ in sys.stdin:
                if releases.status()["version"] == "1":
                    newer = application(Pairs, "2", is_journaled)
                    report = releases.upgrade(newer, from_version="1", watch=0.0)
                else:
                    report = releases.rollback()
                print(report.pause, flush=True)


class Load:
    """Connections with requests under way, all in this thread; before, the state gets its keys."""

    def __init__(self, port: int, keys: int) -> None:
        with socket.create_connection(("127.0.0.1", port)) as filling:
            filling.sendall(b"*2\r\n$4\r\n%s\r\n$%d\r\n%d\r\n" % (FILL, len(str(keys)), keys))
            answer = filling.makefile("rb").readline()
        if answer != b":%d\r\n" % keys:
            raise RuntimeError(f"the state was not filled: {answer!r}")
        self.selector = selectors.DefaultSelector()
        self.dropped = 0
        for number in range(CONNECTIONS):
            client = socket.create_connection(("127.0.0.1", port))
            client.setblocking(False)
            key = b"client%d" % number
            batch = REQUEST % (len(key), key) * PIPELINE
            client.send(batch)
            state = {"batch": batch, "since": time.perf_counter(), "lines": 0, "count": 0}
            self.selector.register(client, selectors.EVENT_READ, state)

    def window(self, seconds: float) -> tuple[float, int]:
        """Longest time to the answers of a batch, in seconds, and answers."""
        longest, answers, until = 0.0, 0, time.perf_counter() + seconds
        while (now := time.perf_counter()) < until:
            for key, _ in self.selector.select(0):
                client: Any = key.fileobj
                state = key.data
                data = client.recv(65536)
                if not data:
                    self.dropped += 1
                    self.selector.unregister(client)
                    continue
                lines = data.count(b"\n")
                answers += lines
                state["lines"] += lines
                if state["lines"] == PIPELINE:
                    longest = max(longest, now - state["since"])
                    state["lines"], state["since"] = 0, now
                    client.send(state["batch"])
        return longest, answers

    def close(self) -> None:
        """Hang up."""
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self.selector.close()


def measure(is_journaled: bool, keys: int, rounds: int) -> dict[str, Any]:
    """Alternate windows with and without a change."""
    code = f"from bench import upgrade; upgrade.serve({is_journaled})"
    server = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert server.stdin is not None
    assert server.stdout is not None
    load = Load(int(server.stdout.readline()), keys)
    found: dict[str, Any] = {"quiet_ms": [], "changing_ms": [], "pause_ms": [], "answers": 0}
    try:
        load.window(WINDOW_S)
        for _ in range(rounds):
            longest, answers = load.window(WINDOW_S)
            found["quiet_ms"].append(longest * 1e3)
            server.stdin.write("\n")
            server.stdin.flush()
            longest, more = load.window(WINDOW_S)
            found["changing_ms"].append(longest * 1e3)
            found["pause_ms"].append(float(server.stdout.readline()) * 1e3)
            found["answers"] += answers + more
        found["dropped"] = load.dropped
    finally:
        load.close()
        server.stdin.close()
        server.wait(30)
    return found


@contextlib.contextmanager
def running(folder: str) -> Iterator[int]:
    """The journaled application: its port. Who replaces it is of its session, too."""
    command = [sys.executable, "-m", "pybehave", "run", "bench.upgrade:journaled"]
    command += ["--data", folder, "--log-level", "error"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        port = None
        while port is None:
            port = re.search(rb"tcp://127.0.0.1:(\d+)", process.stdout.readline())
        try:
            yield int(port[1])
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.stdout.read()  # to its end: whoever replaced it writes to its folder till then


def replace(folder: str, load: Load) -> tuple[float, int]:
    """Longest time to answers while one process replaces another; answers."""
    command = [sys.executable, "-m", "pybehave", "release", "replace", "--node", folder]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        longest, answers = load.window(WINDOW_S)
        while process.poll() is None:
            again, more = load.window(WINDOW_S / 10)
            longest, answers = max(longest, again), answers + more
        again, more = load.window(WINDOW_S)
    if process.returncode:
        raise RuntimeError("no process has replaced the other; see above")
    return max(longest, again), answers + more


def measure_replaced(keys: int, rounds: int) -> dict[str, Any]:
    """Alternate windows with and without a process that replaces another."""
    found: dict[str, Any] = {"quiet_ms": [], "changing_ms": [], "pause_ms": [], "answers": 0}
    with tempfile.TemporaryDirectory(dir=".") as folder, running(folder) as port:
        load = Load(port, keys)
        load.window(WINDOW_S)
        for _ in range(rounds):
            longest, answers = load.window(WINDOW_S)
            found["quiet_ms"].append(longest * 1e3)
            longest, more = replace(folder, load)
            found["changing_ms"].append(longest * 1e3)
            found["answers"] += answers + more
        found["dropped"] = load.dropped
        load.close()
    return found


def main(quick: bool) -> Any:
    """Run, print, return."""
    rounds = 2 if quick else 10
    results = {
        name: measure(is_journaled, keys, rounds) for name, (is_journaled, keys) in KEYS.items()
    }
    results |= {name: measure_replaced(keys, rounds) for name, keys in REPLACED.items()}
    rows = [
        [
            name,
            figures.spread(found["quiet_ms"], digits=1),
            figures.spread(found["changing_ms"], digits=1),
            f"{max(found['changing_ms']):.1f}",
            figures.spread(found["pause_ms"], digits=1) if found["pause_ms"] else "",
            str(found["dropped"]),
        ]
        for name, found in results.items()
    ]
    heads = ["longest wait, ms", "no change", "change", "worst", "servers' pause", "dropped"]
    print(f"{CONNECTIONS} connections, {PIPELINE} requests under way on each\n")
    print(figures.table(heads, rows))
    for name, found in results.items():
        worst = max(found["changing_ms"])
        print(f"  {name}: {BAR_MS:.0f} ms / worst: {figures.verdict(BAR_MS / worst, 1.0)}")
    return results

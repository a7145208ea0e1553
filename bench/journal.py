"""The journal itself: batches in process, replay, verify, a start after a crash, a large snapshot.

Everything happens on the disk of the current folder. SQLite writes the same rows with WAL and
synchronous=FULL, a thousand a transaction; a plain loop of O_DIRECT and RWF_DSYNC writes says what
one commit costs here.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import figures
from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.journal.disk import FolderDisk
from pybehave.journal.testdisk import measure
from pybehave.journal.verify import verify
from pybehave.runtime.node import Node

ROW = b"x" * 128
BATCH = 1000
LARGE_VALUES = 100_000
LARGE_VALUE_WORDS = 125
BEFORE_S = 1.0
BAR_SNAPSHOT_MS = 5.0
FIO, COMMIT = "fio, us a write", "ours, us a commit"
BARS_OVER = [
    ("SQLite, us a row", "ours, us a command", 1.3),
    ("ours, rows a second", "SQLite, rows a second", 1.8),
    (FIO, COMMIT, 1 / 1.15),
]
"""Two rows, and how many times the second the first is to be."""
BAR_REPLAY = 1.5e6
HUGE_PAGES = {
    "": {},
    ", huge pages": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"},
}
"""docs/operating/journal.md says what that does."""


class Trivial(GenServer[int, bytes, int]):
    """Counts."""

    def init(self, args: object) -> int:
        """Start at 0."""
        return 0

    def step(self, command: bytes, state: int) -> tuple[int, int]:
        """Count one."""
        return state + 1, state + 1


class Large(GenServer[dict[int, bytes], int, int]):
    """Holds a hundred megabytes, in values of 1000 bytes that are all different objects: one
    value 100,000 times over is one page, and a fork of it costs nothing.
    """

    def init(self, args: object) -> dict[int, bytes]:
        """Made at once: the bench is not about filling it."""
        return {key: key.to_bytes(8, "big") * LARGE_VALUE_WORDS for key in range(LARGE_VALUES)}

    def step(self, command: int, state: dict[int, bytes]) -> tuple[dict[int, bytes], int]:
        """Change one value, wherever it lies."""
        state[command * 7919 % LARGE_VALUES] = command.to_bytes(8, "little") * LARGE_VALUE_WORDS
        return state, command


def app(server: type[GenServer[Any, Any, Any]]) -> Application:
    """One journaled server."""
    return Application("journal", Supervisor("one_for_one", [Worker("s", server, journal=True)]))


def alone(node: Any, count: int) -> float:
    """One command at a time: microseconds each."""
    began = time.perf_counter()
    for _ in range(count):
        node.call("s", ROW)
    return (time.perf_counter() - began) / count * 1e6


def commits_alone(node: Any, count: int) -> float:
    """The same, and of it the commit alone: from its write's start until the loop sees the end."""
    before = node.stats()["journal"]
    for _ in range(count):
        node.call("s", ROW)
    after = node.stats()["journal"]
    spent = after["latency_us_sum"] - before["latency_us_sum"]
    writes = sum(after["latency_us"].values()) - sum(before["latency_us"].values())
    return float(spent / writes)


def fio(folder: Path) -> float | None:
    """What fio's writes of 4 KiB take, one at a time with O_DIRECT and O_DSYNC over blocks that are
    there: microseconds on average. None without fio.
    """
    if shutil.which("fio") is None:
        return None
    command = ["fio", "--name=w", f"--directory={folder}", "--size=2M", "--bs=4k", "--rw=write"]
    command += ["--direct=1", "--sync=dsync", "--ioengine=psync", "--overwrite=1"]
    said = subprocess.run(
        [*command, "--output-format=json"], check=True, stdout=subprocess.PIPE, timeout=60
    ).stdout
    return float(json.loads(said)["jobs"][0]["write"]["lat_ns"]["mean"]) / 1000


def batches(node: Any, count: int) -> float:
    """Rows a second, a thousand a commit."""
    rows = [ROW] * BATCH
    began = time.perf_counter()
    for _ in range(count // BATCH):
        node.call_many("s", rows)
    return count / (time.perf_counter() - began)


def sqlite_alone(path: Path, count: int) -> float:
    """One row a transaction: microseconds each."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS rows (row BLOB)")
    began = time.perf_counter()
    for _ in range(count):
        database.execute("INSERT INTO rows VALUES (?)", (ROW,))
    spent = time.perf_counter() - began
    database.close()
    return spent / count * 1e6


def sqlite_batches(path: Path, count: int) -> float:
    """Rows a second, a thousand a transaction."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE IF NOT EXISTS rows (row BLOB)")
    rows = [(ROW,)] * BATCH
    began = time.perf_counter()
    for _ in range(count // BATCH):
        database.execute("BEGIN")
        database.executemany("INSERT INTO rows VALUES (?)", rows)
        database.execute("COMMIT")
    spent = time.perf_counter() - began
    database.close()
    return count / spent


def snapshot_pause(folder: str) -> dict[str, float]:
    """What 99.9 of 100 calls from a thread do not exceed, before and while 100 MB are snapshot, and
    how long the loop itself stood still; milliseconds.
    """
    node = app(Large).start(data=folder)
    waits: list[float] = []
    is_over = threading.Event()

    def ask() -> None:
        number = 0
        while not is_over.is_set():
            began = time.perf_counter()
            node.call("s", number)
            waits.append(time.perf_counter() - began)
            number += 1

    thread = threading.Thread(target=ask)
    thread.start()
    is_over.wait(BEFORE_S)
    before, waits[:] = sorted(waits), []
    node.run_on_loop(node.journal.snapshots.take)
    while node.journal.snapshots.is_busy:
        is_over.wait(0.005)
    is_over.set()
    thread.join()
    pause = node.journal.snapshots.seconds_longest
    node.stop()
    waits.sort()
    return {
        "p99.9 of calls before it, ms": before[len(before) * 999 // 1000] * 1e3,
        "p99.9 of calls, ms": waits[len(waits) * 999 // 1000] * 1e3,
        "pause of the loop, ms": pause * 1e3,
    }


def snapshot_pauses(folder: Path, rounds: int, add: Callable[[str, float], None]) -> None:
    """In processes of their own, with small pages and with large ones by turns."""
    for number in range(rounds):
        for words, more in HUGE_PAGES.items():
            data = str(folder / f"large-{number}{words}")
            code = f"from bench import journal as j; print(j.snapshot_json({data!r}))"
            command = [sys.executable, "-c", code]
            env = {**os.environ, **more}
            found = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env)
            shutil.rmtree(data)
            for name, value in json.loads(found.stdout).items():
                add(f"100 MB snapshot{words}: {name}", value)


def snapshot_json(folder: str) -> str:
    """`snapshot_pause` for another process."""
    return json.dumps(snapshot_pause(folder))


def main(quick: bool) -> Any:
    """Run, print, return."""
    folder = Path(tempfile.mkdtemp(prefix="journal-", dir="."))
    rounds, rows = (1, 20_000) if quick else (5, 200_000)
    found: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    try:
        print(FolderDisk(folder / "probe").medium().sentence)
        node = app(Trivial).start(data=folder / "data")
        node.journal.snapshots.records = node.journal.snapshots.count_bytes = 1 << 60
        for _ in range(rounds):
            add("disk, us a commit", measure(FolderDisk(folder / "probe")).p50_us)
            if (theirs := fio(folder)) is not None:
                add(FIO, theirs)
            add(COMMIT, commits_alone(node, 500))
            add("ours, us a command", alone(node, 500))
            add("SQLite, us a row", sqlite_alone(folder / "alone.db", 500))
            add("ours, rows a second", batches(node, rows))
            add("SQLite, rows a second", sqlite_batches(folder / "rows.db", rows))
        shutil.copytree(folder / "data", folder / "crashed")  # as a power cut would leave it
        node.stop(drain=False)
        _replay(folder / "crashed", add)
        snapshot_pauses(folder, rounds, add)
    finally:
        shutil.rmtree(folder)
    table = [[name, figures.spread(values, digits=1)] for name, values in found.items()]
    print(figures.table(["journal", "median (quartiles)"], table))
    for one, other, bar in BARS_OVER:
        if one in found:
            ratio = figures.median(figures.ratios(found[one], found[other]))
            print(f"  {one} / {other}: {figures.verdict(ratio, bar)}")
    replayed = figures.median(found["replay, commands a second"])
    if not quick:  # else it is the start that takes the time
        print(f"  replay: {figures.verdict(replayed / BAR_REPLAY, 1.0)}")
    slowest = figures.median(found["100 MB snapshot: p99.9 of calls, ms"])
    print(f"  calls while a snapshot is taken: {figures.verdict(BAR_SNAPSHOT_MS / slowest, 1.0)}")
    return found


def _replay(data: Path, add: Callable[[str, float], None]) -> None:
    report = verify(str(data))
    add("verify, MB/s", report.bytes / report.seconds / 1e6)
    node = Node(app(Trivial), backend="epoll", data=data)
    began = time.perf_counter()
    node.boot()
    spent = time.perf_counter() - began
    assert node.journal is not None and node.journal.recovery is not None
    add("start, s", spent)
    add("replay, commands a second", node.journal.recovery.report.replayed / spent)
    node.stop()


def series(result: Any) -> tuple[dict[str, dict[str, float]], str]:
    """For the plot."""
    return {
        name: {"pybehave": figures.median(values)} for name, values in result.items()
    }, "as named"

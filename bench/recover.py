"""After a crash: how long until a node serves again, and how fast its journal is read.

A child process takes ten million commands with snapshots as they are by default, and is killed.
Then, round by round, on copies of what it left: `pybehave run` until it says that it is ready, and
`verify`, the walk of recovery, and plain reads of the same files that do nothing with them: the
disk's own rate, into memory that is used again.
"""

from __future__ import annotations

import mmap
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import figures
from bench.journal import BATCH, ROW, Trivial
from pybehave import Application, Listener, Supervisor, Worker
from pybehave.journal import recovery
from pybehave.journal.disk import FolderDisk
from pybehave.journal.verify import verify
from pybehave.protocols import Lines

COMMANDS = 10_000_000
COMMANDS_QUICK = 200_000
BAR_START_S = 2.0
BAR_VERIFY = 1e9
READ_BYTES = 8 << 20

app = Application(
    "recover",
    Supervisor("one_for_one", [Worker("s", Trivial, journal=True)]),
    listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="s")],
)


def fill(data: str, count: int) -> None:
    """Take so many commands, and be killed."""
    node = app.start(data=data)
    rows = [ROW] * BATCH
    for _ in range(count // BATCH):
        node.call_many("s", rows)
    os.kill(os.getpid(), signal.SIGKILL)


def start_s(data: Path) -> float:
    """Seconds from the command to its word that it is ready."""
    command = [sys.executable, "-m", "pybehave", "run", "bench.recover:app", "--data", str(data)]
    began = time.perf_counter()
    with subprocess.Popen(
        [*command, "--log-level", "error"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        if not any(line.startswith("ready") for line in process.stdout):
            raise RuntimeError("it did not start; see above")
        spent = time.perf_counter() - began
        process.kill()
    return spent


def read_rate(data: Path) -> float:
    """Bytes a second of plain O_DIRECT reads."""
    room, count = mmap.mmap(-1, READ_BYTES), 0
    room.write(bytes(READ_BYTES))
    began = time.perf_counter()
    for file in sorted(data.glob("seg-*")):
        fd, at = os.open(file, os.O_RDONLY | os.O_DIRECT), 0
        while got := os.preadv(fd, [room], at):
            at += got
        os.close(fd)
        count += at
    return count / (time.perf_counter() - began)


def verify_rate(data: Path) -> float:
    """Bytes a second of `pybehave journal verify`, all that it reads counted."""
    report = verify(str(data))
    assert report.problems == []
    return sum(file.stat().st_size for file in data.glob("seg-*")) / report.seconds


def walk_rate(data: Path) -> float:
    """Bytes a second of steps 1 to 13 of a recovery."""
    size = sum(file.stat().st_size for file in data.glob("seg-*"))
    began = time.perf_counter()
    recovery.recover(FolderDisk(data), recovery.Options(), now_ns=time.time_ns())
    return size / (time.perf_counter() - began)


def on_a_copy(crashed: Path, measure: Callable[[Path], float]) -> float:
    """A start changes what it finds; each begins with the same."""
    copy = crashed.with_name("copy")
    shutil.copytree(crashed, copy)
    os.sync()
    try:
        return measure(copy)
    finally:
        shutil.rmtree(copy)


def main(quick: bool) -> Any:
    """Run, print, return."""
    folder = Path(tempfile.mkdtemp(prefix="recover-", dir="."))
    crashed = folder / "crashed"
    count = COMMANDS_QUICK if quick else COMMANDS
    found: dict[str, list[float]] = {}
    try:
        print(FolderDisk(folder / "probe").medium().sentence)
        words = [sys.executable, "-m", "bench.recover", str(crashed), str(count)]
        subprocess.run(words, check=False)
        for _ in range(1 if quick else 7):
            for name, value in (
                (f"start after {count} commands, ms", on_a_copy(crashed, start_s) * 1e3),
                ("disk, MB/s", read_rate(crashed) / 1e6),
                ("verify, MB/s", verify_rate(crashed) / 1e6),
                ("recovery without replay, MB/s", on_a_copy(crashed, walk_rate) / 1e6),
            ):
                found.setdefault(name, []).append(value)
    finally:
        shutil.rmtree(folder)
    rows = [[name, figures.spread(values)] for name, values in found.items()]
    print(figures.table(["recover", "median (quartiles)"], rows))
    starts, disk, verified, _ = found.values()
    print(f"  start: {figures.verdict(BAR_START_S * 1e3 / figures.median(starts), 1.0)}")
    bars = [min(BAR_VERIFY / 1e6, rate) for rate in disk]
    ratio = figures.median(figures.ratios(verified, bars))
    print(f"  verify, against 1 GB/s or what the disk gives: {figures.verdict(ratio, 1.0)}")
    return found


def series(result: Any) -> tuple[dict[str, dict[str, float]], str]:
    """For the plot."""
    return {
        name: {"pybehave": figures.median(values)} for name, values in result.items()
    }, "as named"


if __name__ == "__main__":
    fill(sys.argv[1], int(sys.argv[2]))

"""RESP SET of 64 bytes that survives a power cut.

Ours journals with one O_DIRECT write per group commit; Redis appends to its file with
`appendfsync always`. Both lie in the same folder. What the journal costs is the same server without
one. A figure is only as durable as the device: its name and file system stand in the table.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from bench import figures, generator, servers
from bench.resp import KEYS
from pybehave.journal.disk import FolderDisk

OURS, EPOLL, MEMORY, REDIS = "pybehave uring", "pybehave epoll", "in memory", "Redis always"
SHAPES = [(1, 1), (64, 1), (512, 1), (64, 16), (512, 16)]
BARS = {(1, 1): 1.3, (64, 1): 1.2, (512, 1): 1.2, (64, 16): 1.8, (512, 16): 1.8}
MEMORY_BARS = {(512, 16): 0.65}


def contenders(folder: Path) -> dict[str, Any]:
    """Recipes, all of them on the disk of one folder."""
    redis_folder = folder / "redis"
    redis_folder.mkdir()
    return {
        OURS: servers.pybehave("examples.kv:app", "auto", data=str(folder / "uring")),
        EPOLL: servers.pybehave("examples.kv:app", "epoll", data=str(folder / "epoll")),
        MEMORY: servers.pybehave("examples.kv:app", "auto"),
        REDIS: servers.redis(
            "--appendonly", "yes", "--appendfsync", "always", "--dir", str(redis_folder)
        ),
    }


def measure(folder: Path, rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Shape -> contender -> its windows, one for each round."""
    with servers.running(contenders(folder)) as up:
        return {
            f"set {shape[0]} x {shape[1]}": generator.drive(up, shape, rounds, seconds, keys=KEYS)
            for shape in SHAPES
        }


def main(quick: bool) -> Any:
    """Run, print, return."""
    folder = Path(tempfile.mkdtemp(prefix="durable-", dir="."))
    try:
        print(FolderDisk(folder).medium().sentence)
        windows = measure(folder, *((1, 0.2) if quick else (7, 0.8)))
    finally:
        shutil.rmtree(folder)
    rows = []
    late = []
    names = (OURS, EPOLL, MEMORY, REDIS)
    for shape, (key, found) in zip(SHAPES, windows.items(), strict=True):
        by_name = {name: [one["rate"] for one in found[name]] for name in found}
        late.append([key, *(_late(found[n]) if n in found else "-" for n in names)])
        row = [key, *(figures.spread(by_name[n], 1000) if n in by_name else "-" for n in names)]
        row.append(_verdict(by_name, REDIS, BARS.get(shape)))
        row.append(_verdict(by_name, MEMORY, MEMORY_BARS.get(shape)))
        rows.append(row)
    print(figures.table(["k/s", *names, "to Redis", "to memory"], rows))
    print(figures.table(["us: median, p99 of a batch", *names], late))
    return windows


def _late(windows: list[dict[str, float]]) -> str:
    return ", ".join(f"{figures.median([w[k] for w in windows]):.0f}" for k in ("p50_us", "p99_us"))


def _verdict(by_name: dict[str, list[float]], other: str, bar: float | None) -> str:
    if OURS not in by_name or other not in by_name:
        return "-"
    ratio = figures.median(figures.ratios(by_name[OURS], by_name[other]))
    return f"{ratio:.2f} x" if bar is None else figures.verdict(ratio, bar)


def series(result: Any) -> tuple[dict[str, dict[str, float]], str]:
    """For the plot."""
    return {
        key: {n: figures.median([x["rate"] for x in w]) / 1000 for n, w in by_name.items()}
        for key, by_name in result.items()
    }, "thousand durable requests per second"

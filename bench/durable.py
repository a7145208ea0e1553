"""RESP SET of 64 bytes that survives a power cut, driven by redis-benchmark.

Ours journals with one O_DIRECT write per group commit; Redis appends to its file with
`appendfsync always`. Both lie in the same folder. What the journal costs is the same server without
one. A figure is only as durable as the device: its name and file system stand in the table.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

from bench import figures, servers
from bench.resp import drive
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


def measure(folder: Path, rounds: int, requests: int) -> dict[str, dict[str, list[float]]]:
    """Shape -> contender -> requests a second, one for each round."""
    rates: dict[str, dict[str, list[float]]] = {}
    with servers.running(contenders(folder)) as up:
        for shape in SHAPES:
            count = requests * (6 if shape[1] > 1 else 1) // (10 if shape[0] == 1 else 1)
            for _ in range(rounds):
                for server in random.sample(up, len(up)):
                    rate = drive(server, "set", shape, count)
                    by_name = rates.setdefault(f"set {shape[0]} x {shape[1]}", {})
                    by_name.setdefault(server.name, []).append(rate)
    return rates


def main(quick: bool) -> Any:
    """Run, print, return."""
    folder = Path(tempfile.mkdtemp(prefix="durable-", dir="."))
    try:
        print(FolderDisk(folder).medium().sentence)
        rates = measure(folder, *((1, 10_000) if quick else (7, 40_000)))
    finally:
        shutil.rmtree(folder)
    rows = []
    for shape, (key, by_name) in zip(SHAPES, rates.items(), strict=True):
        cells = [figures.spread(by_name[n], 1000) if n in by_name else "-" for n in by_name]
        row = [
            key,
            *[
                figures.spread(by_name[n], 1000) if n in by_name else "-"
                for n in (OURS, EPOLL, MEMORY, REDIS)
            ],
        ]
        assert cells
        row.append(_verdict(by_name, REDIS, BARS.get(shape)))
        row.append(_verdict(by_name, MEMORY, MEMORY_BARS.get(shape)))
        rows.append(row)
    heads = ["k/s", OURS, EPOLL, MEMORY, REDIS, "to Redis", "to memory"]
    print(figures.table(heads, rows))
    return rates


def _verdict(by_name: dict[str, list[float]], other: str, bar: float | None) -> str:
    if OURS not in by_name or other not in by_name:
        return "-"
    ratio = figures.median(figures.ratios(by_name[OURS], by_name[other]))
    return f"{ratio:.2f} x" if bar is None else figures.verdict(ratio, bar)


def series(result: Any) -> tuple[dict[str, dict[str, float]], str]:
    """For the plot."""
    return {
        key: {name: figures.median(rates) / 1000 for name, rates in by_name.items()}
        for key, by_name in result.items()
    }, "thousand durable requests per second"

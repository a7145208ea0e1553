"""RESP SET and GET of 64 bytes: us against Redis, in memory.

Driven by redis-benchmark, which is the limit itself where it has one command in flight; SETs also
by our own load generator, beside which requests for each second of the server's CPU time stand.
"""

from __future__ import annotations

import random
import shutil
import subprocess
from typing import Any

from bench import build, figures, generator, servers

OURS = "pybehave uring"
CONTENDERS: dict[str, Any] = {
    OURS: servers.pybehave("examples.kv:app", "auto"),
    "pybehave epoll": servers.pybehave("examples.kv:app", "epoll"),
    "Redis": servers.redis("--appendonly", "no"),
}
SHAPES = [(64, 1), (512, 1), (64, 16), (512, 16)]
BARS = {1: 1.1, 16: 1.4}
KEYS = 100_000


def drive(server: servers.Server, command: str, shape: tuple[int, int], requests: int) -> float:
    """One run of redis-benchmark; requests a second."""
    program = shutil.which("redis-benchmark")
    if program is None:
        raise build.CannotBuildError("no redis-benchmark; apt-get install redis-tools")
    words = [program, "-p", server.port, "-t", command, "-n", requests, "-c", shape[0]]
    words += ["-P", shape[1], "-d", 64, "-r", KEYS, "--csv"]
    cpu = str(servers.load_cpu())
    run = subprocess.run(
        ["taskset", "-c", cpu, *map(str, words)], capture_output=True, text=True, check=True
    )
    return float(run.stdout.strip().splitlines()[-1].split(",")[1].strip('"'))


def measure(rounds: int, requests: int) -> dict[str, dict[str, list[float]]]:
    """Shape and command -> contender -> requests a second, one for each round."""
    rates: dict[str, dict[str, list[float]]] = {}
    with servers.running(CONTENDERS) as up:
        for shape in SHAPES:
            for command in ("set", "get"):
                key = f"{command} {shape[0]} x {shape[1]}"
                count = requests * (6 if shape[1] > 1 else 1)
                for _ in range(rounds):
                    for server in random.sample(up, len(up)):
                        rate = drive(server, command, shape, count)
                        rates.setdefault(key, {}).setdefault(server.name, []).append(rate)
    return rates


def main(quick: bool) -> Any:
    """Run, print, return."""
    rates = measure(*((1, 20_000) if quick else (7, 60_000)))
    rows = []
    for key, by_name in rates.items():
        cells = [figures.spread(by_name[n], 1000) if n in by_name else "-" for n in CONTENDERS]
        says = "-"
        if OURS in by_name and "Redis" in by_name:
            pairs = figures.ratios(by_name[OURS], by_name["Redis"])
            says = figures.verdict(figures.median(pairs), BARS[int(key.split()[-1])])
        rows.append([key, *cells, says])
    print(figures.table(["k/s", *CONTENDERS, "to Redis"], rows))
    for shape in SHAPES:
        name = f"set {shape[0]} x {shape[1]}, spinning client"
        windows = generator.measure(
            CONTENDERS, shape, *((1, 0.2) if quick else (7, 0.6)), keys=KEYS
        )
        rates[name] = {n: [one["rate"] for one in found] for n, found in windows.items()}
        show_spinning(name, windows)
    return rates


def show_spinning(name: str, windows: dict[str, Any]) -> None:
    """Print one shape: a second, a second of CPU time, and both as ratios."""
    rows = []
    for who in filter(windows.get, CONTENDERS):
        columns = [[one[key] for one in windows[who]] for key in ("rate", "per_cpu_s")]
        rows.append([who, *(figures.spread(column, 1000) for column in columns)])
    print(figures.table([name, "k/s", "k per CPU s"], rows))
    if OURS in windows and "Redis" in windows:
        for key, what in (("rate", "a second"), ("per_cpu_s", "a second of CPU")):
            both = ([one[key] for one in windows[n]] for n in (OURS, "Redis"))
            ratio = figures.median(figures.ratios(*both))
            print(f"  {OURS} / Redis, {what}: {ratio:.2f} x")


def series(result: Any) -> tuple[dict[str, dict[str, float]], str]:
    """For the plot."""
    return {
        key: {name: figures.median(rates) / 1000 for name, rates in by_name.items()}
        for key, by_name in result.items()
    }, "thousand requests per second"

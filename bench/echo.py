"""Echo of 64 bytes through a step: requests a second, latency, requests per CPU second.

All contenders are up at once, each with its own load generator that keeps its connections; short
windows alternate in random order. What is compared is compared within one round.
"""

from __future__ import annotations

import sys
from typing import Any

from bench import build, figures, generator, servers

SIZE = 64
SHAPES = [(64, 1), (1000, 1), (64, 16)]
OURS = "pybehave uring"
TWIN = "pybehave epoll"
BARS: dict[tuple[str, tuple[int, int]], dict[str, float]] = {
    (OURS, (64, 1)): {
        "C io_uring": 0.95,
        "asyncio protocol": 1.4,
        "uvloop protocol": 1.25,
        "asyncio streams": 1.9,
        "Erlang": 1.0,
    },
    (OURS, (1000, 1)): {
        "C io_uring": 1.0,
        "asyncio protocol": 2.0,
        "uvloop protocol": 1.6,
        "asyncio streams": 2.7,
        "Erlang": 1.0,
    },
    (OURS, (64, 16)): {
        "C io_uring": 0.75,
        "asyncio protocol": 1.5,
        "uvloop protocol": 1.3,
        "asyncio streams": 10.0,
        "uvloop streams": 7.0,
        "Erlang": 1.0,
    },
    (TWIN, (64, 1)): {"uvloop protocol": 1.15, "Erlang": 1.0},
    (TWIN, (1000, 1)): {"uvloop protocol": 1.15, "Erlang": 1.0},
    (TWIN, (64, 16)): {"uvloop protocol": 1.3, "Erlang": 1.0},
}


def _program(source: str, *libraries: str) -> Any:
    return lambda port: ([str(build.compiled(source, *libraries)), str(port)], {})


def _loop(loop: str, kind: str) -> Any:
    module = [sys.executable, "-m", "bench.contenders.loop_echo", loop, kind]
    return lambda port: ([*module, str(port), str(SIZE)], {})


def _erlang(port: int) -> tuple[list[str], dict[str, str]]:
    run = f'bench_echo:main(["{port}"])'
    return ["erl", "-noshell", "+S", "1", "-pa", str(build.erlang()), "-eval", run], {}


CONTENDERS: dict[str, Any] = {
    OURS: servers.pybehave("examples.echo:app", "auto", ECHO_SIZE=str(SIZE)),
    TWIN: servers.pybehave("examples.echo:app", "epoll", ECHO_SIZE=str(SIZE)),
    "C io_uring": _program("contenders/uring_echo.c", "uring"),
    "C epoll": _program("contenders/epoll_echo.c"),
    "asyncio protocol": _loop("asyncio", "protocol"),
    "asyncio streams": _loop("asyncio", "streams"),
    "uvloop protocol": _loop("uvloop", "protocol"),
    "uvloop streams": _loop("uvloop", "streams"),
    "Erlang": _erlang,
}


def show(shape: tuple[int, int], windows: dict[str, Any]) -> None:
    """The table of one shape, and what became of its bars."""
    rows = []
    for name in CONTENDERS:
        if name in windows:
            w = windows[name]
            rows.append(
                [
                    name,
                    figures.spread([x["rate"] for x in w], 1000),
                    figures.spread([x["per_cpu_s"] for x in w], 1000),
                    *(f"{figures.median([x[p] for x in w]):.0f}" for p in ("p50_us", "p99_us")),
                ]
            )
    print(f"\n{shape[0]} connections, {shape[1]} in flight each, {SIZE} bytes\n")
    print(figures.table(["", "k/s", "k per CPU s", "p50 us", "p99 us"], rows))
    for (ours, at), bars in BARS.items():
        if at != shape or ours not in windows:
            continue
        for theirs, bar in bars.items():
            if theirs in windows:
                pairs = figures.ratios(*([x["rate"] for x in windows[n]] for n in (ours, theirs)))
                print(f"  {ours} / {theirs}: {figures.verdict(figures.median(pairs), bar)}")


def main(quick: bool) -> Any:
    """Run all shapes."""
    rounds, seconds = (3, 0.2) if quick else (12, 0.6)
    results = {}
    for shape in SHAPES:
        windows = generator.measure(CONTENDERS, shape, rounds, seconds, size=SIZE)
        show(shape, windows)
        results[f"{shape[0]} x {shape[1]}"] = windows
    return results


def series(result: Any) -> tuple[dict[str, dict[str, float]], str]:
    """For the plot: thousands of requests a second."""
    return {
        shape: {n: figures.median([x["rate"] for x in w]) / 1000 for n, w in windows.items()}
        for shape, windows in result.items()
    }, "thousand requests per second"

"""In-process calls: on the loop's thread, from another thread, from asyncio; and the others'."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from bench import build, figures
from pybehave import Application, GenServer, Supervisor, Worker

OURS = "on the loop's thread"
ERLANG = "Erlang gen_server:call"
BAR = 2.0


class Counter(GenServer[int, str, int]):
    """Counts."""

    def init(self, args: object) -> int:
        """Start at 0."""
        return 0

    def step(self, command: str, state: int) -> tuple[int, int]:
        """Count one."""
        return state + 1, state + 1


APP = Application("calls", Supervisor("one_for_one", [Worker("counter", Counter)]))


def timed(function: Callable[[], None], count: int) -> float:
    """Calls a second."""
    began = time.perf_counter()
    for _ in range(count):
        function()
    return count / (time.perf_counter() - began)


async def queue_and_future(count: int) -> float:
    """The same on asyncio: a queue, a task that serves it, a future for each answer."""
    queue: asyncio.Queue[Any] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    async def serve() -> None:
        state = 0
        while True:
            future = await queue.get()
            state += 1
            future.set_result(state)

    task = asyncio.create_task(serve())
    began = time.perf_counter()
    for _ in range(count):
        future = loop.create_future()
        queue.put_nowait(future)
        await future
    task.cancel()
    return count / (time.perf_counter() - began)


def round_of(node: Any, count: int) -> dict[str, float | None]:
    """Every way once."""

    def direct() -> float:
        return timed(lambda: node.call("counter", "increment"), count)

    async def awaited() -> float:
        began = time.perf_counter()
        for _ in range(count // 20):
            await node.acall("counter", "increment")
        return count // 20 / (time.perf_counter() - began)

    return {
        OURS: node.run_on_loop(direct),
        "from another thread": timed(lambda: node.call("counter", "increment"), count // 20),
        "awaited from asyncio": asyncio.run(awaited()),
        "asyncio queue and future": asyncio.run(queue_and_future(count // 4)),
        ERLANG: build.erlang_rate(ERLANG, f'bench_echo:calls(["{count}"])'),
    }


def main(quick: bool) -> Any:
    """Run, print, return."""
    rounds, count = (2, 20_000) if quick else (7, 400_000)
    rates: dict[str, list[float]] = {}
    with APP.start() as node:
        for _ in range(rounds):
            for name, rate in round_of(node, count).items():
                if rate is not None:
                    rates.setdefault(name, []).append(rate)
    rows = [[name, figures.spread(values, 1000)] for name, values in rates.items()]
    print(figures.table(["", "thousand calls a second"], rows))
    if ERLANG in rates:
        ratio = figures.median(figures.ratios(rates[OURS], rates[ERLANG]))
        print(f"  {OURS} / {ERLANG}: {figures.verdict(ratio, BAR)}")
    return rates

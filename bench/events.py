"""One event to ten handlers: deliveries a second, beside Erlang's gen_event and asyncio queues.

Every hundredth event is waited for, by us and on asyncio: a producer that is never held up measures
how well a hundred thousand objects that wait are collected as garbage, and not deliveries.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any

from bench import build, figures
from pybehave import Application, EventHandler, GenEvent, Supervisor, Worker, events

HANDLERS = 10
OURS = "GenEvent, one event a call"
BATCHED = "GenEvent, handlers that take batches"
PRODUCERS = "GenEvent, batches from the producer too"
ONLY_PRODUCERS = "GenEvent, one event a call, batches from the producer"
PIECE = 100
ERLANG = "Erlang gen_event"
QUEUES = "asyncio, a queue for each"
BARS = {ERLANG: 2.0, QUEUES: 10.0}


class Count(EventHandler):
    """Counts."""

    def handle_event(self, event: Any, state: int) -> int:
        """One more."""
        return state + 1


class CountAll(EventHandler):
    """Counts, a batch at a time."""

    def handle_batch(self, events: list[Any], state: int) -> int:
        """Many more."""
        return state + len(events)


ADDED = [events.add_handler((Count, number), 0) for number in range(HANDLERS)]
IN_BATCHES = [events.add_handler((CountAll, number), 0) for number in range(HANDLERS)]
APP = Application(
    "events",
    Supervisor(
        "one_for_one", [Worker("bus", GenEvent, ADDED), Worker("batches", GenEvent, IN_BATCHES)]
    ),
)


async def queues(count: int) -> float:
    """A task and a queue for each handler."""
    all_queues: list[asyncio.Queue[Any]] = [asyncio.Queue() for _ in range(HANDLERS)]

    async def handle(queue: asyncio.Queue[Any]) -> None:
        state = 0
        while await queue.get() is not None:
            state += 1

    tasks = [asyncio.create_task(handle(queue)) for queue in all_queues]
    began = time.perf_counter()
    for number in range(count):
        for queue in all_queues:
            queue.put_nowait(("order", number))
        if number % 100 == 0:
            await asyncio.sleep(0)
    for queue in all_queues:
        queue.put_nowait(None)
    await asyncio.gather(*tasks)
    return count * HANDLERS / (time.perf_counter() - began)


def main(quick: bool) -> Any:
    """Run, print, return."""
    rounds, count = (2, 5000) if quick else (7, 100_000)
    rates: dict[str, list[float]] = {}
    with APP.start() as node:

        def ours(bus: str) -> float:
            began = time.perf_counter()
            for number in range(count):
                if number % PIECE:
                    node.cast(bus, events.notify(("order", number)))
                else:
                    node.call(bus, events.sync_notify(("order", number)))
            node.call(bus, events.sync_notify("last"))
            return count * HANDLERS / (time.perf_counter() - began)

        def pieces(bus: str) -> float:
            began = time.perf_counter()
            for first in range(0, count, PIECE):
                made = [("order", number) for number in range(first, first + PIECE)]
                waited_for = made.pop()
                node.cast(bus, events.notify_many(made))
                node.call(bus, events.sync_notify(waited_for))
            node.call(bus, events.sync_notify("last"))
            return count * HANDLERS / (time.perf_counter() - began)

        for _ in range(rounds):
            rates.setdefault(PRODUCERS, []).append(node.run_on_loop(partial(pieces, "batches")))
            rates.setdefault(ONLY_PRODUCERS, []).append(node.run_on_loop(partial(pieces, "bus")))
            rates.setdefault(OURS, []).append(node.run_on_loop(partial(ours, "bus")))
            rates.setdefault(BATCHED, []).append(node.run_on_loop(partial(ours, "batches")))
            rates.setdefault(QUEUES, []).append(asyncio.run(queues(count // 10)))
            theirs = build.erlang_rate(ERLANG, f'bench_event:deliveries(["{count}", "{HANDLERS}"])')
            if theirs is not None:
                rates.setdefault(ERLANG, []).append(theirs)
    rows = [[name, figures.spread(values, 1000)] for name, values in rates.items()]
    print(figures.table(["", "thousand deliveries a second"], rows))
    for name, bar in BARS.items():
        if name in rates:
            for own in (OURS, BATCHED, ONLY_PRODUCERS, PRODUCERS):
                ratio = figures.median(figures.ratios(rates[own], rates[name]))
                print(f"  {own} / {name}: {figures.verdict(ratio, bar)}")
    return rates

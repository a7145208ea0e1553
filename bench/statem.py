"""State machines: transitions a second, beside Erlang's; and what 100,000 idle ones cost."""

from __future__ import annotations

import gc
import time
from typing import Any

from bench import build, figures
from bench.calls import timed
from pybehave import Application, GenServer, GenStatem, Supervisor, Worker
from pybehave.actions import Reply
from pybehave.runtime.trimming import QUIET_S, trim
from pybehave.statem import NextState, StateTimeout

OURS = "call and change of state"
ERLANG = "Erlang gen_statem:call and change"
BAR = 1.0
MACHINES = 100_000
BAR_BYTES = {"gen_statem with a timer": 600, "gen_server": 400}
BAR_START_S = 1.0


class Switch(GenStatem):
    """Flips."""

    def init(self, args: object) -> Any:
        """Off."""
        return "off", 0

    def off(self, event_type: Any, content: Any, data: int) -> NextState:
        """To on."""
        return NextState("on", data + 1, Reply(event_type[1], "on"))

    def on(self, event_type: Any, content: Any, data: int) -> NextState:
        """To off."""
        return NextState("off", data + 1, Reply(event_type[1], "off"))


class Waiting(Switch):
    """Idle, with a timer that runs."""

    def init(self, args: object) -> Any:
        """Off, for an hour."""
        return "off", 0, StateTimeout(3600.0)


class Idle(GenServer[int, str, int]):
    """Does nothing."""


def resident_bytes() -> int:
    """Of this process."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4096


def idle(kind: type[Any], count: int) -> tuple[float, float]:
    """Bytes of each beyond its specification, and seconds to start a tree of so many."""
    specs = [Worker(f"m{number}", kind, 0) for number in range(count)]
    app = Application("idle", Supervisor("one_for_one", specs))
    trim()  # what was there before is not to be given back below
    before = resident_bytes()
    began = time.perf_counter()
    with app.start() as node:
        seconds = time.perf_counter() - began
        time.sleep(2 * QUIET_S)
        used = resident_bytes() - before
        assert len(node.names()) == count
    return used / count, seconds


def main(quick: bool) -> Any:
    """Run, print, return."""
    rounds, count = (2, 20_000) if quick else (7, 300_000)
    rates: dict[str, list[float]] = {}
    app = Application("statem", Supervisor("one_for_one", [Worker("switch", Switch)]))
    with app.start() as node:

        def flips() -> float:
            return timed(lambda: node.call("switch", "flip"), count)

        for _ in range(rounds):
            ours = node.run_on_loop(flips)
            rates.setdefault(OURS, []).append(ours)
            theirs = build.erlang_rate(ERLANG, f'bench_switch:flips(["{count}"])')
            if theirs is not None:
                rates.setdefault(ERLANG, []).append(theirs)
    rows = [[name, figures.spread(values, 1000)] for name, values in rates.items()]
    print(figures.table(["", "thousand transitions a second"], rows))
    if ERLANG in rates:
        ratio = figures.median(figures.ratios(rates[OURS], rates[ERLANG]))
        print(f"  {OURS} / {ERLANG}: {figures.verdict(ratio, BAR)}")
    machines = 2000 if quick else MACHINES
    results: dict[str, Any] = dict(rates)
    for name, kind in (("gen_server", Idle), ("gen_statem with a timer", Waiting)):
        each, seconds = idle(kind, machines)
        results[name] = [each, seconds]
        print(f"{machines} of {name}: {each:.0f} B each, started in {seconds:.2f} s")
        print(f"  {BAR_BYTES[name]} B: {figures.verdict(BAR_BYTES[name] / each, 1.0)}", end="")
        print(f"; {BAR_START_S} s: {figures.verdict(BAR_START_S / seconds, 1.0)}")
    return results

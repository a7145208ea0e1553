"""A hundred thousand idle servers: how long they take to start and stop, what each costs.

Every figure is of a process of its own, so that no heap is used twice. The servers are as small as
a server can be: an `init` that returns 0; in the last row also `__slots__ = ()`, so that none has
a dict. The processor time of the start is shown, for the machine
may have other work; the collector is left as it is. Memory is looked at when all have been idle for
a moment (pybehave/runtime/trimming.py).
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from bench import figures

COUNT = 100_000
BAR_START_S = 1.0
BAR_BYTES = 400
KINDS = ("simple_one_for_one", "one_for_one", "simple_one_for_one slotted")

PROGRAM = """
import json, logging, sys, time
from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.runtime.trimming import QUIET_S, trim

class Idle(GenServer):
    if "slotted" in sys.argv[1]:
        __slots__ = ()

    def init(self, args):
        return 0

    def step(self, command, state):
        return state + 1, state

def resident():
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * 4096

kind, count = sys.argv[1].split()[0], int(sys.argv[2])
logging.getLogger("pybehave").addHandler(logging.NullHandler())
logging.getLogger("pybehave").propagate = False
template = Worker("session", Idle)
warm = Application("warm", Supervisor("one_for_one", [Worker("w", Idle)]))
warm.start(data=None).stop()
children = [template]
if kind == "one_for_one":
    children = [Worker(f"session-{n}", Idle) for n in range(count)]
app = Application("bench", Supervisor(kind, children, id="all"))
trim()  # what was there before is not to be given back below
before, began = resident(), time.process_time()
node = app.start(data=None)
if kind != "one_for_one":
    def start_all():
        for _ in range(count):
            node.start_child("all", [])
    node.run_on_loop(start_all)
started = time.process_time() - began
time.sleep(2 * QUIET_S)
used = resident() - before
assert node.call(f"session-{count - 1}", 1) == 0
began = time.process_time()
node.stop()
print(json.dumps([started, time.process_time() - began, used / count]))
"""


def measure(kind: str, count: int) -> tuple[float, float, float]:
    """Seconds to start, seconds to stop, resident bytes of each."""
    command = [sys.executable, "-c", PROGRAM, kind, str(count)]
    found = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    start_s, stop_s, size = json.loads(found.stdout)
    return start_s, stop_s, size


def main(quick: bool) -> Any:
    """Run, print, return."""
    rounds, count = (1, 5000) if quick else (5, COUNT)
    results: dict[str, list[tuple[float, float, float]]] = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            results[kind].append(measure(kind, count))
    rows = [
        [kind, *(figures.spread(list(column), digits=2) for column in zip(*found, strict=True))]
        for kind, found in results.items()
    ]
    print(f"{count} children\n")
    print(figures.table(["", "start, s", "stop, s", "bytes each"], rows))
    for kind, found in results.items():
        seconds, size = (figures.median([row[i] for row in found]) for i in (0, 2))
        per_bar = seconds * COUNT / count
        print(f"  {kind}: start {figures.verdict(BAR_START_S / per_bar, 1.0)}")
        print(f"  {kind}: memory {figures.verdict(BAR_BYTES / size, 1.0)}")
    return results

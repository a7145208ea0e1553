"""`python -m bench NAME [--quick] [--json FILE] [--plot FILE]`; without a name, the list."""

from __future__ import annotations

import argparse
import signal
import sys
from importlib import import_module

from bench import figures

NAMES = {
    "echo": "64-byte echo through a step: us, asyncio, uvloop, C io_uring, C epoll, Erlang",
    "resp": "RESP SET and GET by redis-benchmark: us and Redis, in memory",
    "durable": "RESP SET that survives a power cut: us and Redis with appendfsync always",
    "journal": "the journal in process: batches, SQLite, replay, a large snapshot",
    "recover": "after a crash with ten million commands: time to serving; verify beside the disk",
    "calls": "in-process calls: the loop's thread, other threads, asyncio, Erlang",
    "statem": "state machines: transitions, beside Erlang; 100,000 idle ones with a timer",
    "events": "one event to ten handlers: us, Erlang, asyncio queues",
    "children": "a hundred thousand servers: seconds to start and stop them, memory of each",
    "idle": "memory of an idle connection, all of them answering: us, asyncio, uvloop",
    "restart": "restart of one server, and of a subtree of a thousand",
    "upgrade": "a release changes under load: the longest time a client waits, and who is dropped",
    "isolation": "1 of 1000 servers crashing 100 times a second: latency of the others",
}


def main() -> int:
    """Run the benchmark that is named."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("name", nargs="?", default="list", choices=["list", "all", *NAMES])
    parser.add_argument("--quick", action="store_true", help="few short windows: does it run?")
    parser.add_argument("--json", metavar="FILE", help="write every window")
    parser.add_argument("--plot", metavar="FILE", help="SVG or PNG; needs matplotlib")
    options = parser.parse_args()
    if options.name == "list":
        print("\n".join(f"{name:10} {text}" for name, text in NAMES.items()))
        return 0
    # A TERM unwinds too, else the contenders go on running.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    print("  ".join(f"{key}: {value}" for key, value in figures.facts().items()))
    for name in NAMES if options.name == "all" else [options.name]:
        module = import_module(f"bench.{name}")
        result = module.main(options.quick)
        if options.json:
            figures.save(options.json, name, result)
        if options.plot and hasattr(module, "series"):
            values, unit = module.series(result)
            figures.plot(options.plot, name, values, unit)
    return 0


if __name__ == "__main__":
    sys.exit(main())

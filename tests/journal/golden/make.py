"""Write the golden journal of this version: `python -m tests.journal.golden.make v1`, once.

A name that ends with "-codec" gives one that is compressed and encrypted.

One node in the simulator: calls, casts, a timer, a failed input, a named request, a restart, a
snapshot, and records behind it. `expected.json` says what the server knew at the end.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from pybehave import Application, GenServer, Once, Supervisor, Worker, actions
from pybehave.errors import Crashed
from pybehave.journal.codec import Compressed
from pybehave.journal.encrypted import Encrypted
from pybehave.journal.recovery import Options
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator

HERE = Path(__file__).parent
NAME = "tests/journal/golden/make.py"
KEY = bytes(range(32))
OPTIONS = Options(segment_bytes=64 << 10)
CODED = replace(OPTIONS, codec=(Compressed(), Encrypted(KEY)))


class Golden(GenServer[dict[str, Any], Any, Any]):
    """Keeps what it hears, in every plain type. It must stay as it is."""

    def init(self, args: Any) -> dict[str, Any]:
        return {"heard": [], "random": []}

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        if command == "fail":
            raise ValueError("on purpose")
        state["heard"].append(command)
        state["random"].append(round(self.context.random.random(), 6))
        if command == "timer":
            return state, None, actions.StartTimer("t", 0.5, ("tick", 1))
        if command == "later":
            return state, None, actions.StartTimer("u", 3e9, "in a century")
        return state, len(state["heard"])

    def handle_info(self, message: Any, state: dict[str, Any]) -> Any:
        state["heard"].append(message)
        return state, None


def application() -> Application:
    workers = [Worker(name, Golden, journal=True) for name in ("one", "two")]
    return Application("golden", Supervisor("one_for_one", workers, intensity=9))


def say(world: Simulator, name: str, *commands: Any) -> list[Any]:
    found = []
    for command in commands:
        try:
            found.append(world.node.call(name, command))
        except Crashed:
            found.append("crashed")
        world.run(0.01)
    return found


VALUES = (None, True, -1, 2**70, 1.5, "text", b"bytes", [1, [2]], (1, (2,)), {"k": {1, 2}})


def options_of(version: str) -> Options:
    """How the journal of that folder is kept."""
    return CODED if version.endswith("-codec") else OPTIONS


def main(version: str) -> None:
    code = Golden.step.__code__  # letters have tracebacks: they are to name no folder of a machine
    Golden.step.__code__ = code.replace(co_filename=NAME)
    disk, options = SimDisk(1), options_of(version)
    world = Simulator(1, application(), disk=disk, journal_options=options).start()
    say(world, "one", *VALUES, "timer", "fail", Once("client", 1, "named"))
    world.run(1.0)
    world.node.journal.snapshots.take()
    world.run(0.5)
    say(world, "one", "behind the snapshot", "later")
    world.stop()
    world = Simulator(2, application(), disk=disk, journal_options=options).start()
    say(world, "two", "second life", Once("client", 1, "named"), "fail", "end")
    states = {name: repr(world.node.get_state(name)) for name in ("one", "two")}
    disk = disk.copy()  # killed
    folder = HERE / version
    for name, content in disk.contents().items():
        place = folder / "journal" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    (folder / "expected.json").write_text(json.dumps(states, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])

"""Releases of one application as files on disk: a RESP counter of increments, journaled.

Version 1 keeps {key: number}; version 2 keeps {key: [number, version]}. `INCR key` answers the new
number, `VERSION` the release's; `BREAK` crashes version 2.
"""

from __future__ import annotations

from pathlib import Path

COMMON = """
from pybehave import Application, GenServer, Listener, Release, Supervisor, Worker
from pybehave.protocols import Resp

class Server(GenServer):
    def init(self, args):
        return {}
"""

ONE = """
    def step(self, command, state):
        match command:
            case [b"VERSION"]:
                return state, b"1"
            case [b"INCR", key]:
                state[key] = state.get(key, 0) + 1
                return state, state[key]
"""

TWO = """
    version = 2

    def step(self, command, state):
        match command:
            case [b"VERSION"]:
                return state, b"2"
            case [b"BREAK"]:
                raise ValueError("a deliberate bug")
            case [b"INCR", key]:
                count, _ = state.get(key, (0, 2))
                state[key] = [count + 1, 2]
                return state, count + 1

    def code_change(self, old_version, state, extra):
        if old_version == ("down", 1):
            return {key: count for key, (count, _) in state.items()}
        return {key: [count, 1] for key, count in state.items()}
"""

RAISING = """
    version = 2

    def step(self, command, state):
        return state, b"2"

    def code_change(self, old_version, state, extra):
        for key in list(state):
            del state[key]
        raise ValueError("no way")
"""

APP = """
tree = Supervisor("one_for_one", [Worker("s", Server, journal=True)], intensity=100)
app = Application(
    "counts", tree, version="VERSION", listeners=[Listener("tcp://127.0.0.1:0", Resp(), to="s")]
)
"""

RELEASE = """
release = Release(app, upgrades="1.0")
"""


def write_releases(folder: Path) -> tuple[Path, Path, Path]:
    """Write the releases "1.0", "2.0", and one whose migration raises; returns their folders."""
    places = (folder / "one", folder / "two", folder / "bad")
    for place, server, version in zip(
        places, (ONE, TWO, RAISING), ("1.0", "2.0", "2.1"), strict=True
    ):
        place.mkdir()
        text = COMMON + server + APP.replace("VERSION", version)
        (place / "counts.py").write_text(text if version == "1.0" else text + RELEASE)
    return places

"""Lives of a real folder: processes are killed while clients write, tools look, and code changes.

What a simulated disk does to one is in folder_lives.py. Here it is the system that keeps what a
process had written, the pages of its tail, and no lock of one that is gone.
"""

from __future__ import annotations

import json
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest

from tests.processes import COMMAND, Process, run, serving

STARTS = 5
COMMANDS = 60

CODE = """
from pybehave import Application, GenServer, Listener, Release, Supervisor, Worker
from pybehave.protocols import Resp

class Keeper(GenServer):
    version = VERSION

    def init(self, args):
        return {"log": []} if VERSION > 1 else []

    def step(self, command, state):
        log = state["log"] if VERSION > 1 else state
        match command:
            case [b"ADD", number]:
                log.append(int(number))
            case [b"FAIL", number]:
                log.append(int(number))
                raise ValueError("on purpose")
            case [b"ALL"]:
                return state, str(log).encode()
        return state, len(log)

    def code_change(self, old_version, state, extra):
        return {"log": state}

    def upcast(self, version, message):
        return message

    def upcast_state(self, version, dumped):
        return {"log": dumped}

workers = [
    Worker("disk", Keeper, journal=True), Worker("os", Keeper, journal=True, acknowledge="os")
]
app = Application(
    "lives", Supervisor("one_for_one", workers, intensity=10000, period=1), version="VERSION",
    listeners=[Listener("tcp://127.0.0.1:0", Resp(), to=worker.name) for worker in workers],
)
RELEASE
"""

LISTEN = ("--listen", "tcp://127.0.0.1:0") * 2


class Client:
    """A connection, what it has sent and what was acknowledged to it."""

    def __init__(self, process: Process, name: str) -> None:
        (url,) = (line.split()[0] for line in process.lines if line.endswith(f"-> {name}"))
        self.socket = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), 60)
        self.replies = self.socket.makefile("rb")
        self.waiting: list[tuple[bytes, int]] = []

    def send(self, commands: list[tuple[bytes, int]]) -> None:
        self.socket.sendall(b"".join(b"%s %d\r\n" % command for command in commands))
        self.waiting += commands

    def read(self, count: int) -> list[int]:
        """The numbers of so many commands, those that were acknowledged; fewer where it ended."""
        found = []
        for _ in range(min(count, len(self.waiting))):
            line = self.replies.readline()
            if not line.endswith(b"\r\n"):
                break
            _, number = self.waiting.pop(0)
            if line.startswith(b":"):
                found.append(number)
        return found

    def log(self) -> list[int]:
        self.socket.sendall(b"ALL\r\n")
        size = int(self.replies.readline()[1:])
        found: list[int] = json.loads(self.replies.read(size + 2))
        return found


class Life:
    """One seed. Each start finds what was acknowledged, in its place, once, and nothing else."""

    def __init__(self, seed: str, folder: Path, source: str) -> None:
        self.dice = Random(seed)
        self.folder, self.source, self.data = folder, source, str(folder / "data")
        self.version = self.number = 1
        self.sent: dict[str, set[int]] = {"disk": set(), "os": set()}
        self.acknowledged: dict[str, list[int]] = {"disk": [], "os": []}
        for version in (1, 2):
            (folder / str(version)).mkdir()
            text = CODE.replace("VERSION", str(version))
            release = 'release = Release(app, upgrades="1")' if version > 1 else ""
            (folder / str(version) / "lives.py").write_text(text.replace("RELEASE", release))

    def start(self) -> None:
        words = ("--data", self.data, "--segment-bytes", "65536", *LISTEN)
        with serving("lives:app", self.source, *words) as process:
            clients = {name: Client(process, name) for name in self.sent}
            for name, client in clients.items():
                self.check(name, client.log())
                client.send(self.commands(name))
            changing = self.dice.choice((self.look, self.look, self.upgrade))()
            for name, client in clients.items():
                self.acknowledged[name] += client.read(self.dice.randrange(COMMANDS))
        changing.wait()
        for name, client in clients.items():
            with suppress(OSError):  # of a process that was killed
                self.acknowledged[name] += client.read(COMMANDS)
            client.socket.close()

    def commands(self, name: str) -> list[tuple[bytes, int]]:
        found = []
        for _ in range(COMMANDS):
            self.number += 1
            is_failing = self.dice.random() < 0.05
            found.append((b"FAIL" if is_failing else b"ADD", self.number))
            if not is_failing:
                self.sent[name].add(self.number)
        return found

    def check(self, name: str, log: list[int]) -> None:
        assert len(set(log)) == len(log), (name, "twice", log)
        assert set(log) <= self.sent[name], (name, "invented", set(log) - self.sent[name])
        there = [number for number in log if number in set(self.acknowledged[name])]
        assert there == self.acknowledged[name], (name, "acknowledged and lost")

    def tool(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*COMMAND, *words], stderr=subprocess.DEVNULL)

    def look(self) -> subprocess.Popen[bytes]:
        return self.tool("journal", "stat", self.data)

    def upgrade(self) -> subprocess.Popen[bytes]:
        """To newer code, which from now on is what a start has to have."""
        self.version = 2
        target = ("lives:release", "--path", str(self.folder / "2"))
        return self.tool("release", "upgrade", *target, "--node", self.data)

    def between(self) -> None:
        """Nobody serves it: what may be wrong with it is said, and nothing is."""
        report = run("journal", "verify", "--deep", self.data)
        assert (report.returncode, report.stderr) == (0, "")
        again = run("replay", "lives:app", "--check", "--data", self.data)
        assert again.returncode == 0, again.stdout
        copy = self.folder / f"copy-{self.number}"
        copied = run("journal", "compact", self.data, "--copy-to", str(copy))
        if copied.returncode == 0:
            self.data = str(copy)
        else:
            assert "start the node once, which takes them over" in copied.stderr


@pytest.mark.timeout(300)
def test_what_killed_processes_acknowledged_is_there(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = Life(source, tmp_path, source)
    for number in range(STARTS):
        monkeypatch.chdir(tmp_path / str(life.version))
        if number == STARTS // 2:
            life.between()
        life.start()
    assert all(life.acknowledged.values())

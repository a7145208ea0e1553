"""Clients of an older version, with real processes: they stay connected over upgrades, and over a
process that is replaced, and are spoken to as before.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pybehave.observer.client import AdminClient
from tests.conftest import receive_all
from tests.processes import COMMAND, serving

ONE = """
from pybehave import Application, Bridge, GenServer, Listener, Release, Speaks, Supervisor, Worker
from pybehave.protocols import Lines

class Sums(GenServer):
    def init(self, args):
        return 0

    def step(self, command, total):
        total += int(command.removeprefix("add "))
        return total, f"{total}"

kind, speaks, upgrades = Sums, None, "0"
"""

TWO = """
from pybehave import Application, Bridge, GenServer, Listener, Release, Speaks, Supervisor, Worker
from pybehave.protocols import Lines

class Sums(GenServer):
    version = 2

    def init(self, args):
        return {"EUR": 0}

    def step(self, command, totals):
        _, number, unit = command.split()
        totals[unit] = totals.get(unit, 0) + int(number)
        return totals, f"{totals[unit]} {unit}"

    def code_change(self, old_version, state, extra):
        return state["EUR"] if old_version == ("down", 1) else {"EUR": state}

    def upcast(self, version, message):
        return f"{message} EUR"

    def upcast_state(self, version, dumped):
        return {"EUR": dumped}

bridge = Bridge(
    up_input=lambda command: f"{command} EUR",
    down_output=lambda output: output.removesuffix(" EUR"),
)
kind, speaks, upgrades = Sums, Speaks(2, {1: bridge}), "1.0"
"""

APP = """
app = Application(
    "sums",
    Supervisor("one_for_one", [Worker("s", kind, journal=True)], intensity=100),
    version=VERSION,
    listeners=[Listener("tcp://127.0.0.1:0", Lines("utf-8"), to="s", speaks=speaks)],
)
release = Release(app, upgrades=upgrades)
"""


class Sums(NamedTuple):
    """A node of the first release, and where the releases lie."""

    port: int
    data: str
    folder: Path

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 30)

    def release(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        node = ["--data" if verb == "check" else "--node", self.data]
        return subprocess.run(
            [*COMMAND, "release", verb, *words, *node],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def go(self, verb: str, *words: str) -> None:
        result = self.release(verb, *words)
        assert (result.returncode, result.stderr) == (0, "")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The releases, each in a folder; the first one's is the current one."""
    without = TWO.replace("Speaks(2, {1: bridge})", "Speaks(2)")
    for name, text, version in (
        ("one", ONE, "1.0"), ("two", TWO, "2.0"), ("without", without, "2.0")
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "sums.py").write_text(text + APP.replace("VERSION", repr(version)))
    monkeypatch.chdir(tmp_path / "one")
    return tmp_path


@pytest.fixture
def sums(source: str, folder: Path) -> Iterator[Sums]:
    data = str(folder / "data")
    with serving("sums:app", source, "--data", data) as process:
        yield Sums(process.port, data, folder)
        with contextlib.suppress(Exception), AdminClient(data) as asking:
            os.kill(int(asking.ask("hello")["pid"]), signal.SIGKILL)  # it may be nobody's child


def ask(client: socket.socket, line: str) -> str:
    client.sendall(f"{line}\n".encode())
    return client.makefile("rb").readline().decode().strip()


def test_over_an_upgrade_and_the_way_back(sums: Sums) -> None:
    with sums.connect() as old, sums.connect() as idle:
        assert ask(old, "add 1") == "1"
        sums.go("upgrade", "sums:release", "--path", str(sums.folder / "two"))
        with sums.connect() as new:
            assert ask(new, "add 1 EUR") == "2 EUR"
            assert ask(old, "add 1") == "3"
            assert "2 of version 1, 1 of version 2" in sums.release("status").stdout
            result = sums.release("rollback")
            assert "1 connection ended" in result.stdout
            assert receive_all(new) == b""
        assert ask(old, "add 1") == "4"
        assert ask(idle, "add 1") == "5"


def test_over_processes_that_are_replaced(sums: Sums) -> None:
    with sums.connect() as old:
        assert ask(old, "add 1") == "1"
        old.sendall(b"add ")  # half a request is of the old version, too
        sums.go("replace", "sums:app", "--path", str(sums.folder / "two"))
        assert ask(old, "1") == "2"
        with sums.connect() as new:
            assert ask(new, "add 1 EUR") == "3 EUR"
            sums.go("replace", "sums:app", "--path", str(sums.folder / "two"))
            assert (ask(new, "add 1 EUR"), ask(old, "add 1")) == ("4 EUR", "5")


def test_an_upgrade_and_then_another_process(sums: Sums) -> None:
    with sums.connect() as old:
        assert ask(old, "add 1") == "1"
        sums.go("upgrade", "sums:release", "--path", str(sums.folder / "two"))
        with sums.connect() as new:
            assert ask(new, "add 1 EUR") == "2 EUR"
            sums.go("replace", "sums:app", "--path", str(sums.folder / "two"))
            assert (ask(old, "add 1"), ask(new, "add 1 EUR")) == ("3", "4 EUR")


@pytest.mark.parametrize("verb", ["check", "upgrade", "replace"])
def test_without_a_bridge_nothing_changes(sums: Sums, verb: str) -> None:
    with sums.connect() as old:
        assert ask(old, "add 1") == "1"
        target = "sums:release" if verb == "upgrade" else "sums:app"
        result = sums.release(verb, target, "--path", str(sums.folder / "without"))
        assert result.returncode == 1
        said = result.stdout + result.stderr
        assert "1 connection speaks version 1 of its messages" in said
        assert "Bridge" in said
        assert "Traceback" not in said
        assert ask(old, "add 1") == "2"


def test_a_check_with_the_bridge(sums: Sums) -> None:
    with sums.connect() as old:
        assert ask(old, "add 1") == "1"
        result = sums.release("check", "sums:app", "--path", str(sums.folder / "two"))
        assert (result.returncode, result.stderr) == (0, "")
        assert "sums 2.0 may follow" in result.stdout


def test_older_code_in_another_process_ends_newer_clients(
    source: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newer code alone understands them. Without a journal: older code would not read it."""
    monkeypatch.chdir(folder / "two")
    admin = str(folder / "admin.sock")
    with serving("sums:app", source, "--no-journal", "--admin", admin) as process:
        sums = Sums(process.port, admin, folder)
        with sums.connect() as new:
            assert ask(new, "add 1 EUR") == "1 EUR"
            sums.go("replace", "sums:app", "--path", str(folder / "one"))
            assert receive_all(new) == b""
        with sums.connect() as old:
            assert ask(old, "add 1") == "1"
        with AdminClient(admin) as asking:
            os.kill(int(asking.ask("hello")["pid"]), signal.SIGKILL)

"""A command that ends the process each time it is stepped: heart and journal get past it alone.

The command is durable before it is stepped: its server is suspended while it is sent on to it. Then
it is resumed, and a segmentation fault ends one process after another.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pybehave.errors import NotAnswered
from pybehave.journal import dead_letters
from pybehave.journal.attempts import ATTEMPTS_MAX
from pybehave.observer.client import AdminClient
from tests.power.machine import wait_for
from tests.processes import COMMAND

PROGRAM = """
import ctypes
from pybehave import Application, GenServer, Listener, Supervisor, Worker, actions
from pybehave.protocols import OK, Resp

class Front(GenServer):
    def init(self, args):
        return 0

    def step(self, command, state):
        match command:
            case [b"DBSIZE"]:
                return state, state
            case [_, value]:
                return state + 1, OK, [actions.Cast("back", value)]

class Back(GenServer):
    def init(self, args):
        return []

    def step(self, command, state):
        return state, state

    def handle_cast(self, message, state):
        if message == b"poison":
            ctypes.string_at(0)
        return [*state, message], None

app = Application(
    "poison",
    Supervisor("one_for_one", [
        Worker("front", Front, journal=True), Worker("back", Back, journal=True),
    ]),
    listeners=[
        Listener("tcp://127.0.0.1:0", Resp(), to="front", name="front"),
        Listener("tcp://127.0.0.1:0", Resp(), to="back", name="back"),
    ],
)
"""


@pytest.fixture
def node(tmp_path: Path, source: str) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "poison.py").write_text(PROGRAM)
    with open(tmp_path / "log", "w+b") as log:
        words = [*COMMAND, "run", "poison:app", "--heart", "--backend", source]
        node = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=log, text=True)
        yield node
        node.send_signal(signal.SIGTERM)
        assert node.wait(30) == 0
        assert node.stdout is not None
        node.stdout.close()


def wait_ready(node: subprocess.Popen[str]) -> tuple[int, int]:
    """Until a process serves; the ports of its listeners."""
    assert node.stdout is not None
    ports = []
    for line in node.stdout:
        ports += [int(found[1]) for found in [re.search(r":(\d+)  Resp", line)] if found]
        if line.startswith("ready"):
            front, back = ports
            return front, back
    raise AssertionError("it serves no more")


def test_a_command_that_segfaults_is_got_past_without_an_operator(
    node: subprocess.Popen[str], tmp_path: Path
) -> None:
    front, back = wait_ready(node)
    data = str(tmp_path / "data")
    with redis.Redis(port=front, socket_timeout=30) as asking, AdminClient(data) as admin:
        admin.ask("suspend", server="back")
        for value in ("a", "poison", "b"):
            assert asking.execute_command("PUSH", value)
        with pytest.raises(NotAnswered):  # the process ends before it could
            admin.ask("resume", server="back")
    for _ in range(ATTEMPTS_MAX):
        assert wait_ready(node) == (front, back)
    wait_for(lambda: bool(dead_letters.numbers(data)), "a dead letter")
    with (
        redis.Redis(port=front, socket_timeout=30) as asking,
        redis.Redis(port=back, socket_timeout=30) as looking,
    ):
        assert asking.dbsize() == 3
        assert looking.execute_command("LRANGE") == [b"a", b"b"]
        assert asking.execute_command("PUSH", "c")
        wait_for(lambda: looking.execute_command("LRANGE") == [b"a", b"b", b"c"], "all but it")
    [lsn] = dead_letters.numbers(data)
    assert "ended 3 times" in dead_letters.get(data, lsn).error
    log = (tmp_path / "log").read_text()
    assert log.count("SIGSEGV") == ATTEMPTS_MAX
    assert os.listdir(tmp_path / "data").count("heart.json") == 1

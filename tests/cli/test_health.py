"""`pybehave health`, `pybehave ping` and `attach health`: their words and exit statuses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pybehave.cli import main
from tests.processes import COMMAND, Process, serving

PROGRAM = """
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines

class Fragile(GenServer):
    def init(self, args):
        return 0

    def step(self, command, state):
        if command == "break":
            raise ValueError("a deliberate bug")
        return state, command

sup = Supervisor("one_for_one", [Worker("s", Fragile)], intensity=100)
app = Application("shop", sup, listeners=[Listener("tcp://127.0.0.1:0", Lines("utf-8"), to="s")])
"""


class Served:
    """A served application, and its admin socket."""

    def __init__(self, process: Process, path: str) -> None:
        self.process = process
        self.path = path

    def said(self, *words: str) -> Result:
        command, *rest = words
        return CliRunner().invoke(main, [command, self.path, *rest])

    def fail(self) -> None:
        assert self.said("attach", "call", "s", "'break'").exit_code == 1


@pytest.fixture
def node(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    (tmp_path / "shop_for_test.py").write_text(PROGRAM)
    before = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{before}" if before else str(tmp_path))
    path = str(tmp_path / "admin.sock")
    with serving("shop_for_test:app", source, "--admin", path) as process:
        yield Served(process, path)


def test_a_node_that_is_well_says_so(node: Served) -> None:
    result = node.said("health")
    assert (result.stdout, result.stderr, result.exit_code) == ("ok\n", "", 0)


def test_a_node_that_is_not_says_why(node: Served) -> None:
    node.fail()
    result = node.said("health")
    assert result.exit_code == 1
    head, line = result.stdout.splitlines()
    assert head == "degraded"
    assert line.split()[:2] == ["degraded", "crashes"]
    assert "root/s has failed once, the last time with ValueError" in line
    assert node.said("attach", "health").stdout.splitlines()[0] == head
    found = json.loads(node.said("health", "--json").stdout)
    assert (found["status"], found["is_ready"], found["is_live"]) == ("degraded", True, True)
    assert found["reasons"][0]["where"] == "root/s"


def test_ping_is_answered_also_by_a_node_that_is_degraded(node: Served) -> None:
    node.fail()
    for words in (("ping",), ("ping", "--ready")):
        result = node.said(*words)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith("shop ")
        assert f"(process {node.process.process.pid})" in result.stdout


def test_a_node_that_has_gone_is_failing(node: Served) -> None:
    assert node.process.end(signal.SIGTERM) == 0
    health, ping = node.said("health"), node.said("ping")
    assert (health.exit_code, ping.exit_code) == (2, 1)
    for result in (health, ping):
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) == 1
        assert result.stderr.startswith("pybehave: ")


def test_a_socket_that_does_not_answer_is_given_up(tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(path)
        silent.listen()
        for command, status in (("health", 2), ("ping", 1)):
            words = [*COMMAND, command, path, "--timeout", "0.05"]
            result = subprocess.run(words, capture_output=True, text=True, check=False)
            assert (result.returncode, result.stdout) == (status, "")
            assert len(result.stderr.splitlines()) == 1


def test_the_node_logs_a_change_by_itself(source: str, tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    (tmp_path / "shop_for_test.py").write_text(PROGRAM)
    words = ["run", "shop_for_test:app", "--backend", source, "--admin", path]
    process = subprocess.Popen(
        [*COMMAND, *words, "--health-every", "0.05"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"},
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        while not process.stdout.readline().startswith("ready"):
            assert process.poll() is None
        CliRunner().invoke(main, ["attach", path, "call", "s", "'break'"])
        line = next(line for line in process.stderr if "pybehave.health" in line)
        assert "health was ok and is degraded: root/s has failed once" in line
    finally:
        process.kill()
        process.communicate()

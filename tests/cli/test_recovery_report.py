"""`pybehave run`: how far recovery is, what it found, what it refused."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines
from tests.processes import COMMAND, run, serving

APP = "tests.cli.test_recovery_report:app"
GATE = "PYBEHAVE_TEST_GATE"


class Gated(GenServer[int, bytes, int]):
    """Counts; stands still while a file named by the environment is missing."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: bytes, state: int) -> tuple[int, int]:
        gate = os.environ.get(GATE)
        while gate is not None and command == b"gate" and not os.path.exists(gate):
            os.sched_yield()
        return state + 1, state + 1


app = Application(
    "g",
    Supervisor("one_for_one", [Worker("g", Gated, journal=True)]),
    listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="g")],
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A journal with inputs, closed."""
    folder = tmp_path / "data"
    with app.start(data=folder, backend="epoll") as node:
        for command in (b"one", b"gate", b"two"):
            node.call("g", command)
    return folder


def report_of(data: Path, source: str) -> dict[str, Any]:
    """What a node that serves has written."""
    file = data.parent / "report.json"
    with serving(APP, source, "--data", str(data), "--recovery-report", str(file)) as process:
        assert process.lines[-1].startswith("ready")
    assert not file.with_name("report.json.tmp").exists()
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def test_the_report_says_what_was_found_and_done(data: Path, source: str) -> None:
    first = report_of(data, source)
    assert (first["outcome"], first["replayed"], first["passed_over"]) == ("clean", 3, 0)
    assert first["seconds_replaying"] > 0 and first["seconds_reading"] > 0
    assert (first["directory"], first["warnings"], "error" in first) == (str(data), [], False)
    second = report_of(data, source)
    assert second["epoch"] == first["epoch"] + 1
    assert second["segments"] == first["segments"] + 1


def test_a_torn_end_is_in_the_report_with_its_quarantine(data: Path, source: str) -> None:
    report_of(data, source)  # killed: it leaves its claim behind, and no clean end
    newest = max(file for file in data.glob("seg-*") if any(file.read_bytes()))
    content = bytearray(newest.read_bytes())
    end = -(-len(content.rstrip(b"\0")) // 4096) * 4096
    content[end : end + 8] = b"garbage!"  # where the next frame would have begun
    newest.write_bytes(content)
    found = report_of(data, source)
    assert (found["outcome"], found["torn_bytes"]) == ("torn", 4096)
    assert (data / found["quarantine"]).read_bytes().startswith(b"garbage!")


def test_the_report_is_in_the_stats_too(data: Path, start: Callable[..., Any]) -> None:
    node = start(app, data=data)
    found = node.stats()["journal"]["recovery"]
    assert (found["outcome"], found["replayed"]) == ("clean", 3)


def test_a_refusal_is_written_for_programs(data: Path) -> None:
    file = min(data.glob("seg-*"))
    content = bytearray(file.read_bytes())
    content[2 * 4096 + 200] ^= 1
    file.write_bytes(content)
    report = data.parent / "report.json"
    result = run("run", APP, "--data", str(data), "--recovery-report", str(report))
    found = json.loads(report.read_text())["error"]
    assert result.returncode == 1
    assert found["sentence"] in result.stderr
    assert (found["type"], found["path"]) == ("JournalRefused", str(file))
    assert (found["block"], found["byte"], found["seq"], found["lsn"]) == (2, 8192, 1, 1)
    assert "a" in found["evidence"] and found["problem"] == "the body's hash is wrong"


def test_a_report_that_cannot_be_written_is_a_mistake_before_the_start(tmp_path: Path) -> None:
    result = run("run", APP, "--data", str(tmp_path / "d"), "--recovery-report", "/no/where/r")
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "its folder is not there" in result.stderr
    assert not (tmp_path / "d").exists()


def test_a_long_replay_has_a_bar_on_a_terminal(data: Path, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    ours, theirs = pty.openpty()
    words = ["run", APP, "--data", str(data), "--log-level", "error"]
    process = subprocess.Popen(
        [*COMMAND, *words],
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, GATE: str(gate)},
    )
    os.close(theirs)
    seen = b""
    try:
        while b"replaying" not in seen or b"records" not in seen:
            seen += os.read(ours, 4096)
        assert b"ready" not in seen
        gate.touch()
        while b"ready" not in seen:
            seen += os.read(ours, 4096)
    finally:
        process.kill()
        process.wait()
        os.close(ours)

"""`pybehave top`: one screen for scripts, JSON, a terminal with and without rich."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pybehave.cli import main, top
from pybehave.observer.activity import Activity, Server, Subtree
from tests.processes import COMMAND, serving


@pytest.fixture
def data(source: str, tmp_path: Path) -> Iterator[str]:
    path = str(tmp_path / "data")
    with serving("examples.kv:app", source, "--data", path):
        yield path


def busy(**fields: Any) -> Activity:
    values: dict[str, Any] = {
        "name": "shop",
        "source": "epoll",
        "health": "ok",
        "busy": 0.421,
        "commands": 1234.4,
        "connections": 7,
        "crashes": 2,
        "commits": 10.0,
        "records": 100.0,
        "commit_ms": 0.25,
        "servers": [
            Server("root/a", "running", 1000.0, 3, 2),
            Server("root/b", "stopped", 0, 0, 0),
        ],
        "subtrees": [Subtree("root", 2, 5)],
        "is_cut": False,
        "warning": "",
    }
    return Activity(**{**values, **fields})


def test_once_prints_one_screen(data: str) -> None:
    result = CliRunner().invoke(main, ["top", data, "--once", "--every", "0.05"])
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("kv on ") and lines[0].endswith(": ok")
    assert lines[1].startswith("loop ") and "% busy" in lines[1]
    assert lines[2].startswith("journal ")
    assert any(line.split()[:1] == ["root/kv1"] and line.endswith("running") for line in lines)


def test_json_is_one_object_a_look(data: str) -> None:
    result = CliRunner().invoke(main, ["top", data, "--json", "--once", "--every", "0.05"])
    found = json.loads(result.stdout)
    assert (found["name"], found["subtrees"][0]["path"]) == ("kv", "root")
    assert len(found["servers"]) == 3


def test_a_node_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["top", str(tmp_path / "none.sock"), "--once"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("has_rich", [True, False])
def test_on_a_terminal_it_goes_on_until_it_is_interrupted(
    data: str, has_rich: bool, tmp_path: Path
) -> None:
    blocked = "" if has_rich else "import sys; sys.modules['rich.live'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(blocked)
    main_end, other_end = pty.openpty()
    words = [*COMMAND, "top", data, "--every", "0.05"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(words, stdout=other_end, stdin=other_end, env=environment)
    os.close(other_end)
    try:
        shown = b""
        while shown.count(b"SUBTREE") < 3:
            assert select.select([main_end], [], [], 30)[0], shown
            shown += os.read(main_end, 65536)
        assert b"root/kv1" in shown
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(OSError):  # a terminal that nobody has open any more
            while process.poll() is None:
                if select.select([main_end], [], [], 0.05)[0]:
                    os.read(main_end, 65536)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(main_end)


# --- the screen -----------------------------------------------------------------------------------


def test_a_screen_says_what_there_is() -> None:
    assert list(top.lines(busy(), 1)) == [
        "shop on epoll: ok",
        "loop 42 % busy   7 connections   1,234 commands/s   2 crashes",
        "journal 100 records/s in 10 commits/s, 0.25 ms each",
        "",
        "SUBTREE                                  CHILDREN RESTARTS",
        "root                                            2        5",
        "",
        "SERVER                                     INPUTS/S  MAILBOX RESTARTS  STATE",
        "root/a                                        1,000        3        2  running",
        "... and 1 more",
    ]


def test_a_warning_stands_above_the_tables() -> None:
    said = list(top.lines(busy(warning="'a' is restarted most", commits=None, busy=None), 9))
    assert said[1].startswith("loop ? busy")
    assert said[2:4] == ["warning: 'a' is restarted most", ""]


def test_a_screen_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setenv("LINES", "12")
    rows = [Server(f"root/{n}", "running", 0.0, 0, 0) for n in range(100)]
    found = top.screen(busy(servers=rows))
    assert len(found) == 12
    assert max(map(len, found)) == 30


def test_looks_are_differences_of_what_was_asked() -> None:
    class Node:
        """Answers with one more input each time."""

        count = 0

        def ask(self, verb: str) -> dict[str, Any]:
            assert verb == "activity"
            Node.count += 1
            row = {"server": "root/a", "state": "running", "restarts": 0, "incarnation": 1}
            counted = ("busy_s", "commands", "crashes", "connections", "commit_s")
            return {
                **dict.fromkeys(counted, Node.count),
                "name": "t",
                "source": "sim",
                "health": "ok",
                "commits": None,
                "records": None,
                "now": 2.0 * Node.count,
                "servers": [{**row, "inputs": 10 * Node.count, "mailbox": 0}],
                "is_cut": False,
                "subtrees": [],
            }

    pauses: list[float] = []
    found = top.looks(Node(), 2.0, pauses.append)  # type: ignore[arg-type]
    assert [next(found).servers[0].rate for _ in range(3)] == [5.0, 5.0, 5.0]
    assert pauses == [2.0, 2.0, 2.0]


def test_help_names_it() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "pybehave", "--help"], capture_output=True, text=True, check=True
    )
    assert "top " in result.stdout

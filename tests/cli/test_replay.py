"""`pybehave replay` shows what was, and what the code of today makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.processes import run

MODULE = """
from pybehave import Application, GenServer, Supervisor, Worker

class Sum(GenServer):
    def init(self, args):
        return {"sum": 0}

    def step(self, command, state):
        state["sum"] += FACTOR * command
        return state, state["sum"]

app = Application("sums", Supervisor("one_for_one", [Worker("s", Sum, journal=True)]))
"""


@pytest.fixture
def sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal of ten inputs, and the module that wrote it, in one folder."""
    namespace: dict[str, object] = {}
    (tmp_path / "sums.py").write_text(MODULE.replace("FACTOR", "1"))
    monkeypatch.chdir(tmp_path)
    exec(MODULE.replace("FACTOR", "1"), namespace)
    app = namespace["app"]
    with app.start(data=tmp_path / "data", backend="epoll") as node:  # type: ignore[attr-defined]
        for number in range(1, 11):
            node.call("s", number)
    return tmp_path


def test_the_state_at_any_lsn(sums: Path) -> None:
    assert "s = {'sum': 55}" in run("replay", "sums:app", "--data", "data").stdout
    lines = run("replay", "sums:app", "--data", "data", "--diff").stdout.splitlines()
    assert lines[-2:] == ["-s = {'sum': 45}", "+s = {'sum': 55}"]
    lsn = int(lines[lines.index("+s = {'sum': 15}") - 2].split()[-1])
    assert "{'sum': 15}" in run("replay", "sums:app", "--data", "data", "--to", str(lsn)).stdout


def test_it_stops_where_it_is_told_to(sums: Path) -> None:
    words = ("replay", "sums:app", "--data", "data", "--break-on", "state['sum'] > 20")
    result = run(*words)
    assert "stopped at lsn" in result.stdout
    assert "s = {'sum': 21}" in result.stdout
    assert run(*words[:-1], "1 / 0").returncode == 2


def test_other_code_is_found_out(sums: Path) -> None:
    assert run("replay", "sums:app", "--data", "data", "--check").returncode == 0
    (sums / "sums.py").write_text(MODULE.replace("FACTOR", "2"))
    result = run("replay", "sums:app", "--data", "data", "--check")
    assert result.returncode == 1
    assert "10 inputs, 10 outcomes differ" in result.stdout
    assert "does not repeat itself" in run("replay", "sums:app", "--data", "data").stderr

"""`pybehave replay` shows what was, and what the code of today makes of it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave.journal.recovery import Options
from tests.processes import run
from tests.snapshots import take_snapshot

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


CONFIGURED = """
import dataclasses

from pybehave import Application, GenServer, Supervisor, Worker

@dataclasses.dataclass(frozen=True)
class Env:
    factor: int = 1

class Sum(GenServer):
    def init(self, args):
        self.factor = args.factor
        return 0

    def step(self, command, state):
        return state + self.factor * command, state + self.factor * command

app = Application(
    "sums",
    lambda env: Supervisor("one_for_one", [Worker("s", Sum, env, journal=True)]),
    env=Env,
)
"""


@pytest.mark.parametrize(
    "words", [("replay", "sums:app", "--check"), ("release", "check", "sums:app")]
)
def test_an_application_is_configured_as_its_node_was(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without, its code did not repeat what it had done itself."""
    (tmp_path / "sums.py").write_text(CONFIGURED)
    (tmp_path / "node.toml").write_text("[sums]\nfactor = 3\n\n[pybehave]\nbackend = 'epoll'\n")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(CONFIGURED, namespace)
    with namespace["app"].start(data="data", config={"sums": {"factor": 3}}) as node:
        assert node.call("s", 5) == 15
    assert run(*words, "--data", "data").returncode == 1
    for given in (("--config", "node.toml"), ("--set", "sums.factor=3")):
        result = run(*words, "--data", "data", *given)
        assert result.returncode == 0, result
    result = run(*words, "--data", "data", "--set", "sums.faktor=3")
    assert (result.returncode, "sums.faktor" in result.stderr) == (2, True)


def test_it_stops_where_it_is_told_to(sums: Path) -> None:
    words = ("replay", "sums:app", "--data", "data", "--break-on", "state['sum'] > 20")
    result = run(*words)
    assert "stopped at lsn" in result.stdout
    assert "s = {'sum': 21}" in result.stdout
    assert run(*words[:-1], "1 / 0").returncode == 2


@pytest.mark.parametrize("words", [("replay",), ("replay", "--check"), ("release", "check")])
def test_servers_that_an_application_has_no_code_for_are_named(
    sums: Path, words: tuple[str, ...]
) -> None:
    (sums / "other.py").write_text(MODULE.replace("FACTOR", "1").replace('"s"', '"t"'))
    said = {name: run(*words, f"{name}:app", "--data", "data") for name in ("sums", "other")}
    assert [result.returncode for result in said.values()] == [0, 0]
    assert "passed over" not in said["sums"].stderr
    assert "passed over, for 'sums' has no code of it: 's'\n" in said["other"].stderr


def test_other_code_is_found_out(sums: Path) -> None:
    assert run("replay", "sums:app", "--data", "data", "--check").returncode == 0
    (sums / "sums.py").write_text(MODULE.replace("FACTOR", "2"))
    result = run("replay", "sums:app", "--data", "data", "--check")
    assert result.returncode == 1
    assert "10 inputs, 10 outcomes differ" in result.stdout
    assert "does not repeat itself" in run("replay", "sums:app", "--data", "data").stderr


def test_a_damaged_snapshot_is_passed_over_and_told(
    sums: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    namespace: dict[str, Any] = {}
    exec(MODULE.replace("FACTOR", "1"), namespace)
    node = start(namespace["app"], data=tmp_path / "data")
    for _ in range(2):
        node.call("s", 0)
        take_snapshot(node)
    node.stop()
    newest = max((tmp_path / "data").glob("snap-*"))
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    result = run("replay", "sums:app", "--data", "data")
    assert "s = {'sum': 55}" in result.stdout
    assert f"damaged: data/{newest.name}: the snapshot is damaged" in result.stderr


@pytest.mark.parametrize("words", [("dump",), ("stat",), ("replay", "--check")])
def test_a_damaged_journal_is_told_of_with_what_is_before_it(
    sums: Path, words: tuple[str, ...]
) -> None:
    segment = min((sums / "data").glob("seg-*"))
    content = bytearray(segment.read_bytes())
    content[3 * 4096 + 130] ^= 1  # the second frame
    segment.write_bytes(content)
    for snapshot in (sums / "data").glob("snap-*"):
        snapshot.unlink()
    if words[0] == "replay":
        result = run("replay", "sums:app", "--data", "data", "--check")
        assert "0 outcomes differ" in result.stdout
    else:
        result = run("journal", *words, "data")
        assert '"start"' in result.stdout or '"problems"' in result.stdout
    assert result.returncode == 1
    assert "damaged at block 3" in result.stderr + result.stdout


def test_nothing_is_stepped_behind_a_damage(sums: Path, tmp_path: Path) -> None:
    """Inputs behind a gap were stepped with a state that lacked what was in it: states were shown
    that had never been, and the code was blamed, or passed.
    """
    namespace: dict[str, Any] = {}
    exec(MODULE.replace("FACTOR", "1"), namespace)
    journal = Options(segment_bytes=64 << 10)
    with namespace["app"].start(
        data=tmp_path / "small", backend="epoll", journal_options=journal
    ) as node:
        for _ in range(60):
            node.call("s", 1)
    for snapshot in (tmp_path / "small").glob("snap-*"):
        snapshot.unlink()
    second = sorted((tmp_path / "small").glob("seg-*"))[1]
    content = bytearray(second.read_bytes())
    content[5 * 4096 + 130] ^= 1
    second.write_bytes(content)
    result = run("replay", "sums:app", "--data", "small")
    assert result.returncode == 1
    assert f"damaged: small/{second.name}" in result.stderr
    counted = int(result.stdout.split("'sum': ")[1].split("}")[0])
    assert 0 < counted < 40
    result = run("replay", "sums:app", "--data", "small", "--check")
    assert f"{counted} inputs, 0 outcomes differ" in result.stdout
    result = run("release", "check", "sums:app", "--data", "small")
    assert result.returncode == 3
    assert "what is behind it cannot be checked" in result.stdout


def test_statistics_of_a_journal_whose_segment_is_missing_name_it(sums: Path) -> None:
    min((sums / "data").glob("seg-*")).unlink()
    result = run("journal", "stat", "data")
    assert result.returncode == 1
    assert "it is missing; restore it from a copy" in json.loads(result.stdout)["problems"][0]


NAMES = """
from pybehave import Application, GenServer, Supervisor, Worker

class Names(GenServer):
    def init(self, args):
        return set()

    def step(self, command, names):
        if command == "list":
            return names, ORDER(names)
        names.add(command)
        return names, len(names)

app = Application("names", Supervisor("one_for_one", [Worker("s", Names, journal=True)]))

if __name__ == "__main__":
    with app.start(data="data", backend="epoll") as node:
        for number in range(20):
            node.call("s", f"name {number}")
        node.call("s", "list")
"""


@pytest.mark.parametrize("order", ["list", "sorted", "set"])
def test_the_order_of_a_set_is_another_one_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    """The error spoke of clocks and randomness, and such a step has none of them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.py").write_text(NAMES.replace("ORDER", order))
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    subprocess.run([sys.executable, "names.py"], check=True, timeout=60)
    assert run("replay", "names:app", "--data", "data").returncode == 0
    monkeypatch.setenv("PYTHONHASHSEED", "2")
    result = run("replay", "names:app", "--data", "data")
    if order == "list":
        assert "the order of a set (another one in each process: take sorted()" in result.stderr
    else:
        assert (result.returncode, result.stderr) == (0, "")

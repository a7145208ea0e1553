"""Inputs that failed: kept with the state before, repeated in a test, sent again once mended."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker, either
from pybehave.errors import Crashed, JournalRefused
from pybehave.journal import dead_letters
from tests.processes import run

MODULE = """
from pybehave import GenServer

class Divider(GenServer):
    def init(self, args):
        self.limit = args
        return {"sum": 0}

    def step(self, command, state):
        state["sum"] += self.limit // command
        return state, state["sum"]
"""


@pytest.fixture
def divider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[GenServer[Any, Any, Any]]:
    """A server class in a module that other processes find."""
    (tmp_path / "divider.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "divider", raising=False)
    found: type[GenServer[Any, Any, Any]] = __import__("divider").Divider
    return found


def app(server: type[Any], args: Any = 100) -> Application:
    worker = Worker("d", server, args, journal=True)
    return Application("test", Supervisor("one_for_one", [worker], intensity=100))


def fail(start: Callable[..., Any], server: type[Any], data: Path) -> int:
    """Let the divider fail once; returns the lsn of the input."""
    node = start(app(server), data=data)
    assert node.call("d", 7) == 14
    with pytest.raises(Crashed):
        node.call("d", 0)
    assert node.call("d", 50) == 16
    node.stop()
    [lsn] = dead_letters.numbers(str(data))
    return lsn


def test_a_letter_holds_input_state_and_reason(
    start: Callable[..., Any], divider: type[Any], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    lsn = fail(start, divider, data)
    shown = run("dead-letters", "show", str(lsn), "--data", str(data)).stdout
    assert "input     0" in shown
    assert "state     {'sum': 14}" in shown
    assert "ZeroDivisionError" in shown
    assert run("dead-letters", "count", "--data", str(data)).stdout == "1\n"
    assert "ZeroDivisionError" in run("crash", "list", "--data", str(data)).stdout


def test_a_letter_becomes_a_test_that_fails_the_same_way(
    start: Callable[..., Any], divider: type[Any], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    lsn = fail(start, divider, data)
    target = tmp_path / "test_made.py"
    made = run("crash", "to-test", str(lsn), "--data", str(data), "--output", str(target))
    assert made.returncode == 0
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(target)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in result.stdout, result.stdout


class Kept:
    class Divider(GenServer[dict[str, int], int, int]):
        """Another, within a class."""

        def init(self, args: Any) -> dict[str, int]:
            return {"sum": 0}

        def step(self, command: int, state: dict[str, int]) -> tuple[dict[str, int], int]:
            return {"sum": state["sum"] + 100 // command}, state["sum"] + 100 // command


def test_a_class_within_another_becomes_a_test(start: Callable[..., Any], tmp_path: Path) -> None:
    lsn = fail(start, Kept.Divider, tmp_path / "data")
    made = run("crash", "to-test", str(lsn), "--data", str(tmp_path / "data")).stdout
    names: dict[str, Any] = {}
    exec(compile(made, "made", "exec"), names)
    names[f"test_d_fails_on_input_{lsn}"]()


def test_a_class_that_cannot_be_imported_becomes_no_test(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    class Local(Kept.Divider):
        pass

    for number, (kind, command) in enumerate(((either(Local, Local), (0, 0)), (Local, 0))):
        data = tmp_path / f"d{number}"
        node = start(app(kind, None), data=data)
        with pytest.raises(Crashed):
            node.call("d", command)
        node.stop()
        [lsn] = dead_letters.numbers(str(data))
        made = run("crash", "to-test", str(lsn), "--data", str(data))
        assert made.returncode == 2
        assert f"no test can import {kind.__qualname__}, the class of server 'd'" in made.stderr


def test_a_letter_is_sent_again_at_the_next_start_and_then_forgotten(
    start: Callable[..., Any], divider: type[Any], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    lsn = fail(start, divider, data)
    words = ("--data", str(data), "--message", "20")
    assert run("dead-letters", "requeue", str(lsn), *words).returncode == 0
    assert "to be sent again" in run("dead-letters", "list", "--data", str(data)).stdout
    node = start(app(divider), data=data)
    assert node.call("d", 100) == 16 + 5 + 1
    node.stop()
    assert dead_letters.numbers(str(data)) == []
    node = start(app(divider), data=data)
    assert node.call("d", 100) == 16 + 5 + 1 + 1


def test_letters_can_be_deleted_and_purged(
    start: Callable[..., Any], divider: type[Any], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    lsn = fail(start, divider, data)
    assert run("dead-letters", "delete", str(lsn), "--data", str(data)).returncode == 0
    assert dead_letters.numbers(str(data)) == []
    with pytest.raises(JournalRefused, match="there is no dead letter"):
        dead_letters.get(str(data), lsn)
    assert "0 forgotten" in run("dead-letters", "purge", "--yes", "--data", str(data)).stdout


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    for words in (("list",), ("show", "7"), ("requeue", "7")):
        result = run("dead-letters", *words, "--data", str(tmp_path))
        assert result.returncode == 2
        assert "there is no journal in" in result.stderr
        assert "Traceback" not in result.stderr


def test_one_that_cannot_be_read_hinders_nobody(
    start: Callable[..., Any], divider: type[Any], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    lsn = fail(start, divider, data)
    folder = data / "dead-letters"
    (folder / f"{lsn + 1:016x}.letter").write_bytes(b"")
    (folder / "a stranger's.letter").write_bytes(b"")
    (folder / f"{'x' * 16}.letter").write_bytes(b"")
    words = ("--data", str(data))
    [first, second] = run("dead-letters", "list", *words).stdout.splitlines()
    assert first.startswith(f"{lsn}  ") and "ZeroDivisionError" in first
    assert second.startswith(f"{lsn + 1}  the dead letter cannot be read: ")
    assert run("dead-letters", "count", *words).stdout == "2\n"
    assert "or delete it" in run("dead-letters", "show", str(lsn + 1), *words).stderr
    assert run("dead-letters", "delete", str(lsn + 1), *words).returncode == 0
    assert dead_letters.numbers(str(data)) == [lsn]
    (folder / f"{lsn + 1:016x}.letter").write_bytes(b"")
    assert run("dead-letters", "purge", "--yes", *words).stdout == "2 forgotten\n"
    assert len(list(folder.iterdir())) == 2  # those of strangers


def test_what_is_to_be_sent_again_and_cannot_be_read_does_not_hinder_a_start(
    start: Callable[..., Any], divider: type[Any], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    lsn = fail(start, divider, data)
    (data / "dead-letters" / f"{lsn:016x}.requeue").write_bytes(b"")
    node = start(app(divider), data=data)
    assert node.call("d", 100) == 16 + 1
    assert dead_letters.numbers(str(data)) == [lsn]


class Formless(GenServer[Any, Any, Any]):
    """Its state has no form in a journal."""

    def init(self, args: Any) -> Any:
        return object()

    def step(self, command: Any, state: Any) -> Any:
        return state, 100 // command


@pytest.mark.parametrize("recovery", ["clean", "last_good"])
def test_a_letter_is_kept_where_the_state_before_is_not_known(
    start: Callable[..., Any], tmp_path: Path, recovery: Any
) -> None:
    worker = Worker("f", Formless, journal=True, recovery=recovery)
    node = start(Application("f", Supervisor("one_for_one", [worker])), data=tmp_path)
    with pytest.raises(Crashed):
        node.call("f", 0)
    assert node.call("f", 50) == 2
    node.stop()
    [lsn] = dead_letters.numbers(str(tmp_path))
    letter = dead_letters.get(str(tmp_path), lsn)
    assert "ZeroDivisionError" in letter.error and letter.state is None

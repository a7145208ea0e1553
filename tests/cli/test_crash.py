"""`pybehave crash`: what it shows of failures of all kinds, and the tests that it makes of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pybehave import Application, Supervisor, Worker
from pybehave.cli import crash
from pybehave.errors import Crashed
from pybehave.journal import dead_letters
from pybehave.testing import repeat

MODULE = """
from pybehave import GenServer, GenStatem, both, either
from pybehave.actions import Reply
from pybehave.statem import KeepStateAndData

IS_MENDED = {is_mended}

class Count(GenServer):
    def init(self, args):
        return 0

    def step(self, command, state):
        if command == "return" and not IS_MENDED:
            return state + 1
        if command == "act" and not IS_MENDED:
            return state, None, ["no action"]
        if command != 1 and not IS_MENDED:
            raise ValueError(command)
        return state + 1, state + 1

class Bounded(Count):
    def invariant(self, state):
        return IS_MENDED or state < 1

class Door(GenStatem):
    def init(self, args):
        return "shut", None

    def shut(self, event_type, content, data):
        match event_type:
            case ("call", caller) if IS_MENDED:
                return KeepStateAndData(Reply(caller, 1))
        return "open"

class Shop:
    class Till(Count):
        pass

def made():
    class Local(Count):
        pass
    return Local

Unnamed = both(Count, Count)

class Both(both(Count, Count)):
    pass

class Either(either(Count, Door)):
    pass
"""

TEXT = 'C:\\new \\x \\N{no} """ \u2028\x1b[2J\nat the end"'


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], Any]:
    """Servers in a module that other processes find, before and after they are mended."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(is_mended: bool) -> Any:
        (tmp_path / "failing.py").write_text(MODULE.format(is_mended=is_mended))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        monkeypatch.delitem(sys.modules, "failing", raising=False)
        return __import__("failing")

    return load


def fail(start: Callable[..., Any], data: Path, *cases: tuple[type[Any], Any]) -> list[int]:
    """Let servers fail, each on its request; returns the lsns of those."""
    workers = []
    for number, (server, _) in enumerate(cases):
        args = (None, None) if hasattr(server, "sides") else None
        workers.append(Worker(f'a """ {number}', server, args, journal=True))
    tree = Supervisor("one_for_one", workers, intensity=len(cases))
    node = start(Application("test", tree), data=data)
    for worker, (_, request) in zip(workers, cases, strict=True):
        with pytest.raises(Crashed):
            node.call(worker.name, request)
    node.stop()
    return dead_letters.numbers(str(data))


def to_test(lsn: int, data: Path, *words: str) -> Result:
    """The command in this process: what it refuses, it refuses without a traceback there, too."""
    found = CliRunner().invoke(crash.command, ["to-test", str(lsn), "--data", str(data), *words])
    assert found.exception is None or isinstance(found.exception, SystemExit)
    return found


def outcome(folder: Path) -> str:
    """What pytest says of a folder."""
    words = [sys.executable, "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    found = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    return found.stdout


FAILURES = (
    ("Count", "return"),
    ("Count", "act"),
    ("Count", TEXT),
    ("Bounded", 1),
    ("Door", "push"),
    ("Shop.Till", "no"),
    ("Both", (1, "return")),
    ("Either", (1, "push")),
)


def test_tests_fail_as_the_crashes_did_until_the_code_is_mended(
    module: Callable[[bool], Any], start: Callable[..., Any], tmp_path: Path
) -> None:
    named, data = attrgetter(*(name for name, _ in FAILURES)), tmp_path / "data"
    requests = [request for _, request in FAILURES]
    lsns = fail(start, data, *zip(named(module(False)), requests, strict=True))
    for lsn in lsns:
        made = to_test(lsn, data, "--output", str(tmp_path / f"test_{lsn}.py"))
        assert made.exit_code == 0, made.output
    assert f"{len(FAILURES)} passed" in outcome(tmp_path)
    for lsn, server in zip(lsns, named(module(True)), strict=True):
        assert repeat(server, (data / dead_letters.letter_name(lsn)).read_bytes())
    found = outcome(tmp_path)
    assert f"{len(FAILURES)} failed" in found, found
    assert found.count("Failed: DID NOT RAISE") >= len(FAILURES), found


def test_a_class_that_cannot_be_imported_is_named_by_whoever_asks(
    module: Callable[[bool], Any], start: Callable[..., Any], tmp_path: Path
) -> None:
    servers, data = module(False), tmp_path / "data"
    local, unnamed = servers.made(), servers.Unnamed
    lsns = fail(start, data, (local, "no"), (unnamed, ("no", 1)))
    places = ("failing:Count", "failing:Unnamed")
    for lsn, kind, place in zip(lsns, (local, unnamed), places, strict=True):
        refused = to_test(lsn, data)
        assert refused.exit_code == 2
        assert "--class MODULE:NAME" in refused.output and kind.__qualname__ in refused.output
        made = to_test(lsn, data, "--class", place, "--output", str(tmp_path / f"test_{lsn}.py"))
        assert made.exit_code == 0, made.output
    assert "2 passed" in outcome(tmp_path)


def test_a_failure_is_one_line_of_the_list(
    module: Callable[[bool], Any], start: Callable[..., Any], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    [lsn] = fail(start, data, (module(False).Count, TEXT))
    [line] = CliRunner().invoke(crash.command, ["list", "--data", str(data)]).output.splitlines()
    assert line.startswith(f"{lsn} ") and line.endswith('\\u2028\\x1b[2J\\nat the end"')


MISTAKES = (
    (("--output", "no-folder/test.py"), "no-folder/test.py cannot be written: No such file"),
    (("--output", "."), ". cannot be written: Is a directory"),
    (("--class", "Count"), "--class 'Count' is not MODULE:NAME"),
    (("--class", "failing:both(A, B)"), "is not MODULE:NAME"),
)


def test_a_mistake_is_one_sentence(
    module: Callable[[bool], Any], start: Callable[..., Any], tmp_path: Path
) -> None:
    [lsn] = fail(start, tmp_path / "data", (module(False).Count, "no"))
    for words, said in MISTAKES:
        refused = to_test(lsn, tmp_path / "data", *words)
        assert refused.exit_code == 2
        assert said in refused.output

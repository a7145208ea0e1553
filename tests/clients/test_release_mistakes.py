"""An operator with broken new code: each mistake is one sentence, and the node goes on."""

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
from tests.processes import COMMAND, serving

KEYS = (bytes(range(32)), bytes(range(1, 33)))

ONE = """
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines

class Notes(GenServer):
    def init(self, args):
        return {}

    def step(self, command, notes):
        word, _, text = command.partition(" ")
        if word == "put":
            notes[text] = text
        return notes, f"1 {len(notes)}"

app = Application(
    "notes", Supervisor("one_for_one", [Worker("s", Notes, journal=True)]), version="1.0",
    listeners=[Listener("tcp://127.0.0.1:0", Lines("utf-8"), to="s")],
)
"""

TWO = ONE.replace('version="1.0"', 'version="2.0"').replace('f"1 {', 'f"2 {')
METHODS = """    version = 2

    def __init__(self):
        CONSTRUCT

    def code_change(self, old_version, notes, extra):
        CHANGE

    def init"""


ENDING = """    def load(self, plain):
        import os; os._exit(5)

    def init"""


def broken(construct: str = "pass", change: str = "return notes") -> str:
    methods = METHODS.replace("CONSTRUCT", construct).replace("CHANGE", change)
    return TWO.replace("    def init", methods, 1)


UPGRADES = {
    "a syntax error": ("def x(:", "SyntaxError: invalid syntax ("),
    "an import error": ("import nosuchmodule", "No module named 'nosuchmodule'"),
    "an exit at the import": ("import sys; sys.exit(4)", "SystemExit: 4"),
    "no application": ("app = 5", "'app' in it is 5, not an Application or a Release"),
    "no file": (None, "No module named 'notes'"),
    "a constructor that raises": (broken('raise KeyError("x")'), "raised KeyError: 'x'"),
    "an init that raises": (TWO.replace("return {}", "return 1 // 0"), "raised ZeroDivisionError"),
    "a version that is none": (TWO.replace("    def init", '    version = "b"\n\n    def init', 1),
                               "version='b' is not allowed; use an integer >= 1"),
    "a migration that raises": (broken(change='raise ValueError("no")'), "raised ValueError: no"),
    "a migration that exits": (broken(change="raise SystemExit(3)"), "raised SystemExit: 3"),
    "a migration without a return": (broken(change="pass"), "code_change returned None"),
    "a state that is no plain value": (broken(change="return object()"), "cannot keep"),
    "another listener": (TWO.replace(":0", ":1"), "its listeners are others"),
}  # fmt: skip

REPLACEMENTS = {
    "a syntax error": ("def x(:", "did not load it"),
    "no application": ("app = 5", "did not load it"),
    "no file": (None, "did not load it"),
    "an end": ("import os; os._exit(3)", "did not load it (it has ended with exit status 3)"),
    "a kill": ("import os; os.kill(os.getpid(), 9)", "did not load it (it was ended by SIGKILL)"),
    "a real-time signal": ("import os; os.kill(os.getpid(), 40)", "it was ended by signal 40"),
    "an end in the journal": (TWO.replace("    def init", ENDING, 1),
                              "did not follow the journal (it has ended with exit status 5)"),
}  # fmt: skip


class Notes(NamedTuple):
    """A node of the first release, and where another one is to lie."""

    port: int
    data: str
    folder: Path

    def ask(self, line: str) -> str:
        with socket.create_connection(("127.0.0.1", self.port), 30) as client:
            client.sendall(f"{line}\n".encode())
            return client.makefile("rb").readline().decode().strip()

    def release(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "release", verb, "notes:app", "--path", str(self.folder), *words],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def pid(self) -> int:
        with AdminClient(self.data) as asking:
            return int(asking.ask("hello")["pid"])


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notes]:
    """One node for all mistakes: none of them may change it."""
    folder = tmp_path_factory.mktemp("notes")
    (folder / "one").mkdir()
    (folder / "one" / "notes.py").write_text(ONE)
    (folder / "two").mkdir()
    data = str(folder / "data")
    before = Path.cwd()
    os.chdir(folder / "one")
    try:
        with serving("notes:app", "auto", "--data", data) as process:
            os.chdir(before)
            found = Notes(process.port, data, folder / "two")
            assert found.ask("put a") == "1 1"
            yield found
            with contextlib.suppress(Exception):
                os.kill(found.pid(), signal.SIGKILL)  # should one have been replaced after all
    finally:
        os.chdir(before)


def put(notes: Notes, code: str | None) -> None:
    place = notes.folder / "notes.py"
    place.unlink(missing_ok=True)
    if code is not None:
        place.write_text(code)


def check(result: subprocess.CompletedProcess[str], status: int, why: str) -> None:
    assert result.returncode == status
    assert why in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("mistake", UPGRADES)
def test_an_upgrade_to_broken_code_changes_nothing(notes: Notes, mistake: str) -> None:
    code, why = UPGRADES[mistake]
    put(notes, code)
    check(notes.release("upgrade", "--from", "1.0", "--node", notes.data), 1, why)
    assert notes.ask("get") == "1 1"


@pytest.mark.parametrize("mistake", REPLACEMENTS)
def test_a_replacement_by_broken_code_changes_nothing(notes: Notes, mistake: str) -> None:
    code, why = REPLACEMENTS[mistake]
    put(notes, code)
    before = notes.pid()
    check(notes.release("replace", "--from", "1.0", "--node", notes.data), 1, why)
    assert (notes.ask("get"), notes.pid()) == ("1 1", before)


def test_a_check_in_a_folder_without_the_code_is_none_of_other_code(notes: Notes) -> None:
    """It was: `notes` was found where the command stood, and that code was said to be right."""
    put(notes, None)
    words = [*COMMAND, "release", "check", "notes:app", "--path", str(notes.folder)]
    result = subprocess.run(
        [*words, "--data", notes.data], capture_output=True, text=True, timeout=60, check=False,
        cwd=notes.folder.parent / "one",
    )  # fmt: skip
    check(result, 2, "there is no module 'notes' in")


def test_an_upgrade_takes_no_code_from_elsewhere(notes: Notes) -> None:
    """It did, and the next process of `pybehave run --heart` was then refused that very code."""
    put(notes, None)
    (notes.folder.parent / "one" / "others.py").write_text(TWO)
    words = [*COMMAND, "release", "upgrade", "others:app", "--path", str(notes.folder)]
    result = subprocess.run(
        [*words, "--from", "1.0", "--node", notes.data], capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    check(result, 1, f"there is no module 'others' in {notes.folder}; ")
    assert notes.ask("get") == "1 1"


def test_a_replacement_without_the_journal_s_key_changes_nothing(
    tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both the new process and one of the old release ended, and all connections with them."""
    keys, data = tmp_path / "keys", str(tmp_path / "data")
    keys.write_text(KEYS[0].hex())
    keys.chmod(0o600)
    (tmp_path / "notes.py").write_text(ONE)
    monkeypatch.chdir(tmp_path)
    with serving("notes:app", source, "--data", data, "--key-file", str(keys)) as process:
        notes = Notes(process.port, data, tmp_path)
        assert notes.ask("put a") == "1 1"
        before = notes.pid()
        keys.write_text(KEYS[1].hex())
        check(notes.release("replace", "--node", data), 1, "did not load it")
        assert (notes.ask("get"), notes.pid()) == ("1 1", before)
        keys.write_text(f"{KEYS[1].hex()}\n{KEYS[0].hex()}\n")
        replaced = notes.release("replace", "--node", data).returncode
        assert (replaced, notes.ask("get")) == (0, "1 1")
        os.kill(notes.pid(), signal.SIGKILL)

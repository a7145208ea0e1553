"""Journals that earlier versions wrote are read to the value, by both readers."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, Once, Supervisor, Worker
from pybehave.errors import Crashed
from pybehave.journal import dead_letters
from pybehave.journal.codec import Coder
from pybehave.journal.reader import read_manifest
from tests.journal.golden.make import KEY, NAME, Golden, application, options_of
from tests.power.machine import wait_for
from tests.processes import run

GOLDEN = Path(__file__).parent / "golden"
VERSIONS = sorted(folder.name for folder in GOLDEN.glob("v*"))


@pytest.fixture(params=VERSIONS)
def golden(request: Any, tmp_path: Path) -> Path:
    """A copy of that version's folder."""
    return Path(shutil.copytree(GOLDEN / request.param, tmp_path / request.param))


def test_there_is_one_for_every_version_of_the_format() -> None:
    assert VERSIONS == ["v1", "v1-codec"]


def test_F30_the_servers_know_what_they_knew(start: Callable[..., Any], golden: Path) -> None:
    for life in range(2):
        node = start(
            application(), data=golden / "journal", journal_options=options_of(golden.name)
        )
        expected = json.loads((golden / "expected.json").read_text())
        assert {name: repr(node.get_state(name)) for name in expected} == expected
        assert node.journal.recovery.report.outcome == ("end" if life == 0 else "clean")
        node.stop()


def test_named_requests_and_failures_are_remembered(
    start: Callable[..., Any], golden: Path
) -> None:
    node = start(application(), data=golden / "journal", journal_options=options_of(golden.name))
    assert node.call("one", Once("client", 1, "named")) == 12
    assert node.call("two", Once("client", 1, "named")) == 2
    with pytest.raises(Crashed):
        node.call("one", "fail")
    wait_for(lambda: len(dead_letters.numbers(str(golden / "journal"))) == 3, "a third letter")


def test_letters_are_read_and_name_no_folder_of_a_machine(golden: Path) -> None:
    data = str(golden / "journal")
    coder = Coder(options_of(golden.name).codec, read_manifest(data).journal_id)
    letters = [dead_letters.get(data, lsn, coder) for lsn in dead_letters.numbers(data)]
    assert [(letter.server, letter.error) for letter in letters] == [
        (name, "builtins.ValueError: on purpose") for name in ("one", "two")
    ]
    for letter in letters:
        [_, place, line, *_] = letter.traceback.splitlines()
        assert place.startswith(f'  File "{NAME}", line ')
        assert line == '    raise ValueError("on purpose")'


def test_the_second_reader_says_the_same_of_every_record(golden: Path) -> None:
    keys = golden / "keys"
    keys.write_text(KEY.hex())
    keys.chmod(0o600)
    shown = run("journal", "dump", str(golden / "journal"), "--key-file", str(keys))
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == (golden / "dump.txt").read_text()
    assert run("journal", "verify", str(golden / "journal")).returncode == 0


class Newer(Golden):
    """Version 2 of the golden server: what it hears has a number."""

    version = 2

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        state["heard"].append(command)
        return state, command

    def upcast(self, version: int, message: Any) -> Any:
        return version + 1, message

    def upcast_state(self, version: int, dumped: Any) -> Any:
        return {"heard": [(version + 1, each) for each in dumped["heard"]]}


def test_newer_code_upcasts_what_the_first_versions_left(
    start: Callable[..., Any], golden: Path
) -> None:
    """Their journals name no version of a server's class: that is version 1."""
    workers = [Worker(name, Newer, journal=True) for name in ("one", "two")]
    app = Application("golden", Supervisor("one_for_one", workers))
    expected = json.loads((golden / "expected.json").read_text())
    for _ in range(2):
        node = start(app, data=golden / "journal", journal_options=options_of(golden.name))
        for name, state in expected.items():
            heard = ast.literal_eval(state)["heard"]
            assert node.get_state(name)["heard"] == [(2, each) for each in heard]
        node.stop()

"""`pybehave release`: against a node that runs, and against what one has recorded."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pybehave.cli.release import command
from tests.conftest import receive, until
from tests.processes import Process, run, serving
from tests.releases import write_releases


class Node:
    """A served release, its journal's folder, and those of the releases."""

    def __init__(self, process: Process, data: str, folders: tuple[Path, Path, Path]) -> None:
        self.process = process
        self.data = data
        self.one, self.two, self.bad = map(str, folders)

    def release(self, *words: str) -> Result:
        option = "--data" if words[0] == "check" else "--node"
        return CliRunner().invoke(command, [*words, option, self.data])

    def said(self, *words: str) -> str:
        result = self.release(*words)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    def refused(self, *words: str) -> str:
        result = self.release(*words)
        assert (result.exit_code, result.stdout) == (1, "")
        return result.stderr

    def upgrade(self, *words: str) -> str:
        return self.said("upgrade", "counts:release", "--path", self.two, *words)

    def ask(self, line: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.process.port), 10) as client:
            client.sendall(line + b"\r\n")
            return receive_line(client)


def receive_line(client: socket.socket) -> bytes:
    found = b""
    while not found.endswith(b"\r\n"):
        found += receive(client, 1)
    return found


@pytest.fixture
def node(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    folders = write_releases(tmp_path)
    monkeypatch.chdir(folders[0])
    data = str(tmp_path / "data")
    with serving("counts:app", source, "--data", data) as process:
        yield Node(process, data, folders)


def test_there_and_back(node: Node) -> None:
    assert node.ask(b"INCR x") == b":1\r\n"
    assert "counts went on from 1.0 to 2.0: 1 server, in " in node.upgrade()
    assert node.ask(b"INCR x") == b":2\r\n"
    status = node.said("status").splitlines()
    assert status[0] == "counts 2.0 is current: on probation, 0 crashes"
    assert status[1] == "old: 1.0; `pybehave release rollback` goes back"
    assert status[2] == "  counts 2.0, permanent"
    assert "counts went back from 2.0 to 1.0" in node.said("rollback")
    assert node.ask(b"INCR x") == b":3\r\n"
    assert node.said("status").startswith("counts 1.0 is permanent\n")


def test_a_rollback_and_the_upgrade_once_more(node: Node) -> None:
    """Modules are put back, and imported anew."""
    for _ in range(2):
        node.upgrade()
        assert node.ask(b"INCR x").startswith(b":")
        node.said("rollback")
    assert node.ask(b"INCR x") == b":3\r\n"


def test_a_release_that_does_not_follow_is_refused(node: Node) -> None:
    words = ("upgrade", "counts:release", "--path", node.two)
    assert "but '1.0' runs here" in node.refused(*words, "--from", "0.9")
    node.said(*words)
    assert "version '2.0' runs already" in node.refused(*words)


def test_an_application_has_to_be_told_what_it_follows(node: Node) -> None:
    words = ("upgrade", "counts:app", "--path", node.two)
    assert "does not say which version it follows" in node.refused(*words)
    assert "went on from 1.0 to 2.0" in node.said(*words, "--from", "1.0")


def test_code_that_cannot_be_imported_changes_nothing(node: Node, tmp_path: Path) -> None:
    assert node.ask(b"INCR x") == b":1\r\n"
    for number, text in enumerate(("x = 1 / 0", "def f(:", "import nothing_of_that_name")):
        folder = tmp_path / f"broken{number}"
        folder.mkdir()
        (folder / "counts.py").write_text(text)
        said = node.refused("upgrade", "counts:release", "--path", str(folder))
        assert "importing 'counts' failed: " in said
        assert "line 1)" in said
    assert "is not MODULE:APP" in node.refused("upgrade", "counts", "--path", node.two)
    assert "'nothing' in it is None" in node.refused(
        "upgrade", "counts:nothing", "--path", node.two
    )
    assert node.ask(b"INCR x") == b":2\r\n"
    node.upgrade()
    assert node.ask(b"VERSION") == b"$1\r\n"


def test_a_migration_that_raises_is_told_and_changes_nothing(node: Node) -> None:
    node.ask(b"INCR x")
    said = node.refused("upgrade", "counts:release", "--path", node.bad)
    assert "the migration of server 's' raised ValueError: no way" in said
    assert node.ask(b"INCR x") == b":2\r\n"
    node.upgrade()
    assert node.ask(b"INCR x") == b":3\r\n"


def test_a_rollback_that_would_be_refused_is_not_offered(node: Node) -> None:
    code = Path(node.two, "counts.py")
    only_up = code.read_text().replace("def code_change", "def not_called").replace(
        'upgrades="1.0"', 'upgrades="1.0", migrations={"s": Migration(lambda old: {})}'
    )  # fmt: skip
    code.write_text(only_up.replace("import App", "import Migration, App"))
    why = "there is no way back: server 's'"
    assert why in node.upgrade()
    assert f"old: 1.0; {why}" in node.said("status")
    node.refused("rollback")


def test_there_is_nothing_to_go_back_to(node: Node) -> None:
    assert "there was none on this node" in node.refused("rollback")


def test_crashes_take_it_back(node: Node) -> None:
    node.upgrade("--crashes", "1")
    assert node.ask(b"BREAK").startswith(b"-")
    with socket.create_connection(("127.0.0.1", node.process.port), 10) as client:
        version = b""
        while version != b"1\r\n":  # it is restarted, then taken back
            client.sendall(b"VERSION\r\n")
            receive_line(client)
            version = receive_line(client)
    assert "went back from 2.0 to 1.0" in node.said("status")


@pytest.mark.parametrize("option", ["--watch=nan", "--watch=-1", "--watch=1e9", "--crashes=0"])
def test_a_probation_that_cannot_be_is_a_mistake_of_the_command_line(option: str) -> None:
    result = CliRunner().invoke(command, ["upgrade", "counts:release", option])
    assert result.exit_code == 2
    assert f"Invalid value for '{option.partition('=')[0]}'" in result.stderr


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("status",), "--node"),
        (("rollback",), "--node"),
        (("upgrade", "counts:app"), "--node"),
        (("replace", "counts:app"), "--node"),
        (("check", "counts:app"), "--data"),
    ],
)
def test_a_folder_that_is_no_option_is_told_which_one_it_is(
    words: tuple[str, ...], option: str
) -> None:
    result = CliRunner().invoke(command, [*words, "jd"])
    assert result.exit_code == 2
    assert "Got unexpected extra argument (jd); which node is meant is said by" in result.stderr
    assert f"{option} jd" in result.stderr


def test_a_node_that_is_not_there(tmp_path: Path) -> None:
    result = run("release", "status", "--node", str(tmp_path))
    assert result.returncode == 1
    assert result.stderr.startswith("pybehave: ")


SUMS = """
from pybehave import Application, GenServer, Supervisor, Worker

class Sum(GenServer):
    def init(self, args):
        return 0

    def step(self, command, state):
        return state + (FACTOR if command == 7 else 1) * command, state

app = Application("sums", Supervisor("one_for_one", [Worker("s", Sum, journal=True)]), version="V")
"""


@pytest.fixture
def sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journal of ten inputs, the code that wrote it in `one`, other code in `two`."""
    monkeypatch.chdir(tmp_path)
    for folder, factor in (("one", "1"), ("two", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "sums.py").write_text(SUMS.replace("FACTOR", factor))
    namespace: dict[str, object] = {}
    exec(SUMS.replace("FACTOR", "1"), namespace)
    app = namespace["app"]
    with app.start(data=tmp_path / "data", backend="epoll") as node:  # type: ignore[attr-defined]
        for number in range(1, 11):
            node.call("s", number)
    return tmp_path


def test_the_same_code_may_follow(sums: Path) -> None:
    result = run("release", "check", "sums:app", "--path", "one")
    assert (result.returncode, result.stderr) == (0, "")
    assert "no outcome differs: sums V may follow" in result.stdout


def test_the_first_outcome_that_differs_is_named_and_shown(sums: Path) -> None:
    """The input 7 changes the state; the output after it is the first that shows it."""
    result = run("release", "check", "sums:app", "--path", "two")
    assert result.returncode == 1
    assert "the first that differs: " in result.stdout
    assert result.stdout.splitlines()[-2:] == ["-s = 35", "+s = 43"]


def test_code_that_raises_on_an_old_input_is_named(sums: Path) -> None:
    (sums / "two" / "sums.py").write_text(SUMS.replace("FACTOR", "1 / 0"))
    result = run("release", "check", "sums:app", "--path", "two")
    assert result.returncode == 1
    assert "ZeroDivisionError: division by zero" in result.stdout


def test_newer_code_without_an_upcast_is_told(sums: Path) -> None:
    text = SUMS.replace("FACTOR", "1").replace("    def init", "    version = 2\n\n    def init")
    (sums / "two" / "sums.py").write_text(text)
    result = run("release", "check", "sums:app", "--path", "two")
    assert result.returncode == 1
    assert "define upcast(self, version, message)" in result.stdout


TALLY = """
import re
from pybehave import Application, GenServer, Migration, Release, Supervisor, Worker

class Tally(GenServer):
    def init(self, args):
        return 0

    def step(self, command, count):
        return count + command, count + command

app = Application("t", Supervisor("one_for_one", [Worker("s", Tally, journal=True)]), version="1")
"""

WITHOUT_UPCAST = (
    TALLY.replace("return 0", 'return {"count": 0}')
    .replace("    def init", "    version = 2\n\n    def init")
    .replace('version="1"', 'version="2"')
    .replace("count + command, count + command", "self.added(count, command)")
    .replace(
        "\napp =",
        """
    def added(self, state, command):
        state["count"] += command
        return state, state["count"]

    def code_change(self, old_version, state, extra):
        return state["count"] if old_version == ("down", 1) else {"count": state}

app =""",
    )
)


@pytest.fixture(params=["snapshot", "no snapshot"])
def tally(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> Path:
    """A journal of version 1, with a state in it or not, and a folder for the next release."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "two").mkdir()
    namespace: dict[str, Any] = {}
    exec(TALLY, namespace)
    with namespace["app"].start(data=tmp_path / "data", backend="epoll") as node:
        for number in range(1, 11):
            node.call("s", number)
        if request.param == "snapshot":
            node.run_on_loop(node.journal.snapshots.take)
            until(node, lambda: node.journal.snapshots.taken == 1)
        node.call("s", 1)
    return tmp_path


def checked(folder: Path, text: str, app: str = "app") -> tuple[int, str]:
    (folder / "two" / "tally.py").write_text(text)
    result = run("release", "check", f"tally:{app}", "--path", "two")
    assert result.stderr == ""
    return result.returncode, result.stdout


def test_a_release_that_needs_no_upcast_may_follow(tally: Path) -> None:
    """It was refused for the upcast that the guide says is not needed."""
    status, said = checked(tally, WITHOUT_UPCAST)
    assert (status, "no outcome differs: t 2 may follow" in said) == (0, True)
    assert "of an older version of 's', whose class has no upcast: stepped as they are" in said


def test_a_release_that_needs_no_upcast_and_differs_is_told(tally: Path) -> None:
    other = 'return state, state["count"]', 'return state, -state["count"]'
    status, said = checked(tally, WITHOUT_UPCAST.replace(*other))
    assert status == 1
    assert "the first that differs: Server 's' does not repeat itself" in said
    assert "what the new code changes there:" in said


def test_a_state_comes_by_the_migration_of_the_release(tally: Path) -> None:
    text = WITHOUT_UPCAST.replace("def code_change", "def another") + (
        'ways = {"s": Migration(lambda count: {"count": count})}\n'
        'release = Release(app, upgrades="1", migrations=ways)\n'
    )
    status, said = checked(tally, text, "release")
    assert (status, "no outcome differs" in said) == (0, True)
    status, said = checked(tally, text)  # which nothing leads to
    assert (status, "nothing that leads on from version 1" in said) == (1, True)


@pytest.mark.parametrize("tally", ["snapshot"], indirect=True)
def test_a_way_that_raises_is_told(tally: Path) -> None:
    status, said = checked(tally, WITHOUT_UPCAST.replace('{"count": state}', "1 / 0"))
    assert status == 1
    assert "Tally.code_change of version 1 raised ZeroDivisionError: division by zero on" in said


@pytest.mark.parametrize("tally", ["snapshot"], indirect=True)
def test_a_state_that_only_the_older_code_could_load_is_not_guessed(tally: Path) -> None:
    text = WITHOUT_UPCAST.replace(
        "    def init", "    def load(self, data): return data\n\n    def init"
    )
    status, said = checked(tally, text)
    assert status == 3
    assert "it cannot be checked: " in said
    assert "only upcast_state(self, version, dumped) could read it" in said

"""`pybehave attach`: every command against a node that runs, and every way to say it wrong."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.cli.attach import command
from pybehave.cli.run import without_reset
from pybehave.observer.admin import Admin
from tests.processes import COMMAND, Process, run, serving


class Node:
    """A served key-value store, and its journal's folder."""

    def __init__(self, process: Process, data: str) -> None:
        self.process = process
        self.data = data

    def attach(self, *words: str, options: tuple[str, ...] = (), script: str = "") -> Result:
        return CliRunner().invoke(command, [*options, self.data, *words], input=script)

    def said(self, *words: str, options: tuple[str, ...] = ()) -> str:
        result = self.attach(*words, options=options)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout


@pytest.fixture
def node(source: str, tmp_path: Path) -> Iterator[Node]:
    data = str(tmp_path / "data")
    with serving("examples.kv:app", source, "--data", data) as process:
        yield Node(process, data)


def test_servers_are_listed_shown_in_their_tree_and_inspected(node: Node) -> None:
    heads, *rows = node.said("list").splitlines()
    assert heads.split()[:3] == ["server", "incarnation", "kind"]
    assert [row.split()[:3] for row in rows] == [
        ["kv1", "1", "KeyValueStore"],
        ["kv2", "1", "KeyValueStore"],
        ["kv3", "1", "KeyValueStore"],
    ]
    assert [row.split()[0] for row in node.said("list", "2").splitlines()] == ["server", "kv2"]
    assert "├── kv1" in node.said("tree")
    lines = [line for line in node.said("inspect", "kv1").splitlines() if " " in line]
    facts = dict(line.split(maxsplit=1) for line in lines)
    assert facts["kind"] == "examples.kv:KeyValueStore"
    assert facts["is_journaled"] == "True"


def test_a_call_takes_a_literal_and_shows_the_reply(node: Node) -> None:
    node.said("call", "kv1", '[b"SET", b"x", b"1 2"]')
    assert node.said("call", "kv1", '[b"GET", b"x"]') == "b'1 2'\n"
    assert "b'x': b'1 2'" in node.said("inspect", "kv1")


def test_a_server_is_suspended_resumed_and_restarted(node: Node) -> None:
    node.said("suspend", "kv2")
    late = node.attach("call", "kv2", '[b"GET", b"x"]', options=("--timeout", "0.05"))
    assert late.exit_code == 1
    assert "did not reply within 0.05 s" in late.stderr
    assert "suspended" in node.said("list", "kv2")
    assert node.said("resume", "kv2") == "kv2 runs\n"
    assert node.said("restart", "kv2") == "kv2 runs anew, as incarnation 2\n"
    assert node.said("restart", "kv1") == "kv1 runs anew, as incarnation 2\n"


def test_what_is_kept_is_listed_forgotten_and_begun_anew(node: Node) -> None:
    node.said("call", "kv1", '[b"SET", b"x", b"1"]')
    assert node.said("kept", "kv").splitlines()[1].split() == ["kv1", "running"]
    for words in (["reset", "kv1"], ["forget", "kv1", "--stop"]):
        refused = node.attach(*words)
        assert (refused.exit_code, "say --yes" in refused.stderr) == (1, True)
    assert "runs; stop it first" in node.attach("forget", "kv1", "--yes").stderr
    assert "'--now' is no option here" in node.attach("reset", "kv1", "--now").stderr
    assert node.said("call", "kv1", '[b"GET", b"x"]') == "b'1'\n"
    assert node.said("reset", "kv1", "--yes") == "kv1 has begun anew, with nothing\n"
    assert node.said("call", "kv1", '[b"GET", b"x"]') == "None\n"
    said = node.said("forget", "kv1", "--stop", "--yes")
    assert said == "kv1 is forgotten, with all that was kept of it\n"
    assert "nothing of a server 'kv1'" in node.attach("forget", "kv1", "--yes").stderr
    assert node.said("kept") == ""


def test_a_start_resets_a_server_when_it_is_confirmed(tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    with serving("examples.kv:app", "epoll", "--data", data) as process:
        Node(process, data).said("call", "kv1", '[b"SET", b"x", b"1"]')
    for words in (["--reset", "kv1"], ["--yes"]):
        refused = run("run", "examples.kv:app", "--data", data, *words)
        assert refused.returncode == 2
        assert "--yes" in refused.stderr
    typo = run("run", "examples.kv:app", "--data", data, "--reset", "kv9", "--yes")
    assert (typo.returncode, "nothing of a server 'kv9'" in typo.stderr) == (1, True)
    with serving("examples.kv:app", "epoll", "--data", data, "--reset", "kv1", "--yes") as process:
        assert Node(process, data).said("call", "kv1", '[b"GET", b"x"]') == "None\n"


def test_who_takes_over_resets_nobody_again() -> None:
    words = ["run", "--reset", "a", "app:app", "--reset=b", "--yes", "--data", "d"]
    assert without_reset(words) == ["run", "app:app", "--data", "d"]


def test_a_restarted_journaled_server_keeps_its_state(node: Node) -> None:
    node.said("call", "kv1", '[b"SET", b"x", b"1"]')
    node.said("restart", "kv1")
    assert node.said("call", "kv1", '[b"GET", b"x"]') == "b'1'\n"


def test_crashes_and_dead_letters_are_shown(node: Node) -> None:
    failed = node.attach("call", "kv1", '[b"CRASH"]')
    assert failed.exit_code == 1
    assert failed.stderr.startswith("pybehave: Server 'kv1' crashed with")
    while not (letters := node.said("dead-letters")):
        pass
    assert "kv1" in letters
    assert "crash " in node.said("inspect", "kv1")
    report = node.said("crashes")
    assert report == node.said("crashes", "kv1")
    assert "  where    root/kv1, permanent, examples.kv:KeyValueStore" in report
    assert "examples/kv.py" in report
    assert node.said("crashes", "kv2") == ""
    nobody = node.attach("crashes", "nope")
    assert (nobody.exit_code, nobody.stdout) == (1, "")
    assert "No server is named 'nope'" in nobody.stderr


def test_stats_are_lines_or_json(node: Node) -> None:
    assert "loop.ticks " in node.said("stats")
    assert json.loads(node.said("stats", options=("--json",)))["servers"] == 3
    assert json.loads(node.said("inspect", "kv1", options=("--json",)))["server"] == "kv1"


def test_a_trace_shows_what_happens_until_it_is_interrupted(node: Node) -> None:
    tracing = subprocess.Popen(
        [*COMMAND, "attach", node.data, "trace", "kv1"], stdout=subprocess.PIPE, text=True
    )
    assert tracing.stdout is not None
    with tracing.stdout:
        while "functions" not in node.said("inspect", "kv1"):
            pass
        node.said("call", "kv1", '[b"GET", b"x"]')
        assert "in call [b'GET', b'x'] from" in tracing.stdout.readline()
        assert "out None" in tracing.stdout.readline()
        tracing.send_signal(signal.SIGINT)
        assert tracing.wait(20) == 0
    while "functions" in node.said("inspect", "kv1"):
        pass


def test_a_trace_ends_after_so_many_events(node: Node) -> None:
    tracing = subprocess.Popen(
        [*COMMAND, "attach", node.data, "trace", "kv2", "1"], stdout=subprocess.PIPE, text=True
    )
    while "functions" not in node.said("inspect", "kv2"):
        pass
    node.said("call", "kv2", '[b"GET", b"x"]')
    output, _ = tracing.communicate(timeout=20)
    assert len(output.splitlines()) == 1
    assert tracing.returncode == 0


def test_commands_are_read_from_standard_input_to_the_first_that_fails(node: Node) -> None:
    script = "list kv1\n\n  suspend kv1\nbogus\nresume kv1\n"
    result = node.attach(script=script)
    assert result.exit_code == 2
    assert "there is no command 'bogus'" in result.stderr
    assert "suspended" in node.said("list", "kv1")


MISTAKES = [
    (("inspect",), 2, "write: inspect NAME"),
    (("tree", "x"), 2, "write: tree"),
    (("call", "kv1"), 2, "write: call NAME LITERAL"),
    (("call", "kv1", "GET x"), 2, "'GET x' is not a Python literal"),
    (("call", "kv1", "(" * 300), 2, "is not a Python literal"),
    (("call", "kv1", "[1, 2j]"), 2, "'[1, 2j]' cannot be sent; use what a journal can hold"),
    (("trace", "kv1", "many"), 2, "'many' is no number of events"),
    (("trace", "kv1", "9" * 19), 2, "is no number of events"),
    (("--json", "list"), 2, "write --json before the path: pybehave attach --json ..."),
    (("explode", "kv1"), 2, "there is no command 'explode'; there are list, tree"),
    (("inspect", "nobody"), 1, "No server is named 'nobody'"),
    (("suspend", "pybehave.admin"), 1, "is the server that answers this"),
]


class Echo(GenServer[None, Any, Any]):
    def step(self, command: Any, state: None) -> tuple[None, Any]:
        return state, command


@pytest.fixture
def spaced(start: Callable[..., Any], tmp_path: Path) -> str:
    """The socket of a node with a server `a b`."""
    tree = Supervisor("one_for_one", [Worker("a b", Echo, journal=True)])
    path = str(tmp_path / "admin.sock")
    Admin(start(Application("spaced", tree), data=tmp_path / "data"), path).open()
    return path


def test_a_name_with_spaces_is_one_word_of_the_shell(spaced: str) -> None:
    def said(*words: str) -> str:
        return CliRunner().invoke(command, [spaced, *words]).output

    assert said("call", "a b", "[1, 2]") == said("call", "a b", "[1,", "2]") == "[1, 2]\n"
    assert said("trace", "a b", "0") == ""
    assert "mode         running" in said("inspect", "a b")
    assert said("restart", "a b") == "a b runs anew, as incarnation 2\n"
    assert said("reset", "a b", "--yes") == "a b has begun anew, with nothing\n"


def test_a_name_with_spaces_is_quoted_in_a_line_that_is_read(spaced: str) -> None:
    """What stood behind its first space was taken for the literal, the count, or an option."""

    def said(line: str) -> str:
        return CliRunner().invoke(command, [spaced], input=line).output

    assert said("call 'a b' [1,  'a b']") == said('call "a b" [1, "a b"]') == "[1, 'a b']\n"
    assert said("call 'a b' 'c d'") == "'c d'\n", "a literal keeps its quotes"
    assert said("trace 'a b' 0") == ""
    assert "mode         running" in said("inspect a b") == said("inspect 'a b'")
    assert said("reset  'a b'  --yes") == "a b has begun anew, with nothing\n"
    assert "No server is named 'a'" in said("call a 'a b'")


def test_a_mistake_is_one_sentence(node: Node) -> None:
    for words, status, says in MISTAKES:
        result = node.attach(*words)
        assert (result.exit_code, says in result.stderr) == (status, True), result.stderr
        assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "path, says",
    [
        ("{}/nothing/here.sock", "There is no admin socket at"),
        ("{}/file", "file is no socket; name the admin socket"),
        ("{}/dead.sock", "Nobody answers at"),
        ("{}", "There is no admin socket at"),
        ("tre", "'tre' is neither a command nor a socket; commands are list, tree"),
    ],
)
def test_where_no_node_is_attach_says_so(tmp_path: Path, path: str, says: str) -> None:
    (tmp_path / "file").write_text("")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead.sock"))
    result = CliRunner().invoke(command, [path.format(tmp_path), "list"])
    assert result.exit_code in (1, 2)
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_node_that_was_killed_is_told(node: Node) -> None:
    node.process.process.kill()
    node.process.process.wait()
    # The kernel takes an io_uring's sockets down a little later: until then it hangs up.
    while "its node was killed" not in (result := node.attach("list")).stderr:
        assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert result.exit_code == 1


class Terminal:
    """A pseudo-terminal with `pybehave attach` at its other end."""

    def __init__(self, *words: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*COMMAND, "attach", *words],
            stdin=slave, stdout=slave, stderr=slave, close_fds=True, start_new_session=True,
            env={**os.environ, "TERM": "dumb"},
        )  # fmt: skip
        os.close(slave)
        self.seen = ""

    def wait(self, condition: Callable[[str], bool]) -> str:
        until = time.monotonic() + 30
        while not condition(self.seen):
            assert time.monotonic() < until, self.seen
            self.seen += os.read(self.master, 4096).decode()
        seen, self.seen = self.seen, ""
        return seen

    def say(self, line: str) -> str:
        os.write(self.master, line.encode() + b"\n")
        return self.wait(lambda seen: seen.rstrip(" ").endswith("\nkv>"))


def test_a_terminal_has_a_prompt_that_outlives_mistakes(node: Node) -> None:
    terminal = Terminal(node.data)
    greeting = terminal.wait(lambda seen: "kv> " in seen)
    assert f"process {node.process.process.pid}" in greeting
    assert "call NAME LITERAL" in terminal.say("help")
    assert "is not a Python literal" in terminal.say("call kv1 oops")
    assert "there is no command 'bogus'" in terminal.say("bogus")
    assert "No server is named 'x'" in terminal.say("inspect x")
    assert "Status('OK')" in terminal.say('call kv1 [b"SET", b"x", b"1"]')
    assert "kv1 is suspended" in terminal.say("suspend kv1")
    assert "kv1 runs" in terminal.say("resume kv1")
    os.write(terminal.master, b"exit\n")
    assert terminal.process.wait(20) == 0
    os.close(terminal.master)

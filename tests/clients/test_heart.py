"""`pybehave run --heart` with real processes that die, hang and are killed."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.power.machine import wait_for
from tests.processes import COMMAND, own_port

PROGRAM = """
import ctypes, os
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines

class Fragile(GenServer):
    def init(self, args):
        return 0

    def step(self, command, state):
        match command:
            case b"segfault":
                ctypes.string_at(0)
            case b"abort":
                os.abort()
            case b"exit":
                os._exit(0)
            case b"hang":
                while True:
                    pass
            case b"hang in C":
                ctypes.PyDLL(None).pause()  # with the interpreter's lock
            case b"raise":
                raise ValueError("a deliberate bug")
        return state + 1, str(state + 1).encode()

def app_with(journal):
    return Application(
        "fragile",
        Supervisor("one_for_one", [Worker("s", Fragile, journal=journal)], intensity=0),
        listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="s")],
    )

app, forgetful = app_with(True), app_with(False)
"""

READY_S = 30.0


class Looked:
    """A node that is looked after, and its parent."""

    def __init__(self, *words: str, cwd: Path, **environment: str) -> None:
        self.cwd = cwd
        self.log = open(cwd / "log", "w+b")  # noqa: SIM115 -- closed in `end`
        self.parent = subprocess.Popen(
            [*COMMAND, "run", *words],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**os.environ, **environment},
        )
        self.port = 0

    def wait_ready(self) -> int:
        """Until the next process serves; its number."""
        assert self.parent.stdout is not None
        for line in self.parent.stdout:
            if "->" in line:
                self.port = int(line.split()[0].rpartition(":")[2])
            if line.startswith("ready"):
                return self.child
        raise AssertionError(self.logged())

    @property
    def child(self) -> int:
        """The newest: one that was replaced may have ended, and its parent not have heard of it."""
        pid = self.parent.pid
        return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[-1])

    def ask(self, word: bytes) -> bytes:
        """A line's answer; b"" when the connection ends instead."""
        with socket.create_connection(("127.0.0.1", self.port), READY_S) as client:
            client.sendall(word + b"\n")
            try:
                return client.makefile("rb").readline().strip()
            except ConnectionResetError:
                return b""

    def reports(self) -> list[dict[str, Any]]:
        path = self.cwd / "data" / "heart.json"
        found: list[dict[str, Any]] = json.loads(path.read_bytes()) if path.exists() else []
        return found

    def logged(self) -> str:
        return (self.cwd / "log").read_text()

    def end(self) -> None:
        if self.parent.poll() is None:
            self.parent.terminate()
            self.parent.wait(READY_S)
        assert self.parent.stdout is not None
        self.parent.stdout.close()
        self.log.close()


def wait_ended(pid: int) -> None:
    """Until a process, ours or not, has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], READY_S)[0], f"process {pid} runs on"
    finally:
        os.close(fd)


@pytest.fixture
def looked(tmp_path: Path) -> Iterator[Callable[..., Looked]]:
    (tmp_path / "fragile.py").write_text(PROGRAM)
    made: list[Looked] = []

    def begin(*words: str, target: str = "fragile:app", **environment: str) -> Looked:
        each = Looked(target, "--heart", *words, cwd=tmp_path, **environment)
        made.append(each)
        return each

    yield begin
    for each in made:
        each.end()


@pytest.mark.parametrize("word", [b"segfault", b"abort", b"exit"])
def test_a_process_that_ends_in_a_step_is_followed_by_another(
    looked: Callable[..., Looked], source: str, word: bytes
) -> None:
    node = looked("--backend", source)
    first, port = node.wait_ready(), node.port
    assert node.ask(b"x") == b"1"
    assert node.ask(word) == b""
    assert node.ask(b"x") == b"2"  # waits in the socket's queue until the next one serves
    assert node.wait_ready() != first
    assert node.port == port
    [report] = node.reports()
    ended = {b"segfault": "SIGSEGV", b"abort": "SIGABRT", b"exit": ""}[word]
    assert (report["pid"], report["signal"], report["restarts"]) == (first, ended, 0)
    assert ("core dump" in report["core"]) == bool(ended)
    assert ('fragile.py", line' in node.logged()) == bool(ended)


@pytest.mark.parametrize("word", [b"hang", b"hang in C"])
def test_a_loop_that_stands_still_is_ended_with_its_stack(
    looked: Callable[..., Looked], source: str, word: bytes
) -> None:
    node = looked("--backend", source, "--heart-timeout", "1")
    node.wait_ready()
    assert node.ask(b"x") == b"1"
    assert node.ask(word) == b""
    node.wait_ready()
    assert node.ask(b"x") == b"2"
    [report] = node.reports()
    assert (report["is_hung"], report["signal"]) == (True, "SIGABRT")
    assert "its loop did not turn for 1 s" in report["why"]
    assert "in step" in node.logged()


def test_a_kill_of_the_child(looked: Callable[..., Looked]) -> None:
    node = looked()
    for turn in range(1, 4):
        child = node.wait_ready()
        assert node.ask(b"x") == str(turn).encode()
        os.kill(child, signal.SIGKILL)
    node.wait_ready()
    assert [report["restarts"] for report in node.reports()] == [0, 1, 2]
    assert "kill -9" in node.reports()[0]["core"]


def test_a_kill_of_the_parent_ends_the_child(looked: Callable[..., Looked]) -> None:
    listen = ("--listen", f"tcp://127.0.0.1:{own_port()}")
    node = looked(*listen)
    child = node.wait_ready()
    node.parent.kill()
    wait_ended(child)
    again = looked(*listen)
    again.wait_ready()
    assert again.port == node.port


def test_a_first_start_that_cannot_answer_its_operators_is_the_end(
    looked: Callable[..., Looked],
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        node = looked("--metrics", f"127.0.0.1:{taken.getsockname()[1]}")
        assert node.parent.wait(READY_S) == 1
    assert node.reports() == []
    assert node.logged().count("looks after process") == 1


def test_a_tree_that_gives_up_is_started_again(looked: Callable[..., Looked]) -> None:
    node = looked(target="fragile:forgetful")
    first = node.wait_ready()
    node.ask(b"raise")
    assert node.wait_ready() != first
    assert node.ask(b"x") == b"1"
    assert f"process {first} ended after" in node.logged()
    assert "s: exit status 1; another one starts" in node.logged()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_passed_on_and_drains(looked: Callable[..., Looked], number: int) -> None:
    node = looked()
    child = node.wait_ready()
    assert node.ask(b"x") == b"1"
    node.parent.send_signal(number)
    assert node.parent.wait(READY_S) == 0
    wait_ended(child)
    with pytest.raises(ConnectionRefusedError):
        node.ask(b"x")


def test_a_clean_stop_of_the_child_is_one_of_the_parent(looked: Callable[..., Looked]) -> None:
    node = looked()
    os.kill(node.wait_ready(), signal.SIGTERM)
    assert node.parent.wait(READY_S) == 0


def test_other_signals_are_passed_on(looked: Callable[..., Looked]) -> None:
    node = looked()
    node.wait_ready()
    assert node.ask(b"x") == b"1"
    node.parent.send_signal(signal.SIGUSR1)
    while "tree of 'fragile'" not in node.logged():
        assert node.ask(b"x") != b""


def test_too_many_restarts_are_the_end(looked: Callable[..., Looked]) -> None:
    node = looked("--heart-restarts", "1")
    for _ in range(2):
        os.kill(node.wait_ready(), signal.SIGKILL)
    assert node.parent.wait(READY_S) == 1
    assert "1 restarts in 60 s are borne, and this would be one more" in node.logged()
    assert [report["wait_s"] is None for report in node.reports()] == [False, True]


def test_a_stop_while_it_waits_to_start_again(looked: Callable[..., Looked]) -> None:
    node = looked("--heart-restarts", "100")
    wait_s, kills = 0.0, 0
    while wait_s < 1:
        os.kill(node.wait_ready(), signal.SIGKILL)
        kills += 1
        wait_for(lambda: len(node.reports()) == kills, "a report")  # noqa: B023 -- called at once
        wait_s = node.reports()[-1]["wait_s"]
    node.parent.terminate()
    assert node.parent.wait(READY_S) == 0


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (("--listen", "nonsense"), 2, "nonsense"),
        (("--data", "fragile.py"), 1, "fragile.py"),
        (("--heart-timeout", "0.01"), 2, "timeout=0.01 is not allowed"),
    ],
)
def test_what_cannot_start_is_not_tried_again(
    looked: Callable[..., Looked], words: tuple[str, ...], status: int, sentence: str
) -> None:
    node = looked(*words)
    assert node.parent.wait(READY_S) == status
    assert sentence in node.logged()
    assert "Traceback" not in node.logged()


def test_a_folder_that_takes_no_reports_is_a_warning(
    looked: Callable[..., Looked], tmp_path: Path
) -> None:
    node = looked()
    first = node.wait_ready()
    (tmp_path / "data" / "heart.tmp").mkdir()
    os.kill(first, signal.SIGKILL)
    node.wait_ready()
    assert "the report is not kept" in node.logged()
    assert node.ask(b"x") == b"1"


def test_options_of_a_parent_that_there_is_not(tmp_path: Path) -> None:
    words = [*COMMAND, "run", "examples.kv:app", "--heart-restarts", "3"]
    found = subprocess.run(words, capture_output=True, text=True, timeout=READY_S, check=False)
    assert (found.returncode, found.stderr) == (2, "pybehave: --heart-restarts needs --heart\n")

"""Messages between journaled servers that end the process: three times, and then no more."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Once, Supervisor, Worker, actions
from pybehave._uring.values import Values
from pybehave.errors import Crashed
from pybehave.journal import dead_letters
from pybehave.journal.attempts import ATTEMPTS, ATTEMPTS_MAX, MARK_MESSAGE
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.processes import run

MODULE = """
import os, signal, sys
from pybehave import Application, GenServer, Once, Supervisor, Worker, actions
from pybehave.errors import PybehaveError

class Front(GenServer):
    def init(self, args):
        return 0

    def step(self, command, state):
        if command == "named":
            return state + 1, None, [actions.Cast("back", Once("client", 1, "poison"))]
        if command == "run":
            return state + 1, None, [actions.Run(ask, tag="t")]
        return state + 1, state + 1, [actions.Cast("back", command)]

    def handle_info(self, message, state):
        os.kill(os.getpid(), signal.SIGKILL)

class Back(GenServer):
    def init(self, args):
        return []

    def step(self, command, state):
        return state, list(state)

    def handle_cast(self, message, state):
        if message == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        return [*state, message], None

def ask():
    return 1

app = Application("t", Supervisor("one_for_one", [
    Worker("front", Front, journal=True), Worker("back", Back, journal=True),
]))

if __name__ == "__main__":
    node = app.start(data="data", backend=sys.argv[1])
    node.sys.suspend("back")
    for command in sys.argv[2:]:
        if command != "ask":
            node.call("front", command)
    node.sys.resume("back")
    if "run" in sys.argv:
        node._thread.join()
    if "ask" in sys.argv:
        try:
            print(node.call("back", Once("client", 1, "poison")))
        except PybehaveError as error:
            print(type(error).__name__)
    print(node.call("front", "last"), node.call("back", "all"))
    node.stop()
"""

KILLED = -9
Life = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def life(tmp_path: Path) -> Life:
    """Run one life of the node with these commands; its result. No completion source has a part
    in this: the process ends in the step of a message.
    """
    (tmp_path / "fragile.py").write_text(MODULE)

    def live(*commands: str, source: str = "epoll") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "fragile.py", source, *commands],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return live


def test_a_message_that_ends_each_process_is_put_aside(life: Life, tmp_path: Path) -> None:
    ends = [life("a", "poison", "b"), *(life() for _ in range(ATTEMPTS_MAX - 1))]
    assert [end.returncode for end in ends] == [KILLED] * ATTEMPTS_MAX
    end = life("c")
    assert (end.returncode, end.stdout) == (0, "5 ['a', 'b', 'c', 'last']\n"), end.stderr
    assert "message 0 of the input of lsn" in end.stderr
    data = str(tmp_path / "data")
    [lsn] = dead_letters.numbers(data)
    letter = dead_letters.get(data, lsn)
    assert letter.server == "back"
    assert "ended 3 times" in letter.error
    assert life().stdout == "6 ['a', 'b', 'c', 'last', 'last']\n"
    assert json.loads((tmp_path / "data" / ATTEMPTS).read_bytes()) == []


def test_a_named_message_that_ends_each_process_is_put_aside_under_its_name(
    life: Life, tmp_path: Path, source: str
) -> None:
    ends = [life("named", source=source), *(life(source=source) for _ in range(ATTEMPTS_MAX - 1))]
    assert [end.returncode for end in ends] == [KILLED] * ATTEMPTS_MAX
    end = life("ask", source=source)
    assert (end.returncode, end.stdout) == (0, "Crashed\n2 ['last']\n"), end.stderr
    data = str(tmp_path / "data")
    [lsn] = dead_letters.numbers(data)
    letter = dead_letters.get(data, lsn)
    assert (letter.server, Values().decode(letter.message)) == ("back", "poison")
    assert "ended 3 times" in letter.error
    listed = run("dead-letters", "list", "--data", data).stdout
    assert "back" in listed
    words = ("requeue", str(lsn), "--data", data, "--message", '"mended"')
    assert run("dead-letters", *words).returncode == 0
    # What the operator sends is no request of the client's: that one still hears what it heard.
    assert life("ask", source=source).stdout == "Crashed\n3 ['last', 'mended', 'last']\n"
    assert dead_letters.numbers(data) == []
    assert life("ask", source=source).stdout == "Crashed\n4 ['last', 'mended', 'last', 'last']\n"


def test_a_named_message_is_put_aside_once() -> None:
    """In the simulator, where no process can end: the count of its ends is given."""
    app = Application(
        "t", Supervisor("one_for_one", [Worker(name, Named, journal=True) for name in ("a", "b")])
    )
    disk = SimDisk(1)
    with Simulator(1, app, disk=disk) as world:
        world.node.sys.suspend("b")
        world.node.call("a", "send")
        world.run(1.0)
        [(lsn, index)] = world.node.loop.dispatcher.outbox
        disk = disk.copy()
    count = {"kind": MARK_MESSAGE, "server": index, "key": lsn, "attempts": ATTEMPTS_MAX}
    disk.put(ATTEMPTS, json.dumps([count]).encode())
    with Simulator(1, app, disk=disk) as world:
        world.run(1.0)
        assert world.node.get_state("b") == []
        with pytest.raises(Crashed):
            world.node.call("b", Once("client", 1, "word"))
        assert world.node.get_state("b") == []
        assert len(disk.names_below("dead-letters")) == 1
    with Simulator(1, app, disk=disk) as world:
        world.run(1.0)
        with pytest.raises(Crashed):
            world.node.call("b", Once("client", 1, "word"))
        assert len(disk.names_below("dead-letters")) == 1


class Named(GenServer[list[str], Any, Any]):
    """Sends a message under a client's name."""

    def init(self, args: object) -> list[str]:
        return []

    def step(self, command: str, state: list[str]) -> Any:
        if command == "send":
            return state, None, actions.Cast("b", Once("client", 1, "word"))
        return [*state, command], None


def test_an_answer_that_ends_each_process_is_put_aside(life: Life, tmp_path: Path) -> None:
    ends = [life("run"), *(life() for _ in range(ATTEMPTS_MAX - 1))]
    assert [end.returncode for end in ends] == [KILLED] * ATTEMPTS_MAX
    end = life()
    assert (end.returncode, end.stdout) == (0, "2 ['last']\n"), end.stderr
    [lsn] = dead_letters.numbers(str(tmp_path / "data"))
    assert dead_letters.get(str(tmp_path / "data"), lsn).server == "front"
    assert life().returncode == 0


def test_lives_that_end_elsewhere_count_for_nothing(life: Life, tmp_path: Path) -> None:
    for _ in range(ATTEMPTS_MAX - 1):
        assert life("poison").returncode == KILLED
    program = tmp_path / "fragile.py"
    program.write_text(program.read_text().replace('message == "poison"', "not message"))
    assert life().stdout == "2 ['poison', 'last']\n"
    assert life().stdout == "3 ['poison', 'last', 'last']\n"
    assert json.loads((tmp_path / "data" / ATTEMPTS).read_bytes()) == []
    assert dead_letters.numbers(str(tmp_path / "data")) == []


class Target(GenServer[list[str], str, None]):
    """Is interrupted, as by Ctrl-C, while it steps what it was sent."""

    is_interrupted = True

    def init(self, args: object) -> list[str]:
        return []

    def step(self, command: str, state: list[str]) -> Any:
        if command == "send":
            return state, None, actions.Cast("other", "word")
        if type(self).is_interrupted:
            raise KeyboardInterrupt
        return [*state, command], None


def test_an_interrupt_is_no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = [Worker(name, Target, journal=True) for name in ("one", "other")]
    app = Application("t", Supervisor("one_for_one", workers))
    disk = SimDisk(1)
    for attempt in range(ATTEMPTS_MAX + 2):
        with pytest.raises(KeyboardInterrupt), Simulator(1, app, disk=disk) as world:
            if attempt == 0:
                world.node.sys.suspend("other")
                world.node.call("one", "send")
                world.node.sys.resume("other")
            world.run(1.0)
        disk = disk.copy()
    monkeypatch.setattr(Target, "is_interrupted", False)
    with Simulator(1, app, disk=disk) as world:
        world.run(1.0)
        assert world.node.get_state("other") == ["word"]

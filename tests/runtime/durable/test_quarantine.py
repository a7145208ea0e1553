"""Inputs that end the process, not just their server: three times, and then no more."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pybehave.journal import dead_letters
from pybehave.journal.attempts import ATTEMPTS, ATTEMPTS_MAX, Attempts, Suspect
from pybehave.testing.disk import SimDisk
from tests.processes import run

MODULE = """
import os, signal, sys
from pybehave import Application, GenServer, Supervisor, Worker, actions

class Fragile(GenServer):
    def init(self, args):
        return []

    def step(self, command, state):
        state.append(command)
        if command == "poison" and os.path.exists("deadly"):
            os.kill(os.getpid(), signal.SIGKILL)
        if command == "needs poison" and "poison" not in state:
            raise LookupError(state.pop())
        if command == "bomb":
            return state, len(state), [actions.StartTimer("bomb", 0.02, "tick")]
        return state, list(state)

    def handle_info(self, message, state):
        os.kill(os.getpid(), signal.SIGKILL)

app = Application("t", Supervisor("one_for_one", [
    Worker("f", Fragile, journal=True), Worker("other", Fragile, journal=True),
]))

if __name__ == "__main__":
    node = app.start(data="data", backend=sys.argv[1])
    for command in sys.argv[2:]:
        if command == "wait":
            node._thread.join()
        else:
            print(node.call("f", command), flush=True)
    node.stop()
"""

KILLED = -9
Life = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def life(tmp_path: Path) -> Life:
    """Run one life of the node with these commands; its result. No completion source has a part
    in this: the process ends in a replay or in a timer's step.
    """
    (tmp_path / "fragile.py").write_text(MODULE)

    def live(*commands: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "fragile.py", "epoll", *commands],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return live


def test_F35_an_input_that_kills_each_start_is_put_aside(life: Life, tmp_path: Path) -> None:
    assert life("a", "poison", "b").returncode == 0
    (tmp_path / "deadly").touch()  # such as another version of a library
    ends = [life("c") for _ in range(ATTEMPTS_MAX + 2)]
    assert [end.returncode for end in ends] == [KILLED] * ATTEMPTS_MAX + [0, 0]
    assert ends[-2].stdout == "['a', 'b', 'c']\n"
    assert ends[-1].stdout == "['a', 'b', 'c', 'c']\n"
    data = str(tmp_path / "data")
    [lsn] = dead_letters.numbers(data)
    letter = dead_letters.get(data, lsn)
    assert (letter.server, letter.state is not None) == ("f", True)
    assert "ended 3 times" in letter.error
    words = ("replay", "fragile:app", "--data", data, "--check")
    replay = run(*words, PYTHONPATH=str(tmp_path))
    assert replay.returncode == 0, replay.stderr


def test_a_timer_that_kills_each_life_does_not_fire_for_ever(life: Life, tmp_path: Path) -> None:
    ends = [life("bomb", "wait")] + [life("wait") for _ in range(ATTEMPTS_MAX - 1)]
    assert [end.returncode for end in ends] == [KILLED] * ATTEMPTS_MAX
    end = life("a")
    assert (end.returncode, end.stdout) == (0, "['bomb', 'a']\n"), end.stderr
    assert "is not stepped any more" in end.stderr
    assert len(dead_letters.numbers(str(tmp_path / "data"))) == 1
    assert life("b").stdout == "['bomb', 'a', 'b']\n"
    assert json.loads((tmp_path / "data" / ATTEMPTS).read_bytes()) == []


def test_what_fails_without_it_is_put_aside_too(life: Life, tmp_path: Path) -> None:
    assert life("poison", "needs poison", "b").returncode == 0
    (tmp_path / "deadly").touch()
    for _ in range(ATTEMPTS_MAX):
        assert life("c").returncode == KILLED
    for expected in ("['b', 'c']\n", "['b', 'c', 'd']\n"):
        assert life(expected[-4]).stdout == expected
    assert len(dead_letters.numbers(str(tmp_path / "data"))) == 2


def test_starts_that_are_killed_elsewhere_count_for_nothing(life: Life, tmp_path: Path) -> None:
    assert life("a", "poison").returncode == 0
    (tmp_path / "deadly").touch()
    for _ in range(ATTEMPTS_MAX - 1):
        assert life("c").returncode == KILLED
    (tmp_path / "deadly").unlink()
    assert life("c").returncode == 0
    assert json.loads((tmp_path / "data" / ATTEMPTS).read_bytes()) == []
    assert life("d").stdout == "['a', 'poison', 'c', 'd']\n"


def mark(counting: Attempts, lsn: int) -> None:
    assert counting.marker is not None
    for index, number in enumerate((1, 7, lsn)):
        counting.marker[index] = number


def test_counts_are_durable_and_forgotten_when_a_power_cut_takes_the_marker() -> None:
    disk = SimDisk(1)
    for attempt in range(1, ATTEMPTS_MAX + 1):
        counting = Attempts(disk)
        counting.begin()
        assert counting.marker is not None
        counting.marker[:3] = memoryview(
            b"".join(n.to_bytes(8, "little") for n in (1, 7, 42))
        ).cast("Q")
        disk = disk.copy()  # killed
        assert sum(counting.counts.values()) == attempt - 1
    counting = Attempts(disk)
    counting.begin()
    assert counting.poison(1) == [Suspect(1, 7, 42)]
    assert counting.marker is not None
    counting.marker[:3] = memoryview(b"".join(n.to_bytes(8, "little") for n in (1, 7, 43))).cast(
        "Q"
    )
    counting = Attempts(disk.cut_exactly([0] * len(disk.undecided())))
    counting.begin()
    assert counting.counts == {Suspect(1, 7, 42): ATTEMPTS_MAX}


def test_counts_that_cannot_be_read_begin_anew() -> None:
    disk = SimDisk(1)
    disk.put(ATTEMPTS, b"[{")
    counting = Attempts(disk)
    counting.begin()
    assert counting.counts == {}

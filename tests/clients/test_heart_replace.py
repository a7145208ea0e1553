"""Releases of a looked-after process: its parent looks after the next one, and what that runs."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pybehave.runtime.heart.process import parent_of
from tests.clients.test_heart import wait_ended
from tests.clients.test_release_load import PIPELINE, Load
from tests.clients.test_replace import let_two_read_one, pid_of
from tests.power.machine import wait_for
from tests.processes import COMMAND, serving
from tests.releases import write_releases


@pytest.fixture
def load(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    folders = write_releases(tmp_path)
    let_two_read_one(folders[1])
    monkeypatch.chdir(folders[0])
    data = str(tmp_path / "data")
    words = ("--data", data, "--heart", "--heart-timeout", "5")
    with serving("counts:app", source, *words) as process:
        load = Load(process, data, folders)
        try:
            yield load
        finally:
            for client in load.clients:
                client.end()
            with contextlib.suppress(Exception):
                process.process.terminate()
                process.process.wait(30)


def asked(load: Load, word: str) -> object:
    with redis.Redis(port=load.process.port, socket_timeout=30) as asking:
        return asking.execute_command(word)


def replace(load: Load) -> int:
    """Replace the process by one of the second release; the number of the new one."""
    before = pid_of(load)
    result = load.release("replace", "counts:app", "--path", load.two, "--from", "1.0")
    assert (result.returncode, result.stderr) == (0, "")
    wait_ended(before)
    return pid_of(load)


def test_the_new_process_is_looked_after_as_it_was_started(load: Load) -> None:
    load.wait_for_answers()
    second = replace(load)
    load.wait_for_answers()
    load.end()  # until here no connection has ended
    assert load.process.process.poll() is None
    os.kill(second, signal.SIGKILL)
    assert asked(load, "VERSION") == b"2"
    assert asked(load, f"INCR {load.clients[0].key.decode()}") == load.clients[0].answers + 2


def change(load: Load, *words: str) -> None:
    """Change the release; that is no mistake."""
    result = load.release(*words)
    assert (result.returncode, result.stderr) == (0, "")


def quiet(load: Load) -> int:
    """Let no client ask any more; the number of the process that serves."""
    for client in load.clients:
        client.end()
    return pid_of(load)


def test_the_next_process_has_the_code_of_an_upgrade(load: Load) -> None:
    process = quiet(load)
    change(load, "upgrade", "counts:release", "--path", load.two)
    os.kill(process, signal.SIGKILL)
    assert asked(load, "VERSION") == b"2"


def test_the_next_process_has_the_code_before_after_a_rollback(load: Load) -> None:
    process = quiet(load)
    change(load, "upgrade", "counts:release", "--path", load.two)
    change(load, "rollback")
    os.kill(process, signal.SIGKILL)
    assert asked(load, "VERSION") == b"1"


def test_a_replacement_has_the_code_of_an_upgrade(load: Load) -> None:
    process = quiet(load)
    change(load, "upgrade", "counts:release", "--path", load.two)
    change(load, "replace", "--from", "2.0")
    wait_ended(process)
    assert asked(load, "VERSION") == b"2"


def test_a_stop_reaches_the_new_process(load: Load) -> None:
    second = replace(load)
    for client in load.clients:
        client.end()
    load.process.process.terminate()
    assert load.process.process.wait(30) == 0
    wait_ended(second)


def test_the_new_process_ends_with_the_parent(load: Load) -> None:
    second = replace(load)
    wait_for(lambda: parent_of(second) == load.process.process.pid, "it is the parent's child")
    for client in load.clients:
        client.end()
    load.process.process.kill()
    wait_ended(second)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def successor_of(pid: int) -> int:
    """The process that a node has started to take its place; 0 = there is none yet."""
    for entry in Path("/proc").iterdir():
        try:
            is_child = entry.name.isdigit() and parent_of(int(entry.name)) == pid
            if is_child and b"PYBEHAVE_HANDOVER=" in (entry / "environ").read_bytes():
                return int(entry.name)
        except OSError:  # it has ended meanwhile
            continue
    return 0


def holds_the_lock(pid: int, data: str) -> bool:
    return Path(data, "LOCK").read_text().split()[:1] == [str(pid)]


def begin_to_replace(load: Load) -> tuple[subprocess.Popen[bytes], int]:
    """Let another process begin to take the place of this one; who, once it has the journal."""
    old = pid_of(load)
    words = [*COMMAND, "release", "replace", "counts:app", "--path", load.two, "--node", load.data]
    asking = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    wait_for(lambda: successor_of(old) != 0, "a process that is to take over")
    new = successor_of(old)
    wait_for(lambda: holds_the_lock(new, load.data), "it has the journal")
    return asking, new


def test_a_stop_reaches_who_is_taking_over(load: Load) -> None:
    """For the one before it came too late."""
    quiet(load)
    asking, new = begin_to_replace(load)
    load.process.process.terminate()
    asking.communicate(timeout=60)
    assert load.process.process.wait(30) == 0
    wait_ended(new)


def test_a_parent_that_was_held_up_hears_all_of_a_successor_that_has_ended(load: Load) -> None:
    """Its word that it is ready was looked at behind its end: the code before was started again and
    again, which cannot read the newer one's journal."""
    quiet(load)
    asking, new = begin_to_replace(load)
    os.kill(load.process.process.pid, signal.SIGSTOP)
    asking.communicate(timeout=60)
    assert asked(load, "VERSION") == b"2"
    os.kill(new, signal.SIGKILL)
    wait_for(lambda: state_of(new) == "Z", "it has ended, and nobody has looked")
    os.kill(load.process.process.pid, signal.SIGCONT)
    assert asked(load, "VERSION") == b"2"


@pytest.mark.parametrize("whom", ["old", "new"])
@pytest.mark.parametrize("point", ["started", "locked", "serving"])
def test_a_kill_inside_a_replacement_loses_nothing(load: Load, whom: str, point: str) -> None:
    load.wait_for_answers()
    old = pid_of(load)
    words = [*COMMAND, "release", "replace", "counts:app", "--path", load.two, "--node", load.data]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as asking:
        wait_for(lambda: successor_of(old) != 0, "a process that is to take over")
        new = successor_of(old)
        if point == "locked":
            wait_for(lambda: holds_the_lock(new, load.data), "it has the journal")
        if point == "serving":  # the old one may have ended by now, or not
            asking.communicate(timeout=60)
        with contextlib.suppress(ProcessLookupError):
            os.kill(old if whom == "old" else new, signal.SIGKILL)
        asking.communicate(timeout=60)
    for client in load.clients:
        client.end()
        assert client.error is None
    with redis.Redis(port=load.process.port, socket_timeout=30) as again:
        found = [again.execute_command("INCR", client.key) - 1 for client in load.clients]
    for count, client in zip(found, load.clients, strict=True):
        assert client.answers <= count <= client.answers + PIPELINE
    assert load.process.process.poll() is None

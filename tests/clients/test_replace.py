"""A process replaced under load: its clients keep their connections and miss nothing."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybehave.observer.client import AdminClient
from tests.clients.test_release_load import Load
from tests.conftest import receive
from tests.processes import serving
from tests.releases import write_releases


def let_two_read_one(folder: Path) -> None:
    """Let the second release read what the first has journaled."""
    (folder / "counts.py").write_text(
        (folder / "counts.py")
        .read_text()
        .replace(
            "    def code_change",
            "    def upcast(self, version, message):\n"
            "        return message\n\n"
            "    def upcast_state(self, version, dumped):\n"
            "        return {key: [count, 1] for key, count in dumped.items()}\n\n"
            "    def code_change",
        )
    )


@pytest.fixture
def load(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    folders = write_releases(tmp_path)
    let_two_read_one(folders[1])
    monkeypatch.chdir(folders[0])
    data = str(tmp_path / "data")
    with serving("counts:app", source, "--data", data) as process:
        load = Load(process, data, folders)
        try:
            yield load
        finally:
            for client in load.clients:
                client.end()
            with contextlib.suppress(Exception):
                end(load)


def pid_of(load: Load) -> int:
    with AdminClient(load.data) as asking:
        return int(asking.ask("hello")["pid"])


def end(load: Load) -> None:
    """The process that serves now is nobody's child here."""
    os.kill(pid_of(load), signal.SIGKILL)


def test_a_process_is_replaced_and_no_client_notices(load: Load) -> None:
    before = pid_of(load)
    load.wait_for_answers()
    result = load.release("replace", "counts:app", "--path", load.two, "--from", "1.0")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"version 2.0 serves, in process {pid_of(load)}" in result.stdout
    assert pid_of(load) != before
    assert load.process.process.wait(20) == 0
    with AdminClient(load.data) as asking:
        recovery = asking.ask("stats")["journal"]["recovery"]
    assert 0 < recovery["ahead"] <= recovery["last_lsn"]
    load.wait_for_answers()
    load.end()


STOPPING = """
import os

class Stopping(GenServer):
    def init(self, args):
        with open("pid", "w") as file:
            file.write(str(os.getpid()))
        os.kill(os.getppid(), NUMBER)
        return None

tree = Supervisor("""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_stops_the_process_meanwhile_stops_the_other_one_too(load: Load, number: int) -> None:
    """It was lost: what had been asked to end had ended, and another process served for ever."""
    code = Path(load.two) / "counts.py"
    text = code.read_text().replace("\ntree = Supervisor(", STOPPING.replace("NUMBER", f"{number}"))
    code.write_text(text.replace("journal=True)]", 'journal=True), Worker("t", Stopping)]'))
    result = load.release("replace", "counts:app", "--path", load.two)
    pid = int(Path("pid").read_text())
    if number == signal.SIGTERM:  # INT waits for nobody's answer
        assert result.stdout == f"version 2.0 serves, in process {pid}\n"
    assert load.process.process.wait(20) == 0
    with contextlib.suppress(ProcessLookupError):
        ended = os.pidfd_open(pid)
        assert select.select([ended], [], [], 20)[0]
        os.close(ended)
    for client in load.clients:
        client.end()
        assert (client.error, client.has_ended) == (None, True)


def test_half_a_request_is_finished_in_the_other_process(load: Load) -> None:
    with socket.create_connection(("127.0.0.1", load.process.port), 30) as client:
        client.sendall(b"INCR half\r\nINC")
        assert receive(client, 4) == b":1\r\n"
        assert load.release("replace", "counts:app", "--path", load.two).returncode == 0
        client.sendall(b"R half\r\nVERSION\r\n")
        assert receive(client, 11) == b":2\r\n$1\r\n2\r\n"
    load.end()


def test_a_release_that_does_not_load_changes_nothing(load: Load, tmp_path: Path) -> None:
    load.wait_for_answers()
    before = pid_of(load)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "counts.py").write_text("x = 1 / 0\n")
    result = load.release("replace", "counts:app", "--path", str(tmp_path / "broken"))
    assert "the new process did not load it (importing 'counts' failed: " in result.stderr
    assert "ZeroDivisionError: division by zero" in result.stderr
    assert pid_of(load) == before
    load.wait_for_answers()
    load.end()


@pytest.mark.parametrize("upcast", [False, True])
def test_code_that_does_not_read_the_journal_changes_nothing(
    load: Load, tmp_path: Path, upcast: bool
) -> None:
    """All clients waited while a process of the old release took the place of another one."""
    load.wait_for_answers()
    before = pid_of(load)
    folder = tmp_path / "unread"
    folder.mkdir()
    text = Path(load.two, "counts.py").read_text()
    text = text.replace("upcast_state", "of_another_name")
    if not upcast:
        text = text.replace("def upcast(", "def another_one(")
    (folder / "counts.py").write_text(text)
    result = load.release("replace", "counts:app", "--path", str(folder))
    assert (result.returncode, result.stdout) == (1, "")
    assert "the new process did not follow the journal (server 's': " in result.stderr
    assert "Server is version 2 and has nothing that leads on from version 1" in result.stderr
    assert pid_of(load) == before
    load.wait_for_answers()
    load.end()


def test_a_release_that_does_not_start_is_taken_back(load: Load, tmp_path: Path) -> None:
    """Its code loads, its server does not start: a process of the old release goes on."""
    load.wait_for_answers()
    before = pid_of(load)
    folder = tmp_path / "late"
    folder.mkdir()
    text = Path(load.one, "counts.py").read_text()
    (folder / "counts.py").write_text(text.replace("return {}", 'raise ValueError("no start")'))
    result = load.release("replace", "counts:app", "--path", str(folder))
    assert result.returncode == 1
    assert "that is the old release: the new process did not serve: " in result.stdout
    assert "ValueError: no start" in result.stdout
    assert pid_of(load) != before
    load.wait_for_answers()
    load.end()


def test_code_that_does_not_repeat_the_journal_never_serves(load: Load, tmp_path: Path) -> None:
    """It was found out when the old process had let go: one of the old release took its place. That
    is so only where nothing had come since the snapshot by then.
    """
    load.wait_for_answers()
    before = pid_of(load)
    folder = tmp_path / "other"
    folder.mkdir()
    text = Path(load.one, "counts.py").read_text()
    assert "state[key]\n" in text
    (folder / "counts.py").write_text(text.replace("state[key]\n", "-state[key]\n"))
    result = load.release("replace", "counts:app", "--path", str(folder))
    assert result.returncode != 0
    if pid_of(load) == before:
        assert "the new process did not follow the journal" in result.stderr
    else:
        assert "that is the old release" in result.stdout
    load.wait_for_answers()
    load.end()


def test_another_version_than_expected_is_refused(load: Load) -> None:
    result = load.release("replace", "counts:app", "--path", load.two, "--from", "0.9")
    assert "it is to follow version '0.9', but '1.0' runs here" in result.stderr
    load.wait_for_answers()
    load.end()

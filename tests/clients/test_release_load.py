"""A node changes its release under load: no connection ends, no acknowledged command is lost.

Clients send increments in pipelines, each to a key of its own, and know what was answered. Whatever
happens to the release, the answers of a connection are 1, 2, 3, ... without a gap.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from pybehave.errors import NotAnswered
from pybehave.observer.client import AdminClient
from tests.processes import COMMAND, Process, run, serving
from tests.releases import write_releases

CLIENTS = 8
PIPELINE = 32


class Client:
    """A connection that increments a key of its own until it is told to end."""

    def __init__(self, port: int, number: int) -> None:
        self.key = b"client%d" % number
        self.answers = 0
        self.error: Exception | None = None
        self.has_ended = False
        self.is_over = threading.Event()
        self._socket = socket.create_connection(("127.0.0.1", port), 30)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        line = b"INCR %s\r\n" % self.key
        try:
            with self._socket, self._socket.makefile("rb") as answers:
                while not self.is_over.is_set():
                    self._socket.sendall(line * PIPELINE)
                    for _ in range(PIPELINE):
                        found = answers.readline()
                        if not found:
                            self.has_ended = True
                            return
                        if found != b":%d\r\n" % (self.answers + 1):
                            raise AssertionError(f"{found!r} behind {self.answers}")
                        self.answers += 1
        except OSError:
            self.has_ended = True
        except Exception as error:  # noqa: BLE001 -- told to the test
            self.error = error

    def end(self) -> None:
        self.is_over.set()
        self._thread.join(60)


class Load:
    """The clients of one node."""

    def __init__(self, process: Process, data: str, folders: tuple[Path, Path, Path]) -> None:
        self.process = process
        self.data = data
        self.one, self.two, self.bad = map(str, folders)
        self.clients = [Client(process.port, number) for number in range(CLIENTS)]

    def wait_for_answers(self, more: int = 200) -> None:
        """Until every client has had so many more."""
        wanted = [client.answers + more for client in self.clients]
        while any(c.answers < w for c, w in zip(self.clients, wanted, strict=True)):
            assert not any(c.has_ended or c.error for c in self.clients)
            self.clients[0].is_over.wait(0.001)

    def release(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, "release", *words, "--node", self.data],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def end(self) -> None:
        """No connection has ended, no answer was wrong, and the state holds exactly all of them."""
        for client in self.clients:
            client.end()
        assert [c.error for c in self.clients if c.error] == []
        assert not any(c.has_ended for c in self.clients)
        with redis.Redis(port=self.process.port, socket_timeout=30) as asking:
            found = [asking.execute_command("INCR", c.key) - 1 for c in self.clients]
        assert found == [c.answers for c in self.clients]


@pytest.fixture
def load(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    folders = write_releases(tmp_path)
    monkeypatch.chdir(folders[0])
    data = str(tmp_path / "data")
    with serving("counts:app", source, "--data", data) as process:
        load = Load(process, data, folders)
        yield load
        for client in load.clients:
            client.end()


def test_an_upgrade_and_the_way_back(load: Load) -> None:
    load.wait_for_answers()
    for words in (("upgrade", "counts:release", "--path", load.two), ("rollback",)) * 2:
        result = load.release(*words)
        assert (result.returncode, result.stderr) == (0, "")
        load.wait_for_answers()
    load.end()


def test_a_migration_that_fails(load: Load) -> None:
    load.wait_for_answers()
    for _ in range(3):
        result = load.release("upgrade", "counts:release", "--path", load.bad)
        assert "no way" in result.stderr
        load.wait_for_answers()
    load.end()


def test_a_crash_that_takes_the_release_back(load: Load) -> None:
    load.wait_for_answers()
    words = ("upgrade", "counts:release", "--path", load.two, "--crashes", "1")
    assert load.release(*words).returncode == 0
    with redis.Redis(port=load.process.port, socket_timeout=30) as asking:
        with pytest.raises(redis.ResponseError):
            asking.execute_command("BREAK")
        while asking.execute_command("VERSION") != b"1":
            load.clients[0].is_over.wait(0.001)
    for client in load.clients:
        client.end()
    # While the server was down, whoever asked was told so; that is an answer, and no number.
    with redis.Redis(port=load.process.port, socket_timeout=30) as asking:
        found = [asking.execute_command("INCR", c.key) - 1 for c in load.clients]
    assert all(f >= c.answers for f, c in zip(found, load.clients, strict=True))
    assert not any(c.has_ended for c in load.clients)


@pytest.mark.parametrize("ticks", range(8))
def test_a_kill_in_the_middle(load: Load, ticks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next process is of the one release or the other, and knows all that was acknowledged."""
    load.wait_for_answers()
    with AdminClient(load.data) as admin:
        words = {"target": "counts:release", "path": load.two}
        thread = threading.Thread(target=ask_in_vain, args=(admin, words))
        thread.start()
        load.wait_for_answers(PIPELINE * ticks)
        load.process.end(signal.SIGKILL)
        thread.join(60)
    for client in load.clients:
        client.end()
    assert [c.error for c in load.clients if c.error] == []
    monkeypatch.chdir(load.one)
    if run("replay", "counts:app", "--data", load.data).returncode:  # the journal of the newer one
        monkeypatch.chdir(load.two)
    with (
        serving("counts:app", "epoll", "--data", load.data) as process,
        redis.Redis(port=process.port, socket_timeout=30) as asking,
    ):
        for client in load.clients:
            found = asking.execute_command("INCR", client.key) - 1
            assert client.answers <= found <= client.answers + PIPELINE


def ask_in_vain(admin: AdminClient, words: dict[str, str]) -> None:
    with contextlib.suppress(NotAnswered):
        admin.ask("release_upgrade", **words)

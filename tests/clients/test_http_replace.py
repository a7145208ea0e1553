"""A process that speaks HTTP is replaced: half a request is answered by the other one."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybehave.observer.client import AdminClient
from tests.conftest import receive
from tests.processes import Process, run, serving

WEB = """
from pybehave import Application, GenServer, Listener, Release, Supervisor, Worker
from pybehave.protocols import Http

class Server(GenServer):
    def step(self, command, state):
        return state, "VERSION " + command

tree = Supervisor("one_for_one", [Worker("s", Server, journal=True)])
app = Application(
    "web", tree, version="VERSION", listeners=[Listener("tcp://127.0.0.1:0", Http(), to="s")]
)
"""

HEAD = b"POST /s HTTP/1.1\r\nHost: h\r\n"
CUT = [
    (HEAD[:20], HEAD[20:] + b"Content-Length: 5\r\n\r\nhello"),
    (HEAD + b"Content-Length: 5\r\n\r\nhel", b"lo"),
    (HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\n", b"lo\r\n0\r\n\r\n"),
]


@pytest.fixture
def web(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    for version in ("1.0", "2.0"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "web.py").write_text(WEB.replace("VERSION", version))
    monkeypatch.chdir(tmp_path / "1.0")
    with serving("web:app", source, "--data", str(tmp_path / "data")) as process:
        yield process
        with contextlib.suppress(Exception), AdminClient(str(tmp_path / "data")) as asking:
            os.kill(int(asking.ask("hello")["pid"]), signal.SIGKILL)  # nobody's child here


def test_half_requests_are_finished_in_the_other_process(web: Process, tmp_path: Path) -> None:
    with contextlib.ExitStack() as open_now:
        clients = []
        for before, _ in CUT:
            client = socket.create_connection(("127.0.0.1", web.port), 30)
            clients.append(open_now.enter_context(client))
            client.sendall(HEAD + b"Content-Length: 1\r\n\r\nx")
            assert receive_answer(client) == b"1.0 x"
            client.sendall(before)
        words = ["replace", "web:app", "--path", str(tmp_path / "2.0")]
        done = run("release", *words, "--node", str(tmp_path / "data"))
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        for client, (_, behind) in zip(clients, CUT, strict=True):
            client.sendall(behind)
            assert receive_answer(client) == b"2.0 hello"


def receive_answer(client: socket.socket) -> bytes:
    """The body of one answer."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += receive(client, 1)
    return receive(client, int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0]))

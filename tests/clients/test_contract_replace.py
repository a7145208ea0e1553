"""Conversations under a contract, over a process that is replaced by another one (A3-43)."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from pybehave.observer.client import AdminClient
from tests.conftest import receive_all
from tests.processes import COMMAND, serving

SHELL = """
from pybehave import Application, Contract, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines

class Shell(GenServer):
    def step(self, command, state):
        return state, "ok"

class Opaque:
    pass

class LogIn(Contract):
    version = VERSION

    def initial(self):
        return "guest"

    def received(self, state, message):
        return USER if state == USER or message == "login" else None

worker = Worker("s", Shell, journal=True)
app = Application(
    "shell", Supervisor("one_for_one", [worker]),
    listeners=[Listener("tcp://127.0.0.1:0", Lines("utf-8"), to="s", contract=LogIn())],
)
"""


def ask(client: socket.socket, line: str) -> str:
    client.sendall(f"{line}\n".encode())
    return client.makefile("rb").readline().decode().strip()


def write(folder: Path, version: int, user: str) -> str:
    folder.mkdir()
    text = SHELL.replace("VERSION", str(version)).replace("USER", user)
    (folder / "shell.py").write_text(text)
    return str(folder)


@pytest.mark.parametrize(
    ("version", "user_state", "says"),
    [
        (1, '("user", 1)', ""),
        (2, '("user", 1)', "the contract of this connection was version 1 and is version 2 now"),
        (1, "Opaque", "the contract of this connection was another one and is version 1 now"),
    ],
)
def test_A3_43_a_conversation_goes_on_in_another_process_or_ends(
    source: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    version: int,
    user_state: str,
    says: str,
) -> None:
    monkeypatch.chdir(write(tmp_path / "one", 1, user_state))
    two, data = write(tmp_path / "two", version, user_state), str(tmp_path / "data")
    with serving("shell:app", source, "--data", data) as process, contextlib.ExitStack() as stack:
        user, silent = (
            stack.enter_context(socket.create_connection(("127.0.0.1", process.port), 30))
            for _ in range(2)
        )
        assert ask(user, "work").startswith("error: Protocol error: ")
        assert ask(user, "login") == "ok"
        replaced = subprocess.run(
            [*COMMAND, "release", "replace", "shell:app", "--path", two, "--node", data],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        try:
            assert (replaced.returncode, replaced.stderr) == (0, "")
            if says:
                user.sendall(b"work\n")
                assert says in receive_all(user).decode()
            else:
                assert ask(user, "work") == "ok"
            assert ask(silent, "work").startswith("error: Protocol error: ")
            assert ask(silent, "login") == "ok"
        finally:
            with contextlib.suppress(Exception), AdminClient(data) as asking:
                os.kill(int(asking.ask("hello")["pid"]), signal.SIGKILL)

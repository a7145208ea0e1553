"""Signals of a node on the main thread: TERM drains, INT stops, HUP and USR1 are events."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from examples.echo import app
from pybehave import Listener
from pybehave.protocols import Lines
from pybehave.runtime import listeners
from pybehave.runtime.node import Node
from tests.processes import COMMAND

SERVER = """
import sys
from examples.echo import app
from pybehave.runtime.node import Node
from pybehave.runtime.signals import SignalReceived

node = Node(app, backend=sys.argv[1], listen=("tcp://127.0.0.1:0",))

def told(event):
    if isinstance(event, SignalReceived):
        print(event.signal, flush=True)

node.events.add(told)
sys.exit(node.run(lambda node: print(node.urls[0], flush=True)))
"""


@pytest.fixture
def server(source: str) -> Iterator[subprocess.Popen[str]]:
    """A node on its process's main thread that prints the signals it hears of."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline().startswith("tcp://")
    yield process
    process.kill()
    process.communicate()


def test_HUP_and_USR1_are_events_and_it_serves_on(server: Any) -> None:
    for _ in range(2):
        for name in ("HUP", "USR1"):
            server.send_signal(getattr(signal, f"SIG{name}"))
            assert server.stdout.readline() == f"{name}\n"
    server.send_signal(signal.SIGTERM)
    out, log = server.communicate(timeout=20)
    assert (server.returncode, out) == (0, "")
    assert log.count("tree of 'echo':") == 2 and "Traceback" not in log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
@pytest.mark.parametrize("is_last", [True, False])
def test_a_signal_behind_the_end_is_nothing_where_the_process_ends_with_its_node(
    is_last: bool, number: signal.Signals
) -> None:
    """Otherwise it is the program's again. A HUP for new logs hid the exit status of a root that
    had given up.
    """
    status = 0 if is_last else -number
    kill = f"os.kill(os.getpid(), {number})"
    end = f"node.run(lambda node: node.request_stop(), {is_last})\n{kill}\n"
    script = SERVER.rpartition("sys.exit")[0].replace("import sys", "import os, sys", 1) + end
    command = [sys.executable, "-c", script, "epoll"]
    done = subprocess.run(command, timeout=60, capture_output=True, check=False)
    assert done.returncode == status, done.stderr.decode()


@pytest.mark.filterwarnings("error")  # Python warns of a byte that it could not write to the loop
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_between_the_loops_end_and_the_nodes_is_nothing(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str
) -> None:
    """Its handler found the loop closed, and its LoopClosed was what `run` raised."""
    node = Node(app, backend=source, listen=("tcp://127.0.0.1:0",))
    remove = listeners.remove_socket

    def late(bound: Any) -> None:
        remove(bound)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(listeners, "remove_socket", late)
    beside = Listener(f"unix://{tmp_path}/s", Lines(), to="echo")  # its file goes last of all

    def ready(node: Node) -> None:
        node.add_listener(beside)
        node.request_stop()

    assert node.run(ready) == 0


def test_the_child_of_a_fork_has_its_signals_for_itself(source: str) -> None:
    """It swallowed TERM, and each signal wrote a byte to whatever file had the socket's number."""
    node = Node(app, backend=source, listen=("tcp://127.0.0.1:0",))
    statuses = []

    def ready(node: Node) -> None:
        child = os.fork()
        if child == 0:
            is_free = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            os._exit(0 if is_free and signal.set_wakeup_fd(-1) == -1 else 1)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        statuses.append(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL)
        node.request_stop()

    assert node.run(ready) == 0
    assert statuses == [0, False]


def test_INT_twice_ends_a_node_that_is_in_a_step_that_never_returns(source: str) -> None:
    script = SERVER.replace("from examples.echo import app", STUCK)
    process = subprocess.Popen(
        [sys.executable, "-c", script, source], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline().rpartition(b":")[2])
        with socket.create_connection(("127.0.0.1", port), 20) as client:
            client.sendall(b"go\n")
            assert process.stdout.readline() == b"in the step\n"
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == b"interrupted\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
    finally:
        process.kill()
        process.communicate()


STUCK = """
import os, signal, threading
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines

class Stuck(GenServer):
    def init(self, args):
        return 0

    def step(self, command, state):
        ours = signal.getsignal(signal.SIGINT)
        print("in the step", flush=True)
        while signal.getsignal(signal.SIGINT) is ours:  # the first one puts Python's in its place
            threading.Event().wait(0.01)
        print("interrupted", flush=True)
        threading.Event().wait()

app = Application("stuck", Supervisor("one_for_one", [Worker("s", Stuck)]),
                  listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="s")])
"""


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_who_holds_a_stop_up_is_told_and_INT_ends_it_at_once(
    first: signal.Signals, source: str
) -> None:
    """Nothing happened that could be seen, and behind TERM one INT more was needed."""
    script = SERVER.replace("from examples.echo import app", HANGING)
    process = subprocess.Popen(
        [sys.executable, "-c", script, source],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        port = int(process.stdout.readline().rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), 20) as client:
            client.sendall(b"go\n")
            assert process.stdout.readline() == "in the step\n"
            process.send_signal(first)
            told = process.stderr.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
    finally:
        process.kill()
        process.communicate()
    again = "" if first is signal.SIGTERM else "again "
    assert "'hanging' is asked to stop, but a step of server 's' has been running for " in told
    assert told.endswith(f" s; INT {again}ends at once\n")


HANGING = """
import threading
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines

class Hanging(GenServer):
    def step(self, command, state):
        print("in the step", flush=True)
        threading.Event().wait()

app = Application("hanging", Supervisor("one_for_one", [Worker("s", Hanging)]),
                  listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="s")])
"""


def test_INT_behind_TERM_ends_a_drain_in_order(source: str) -> None:
    """No step holds it up, so nothing has to be cut off."""
    script = SERVER.replace("from examples.echo import app", OWING)
    process = subprocess.Popen(
        [sys.executable, "-c", script, source], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline().rpartition(b":")[2])
        with socket.create_connection(("127.0.0.1", port), 20) as client:
            client.sendall(b"go\n")
            assert process.stdout.readline() == b"asked\n"
            process.send_signal(signal.SIGTERM)
            # Until it listens no more: it drains. Who is just being accepted then is reset.
            with pytest.raises((ConnectionRefusedError, ConnectionResetError)):
                while True:
                    socket.create_connection(("127.0.0.1", port), 20).close()
            process.send_signal(signal.SIGINT)
            assert process.stdout.readline() == b"terminated\n"
            assert process.wait(20) == 0
    finally:
        process.kill()
        process.communicate()


OWING = """
from pybehave import NO_REPLY, Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines

class Owing(GenServer):
    def handle_call(self, command, caller, state):
        print("asked", flush=True)
        return caller, NO_REPLY

    def terminate(self, reason, state):
        print("terminated", flush=True)

app = Application("owing", Supervisor("one_for_one", [Worker("s", Owing)]),
                  listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="s")])
"""


def test_signals_are_as_they_were_after_a_node(source: str) -> None:
    """A node in a program gives back what it took; what the program had set is left alone."""
    script = (
        "import os, signal, sys\n"
        "from examples.echo import app\n"
        "from pybehave.runtime.node import Node\n"
        "heard = []\n"
        "signal.signal(signal.SIGHUP, lambda *_: heard.append(1))\n"
        "numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)\n"
        "before = [signal.getsignal(number) for number in numbers]\n"
        "node = Node(app, backend=sys.argv[1], listen=('tcp://127.0.0.1:0',))\n"
        "def ready(node):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "assert node.run(ready) == 0\n"
        "assert heard == [1]\n"
        "assert [signal.getsignal(number) for number in numbers] == before\n"
        "assert signal.set_wakeup_fd(-1) == -1\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, source],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ},
    )
    assert result.returncode == 0, result.stderr


def test_an_interrupt_before_it_serves_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    result = subprocess.run(
        [*COMMAND, "run", "slow:app"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (130, "")
    assert result.stderr == "pybehave: interrupted before it served\n"

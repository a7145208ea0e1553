"""The wheel in an empty environment: the command answers and a first program serves."""

import os
import signal
import socket
import subprocess
import sys

import pytest

from tests.packaging.conftest import run

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(1200)]  # builds, on a busy machine

PROGRAM = """
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines

class Echo(GenServer):
    def init(self, args):
        return None

    def step(self, command, state):
        return state, command

app = Application(
    "echo",
    Supervisor("one_for_one", [Worker("echo", Echo)]),
    listeners=[Listener("unix://FOLDER/echo.sock", Lines(), to="echo")],
)
"""


def install(wheel, folder):
    """Make an empty environment with only the wheel and what it requires; return its bin/."""
    run(sys.executable, "-m", "venv", folder)
    run(folder / "bin/python", "-m", "pip", "install", "--quiet", wheel)
    return folder / "bin"


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    return install(wheel, tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def installed_without_uring(wheel_without_uring, tmp_path_factory):
    return install(wheel_without_uring[0], tmp_path_factory.mktemp("without_uring_installed"))


def serve_and_say_hello(tools, folder, *options):
    """Run the echo program until it has answered once; return what it printed and its status."""
    (folder / "program.py").write_text(PROGRAM.replace("FOLDER", str(folder)))
    # Nothing of the checkout may help: another folder, and none of the variables of this run.
    environment = {"PATH": os.defpath, "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        [tools / "pybehave", "run", "program:app", *options],
        cwd=folder, env=environment, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    printed = []
    for line in server.stdout:
        printed.append(line)
        if "ready" in line:
            break
    else:
        pytest.fail("not ready: " + "".join(printed))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(folder / "echo.sock"))
        client.sendall(b"hello\n")
        assert client.recv(64) == b"hello\n"
    server.send_signal(signal.SIGTERM)
    rest, _ = server.communicate(timeout=120)
    return "".join(printed) + rest, server.returncode


def test_command_says_its_version(installed):
    said = run(installed / "pybehave", "--version", env={"PATH": os.defpath})
    assert "0.1.0" in said


def test_first_program_serves_from_the_wheel(installed, tmp_path):
    printed, status = serve_and_say_hello(installed, tmp_path)
    assert status == 0, printed


def test_wheel_without_liburing_serves_on_epoll_and_says_so(installed_without_uring, tmp_path):
    printed, status = serve_and_say_hello(installed_without_uring, tmp_path)
    assert status == 0, printed
    assert "epoll" in printed


def test_wheel_without_liburing_refuses_a_forced_uring(installed_without_uring, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM.replace("FOLDER", str(tmp_path)))
    command = [installed_without_uring / "pybehave", "run", "program:app", "--backend", "uring"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode != 0
    assert "liburing" in done.stderr
    assert "Traceback" not in done.stderr

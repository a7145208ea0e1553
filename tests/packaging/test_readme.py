"""The README's first command, as a stranger types it; its second one runs this file."""

import os
import signal
import socket
import subprocess

import pytest

from tests.packaging.conftest import ROOT

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(1200)]  # may build


@pytest.fixture
def port(tmp_path):
    """Where `make run` serves, on a port that is free."""
    command = ["make", "run", f"ARGS=--listen tcp://127.0.0.1:0 --data {tmp_path / 'data'}"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if line.startswith("ready"):
                    break
            (address,) = (word for line in said for word in line.split() if "tcp://" in word)
            yield int(address.rpartition(":")[2])
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.stdout.read()  # to its end, or it would wait for us
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])))


def redis_cli(port, *words):
    done = subprocess.run(
        ["redis-cli", "-p", str(port), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_make_run_serves_what_the_readme_says(port):
    assert redis_cli(port, "set", "x", "1") == "OK"
    assert redis_cli(port, "get", "x") == "1"
    assert redis_cli(port, "crash").startswith("CRASHED")
    assert redis_cli(port, "get", "x") == "1"

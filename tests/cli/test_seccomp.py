"""`pybehave run` under the filters of containers: those that refuse io_uring, and ours."""

from __future__ import annotations

import errno
import json
import re
import signal
import socket
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests import seccomp
from tests.conftest import receive
from tests.processes import COMMAND

PROFILE = Path(__file__).parents[2] / "docs" / "operating" / "seccomp.json"
IO_URING = {"io_uring_setup", "io_uring_enter", "io_uring_register"}
PRIVILEGED = {"bpf", "init_module", "kexec_load", "keyctl", "mount", "reboot", "setns", "unshare"}
ECHO = (*COMMAND, "run", "examples.echo:app", "--listen", "tcp://127.0.0.1:0")
REFUSALS = pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOSYS], ids=["EPERM", "ENOSYS"])


@pytest.fixture
def profile() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PROFILE.read_text(encoding="utf-8"))
    return found


def serve_once(command: list[str]) -> tuple[str, str]:
    """Start an echo server, get 64 bytes back, stop it; what it said on stdout and stderr."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if line.startswith("ready"):
                break
        port = re.search(r"127\.0\.0\.1:(\d+)", said)
        assert port is not None, process.communicate()[1]
        with socket.create_connection(("127.0.0.1", int(port[1])), 20) as client:
            client.sendall(b"x" * 64)
            assert receive(client, 64) == b"x" * 64
        process.send_signal(signal.SIGTERM)
        complaints = process.communicate(timeout=20)[1]
        assert process.returncode == 0
    return said, complaints


def test_the_profile_allows_io_uring_and_nothing_privileged(profile: dict[str, Any]) -> None:
    assert profile["defaultAction"] == "SCMP_ACT_ERRNO"
    assert profile["defaultErrnoRet"] == errno.EPERM
    free = [
        rule
        for rule in profile["syscalls"]
        if rule["action"] == "SCMP_ACT_ALLOW" and not {"args", "includes", "excludes"} & set(rule)
    ]
    names = Counter(name for rule in free for name in rule["names"])
    assert set(names) >= IO_URING
    assert not PRIVILEGED & set(names)
    assert set(names.values()) == {1}, "named twice"
    assert set(free[0]["names"]) == IO_URING


def test_every_name_in_the_profile_is_that_of_a_system_call(profile: dict[str, Any]) -> None:
    known = seccomp.numbers()
    names = [name for rule in profile["syscalls"] for name in rule["names"]]
    assert all(re.fullmatch(r"_?[a-z][a-z0-9_]*", name) for name in names)
    assert {"read", "clone", "socket", *IO_URING} <= known.keys() & set(names)


def test_under_the_profile_every_backend_serves(source: str) -> None:
    command = seccomp.command(str(PROFILE), *ECHO, "--backend", source)
    assert source in serve_once(command)[0]


@REFUSALS
def test_a_refusal_means_epoll_and_one_line_that_says_why(refusal: int) -> None:
    said, complaints = serve_once(seccomp.command(refusal, *ECHO, "--backend", "auto"))
    assert said.startswith("echo")
    assert "on epoll: io_uring_setup failed" in said
    (line,) = [line for line in complaints.splitlines() if "io_uring" in line]
    assert "WARNING pybehave: using epoll: io_uring_setup failed" in line
    assert "under seccomp" in line
    assert "allow io_uring_setup, io_uring_enter and io_uring_register" in line


@REFUSALS
@pytest.mark.parametrize("backend", ["uring", "full", "basic"])
def test_a_backend_asked_for_by_name_and_refused_is_an_error(refusal: int, backend: str) -> None:
    result = subprocess.run(
        seccomp.command(refusal, *ECHO, "--backend", backend),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 2
    assert result.stdout == ""
    (sentence,) = result.stderr.splitlines()
    assert backend in sentence
    assert "io_uring_setup failed" in sentence
    assert "under seccomp" in sentence

"""Choosing a source, being refused one, forks, threads, and restarts after kill -9."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

from pybehave._uring.loop import Loop
from pybehave.errors import LoopClosed, LoopForked, SourceUnavailable
from tests import seccomp
from tests.processes import own_port

REFUSED = """
from pybehave._uring.loop import Loop
from pybehave.errors import SourceUnavailable
loop = Loop("auto")
print(loop.source)
print(loop.reason)
try:
    Loop("uring")
except SourceUnavailable as error:
    print("refused:", error)
"""

SERVER = """
import sys
from examples.echo import app
from pybehave.runtime.node import Node
node = Node(app, backend=sys.argv[1], listen=("tcp://127.0.0.1:" + sys.argv[2],))
node.run(lambda node: print(node.urls[0], flush=True))
"""


def python(script: str, *prefix: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )


@pytest.mark.parametrize("errno", [1, 38], ids=["EPERM", "ENOSYS"])
def test_a_seccomp_profile_means_epoll_and_a_clear_reason(errno: int) -> None:
    result = python(REFUSED, *seccomp.command(errno))
    lines = result.stdout.splitlines()
    assert lines[0] == "epoll", result.stderr
    assert "seccomp" in lines[1]
    assert "io_uring_setup" in lines[1]
    assert lines[2].startswith("refused:")


def test_an_unknown_source_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SourceUnavailable, match="auto, uring, full, basic, epoll or sim"):
        Loop("kqueue")


def test_a_forced_tier_is_that_tier(source: str) -> None:
    loop = Loop(source)
    assert loop.source in (source, f"uring-{source}")
    loop.close()


def test_little_locked_memory_shrinks_the_ring_or_says_so() -> None:
    script = (
        "import os, resource\n"
        "from pybehave._uring.loop import Loop\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))\n"
        "if os.getuid() == 0:\n"
        "    os.setuid(65534)\n"
        "loop = Loop('auto')\n"
        "print(loop.source, loop.reason)\n"
    )
    result = python(script)
    assert result.stdout.startswith(("uring-full", "epoll")), result.stderr


def test_a_forked_child_is_told_and_the_parent_goes_on(source: str) -> None:
    loop = Loop(source)
    loop.run_once()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            loop.run_once()
        except LoopForked:
            status = 7
        finally:
            os._exit(status)  # whatever happened, this must not go on as a second test run
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    seen: list[int] = []
    loop.post(None, 0, lambda: seen.append(1), None)
    loop.run_once(1.0)
    assert seen == [1]
    loop.close()


def test_a_loop_stays_on_its_thread(source: str) -> None:
    loop = Loop(source)
    loop.run_once()
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            loop.run_once()
        except LoopClosed as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "thread" in str(errors[0])
    loop.close()


def test_a_closed_loop_says_so(source: str) -> None:
    loop = Loop(source)
    loop.close()
    loop.close()
    with pytest.raises(LoopClosed):
        loop.run_once()
    with pytest.raises(LoopClosed):
        loop.post(None, 0, print, None)


def test_a_wake_before_the_first_wait_is_not_slept_over(source: str) -> None:
    loop = Loop(source)
    loop.wake()
    assert loop.run_once(30.0) == 1
    loop.close()


def test_a_signal_wakes_the_wait_and_its_handler_runs(source: str) -> None:
    loop = Loop(source)
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR2, lambda number, _frame: seen.append(number))
    wake_before = signal.set_wakeup_fd(loop.wake_fd)
    thread = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR2))
    try:
        thread.start()
        while not seen:
            loop.run_once(30.0)
    finally:
        thread.join()
        signal.set_wakeup_fd(wake_before)
        signal.signal(signal.SIGUSR2, before)
    loop.close()


def test_after_kill_9_the_same_port_can_be_had_at_once(source: str) -> None:
    port = str(own_port())
    for _ in range(5):
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, source, port], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        assert server.stdout.readline().strip() == f"tcp://127.0.0.1:{port}"
        with socket.create_connection(("127.0.0.1", int(port))) as client:
            client.sendall(b"x" * 64)
            assert len(client.recv(64)) > 0
            server.kill()
            server.wait()
        server.stdout.close()


def test_a_stop_before_run_is_not_lost(source: str) -> None:
    loop = Loop(source)
    loop.stop()
    loop.run()  # returns
    seen: list[int] = []
    loop.post(None, 0, lambda: (seen.append(1), loop.stop()), None)
    loop.run()
    assert seen == [1]
    loop.close()

"""What systemd is told, and when it asks for it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pybehave import Application, Supervisor
from pybehave.runtime import systemd
from pybehave.testing.simulate import Simulator


@pytest.fixture
def notices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listener


def told(notices: socket.socket) -> list[bytes]:
    found = []
    try:
        while True:
            found.append(notices.recv(100))
    except BlockingIOError:
        return found


def test_the_loop_says_that_it_turns_at_half_the_time(
    notices: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    world = Simulator(1, Application("t", Supervisor("one_for_one", []))).start()
    systemd.feed_watchdog(world.node.loop.dispatcher.start_alarm)
    assert told(notices) == [b"WATCHDOG=1"]
    for _ in range(3):
        world.run(14)
        assert told(notices) == []
        world.run(1.001)
        assert told(notices) == [b"WATCHDOG=1"]
    world.stop()
    assert told(notices)[-1] == b"STOPPING=1"


def test_nobody_waits_for_long_for_one_that_listens_and_takes_nothing(
    notices: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "30000000")
    while systemd.notify("STATUS=full", wait=0.0):
        pass
    began = time.monotonic()
    systemd.feed_watchdog(lambda seconds, function: None)
    assert time.monotonic() - began < systemd.WAIT_S / 2
    assert not systemd.notify("READY=1")
    assert time.monotonic() - began < systemd.WAIT_S * 10
    told(notices)
    assert systemd.notify("READY=1")


@pytest.mark.parametrize("limit", ["", "0", "-5", "soon", "\u0663"])
def test_nothing_is_said_when_nobody_asks(
    notices: socket.socket, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", limit)
    systemd.feed_watchdog(lambda seconds, function: pytest.fail("nobody asked"))
    assert told(notices) == []


def test_another_process_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getppid()))
    assert systemd.watchdog_s() is None
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert systemd.watchdog_s() == 3.0

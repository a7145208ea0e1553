"""Who watches a long start is told where it stands, and systemd too."""

from __future__ import annotations

import logging
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from pybehave.journal.progress import Moment, Progress
from pybehave.runtime.watching import Watch, log_moment, watched

SOON_S = 0.001
NEVER_S = 3600.0


@pytest.fixture
def progress() -> Progress:
    now = iter(range(10**9))
    found = Progress(lambda: float(next(now)))
    found.begin("replaying", "records", 100, lambda: 50)
    return found


def test_it_is_shown_again_and_again_until_it_is_over(progress: Progress, threads: Any) -> None:
    shown: list[Moment] = []
    is_enough, finished = threading.Event(), []

    def show(moment: Moment) -> None:
        shown.append(moment)
        if len(shown) == 3:
            is_enough.set()

    with watched(progress, Watch(show, SOON_S, SOON_S, lambda: finished.append(1))):
        assert is_enough.wait(60)
    count = len(shown)
    assert count >= 3 and {moment.done for moment in shown} == {50}
    assert finished == [1]
    assert threads("pybehave-watch") == 0


def test_what_is_over_at_once_is_not_shown(progress: Progress) -> None:
    told: list[object] = []
    with watched(progress, Watch(told.append, SOON_S, NEVER_S, lambda: told.append("finished"))):
        pass
    assert told == []


def test_an_error_in_the_work_ends_the_watch(progress: Progress, threads: Any) -> None:
    with pytest.raises(ValueError), watched(progress, Watch(after_s=NEVER_S)):
        raise ValueError
    assert threads("pybehave-watch") == 0


def test_systemd_is_told_and_asked_for_time(
    progress: Progress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with watched(progress, Watch(lambda moment: None, SOON_S, SOON_S)):
            said = listener.recv(4096).decode()
    assert said.startswith("STATUS=replaying the journal: 50 of 100 records, 50 %")
    assert int(said.partition("EXTEND_TIMEOUT_USEC=")[2]) >= 30_000_000


def test_the_log_is_what_there_is_without_a_terminal(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pybehave.journal"):
        log_moment(Moment("reading", "bytes", 1_000_000, 2_000_000, 1e6, 1.0))
    assert caplog.messages == ["reading the journal: 1 of 2 MB, 50 %, 1 MB/s, 1 s left"]

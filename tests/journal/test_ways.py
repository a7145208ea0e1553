"""Which way a commit takes to the disk; the rule itself (src/_uring/ways.h) has tests in C."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pybehave._uring.loop import Loop
from pybehave.errors import LoopForked
from pybehave.journal.disk import FolderDisk
from pybehave.journal.recovery import MANIFEST, Options, recover
from tests import seccomp
from tests.journal.engine import INPUT, begin

OPTIONS = Options(segment_bytes=1 << 18)
MANY = 12
"""More records in a frame than one client at work has."""


def opened(path: Path, source: str) -> Iterator[tuple[Loop, Any]]:
    """A loop and the commit path of an empty journal on it."""
    disk = FolderDisk(path, is_volatile_allowed=True)
    commit = begin(disk, recover(disk, OPTIONS, now_ns=1), OPTIONS, disk.open(MANIFEST))
    loop = Loop(source)
    loop.attach_journal(commit, 1)
    yield loop, commit
    loop.close()
    for fd in commit.take_descriptors():
        disk.close(fd)


@pytest.fixture
def journal(tmp_path: Path, source: str) -> Iterator[tuple[Loop, Any]]:
    """The two of them, opened and closed again."""
    yield from opened(tmp_path, source)


def write(loop: Loop, commit: Any, records: int) -> None:
    """One frame, until it is durable."""
    for _ in range(records):
        last = commit.record(INPUT, 1, b"x", 5)
    while (commit.durable_lsn < last and not commit.error) or commit.is_busy:
        loop.run_once(0.1)


def test_many_at_work_get_the_thread_and_one_alone_waits_for_the_disk_itself(
    journal: tuple[Loop, Any],
) -> None:
    loop, commit = journal
    write(loop, commit, MANY)
    assert loop.stats()["io"]["writes_by_thread"] == 1
    assert loop.stats()["io"]["writes_in_place"] == 0
    write(loop, commit, 1)
    assert loop.stats()["io"]["writes_in_place"] == 1


def test_a_large_command_is_not_waited_for(journal: tuple[Loop, Any]) -> None:
    """The loop would do nothing else so long."""
    loop, commit = journal
    commit.record(INPUT, 1, bytes(1 << 16), 5)
    write(loop, commit, 1)
    assert loop.stats()["io"]["writes_in_place"] == 0


def test_a_loop_that_looks_for_a_moment_sleeps_after_it_and_is_woken(
    journal: tuple[Loop, Any],
) -> None:
    """Decision 0052; more often than tries become rare."""
    loop, commit = journal
    seen: list[int] = []
    for number in range(6):
        write(loop, commit, 1)
        until = time.monotonic() + 0.01
        while time.monotonic() < until:
            loop.run_once(max(until - time.monotonic(), 0.0))
        poster = threading.Timer(0.01, loop.post, (None, 0, partial(seen.append, number), None))
        write(loop, commit, 1)
        poster.start()
        while number not in seen:
            loop.run_once(60.0)
        poster.join()
    assert loop.stats()["io"]["writes_in_place"] >= 4  # all, unless the disk is slow


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_child_of_a_fork_behind_a_write_in_place_writes_nothing(
    journal: tuple[Loop, Any],
) -> None:
    """It went on with its parent's ring and its parent's file."""
    loop, commit = journal
    first = commit.record(INPUT, 1, b"x", 5)
    children: list[int] = []

    def fork() -> None:
        commit.record(INPUT, 1, b"y", 5)
        children.append(os.fork())

    commit.when_durable(commit.batch, fork)
    status = 1
    try:
        loop.run_once(0.1)
    except LoopForked:
        status = 7 if commit.durable_lsn == first else 8
    finally:
        if children == [0]:
            os._exit(status)  # whatever happened, this must not go on as a second test run
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
    assert loop.stats()["io"]["writes_in_place"] == 2
    assert commit.durable_lsn > first


def write_without_threads(path: str, source: str) -> None:
    """Print how a busy frame went in a process that the system gives no thread any more."""
    for loop, commit in opened(Path(path), source):
        known, refused = seccomp.numbers(), seccomp.ERRNO | errno.EAGAIN
        calls = [known[name] for name in ("clone", "clone3") if name in known]
        seccomp.install(dict.fromkeys(calls, refused), seccomp.ALLOW)
        write(loop, commit, MANY)
        write(loop, commit, MANY)
        print(commit.error, commit.durable_lsn, loop.stats()["io"]["writes_by_thread"])


def test_where_no_thread_can_be_had_the_loop_writes(tmp_path: Path, source: str) -> None:
    """Each write was tried again for ever, and with it whoever waited for the disk."""
    script = f"""from tests.journal.test_ways import write_without_threads as work
work({str(tmp_path)!r}, {source!r})"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    error, durable_lsn, by_thread = map(int, result.stdout.split())
    assert (error, by_thread) == (0, 0)
    assert durable_lsn >= 2 * MANY


def write_interrupted(path: str, source: str, what: int) -> None:
    """Print how a quiet frame went when all that this thread writes itself is interrupted."""
    for loop, commit in opened(Path(path), source):
        write(loop, commit, MANY)  # the source's own thread comes before the filter
        seccomp.install({seccomp.numbers()["pwritev2"]: seccomp.ERRNO | what}, seccomp.ALLOW)
        write(loop, commit, 1)
        print(commit.error, commit.durable_lsn, loop.stats()["io"]["writes_in_place"])


@pytest.mark.parametrize("what", [errno.EINTR, errno.EAGAIN])
def test_F18_what_was_interrupted_in_place_is_repeated_elsewhere(
    tmp_path: Path, source: str, what: int
) -> None:
    script = f"""from tests.journal.test_ways import write_interrupted as work
work({str(tmp_path)!r}, {source!r}, {what})"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    error, durable_lsn, in_place = map(int, result.stdout.split())
    assert (error, in_place) == (0, 1)
    assert durable_lsn >= MANY + 1

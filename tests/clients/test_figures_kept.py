"""The port for figures outlives the process: nobody who scrapes it or probes it is refused."""

from __future__ import annotations

import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.test_heart import READY_S, Looked, wait_ended
from tests.clients.test_replace import let_two_read_one
from tests.processes import run
from tests.releases import write_releases


@pytest.fixture
def node(source: str, tmp_path: Path) -> Iterator[Looked]:
    """The first release, looked after, with figures at a port that the system chose."""
    one, two, _ = write_releases(tmp_path)
    let_two_read_one(two)
    words = ("counts:app", "--heart", "--backend", source, "--metrics", "127.0.0.1:0")
    node = Looked(*words, cwd=one)
    yield node
    node.end()


def figures_of(node: Looked) -> str:
    """Where they are, by the next process that is ready."""
    assert node.parent.stdout is not None
    found = ""
    for line in node.parent.stdout:
        if line.strip().startswith("figures:"):
            found = line.split()[1]
        if line.startswith("ready"):
            return found
    raise AssertionError(node.logged())


def is_ready(url: str) -> bool:
    """Ask the probe; whoever is not refused waits in the socket's queue."""
    with urllib.request.urlopen(url.replace("/metrics", "/ready"), timeout=READY_S) as answer:
        return bool(answer.status == 200)


def kill(node: Looked) -> None:
    """End the process at once, and wait until it has ended.

    Until then its ring may take a connection that nobody answers: that one is reset.
    """
    child = node.child
    os.kill(child, signal.SIGKILL)
    wait_ended(child)


def test_after_a_kill_the_next_process_answers_at_the_same_port(node: Looked) -> None:
    url = figures_of(node)
    assert is_ready(url)
    for _ in range(2):  # the second one's socket was a kept one already
        kill(node)
        assert is_ready(url)
        assert figures_of(node) == url


def test_a_process_that_takes_over_answers_at_the_same_port(node: Looked, tmp_path: Path) -> None:
    url, first = figures_of(node), node.child
    data = str(node.cwd / "data")
    result = run(
        "release", "replace", "counts:app", "--path", str(tmp_path / "two"), "--node", data
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert is_ready(url)
    assert figures_of(node) == url
    wait_ended(first)
    kill(node)
    assert is_ready(url)

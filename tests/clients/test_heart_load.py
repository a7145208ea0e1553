"""examples/kv.py is killed again and again under redis-py clients: looked after, it loses nothing.

A client sets keys of its own, one after another. What it was told is there at the end; a connection
that ends is opened again, and waits in the socket's queue: it is never refused.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.power.machine import wait_for

KILLS = 20
CLIENTS = 4
SOURCES = ("full", "epoll")

PARENT = """
import sys
from pybehave.behaviours.backoff import Backoff
from pybehave.behaviours.heart import HeartRules
from pybehave.runtime.heart.parent import keep_alive

words = (sys.executable, "-m", "pybehave", "run", "examples.kv:app", *sys.argv[1:])
at_once = HeartRules(intensity=1000, backoff=Backoff(first=0.0, maximum=0.0))
sys.exit(keep_alive(words, at_once))
"""


class Client(threading.Thread):
    """Sets keys until it is told to end, across any number of connections.

    Attributes:
        acked: The numbers of the keys that it was told are set.
        resets: How many connections ended.
        refused: What else went wrong.
    """

    def __init__(self, port: int, name: int) -> None:
        super().__init__(daemon=True)
        self.acked: list[int] = []
        self.resets = 0
        self.refused: list[str] = []
        self.is_over = threading.Event()
        self._port, self._name = port, name

    def key(self, number: int) -> str:
        return f"{self._name}:{number}"

    def run(self) -> None:
        number = 0
        with redis.Redis(port=self._port, socket_timeout=30, retry=None) as client:
            while not self.is_over.is_set():
                number += 1
                try:
                    client.set(self.key(number), number)
                except redis.ConnectionError as error:
                    self.resets += 1
                    if "refused" in str(error):
                        self.refused.append(str(error))
                except redis.RedisError as error:
                    self.refused.append(str(error))
                else:
                    self.acked.append(number)


class Node:
    """The parent, which prints what its children print."""

    def __init__(self, source: str, data: Path) -> None:
        words = ["--backend", source, "--data", str(data), "--log-level", "critical"]
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, *words, "--listen", "tcp://127.0.0.1:0"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ports: set[int] = set()

    def wait_ready(self) -> int:
        """Until a process serves; its number."""
        assert self.parent.stdout is not None
        for line in self.parent.stdout:
            if found := re.search(r":(\d+)  Resp", line):
                self.ports.add(int(found[1]))
            if line.startswith("ready"):
                pid = self.parent.pid
                return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        raise AssertionError("it serves no more")


@pytest.fixture(params=SOURCES)
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    node = Node(request.param, tmp_path / "data")
    yield node
    if node.parent.poll() is None:
        node.parent.terminate()
        assert node.parent.wait(30) == 0
    assert node.parent.stdout is not None
    node.parent.stdout.close()


@pytest.mark.timeout(300)
def test_twenty_kills_lose_nothing_and_refuse_nobody(node: Node) -> None:
    pid, chance = node.wait_ready(), random.Random(20)
    [port] = node.ports
    clients = [Client(port, name) for name in range(CLIENTS)]
    for client in clients:
        client.start()
    for _ in range(KILLS):
        wanted = sum(len(client.acked) for client in clients) + chance.randint(1, 500)
        wait_for(lambda: sum(len(c.acked) for c in clients) >= wanted, "more answers")  # noqa: B023
        os.kill(pid, signal.SIGKILL)
        pid = node.wait_ready()
    for client in clients:
        client.is_over.set()
        client.join(30)
    assert [error for client in clients for error in client.refused] == []
    assert sum(client.resets for client in clients) >= KILLS
    assert node.ports == {port}
    with redis.Redis(port=port, socket_timeout=30) as asking:
        for client in clients:
            pipe = asking.pipeline(transaction=False)
            for number in client.acked:
                pipe.get(client.key(number))
            assert [int(value) for value in pipe.execute()] == client.acked

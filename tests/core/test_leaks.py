"""A million requests leave nothing behind; an idle node does nothing."""

from __future__ import annotations

import gc
import os
import threading
import time
from typing import Any

from pybehave import GenServer
from pybehave.protocols import Fixed
from tests.conftest import dial, receive
from tests.processes import IS_SANITIZED

REQUESTS = 1_000_000
BATCH = 1000
KEPT_BYTES_MAX = 4 << 20
"""What allocators may keep: far less than one word for each request."""

IDLE_S = 1.0
IDLE_CPU_S_MAX = 0.05
"""The clock of CPU time has a grain of 10 ms, and the test's own thread needs some."""


class Echo(GenServer[None, Any, Any]):
    def step(self, command: Any, state: None) -> Any:
        return state, command


def rss_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def exchange(node: Any, count: int) -> None:
    message = b"12345678" * BATCH
    with dial(node) as client:
        for _ in range(count // BATCH):
            client.sendall(message)
            assert receive(client, len(message)) == message


def test_a_million_requests_leave_nothing_behind(serve: Any) -> None:
    node = serve(Echo, Fixed(8))
    exchange(node, REQUESTS // 10)
    gc.collect()
    memory, objects = rss_bytes(), len(gc.get_objects())
    descriptors = len(os.listdir("/proc/self/fd"))
    exchange(node, REQUESTS)
    while node.loop.connections_open:
        node.run_on_loop(lambda: None)
    gc.collect()
    if not IS_SANITIZED:
        assert rss_bytes() - memory < KEPT_BYTES_MAX
    assert len(gc.get_objects()) - objects < 1000
    assert len(os.listdir("/proc/self/fd")) == descriptors
    stats = node.stats()
    assert stats["output"]["blocks_used"] == 0
    assert stats["timers"]["armed"] == 0
    assert stats["loop"]["commands"] == REQUESTS + REQUESTS // 10


def test_an_idle_node_uses_no_cpu_and_does_not_tick(serve: Any) -> None:
    node = serve(Echo, Fixed(8))
    with dial(node) as client:
        client.sendall(b"12345678")
        assert receive(client, 8) == b"12345678"
        ticks, cpu = node.stats()["loop"]["ticks"], time.process_time()
        threading.Event().wait(IDLE_S)
        assert time.process_time() - cpu < IDLE_CPU_S_MAX
        assert node.stats()["loop"]["ticks"] - ticks < 10

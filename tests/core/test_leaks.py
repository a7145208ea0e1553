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
ROUNDS_MAX = 3
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


def standing() -> tuple[int, int, int]:
    """Bytes of memory, objects, descriptors of this process."""
    gc.collect()
    return rss_bytes(), len(gc.get_objects()), len(os.listdir("/proc/self/fd"))


def is_nothing(growth: list[int]) -> bool:
    memory, objects, descriptors = growth
    return (IS_SANITIZED or memory < KEPT_BYTES_MAX) and objects < 1000 and descriptors <= 0


def test_a_million_requests_leave_nothing_behind(serve: Any) -> None:
    """What tests before this one have left may move meanwhile; a leak leaks in each round."""
    node = serve(Echo, Fixed(8))
    exchange(node, REQUESTS // 10)
    growths: list[list[int]] = []
    while len(growths) < ROUNDS_MAX and not (growths and is_nothing(growths[-1])):
        before = standing()
        exchange(node, REQUESTS)
        while node.loop.connections_open:
            node.run_on_loop(lambda: None)
        growths.append([now - then for now, then in zip(standing(), before, strict=True)])
    assert is_nothing(growths[-1]), growths
    stats = node.stats()
    assert stats["output"]["blocks_used"] == 0
    assert stats["timers"]["armed"] == 0
    assert stats["loop"]["commands"] == REQUESTS * len(growths) + REQUESTS // 10


def test_an_idle_node_uses_no_cpu_and_does_not_tick(serve: Any) -> None:
    node = serve(Echo, Fixed(8))
    with dial(node) as client:
        client.sendall(b"12345678")
        assert receive(client, 8) == b"12345678"
        ticks, cpu = node.stats()["loop"]["ticks"], time.process_time()
        threading.Event().wait(IDLE_S)
        assert time.process_time() - cpu < IDLE_CPU_S_MAX
        assert node.stats()["loop"]["ticks"] - ticks < 10

"""Many who are owed much do not hold up the one who asks for little; on every source."""

from __future__ import annotations

import socket
from typing import Any

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines
from pybehave.runtime.node import Node

CLIENTS = 300
QUESTIONS = 10
BIG = b"x" * 100_000 + b"\n"
"""Over the high-water mark below: after each answer the connection's questions wait."""

GO_ON_PER_TICK = 64
"""WOKEN_PER_TICK of loop.pyx."""


class Big(GenServer[None, Any, Any]):
    def step(self, line: Any, state: None) -> Any:
        return state, BIG[:-1]


def test_of_those_who_go_on_after_a_pause_a_tick_takes_some(source: str) -> None:
    """What a tick may answer is bounded by what arrived in it and by a constant, not by how many
    wait: with 1500 of them a PING waited ten times as long.
    """
    listener = Listener(
        "tcp://127.0.0.1:0", Lines(), to="s", high_water_bytes=65536, low_water_bytes=1024
    )
    tree = Supervisor("one_for_one", [Worker("s", Big)])
    node = Node(Application("t", tree, listeners=[listener]), backend=source)
    node.boot()
    port = int(node.urls[0].rpartition(":")[2])
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(CLIENTS)]
    for client in clients:
        client.sendall(b"?\n" * QUESTIONS)
    commands, ticks = 0, 0
    while commands < CLIENTS * QUESTIONS and ticks < CLIENTS * QUESTIONS:
        completions = node.run_once(0.01)
        before, commands = commands, node.loop.stats()["loop"]["commands"]
        assert commands - before <= completions + GO_ON_PER_TICK
        ticks += 1
    assert commands == CLIENTS * QUESTIONS
    for client in clients:
        client.close()
    node.stop(drain=False)

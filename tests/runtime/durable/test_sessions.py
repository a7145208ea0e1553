"""Connections of nodes that were one after the other in one process are told apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines
from tests.conftest import dial, receive


class Keeps(GenServer[Any, Any, Any]):
    """Keeps each connection that it hears from, and how often it did."""

    def init(self, args: Any) -> Any:
        return {}

    def handle_call(self, request: Any, caller: Any, state: Any) -> Any:
        if request == b"hello":
            wire = caller.connection
            state[wire] = state.get(wire, 0) + 1
        return state, b"%d" % len(state)


def application() -> Application:
    worker = Worker("s", Keeps, journal=True)
    listener = Listener("tcp://127.0.0.1:0", Lines(), to="s")
    return Application("t", Supervisor("one_for_one", [worker]), listeners=[listener])


def test_those_of_a_node_before_are_others(start: Callable[..., Any], tmp_path: Path) -> None:
    for life in range(1, 4):
        node = start(application(), data=tmp_path / "d")
        assert node.call("s", "count") == b"%d" % (life - 1)
        with dial(node) as wire:
            wire.sendall(b"hello\n")
            assert receive(wire, 2) == b"%d\n" % life
        counts = node.get_state("s")
        assert list(counts.values()) == [1] * life
        node.stop()
    node = start(application(), data=tmp_path / "d")
    wires = node.get_state("s")
    assert len(wires) == 3
    with dial(node) as wire:
        wire.sendall(b"hello\n")
        assert receive(wire, 2) == b"4\n"
        assert [each.is_open for each in wires] == [False] * 3 + [True]

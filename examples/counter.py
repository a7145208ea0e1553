r"""The counter of the first chapter: increment, read, reset, and one deliberate bug.

pybehave run examples.counter:app     then: printf 'increment\nread\n' | nc 127.0.0.1 7008
"""

from __future__ import annotations

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines


class Counter(GenServer[int, str, str]):
    """An integer that can be incremented, read, and reset unless it is 0."""

    def init(self, args: object) -> int:
        """Start at 0."""
        return 0

    def step(self, command: str, state: int) -> tuple[int, str]:
        """One line of text."""
        match command:
            case "increment":
                return state + 1, "ack"
            case "read":
                return state, f"value {state}"
            case "reset":
                assert state != 0, "reset of a counter that is 0"  # the deliberate bug
                return 0, "ack"
        return state, f"unknown command {command!r}: use increment, read or reset"


app = Application(
    "counter",
    Supervisor("one_for_one", [Worker("counter", Counter)], intensity=10, period=10),
    listeners=[Listener("tcp://127.0.0.1:7008", Lines(encoding="utf-8"), to="counter")],
)

"""Seed 000, supervised state machines: its transcript line for line, on a host without a loop.

The seed's client writes to the queue before the loop has come up, which is why its first line
stands before the three starts.
"""

from typing import Any

import pytest

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.supervisor import Supervisor
from pybehave.errors import Crashed
from tests.builders import FakeHost, Run

TRANSCRIPT = """\
Calling kv2: Store "x" 1
KV store starting: kv1
KV store starting: kv2
KV store starting: kv3
Calling kv2: Lookup "x"
Right "Result (Just 1)"
Calling kv2: Lookup "crash"
kv2 threw: divide by zero
KV store terminating: kv2
KV store terminating: kv3
KV store starting: kv2
KV store starting: kv3
Calling kv2: Lookup "x"
Right "Result Nothing"
Calling kv2: Lookup "y"
Right "Result Nothing"
"""


class KeyValueStore(GenServer[dict[str, int], tuple[Any, ...], str]):
    """The seed's example, its deliberate bug included."""

    printed: list[str]

    def init(self, args: list[str]) -> dict[str, int]:
        self.printed = args
        self.printed.append(f"KV store starting: {self.context.name}")
        return {}

    def step(self, command: tuple[Any, ...], state: dict[str, int]) -> Any:
        match command:
            case ("Store", key, value):
                state[key] = value
                return state, "Done"
            case ("Lookup", "crash"):
                raise ZeroDivisionError("divide by zero")
            case ("Lookup", key):
                found = f"(Just {state[key]})" if key in state else "Nothing"
                return state, f"Result {found}"

    def terminate(self, reason: Any, state: dict[str, int]) -> None:
        self.printed.append(f"KV store terminating: {self.context.name}")


class Client:
    """The seed's `call` and `call_`, and its `print`."""

    def __init__(self) -> None:
        self.printed: list[str] = []
        kv1, kv2, kv3 = (Worker(name, KeyValueStore, self.printed) for name in KV)
        tree = Supervisor("one_for_one", [kv1, Supervisor("rest_for_one", [kv2, kv3])])
        self.run = Run(tree)
        self.host: FakeHost = self.run.host
        self.host.on_crash = lambda name, error: self.printed.append(f"{name} threw: {error}")

    def calling(self, name: str, *request: Any) -> None:
        words = [f'"{word}"' if isinstance(word, str) else str(word) for word in request[1:]]
        self.printed.append(f"Calling {name}: {' '.join([request[0], *words])}")

    def call(self, name: str, *request: Any) -> None:
        self.calling(name, *request)
        self.printed.append(f'Right "{self.host.call(name, request)}"')


KV = ("kv1", "kv2", "kv3")


def play(client: Client) -> None:
    client.calling("kv2", "Store", "x", 1)
    client.run.tree.start()
    client.host.call("kv2", ("Store", "x", 1))
    client.call("kv2", "Lookup", "x")
    client.calling("kv2", "Lookup", "crash")
    with pytest.raises(Crashed):
        client.host.call("kv2", ("Lookup", "crash"))
    client.call("kv2", "Lookup", "x")
    client.call("kv2", "Lookup", "y")


def test_A0_7_the_transcript_line_for_line() -> None:
    client = Client()
    play(client)
    assert "".join(f"{line}\n" for line in client.printed) == TRANSCRIPT


def test_A0_7_afterwards_kv1_still_answers() -> None:
    client = Client()
    play(client)
    assert client.host.call("kv1", ("Lookup", "x")) == "Result Nothing"
    assert client.host.registered["kv1"] == 1

"""Seed 000's transcript on a running node, line for line; and what its reference lost."""

from __future__ import annotations

from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.errors import Crashed

LINES: list[str] = []

TRANSCRIPT = """\
KV store starting: kv1
KV store starting: kv2
KV store starting: kv3
Calling kv2: Store "x" 1
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
"""As in the seed, but for its first line: there the caller printed before the loop had begun."""


class KVStore(GenServer[dict[str, int], tuple[Any, ...], str]):
    """The store of the seed, with its deliberate bug."""

    def init(self, args: Any) -> dict[str, int]:
        LINES.append(f"KV store starting: {self.context.name}")
        return {}

    def step(self, command: tuple[Any, ...], state: dict[str, int]) -> Any:
        match command:
            case ("Store", key, value):
                return {**state, key: value}, "Done"
            case ("Lookup", "crash"):
                LINES.append(f"{self.context.name} threw: divide by zero")
                return state, str(1 // 0)
            case ("Lookup", key) if key in state:
                return state, f"Result (Just {state[key]})"
        return state, "Result Nothing"

    def terminate(self, reason: Any, state: dict[str, int]) -> None:
        LINES.append(f"KV store terminating: {self.context.name}")


def call(node: Any, name: str, *command: Any) -> str:
    words = " ".join([command[0], f'"{command[1]}"', *map(str, command[2:])])
    LINES.append(f"Calling {name}: {words}")
    answer: str = node.call(name, command)
    return answer


def test_A0_7_the_readme_transcript_line_for_line(start: Any) -> None:
    LINES.clear()
    tree = Supervisor(
        "one_for_one",
        [
            Worker("kv1", KVStore),
            Supervisor("rest_for_one", [Worker("kv2", KVStore), Worker("kv3", KVStore)]),
        ],
    )
    node = start(Application("kv", tree))
    call(node, "kv2", "Store", "x", 1)
    LINES.append(f'Right "{call(node, "kv2", "Lookup", "x")}"')
    with pytest.raises(Crashed):
        call(node, "kv2", "Lookup", "crash")
    LINES.append(f'Right "{call(node, "kv2", "Lookup", "x")}"')
    LINES.append(f'Right "{call(node, "kv2", "Lookup", "y")}"')
    assert "\n".join(LINES) + "\n" == TRANSCRIPT
    # The reference loses kv1 here; ours still answers, in its first incarnation.
    assert call(node, "kv1", "Lookup", "x") == "Result Nothing"
    assert node.whereis("kv1") == 1

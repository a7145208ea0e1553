"""Seed 003, behaviours without lightweight processes: the counter and its four `run` examples."""

from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

import pytest

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.supervisor import Supervisor
from pybehave.errors import Crashed
from pybehave.testing import run
from tests.builders import Run


class Input(Enum):
    INCREMENT = auto()
    READ = auto()
    RESET = auto()


class Ack(Enum):
    ACK = auto()


@dataclass(frozen=True)
class Value:
    value: int


INCREMENT, READ, RESET = Input
Output = Ack | Value


class DeliberateBug(Exception):
    pass


class Counter(GenServer[int, Input, Output]):
    """Init and terminate load and save the state; the disk is a dictionary here."""

    def init(self, args: dict[str, int] | None) -> int:
        self.disk = args if args is not None else {}
        return self.disk.get("state", 0)

    def step(self, command: Input, state: int) -> tuple[int, Output]:
        match command:
            case Input.INCREMENT:
                return state + 1, Ack.ACK
            case Input.READ:
                return state, Value(state)
            case Input.RESET:
                if state == 0:
                    raise DeliberateBug
                return 0, Ack.ACK

    def terminate(self, reason: Any, state: int) -> None:
        self.disk["state"] = state


def test_A3_1_two_increments_and_a_read_return_the_value_two() -> None:
    assert run(Counter, [INCREMENT, INCREMENT, READ], state=0) == Value(2)


def test_A3_1_two_increments_return_an_acknowledgement() -> None:
    assert run(Counter, [INCREMENT, INCREMENT], state=0) is Ack.ACK


def test_A3_1_a_reset_counter_reads_zero() -> None:
    assert run(Counter, [INCREMENT, RESET, READ], state=0) == Value(0)


def test_A3_1_the_second_reset_crashes() -> None:
    with pytest.raises(DeliberateBug):
        run(Counter, [RESET, RESET, READ], state=0)


def test_the_counter_continues_where_it_was_terminated() -> None:
    disk: dict[str, int] = {}
    for expected in (Value(1), Value(2)):
        server = Counter()
        state, _ = server.step(INCREMENT, server.init(disk))
        assert server.step(READ, state)[1] == expected
        server.terminate("shutdown", state)


def test_A3_9_restart_finds_the_leaf_and_leaves_its_sibling_alone() -> None:
    """The seed's SupervisorExample: one_for_one over two counters."""
    tree = Supervisor("one_for_one", [Worker("left", Counter, {}), Worker("right", Counter, {})])
    on = Run(tree).start()
    for name in ("left", "right"):
        on.host.call(name, INCREMENT)
    on.host.call("left", RESET)
    with pytest.raises(Crashed):
        on.host.call("left", RESET)
    assert on.host.call("left", READ) == Value(0)
    assert on.host.call("right", READ) == Value(1)

"""What a node is given is looked at before anything is opened; huge numbers mean "no limit"."""

from __future__ import annotations

import gc
import inspect
import os
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave._uring.loop import Loop
from pybehave.errors import SpecError
from pybehave.protocols import Lines
from pybehave.runtime.node import Node
from pybehave.runtime.node_options import LOOP_DEFAULTS, NODE_RULES
from tests.conftest import dial, receive

HUGE = 10**300


class Echo(GenServer[Any, Any, Any]):
    """Says what it is told."""

    def init(self, args: Any) -> Any:
        return None

    def step(self, command: Any, state: Any) -> Any:
        return state, command


def application(**options: Any) -> Application:
    listener = Listener("tcp://127.0.0.1:0", Lines(), to="s", **options)
    return Application("t", Supervisor("one_for_one", [Worker("s", Echo)]), listeners=[listener])


WRONG: dict[str, tuple[Any, ...]] = {
    "backend": (1, b"epoll", "\ud800"),
    "listen": ("tcp://127.0.0.1:0", None, [1], 5),
    "config": ("kv.toml", 1, [("kv", {})]),
    "drain_timeout": (None, -1, "5", float("nan"), float("inf"), True, 10**400),
    "seed": (None, -1, 1 << 64, 1.5, "x"),
    "data": (1, b"data", ["data"]),
    "journal_options": ({}, "x"),
    "reset": ("kv", b"kv", None, 5, [1]),
    "debug_isolation": ("no", 1, None),
    "health": (5, {"every": 1.0}, "ok"),
    "step_budget": (0, -1, "x", float("nan"), 10**400),
    "step_abort": (0, True),
    "buffers": (0, 3, -4, 1 << 16, None, 2.0, HUGE),
    "buffer_bytes": (0, -1, 1 << 25, "4096"),
    "submissions": (0, None, 1 << 16),
    "completions": (0, None, 1 << 17),
}


def test_every_option_has_a_rule_and_a_wrong_value_here() -> None:
    assert WRONG.keys() == NODE_RULES.keys()


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_one_sentence_that_names_the_option(name: str) -> None:
    gc.collect()  # what other tests have left
    descriptors = os.listdir("/proc/self/fd")
    for value in WRONG[name]:
        with pytest.raises(SpecError, match=f"^Node: {name}=.* is not allowed; use ") as caught:
            Node(application(), **{name: value})
        assert "\n" not in str(caught.value)
    # No more than before; fewer when what is left in other threads ends meanwhile.
    assert set(os.listdir("/proc/self/fd")) <= set(descriptors)


def test_an_option_that_is_not_there_is_told_with_one_that_is() -> None:
    with pytest.raises(TypeError, match=r"no option 'drain_timout'; it has drain_timeout$"):
        application().start(drain_timout=3)


def test_all_options_are_told_when_none_is_written_alike() -> None:
    with pytest.raises(TypeError, match="it has ") as caught:
        application().start(zzz=3)
    told = str(caught.value).partition("it has ")[2].split(", ")
    parameters = inspect.signature(Node).parameters.keys() - {"app", "loop_options"}
    assert set(told) == parameters | LOOP_DEFAULTS.keys()


def test_a_loop_that_refuses_its_arguments_closes_no_descriptor_of_others() -> None:
    """Its own were still 0 then, and 0 is standard input."""
    before = os.fstat(0)
    with pytest.raises(TypeError, match="integer"):
        Loop("epoll", buffers=None)  # type: ignore[arg-type]
    assert os.fstat(0) == before


LIMITS: tuple[dict[str, Any], ...] = (
    *({name: HUGE} for name in ("backlog", "connections_max", "output_bytes_max")),
    *({name: 1e300} for name in ("idle_timeout", "frame_timeout", "half_closed_timeout")),
    {"linger": 1e300},
    {"high_water_bytes": HUGE, "output_bytes_max": HUGE},
    {"low_water_bytes": HUGE - 1, "high_water_bytes": HUGE, "output_bytes_max": HUGE},
    {"keepalive": 32_767},
)


@pytest.mark.parametrize("limits", LIMITS, ids=lambda limits: next(iter(limits)))
def test_a_limit_beyond_all_numbers_of_the_core_is_none(start: Any, limits: Any) -> None:
    with dial(start(application(**limits))) as client:
        for _ in range(3):
            client.sendall(b"hello\n")
            assert receive(client, 6) == b"hello\n"


def test_counts_beyond_all_numbers_of_the_core_are_no_limits(start: Any) -> None:
    tree = Supervisor("one_for_one", [Worker("s", Echo, mailbox=HUGE)], intensity=HUGE)
    assert start(Application("t", tree)).call("s", 1) == 1


def test_a_time_that_is_not_zero_is_not_rounded_to_none(start: Any) -> None:
    """Zero is "no time limit" in the core."""
    with dial(start(application(idle_timeout=1e-9))) as client:
        assert client.recv(1) == b""


def test_a_stop_may_wait_as_long_as_it_likes_and_says_what_it_cannot(start: Any) -> None:
    node = start(application(), drain_timeout=1e300, step_budget=1e300)
    for timeout in ("5", -1, float("nan"), True):
        with pytest.raises(ValueError, match=r"^timeout=.* is not allowed; use seconds >= 0, or"):
            node.stop(timeout=timeout)
    assert node.call("s", "still here", timeout=1e300) == "still here"
    assert node.stop(timeout=1e300) == 0


@pytest.mark.parametrize("keepalive", [0, 32_768, HUGE, 1.5])
def test_keepalive_is_what_the_kernel_takes(keepalive: Any) -> None:
    with pytest.raises(SpecError, match=r"keepalive=.* use whole seconds from 1 to 32767"):
        application(keepalive=keepalive)

"""What keeps starts and restarts cheap, and must not be seen: few calls, shared defaults, no
garbage, reports made late.

How fast they are, is measured by `python -m bench children restart`.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.errors import Crashed
from pybehave.runtime.tree.child import TreeChild, TreeRare

CRASHES = 20

CALLS = {"Answer", "Caller", "Crashed", "ThreadWaiter", "frame", "traceback"}
"""What a call is made of, by type."""

START_CALLS_MAX = 70
"""Python functions called to start one more child from a template, of which there may be a hundred
thousand: 62 in Python 3.11. Each is about a hundredth of a start."""


class Fragile(GenServer[list[int], Any, Any]):
    """Crashes when told to, with a state that it changes in place."""

    def init(self, args: Any) -> list[int]:
        return [0]

    def step(self, command: Any, state: list[int]) -> Any:
        if command == "crash":
            raise ValueError("asked to")
        state[0] += 1
        return state, state[0]


class Ends(Fragile):
    """Each instance has an end of its own."""

    def init(self, args: Any) -> list[int]:
        self.terminate = partial(note_end, args)  # type: ignore[method-assign]
        return [0]


def note_end(ends: list[Any], reason: Any, state: list[int]) -> None:
    ends.append((type(reason), state))


def crash(node: Any, name: str) -> None:
    with pytest.raises(Crashed):
        node.call(name, "crash")


def tree(*workers: Worker[Any, Any]) -> Application:
    return Application("costs", Supervisor("one_for_one", workers, intensity=1000))


def garbage_of(function: Callable[[], None]) -> list[str]:
    """Types of what only the collector can free when a function has been called so often."""
    function()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(CRASHES):
            function()
        gc.collect()
        return [type(each).__name__ for each in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def calls_of(function: Callable[[], None]) -> list[str]:
    """The Python functions that are called by one, in order."""
    called: list[str] = []

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(before)
    return called


def test_one_more_child_of_a_template_takes_few_calls(start: Callable[..., Any]) -> None:
    template = Supervisor("simple_one_for_one", [Worker("a", Fragile)], id="all")
    node = start(Application("costs", template))

    def start_child() -> None:
        node.start_child("all", [])

    node.run_on_loop(start_child)  # what is asked once of a class
    called = node.run_on_loop(lambda: calls_of(start_child))
    assert "init" in called
    assert len(called) <= START_CALLS_MAX, called


@pytest.mark.parametrize(
    ("command", "is_inside"), [("crash", True), ("count", True), ("count", False)]
)
def test_a_call_leaves_nothing_of_itself_to_the_collector(
    start: Callable[..., Any], command: str, is_inside: bool
) -> None:
    node = start(tree(Worker("a", Fragile)))

    def call() -> None:
        try:
            node.call("a", command)
        except Crashed:
            return

    left = node.run_on_loop(lambda: garbage_of(call)) if is_inside else garbage_of(call)
    assert CALLS.isdisjoint(left)


def test_what_few_children_have_is_not_given_to_the_others(start: Callable[..., Any]) -> None:
    node = start(tree(Worker("a", Fragile), Worker("b", Fragile)))
    crash(node, "a")
    crash(node, "a")
    a, b = node.tree.root.children()
    assert (a.restarts, b.restarts) == (2, 0)
    assert b.rare is TreeChild.usual is not a.rare
    usual: Any = TreeChild.usual
    assert all(getattr(usual, name) == getattr(TreeRare(), name) for name in usual.__slots__)
    assert (usual.attempt, usual.restarts, usual.row, usual.is_free) == (0, 0, None, False)


def test_a_report_says_what_was_so_at_the_crash_also_when_it_is_read_later(
    start: Callable[..., Any],
) -> None:
    node = start(tree(Worker("a", Fragile)))
    node.call("a", "count")
    crash(node, "a")
    for _ in range(3):
        node.call("a", "count")
    node.remove_child("root", "a")
    (report,) = node.crashes()
    assert (report.crash_id, report.inputs, report.state) == ("a-1-2", 2, [1])
    assert (report.path, report.kind) == ("root/a", f"{__name__}:Fragile")


def test_an_end_that_only_the_instance_has_is_called(start: Callable[..., Any]) -> None:
    ends: list[Any] = []
    node = start(tree(Worker("a", Ends, ends)))
    crash(node, "a")
    node.stop()
    assert ends == [(ValueError, [0]), (str, [0])]

"""The first message of a journaled server to a family's member, which it starts, arrives once."""

from __future__ import annotations

from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker, family
from pybehave.actions import Cast, Continue
from pybehave.journal.recovery import Options
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator

SMALL = Options(segment_bytes=64 << 10)


class Sender(GenServer[int, Any, Any]):
    def init(self, args: Any) -> int:
        return 0

    def step(self, message: Any, state: int) -> Any:
        return state + 1, state + 1, [Cast("m-1", message)]


class Member(GenServer[list[Any], Any, Any]):
    """Its first starts fail."""

    failures = 0

    def init(self, args: Any) -> list[Any]:
        if Member.failures > 0:
            Member.failures -= 1
            raise RuntimeError("not now")
        return []

    def step(self, message: Any, state: list[Any]) -> Any:
        if message == "all":
            return state, list(state)
        return [*state, message], None


APP = Application(
    "f",
    Supervisor(
        "one_for_one",
        [Worker("s", Sender, journal=True), family("m-*", Member, journal=True)],
        intensity=9,
    ),
)


def live(disk: SimDisk) -> tuple[SimDisk, list[Any]]:
    """A life in which nothing is sent: what the member has, and the disk behind a power cut."""
    with Simulator(1, APP, disk=disk, journal_options=SMALL) as world:
        world.run(0.1)
        found: list[Any] = world.node.call("m-1", "all")
        world.run(0.1)
        return world.disk.copy(), found


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_it_arrives_once_whatever_becomes_of_the_start(
    monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """A second try started it, and its message was one that nobody had sent: each start of the
    node brought it again.
    """
    monkeypatch.setattr(Member, "failures", failures)
    disk = SimDisk(1)
    with Simulator(1, APP, disk=disk, journal_options=SMALL) as world:
        world.node.call("s", "hello")
        world.run(0.1)
        monkeypatch.setattr(Member, "failures", 0)
        heard = world.node.call("m-1", "all")
        assert heard == ([] if failures else ["hello"])
        world.run(0.1)
        disk = world.disk.copy()
    for _ in range(3):
        disk, heard = live(disk)
        assert heard == ["hello"]


class GoesOn(GenServer[list[Any], Any, Any]):
    """Wakes a member, and goes on with what fails or does not."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: str, state: list[Any]) -> Any:
        state.append(command)
        return state, len(state), [Cast("m-1", command), Continue(command)]

    def handle_continue(self, term: str, state: list[Any]) -> Any:
        state.append(f"{term}, continued")
        if term == "fail":
            raise ValueError("a deliberate bug")
        return state, None, [Cast("m-2", term)]


@pytest.mark.parametrize("words", [["fail"], ["fail", "go"], ["go", "fail"], ["go", "go"]])
def test_a_continue_behind_it_that_failed_has_failed_for_each_start(words: list[str]) -> None:
    """The SERVER record of the member stands between the input and what says that it failed: the
    replay went on before it had read that, and had what the continue did before it raised.
    """
    members = family("m-*", Member, journal=True)
    tree = [Worker("s", GoesOn, journal=True), members]
    app = Application("f", Supervisor("one_for_one", tree, intensity=9))
    names = ("s", "m-1", "m-2")
    disk = SimDisk(1)
    with Simulator(1, app, disk=disk, journal_options=SMALL) as world:
        for word in words:
            world.node.cast("s", word)
            world.run(0.2)
        live = {name: world.node.get_state(name) for name in names if world.node.whereis(name)}
        killed = disk.copy()
    kept = [each for word in words for each in (word, f"{word}, continued")]
    assert live["s"] == [each for each in kept if each != "fail, continued"]
    assert live["m-1"] == words
    assert live.get("m-2", []) == [word for word in words if word == "go"]
    for each in (killed, disk):
        for _ in range(2):
            with Simulator(1, app, disk=each, journal_options=SMALL) as world:
                world.run(1.0)
                assert world.node.get_state("s") == live["s"]
                for name in live.keys() - {"s"}:
                    assert world.node.call(name, "all") == live[name]

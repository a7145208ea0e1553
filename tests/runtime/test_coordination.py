"""A journaled machine that takes nothing until an effect has answered (docs/guide/gen_statem.md).

What comes meanwhile waits, in the journal; questions are answered; an effect that a crash has taken
away is told as lost, and the machine goes on by itself.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenStatem, Supervisor, Worker
from pybehave.actions import Reply, Run, RunDone, RunFailed
from pybehave.journal.recovery import Options
from pybehave.statem import KeepStateAndData, NextState, Postpone
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.power.machine import wait_for

OPTIONS = Options(segment_bytes=64 << 10)
CHARGED: list[int] = []


def charge(number: int) -> int:
    CHARGED.append(number)
    if number % 7 == 6:
        raise ValueError("refused")
    return number


class Till(GenStatem):
    """Has one payment under way at a time."""

    def init(self, args: Any) -> Any:
        return "open", []

    def open(self, event_type: Any, content: Any, data: list[Any]) -> Any:
        match event_type, content:
            case ("call", caller), ("pay", number):
                actions = [Reply(caller, "begun"), Run(charge, number, tag=number)]
                return NextState("paying", data, actions)
            case ("call", caller), "look":
                return KeepStateAndData(Reply(caller, ("open", list(data))))
        return KeepStateAndData()

    def paying(self, event_type: Any, content: Any, data: list[Any]) -> Any:
        match event_type, content:
            case "info", RunDone(tag=number):
                return NextState("open", [*data, (number, "paid")])
            case "info", RunFailed(tag=number, error=error):
                return NextState("open", [*data, (number, type(error).__name__)])
            case ("call", caller), "look":
                return KeepStateAndData(Reply(caller, ("paying", list(data))))
        return KeepStateAndData(Postpone())


def app() -> Application:
    tree = Supervisor("one_for_one", [Worker("till", Till, journal=True)], intensity=100)
    return Application("shop", tree)


def pay(world: Simulator, number: int) -> Future[Any]:
    found = world.node.send_request("till", ("pay", number))
    world.run(0.01)
    return found


def world_on(disk: SimDisk, seed: int) -> Simulator:
    return Simulator(seed, app(), disk=disk, journal_options=OPTIONS, work=lambda _: 1.0)


def test_what_comes_meanwhile_waits_and_questions_are_answered() -> None:
    CHARGED.clear()
    with world_on(SimDisk(1), 1) as world:
        begun = [pay(world, number) for number in range(3)]
        assert [each.done() for each in begun] == [True, False, False]
        assert world.node.call("till", "look", priority=True) == ("paying", [])
        world.run(1.2)
        mode, told = world.node.call("till", "look")
        assert (mode, told[0]) == ("paying", (0, "paid"))
        world.run(5.0)
        assert [each.result(0) for each in begun] == ["begun"] * 3
        paid = [(number, "paid") for number in range(3)]
        assert world.node.call("till", "look") == ("open", paid)


def test_it_is_so_on_every_source(start: Callable[..., Any], tmp_path: Path) -> None:
    CHARGED.clear()
    node = start(app(), data=tmp_path)
    begun = [node.send_request("till", ("pay", number)) for number in range(8)]
    assert [each.result(30) for each in begun] == ["begun"] * 8
    wait_for(lambda: node.call("till", "look")[0] == "open", "the last payment")
    expected = [(number, "paid") for number in range(6)] + [(6, "ValueError"), (7, "paid")]
    assert node.call("till", "look", priority=True) == ("open", expected)


@pytest.mark.parametrize("seed", range(40))
def test_an_effect_that_is_lost_is_told_and_it_goes_on_by_itself(seed: int) -> None:
    CHARGED.clear()
    dice, disk = random.Random(seed), SimDisk(seed)
    begun: list[int] = []
    charged: list[int] = []
    number = 0
    for life in range(5):
        world = world_on(disk, seed * 10 + life).start()
        asked: dict[int, Future[Any]] = {}
        for _ in range(dice.randrange(6)):
            if dice.random() < 0.2 and world.node.journal.snapshots.take():
                world.run(0.1)
            asked[number] = pay(world, number)
            number += 1
            world.run(dice.choice((0.0, 0.3, 2.0)))
        begun += [each for each, future in asked.items() if future.done()]
        disk = disk.copy() if dice.random() < 0.5 else disk.cut(dice)
        charged += CHARGED
        world.stop()
        CHARGED.clear()  # what this process did when it had ended already
    with world_on(disk, seed) as world:
        world.run(60.0)
        mode, told = world.node.call("till", "look")
    assert mode == "open"
    numbers = [each for each, _ in told]
    assert numbers == sorted(set(numbers))
    assert set(begun) <= set(numbers)
    assert {how for _, how in told} <= {"paid", "JobLost", "ValueError"}
    charged += CHARGED
    assert len(charged) == len(set(charged))
    assert {each for each, how in told if how != "JobLost"} <= set(charged)

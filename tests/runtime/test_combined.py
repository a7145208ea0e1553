"""Servers made of servers on a node: live, journaled, crashed, snapshot, upgraded (A3-36)."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import (
    Application,
    GenServer,
    Listener,
    Migration,
    Release,
    Supervisor,
    Worker,
    both,
    either,
)
from pybehave.actions import NO_REPLY, Continue, Reply, StartTimer
from pybehave.errors import Crashed, Rejected
from pybehave.journal import dead_letters
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines, Protocol
from pybehave.testing import repeat
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.power.machine import wait_for
from tests.snapshots import take_snapshot

Start = Callable[..., Any]
OPTIONS = Options(segment_bytes=64 << 10, tail_bytes=64 << 10)
TCP = "tcp://127.0.0.1:7000"


class Stock(GenServer[dict[str, int], Any, Any]):
    """Pieces by article, changed in place; less than none is a bug."""

    def init(self, args: Any) -> dict[str, int]:
        return dict(args or {})

    def step(self, command: Any, state: dict[str, int]) -> Any:
        article, count = command
        state[article] = state.get(article, 0) + count
        if state[article] < 0:
            raise ValueError(f"{state[article]} {article}")
        return state, state[article]


class Orders(GenServer[list[Any], Any, Any]):
    """What was ordered; a deadline, a reply that is put off, a continue."""

    def init(self, args: Any) -> list[Any]:
        self.begun = self.context.incarnation  # an attribute, which an upgrade hands on
        return []

    def handle_call(self, request: Any, caller: Any, state: list[Any]) -> Any:
        if request == "wait":
            return [*state, "wait"], NO_REPLY, StartTimer("t", 0.0, caller)
        if request == "begun":
            return state, self.begun
        if request == "go on":
            return state, "went", Continue("more")
        return [*state, request], len(state) + 1

    def handle_cast(self, message: Any, state: list[Any]) -> Any:
        return [*state, message], None

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return [*state, "heard"], None, Reply(message, "late")

    def handle_continue(self, term: Any, state: list[Any]) -> Any:
        return [*state, term], None


class NewOrders(Orders):
    """Since version 2 an order has a number."""

    version = 2

    def upcast(self, version: int, message: Any) -> Any:
        return message

    def upcast_state(self, version: int, dumped: list[Any]) -> list[Any]:
        return list(enumerate(dumped))


EITHER, BOTH = either(Stock, Orders), both(Stock, Orders)


def app(
    kind: Any, *, args: Any = ({"nut": 5}, None), journal: bool = True, **more: Any
) -> Application:
    worker = Worker("shop", kind, args, journal=journal)
    return Application("t", Supervisor("one_for_one", [worker], intensity=100), **more)


@pytest.mark.parametrize("journal", [True, False])
def test_A3_36_a_side_steps_and_says_so(start: Start, tmp_path: Path, journal: bool) -> None:
    node = start(app(EITHER, journal=journal), **({"data": tmp_path / "d"} if journal else {}))
    assert node.call("shop", (0, ("nut", 3))) == (0, 8)
    assert node.call("shop", (1, "one")) == (1, 1)
    assert node.call("shop", (1, "wait")) == (1, "late")
    assert node.call("shop", (1, "go on")) == (1, "went")
    assert node.get_state("shop") == ({"nut": 8}, ["one", "wait", "heard", "more"])
    with pytest.raises(Rejected, match=r"an input of either\(Stock, Orders\) is a pair"):
        node.call("shop", "one")


@pytest.mark.parametrize("journal", [True, False])
def test_A3_36_both_step(start: Start, tmp_path: Path, journal: bool) -> None:
    node = start(app(BOTH, journal=journal), **({"data": tmp_path / "d"} if journal else {}))
    assert node.call("shop", (("nut", -1), "order")) == (4, 1)
    node.cast("shop", (("nut", -1), "another"))
    wait_for(lambda: node.get_state("shop") == ({"nut": 3}, ["order", "another"]), "the cast")


def test_if_one_side_fails_both_are_as_before(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "d"
    node = start(app(both(Orders, Stock), args=(None, {"nut": 5})), data=data)
    node.call("shop", ("order", ("nut", -1)))
    with pytest.raises(Crashed) as crashed:
        node.call("shop", ("too much", ("nut", -9)))
    assert crashed.value.reason.__notes__ == ["side 1 of both(Orders, Stock): ('nut', -9)"]
    assert node.get_state("shop") == (["order"], {"nut": 4})
    wait_for(lambda: len(dead_letters.numbers(str(data))) == 1, "a letter")
    node.stop()
    [lsn] = dead_letters.numbers(str(data))
    letter = (data / dead_letters.letter_name(lsn)).read_bytes()
    with pytest.raises(ValueError, match="-5 nut"):
        repeat(both(Orders, Stock), letter)


def test_A3_36_a_journal_is_replayed(start: Start, tmp_path: Path) -> None:
    node = start(app(EITHER), data=tmp_path / "d")
    node.call("shop", (0, ("nut", 3)))
    take_snapshot(node)
    node.call("shop", (1, "wait"))
    with pytest.raises(Crashed):
        node.call("shop", (0, ("nut", -100)))
    assert node.call("shop", (1, "one")) == (1, 3)
    node.stop()
    node = start(app(EITHER), data=tmp_path / "d")
    assert node.get_state("shop") == ({"nut": 8}, ["wait", "heard", "one"])


@pytest.mark.parametrize("is_snapshot", [True, False])
def test_A3_36_a_journal_is_read_by_a_newer_side(
    start: Start, tmp_path: Path, is_snapshot: bool
) -> None:
    node = start(app(EITHER), data=tmp_path / "d")
    node.call("shop", (0, ("nut", 3)))
    node.call("shop", (1, "one"))
    if is_snapshot:
        take_snapshot(node)
    node.stop()
    node = start(app(either(Stock, NewOrders)), data=tmp_path / "d")
    expected = [(0, "one")] if is_snapshot else ["one"]  # inputs are stepped by the new code
    assert node.get_state("shop") == ({"nut": 8}, expected)


@pytest.mark.parametrize("journal", [True, False])
def test_A3_36_one_side_is_upgraded(start: Start, tmp_path: Path, journal: bool) -> None:
    data = {"data": tmp_path / "d"} if journal else {}
    node = start(app(EITHER, journal=journal, version="1.0"), **data)
    node.call("shop", (0, ("nut", 3)))
    node.call("shop", (1, "one"))
    new = app(either(Stock, NewOrders), journal=journal, version="2.0")
    node.releases.upgrade(Release(new, upgrades="1.0"))
    assert node.whereis("shop") == 1
    assert node.get_state("shop") == ({"nut": 8}, [(0, "one")])
    assert node.call("shop", (1, "begun")) == (1, 1)
    assert node.call("shop", (1, "two")) == (1, 2)
    if journal:
        node.stop()
        node = start(new, **data)
        assert node.get_state("shop") == ({"nut": 8}, [(0, "one"), "two"])
        assert node.call("shop", (1, "begun")) == (1, node.whereis("shop"))


@pytest.mark.parametrize("journal", [True, False])
def test_a_migration_gives_it_another_number_of_sides(
    start: Start, tmp_path: Path, journal: bool
) -> None:
    data = {"data": tmp_path / "d"} if journal else {}
    node = start(app(EITHER, journal=journal, version="1.0"), **data)
    node.call("shop", (1, "one"))
    new = app(either(Stock, Orders, Stock), args=None, journal=journal, version="2.0")
    ways = {"shop": Migration[Any, Any](lambda old: (*old, {"tea": 1}), lambda new: new[:2])}
    for _ in range(2):
        node.releases.upgrade(Release(new, upgrades="1.0", migrations=ways))
        assert node.call("shop", (2, ("tea", 1))) == (2, 2)
        assert node.get_state("shop") == ({"nut": 5}, ["one"], {"tea": 2})
        node.releases.rollback()
        assert node.get_state("shop") == ({"nut": 5}, ["one"])
    alone = app(Orders, args=None, journal=journal, version="2.0")
    way = {"shop": Migration[Any, Any](lambda old: old[1], lambda new: ({}, new))}
    node.releases.upgrade(Release(alone, upgrades="1.0", migrations=way))
    assert node.call("shop", "two") == 2
    node.releases.rollback()
    assert node.call("shop", (1, "three")) == (1, 3)
    if journal:
        node.stop()
        node = start(app(EITHER), **data)
    assert node.get_state("shop") == ({}, ["one", "two", "three"])


class Words(Protocol):
    """`0`: an order and a nut; `1`: two orders."""

    framing = Lines()

    def decode(self, message: bytes) -> Any:
        return ("order", (0, ("nut", 1)) if message == b"0" else (1, "x"))

    def encode(self, output: Any) -> Any:
        return b"ok"


@pytest.mark.parametrize("seed", range(20))
def test_A3_36_they_survive_power_cuts(seed: int) -> None:
    """On the simulator: what was acknowledged is there, of both sides or of none."""
    dice, disk, acknowledged = random.Random(seed), SimDisk(seed), 0
    kind = both(Orders, either(Stock, Orders))
    listeners = [Listener(TCP, Words(), to="shop")]
    for _ in range(3):
        world = Simulator(
            dice.getrandbits(32),
            app(kind, args=None, listeners=listeners),
            disk=disk,
            journal_options=OPTIONS,
            shake=True,
        ).start()
        world.node.journal.snapshots.records = dice.choice((4, 1000))
        orders, (stock, more) = world.node.get_state("shop")
        assert len(orders) == stock.get("nut", 0) + len(more) >= acknowledged
        client = world.connect(TCP)
        for _ in range(dice.randrange(1, 15)):
            client.send(dice.choice((b"0\n", b"1\n")))
            world.run(dice.random() * 0.005)
        acknowledged += client.received.count(b"ok")
        disk = world.lose_power(dice)

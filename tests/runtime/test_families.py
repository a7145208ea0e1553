"""Virtual servers: woken by the first message, stopped when idle, journaled or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker, family
from pybehave.actions import Call, CallReply, Cast, StartTimer
from pybehave.errors import Crashed, NoProc, SpecError
from pybehave.journal.recovery import Options
from pybehave.runtime.events import ChildPassivated
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator

Start = Callable[..., Any]


class Account(GenServer[Any, Any, Any]):
    """Sums; crashes, pays others, keeps a timer, when told to."""

    def init(self, args: Any) -> Any:
        if self.context.name.endswith("-bad"):
            raise ValueError("no such account")
        return 0

    def step(self, command: Any, state: Any) -> Any:
        match command:
            case "crash":
                raise ValueError("asked to")
            case ("pay", name, amount):
                return state - amount, state - amount, Cast(name, amount)
            case ("pay each", names):
                return state, state, [Cast(name, 1) for name in names]
            case ("ask each", names):
                return state, state, [Call(name, 1) for name in names]
            case ("ask", name):
                return state, state, Call(name, 0)
            case "wait":
                return state, state, StartTimer("t", 100.0, "late")
        return state + command, state + command

    def handle_info(self, message: Any, state: Any) -> Any:
        if isinstance(message, CallReply):
            return state + 1000 + message.value, None
        return state, None


def bank(**fields: Any) -> Application:
    accounts = family("acct-*", Account, id="accounts", **fields)
    return Application("bank", Supervisor("one_for_one", [accounts, Worker("desk", Account)]))


def test_the_first_message_wakes_a_server_however_it_comes(start: Start) -> None:
    node = start(bank())
    assert node.names() == ["desk"]
    assert node.call("acct-call", 1) == 1
    node.cast("acct-cast", 2)
    assert node.call("acct-cast", 0) == 2
    assert node.call_many("acct-many", [1, 2, 3]) == [1, 3, 6]
    assert asyncio.run(node.acall("acct-async", 4)) == 4
    node.call("desk", ("pay", "acct-paid", 5))
    assert node.call("acct-paid", 0) == 5
    node.call("desk", ("ask", "acct-asked"))
    assert node.run_on_loop(lambda: node.call("acct-here", 6)) == 6
    names = {info.id for info in node.which_children("accounts")}
    words = ("call", "cast", "many", "async", "paid", "asked", "here")
    assert names == {f"acct-{word}" for word in words}


def test_names_that_do_not_match_or_do_not_start_are_nobody(start: Start) -> None:
    node = start(bank())
    for name in ("act-1", "acct-bad", "acct-" + "x" * 300, "acct-a/b"):
        with pytest.raises(NoProc):
            node.call(name, 1)
    assert node.whereis("acct-1") is None
    assert node.count_children("accounts").active == 0


def test_a_member_that_crashes_is_restarted_as_any_child(start: Start) -> None:
    node = start(bank())
    node.call("acct-1", 5)
    with pytest.raises(Crashed):
        node.call("acct-1", "crash")
    assert node.call("acct-1", 1) == 1
    (info,) = node.which_children("accounts")
    assert (info.restarts, info.ref.incarnation) == (1, 2)


def test_an_idle_member_is_stopped_and_begins_anew() -> None:
    with Simulator(1, bank(idle=10)) as world:
        events: list[Any] = []
        world.node.events.add(events.append)
        for name in ("acct-1", "acct-2"):
            world.node.call(name, 5)
        world.run(8)
        world.node.call("acct-2", 1)
        world.run(6)
        assert sorted(world.node.names()) == ["acct-2", "desk"]
        assert [e.child for e in events if isinstance(e, ChildPassivated)] == ["acct-1"]
        assert world.node.call("acct-1", 1) == 1
        world.run(100)
        assert world.node.names() == ["desk"]


def test_a_member_with_a_timer_is_not_idle() -> None:
    with Simulator(1, bank(idle=10)) as world:
        world.node.call("acct-1", "wait")
        world.run(90)
        assert "acct-1" in world.node.names()
        world.run(30)
        assert "acct-1" not in world.node.names()


def test_many_members_are_looked_at_a_thousand_at_a_time() -> None:
    with Simulator(1, bank(idle=10)) as world:
        for number in range(2500):
            world.node.cast(f"acct-{number}", 1)
        world.run(20)
        assert world.node.names() == ["desk"]


def test_a_journaled_member_goes_on_where_it_was_asleep_or_after_a_start() -> None:
    disk = SimDisk()
    app = bank(idle=10, journal=True)
    with Simulator(1, app, disk=disk) as world:
        world.node.call("acct-1", 5)
        world.node.call("acct-1", ("pay", "acct-2", 2))
        world.run(30)
        assert world.node.names() == ["desk"]
        assert world.node.call("acct-1", 0) == 3
        assert world.node.call("acct-2", 0) == 2
    with Simulator(2, app, disk=disk) as world:
        assert world.node.names() == ["desk"]
        assert world.node.call("acct-1", 1) == 4
        with pytest.raises(Crashed):
            world.node.call("acct-2", "crash")
        assert world.node.call("acct-2", 1) == 3


CROWD = [f"acct-{number}" for number in range(500)]
"""Their starts are more than a frame of a small journal holds."""

SMALL = Options(segment_bytes=64 << 10)


def test_more_members_are_woken_at_once_than_a_frame_has_room_for(
    start: Start, tmp_path: Path
) -> None:
    node = start(bank(journal=True), data=tmp_path, journal_options=SMALL)
    asked = node.run_on_loop(
        lambda: [node.send_request(name, n, priority=n == 2) for name in CROWD for n in (1, 2)]
    )
    assert {future.result(60) for future in asked[::2]} <= {1, 3}
    assert {future.result(60) for future in asked[1::2]} <= {2, 3}
    assert {node.get_state(name) for name in CROWD} == {3}


@pytest.mark.parametrize("is_journaled", [False, True])
@pytest.mark.parametrize("how", ["pay each", "ask each"])
def test_one_step_wakes_more_members_than_a_frame_has_room_for(
    how: str, is_journaled: bool
) -> None:
    """Those that nobody knows yet, and those that sleep."""
    accounts = family("acct-*", Account, id="accounts", journal=True, idle=1.0)
    children = [accounts, Worker("desk", Account, journal=is_journaled)]
    app = Application("bank", Supervisor("one_for_one", children))
    with Simulator(1, app, disk=SimDisk(1), journal_options=SMALL) as world:
        for times in (1, 2):
            world.node.call("desk", (how, CROWD))
            world.run(0.5)
            assert {world.node.get_state(name) for name in CROWD} == {times}
            world.run(10.0)
            assert world.node.names() == ["desk"]
        assert world.node.get_state("desk") == (500 * (2000 + 1 + 2) if how == "ask each" else 0)


@pytest.mark.parametrize("seed", range(30))
def test_no_acknowledged_payment_is_lost_through_sleep_snapshots_and_power_cuts(seed: int) -> None:
    random, disk = Random(seed), SimDisk()
    app = bank(idle=2, journal=True)
    sums: dict[str, int] = {}
    for life in range(3):
        world = Simulator(seed + life, app, disk=disk).start()
        for _ in range(40):
            name = f"acct-{random.randrange(6)}"
            sums[name] = sums.get(name, 0) + 1
            assert world.node.call(name, 1) == sums[name]
            world.run(random.choice((0, 0.1, 3)))
            if random.random() < 0.1:
                world.node.journal.snapshots.take()
        if random.random() < 0.5:
            disk = world.lose_power(random)
        else:
            world.stop()


def test_a_family_that_stops_wakes_nobody(start: Start) -> None:
    node = start(bank())
    node.call("acct-1", 1)
    node.terminate_child("root", "accounts")
    with pytest.raises(NoProc):
        node.call("acct-1", 1)
    node.restart_child("root", "accounts")
    assert node.call("acct-1", 1) == 1


@pytest.mark.parametrize(
    "fields", [{"pattern": "x-*"}, {"idle": 5}, {"pattern": "", "strategy": "simple_one_for_one"}]
)
def test_a_pattern_belongs_to_a_template(fields: dict[str, Any]) -> None:
    strategy = fields.pop("strategy", "one_for_one")
    with pytest.raises(SpecError, match=r"pattern|idle"):
        Supervisor(strategy, [Worker("a", Account)], **fields)


def test_a_family_is_printed_and_read_back() -> None:
    tree = Supervisor("one_for_one", [family("acct-*", Account, idle=3, journal=True)])
    assert "family acct-*" in tree.dump()
    assert Supervisor.from_json(tree.to_json()) == tree

"""A state that may not be never stands: no reply, no action, no record of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, GenStatem, Supervisor, Worker
from pybehave.actions import Cast, Continue, Reply, StartTimer
from pybehave.errors import Crashed, InvariantViolated, StartFailed, UpgradeFailed
from pybehave.journal import dead_letters
from pybehave.statem import NextState
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator


class Purse(GenServer[dict[str, int], Any, Any]):
    """Must never owe; changes its state in place, as servers do."""

    def init(self, args: Any) -> Any:
        return {"coins": args or 0}

    def step(self, command: Any, state: dict[str, int]) -> Any:
        match command:
            case ("take", count):
                state["coins"] -= count
                return state, "taken", Cast("log", ("taken", count))
            case ("both", first, second):
                self.step(("take", first), state)  # what is between them nobody sees
                self.step(("take", second), state)
            case ("soon", count):
                return state, "soon", StartTimer("t", 0.01, count)
            case ("then", count):
                return state, "then", Continue(count)
        return state, state["coins"]

    def handle_info(self, message: Any, state: Any) -> Any:
        return self.step(("take", message), state)

    handle_continue = handle_info

    def invariant(self, state: dict[str, int]) -> bool:
        return state["coins"] >= 0


class Log(GenServer[list[Any], Any, Any]):
    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        return ([*state, command], None) if command != "read" else (state, state)


def application(
    *, journal: bool = False, kind: type = Purse, coins: int = 10, version: str = "0"
) -> Application:
    children = [
        Worker("purse", kind, coins, journal=journal),
        Worker("log", Log, journal=journal),
    ]
    tree = Supervisor("one_for_one", children, intensity=100)
    return Application("app", tree, version=version)


def refused(node: Any, command: Any) -> InvariantViolated:
    with pytest.raises(Crashed) as caught:
        node.call("purse", command)
    assert isinstance(caught.value.reason, InvariantViolated)
    return caught.value.reason


def test_a_step_that_breaks_it_crashes_and_nothing_comes_of_it(start: Callable[..., Any]) -> None:
    node = start(application())
    assert node.call("purse", ("take", 10)) == "taken"
    violated = refused(node, ("take", 1))
    assert (violated.server, violated.invariant) == ("purse", "invariant")
    assert (violated.input, violated.state) == (("take", 1), {"coins": -1})
    assert node.call("log", "read") == [("taken", 10)]
    assert (node.whereis("purse"), node.call("purse", "look")) == (2, 10)


def test_with_a_journal_the_state_before_stands_also_after_a_start(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(application(journal=True), data=tmp_path)
    node.call("purse", ("take", 7))
    refused(node, ("take", 4))
    assert node.call("purse", "look") == 3
    node.stop()
    [lsn] = dead_letters.numbers(str(tmp_path))
    assert "InvariantViolated" in dead_letters.get(str(tmp_path), lsn).error
    node = start(application(journal=True), data=tmp_path)
    assert node.call("purse", "look") == 3
    assert node.call("log", "read") == [("taken", 7)]


def test_each_input_is_looked_at_once_and_at_its_end(start: Callable[..., Any]) -> None:
    node = start(application())
    assert node.call("purse", ("both", 11, -5)) == 4
    refused(node, ("both", -5, 100))


@pytest.mark.parametrize("command", [("soon", 11), ("then", 11)])
def test_infos_and_continues_are_looked_at(command: Any) -> None:
    with Simulator(1, application()) as world:
        world.node.call("purse", command)
        world.run(1.0)
        [report] = world.node.crashes()
        assert isinstance(report.reason, InvariantViolated)
        assert report.reason.input == 11


def test_casts_are_looked_at() -> None:
    with Simulator(1, application()) as world:
        world.node.cast("purse", ("take", 11))
        world.run(1.0)
        assert world.node.whereis("purse") == 2
        assert world.node.call("purse", "look") == 10


def test_an_init_is_looked_at(start: Callable[..., Any]) -> None:
    with pytest.raises(StartFailed, match="InvariantViolated"):
        start(application(coins=-1))


class Strict(Purse):
    """A later version of the code, which wants more."""

    def invariant(self, state: dict[str, int]) -> None:
        assert state["coins"] >= 5, f"only {state['coins']} coins"


def test_a_state_of_the_journal_is_looked_at_when_the_code_is_another(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(application(journal=True), data=tmp_path)
    node.call("purse", ("take", 7))
    node.stop()
    with pytest.raises(StartFailed, match="only 3 coins"):
        start(application(journal=True, kind=Strict), data=tmp_path)
    node = start(application(journal=True), data=tmp_path)
    assert node.call("purse", "look") == 3


def test_an_assertion_says_why(start: Callable[..., Any]) -> None:
    node = start(application(kind=Strict))
    assert "only 4 coins" in str(refused(node, ("take", 6)))


@pytest.mark.parametrize("journal", [False, True])
def test_a_migrated_state_is_looked_at_before_the_release_counts(
    start: Callable[..., Any], tmp_path: Path, *, journal: bool
) -> None:
    node = start(application(journal=journal), data=tmp_path)
    node.call("purse", ("take", 7))
    stricter = application(journal=journal, kind=Strict, version="1")
    with pytest.raises(UpgradeFailed, match="only 3 coins"):
        node.releases.upgrade(stricter, from_version="0")
    assert node.call("purse", ("take", 1)) == "taken"
    node.call("purse", ("take", -9))
    node.releases.upgrade(stricter, from_version="0")
    assert "only 4 coins" in str(refused(node, ("take", 7)))


class Broken(Purse):
    def invariant(self, state: Any) -> Any:
        return state["no such key"] if state["coins"] < 10 else None


def test_an_invariant_that_raises_is_broken_too(start: Callable[..., Any]) -> None:
    node = start(application(kind=Broken))
    assert "KeyError('no such key')" in str(refused(node, ("take", 1)))


class Door(GenStatem):
    def init(self, args: Any) -> Any:
        return "closed", 0

    def handle_event(self, kind: Any, content: Any, state: Any, data: int) -> Any:
        return NextState(content, data + 1, [Reply(kind[1], content)])

    def invariant(self, state: Any) -> bool:
        return bool(state != ("open", 2))


def test_of_a_state_machine_it_gets_state_and_data(start: Callable[..., Any]) -> None:
    node = start(application(kind=Door))
    assert node.call("purse", "open") == "open"
    assert node.call("purse", "closed") == "closed"
    node.call("purse", "closed")
    node.sys.replace_state("purse", lambda _: ("closed", 1))
    with pytest.raises(InvariantViolated, match="replace_state"):
        node.sys.replace_state("purse", lambda _: ("open", 2))
    assert refused(node, "open").state == ("open", 2)


def test_servers_without_one_keep_their_class_and_the_short_way(start: Callable[..., Any]) -> None:
    seen: list[type] = []

    class Plain(Log):
        def step(self, command: Any, state: Any) -> Any:
            seen.append(type(self))
            return state, None

    start(application(kind=Plain)).call("purse", 1)
    assert seen == [Plain]


# --- over all servers, in the simulator -----------------------------------------------------------


def twins(states: Mapping[str, Any]) -> bool:
    return abs(states["a"]["coins"] - states["b"]["coins"]) < 5


def pair(*, journal: bool = False) -> Application:
    children = [Worker(name, Purse, 10, journal=journal) for name in ("a", "b", "log")]
    return Application("pair", Supervisor("one_for_one", children, intensity=100))


@pytest.mark.parametrize("journal", [False, True])
def test_one_over_all_servers_sees_the_state_that_is_to_be(journal: bool) -> None:
    disk = SimDisk() if journal else None
    with Simulator(1, pair(journal=journal), disk=disk, always={"twins": twins}) as world:
        node = world.node
        assert node.call("a", ("take", 3)) == "taken"
        with pytest.raises(Crashed, match="breaks the invariant 'twins'"):
            node.call("a", ("take", 3))
        assert node.call("b", ("take", 3)) == "taken"
        assert node.get_state("a")["coins"] == (7 if journal else 10)
        [violated] = world.violations
        assert (violated.server, violated.invariant) == ("a", "twins")


def test_one_over_all_servers_waits_until_they_run() -> None:
    seen: list[list[str]] = []

    def all_of_them(states: Mapping[str, Any]) -> None:
        seen.append(sorted(states))
        assert states["b"]

    with Simulator(1, pair(), always={"all": all_of_them}) as world:
        assert seen == [["a"], ["a", "b"], ["a", "b", "log"]]
        assert len(list(seen)) == 3
        assert not world.violations

"""P-3: observers see every state that stands, in order, and can hurt nobody."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, GenStatem, Observer, Release, Supervisor, Worker
from pybehave.actions import StartTimer
from pybehave.errors import Crashed, SpecError, StartFailed, UpgradeFailed
from pybehave.statem import KeepState, NextState
from pybehave.testing import SimDisk, Simulator


class Keeper(Observer):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_start(self, server: str, state: Any) -> None:
        self.seen.append(("start", server, state))

    def on_state_changed(self, server: str, old: Any, new: Any) -> None:
        self.seen.append(("changed", old, new))

    def on_terminate(self, server: str, reason: object, state: Any) -> None:
        self.seen.append(("end", type(reason) if isinstance(reason, Exception) else reason, state))


class Broken(Keeper):
    """Raises whenever it is shown something new."""

    def on_state_changed(self, server: str, old: Any, new: Any) -> None:
        super().on_state_changed(server, old, new)
        raise RuntimeError("a broken mirror")


class Rude(Keeper):
    def on_start(self, server: str, state: Any) -> None:
        super().on_start(server, state)
        raise KeyboardInterrupt


class Counter(GenServer[int, Any, Any]):
    pure = True

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: Any, state: int) -> Any:
        match command:
            case "get":
                return state, state
            case "crash":
                raise ValueError("as it was told to")
            case "later":
                return state, None, StartTimer("t", 0.0, 100)
        return state + command, state + command

    def handle_info(self, message: Any, state: int) -> Any:
        return state + message, None


class InPlace(GenServer[list[Any], Any, Any]):
    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        state.append(command)
        return state, len(state)


def app(*observers: Observer, kind: Any = Counter, **worker: Any) -> Application:
    tree = [Worker("c", kind, observers=observers, **worker)]
    return Application("test", Supervisor("one_for_one", tree, intensity=100))


@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
def test_an_observer_is_shown_each_state_and_the_end(
    start: Any, tmp_path: Path, journal: bool
) -> None:
    keeper = Keeper()
    node = start(app(keeper, journal=journal), data=tmp_path)
    assert node.call("c", 5) == 5
    node.cast("c", 1)
    assert node.call("c", "get") == 6  # changes nothing, and a pure server says so
    with pytest.raises(Crashed):
        node.call("c", "crash")
    assert node.call("c", 1) == (7 if journal else 1)
    node.stop()
    again = 6 if journal else 0
    assert keeper.seen == [
        ("start", "c", 0),
        ("changed", 0, 5),
        ("changed", 5, 6),
        ("end", ValueError, 6),
        ("start", "c", again),
        ("changed", again, again + 1),
        ("end", "shutdown", again + 1),
    ]


class Forking(Keeper):
    def on_state_changed(self, server: str, old: Any, new: Any) -> None:
        self.seen.append(os.fork() if new == 1 else new)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_observer_that_forks_leaves_one_node(start: Any, tmp_path: Path) -> None:
    forking = Forking()
    node = start(app(forking, journal=True), data=tmp_path)
    assert node.call("c", 1) == 1
    _, status = os.waitpid(forking.seen[1], 0)
    assert os.waitstatus_to_exitcode(status) >= 0  # it ended by itself, and nobody heard of it
    assert node.call("c", 1) == 2


def test_timers_and_what_an_operator_replaces_are_shown_too(start: Any) -> None:
    keeper = Keeper()
    node = start(app(keeper))
    node.call("c", "later")
    while node.call("c", "get") == 0:
        pass
    node.sys.replace_state("c", lambda state: state + 1)
    node.sys.no_debug("c")  # what an operator has switched on; an observer is none of it
    node.call("c", 1)
    assert keeper.seen[1:] == [("changed", 0, 100), ("changed", 100, 101), ("changed", 101, 102)]
    assert "1 observers" in node.sys.get_status("c").debug


def test_a_change_of_code_is_a_change_of_state(start: Any) -> None:
    class Named(Counter):
        version = 2

        def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
            return f"{state} so far"

    keeper = Keeper()
    node = start(app(keeper))
    node.call("c", 5)
    node.sys.suspend("c")
    node.sys.change_code("c", Named)
    node.sys.resume("c")
    assert node.call("c", "!") == "5 so far!"
    assert keeper.seen[2:] == [("changed", 5, "5 so far"), ("changed", "5 so far", "5 so far!")]


def test_a_server_that_changes_in_place_is_shown_after_each_input(start: Any) -> None:
    keeper = Keeper()
    node = start(app(keeper, kind=InPlace))
    node.call("c", "a")
    node.call("c", "b")
    (_, _, state), first, second = keeper.seen
    assert first == second == ("changed", state, state)
    assert first[1] is first[2] is state
    assert state == ["a", "b"]


def test_a_state_machine_is_shown_as_operators_see_it(start: Any) -> None:
    class Door(GenStatem):
        def init(self, args: Any) -> Any:
            return "closed", 0

        def closed(self, event_type: Any, content: Any, data: int) -> Any:
            return NextState(content, data + 1)

        def open(self, event_type: Any, content: Any, data: int) -> Any:
            return KeepState(data + 1)

    keeper = Keeper()
    node = start(app(keeper, kind=Door))
    node.cast("c", "open")
    while len(keeper.seen) < 2:
        node.run_on_loop(lambda: None)
    assert keeper.seen == [("start", "c", ("closed", 0)), ("changed", ("closed", 0), ("open", 1))]


@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
def test_an_observer_that_raises_hurts_neither_the_server_nor_the_others(
    start: Any, tmp_path: Path, journal: bool
) -> None:
    broken, rude, keeper = Broken(), Rude(), Keeper()
    node = start(app(broken, rude, keeper, journal=journal), data=tmp_path)
    assert [node.call("c", 1) for _ in range(3)] == [1, 2, 3]
    assert node.which_child("root", "c").restarts == 0
    node.stop()
    assert broken.seen == [("start", "c", 0), ("changed", 0, 1)]
    assert rude.seen == [("start", "c", 0)]
    assert [each[0] for each in keeper.seen] == ["start", "changed", "changed", "changed", "end"]


def test_the_next_incarnation_has_its_observers_again(start: Any) -> None:
    broken = Broken()
    node = start(app(broken))
    node.call("c", 1)
    with pytest.raises(Crashed):
        node.call("c", "crash")
    node.call("c", 7)
    assert broken.seen == [
        ("start", "c", 0), ("changed", 0, 1), ("start", "c", 0), ("changed", 0, 7),
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("acknowledge", ["disk", "memory"])
def test_of_a_journaled_server_an_observer_sees_what_is_durable(
    seed: int, acknowledge: Any
) -> None:
    """Whatever replies wait for: the input that led to a state is on the disk when it is shown."""
    shown: list[tuple[int, int]] = []

    class Asking(Observer):
        def on_state_changed(self, server: str, old: Any, new: Any) -> None:
            shown.append((new, world.node.journal.commit.durable_lsn))

    tree = app(Asking(), journal=True, acknowledge=acknowledge)
    with Simulator(seed=seed, app=tree, shake=True, disk=SimDisk()) as world:
        world.run(1.0)
        before = world.node.journal.commit.next_lsn
        for _ in range(10):
            world.node.cast("c", 1)
            world.node.run_once()
        world.run_until(lambda: len(shown) == 10)
    assert [state for state, _ in shown] == list(range(1, 11))
    assert [state for state, durable in shown if durable < before + state - 1] == []


def test_after_a_start_an_observer_begins_with_what_was_recovered(
    start: Any, tmp_path: Path
) -> None:
    node = start(app(journal=True), data=tmp_path)
    node.call("c", 41)
    node.stop()
    keeper = Keeper()
    node = start(app(keeper, journal=True), data=tmp_path)
    assert node.call("c", 1) == 42
    assert keeper.seen == [("start", "c", 41), ("changed", 41, 42)]


def test_a_journaled_server_that_changes_in_place_has_no_observers(
    start: Any, tmp_path: Path
) -> None:
    with pytest.raises(StartFailed) as caught:
        start(app(Keeper(), kind=InPlace, journal=True), data=tmp_path)
    assert "pure = True" in str(caught.value)


@pytest.mark.parametrize("observers", [Keeper, [Keeper], [object()], 3, "ab"])
def test_what_is_no_observer_is_refused_at_construction(observers: Any) -> None:
    with pytest.raises(SpecError, match=r"observers=.* is not allowed; use a list of objects"):
        Worker("c", Counter, observers=observers)


def test_a_server_without_observers_has_no_watcher(start: Any) -> None:
    node = start(app())
    assert node.run_on_loop(lambda: node.loop.dispatcher.whereis("c").control) is None


class Equal(Keeper):
    """Like all others of its kind; a comparison that is not of identity may do anything."""

    def __init__(self, *, is_broken: bool) -> None:
        super().__init__()
        self.is_broken = is_broken

    def __eq__(self, other: object) -> bool:
        raise ValueError("ambiguous")

    __hash__ = None  # type: ignore[assignment]

    def on_state_changed(self, server: str, old: Any, new: Any) -> None:
        super().on_state_changed(server, old, new)
        if self.is_broken:
            raise RuntimeError("a broken mirror")


def test_the_observer_that_raises_is_the_one_that_goes(start: Any) -> None:
    sound, broken = Equal(is_broken=False), Equal(is_broken=True)
    node = start(app(sound, broken))
    for number in (1, 2, 3):
        assert node.call("c", 1) == number
    assert (len(sound.seen), len(broken.seen)) == (1 + 3, 1 + 1)


def test_an_observer_that_ends_another_server_and_raises_hurts_nobody(start: Any) -> None:
    """It is called again, by the end that it caused, before it is known to be broken."""

    class Ends(Keeper):
        def on_state_changed(self, server: str, old: Any, new: Any) -> None:
            node.terminate_child("root", "c")
            raise RuntimeError("a broken mirror")

        def on_terminate(self, server: str, reason: object, state: Any) -> None:
            raise RuntimeError("twice")

    tree = [Worker("c", Counter, observers=[Ends()]), Worker("d", Counter)]
    node = start(Application("test", Supervisor("one_for_one", tree, intensity=100)))
    node.cast("c", 1)
    assert node.call("d", 7) == 7


@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
def test_a_release_that_does_not_come_to_count_is_not_shown(
    start: Any, tmp_path: Path, journal: bool
) -> None:
    class Thousands(Counter):
        version = 2

        def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
            return state * 1000

    class Plain(GenServer[Any, Any, Any]):
        def init(self, args: Any) -> Any:
            return 0

    class Odd(Plain):
        version = 2

        def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
            if not journal:
                raise ValueError("no way")
            return object()  # which has no form in a journal

    def release(first: Any, second: Any, version: str) -> Application:
        tree = [
            Worker("c", first, journal=journal, observers=[keeper]),
            Worker("d", second, journal=journal),
        ]
        return Application("test", Supervisor("one_for_one", tree), version=version)

    keeper = Keeper()
    node = start(release(Counter, Plain, "1"), data=tmp_path)
    node.call("c", 2)
    with pytest.raises(UpgradeFailed):
        node.releases.upgrade(Release(release(Thousands, Odd, "2"), upgrades="1"))
    assert node.call("c", 1) == 3
    node.releases.upgrade(Release(release(Thousands, Plain, "3"), upgrades="1"))
    assert node.call("c", 1) == 3001
    node.stop()
    changes = [seen[1:] for seen in keeper.seen if seen[0] == "changed"]
    assert changes == [(0, 2), (2, 3), (3, 3000), (3000, 3001)]


def test_a_server_that_ends_while_its_start_is_shown_is_restarted(start: Any) -> None:
    class Hasty(Keeper):
        def on_start(self, server: str, state: Any) -> None:
            super().on_start(server, state)
            if len(self.seen) == 1:
                with pytest.raises(Crashed):
                    nodes[0].call("c", "crash")

    hasty: Keeper = Hasty()
    nodes: list[Any] = []
    tree = Supervisor("one_for_one", [], intensity=100)
    nodes.append(start(Application("test", tree)))
    nodes[0].start_child("root", Worker("c", Counter, observers=[hasty]))
    while len(hasty.seen) < 3:
        assert nodes[0].stats()
    assert nodes[0].call("c", 1) == 1
    assert [seen[0] for seen in hasty.seen] == ["start", "end", "start", "changed"]

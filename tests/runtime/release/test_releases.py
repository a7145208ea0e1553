"""Releases of a running node: what an upgrade changes, what it leaves, and the way back."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import (
    NO_REPLY,
    Application,
    EventHandler,
    GenEvent,
    GenServer,
    GenStatem,
    Listener,
    Migration,
    Release,
    Supervisor,
    Worker,
    events,
)
from pybehave.actions import Reply, StartTimer
from pybehave.errors import Crashed, SpecError, UpgradeFailed, UpgradeRefused
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.runtime.events import RolledBack, Upgraded
from pybehave.statem import KeepState, NextState
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial, receive

SMALL = Options(segment_bytes=256 * 1024)
URL = "tcp://127.0.0.1:0"


class Counter(GenServer[Any, Any, Any]):
    """Version 1: the state is a number."""

    def init(self, args: Any) -> Any:
        return 0

    def step(self, command: Any, state: Any) -> Any:
        if command == "later":
            return state, NO_REPLY, StartTimer("soon", 60.0, self.context.caller)
        if command == "version":
            return state, b"1"
        return state + 1, b"%d" % (state + 1)


class Counter2(Counter):
    """Version 2: the state is a dict, and it counts by ten."""

    version = 2

    def init(self, args: Any) -> Any:
        return {"count": 0}

    def step(self, command: Any, state: Any) -> Any:
        if command == "version":
            return state, b"2"
        if command == "break":
            raise ValueError("a deliberate bug")
        state["count"] += 10
        return state, b"%d" % state["count"]

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        if old_version == ("down", 1):
            return state["count"]
        assert old_version == 1
        return {"count": state, "extra": extra}


class Raising(Counter2):
    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        state["spoilt"] = True  # in place, and then it fails
        raise ValueError("no way")


class OneWay(Counter2):
    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        return {"count": state}


class NoWay(Counter):
    version = 2


def application(
    kind: Any = Counter, version: str = "1", *, journal: bool = False, url: str = URL, **more: Any
) -> Application:
    more.setdefault("intensity", 1000)
    tree = Supervisor("one_for_one", [Worker("c", kind, journal=journal)], **more)
    return Application(
        "count", tree, version=version, listeners=[Listener(url, Lines("utf-8"), to="c")]
    )


@pytest.fixture(params=[False, True], ids=["memory", "journal"])
def begin(
    request: pytest.FixtureRequest, start: Callable[..., Any], tmp_path: Path
) -> Callable[..., Any]:
    """Start in memory and with a journal; `begin.app` makes applications of that kind."""

    def again(kind: Any = Counter, version: str = "1", **more: Any) -> Any:
        app = application(kind, version, journal=request.param, **more)
        return start(app, data=tmp_path / "data", journal_options=SMALL)

    def newer(kind: Any = Counter2, version: str = "2", **more: Any) -> Application:
        return application(kind, version, journal=request.param, **more)

    again.app = newer  # type: ignore[attr-defined]
    again.is_journaled = request.param  # type: ignore[attr-defined]
    return again


def test_servers_run_the_new_code_with_their_migrated_state(begin: Any) -> None:
    node = begin()
    node.call("c", "up")
    report = node.releases.upgrade(begin.app(), from_version="1", extra="more")
    assert report.servers == ("c",)
    assert node.sys.get_state("c") == {"count": 1, "extra": "more"}
    assert node.call("c", "up") == b"11"
    assert node.which_applications() == [("count", "2", "permanent")]


def test_a_connection_stays_and_its_next_request_meets_the_new_code(begin: Any) -> None:
    node = begin()
    with dial(node) as client:
        client.sendall(b"up\nversion\n")
        assert receive(client, 4) == b"1\n1\n"
        node.releases.upgrade(begin.app(), from_version="1")
        client.sendall(b"up\nversion\n")
        assert receive(client, 5) == b"11\n2\n"


def test_a_restarted_server_runs_the_new_code(begin: Any) -> None:
    node = begin()
    node.releases.upgrade(begin.app(), from_version="1", crashes=10)
    node.call("c", "up")
    with pytest.raises(Crashed):
        node.call("c", "break")
    assert node.call("c", "up") == (b"20" if begin.is_journaled else b"10")


def test_another_version_than_expected_is_refused_and_nothing_changes(begin: Any) -> None:
    node = begin()
    node.call("c", "up")
    with pytest.raises(UpgradeRefused, match="it follows version '7', but '1' runs here"):
        node.releases.upgrade(begin.app(), from_version="7")
    assert node.call("c", "up") == b"2"


def test_a_release_may_follow_all_versions_of_a_pattern(begin: Any) -> None:
    node = begin(version="1.10")
    for upgrades in (re.compile(r"1\.[0-9]"), ["1", re.compile("10")], re.compile("2.*")):
        with pytest.raises(UpgradeRefused, match=r"it follows version (matching|'1' or matching)"):
            node.releases.upgrade(Release(begin.app(), upgrades=upgrades))
    either = Release(begin.app(), upgrades=["0", re.compile(r"1\.[0-9]+")])
    with pytest.raises(UpgradeRefused, match=r"it follows version '1.9', but '1.10' runs here"):
        node.releases.upgrade(either, from_version="1.9")
    assert node.releases.upgrade(either, from_version="1.10").after == "2"


def test_a_release_says_what_versions_may_be() -> None:
    app = application(version="2")
    for wrong in ("2", ["1", "2"], [], None, [re.compile(b"1")], re.compile(b"1")):
        with pytest.raises(SpecError, match="upgrades="):
            Release(app, upgrades=wrong)  # type: ignore[arg-type]


class Machine(GenStatem):
    version = 2

    def init(self, args: Any) -> Any:
        return "counting", 0

    def counting(self, kind: Any, content: Any, data: int) -> Any:
        return KeepState(data + 1, Reply(kind[1], b"%d" % (data + 1)))


class Machine3(Machine):
    version = 3


def test_another_behaviour_wants_a_migration(begin: Any) -> None:
    node = begin()
    node.call("c", "up")
    with pytest.raises(UpgradeRefused, match="Machine a GenStatem: only a Migration"):
        node.releases.upgrade(begin.app(Machine), from_version="1")
    with pytest.raises(TypeError, match="release='2' is not allowed; use a Release or Application"):
        node.releases.upgrade("2")
    way: Migration[int, tuple[str, int]] = Migration(lambda count: ("counting", count))
    node.releases.upgrade(Release(begin.app(Machine), upgrades="1", migrations={"c": way}))
    assert node.call("c", "up") == b"2"


def test_the_same_upgrade_a_second_time_is_refused(begin: Any) -> None:
    node = begin()
    node.releases.upgrade(begin.app(), from_version="1")
    with pytest.raises(UpgradeRefused, match="version '2' runs already"):
        node.releases.upgrade(begin.app(), from_version="1")


def test_a_migration_that_raises_leaves_code_and_state(begin: Any) -> None:
    class Spoiling(GenServer[Any, Any, Any]):
        def init(self, args: Any) -> Any:
            return {"count": 0}

        def step(self, command: Any, state: Any) -> Any:
            state["count"] += 1
            return state, b"%d" % state["count"]

    node = begin(Spoiling)
    node.call("c", "up")
    with pytest.raises(UpgradeFailed, match="migration of server 'c' raised ValueError: no way"):
        node.releases.upgrade(begin.app(Raising), from_version="1")
    assert node.sys.get_state("c") == {"count": 1}
    assert node.call("c", "up") == b"2"
    assert node.sys.get_status("c").mode == "running"


def test_one_that_raises_is_none_for_all(start: Callable[..., Any], tmp_path: Path) -> None:
    def tree(*kinds: Any) -> Supervisor:
        names = enumerate(kinds)
        return Supervisor("one_for_one", [Worker(f"c{i}", kind, journal=True) for i, kind in names])

    node = start(Application("a", tree(Counter, Counter), version="1"), data=tmp_path / "data")
    node.call("c0", "up")
    new = Application("a", tree(Counter2, Raising), version="2")
    with pytest.raises(UpgradeFailed, match="'c1'"):
        node.releases.upgrade(new, from_version="1")
    assert node.call("c0", "up") == b"2"
    assert node.call("c1", "up") == b"1"


def test_a_version_that_nothing_leads_to_is_refused(begin: Any) -> None:
    node = begin()
    with pytest.raises(UpgradeRefused, match="nothing that leads from version 1 to version 2"):
        node.releases.upgrade(begin.app(NoWay), from_version="1")
    assert node.call("c", "up") == b"1"


def test_a_typed_migration_leads_there_and_back(begin: Any) -> None:
    node = begin()
    node.call("c", "up")
    ways: Migration[int, dict[str, int]] = Migration(
        lambda count: {"count": count}, lambda state: state["count"]
    )
    node.releases.upgrade(Release(begin.app(), upgrades="1", migrations={"c": ways}))
    assert node.call("c", "up") == b"11"
    assert node.releases.rollback().after == "1"
    assert node.call("c", "up") == b"12"


def test_a_rollback_keeps_what_the_new_code_has_acknowledged(begin: Any) -> None:
    node = begin()
    node.call("c", "up")
    node.releases.upgrade(begin.app(), from_version="1")
    node.call("c", "up")
    node.releases.rollback()
    assert node.call("c", "up") == b"12"
    assert node.releases.status()["version"] == "1"


def test_too_many_crashes_take_the_release_back(begin: Any) -> None:
    node = begin()
    over = threading.Event()
    node.events.add(lambda event: over.set() if isinstance(event, RolledBack) else None)
    node.releases.upgrade(begin.app(), from_version="1", crashes=2)
    for _ in range(2):
        with pytest.raises(Crashed):
            node.call("c", "break")
    assert over.wait(30)
    assert node.call("c", "version") == b"1"


def test_a_release_is_taken_back_before_its_supervisor_gives_up(begin: Any) -> None:
    node = begin(intensity=1)
    over = threading.Event()
    node.events.add(lambda event: over.set() if isinstance(event, RolledBack) else None)
    node.releases.upgrade(begin.app(intensity=1), from_version="1", crashes=100)
    with pytest.raises(Crashed):
        node.call("c", "break")
    assert over.wait(30)
    assert node.call("c", "version") == b"1"


def test_without_a_way_back_crashes_change_nothing(begin: Any) -> None:
    node = begin()
    migrations = {"c": Migration[Any, Any](lambda count: {"count": count})}
    release = Release(begin.app(), upgrades="1", migrations=migrations)
    assert "no way back" in node.releases.upgrade(release, crashes=1).no_way_back
    with pytest.raises(Crashed):
        node.call("c", "break")
    assert node.call("c", "version") == b"2"
    with pytest.raises(UpgradeRefused, match="no way back"):
        node.releases.rollback()


def test_a_caller_whose_reply_comes_later_gets_it_from_the_new_code(begin: Any) -> None:
    class Later(Counter):
        def init(self, args: Any) -> Any:
            return None

        def handle_call(self, request: Any, caller: Any, state: Any) -> Any:
            if request == "now":
                return None, "done", Reply(state, type(self).__name__)
            return caller, NO_REPLY

    class Later2(Later):
        pass

    node = begin(Later)
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(node.call("c", "wait")))
    thread.start()
    while node.sys.get_status("c").callers == 0:
        threading.Event().wait(0.001)
    node.releases.upgrade(begin.app(Later2), from_version="1")
    node.call("c", "now")
    thread.join()
    assert answers == ["Later2"]


class Slotted(Counter):
    __slots__ = ()


class Bare(GenServer[Any, Any, Any]):
    __slots__ = ()

    def init(self, args: Any) -> Any:
        return 0

    def step(self, command: Any, state: Any) -> Any:
        return state + 1, b"%d" % (state + 1)


class Bare2(Bare):
    __slots__ = ()


@pytest.mark.parametrize(("old", "new"), [(Bare, Bare2), (Bare, Slotted), (Slotted, Bare)])
def test_servers_without_a_dict_change_too(begin: Any, old: Any, new: Any) -> None:
    node = begin(old)
    node.call("c", "up")
    node.releases.upgrade(begin.app(new), from_version="1")
    assert node.call("c", "up") == b"2"


class Noting(Counter):
    """Its instance has more than its init gave it."""

    def init(self, args: Any) -> Any:
        self.kind = type(self).__name__
        return 0

    def step(self, command: Any, state: Any) -> Any:
        self.latest = command
        return state, (self.kind, self.latest)


class Noting2(Noting):
    def step(self, command: Any, state: Any) -> Any:
        return state, (self.kind, self.latest)


def test_what_the_old_instance_had_is_there_but_what_init_sets_counts(begin: Any) -> None:
    node = begin(Noting)
    node.call("c", "one")
    node.releases.upgrade(begin.app(Noting2), from_version="1")
    kind, latest = node.call("c", "two")
    assert latest == "one"
    assert kind == ("Noting2" if begin.is_journaled else "Noting")


def test_an_operators_suspension_outlasts_an_upgrade(begin: Any) -> None:
    node = begin()
    node.sys.suspend("c")
    node.releases.upgrade(begin.app(), from_version="1")
    assert node.sys.get_status("c").mode == "suspended"


def test_a_new_child_is_there_and_stopped(begin: Any) -> None:
    node = begin()
    app = begin.app()
    more = Application(
        "count",
        app.tree.with_children(Worker("d", Counter)),
        version="2",
        listeners=app.listeners,
    )
    report = node.releases.upgrade(more, from_version="1")
    assert report.added == ("root/d",)
    assert node.whereis("d") is None
    node.restart_child("root", "d")
    assert node.call("d", "up") == b"1"


def test_an_upgrade_that_fails_takes_new_children_away_again(begin: Any) -> None:
    class Unkept(Counter2):
        def dump(self, state: Any) -> Any:
            raise ValueError("cannot be kept")

    if not begin.is_journaled:
        return
    node = begin()
    app = begin.app(Unkept)
    more = Application(
        "count",
        app.tree.with_children(Worker("d", Counter)),
        version="2",
        listeners=app.listeners,
    )
    with pytest.raises(UpgradeFailed):
        node.releases.upgrade(more, from_version="1")
    assert [child.id for child in node.which_children("root")] == ["c"]


def test_other_listeners_are_refused(begin: Any) -> None:
    node = begin()
    app = begin.app()
    other = Application("count", app.tree, version="2")
    with pytest.raises(UpgradeRefused, match="its listeners are others"):
        node.releases.upgrade(other, from_version="1")


def test_hooks_hear_of_an_upgrade(begin: Any) -> None:
    node = begin()
    heard: list[Any] = []
    node.events.add(heard.append)
    node.releases.upgrade(begin.app(), from_version="1")
    found = [event for event in heard if isinstance(event, Upgraded)]
    assert [(event.before, event.after, event.servers) for event in found] == [("1", "2", ("c",))]


class Door(GenStatem):
    def init(self, args: Any) -> Any:
        return "shut", 0

    def shut(self, kind: Any, content: Any, data: int) -> Any:
        return NextState("open", data + 1, Reply(kind[1], data + 1))

    def open(self, kind: Any, content: Any, data: int) -> Any:
        return NextState("shut", data, Reply(kind[1], data))


class Door2(Door):
    version = 2

    def code_change(self, old_version: Any, state: Any, data: Any, extra: Any) -> Any:
        return state, data + 100


class DoorWithout(GenStatem):
    """The state in which the old one is has no method here."""

    def init(self, args: Any) -> Any:
        return "closed", 0

    def closed(self, kind: Any, content: Any, data: int) -> Any:
        return NextState("closed", data, Reply(kind[1], data))


def test_a_state_machine_gets_new_data_and_stays_where_it_is(begin: Any) -> None:
    node = begin(Door)
    node.call("c", "push")
    node.releases.upgrade(begin.app(Door2), from_version="1")
    assert node.sys.get_state("c") == ("open", 101)
    assert node.call("c", "push") == 101


def test_a_state_that_the_new_machine_does_not_know_is_refused(begin: Any) -> None:
    node = begin(Door)
    with pytest.raises(UpgradeFailed, match="DoorWithout has no method of that name"):
        node.releases.upgrade(begin.app(DoorWithout), from_version="1")
    assert node.call("c", "push") == 1


class Sum(EventHandler):
    def init(self, args: Any) -> Any:
        return 0

    def handle_event(self, event: Any, state: Any) -> Any:
        return state + event

    def handle_call(self, request: Any, state: Any) -> Any:
        return state, state

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        return state + extra


class Bus(GenEvent):
    pass


class Bus2(GenEvent):
    pass


def test_every_handler_of_a_manager_is_asked(begin: Any) -> None:
    node = begin(Bus)
    node.call("c", events.add_handler(Sum))
    node.call("c", events.sync_notify(1))
    node.releases.upgrade(begin.app(Bus2), from_version="1", extra=100)
    node.call("c", events.sync_notify(1))
    assert node.call("c", events.call(Sum, "sum")) == 102


def test_one_suspended_server_gets_other_code(begin: Any) -> None:
    node = begin()
    node.call("c", "up")
    with pytest.raises(UpgradeRefused, match="it is not suspended"):
        node.sys.change_code("c", Counter2)
    node.sys.suspend("c")
    node.sys.change_code("c", Counter2, "more")
    assert node.sys.get_status("c").mode == "suspended"
    node.sys.resume("c")
    assert node.call("c", "up") == b"11"
    node.restart("root", "c")
    assert node.call("c", "version") == b"2"


@pytest.mark.parametrize(("old", "new"), [(Counter, Machine), (Machine, Counter2)])
def test_one_server_does_not_become_another_behaviour(begin: Any, old: Any, new: Any) -> None:
    """It was told to give a release a Migration, and had no release."""
    node = begin(old)
    node.call("c", "up")
    node.sys.suspend("c")
    only = "only a Migration leads from one to the other, and only a Release has Migrations"
    with pytest.raises(UpgradeRefused, match=rf"other code of 'c': .* {only}"):
        node.sys.change_code("c", new)
    assert node.sys.get_status("c").mode == "suspended"
    node.sys.resume("c")
    assert node.call("c", "up") == b"2"


def test_a_machine_that_nothing_leads_to_is_refused_before_it_is_touched(begin: Any) -> None:
    """Every machine seemed to have an upcast_state: the upgrade failed in the middle of it."""
    node = begin(Machine)
    with pytest.raises(UpgradeRefused, match="define code_change, or upgrade to a Release"):
        node.releases.upgrade(begin.app(Machine3), from_version="1")
    node.call("c", "up")


def test_one_server_whose_code_change_raises_is_suspended_as_before(begin: Any) -> None:
    node = begin()
    node.sys.suspend("c")
    with pytest.raises(UpgradeFailed):
        node.sys.change_code("c", Raising)
    assert node.sys.get_status("c").mode == "suspended"
    node.sys.resume("c")
    assert node.call("c", "up") == b"1"


@pytest.mark.parametrize("is_journaled", [False, True])
def test_in_the_simulator_too(is_journaled: bool) -> None:
    disk = SimDisk(1) if is_journaled else None
    with Simulator(1, application(journal=is_journaled), disk=disk, journal_options=SMALL) as sim:
        sim.node.call("c", "up")
        new = application(Counter2, "2", journal=is_journaled)
        sim.node.releases.upgrade(new, from_version="1")
        assert sim.node.call("c", "up") == b"11"

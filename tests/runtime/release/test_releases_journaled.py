"""Releases and the journal: the boundary is one moment, wherever the power goes."""

from __future__ import annotations

import contextlib
import errno
import gc
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Release, Supervisor, Worker
from pybehave.actions import Hibernate
from pybehave.errors import (
    DurabilityLost,
    JournalFull,
    JournalRefused,
    LoopClosed,
    UpgradeFailed,
    UpgradeRefused,
)
from pybehave.journal.recovery import Options
from pybehave.journal.verify import verify
from pybehave.runtime.release import upgrade
from pybehave.runtime.release.specs import Wish
from pybehave.runtime.release.upgrade import SMALL_BYTES, Phase
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.disks import write_down
from tests.runtime.release.test_releases import SMALL, Counter, Counter2, application

ADDRESS = "tcp://127.0.0.1:7000"


def test_the_boundary_holds_across_a_start(start: Callable[..., Any], tmp_path: Path) -> None:
    node = start(application(journal=True), data=tmp_path / "d", journal_options=SMALL)
    for _ in range(5):
        node.call("c", "up")
    node.releases.upgrade(application(Counter2, "2", journal=True), from_version="1")
    node.call("c", "up")
    node.stop()
    # There is no upcast: the new code never meets the old inputs.
    node = start(
        application(Counter2, "2", journal=True), data=tmp_path / "d", journal_options=SMALL
    )
    assert node.call("c", "up") == b"25"


def test_a_rollback_is_a_boundary_too(start: Callable[..., Any], tmp_path: Path) -> None:
    node = start(application(journal=True), data=tmp_path / "d", journal_options=SMALL)
    node.call("c", "up")
    node.releases.upgrade(application(Counter2, "2", journal=True), from_version="1")
    node.call("c", "up")
    node.releases.rollback()
    node.call("c", "up")
    node.stop()
    node = start(application(journal=True), data=tmp_path / "d", journal_options=SMALL)
    assert node.call("c", "up") == b"13"


class Gambler(GenServer[list[float], Any, Any]):
    """Its init draws, too, but keeps nothing of that."""

    def init(self, args: Any) -> list[float]:
        self.context.random.random()
        return []

    def step(self, command: Any, state: list[float]) -> Any:
        state.append(self.context.random.random())
        return state, state[-1]


class Gambler2(Gambler):
    version = 2

    def code_change(self, old_version: Any, state: list[float], extra: Any) -> list[float]:
        return [*state, self.context.random.random()]


class Hoarder(Gambler):
    """Keeps what it draws from."""

    def init(self, args: Any) -> list[float]:
        self.dice = self.context.random
        self.dice.random()
        return []

    def step(self, command: Any, state: list[float]) -> Any:
        state.append(self.dice.random())
        return state, state[-1]


class Hoarder2(Hoarder):
    version = 2

    def code_change(self, old_version: Any, state: list[float], extra: Any) -> list[float]:
        return [*state, self.dice.random()]


@pytest.mark.parametrize(("older", "newer"), [(Gambler, Gambler2), (Hoarder, Hoarder2)])
@pytest.mark.parametrize("draws", [0, 1, 3])
def test_a_server_goes_on_drawing_where_it_was(
    start: Callable[..., Any], tmp_path: Path, draws: int, older: Any, newer: Any
) -> None:
    """The next start drew anew behind the boundary, and refused: the outcomes were others."""
    node = start(application(older, journal=True), data=tmp_path / "d", journal_options=SMALL)
    for _ in range(draws):
        node.call("c", "draw")
    newer = application(newer, "2", journal=True)
    node.releases.upgrade(newer, from_version="1")
    node.call("c", "draw")
    drawn = node.get_state("c")
    assert len(set(drawn)) == draws + 2
    node.stop()
    node = start(newer, data=tmp_path / "d", journal_options=SMALL)
    assert node.get_state("c") == drawn
    assert node.call("c", "draw") not in drawn


class RaisesAtTheStart(Gambler2):
    def init(self, args: Any) -> list[float]:
        super().init(args)
        raise RuntimeError("not now")


class RaisesInTheMigration(Gambler2):
    def code_change(self, old_version: Any, state: list[float], extra: Any) -> list[float]:
        super().code_change(old_version, state, extra)
        raise RuntimeError("not now")


@pytest.mark.parametrize("newer", [RaisesAtTheStart, RaisesInTheMigration])
@pytest.mark.parametrize("draws", [0, 1, 3])
def test_what_a_failed_upgrade_has_drawn_is_drawn_again(
    start: Callable[..., Any], tmp_path: Path, newer: Any, draws: int
) -> None:
    """The running server went on behind what the new code had drawn; no record tells of that."""
    app = application(Gambler, journal=True)
    node = start(app, data=tmp_path / "d", journal_options=SMALL)
    for _ in range(draws):
        node.call("c", "draw")
    with pytest.raises(UpgradeFailed, match="not now"):
        node.releases.upgrade(application(newer, "2", journal=True), from_version="1")
    node.call("c", "draw")
    drawn = node.get_state("c")
    node.stop()
    node = start(app, data=tmp_path / "d", journal_options=SMALL)
    assert node.get_state("c") == drawn
    assert node.call("c", "draw") not in drawn


def wished() -> Wish:
    return Wish(Release(application(Counter2, "2", journal=True, url=ADDRESS), upgrades="1"), [])


def world(seed: int, disk: SimDisk, kind: Any, version: str) -> Simulator:
    app = application(kind, version, journal=True, url=ADDRESS)
    return Simulator(seed, app, disk=disk, journal_options=SMALL).start()


@pytest.mark.parametrize("seed", range(60))
def test_a_power_cut_in_the_middle_finds_the_one_release_or_the_other(seed: int) -> None:
    """And everything that was acknowledged; neither code has an upcast."""
    dice = random.Random(seed)
    sim = world(seed, SimDisk(seed), Counter, "1")
    client = sim.connect(ADDRESS)
    client.send(b"up\n" * 5)
    sim.run_until(lambda: client.received.count(b"\n") == 5)
    wish = wished()
    sim.node.releases.begin(wish, lambda report, error: None)
    for _ in range(dice.randrange(40)):  # of about twenty completions
        client.send(b"up\n")
        sim.tick(sim.now + 0.00002)
    acknowledged = [int(each) for each in bytes(client.received).split()]
    disk = sim.lose_power(dice)
    try:
        sim = world(seed, disk, Counter, "1")
        assert acknowledged == list(range(1, len(acknowledged) + 1))
        assert sim.node.sys.get_state("c") >= acknowledged[-1]
    except JournalRefused as error:
        assert "start the newer code" in str(error)
        sim = world(seed, disk, Counter2, "2")
        assert sim.node.sys.get_state("c")["count"] >= acknowledged[-1]
    sim.stop()


def test_the_power_cuts_find_both() -> None:
    """Otherwise the test above says little: a cut at once, and one at the end."""
    for ticks, version in ((0.0, "1"), (1.0, "2")):
        sim = world(7, SimDisk(7), Counter, "1")
        wish = wished()
        sim.node.releases.begin(wish, lambda report, error: None)
        sim.run(ticks)
        disk = sim.lose_power(random.Random(7))
        kind = Counter if version == "1" else Counter2
        world(7, disk, kind, version).stop()


def test_a_kill_in_the_middle_finds_a_snapshot_though_nothing_came_since_the_last(
    tmp_path: Path,
) -> None:
    """The new one had taken the file of the one that the manifest named, and nothing older was
    left: no start could read the journal.
    """
    tiny = Options(segment_bytes=64 << 10)
    disk = SimDisk(1)
    apps = [
        application(kind, version, journal=True, url=ADDRESS)
        for kind, version in ((Counter, "1"), (Counter2, "2"))
    ]
    found, done = [disk.copy()], []
    with Simulator(1, apps[0], disk=disk, journal_options=tiny) as sim:
        for _ in range(60):
            sim.node.call("c", "up")
        for _ in range(3):
            assert sim.node.journal.snapshots.take()
            sim.run(1.0)
        assert sim.node.journal.segment_starts[0][1] > 1
        sim.node.releases.begin(wished(), lambda *answer: done.append(answer))
        while not done:
            sim.tick(sim.now + 0.00002)
            found.append(disk.copy())
    for number, left in enumerate(found[1:]):
        write_down(left, tmp_path / str(number))
        assert verify(str(tmp_path / str(number))).problems == []
        with contextlib.suppress(JournalRefused):  # of the newer code
            Simulator(1, apps[0], disk=left.copy(), journal_options=tiny).start().stop()
            continue
        with Simulator(1, apps[1], disk=left, journal_options=tiny) as sim:
            assert sim.node.get_state("c")["count"] >= 60


def until_writing(sim: Simulator) -> None:
    """The new code is in place, and the snapshot at the boundary is under way."""
    while sim.node.releases.under_way.phase is not Phase.WRITING:
        sim.tick(sim.now + 0.00002)


@contextlib.contextmanager
def two_writing(answers: list[Any]) -> Iterator[Simulator]:
    """Two servers, which have had an input each, whose upgrade is just being written."""
    tree = Supervisor("one_for_one", [Worker(each, Counter, journal=True) for each in "cd"])
    new = Supervisor("one_for_one", [Worker(each, Counter2, journal=True) for each in "cd"])
    sim = Simulator(3, Application("a", tree, version="1"), disk=SimDisk(3), journal_options=SMALL)
    with sim:
        for name in "cd":
            sim.node.call(name, "up")
        wish = Wish(Release(Application("a", new, version="2"), upgrades="1"), [])
        sim.node.releases.begin(wish, lambda *answer: answers.append(answer))
        until_writing(sim)
        assert answers == []
        yield sim


def test_a_server_that_ends_meanwhile_ends_the_upgrade() -> None:
    """Suspended, with the snapshot under way, it is told to stop: all goes on as before."""
    answers: list[Any] = []
    with two_writing(answers) as sim:
        sim.node.terminate_child("root", "d")
        assert "in the middle of it" in str(answers[0][1])
        assert sim.node.call("c", "up") == b"2"
        sim.node.restart_child("root", "d")
        assert sim.node.call("d", "up") == b"2"
        sim.run(1.0)
        assert sim.node.call("c", "version") == b"1"


@pytest.fixture
def writing() -> Iterator[Simulator]:
    """A node whose upgrade is just being written: nothing is decided."""
    sim = world(4, SimDisk(4), Counter, "1")
    assert sim.node.call("c", "up") == b"1"
    sim.node.releases.begin(wished(), lambda report, error: None)
    until_writing(sim)
    yield sim
    sim.stop()


def test_a_server_is_held_until_it_is_decided_which_code_it_runs(writing: Simulator) -> None:
    """A resume let it step new code; giving the upgrade up then took that back."""
    node = writing.node
    node.sys.suspend("c")
    node.sys.resume("c")
    with pytest.raises(UpgradeRefused, match="is just being changed; try again"):
        node.sys.replace_state("c", lambda state: state)
    node.cast("c", "up")
    assert node.sys.get_status("c").mode == "suspended"
    node.releases.under_way.give_up(UpgradeRefused("it", "a test"))
    writing.run(1.0)
    assert node.call("c", "up") == b"3"
    assert node.call("c", "version") == b"1"


def test_a_server_that_is_suspended_meanwhile_stays_so(writing: Simulator) -> None:
    node = writing.node
    node.sys.suspend("c")
    writing.run(1.0)
    assert node.sys.get_status("c").mode == "suspended"
    node.sys.resume("c")
    assert node.call("c", "version") == b"2"


def test_a_server_that_is_told_to_end_meanwhile_ends_the_upgrade() -> None:
    """Nobody said so before it was gone; its next start undid the upgrade, and failed on it."""
    answers: list[Any] = []
    with two_writing(answers) as sim:
        sim.node.sys.terminate("d")
        assert "in the middle of it" in str(answers[0][1])
        sim.run(1.0)
        assert sim.node.call("d", "up") == b"2"
        assert sim.node.call("d", "version") == b"1"


@pytest.mark.parametrize("is_started_again", [False, True])
def test_a_server_that_ends_while_new_code_is_made_ready_is_migrated_as_it_is_then(
    is_started_again: bool,
) -> None:
    tree = Supervisor("one_for_one", [Worker(each, Counter, journal=True) for each in "cd"])
    new = Supervisor("one_for_one", [Worker(each, Counter2, journal=True) for each in "cd"])
    sim = Simulator(3, Application("a", tree, version="1"), disk=SimDisk(3), journal_options=SMALL)
    with sim:
        sim.node.call("d", "up")
        answers: list[Any] = []
        wish = Wish(Release(Application("a", new, version="2"), upgrades="1"), [])
        sim.node.releases.begin(wish, lambda *answer: answers.append(answer))
        sim.node.terminate_child("root", "d")
        if is_started_again:
            sim.node.restart_child("root", "d")
        sim.run(1.0)
        assert answers[0][0].servers == (("c", "d") if is_started_again else ("c",))
        if not is_started_again:
            sim.node.restart_child("root", "d")
        assert sim.node.call("d", "up") == b"11"


def test_a_child_that_starts_while_new_code_is_made_ready_gets_it_too() -> None:
    tree = Supervisor("simple_one_for_one", [Worker("c", Counter, journal=True)], id="all")
    new = Supervisor("simple_one_for_one", [Worker("c", Counter2, journal=True)], id="all")
    sim = Simulator(3, Application("a", tree, version="1"), disk=SimDisk(3), journal_options=SMALL)
    with sim:
        sim.node.start_child("all", [], name="c1")
        answers: list[Any] = []
        wish = Wish(Release(Application("a", new, version="2"), upgrades="1"), [])
        sim.node.releases.begin(wish, lambda *answer: answers.append(answer))
        sim.node.start_child("all", [], name="c2")
        sim.run(1.0)
        assert answers[0][0].servers == ("c1", "c2")
        assert [sim.node.call(each, "up") for each in ("c1", "c2")] == [b"10", b"10"]


def test_new_code_is_made_ready_in_as_many_turns_as_it_takes(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "READY_S", -1.0)  # one a turn
    names = [f"c{number}" for number in range(5)]

    def app(kind: Any, version: str) -> Application:
        workers = [Worker(name, kind, journal=True) for name in names]
        return Application("a", Supervisor("one_for_one", workers), version=version)

    node = start(app(Counter, "1"), data=tmp_path / "d", journal_options=SMALL)
    report = node.releases.upgrade(app(Counter2, "2"), from_version="1")
    assert report.servers == tuple(names)
    assert [node.call(name, "up") for name in names] == [b"10"] * 5


class Unready(Counter2):
    def init(self, args: Any) -> Any:
        raise ValueError("not here")


def test_an_init_that_raises_in_a_later_turn_changes_nothing(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "READY_S", -1.0)

    def app(version: str, *kinds: Any) -> Application:
        workers = [Worker(f"c{at}", kind, journal=True) for at, kind in enumerate(kinds)]
        return Application("a", Supervisor("one_for_one", workers), version=version)

    node = start(app("1", Counter, Counter), data=tmp_path / "d", journal_options=SMALL)
    with pytest.raises(UpgradeFailed, match="'c1' raised ValueError: not here"):
        node.releases.upgrade(app("2", Counter2, Unready), from_version="1")
    assert [node.call(name, "up") for name in ("c0", "c1")] == [b"1", b"1"]
    node.releases.upgrade(app("2", Counter2, Counter2), from_version="1")


class Littering(Counter2):
    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        before = [each["collections"] for each in gc.get_stats()]
        kept = [[number] for number in range(50_000)]
        assert [each["collections"] for each in gc.get_stats()] == before
        if extra:
            raise ValueError(len(kept))
        return {"count": state}


def test_who_has_frozen_objects_on_purpose_keeps_them_frozen(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(application(journal=True), data=tmp_path / "d", journal_options=SMALL)
    gc.freeze()
    try:
        node.releases.upgrade(application(Counter2, "2", journal=True), from_version="1")
        assert gc.isenabled()
        assert gc.get_freeze_count() > upgrade.FROZEN_BY_PYTHON
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("is_failing", [False, True])
def test_no_migration_waits_for_a_collection_of_garbage(
    start: Callable[..., Any], tmp_path: Path, is_failing: bool
) -> None:
    node = start(application(journal=True), data=tmp_path / "d", journal_options=SMALL)
    app = application(Littering, "2", journal=True)
    if is_failing:
        with pytest.raises(UpgradeFailed, match="50000"):
            node.releases.upgrade(app, from_version="1", extra="fail")
    else:
        node.releases.upgrade(app, from_version="1")
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


class Many(Counter):
    def init(self, args: Any) -> Any:
        return dict.fromkeys(range(args), 0)

    def step(self, command: Any, state: Any) -> Any:
        state[command] += 1
        return state, state[command]


class Many2(Many):
    version = 2

    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        for key in state:
            state[key] = b"" * 100 if extra else b"x" * 100  # in place
        if extra:
            raise ValueError("half way")
        return dict.fromkeys(state, 10)


@pytest.mark.parametrize("keys", [10, SMALL_BYTES // 4])
def test_states_of_any_size_change_or_stay(
    start: Callable[..., Any], tmp_path: Path, keys: int
) -> None:
    """Small ones are encoded on the loop, others in a fork's child."""

    def many(kind: Any, version: str) -> Application:
        tree = Supervisor("one_for_one", [Worker("m", kind, keys, journal=True)])
        return Application("many", tree, version=version)

    node = start(many(Many, "1"), data=tmp_path / "d")
    assert node.call("m", 3) == 1
    with pytest.raises(UpgradeFailed, match="half way"):
        node.releases.upgrade(many(Many2, "2"), from_version="1", extra="fail")
    assert node.call("m", 3) == 2
    node.releases.upgrade(many(Many2, "2"), from_version="1")
    assert node.call("m", 3) == 11
    node.stop()
    node = start(many(Many2, "2"), data=tmp_path / "d")
    assert node.call("m", 3) == 12


def test_what_is_given_up_while_new_code_is_made_ready_has_changed_nothing() -> None:
    sim = world(5, SimDisk(5), Counter, "1")
    sim.node.call("c", "up")
    answers: list[Any] = []
    sim.node.releases.begin(wished(), lambda *answer: answers.append(answer))
    sim.node.releases.close()  # as when the node stops
    assert "stopped before its release had changed" in str(answers[0][1])
    sim.run(1.0)
    assert len(answers) == 1
    assert sim.node.call("c", "version") == b"1"
    assert sim.node.call("c", "up") == b"2"
    sim.stop()


def test_a_stopped_servers_state_is_migrated_too() -> None:
    sim = Simulator(4, application(journal=True), disk=SimDisk(4), journal_options=SMALL)
    with sim:
        sim.node.call("c", "up")
        sim.node.terminate_child("root", "c")
        new = application(Counter2, "2", journal=True)
        assert sim.node.releases.upgrade(new, from_version="1").servers == ()
        sim.node.restart_child("root", "c")
        assert sim.node.call("c", "up") == b"11"


class Dozing(Counter):
    def step(self, command: Any, state: Any) -> Any:
        return *super().step(command, state), Hibernate()


class Dozing2(Counter2):
    def step(self, command: Any, state: Any) -> Any:
        return *super().step(command, state), Hibernate()


class Refusing(Dozing2):
    def code_change(self, old_version: Any, state: Any, extra: Any) -> Any:
        raise ValueError("no way")


def test_a_server_that_hibernates_is_migrated_too_or_stays_as_it_was(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(application(Dozing, journal=True), data=tmp_path / "d", journal_options=SMALL)
    assert node.call("c", "up") == b"1"
    with pytest.raises(UpgradeFailed):
        node.releases.upgrade(application(Refusing, "2", journal=True), from_version="1")
    assert node.call("c", "up") == b"2"
    node.releases.upgrade(application(Dozing2, "2", journal=True), from_version="1")
    assert [node.call("c", "up") for _ in range(2)] == [b"12", b"22"]
    node.stop()
    node = start(
        application(Dozing2, "2", journal=True), data=tmp_path / "d", journal_options=SMALL
    )
    assert node.call("c", "up") == b"32"


@pytest.mark.parametrize("at", range(1, 5))
def test_a_disk_that_is_full_at_the_boundary_leaves_all_as_it_was(at: int) -> None:
    """Whichever write of it fails: the node serves the old release, and can be upgraded later."""
    disk = SimDisk(at)
    sim = world(1, disk, Counter, "1")
    client = sim.connect(ADDRESS)
    client.send(b"up\n" * 5)
    sim.run_until(lambda: client.received.count(b"\n") == 5)
    answers: list[Any] = []
    disk.fail(errno.ENOSPC, kinds=("put",), at=at)
    sim.node.releases.begin(wished(), lambda *answer: answers.append(answer))
    sim.run_until(lambda: bool(answers))
    disk.heal()
    _, error = answers[0]
    client.send(b"up\n")
    sim.run_until(lambda: client.received.count(b"\n") == 6)
    if error is None:  # so many writes there were not
        assert bytes(client.received).split()[-1] == b"15"
        assert disk.failures == 0
    else:
        assert "No space left" in str(error)
        assert (sim.node.app.version, bytes(client.received).split()[-1]) == ("1", b"6")
        sim.node.releases.begin(wished(), lambda *answer: answers.append(answer))
        sim.run_until(lambda: len(answers) == 2)
        assert answers[1][1] is None
        assert sim.node.app.version == "2"
    sim.stop()


@pytest.mark.parametrize("at", range(1, 5))
def test_a_journal_that_fails_in_the_middle_is_told_to_who_waits(at: int) -> None:
    """Once the snapshot was written, and the manifest was not, nobody was told any more."""
    disk = SimDisk(at)
    sim = world(1, disk, Counter, "1")
    assert sim.node.call("c", "up") == b"1"
    disk.fail(errno.EIO, kinds=("write",), at=at, is_forever=True)
    newer = application(Counter2, "2", journal=True, url=ADDRESS)
    try:
        sim.node.releases.upgrade(newer, from_version="1")
    except DurabilityLost:
        assert disk.failures
    else:
        assert not disk.failures
    assert sim.node.releases.under_way is None


def test_a_node_that_ends_while_the_manifest_is_written_tells_who_waits() -> None:
    answers: list[Any] = []
    with two_writing(answers) as sim:
        while sim.node.releases.under_way.phase is not Phase.NAMING:
            sim.tick(sim.now + 0.00002)
        assert answers == []
        sim.node.releases.close()
        assert isinstance(answers[0][1], LoopClosed)
        sim.run(1.0)
    assert len(answers) == 1


def test_a_journal_that_cannot_grow_behind_its_snapshot_leaves_all_as_it_was() -> None:
    disk, options = SimDisk(1), Options(segment_bytes=64 << 10)
    app = application(journal=True, url=ADDRESS)
    answers: list[Any] = []
    with Simulator(1, app, disk=disk, journal_options=options) as sim:
        sim.run(1.0)
        disk.fail(errno.ENOSPC, kinds=("fill",), is_forever=True)  # of segments
        with pytest.raises(JournalFull):
            for _ in range(100):
                sim.node.call("c", "up")
        assert sim.node.journal.snapshots.take()
        sim.run(0.5)
        sim.node.releases.begin(wished(), lambda *answer: answers.append(answer))
        sim.run(0.5)
        assert isinstance(answers[0][1], UpgradeFailed)
        assert isinstance(answers[0][1].reason, JournalFull)
        disk.heal()
        sim.run(10.0)
        count = sim.node.get_state("c")
        assert sim.node.call("c", "up") == b"%d" % (count + 1)

"""A journal that is followed while another node writes it, and then taken over (standby.py)."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave._uring import blocks
from pybehave.actions import Cast, Continue
from pybehave.errors import CodeRefused, JournalRefused, NonDeterminism, SpecError
from pybehave.journal import recovery
from pybehave.journal.attempts import ATTEMPTS
from pybehave.journal.closed import Closed
from pybehave.journal.disk import BLOCK, FolderDisk
from pybehave.journal.recovery import Options
from pybehave.journal.segment_files import segment_name
from pybehave.journal.verify import verify
from pybehave.runtime.durable import snapshots, spares, standby
from pybehave.runtime.durable.standby import PIECE_BYTES, Standby, Unhurried
from pybehave.runtime.node import Node
from tests.conftest import until

SMALL = Options(segment_bytes=64 << 10)


class Ledger(GenServer[list[Any], Any, Any]):
    """Keeps what it is told, with a random number to each; counts what is stepped anywhere."""

    steps = 0

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        Ledger.steps += 1
        state.append((command, self.context.random.random()))
        more = [Cast("other", command)] if self.context.caller is not None else []
        return state, len(state), [*more, Continue("seen")]

    def handle_continue(self, term: Any, state: list[Any]) -> Any:
        state.append(term)
        return state, None


def application(kind: Any = Ledger) -> Application:
    names = ("ledger", "other", "gone")
    tree = [Worker(name, kind, journal=True) for name in names]
    return Application("t", Supervisor("one_for_one", tree, id="root", intensity=100))


class Follower:
    """A node that is to replace another one: made, and not started."""

    def __init__(self, data: Path, source: str, kind: Any = Ledger) -> None:
        self.node = Node(application(kind), data=data, journal_options=SMALL, backend=source)
        assert self.node.journal is not None
        self.journal = self.node.journal
        self.journal.standby = self.standby = Standby(self.journal)

    def take_over(self, before: Any) -> dict[str, Any]:
        """The other one has stopped, and said where the journal ends; returns the states."""
        said = msgspec.to_builtins(before.journal.closed)
        self.journal.before = msgspec.convert(said, Closed)
        self.node.start()
        return states_of(self.node)

    @property
    def ahead(self) -> int:
        """Up to which lsn it had stepped what it counts on."""
        assert self.journal.recovery is not None
        return self.journal.recovery.report.ahead


def states_of(node: Any) -> dict[str, Any]:
    return {name: node.get_state(name) for name in sorted(node.names())}


@pytest.fixture
def follower(tmp_path: Path, source: str) -> Iterator[Callable[..., Follower]]:
    made: list[Follower] = []

    def make(kind: Any = Ledger) -> Follower:
        made.append(Follower(tmp_path / "d", source, kind))
        return made[-1]

    yield make
    for each in made:
        each.node.stop(drain=False)


Ended: TypeAlias = Callable[[Any], dict[str, Any]]


@pytest.fixture
def served(start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A node that takes no snapshot by itself: a segment that goes is a reason to begin anew."""
    monkeypatch.setattr(snapshots, "SNAPSHOT_SEGMENTS", 1000)
    monkeypatch.setattr(snapshots, "LAST_SNAPSHOT_SEGMENTS", 1000)
    return start(application(), data=tmp_path / "d", journal_options=SMALL)


@pytest.fixture
def ended(start: Callable[..., Any], tmp_path: Path) -> Ended:
    """Stop a node; returns the states that any start finds then."""
    copies = itertools.count()

    def end(node: Any) -> dict[str, Any]:
        node.stop()
        copy = tmp_path / "copies" / str(next(copies))
        shutil.copytree(node.journal.disk.path, copy)
        plain = start(application(), data=copy, journal_options=SMALL)
        assert plain.journal.recovery.report.ahead == 0
        states = states_of(plain)
        plain.stop()
        assert verify(node.journal.disk.path).problems == []
        return states

    return end


def fill(node: Any, count: int) -> None:
    for number in range(count):
        node.call(("ledger", "other", "gone")[number % 3], ("x" * 900, number))


def test_only_what_came_since_is_stepped_when_clients_wait(
    served: Any, follower: Callable[..., Follower], ended: Ended
) -> None:
    fill(served, 300)
    new = follower()
    new.standby.follow()
    assert new.standby.lsn > 300
    for number in range(5):
        served.call("ledger", number)
    live = ended(served)
    Ledger.steps = 0
    assert new.take_over(served) == live
    assert new.ahead == new.standby.lsn
    assert new.standby.ahead is None  # what was read is let go
    assert Ledger.steps == 10  # with what was sent to the other one
    new.node.call("ledger", "on")
    new.node.call("other", "behind what that has sent")
    live = states_of(new.node)
    assert ended(new.node) == live


def test_who_was_awaited_has_a_spare_before_it_is_needed(
    served: Any, follower: Callable[..., Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It left the disk to its clients for a second, and they waited for it when it was full."""
    monkeypatch.setattr(spares, "AWAITED_S", 1e9)
    new = follower()
    new.standby.follow()
    served.stop()
    new.take_over(served)
    commit = new.journal.commit
    assert new.node.run_on_loop(lambda: commit.wants_spare)
    segment = commit.current_segment
    fill(new.node, 4)
    assert commit.current_segment == segment
    until(new.node, lambda: not commit.wants_spare)


def test_nothing_is_written_while_another_has_the_journal(
    served: Any, tmp_path: Path, follower: Callable[..., Follower]
) -> None:
    """(B1), not even the marker of what is stepped."""
    fill(served, 200)
    served.stop()
    before = {each: each.read_bytes() for each in (tmp_path / "d").iterdir() if each.is_file()}
    new = follower()
    new.standby.follow()
    assert new.standby.lsn
    assert {
        each: each.read_bytes() for each in (tmp_path / "d").iterdir() if each.is_file()
    } == before


@pytest.mark.parametrize("what", ["forget", "reset", "nothing said", "snapshot", "attempts"])
def test_what_does_not_count_is_stepped_anew(
    served: Any,
    tmp_path: Path,
    follower: Callable[..., Follower],
    ended: Ended,
    what: str,
) -> None:
    """(B2)"""
    fill(served, 150)
    new = follower()
    if what == "attempts":
        counted = b'[{"kind":1,"server":1,"key":3,"attempts":1}]'
        (tmp_path / "d" / ATTEMPTS).write_bytes(counted)
    new.standby.follow()
    fill(served, 6)
    if what == "forget":
        served.terminate_child("root", "gone")
        served.forget("gone")
    elif what == "reset":
        served.reset("gone", confirm=True)
        served.call("gone", "anew")
    elif what == "snapshot":  # that counts: the segments behind the standby are all there
        served.run_on_loop(served.journal.snapshots.take)
        until(served, lambda: served.journal.snapshots.taken == 1)
        fill(served, 6)
    live = ended(served)
    if what == "nothing said":
        new.node.start()
        assert states_of(new.node) == live
    elif what == "forget":
        assert new.take_over(served) == {**live, "gone": []}
    else:
        assert new.take_over(served) == live
    assert bool(new.ahead) == (what == "snapshot")
    live = states_of(new.node)
    assert ended(new.node) == live


def test_what_came_while_it_was_stepped_is_stepped_too(
    served: Any,
    follower: Callable[..., Follower],
    ended: Ended,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(served, 60)
    new = follower()
    seen = []

    def look(*arguments: Any) -> Any:
        found = real(*arguments)
        seen.append(found.found.last_lsn)
        fill(served, 120 // len(seen))  # over segments' ends, too
        return found

    real = standby.recovery.look
    monkeypatch.setattr(standby.recovery, "look", look)
    monkeypatch.setattr(standby, "LITTLE", 40)
    new.standby.follow()
    assert len(seen) > 3
    assert seen == sorted(set(seen))
    live = ended(served)
    assert new.take_over(served) == live
    assert new.ahead == seen[-1]


class Clock(Ledger):
    """Does not repeat itself."""

    def step(self, command: Any, state: list[Any]) -> Any:
        Ledger.steps += 1
        return [*state, command], ("step", Ledger.steps)


def test_code_that_does_not_repeat_the_journal_is_refused_in_time(
    served: Any, follower: Callable[..., Follower]
) -> None:
    """(B3)"""
    fill(served, 20)
    with pytest.raises(NonDeterminism):
        follower(Clock).standby.follow()
    fill(served, 20)
    assert len(served.get_state("ledger")) > 20


class Newer(Ledger):
    """Reads what version 1 has written."""

    version = 2

    def upcast(self, version: int, message: Any) -> Any:
        return message

    def upcast_state(self, version: int, dumped: Any) -> Any:
        return dumped


class NoUpcast(Newer):
    upcast = GenServer.upcast


class NoUpcastState(Newer):
    upcast_state = GenServer.upcast_state


class Raises(Newer):
    def upcast(self, version: int, message: Any) -> Any:
        raise KeyError("an input that nobody has thought of")


class Unloadable(Ledger):
    def load(self, data: Any) -> Any:
        raise TypeError("of no shape that is known")


class BadVersion(Ledger):
    version: Any = "2"  # type: ignore[misc]


def test_code_that_does_not_read_the_journal_is_refused_in_time(
    served: Any, follower: Callable[..., Follower]
) -> None:
    """(B3). Such failures were left for the start: by then the other process had let go."""
    fill(served, 20)
    follower(Newer).standby.follow()
    for kind, said in ((NoUpcast, "C.upcast"), (Raises, "nobody has thought of")):
        with pytest.raises(CodeRefused, match=said.replace("C", kind.__name__)):
            follower(kind).standby.follow()
    with pytest.raises(SpecError, match="an integer >= 1"):
        follower(BadVersion).standby.follow()
    served.run_on_loop(served.journal.snapshots.take)
    until(served, lambda: served.journal.snapshots.taken == 1)
    for kind, said in ((NoUpcastState, "define upcast_state"), (Unloadable, "cannot be loaded")):
        with pytest.raises(CodeRefused, match=said):
            follower(kind).standby.follow()


def test_code_that_would_not_read_what_comes_yet_is_refused_in_time(
    served: Any, follower: Callable[..., Follower]
) -> None:
    """Behind a snapshot there was nothing that had asked for its upcast."""
    fill(served, 20)
    served.run_on_loop(served.journal.snapshots.take)
    until(served, lambda: served.journal.snapshots.taken == 1)
    follower(Newer).standby.follow()
    with pytest.raises(CodeRefused, match=r"takes its inputs until then.*define upcast\(self"):
        follower(NoUpcast).standby.follow()


class Fails(Ledger):
    """Needs what only one process can have."""

    is_taken = True

    def init(self, args: Any) -> list[Any]:
        if Fails.is_taken:
            raise OSError("another process has it")
        return []


def test_an_init_that_fails_beside_another_process_is_called_again(
    served: Any,
    follower: Callable[..., Follower],
    ended: Ended,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fill(served, 30)
    new = follower(Fails)
    new.standby.follow()
    live = ended(served)
    monkeypatch.setattr(Fails, "is_taken", False)
    assert new.take_over(served) == live
    assert new.ahead == 0


def test_what_cannot_be_read_yet_is_left_for_the_start(
    served: Any, tmp_path: Path, follower: Callable[..., Follower], ended: Ended
) -> None:
    fill(served, 30)
    new = follower()
    file = tmp_path / "d" / segment_name(1)
    sound = file.read_bytes()
    file.write_bytes(bytes(len(sound)))
    new.standby.follow()
    file.write_bytes(sound)
    live = ended(served)
    assert new.take_over(served) == live
    assert new.ahead == 0


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), JournalRefused("file", "torn")])
@pytest.mark.parametrize("failing", [1, 2])
def test_a_look_that_was_thwarted_is_taken_again(
    served: Any,
    follower: Callable[..., Follower],
    ended: Ended,
    monkeypatch: pytest.MonkeyPatch,
    failing: int,
    error: Exception,
) -> None:
    """A snapshot ends, and with it go segments that were about to be read: the first time, or one
    when something was stepped already."""
    fill(served, 60)
    new = follower()
    looks = itertools.count(1)

    def look(*arguments: Any) -> Any:
        if next(looks) == failing:
            raise error
        found = real(*arguments)
        fill(served, 30)
        return found

    real = standby.recovery.look
    monkeypatch.setattr(standby.recovery, "look", look)
    monkeypatch.setattr(standby, "LITTLE", 20)
    new.standby.follow()
    assert next(looks) > failing + 1
    live = ended(served)
    assert new.take_over(served) == live
    assert new.ahead > 60


def test_a_look_that_went_on_and_was_thwarted_leaves_no_trace(
    served: Any, follower: Callable[..., Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the next one cannot go on there, what was stepped must not count."""
    fill(served, 60)
    disk = follower().journal.disk
    ahead = recovery.look(disk, SMALL)
    fill(served, 30)

    def fails(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "segments_ahead", fails)
        with pytest.raises(FileNotFoundError):
            recovery.look(disk, SMALL, ahead)
    assert ahead.is_used
    at, read = ahead.walked.block * BLOCK, disk.read
    with monkeypatch.context() as patch:
        patch.setattr(
            disk, "read", lambda name, *rest: fails() if rest[0] == at else read(name, *rest)
        )
        recovery.look(disk, SMALL, ahead)
    assert not ahead.is_used


@pytest.mark.parametrize("seed", range(12))
def test_it_comes_to_the_same_as_any_start(
    start: Callable[..., Any],
    tmp_path: Path,
    follower: Callable[..., Follower],
    ended: Ended,
    seed: int,
) -> None:
    """Random lives around the moment in which it follows."""
    dice = random.Random(seed)
    node = start(application(), data=tmp_path / "d", journal_options=SMALL)

    def act() -> None:
        what = dice.random()
        if what < 0.1:
            node.run_on_loop(node.journal.snapshots.take)
        elif what < 0.15:
            node.reset(
                dice.choice([each for each in ("gone", "other") if node.whereis(each) is not None]),
                confirm=True,
            )
        elif what < 0.2:
            node.sys.replace_state("other", lambda state: [*state[-2:], "replaced"])
        elif what < 0.3:
            node.restart_child("root", "gone") if node.whereis("gone") is None else (
                node.terminate_child("root", "gone")
            )
        elif node.whereis("gone") is not None or what < 0.6:
            name = dice.choice(("ledger", "other", "other"))
            node.call(name, "x" * dice.choice((10, 3000)))
        else:
            node.cast("ledger", dice.random())

    for _ in range(dice.randrange(60)):
        act()
    new = follower()
    new.standby.follow()
    for _ in range(dice.choice((0, 3, 30))):
        act()
    if node.whereis("gone") is None:
        node.restart_child("root", "gone")
    live = ended(node)
    assert new.take_over(node) == live
    fill(new.node, 9)
    live = states_of(new.node)
    assert ended(new.node) == live


def test_of_a_segment_only_what_was_written_is_read(tmp_path: Path) -> None:
    disk = Unhurried(FolderDisk(str(tmp_path), is_volatile_allowed=True))
    ones, zeros = b"\x01" * PIECE_BYTES, bytes(PIECE_BYTES)
    for name in (segment_name(3), "snap"):
        (tmp_path / name).write_bytes(ones + zeros + ones + b"\x01" * BLOCK)
    count = 3 * PIECE_BYTES + BLOCK
    assert disk.read(segment_name(3), 0, count) == ones + zeros
    assert disk.read(segment_name(3), 2 * PIECE_BYTES, count) == ones + b"\x01" * BLOCK
    assert disk.read("snap", 0, count) == ones + zeros + ones + b"\x01" * BLOCK
    assert set(disk.names()) == {segment_name(3), "snap"}
    assert blocks.is_zero(disk.read("snap", PIECE_BYTES, PIECE_BYTES))

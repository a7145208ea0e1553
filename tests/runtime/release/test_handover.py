"""What goes between the two processes of a replacement, without the processes."""

from __future__ import annotations

import errno
import os
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.behaviours.contract import Place
from pybehave.errors import UpgradeRefused
from pybehave.journal.closed import Closed
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.runtime import systemd
from pybehave.runtime.release.handover import FDS_MAX, PIECE_BYTES, Channel, Inheritance, Successor
from pybehave.runtime.release.places import Held
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator

SMALL = Options(segment_bytes=64 * 1024)
MANY = 2 * FDS_MAX + 3
WAIT_S = 20.0


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    yield one, other
    one.close()
    other.close()


@pytest.fixture
def pipes() -> Iterator[list[int]]:
    """Descriptors to hand over."""
    made = [fd for _ in range(MANY // 2 + 1) for fd in os.pipe()][:MANY]
    yield made
    for fd in made:
        os.close(fd)


def successor_at(end: socket.socket) -> Successor:
    """One whose process is this one."""
    found = Successor.__new__(Successor)
    found.channel = Channel(end)
    return found


def in_a_thread(work: Any) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def same_file(one: int, other: int) -> bool:
    return os.path.samestat(os.fstat(one), os.fstat(other))


def test_a_message_has_words_descriptors_and_bytes(ends: Any, pipes: list[int]) -> None:
    raw = os.urandom(3 << 20)
    thread = in_a_thread(lambda: Channel(ends[0]).send({"is": "x"}, pipes[:3], raw))
    message, fds, found = Channel(ends[1]).receive(WAIT_S)
    thread.join(WAIT_S)
    assert (message, found) == ({"is": "x"}, raw)
    assert all(same_file(fd, pipe) for fd, pipe in zip(fds, pipes[:3], strict=True))
    for fd in fds:
        os.close(fd)


class HungUpOn(socket.socket):
    """An end whose other one has read the message, answered and closed before the next call."""

    def sendall(self, data: Any, *flags: Any) -> None:
        if not data:
            raise BrokenPipeError
        super().sendall(data, *flags)


def test_nothing_is_sent_behind_a_message_without_raw_bytes(ends: Any) -> None:
    with HungUpOn(fileno=ends[0].detach()) as end:
        Channel(end).send({"is": "done"})
    assert Channel(ends[1]).receive(WAIT_S) == ({"is": "done"}, [], b"")


@pytest.mark.parametrize("count", [0, 5, 12, 20])
def test_an_end_in_the_middle_is_told(ends: Any, count: int) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    Channel(one).send({"is": "cut off"}, raw=b"behind it")
    ends[0].sendall(other.recv(4096)[:count])
    ends[0].close()
    one.close()
    other.close()
    with pytest.raises(ConnectionResetError):
        Channel(ends[1]).receive(WAIT_S)


def test_descriptors_that_there_is_no_room_for_are_told_and_none_is_kept(
    ends: Any, pipes: list[int]
) -> None:
    Channel(ends[0]).send({"is": "x"}, pipes[:10])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(pipes) + 4, hard))
    try:
        with pytest.raises(OSError, match="no room for all descriptors"):
            Channel(ends[1]).receive(WAIT_S)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(os.listdir("/proc/self/fd")) <= before


def test_more_listeners_than_a_message_takes_are_all_inherited(ends: Any, pipes: list[int]) -> None:
    """Those beyond the limit were left out without a word, and their addresses were in use."""
    listening = [(f"l{number}", fd) for number, fd in enumerate(pipes)]
    planned = [SimpleNamespace(name=name, speaks=None) for name, _ in listening]
    applications = SimpleNamespace(listeners_planned=lambda: planned)
    node: Any = SimpleNamespace(
        applications=applications, app=SimpleNamespace(version="2"), inherited={}, journal=None
    )
    inheritance = Inheritance(os.dup(ends[1].fileno()), None)
    thread = in_a_thread(lambda: inheritance.wait(node))
    successor = successor_at(ends[0])
    successor.channel.wait_for("loaded", WAIT_S)
    Channel(ends[1]).send({"is": "ready"})
    successor.give_listeners(listening, WAIT_S)
    thread.join(WAIT_S)
    assert list(node.inherited) == [name for name, _ in listening]
    for name, fd in listening:
        assert same_file(node.inherited[name], fd)
        os.close(node.inherited[name])


@pytest.mark.parametrize("closed", [None, Closed(bytes(range(240, 256)), 3, 7, 90, 8)])
def test_where_the_journal_ends_is_told(ends: Any, closed: Closed | None, tmp_path: Path) -> None:
    applications = SimpleNamespace(listeners_planned=list)
    node: Any = SimpleNamespace(
        applications=applications,
        app=SimpleNamespace(version="2"),
        inherited={},
        journal=SimpleNamespace(
            before=None, disk=SimpleNamespace(path=str(tmp_path)), options=Options()
        ),
    )
    inheritance = Inheritance(os.dup(ends[1].fileno()), None)
    thread = in_a_thread(lambda: inheritance.wait(node))
    successor = successor_at(ends[0])
    successor.channel.wait_for("loaded", WAIT_S)
    Channel(ends[1]).send({"is": "ready"})
    successor.give_listeners([], WAIT_S, closed)
    thread.join(WAIT_S)
    assert node.journal.before == closed


def test_connections_with_much_that_was_read_come_in_pieces(ends: Any, pipes: list[int]) -> None:
    """Together they were more than a message was allowed, and all connections ended."""
    carries = [os.urandom(PIECE_BYTES // 3), b"", os.urandom(2 * PIECE_BYTES), b"x"]
    carries += [b"%d" % number for number in range(len(pipes) - len(carries))]
    given: Held = [
        (fd, number, carry, Place(2, ("user", number)) if number % 2 else None)
        for number, (fd, carry) in enumerate(zip(pipes, carries, strict=True))
    ]
    taken: list[tuple[Any, int, int, bytes, Place | None]] = []
    node: Any = SimpleNamespace(
        loop=SimpleNamespace(source="full", take_over=lambda *facts: taken.append(facts)),
        applications=SimpleNamespace(
            listening=lambda: [(SimpleNamespace(name="l"), "port")],
        ),
    )
    inheritance = Inheritance(os.dup(ends[1].fileno()), None)
    thread = in_a_thread(lambda: inheritance.take(node))
    successor = successor_at(ends[0])
    successor.channel.wait_for("ready", WAIT_S)
    successor.give_connections("l", given)
    successor.finish(WAIT_S)
    thread.join(WAIT_S)
    assert [(port, *facts) for port, _, *facts in taken] == [
        ("port", *facts) for _, *facts in given
    ]
    for (_, fd, *_), (pipe, *_) in zip(taken, given, strict=True):
        assert same_file(fd, pipe)
        os.close(fd)


def test_a_process_that_ends_says_why(ends: Any) -> None:
    """The old one heard that it had ended, and no more."""
    inheritance = Inheritance(os.dup(ends[1].fileno()), None)
    inheritance.refuse("its code does not read the journal")
    with pytest.raises(OSError, match="its code does not read the journal"):
        successor_at(ends[0]).channel.beat_until("ready", WAIT_S)
    ends[0].close()
    inheritance.refuse("there is nobody any more")


class Counting(GenServer[Any, Any, Any]):
    def init(self, args: Any) -> Any:
        return 0

    def step(self, command: Any, state: Any) -> Any:
        return state + 1, state + 1


def dead() -> int:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_no_process_is_replaced_on_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the new one nor one of the old release could have started; all connections ended."""
    disk = SimDisk(1)
    worker = Worker("s", Counting, journal=True)
    app = Application("t", Supervisor("one_for_one", [worker]), version="1")
    with Simulator(1, app, disk=disk, journal_options=SMALL) as sim:
        ended: list[str] = []
        successor: Any = SimpleNamespace(
            version="2", names=[], speaks={}, end=lambda: ended.append("ended")
        )
        disk.room = sum(map(len, disk.contents().values())) + SMALL.segment_bytes - 1
        with pytest.raises(UpgradeRefused, match="may need a segment of 65536; free some"):
            sim.node.releases.begin_replacement(successor, "1", lambda *_: None)
        assert ended == ["ended"]
        monkeypatch.setattr(disk, "free_bytes", dead)
        with pytest.raises(UpgradeRefused, match="how much room it has: Input/output error"):
            sim.node.releases.begin_replacement(successor, "1", lambda *_: None)
        assert ended == ["ended"] * 2
        assert sim.node.call("s", "up") == 1
        disk.room = None


class Follows:
    """A process that is to follow the journal, and says nothing until it is ended."""

    version, names, speaks, stands_by = "2", ("tcp://127.0.0.1:0",), {}, True

    def __init__(self) -> None:
        self.is_asked, self.is_ended = threading.Event(), threading.Event()

    def stand_by(self, seconds: float) -> None:
        self.is_asked.set()
        assert self.is_ended.wait(seconds)
        raise ConnectionResetError("the other process has ended")

    def end(self) -> None:
        self.is_ended.set()


@pytest.fixture
def followed(start: Any, tmp_path: Path) -> tuple[Any, Follows, Queue[Any]]:
    """A node that is being followed, and what is told of it."""
    worker = Worker("s", Counting, journal=True)
    app = Application("t", Supervisor("one_for_one", [worker]), version="1")
    node, successor, told = start(app, data=tmp_path / "d"), Follows(), Queue[Any]()
    node.call("s", "up")

    def begin() -> None:
        node.releases.begin_replacement(successor, "1", lambda *words: told.put(words))

    node.run_on_loop(begin)
    assert successor.is_asked.wait(WAIT_S)
    return node, successor, told


def test_a_node_that_is_followed_serves_and_goes_on_when_that_ends(followed: Any) -> None:
    node, successor, told = followed
    assert node.call("s", "up") == 2
    with pytest.raises(UpgradeRefused, match="another change of code is under way"):
        node.run_on_loop(lambda: node.releases.begin_replacement(Follows(), "1", print))
    successor.is_ended.set()
    facts, error = told.get(timeout=WAIT_S)
    assert facts is None
    assert "did not follow the journal (the other process has ended)" in str(error)
    assert node.call("s", "up") == 3
    another = Follows()
    node.run_on_loop(lambda: node.releases.begin_replacement(another, "1", print))
    assert another.is_asked.wait(WAIT_S)
    another.end()


def test_a_node_that_is_followed_stops_when_it_is_told_to(followed: Any) -> None:
    """Its end waited for the thread that waits for the other process."""
    node, successor, told = followed
    node.stop()
    assert successor.is_ended.is_set()
    facts, error = told.get(timeout=WAIT_S)
    assert facts is None
    assert "the node was told to stop" in str(error)
    assert told.empty()


def test_no_process_takes_the_place_of_a_node_that_stops() -> None:
    """It had been loading when the node was told to stop, and got descriptors that were closed."""
    ended: list[str] = []
    successor: Any = SimpleNamespace(
        version="2", names=[], speaks={}, end=lambda: ended.append("ended")
    )
    app = Application("t", Supervisor("one_for_one", [Worker("s", Counting)]), version="1")
    with Simulator(1, app) as sim:
        sim.node.releases.close()
        with pytest.raises(UpgradeRefused, match="the node is stopping"):
            sim.node.releases.begin_replacement(successor, "1", lambda *_: None)
        assert ended == ["ended"]
        with pytest.raises(UpgradeRefused, match="the node is stopping"):
            sim.node.releases.upgrade(
                Application("t", Supervisor("one_for_one", []), version="2"), from_version="1"
            )


def test_whoever_watches_hears_that_a_standing_loop_waits_for_another_process(
    ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def notify(message: str, **_: object) -> None:
        said.append(message)
        if len(said) == 3:
            Channel(ends[1]).send({"is": "loaded", "version": "2", "names": ["l"]})

    monkeypatch.setattr(systemd, "notify", notify)
    monkeypatch.setattr(systemd, "watchdog_s", lambda: 0.01)
    successor = successor_at(ends[0])
    successor.wait_loaded(WAIT_S, is_on_loop=True)
    assert said == ["WATCHDOG=1"] * 3
    assert (successor.version, successor.names) == ("2", ["l"])


def test_a_process_that_does_not_say_what_it_understands_is_asked_nothing(ends: Any) -> None:
    """A successor of an older pybehave sends no `speaks`: its loading ended in a KeyError."""
    successor = successor_at(ends[0])
    Channel(ends[1]).send({"is": "loaded", "version": "2", "names": ["l"]})
    successor.wait_loaded(WAIT_S)
    ended: list[str] = []
    asked: Any = SimpleNamespace(
        version="2", names=["l"], speaks=successor.speaks, end=lambda: ended.append("ended")
    )
    disk = SimDisk(1)
    app = Application(
        "t",
        Supervisor("one_for_one", [Worker("s", Counting, journal=True)]),
        listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="s", name="l")],
        version="1",
    )
    with Simulator(1, app, disk=disk, journal_options=SMALL) as sim:
        disk.room = 0
        with pytest.raises(UpgradeRefused, match="may need a segment"):  # of all it says, only this
            sim.node.releases.begin_replacement(asked, "1", lambda *_: None)
        assert ended == ["ended"]
        disk.room = None

"""What servers hand to the journal may be anything: one server fails, the node stays."""

from __future__ import annotations

import errno
import gc
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker, actions
from pybehave.errors import Crashed, DurabilityLost, LoopClosed, NonDeterminism, NotJournalable
from pybehave.journal import dead_letters
from pybehave.journal.disk import FolderDisk
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.power.machine import wait_for

TCP = "tcp://127.0.0.1:7000"


class Point(msgspec.Struct):
    n: int


class Untold(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Odd(GenServer[dict[str, int], Any, Any]):
    types = (Point,)

    def init(self, args: Any) -> dict[str, int]:
        return {"count": 0}

    def step(self, command: Any, state: dict[str, int]) -> tuple[dict[str, int], Any]:
        state["count"] += 1
        if command == "surrogate":
            return state, "\ud800"
        if command == "untold":
            raise Untold
        return state, state["count"]


def odd() -> Application:
    worker = Worker("odd", Odd, journal=True)
    return Application("test", Supervisor("one_for_one", [worker], intensity=100))


def test_a_value_that_msgpack_cannot_hold_is_refused_and_nothing_happens(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(odd(), data=tmp_path / "data")
    with pytest.raises(NotJournalable):
        node.call("odd", Point(2**70))
    assert node.call("odd", Point(1)) == 1


def test_an_output_that_utf8_cannot_hold_is_still_an_output(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(odd(), data=tmp_path / "data")
    assert node.call("odd", "surrogate") == "\ud800"
    node.stop()
    assert start(odd(), data=tmp_path / "data").call("odd", "next") == 2


def test_an_error_without_a_text_becomes_a_dead_letter(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(odd(), data=tmp_path / "data")
    with pytest.raises(Crashed):
        node.call("odd", "untold")
    assert node.call("odd", "next") == 1
    wait_for(lambda: dead_letters.numbers(f"{tmp_path}/data") != [], "the dead letter is written")


def test_a_process_limit_fails_the_snapshot_only(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = start(odd(), data=tmp_path / "data")

    def refused() -> int:
        raise BlockingIOError(errno.EAGAIN, "no process is left")

    monkeypatch.setattr(os, "fork", refused)
    node.call("odd", "first")
    descriptors = len(os.listdir("/proc/self/fd"))
    node.journal.snapshots.records = 0
    for number in range(2, 50):
        assert node.call("odd", "next") == number
    wait_for(lambda: node.journal.snapshots.failed > 0, "a snapshot is tried")
    assert gc.get_freeze_count() == 0
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 2
    monkeypatch.undo()
    wait_for(lambda: node.call("odd", "again") and node.journal.snapshots.taken > 0, "one succeeds")


def test_no_collection_touches_what_the_child_still_needs(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would copy every page of the node, in one pause."""
    node = start(odd(), data=tmp_path / "data")
    node.call("odd", "first")
    frozen, real_fork = [], os.fork

    def watched_fork() -> int:
        frozen.append(gc.get_freeze_count())
        return real_fork()

    monkeypatch.setattr(os, "fork", watched_fork)
    node.run_on_loop(node.journal.snapshots.take)
    wait_for(lambda: node.journal.snapshots.taken > 0, "it is taken")
    assert frozen[0] > 1000, "all that the process has"
    assert gc.get_freeze_count() == 0


class SlowToKeep(Odd):
    def dump(self, state: dict[str, int]) -> Any:
        if state["count"]:  # in the child that writes the snapshot, and not at the first start
            signal.pause()  # for ever
        return state


def test_the_child_that_writes_a_snapshot_ends_with_the_node(tmp_path: Path) -> None:
    """Nothing of a node that was killed may write in its folder when the next one serves."""
    reading, writing = os.pipe()
    node_pid = os.fork()
    if node_pid == 0:
        try:
            app = Application(
                "test", Supervisor("one_for_one", [Worker("s", SlowToKeep, journal=True)])
            )
            node = app.start(data=tmp_path / "data")
            node.journal.snapshots.records = 0
            real_fork = os.fork

            def told_fork() -> int:
                pid = real_fork()
                if pid:
                    os.write(writing, b"%d\n" % pid)
                return pid

            os.fork = told_fork
            while True:
                node.call("s", "x")
        finally:
            os._exit(1)
    child = int(os.read(reading, 100))
    assert Path(f"/proc/{child}").exists()
    os.kill(node_pid, signal.SIGKILL)
    os.waitpid(node_pid, 0)
    os.close(reading)
    os.close(writing)
    try:
        wait_for(lambda: not is_running(child), "the child ends")
    finally:
        if is_running(child):
            os.kill(child, signal.SIGKILL)


class Signalled(Odd):
    signals = (signal.SIGHUP, signal.SIGUSR1, signal.SIGINT, signal.SIGTERM)

    def dump(self, state: dict[str, int]) -> Any:
        for number in self.signals if os.getpid() != self.node_pid else ():
            os.kill(os.getpid(), number)  # as a terminal does, to all processes of the node
        return state

    def init(self, args: Any) -> dict[str, int]:
        self.node_pid = os.getpid()
        return super().init(args)


def test_a_signal_to_all_processes_of_a_node_spoils_no_snapshot(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    worker = Worker("s", Signalled, journal=True)
    node = start(Application("test", Supervisor("one_for_one", [worker])), data=tmp_path / "data")
    node.call("s", "x")
    node.run_on_loop(node.journal.snapshots.take)
    made = node.journal.snapshots
    wait_for(lambda: made.taken + made.failed > 0, "it is over")
    assert (made.taken, made.failed) == (1, 0)


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


class Other(GenServer[int, Any, int]):
    def init(self, args: Any) -> int:
        return 0

    def step(self, command: Any, state: int) -> tuple[int, int]:
        return state + 1, state


class Last(GenServer[list[Any], Any, Any]):
    """Its end asks another server, while its own last reply waits for the disk."""

    node: Any

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if command == b"?":
            return state, b"%d" % len(state)
        state.append(command)
        return state, b"kept", [actions.Stop("normal")]

    def terminate(self, reason: object, state: list[Any]) -> None:
        type(self).node.call("other", "how many")


class Front(GenServer[dict[Any, Any], Any, Any]):
    """Keeps nothing itself: it hears from the one that ends, and tells the client."""

    def init(self, args: Any) -> dict[Any, Any]:
        return {}

    def handle_call(self, request: Any, sender: Any, state: dict[Any, Any]) -> Any:
        state["from"] = sender
        return state, actions.NO_REPLY, [actions.Call("last", request, tag="t")]

    def handle_info(self, message: Any, state: dict[Any, Any]) -> Any:
        if isinstance(message, actions.CallReply):
            return state, None, [actions.Reply(state["from"], message.value)]
        return state, None


def ending_world(seed: int, disk: SimDisk) -> Simulator:
    app = Application(
        "test",
        Supervisor(
            "one_for_one",
            [Worker("other", Other), Worker("last", Last, journal=True), Worker("front", Front)],
            intensity=100,
        ),
        listeners=[Listener(TCP, Lines(), to="front")],
    )
    options = Options(segment_bytes=64 << 10)
    world = Simulator(seed, app, disk=disk, journal_options=options).start()
    Last.node = world.node
    return world


def asked(world: Simulator, line: bytes) -> bytes:
    client = world.connect(TCP)
    client.send(line + b"\n")
    world.run_until(lambda: client.received)
    return bytes(client.received)


@pytest.mark.parametrize("seed", range(10))
def test_a_last_reply_waits_for_the_disk_whatever_terminate_does(seed: int) -> None:
    world = ending_world(seed, SimDisk(seed))
    assert asked(world, b"x") == b"kept\n"
    world = ending_world(seed, world.lose_power(random.Random(seed)))
    assert asked(world, b"?") == b"1\n"
    world.stop()


class Keeper(GenServer[int, bytes, bytes]):
    def init(self, args: Any) -> int:
        return 0

    def step(self, line: bytes, state: int) -> tuple[int, bytes]:
        return state + 1, b"%d" % (state + 1)


class Asked(Keeper):
    """The same on the general road, where every input has a caller."""

    def handle_call(self, line: bytes, sender: Any, state: int) -> Any:
        return self.step(line, state)


class Relay(GenServer[dict[int, Any], Any, Any]):
    """Passes each line on to a journaled server and its answer back: by way of mailboxes."""

    def init(self, args: Any) -> dict[int, Any]:
        return {}

    def handle_call(self, request: Any, sender: Any, state: dict[int, Any]) -> Any:
        number = len(state)
        state[number] = sender
        return state, actions.NO_REPLY, [actions.Call("keeper", request, tag=number)]

    def handle_info(self, message: Any, state: dict[int, Any]) -> Any:
        value = message.value
        return state, None, [actions.Reply(state[message.tag], b"%s" % value)]


@pytest.mark.parametrize("road", ["step", "handle_call", "mailbox"])
@pytest.mark.parametrize("seed", range(3))
def test_many_clients_wait_for_a_disk_that_is_behind_and_none_is_refused(
    seed: int, road: str
) -> None:
    """Together they send far more than a frame holds, before anything of it can be written."""
    keeper = Asked if road == "handle_call" else Keeper
    app = Application(
        "test",
        Supervisor("one_for_one", [Worker("keeper", keeper, journal=True), Worker("relay", Relay)]),
        listeners=[
            Listener(
                TCP, Lines(frame_bytes_max=16 << 10), to="relay" if road == "mailbox" else "keeper"
            )
        ],
    )
    options = Options(segment_bytes=64 << 10)
    world = Simulator(seed, app, disk=SimDisk(seed), journal_options=options).start()
    clients = [world.connect(TCP) for _ in range(40)]
    for client in clients:
        client.send((b"x" * 8000 + b"\n") * 3)
    world.run_until(lambda: all(client.received.count(b"\n") == 3 for client in clients))
    answers = [int(line) for client in clients for line in client.received.split()]
    assert sorted(answers) == list(range(1, 121))
    world.stop()


class Continuing(GenServer[list[Any], Any, Any]):
    """Its handle_continue fails, or does not, as a class says that stands for a version of it."""

    is_failing = True

    def init(self, args: Any) -> Any:
        return [], actions.Continue("init")

    def step(self, command: Any, state: list[Any]) -> Any:
        return [*state, command], len(state), [actions.Continue("fail")] * (command == "fail")

    def handle_continue(self, term: Any, state: list[Any]) -> Any:
        if term == "fail" and self.is_failing:
            raise ValueError("a deliberate bug")
        return [*state, term], None


class Mended(Continuing):
    is_failing = False


def continuing(kind: type[Continuing]) -> Application:
    worker = Worker("c", kind, journal=True)
    return Application("test", Supervisor("one_for_one", [worker], intensity=100))


def test_a_continue_that_fails_keeps_the_state_before_it(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(continuing(Continuing), data=tmp_path / "data")
    assert node.call("c", "one") == 1
    assert node.call("c", "fail") == 2
    wait_for(lambda: node.whereis("c") == 2, "it is restarted")
    assert node.call("c", "two") == 3
    assert node.call("c", "fail") == 4
    wait_for(lambda: node.whereis("c") == 3, "it is restarted")
    node.stop()
    node = start(continuing(Continuing), data=tmp_path / "data")
    assert node.get_state("c") == ["init", "one", "fail", "two", "fail"]


def test_a_continue_that_fails_only_when_it_is_repeated_is_found(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(continuing(Mended), data=tmp_path / "data")
    node.call("c", "fail")
    node.call("c", "one")
    node.stop()
    with pytest.raises(NonDeterminism, match="Server 'c' does not repeat itself"):
        start(continuing(Continuing), data=tmp_path / "data")
    assert start(continuing(Mended), data=tmp_path / "data").get_state("c") == [
        "init", "fail", "fail", "one",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["seg-*", "MANIFEST"])
def test_a_node_whose_journal_is_removed_stops_and_says_why(
    start: Callable[..., Any], tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What it acknowledged would be gone: no start finds a file that has no name any more."""
    node = start(odd(), data=tmp_path / "data")
    assert node.call("odd", "one") == 1
    for path in (tmp_path / "data").glob(name):
        path.unlink()

    def has_ended() -> bool:
        try:
            node.call("odd", "more")
        except (DurabilityLost, LoopClosed):
            return True
        return False

    wait_for(has_ended, "the end of the node")
    assert "was removed" in caplog.text


class Dumb(FolderDisk):
    """A file system that has shut down, and tells nothing of its files any more."""

    is_down = False

    def is_removed(self, fd: int) -> bool:
        if self.is_down:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return super().is_removed(fd)


def test_F11_a_folder_that_tells_nothing_of_its_files_is_a_failed_journal(
    start: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An xfs that has shut down: a quiet node meets it before it has anything to write."""
    disk = Dumb(tmp_path / "data")
    with pytest.raises(DurabilityLost, match="Input/output error"):
        with start(odd(), data=disk) as node:
            disk.is_down = True
            assert node.call("odd", "one") == 1
            node._thread.join(20)
            assert not node._thread.is_alive()
    assert "cannot be written any more: Input/output error" in caplog.text
    assert "the loop of" not in caplog.text

"""Journaled servers: what they were is there again, after a crash, a stop and a kill."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker, actions, family
from pybehave.actions import NO_REPLY, TIMEOUT
from pybehave.errors import (
    Crashed,
    JournalLocked,
    JournalRefused,
    NonDeterminism,
    NotJournalable,
)
from pybehave.journal.recovery import Options, Recovery, recover
from pybehave.journal.verify import verify
from pybehave.protocols import Lines
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial, receive
from tests.snapshots import take_snapshot

SMALL = Options(segment_bytes=256 * 1024)


class Ledger(GenServer[dict[str, Any], Any, Any]):
    """Keeps what it is told, and everything that a step may know."""

    def init(self, args: Any) -> dict[str, Any]:
        return {"lines": []}

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        match command:
            case ("add", value):
                state["lines"].append(value)
                return state, len(state["lines"])
            case "lines":
                return state, list(state["lines"])
            case "facts":
                state["facts"] = (self.context.now, self.context.random.random())
                return state, state["facts"]
            case "same facts":
                return state, state["facts"]
            case "break":
                state["lines"].append("half done")
                raise ValueError("a deliberate bug")
            case ("later", seconds):
                return state, None, [actions.StartTimer("t", seconds, "tick")]
            case "odd":
                return state, str(id(self))
        return state, None

    def handle_info(self, message: Any, state: dict[str, Any]) -> Any:
        state["lines"].append(message if message is not TIMEOUT else "timeout")
        return state, None


def ledger(**options: Any) -> Application:
    return journaled(Ledger, **options)


def journaled(kind: Any, **options: Any) -> Application:
    worker = Worker("ledger", kind, journal=True, **options)
    return Application("test", Supervisor("one_for_one", [worker], intensity=100))


@pytest.fixture
def begin(start: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start the ledger on the same folder again and again."""

    def again(app: Application | None = None, **options: Any) -> Any:
        options.setdefault("journal_options", SMALL)
        return start(app or ledger(), data=tmp_path / "data", **options)

    yield again


def test_state_survives_an_orderly_end(begin: Callable[..., Any]) -> None:
    for turn in range(3):
        node = begin()
        assert node.call("ledger", ("add", turn)) == turn + 1
        node.stop()
    assert begin().call("ledger", "lines") == [0, 1, 2]


def test_a_journal_is_closed_without_waiting_for_a_timer() -> None:
    """On virtual time, for that is what is measured: clients wait for this when another process
    takes over. What was recorded between two ticks was written behind the next wait."""
    with Simulator(1, ledger(), disk=SimDisk(1)) as world:
        world.node.call("ledger", ("add", 1))
        while world.node.run_once(0.0):
            pass
        began = world.node.loop.now()
        world.node.journal.close(is_followed=True)
        assert world.node.journal.commit.is_closed
        assert world.node.loop.now() - began < 0.005  # the disk itself takes microseconds


def test_values_keep_their_types(begin: Callable[..., Any]) -> None:
    values = [(1, (2, "x")), {"a": {1, 2}}, 2**70, b"\x00", None, frozenset({("k", 1)}), -1.5]
    node = begin()
    for value in values:
        node.call("ledger", ("add", value))
    node.stop()
    assert begin().call("ledger", "lines") == values


def test_a_crash_goes_back_to_the_state_before_the_input(begin: Callable[..., Any]) -> None:
    node = begin()
    node.call("ledger", ("add", 1))
    with pytest.raises(Crashed):
        node.call("ledger", "break")
    assert node.call("ledger", "lines") == [1]
    node.call("ledger", ("add", 2))
    node.stop()
    assert begin().call("ledger", "lines") == [1, 2]


def test_with_recovery_clean_a_crash_begins_anew_also_after_the_next_start(
    begin: Callable[..., Any],
) -> None:
    node = begin(ledger(recovery="clean"))
    node.call("ledger", ("add", 1))
    with pytest.raises(Crashed):
        node.call("ledger", "break")
    assert node.call("ledger", "lines") == []
    node.call("ledger", ("add", 2))
    node.stop()
    assert begin(ledger(recovery="clean")).call("ledger", "lines") == [2]


class Pure(Ledger):
    """Returns new states only."""

    pure = True

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        if command == "break":
            raise ValueError("a deliberate bug")
        return super().step(command, {**state, "lines": list(state["lines"])})


def test_a_pure_server_goes_on_from_the_state_it_had(begin: Callable[..., Any]) -> None:
    worker = Worker("ledger", Pure, journal=True)
    node = begin(Application("test", Supervisor("one_for_one", [worker])))
    node.call("ledger", ("add", 1))
    with pytest.raises(Crashed):
        node.call("ledger", "break")
    assert node.call("ledger", "lines") == [1]


def test_time_and_randomness_are_those_of_the_input(begin: Callable[..., Any]) -> None:
    node = begin()
    facts = node.call("ledger", "facts")
    node.stop()
    node = begin()
    assert node.call("ledger", "same facts") == facts
    assert node.call("ledger", "facts")[0] > facts[0]


def test_timers_go_on_after_a_start_and_after_a_crash(begin: Callable[..., Any]) -> None:
    node = begin()
    node.call("ledger", ("later", 0.05))
    node.stop()
    node = begin()
    wait_for(lambda: node.call("ledger", "lines") == ["tick"])
    node.call("ledger", ("later", 0.05))
    with pytest.raises(Crashed):
        node.call("ledger", "break")
    wait_for(lambda: node.call("ledger", "lines") == ["tick", "tick"])
    node.stop()
    assert begin().call("ledger", "lines") == ["tick", "tick"]


def test_snapshots_bound_the_journal_and_the_replay(
    begin: Callable[..., Any], tmp_path: Path
) -> None:
    node = begin()
    node.journal.snapshots.count_bytes = 512 * 1024
    for number in range(60):
        node.call("ledger", ("add", bytes([number]) * 20_000))
        if number == 10:
            node.call("ledger", ("later", 3600.0))
    wait_for(lambda: node.stats()["journal"]["snapshots"]["taken"] > 0)
    facts = node.call("ledger", "facts")
    node.stop()
    node = begin()
    assert node.call("ledger", "same facts") == facts
    assert [line[0] for line in node.call("ledger", "lines")] == [*range(60)]
    assert node.journal.recovery.report.snapshot_lsn > 0
    assert node.stats()["servers"]["ledger"]["timers"] == 1
    node.journal.snapshots.count_bytes = 512 * 1024
    for number in range(60, 120):
        node.call("ledger", ("add", bytes([number]) * 20_000))
    node.stop()
    segments = list((tmp_path / "data").glob("seg-*"))
    assert len(segments) < 12
    assert [line[0] for line in begin().call("ledger", "lines")] == [*range(120)]


def test_a_snapshot_of_what_has_one_already_leaves_the_journal_sound(
    begin: Callable[..., Any], tmp_path: Path
) -> None:
    """It took the file of the other, which the manifest went on naming: damage, said `verify`."""
    node = begin()
    node.call("ledger", ("add", 1))
    for _ in range(3):
        take_snapshot(node)
    node.sys.suspend("ledger")
    node.sys.change_code("ledger", type("Again", (Ledger,), {}))  # one more, at the boundary
    node.stop()
    report = verify(str(tmp_path / "data"))
    assert report.problems == []
    assert begin().call("ledger", "lines") == [1]


def test_a_power_cut_finds_a_snapshot_where_one_is_taken_of_what_has_one_already() -> None:
    """No completion source has a part: a server that sleeps, and starts without an input."""
    app = Application("t", Supervisor("one_for_one", [family("m-*", Ledger, journal=True)]))
    disk, options = SimDisk(), Options(segment_bytes=64 * 1024)
    with Simulator(1, app, disk=disk, journal_options=options) as world:
        world.node.call("m-1", ("add", 1))
    for _ in range(5):
        with Simulator(1, app, disk=disk, journal_options=options):
            pass
    with Simulator(1, app, disk=disk, journal_options=options) as world:
        world.node.journal.snapshots.take()
        found = disk.cut_exactly([0] * len(disk.undecided()))
    with Simulator(1, app, disk=found, journal_options=options) as world:
        assert world.node.call("m-1", "lines") == [1]


FAMILY = Application("t", Supervisor("one_for_one", [family("m-*", Ledger, journal=True)]))


def idle(disk: SimDisk, times: int, *, is_killed: bool = False) -> SimDisk:
    """Starts of the family without any input, and their ends. No completion source has a part."""
    for _ in range(times):
        world = Simulator(1, FAMILY, disk=disk, journal_options=Options(segment_bytes=64 * 1024))
        world.start().run(1)
        found = disk.copy()
        if is_killed:
            disk.switch_off()
        world.stop()
        disk = found if is_killed else disk
    return disk


def files(disk: SimDisk, kind: str) -> int:
    return sum(name.startswith(kind) for name in disk.names())


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize("snapshots", [0, 1, 2])
def test_starts_without_any_input_leave_few_segments(snapshots: int, is_killed: bool) -> None:
    """Each begins one. Where nothing had ever come they stayed for ever, and where the node was
    killed each time they stayed, too.
    """
    disk, options = SimDisk(), Options(segment_bytes=64 * 1024)
    late = 0
    for number in range(snapshots):
        with Simulator(1, FAMILY, disk=disk, journal_options=options) as world:
            world.run(1000)
            world.node.call("m-1", ("add", number))
            late = world.node.journal.now_ns()
            assert world.node.journal.snapshots.take()
    disk = idle(disk, 3, is_killed=is_killed)
    assert files(disk, "snap-") == snapshots, "as long as they are few, what is older stays"
    disk = idle(disk, 12, is_killed=is_killed)
    assert files(disk, "seg-") <= 7
    with Simulator(1, FAMILY, disk=disk, journal_options=options) as world:
        assert world.node.journal.now_ns() >= late, "the snapshot says how late it was (F-26)"
        assert world.node.call("m-1", "lines") == [*range(snapshots)]


def test_what_was_read_at_the_start_does_not_stay_in_memory(begin: Callable[..., Any]) -> None:
    node = begin()
    node.call("ledger", ("add", 1))
    assert node.run_on_loop(node.journal.snapshots.take)
    wait_for(lambda: node.stats()["journal"]["snapshots"]["taken"] == 1)
    node.call("ledger", ("add", 2))
    node.stop()
    found = begin().journal.recovery
    assert found.snapshot is not None and found.snapshot.entries == ()
    assert found.pieces and [piece.content for piece in found.pieces] == [None] * len(found.pieces)


def test_the_first_segments_that_are_stepped_stay_in_memory_till_then() -> None:
    disk, options = SimDisk(1), Options(segment_bytes=64 << 10)
    with Simulator(1, ledger(), disk=disk, journal_options=options) as world:
        for part in range(3):
            for _ in range(7):
                world.node.call("ledger", ("add", bytes(20_000)))
            if part < 2:
                assert world.node.journal.snapshots.take()
                world.run(1.0)
        killed = disk.copy()
    seen: list[Recovery] = []
    recover(killed, options, now_ns=1, replay=seen.append)
    assert seen[0].snapshot is not None
    needed = [piece.lsn_end > seen[0].snapshot.lsn + 1 for piece in seen[0].pieces]
    first = needed.index(True)
    kept = [index for index, piece in enumerate(seen[0].pieces) if piece.content is not None]
    assert kept == [first, first + 1]
    assert 0 < first < len(needed) - 2


def test_after_a_snapshot_a_crash_is_rebuilt_from_it(begin: Callable[..., Any]) -> None:
    node = begin()
    for number in range(20):
        node.call("ledger", ("add", number))
    assert node.run_on_loop(node.journal.snapshots.take)
    wait_for(lambda: node.stats()["journal"]["snapshots"]["taken"] == 1)
    node.call("ledger", ("add", 20))
    with pytest.raises(Crashed):
        node.call("ledger", "break")
    assert node.call("ledger", "lines") == [*range(21)]


def test_F32_a_step_that_does_not_repeat_itself_is_found(begin: Callable[..., Any]) -> None:
    node = begin()
    node.call("ledger", "odd")
    node.stop()
    with pytest.raises(NonDeterminism) as caught:
        begin()
    assert (caught.value.server, caught.value.lsn) == ("ledger", 5)


def test_starts_that_today_s_code_refuses_leave_the_folder_as_it_is() -> None:
    """Each began a segment: a service manager that tries again and again filled the disk. No
    completion source has a part in this.
    """
    disk = SimDisk()
    newer = type("Newer", (Ledger,), {"version": 2})
    other = type("Other", (newer,), {"step": lambda self, command, state: 1 / 0})
    with Simulator(1, journaled(newer), disk=disk) as world:
        world.node.call("ledger", ("add", 1))
    before = disk.contents()
    for kind, error in ((Ledger, JournalRefused), (other, NonDeterminism)):
        with pytest.raises(error), Simulator(1, journaled(kind), disk=disk):
            pass
        assert disk.contents() == before
    with Simulator(1, journaled(newer), disk=disk) as world:
        assert world.node.call("ledger", "lines") == [1]


def test_what_cannot_be_journaled_is_refused_and_nothing_happens(
    begin: Callable[..., Any],
) -> None:
    node = begin()
    with pytest.raises(NotJournalable, match="threading"):
        node.call("ledger", ("add", threading.Event()))
    assert node.call("ledger", "lines") == []


def test_a_second_node_on_the_same_folder_is_refused(
    begin: Callable[..., Any],
) -> None:
    begin()
    with pytest.raises(JournalLocked, match="written by another node of this process"):
        begin()


class Waiting(GenServer[list[Any], Any, Any]):
    """Puts its replies off."""

    def init(self, args: Any) -> list[Any]:
        return []

    def handle_call(self, request: Any, caller: Any, state: list[Any]) -> Any:
        if request == "wait":
            return [*state, caller], NO_REPLY
        if request == "count":
            return state, len(state)
        return [], "told", [actions.Reply(waiting, request) for waiting in state]


def test_replies_that_were_put_off_wait_for_the_disk_and_are_void_after_a_start(
    begin: Callable[..., Any],
) -> None:
    app = Application("w", Supervisor("one_for_one", [Worker("w", Waiting, journal=True)]))
    node = begin(app)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(node.call("w", "wait")))
    thread.start()
    wait_for(lambda: node.call("w", "count") == 1)
    assert node.call("w", "now") == "told"
    thread.join(10)
    assert got == ["now"]
    with pytest.raises(TimeoutError):
        node.call("w", "wait", timeout=0.01)
    node.stop()
    node = begin(app)
    assert node.call("w", "count") == 1
    assert node.call("w", "now") == "told"


class Keeping(GenServer[list[Any], Any, Any]):
    """Puts its replies off in its step, as most servers do."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, request: Any, state: list[Any]) -> Any:
        if request == "wait":
            return [*state, self.context.caller], NO_REPLY
        return state, len({id(caller) for caller in state})


class KeepingToo(Keeping):
    """The same, by the other callback."""

    def handle_call(self, request: Any, caller: Any, state: list[Any]) -> Any:
        return self.step(request, state)


@pytest.mark.parametrize("kind", [Keeping, KeepingToo])
def test_callers_that_were_kept_are_as_many_after_a_start(
    kind: Any, begin: Callable[..., Any]
) -> None:
    for _ in range(2):
        node = begin(journaled(kind))
        before = node.call("ledger", "count")
        for _ in range(3):
            with pytest.raises(TimeoutError):
                node.call("ledger", "wait", timeout=0.01)
        assert node.call("ledger", "count") == before + 3
        node.stop()
    assert begin(journaled(kind)).call("ledger", "count") == 6


def test_a_thousand_servers_share_commits(begin: Callable[..., Any]) -> None:
    workers = [Worker(f"s{n}", Ledger, journal=True) for n in range(1000)]
    app = Application("many", Supervisor("one_for_one", workers))
    node = begin(app, journal_options=Options(segment_bytes=4 << 20))
    for turn in range(3):
        for worker in workers:
            node.cast(worker.name, ("add", turn))
    assert all(node.call(worker.name, "lines") == [0, 1, 2] for worker in workers[::100])
    frames = node.stats()["journal"]["frames"]
    assert frames < 2000
    node.stop()
    node = begin(app, journal_options=Options(segment_bytes=4 << 20))
    assert all(node.call(worker.name, "lines") == [0, 1, 2] for worker in workers)


def wait_for(condition: Callable[[], bool]) -> None:
    """Ask again and again; the calls themselves give the loop its time."""
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it never became true"


class Room(GenServer[dict[Any, str], Any, Any]):
    """Knows its connections by their handles, as examples/chat.py does."""

    def init(self, args: Any) -> dict[Any, str]:
        return {}

    def step(self, command: str, state: dict[Any, str]) -> Any:
        if command == "names":
            return state, sorted(state.values())
        if command == "break":
            raise ValueError("a deliberate bug")
        if command == "who":
            return state, state[self.context.connection]
        state[self.context.connection] = command
        return state, "ok"

    def handle_info(self, message: Any, state: dict[Any, str]) -> Any:
        match message:
            case actions.Opened(connection):
                state[connection] = "?"
            case actions.Closed(connection, _):
                del state[connection]
        return state, None


def test_connections_are_the_same_after_a_crash_and_gone_after_a_start(
    begin: Callable[..., Any],
) -> None:
    app = Application(
        "room",
        Supervisor("one_for_one", [Worker("room", Room, journal=True)]),
        listeners=[Listener("tcp://127.0.0.1:0", Lines(encoding="utf-8"), to="room", events=True)],
    )
    node = begin(app)
    with dial(node) as ann, dial(node) as bob:
        for client, name in ((ann, b"ann"), (bob, b"bob")):
            client.sendall(name + b"\n")
            assert receive(client, 3) == b"ok\n"
        with pytest.raises(Crashed):
            node.call("room", "break")
        bob.sendall(b"who\n")
        assert receive(bob, 4) == b"bob\n"
        assert node.call("room", "names") == ["ann", "bob"]
        node.stop(drain=False)
    node = begin(app)
    wait_for(lambda: node.call("room", "names") == [])
    with dial(node) as eve:
        eve.sendall(b"eve\n")
        assert receive(eve, 3) == b"ok\n"
        assert node.call("room", "names") == ["eve"]
    node.stop()
    assert begin(app).call("room", "names") in ([], ["eve"])

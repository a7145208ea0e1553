"""What the journal keeps of a server can be taken away for good: `forget`, `reset`."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pybehave import (
    Application,
    Callbacks,
    GenServer,
    Once,
    Supervisor,
    Worker,
    family,
)
from pybehave.actions import Cast, Run, StartTimer
from pybehave.errors import (
    CalledInCallback,
    Crashed,
    DurabilityLost,
    JournalFull,
    JournalRefused,
    NonDeterminism,
    NoProc,
    NothingKept,
    RequestRefused,
    StartFailed,
    StillRuns,
    Timeout,
)
from pybehave.journal import dead_letters
from pybehave.journal.recovery import Options
from pybehave.journal.snapshot import snapshot_lsn, snapshot_name
from pybehave.runtime.durable.history import History
from pybehave.runtime.node import Node
from pybehave.testing.disk import PowerCut, SimDisk
from pybehave.testing.simulate import Simulator
from tests.power.machine import wait_for
from tests.processes import run

OPTIONS = Options(segment_bytes=64 << 10)
NAMES = ("a", "b", "c")


class Ledger(GenServer[Any, Any, Any]):
    """Keeps what it hears, and says how much that is."""

    def init(self, args: Any) -> Any:
        if args == "refuse":
            raise ValueError("on purpose")
        return [] if args is None else [args]

    def step(self, command: Any, state: Any) -> Any:
        if command == "break":
            raise ValueError("a deliberate bug")
        if isinstance(command, tuple):
            what, *rest = command
            if what == "timer":
                return state, None, StartTimer("t", *rest, "tick")
            if what == "send":
                return state, None, Cast(*rest)
            if what == "run":
                return state, None, Run(_job, tag="job")
        state.append(command)
        return state, len(state)

    def handle_info(self, message: Any, state: Any) -> Any:
        state.append(message)
        return state, None


class Newer(Ledger):
    """Counts otherwise: what the older one has written does not repeat itself."""

    def step(self, command: Any, state: Any) -> Any:
        state.append(command)
        return state, 1000 + len(state)


def _job() -> str:
    return "done"


def worker(name: str, kind: Any = Ledger, args: Any = None) -> Worker[Any, Any]:
    return Worker(name, kind, args, journal=True)


def app(*names: str, kind: Any = Ledger) -> Application:
    children = [worker("keeper"), *(worker(name, kind) for name in names)]
    return Application("t", Supervisor("one_for_one", children, id="root", intensity=1000))


def world_on(disk: SimDisk, *names: str, seed: int = 1, kind: Any = Ledger) -> Simulator:
    return Simulator(seed, app(*names, kind=kind), disk=disk, journal_options=OPTIONS)


def snapshot_of(world: Simulator) -> None:
    journal = world.node.journal
    count = journal.snapshots.taken
    assert journal.snapshots.take()
    world.run(1.0)
    assert journal.snapshots.taken == count + 1


# --- what goes ------------------------------------------------------------------------------------


def test_a_forgotten_server_begins_anew(start: Callable[..., Any], tmp_path: Path) -> None:
    node = start(app("a"), data=tmp_path)
    node.call("a", "kept")
    node.forget("a", stop=True)
    assert node.whereis("a") is None
    assert node.kept() == ["keeper"]
    node.restart_child("root", "a")
    assert node.get_state("a") == []
    node.call("a", "after")
    node.stop()
    node = start(app("a"), data=tmp_path)
    assert node.get_state("a") == ["after"]


def test_nothing_of_it_comes_back_after_a_kill(tmp_path: Path) -> None:
    disk = SimDisk(1)
    with world_on(disk, "a") as world:
        node = world.node
        node.call("a", Once("client", 1, "named"))
        node.call("a", ("timer", 5.0))
        with pytest.raises(Crashed):
            node.call("a", "break")
        world.run(1.0)
        assert letters_on(disk) == ["a"]
        node.call("a", ("run",))
        node.terminate_child("root", "a")
        node.call("keeper", ("send", "a", "under way"))
        node.forget("a")
        assert letters_on(disk) == []
        disk = disk.copy()
    for life in range(2):
        with world_on(disk, "a", seed=life) as world:
            world.run(60.0)
            assert world.node.get_state("a") == (["again"] if life else [])
            if not life:
                assert world.node.call("a", Once("client", 1, "again")) == 1


def test_what_it_had_sent_arrives_all_the_same() -> None:
    disk = SimDisk(1)
    with world_on(disk, "a", "b") as world:
        world.node.terminate_child("root", "b")
        world.node.call("a", ("send", "b", "a message"))
        world.node.call("a", ("send", "gone", "to nobody"))
        world.node.forget("a", stop=True)
        disk = disk.copy()
    for _ in range(2):
        with world_on(disk, "a", "b") as world:
            world.run(1.0)
            assert world.node.get_state("b") == ["a message"]
            assert world.node.get_state("a") == []


def test_an_absent_server_is_forgotten_without_its_code() -> None:
    disk = SimDisk(1)
    with world_on(disk, "b") as world:
        world.node.call("b", "in the snapshot")
        snapshot_of(world)
        world.node.call("b", "behind it")
    with world_on(disk) as world:
        assert world.node.kept() == ["b", "keeper"]
        world.node.forget("b")
        assert world.node.kept() == ["keeper"]
        snapshot_of(world)
    with world_on(disk, "b") as world:
        assert world.node.get_state("b") == []


def test_its_number_is_another_servers_afterwards() -> None:
    """Given back by a snapshot that does not know it; what came before is not the other's."""
    disk = SimDisk(1)
    with world_on(disk, "a") as world:
        world.node.call("a", "of a")
        world.node.forget("a", stop=True)
        disk = disk.copy()
    with world_on(disk, "c") as world:
        world.node.call("c", "of c")
        snapshot_of(world)
        world.node.call("c", "behind")
        disk = disk.copy()
    with world_on(disk, "a", "c") as world:
        assert world.node.get_state("c") == ["of c", "behind"]
        assert world.node.get_state("a") == []


def test_members_of_families_and_dynamic_children_too(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    users = family("user-*", Ledger, journal=True, idle=60.0)
    tree = Supervisor("one_for_one", [users], id="root")
    node = start(Application("t", tree), data=tmp_path)
    assert [node.call("user-ann", each) for each in "xy"] == [1, 2]
    node.forget("user-ann", stop=True)
    assert node.call("user-ann", "z") == 1
    node.start_child("root", worker("extra"))
    node.call("extra", 1)
    node.forget("extra", stop=True)
    node.delete_child("root", "extra")
    node.start_child("root", worker("extra"))
    assert node.get_state("extra") == []
    node.stop()
    node = start(Application("t", tree), data=tmp_path)
    assert node.get_state("user-ann") == ["z"] if node.whereis("user-ann") else True
    assert node.call("user-ann", "again") == 2


def test_calls_from_the_loops_own_thread_and_others_meet(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(app(*NAMES), data=tmp_path)
    threads = [
        threading.Thread(target=node.forget, args=(name,), kwargs={"stop": True}) for name in NAMES
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert node.kept() == ["keeper"]


# --- what is refused ------------------------------------------------------------------------------


def test_one_that_runs_is_not_forgotten_unless_told_to_stop(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(app("a"), data=tmp_path)
    node.call("a", "kept")
    with pytest.raises(StillRuns, match="'a' runs; stop it first, or say stop=True"):
        node.forget("a")
    assert node.get_state("a") == ["kept"]


def test_what_nobody_knows_is_not_forgotten(start: Callable[..., Any], tmp_path: Path) -> None:
    node = start(app("a"), data=tmp_path)
    with pytest.raises(NothingKept, match="nothing of a server 'who'"):
        node.forget("who")
    with pytest.raises(NoProc):
        node.reset("who", confirm=True)
    volatile = start(app("a"), data=None)
    assert volatile.kept() == []
    with pytest.raises(NothingKept):
        volatile.forget("a", stop=True)
    with pytest.raises(NothingKept):
        volatile.reset("a", confirm=True)


def test_a_callback_forgets_nobody(start: Callable[..., Any], tmp_path: Path) -> None:
    class Meddler(GenServer[Any, Any, Any]):
        def init(self, args: Any) -> Any:
            return None

        def step(self, command: Any, state: Any) -> Any:
            with pytest.raises(CalledInCallback):
                node.forget("a", stop=True)
            with pytest.raises(CalledInCallback):
                node.reset("a", confirm=True)
            return state, "refused"

    tree = Supervisor("one_for_one", [worker("a"), Worker("m", Meddler)])
    node = start(Application("t", tree), data=tmp_path)
    assert node.call("m", "go") == "refused"


# --- reset ----------------------------------------------------------------------------------------


def test_a_reset_is_confirmed_and_begins_with_init(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(app("a", "b"), data=tmp_path)
    node.call("a", "kept")
    node.call("b", "kept")
    with pytest.raises(RequestRefused, match="say confirm=True"):
        node.reset("a")
    assert node.get_state("a") == ["kept"]
    node.reset("a", confirm=True)
    assert (node.get_state("a"), node.get_state("b")) == ([], ["kept"])
    node.call("a", "after")
    node.stop()
    node = start(app("a", "b"), data=tmp_path)
    assert (node.get_state("a"), node.get_state("b")) == (["after"], ["kept"])


def test_a_server_that_keeps_the_node_from_starting_begins_anew(tmp_path: Path) -> None:
    disk = SimDisk(1)
    with world_on(disk, "a", "b") as world:
        world.node.call("a", 1)
        world.node.call("b", 2)
    with pytest.raises(NonDeterminism), world_on(disk, "a", "b", kind=Newer):
        pass
    assert disk is not None
    children = [worker("keeper"), worker("a", Newer), worker("b")]
    newer = Application("t", Supervisor("one_for_one", children))
    for life in range(3):
        reset = ("a",) if life == 0 else ()
        with Simulator(1, newer, disk=disk, journal_options=OPTIONS, reset=reset) as world:
            assert world.node.get_state("b") == [2]
            assert world.node.call("a", life) == 1001 + life


def test_a_reset_at_a_start_names_somebody(tmp_path: Path) -> None:
    disk = SimDisk(1)
    with world_on(disk, "a") as world:
        world.node.call("a", 1)
    with pytest.raises(NothingKept, match="'typo'"):
        Simulator(1, app("a"), disk=disk, journal_options=OPTIONS, reset=["typo"]).start()
    with pytest.raises(ValueError, match="a list of names"):
        Node(app("a"), backend="epoll", data=tmp_path, reset="a")
    with pytest.raises(NothingKept):
        Node(app("a"), backend="epoll", data=None, reset=["a"])
    with world_on(disk, "a") as world:
        assert world.node.get_state("a") == [1]


def test_a_reset_whose_init_fails_is_a_reset(start: Callable[..., Any], tmp_path: Path) -> None:
    class Once_(Ledger):
        is_first = True

        def init(self, args: Any) -> Any:
            first, Once_.is_first = Once_.is_first, False
            return super().init(None if first else "refuse")

    node = start(app("a", kind=Once_), data=tmp_path)
    node.call("a", "kept")
    with pytest.raises(StartFailed):
        node.reset("a", confirm=True)
    assert node.kept() == ["keeper"]


def test_who_waits_on_the_loops_thread_says_how_long() -> None:
    """On a full disk a reset begins, and is over when there is room again; that may be never."""
    disk = SimDisk(1)
    with world_on(disk, "a") as world:
        node = world.node
        node.call("a", "kept")
        disk.room = 0
        with pytest.raises((JournalFull, Timeout)):
            for _ in range(100):
                node.call("keeper", bytes(3000))
        before = world.now
        with pytest.raises(Timeout):
            node.reset("a", confirm=True, timeout=7.0)
        assert 7.0 <= world.now - before < 8.0
        disk.room = None
        world.run(10.0)
        assert node.get_state("a") == []


# --- through power cuts ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_servers_are_forgotten_through_kills_crashes_and_power_cuts(seed: int) -> None:
    dice, disk = random.Random(seed), SimDisk(seed)
    model: dict[str, list[Any]] = {name: [] for name in NAMES}
    for life in range(7):
        names = [name for name in NAMES if dice.random() < 0.6]
        world = world_on(disk, *names, seed=seed * 10 + life).start()
        node = world.node
        for number in range(dice.randrange(12)):
            name, what = dice.choice(NAMES), dice.random()
            if what < 0.1:
                snapshot_of(world)
            elif what < 0.3 and name in node.kept():
                node.forget(name, stop=True)
                model[name] = []
                if name in names:
                    node.restart_child("root", name)
            elif what < 0.4 and name in names:
                node.reset(name, confirm=True)
                model[name] = []
            elif name in names and what < 0.5:
                with pytest.raises(Crashed):
                    node.call(name, "break")
            elif name in names and what < 0.6:
                other = dice.choice(names)
                node.call(name, ("send", other, f"{life}.{number} of {name}"))
                model[other].append(f"{life}.{number} of {name}")
            elif name in names:
                said = f"{life}.{number}" + "x" * dice.choice((1, 3000))
                node.call(name, said)
                model[name].append(said)
            world.run(0.1)
            for each in names:
                assert node.get_state(each) == model[each]
        if dice.random() < 0.5:
            world.stop()
        else:
            disk = world.lose_power(dice)
    with world_on(disk, *NAMES, seed=seed) as world:
        world.run(1.0)
        assert {name: world.node.get_state(name) for name in NAMES} == model


@pytest.mark.parametrize("point", range(0, 60, 2))
def test_a_power_cut_in_the_middle_forgets_all_or_nothing(point: int) -> None:
    """The power goes at each operation of the disk in turn."""
    dice, disk = random.Random(point), SimDisk(point)
    world = world_on(disk, "a", "b").start()
    for name in ("a", "b"):
        world.node.call(name, "kept")
        with pytest.raises(Crashed):
            world.node.call(name, "break")
        world.run(1.0)
    disk.cut_at = disk.operations + 1 + point % 20
    is_told = False
    try:
        world.node.forget("a", stop=True)
        is_told = True
        world.run(1.0)
    except (DurabilityLost, PowerCut):
        assert disk.operations >= disk.cut_at
    disk = world.lose_power(dice)
    with world_on(disk, "a", "b") as world:
        assert world.node.get_state("b") == ["kept"]
        state = world.node.get_state("a")
        assert state == [] if is_told else state in ([], ["kept"])
        assert state or "a" not in letters_on(disk)


def letters_on(disk: SimDisk) -> list[str]:
    """Whose dead letters there are."""
    found = [name for name in disk.names_below("dead-letters") if name.endswith(".letter")]
    contents = [bytes(disk.read(name, 0, disk.size(name))) for name in found]
    return [msgspec.msgpack.decode(each, type=dead_letters.Letter).server for each in contents]


# --- seen from outside ----------------------------------------------------------------------------


def test_tools_show_it_and_history_goes_on(start: Callable[..., Any], tmp_path: Path) -> None:
    node = start(app("a", "b"), data=tmp_path)
    node.call("a", "kept")
    node.call("b", "kept")
    node.forget("a", stop=True)
    node.restart_child("root", "a")
    node.call("a", "after")
    node.stop()
    dumped = run("journal", "dump", str(tmp_path), "--server", "a").stdout
    assert '"type": "forget"' in dumped
    assert run("journal", "verify", "--deep", str(tmp_path)).returncode == 0
    history = History(app("a", "b"), str(tmp_path))
    try:
        history.advance(history.last_lsn)
        assert history.states()["a"] == ["after"]
    finally:
        history.close()
    lines = tmp_path / "lines"
    lines.write_text(run("journal", "export", str(tmp_path)).stdout)
    copy = tmp_path / "copy"
    assert run("journal", "import", str(copy), str(lines)).returncode == 0
    node = start(app("a", "b"), data=copy)
    assert (node.get_state("a"), node.get_state("b")) == (["after"], ["kept"])


def test_dead_letters_of_others_stay(start: Callable[..., Any], tmp_path: Path) -> None:
    node = start(app("a", "b"), data=tmp_path)
    for name in ("a", "b"):
        with pytest.raises(Crashed):
            node.call(name, "break")
    wait_for(lambda: len(dead_letters.numbers(str(tmp_path))) == 2, "two letters")
    node.forget("a", stop=True)
    left = [dead_letters.get(str(tmp_path), lsn) for lsn in dead_letters.numbers(str(tmp_path))]
    assert [letter.server for letter in left] == ["b"]


def test_a_first_start_that_fails_stops_no_snapshot() -> None:
    """The journal knows nothing of a server whose first init raised."""
    disk = SimDisk(1)
    with world_on(disk, "a") as world:
        with pytest.raises(StartFailed):
            world.node.start_child("root", worker("never", args="refuse"))
        assert world.node.kept() == ["a", "keeper"]
        world.node.call("a", 1)
        snapshot_of(world)
    with world_on(disk, "a") as world:
        world.node.start_child("root", worker("never"))
        assert (world.node.get_state("a"), world.node.get_state("never")) == ([1], [])


def test_a_record_of_an_unknown_type_is_not_passed_over() -> None:
    """A newer version may have written one that changes what others mean."""
    disk = SimDisk(1)
    with world_on(disk, "a") as world:
        journal = world.node.journal
        journal.commit.record(99, journal.numbers["a"], b"\xc0", journal.now_ns())
    with pytest.raises(JournalRefused, match=r"type 99.*a newer one wrote it"), world_on(disk, "a"):
        pass


def test_messages_to_a_name_that_was_forgotten_vanish_for_the_next_start_too() -> None:
    """(L2)"""
    disks = []
    with world_on(disk := SimDisk(1), "a", "b") as world:
        world.node.forget("a", stop=True)
        world.node.call("keeper", ("send", "a", "to nobody"))
        disks.append((disk.copy(), []))
        world.node.restart_child("root", "a")
        world.node.call("keeper", ("send", "a", "to the next"))
        assert world.node.get_state("a") == ["to the next"]
        disks.append((disk.copy(), ["to the next"]))
    for disk, state in disks:
        with world_on(disk, "a", "b") as world:
            world.run(1.0)
            assert world.node.get_state("a") == state


def test_a_message_that_made_a_member_anew_arrives_after_a_kill() -> None:
    users = family("user-*", Ledger, journal=True)
    tree = Supervisor("one_for_one", [worker("keeper"), users], id="root")
    disk = SimDisk(1)
    with Simulator(1, Application("t", tree), disk=disk, journal_options=OPTIONS) as world:
        world.node.call("user-ann", "before")
        world.node.forget("user-ann", stop=True)
        world.node.call("keeper", ("send", "user-ann", "behind"))
        disk = disk.copy()
    with Simulator(2, Application("t", tree), disk=disk, journal_options=OPTIONS) as world:
        world.run(1.0)
        assert world.node.call("user-ann", "again") == 2
        assert world.node.get_state("user-ann") == ["behind", "again"]


class Forgetful(Callbacks):
    def __init__(self, *names: str) -> None:
        self.names = names

    def start_phase(self, node: Any, phase: str) -> None:
        for name in self.names:
            node.forget(name, stop=True)


@pytest.mark.parametrize("name, state", [("a", ["under way"]), ("b", [])])
def test_what_is_under_way_at_a_start_is_known_when_a_hook_forgets(name: str, state: Any) -> None:
    def booted(disk: SimDisk, *names: str) -> Simulator:
        children = [worker("a"), worker("b")]
        spec = Application(
            "t",
            Supervisor("one_for_one", children, id="root"),
            phases=["only"],
            callbacks=Forgetful(*names),
        )
        return Simulator(1, spec, disk=disk, journal_options=OPTIONS)

    disk = SimDisk(1)
    with booted(disk) as world:
        world.node.sys.suspend("b")
        world.node.call("a", ("send", "b", "under way"))
        disk = disk.copy()
    with booted(disk, name) as world:
        disk = disk.copy()
    with booted(disk) as world:
        world.run(1.0)
        assert world.node.get_state("b") == state


class Counted(GenServer[Any, Any, Any]):
    """The second version of what `worker("b")` was."""

    version = 2

    def step(self, command: Any, state: Any) -> Any:
        return [*state, command], None

    def upcast(self, version: int, message: Any) -> Any:
        return "upcast", message

    def upcast_state(self, version: int, dumped: Any) -> Any:
        return dumped


def test_what_is_under_way_is_read_as_of_the_version_that_its_receiver_had_then() -> None:
    disk = SimDisk(1)
    with world_on(disk, "a", "b") as world:
        world.node.call("b", "first")
        snapshot_of(world)
        (older,) = (snapshot_lsn(each) for each in disk.names() if each.startswith("snap-"))
        disk = disk.copy()
    tree = Supervisor("one_for_one", [worker("a"), worker("b", Counted)], id="root")
    with Simulator(1, Application("t", tree), disk=disk, journal_options=OPTIONS) as world:
        world.node.sys.suspend("b")
        world.node.call("a", ("send", "b", "second"))
        world.node.forget("a", stop=True)
        disk = disk.copy()
    for name in disk.names():
        if name.startswith("snap-") and name != snapshot_name(older):
            disk.patch(name, 130, bytes([disk.contents()[name][130] ^ 1]))
    with Simulator(1, Application("t", tree), disk=disk, journal_options=OPTIONS) as world:
        assert world.node.journal.recovery.report.snapshot_lsn == older
        world.run(1.0)
        assert world.node.get_state("b") == ["first", "second"]

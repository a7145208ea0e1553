"""Rows of the fault list (durability.md, section 2) that a running node meets, on virtual time."""

import errno
import logging
import random
from typing import Any

import pytest

from pybehave import NO_REPLY, Application, GenServer, Listener, Supervisor, Worker
from pybehave.actions import Continue, StartTimer
from pybehave.errors import DurabilityLost, JournalFull
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.simulation.durable import PORT_FIRST, Keeper, application

OPTIONS = Options(segment_bytes=64 << 10)
STALL_NS = 40 * 10**9


def world_on(disk: SimDisk) -> Simulator:
    return Simulator(1, application(), disk=disk, journal_options=OPTIONS)


def state_of(world: Simulator, name: str = "a") -> list[Any]:
    return world.node.loop.dispatcher.whereis(name).state


@pytest.mark.parametrize("row", ["F11 write", "F12 sync"])
def test_F11_F12_a_failed_commit_ends_the_node(row: str, caplog: pytest.LogCaptureFixture) -> None:
    """F-40: a device that has gone fails everything from then on, and nobody waits for it."""
    disk = SimDisk()
    world = world_on(disk).start()
    assert world.node.call("a", b"one") == b"0 one"
    client = world.connect(f"tcp://127.0.0.1:{PORT_FIRST}")
    disk.fail(errno.EIO, is_forever=True)
    client.send(b"two\n")
    with caplog.at_level(logging.CRITICAL), pytest.raises(DurabilityLost, match="Input/output"):
        world.node.call("a", b"three")
    assert "cannot be written any more: Input/output error; nothing is acknowledged" in caplog.text
    before = world.now
    world.node.journal.close()
    assert world.now - before < 1, "closing waits for nothing that cannot come"
    world.run(1)
    assert client.received == b"" and client.state == "reset"
    assert world.stop() == 1
    disk.heal()
    with world_on(disk.cut(random.Random(0))) as again:
        assert state_of(again)[0] == b"one"


@pytest.mark.parametrize("level", [None, "disk"])
def test_F15_a_refusal_does_not_wait_behind_what_waits_for_room(
    monkeypatch: pytest.MonkeyPatch, level: Any
) -> None:
    """It did: a caller heard nothing before its time was over, where a client was refused."""
    disk = SimDisk()
    with world_on(disk) as world:
        node, journal = world.node, world.node.journal
        spares: Any = journal._spares
        disk.fail(errno.ENOSPC, kinds=("fill",), is_forever=True)
        with monkeypatch.context() as patch:  # the thread that prepares segments takes its time
            patch.setattr(type(spares), "_prepared", lambda *_: None)
            while not journal.commit.stats()["stalls"]:
                owed = node.send_request("a", b"x" * 3000)
                world.run(0.05)
        spares._prepared(3, OSError(errno.ENOSPC, "no room"))
        refused = node.send_request("a", b"x" * 3000, acknowledge=level)
        world.run(0.05)
        with pytest.raises(JournalFull):
            refused.result(0)
        disk.heal()
        world.run(2)
        assert owed.result(0).endswith(b"x")


@pytest.mark.parametrize("what", [errno.EINTR, errno.EAGAIN])
def test_F18_a_write_that_was_interrupted_in_place_is_repeated_at_once(what: int) -> None:
    """Nobody came round to it before something else woke the loop."""
    disk = SimDisk()
    with world_on(disk) as world:
        world.network.set(direct_write=1000)
        client = world.connect(f"tcp://127.0.0.1:{PORT_FIRST}")
        world.run(5)
        in_place = world.node.loop.stats()["io"]["writes_in_place"]
        disk.fail(what, kinds=("write",))
        client.send(b"one\n")
        world.run(0.05)  # more than the disk ever needs
        assert client.received == b"0 one\n"
        assert world.node.loop.stats()["io"]["writes_in_place"] == in_place + 1


class Debtor(GenServer[None, str, None]):
    """Never replies."""

    def step(self, command: str, state: None) -> Any:
        return state, NO_REPLY


def test_F11_who_waits_for_a_reply_that_was_put_off_is_told_too() -> None:
    """The server ends behind the failure, and the error that says so was held back for ever."""
    app = Application("t", Supervisor("one_for_one", [Worker("a", Debtor, journal=True)]))
    disk = SimDisk()
    world = Simulator(1, app, disk=disk, journal_options=OPTIONS).start()
    disk.fail(errno.EIO, is_forever=True)
    owed = world.node.send_request("a", "later")
    assert world.stop() == 1
    with pytest.raises(DurabilityLost):
        owed.result(0)


def test_F15_commands_are_refused_while_the_disk_is_full() -> None:
    disk = SimDisk()
    with world_on(disk) as world:
        disk.fail(errno.ENOSPC, kinds=("fill",), is_forever=True)
        client = world.connect(f"tcp://127.0.0.1:{PORT_FIRST}")
        for number in range(80):
            client.send(b"%d %s\n" % (number, b"x" * 3000))
            world.run(0.01)
        lines = client.take().splitlines()
        assert len(lines) == 80, "everybody is answered at once"
        assert lines[-1].startswith(b"ERR") or b"cannot grow" in lines[-1]
        disk.heal()
        world.run(5)
        client.send(b"again\n")
        world.run(1)
        assert client.take().endswith(b" again\n"), "it recovers by itself"


class Waiter(GenServer[list[Any], Any, None]):
    """Keeps what it hears; "wait" starts a timer."""

    def init(self, args: object) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if command == "wait":
            return state, None, StartTimer("t", 1000.0, "tick")
        return [*state, command], None

    def handle_info(self, message: str, state: list[Any]) -> Any:
        return [*state, message], None


def test_F15_a_timer_that_is_due_while_the_disk_is_full_fires_when_there_is_room() -> None:
    """Its message came back without the timer, and the loop ended on it; a snapshot taken
    meanwhile had lost it.
    """
    app = Application("t", Supervisor("one_for_one", [Worker("a", Waiter, journal=True)]))
    disk = SimDisk()
    with Simulator(1, app, disk=disk, journal_options=OPTIONS) as world:
        disk.fail(errno.ENOSPC, kinds=("fill",), is_forever=True)
        world.node.call("a", "wait")
        with pytest.raises(JournalFull):
            for number in range(80):
                world.node.call("a", number)
                world.run(0.01)
        world.run(1100)
        assert "tick" not in state_of(world)
        assert world.node.journal.snapshots.take()
        world.run(1)
        found = disk.copy()
        disk.heal()
        world.run(5)
        assert state_of(world).count("tick") == 1
    with Simulator(1, app, disk=found, journal_options=OPTIONS) as world:
        world.run(1100)
        assert state_of(world).count("tick") == 1


def test_F26_a_clock_that_was_set_back() -> None:
    disk = SimDisk()
    with world_on(disk) as world:
        world.run(1000)
        world.node.call("a", b"late")
        late = world.node.loop.dispatcher.unix_now()
    with world_on(disk) as world:  # virtual time begins anew: long before
        assert world.node.loop.dispatcher.unix_now() >= late
        world.run(0.001)
        assert world.node.loop.dispatcher.unix_now() >= late, "nor after the first tick"
        world.node.call("a", b"later")
    with world_on(disk) as world:
        assert state_of(world) == [b"late", b"later"]


class Teller(GenServer[list[Any], str, Any]):
    """Says what time it is; goes on with something else before."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: str, state: list[Any]) -> Any:
        if command == "go on":
            return state, None, Continue(command)
        return [*state, self.context.now], self.context.now

    def handle_continue(self, term: Any, state: list[Any]) -> Any:
        return state, None


def test_F26_a_clock_that_was_set_back_behind_an_input_that_was_gone_on_with() -> None:
    """What was stepped last left its time behind as if it were that of the clock."""
    workers = [Worker(name, Teller, journal=True) for name in "ab"]
    app = Application("t", Supervisor("one_for_one", workers))
    disk = SimDisk()
    with Simulator(1, app, disk=disk, journal_options=OPTIONS) as world:
        world.run(30)
        world.node.call("a", "go on")
        found = disk.copy()
    with Simulator(1, app, disk=found, journal_options=OPTIONS) as world:
        world.run(1)
        said = world.node.call("b", "now")
    with Simulator(1, app, disk=found, journal_options=OPTIONS) as world:
        assert world.node.get_state("b") == [said]


def test_F41_a_disk_that_never_answers() -> None:
    """Nothing is acknowledged; closing gives up after its limit, and nothing counts as clean."""
    disk = SimDisk()
    world = world_on(disk).start()
    client = world.connect(f"tcp://127.0.0.1:{PORT_FIRST}")
    client.send(b"one\n")
    world.network.set(disk_ns_min=STALL_NS, disk_ns_max=STALL_NS)
    world.run(30)
    assert client.received == b""
    found = disk.cut_exactly([0] * len(disk.undecided()))
    world.run(60)
    assert client.received == b"0 one\n"
    world.network.set(disk_ns_min=0, disk_ns_max=0)
    world.stop()
    with world_on(found) as again:
        assert state_of(again) == []


def test_a_reply_from_memory_does_not_wait_for_the_disk() -> None:
    """Beside a server whose replies do; when the power goes, only those are sure to be there."""
    app = Application(
        "levels",
        Supervisor(
            "one_for_one",
            [
                Worker("a", Keeper, journal=True),
                Worker("b", Keeper, journal=True, acknowledge="memory"),
            ],
        ),
        listeners=[
            Listener(f"tcp://127.0.0.1:{PORT_FIRST + index}", Lines(), to=name)
            for index, name in enumerate("ab")
        ],
    )
    world = Simulator(1, app, disk=SimDisk(), journal_options=OPTIONS).start()
    world.run(1)
    world.network.set(disk_ns_min=STALL_NS, disk_ns_max=STALL_NS)
    clients = [world.connect(f"tcp://127.0.0.1:{PORT_FIRST + index}") for index in range(2)]
    for client in clients:
        client.send(b"one\n")
    world.run(1)
    assert [client.received for client in clients] == [b"", b"0 one\n"]
    world.run(100)
    assert clients[0].received == b"0 one\n"
    world.network.set(disk_ns_min=0, disk_ns_max=0)
    world.stop()

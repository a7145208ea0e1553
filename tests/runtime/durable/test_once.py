"""Requests that their clients name take effect once, however often they are sent."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Once, Supervisor, Worker, actions
from pybehave.errors import Crashed, RequestKnown, Stopped
from pybehave.journal.recovery import Options
from pybehave.protocols import OK, Error, Lines, Resp
from pybehave.protocols.protocol import Protocol
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Client, Simulator
from tests.conftest import dial, receive
from tests.power.machine import wait_for

TCP = "tcp://127.0.0.1:7000"
SMALL = Options(segment_bytes=256 * 1024)


class Account(GenServer[dict[str, Any], Any, Any]):
    def init(self, args: Any) -> dict[str, Any]:
        return {"balance": 0, "log": [], "callers": []}

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        match command:
            case ("add", amount):
                state["balance"] += amount
                return state, state["balance"]
            case ("log", word):
                state["log"].append(word)
                return state, state["log"]
            case "break":
                state["balance"] = -1
                raise ValueError("a deliberate bug")
            case "later":
                state["balance"] += 1
                state["callers"].append(self.context.caller)
                return state, actions.NO_REPLY
            case ("forward", name):
                keep = actions.Cast(name, ("keep", self.context.caller))
                return state, actions.NO_REPLY, [keep]
            case ("keep", caller):
                state["callers"].append(caller)
                return state, actions.NO_REPLY
            case ("now", value):
                callers, state["callers"] = state["callers"], []
                return state, None, [actions.Reply(caller, value) for caller in callers]
            case [b"SET", word]:
                state["log"].append(word)
                return state, OK if word != b"no" else Error("ERR no")
        return state, state["balance"]


def account(*, journal: bool = True, **listener: Any) -> Application:
    return Application(
        "test",
        Supervisor("one_for_one", [Worker("a", Account, journal=journal)], intensity=100),
        **listener,
    )


@pytest.fixture(params=[True, False], ids=["journaled", "in memory"])
def node(request: Any, start: Callable[..., Any], tmp_path: Path) -> Any:
    data = {"data": tmp_path / "data", "journal_options": SMALL} if request.param else {}
    return start(account(journal=request.param), **data)


def test_a_repetition_is_answered_and_not_stepped(node: Any) -> None:
    assert node.call("a", Once("c", 1, ("add", 5))) == 5
    assert node.call("a", Once("c", 2, ("add", 5))) == 10
    assert node.call("a", Once("c", 1, ("add", 5))) == 5
    assert node.call("a", Once("d", 1, ("add", 5))) == 15
    assert node.call("a", "balance") == 15


def test_a_repeated_cast_does_nothing(node: Any) -> None:
    for _ in range(3):
        node.cast("a", Once(b"c", 1, ("add", 5)))
    assert node.call("a", "balance") == 5


def test_a_kept_reply_does_not_change_with_the_state(node: Any) -> None:
    assert node.call("a", Once("c", 1, ("log", "x"))) == ["x"]
    node.call("a", ("log", "y"))
    assert node.call("a", Once("c", 1, ("log", "x"))) == ["x"]


def test_numbers_may_come_in_any_order_within_the_window(node: Any) -> None:
    order = list(range(1, 65))
    random.Random(1).shuffle(order)
    outputs = {number: node.call("a", Once("c", number, ("add", 1))) for number in order}
    assert sorted(outputs.values()) == order_of(64)
    assert {n: node.call("a", Once("c", n, ("add", 1))) for n in order} == outputs


def later(node: Any, request: Any, waiting: int) -> Future[Any]:
    """Call from another thread; returns when so many callers wait for the server."""
    future = ThreadPoolExecutor(1).submit(node.call, "a", request)
    server = node.loop.dispatcher.whereis("a")
    wait_for(lambda: server.callers_count == waiting, "the caller waits")
    return future


def order_of(count: int) -> list[int]:
    return list(range(1, count + 1))


def test_what_is_too_old_or_forgotten_is_refused(node: Any) -> None:
    for number in range(1, 200):
        node.call("a", Once("c", number, ("add", 1)))
    with pytest.raises(RequestKnown, match="older than the latest 64"):
        node.call("a", Once("c", 3, ("add", 1)))
    with pytest.raises(RequestKnown, match="forgotten"):
        node.call("a", Once("unknown", 65, ("add", 1)))
    assert node.call("a", "balance") == 199


def test_a_reply_that_is_put_off_goes_to_every_repetition(node: Any) -> None:
    first, second = (later(node, Once("c", 1, "later"), waiting) for waiting in (1, 2))
    node.call("a", ("now", "said"))
    assert (first.result(5), second.result(5)) == ("said", "said")
    assert node.call("a", Once("c", 1, "later")) == "said"
    assert node.call("a", "balance") == 1


def test_a_crash_fails_the_request_for_good(start: Callable[..., Any], tmp_path: Path) -> None:
    node = start(account(), data=tmp_path / "data", journal_options=SMALL)
    assert node.call("a", Once("c", 1, ("add", 7))) == 7
    for _ in range(2):
        with pytest.raises(Crashed):
            node.call("a", Once("c", 2, "break"))
    assert node.call("a", Once("c", 1, ("add", 7))) == 7
    assert node.stats()["crashes"] == 1
    node.stop()
    node = start(account(), data=tmp_path / "data", journal_options=SMALL)
    with pytest.raises(Crashed):
        node.call("a", Once("c", 2, "break"))
    assert node.call("a", "balance") == 7


@pytest.mark.parametrize("with_snapshot", [False, True])
def test_outcomes_are_remembered_across_starts(
    start: Callable[..., Any], tmp_path: Path, with_snapshot: bool
) -> None:
    app = account(listeners=[Listener("tcp://127.0.0.1:0", Resp(once=True), to="a")])
    said = []
    for turn in range(3):
        node = start(app, data=tmp_path / "data", journal_options=SMALL)
        if with_snapshot:
            node.journal.snapshots.records = 0
        client = dial(node)
        client.sendall(b"ONCE c 1 set x\r\nONCE c 2 SET no\r\n")
        said.append(receive(client, len(b"+OK\r\n-ERR no\r\n")))
        assert node.call("a", Once("t", 1, ("log", "y"))) == [b"x", b"no", "y"]
        if turn == 0:
            late = later(node, Once("t", 2, "later"), 1)
            node.call("a", ("now", 7))
            assert late.result(5) == 7
        assert node.call("a", Once("t", 2, "later")) == 7
        client.close()
        node.stop()
    assert said == [b"+OK\r\n-ERR no\r\n"] * 3


def pair(disk: SimDisk) -> Simulator:
    workers = [Worker(name, Account, journal=True) for name in ("a", "b")]
    app = Application("test", Supervisor("one_for_one", workers))
    return Simulator(1, app, disk=disk, journal_options=SMALL)


@pytest.mark.parametrize("snapshot", ["none", "before the reply", "behind it"])
@pytest.mark.parametrize("who", ["a", "b"])
def test_a_reply_that_was_put_off_is_remembered_whoever_gave_it(who: str, snapshot: str) -> None:
    """Also where what waits for it was read from a snapshot, or from a message."""
    disk, command = SimDisk(), "later" if who == "a" else ("forward", "b")
    with pair(disk) as world:
        owed = world.node.send_request("a", Once("c", 1, command))
        world.run(1)
        if snapshot == "before the reply":
            assert world.node.journal.snapshots.take()
            world.run(1)
        world.node.call(who, ("now", ["said"]))
        assert owed.result(0) == ["said"]
        if snapshot == "behind it":
            assert world.node.journal.snapshots.take()
            world.run(1)
        assert world.node.stats()["journal"]["snapshots"]["taken"] == (snapshot != "none")
    for _ in range(2):
        disk = disk.cut(random.Random(0))
        with pair(disk) as world:
            assert world.node.call("a", Once("c", 1, command)) == ["said"]


def test_a_reply_that_was_put_off_is_remembered_beside_a_server_that_nobody_starts() -> None:
    """The step that read the journal again ended the process, and so did each start."""
    disk = SimDisk()
    with pair(disk) as world:
        world.node.start_child("root", Worker("gone", Account, journal=True))
        owed = world.node.send_request("a", Once("c", 1, ("forward", "b")))
        world.run(1)
        world.node.call("b", ("now", "said"))
        assert owed.result(0) == "said"
    with pair(disk) as world:
        assert world.node.call("a", Once("c", 1, ("forward", "b"))) == "said"


def test_a_reply_that_was_put_off_and_lost_is_told_so(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(account(), data=tmp_path / "data", journal_options=SMALL)
    owed = later(node, Once("c", 1, "later"), 1)
    node.stop()
    with pytest.raises(Stopped):
        owed.result(5)
    node = start(account(), data=tmp_path / "data", journal_options=SMALL)
    with pytest.raises(RequestKnown, match="reply was lost"):
        node.call("a", Once("c", 1, "later"))
    assert node.call("a", "balance") == 1


def test_malformed_names_are_refused_at_the_door(serve: Callable[..., Any]) -> None:
    node = serve(Account, Resp(once=True))
    client = dial(node)
    for line in (b"ONCE c 1", b"ONCE c x SET a", b"ONCE c 0 SET a", b"ONCE  1 SET a"):
        client.sendall(line + b"\r\n")
        assert receive(client, 5).startswith(b"-ERR ")
        while not client.recv(1000).endswith(b"\r\n"):
            pass
    client.close()


@pytest.mark.parametrize(
    ("client", "number", "request_", "error"),
    [
        ("", 1, None, ValueError),
        ("x" * 257, 1, None, ValueError),
        ("c", 0, None, ValueError),
        ("c", 2**63, None, ValueError),
        ("c", True, None, TypeError),
        (7, 1, None, TypeError),
        ("c", 1, Once("c", 1, None), TypeError),
    ],
)
def test_names_are_checked(client: Any, number: Any, request_: Any, error: type) -> None:
    with pytest.raises(error, match="Once"):
        Once(client, number, request_)


# --- power cuts ----------------------------------------------------------------------------------


class Named(Protocol):
    """Lines: client, number, command."""

    framing = Lines()

    def decode(self, message: bytes) -> Any:
        client, number, command = message.split(b" ", 2)
        return Once(client, int(number), command)


class Log(GenServer[list[bytes], bytes, bytes]):
    def init(self, args: Any) -> list[bytes]:
        return []

    def step(self, command: bytes, state: list[bytes]) -> tuple[list[bytes], bytes]:
        state.append(command)
        return state, b"%s at %d" % (command, len(state) - 1)


class Stubborn:
    """Clients that send each request until they hear an answer, through cuts and resets."""

    CLIENTS = 3
    REQUESTS = 12

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.disk = SimDisk(seed)
        self.heard: dict[bytes, bytes] = {}
        self.connections: dict[tuple[bytes, int], Client] = {}

    def app(self) -> Application:
        worker = Worker("log", Log, journal=True)
        return Application(
            "test",
            Supervisor("one_for_one", [worker], intensity=100),
            listeners=[Listener(TCP, Named(), to="log")],
        )

    def run(self) -> None:
        for _ in range(4):
            world = self.life()
            self.disk = world.lose_power(self.dice)
        world = self.life(is_last=True)
        state = world.node.loop.dispatcher.whereis("log").state
        assert len(set(state)) == len(state)
        assert {b"%s at %d" % (line, at) for at, line in enumerate(state)} == set(
            self.heard.values()
        )
        world.stop()

    def life(self, *, is_last: bool = False) -> Simulator:
        options = Options(segment_bytes=64 << 10)
        world = Simulator(
            self.dice.getrandbits(32),
            self.app(),
            disk=self.disk,
            journal_options=options,
            shake=not is_last,
        ).start()
        world.node.journal.snapshots.records = self.dice.choice((5, 1000))
        world.network.set(disk_ns_max=self.dice.choice((250_000, 20_000_000)))
        self.connections = {}
        if is_last:
            while self.work(world):
                world.run(0.01)
        else:
            until = world.now + self.dice.random() * 0.2
            while world.now < until:
                self.work(world)
                world.run(0.01)
        return world

    def work(self, world: Simulator) -> bool:
        """Send again what has no answer; whether there is any."""
        missing = 0
        for who in range(self.CLIENTS):
            name = b"client-%d" % who
            lines = [b"%s %d" % (name, number) for number in range(1, self.REQUESTS + 1)]
            lines = [line for line in lines if line not in self.heard]
            missing += len(lines)
            for line in lines:
                for path in (0, 1):
                    if self.dice.random() < 0.3:
                        self.connection(world, (name, path)).send(line + b" " + line + b"\n")
        return missing > 0

    def connection(self, world: Simulator, key: tuple[bytes, int]) -> Client:
        """One of the two connections of a client."""
        found = self.connections.get(key)
        if found is None or not found.is_open:
            found = self.connections[key] = world.connect(TCP)
            found.on_data = self.listen
        return found

    def listen(self, connection: Client) -> None:
        *lines, rest = bytes(connection.received).split(b"\n")
        connection.received[:] = rest
        for line in lines:
            who, _, _ = line.partition(b" at ")
            if b" at " in line:
                assert self.heard.setdefault(who, line) == line, "two answers to one request"


@pytest.mark.parametrize("seed", range(60))
def test_stubborn_clients_write_each_line_once(seed: int) -> None:
    Stubborn(seed).run()


class Payer(GenServer[int, int, int]):
    """Casts what it is asked for, by the name that its number gives it."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, number: int, state: int) -> Any:
        return state, state, actions.Cast("a", Once("payer", number, ("add", 1)))


def test_a_named_cast_of_another_server_that_comes_again_has_arrived() -> None:
    """Else each start would bring it again, and step it once the name was forgotten."""
    workers = [Worker("a", Account, journal=True), Worker("payer", Payer, journal=True)]
    app = Application("test", Supervisor("one_for_one", workers, id="root"))
    disk = SimDisk(1)
    with Simulator(1, app, disk=disk, journal_options=SMALL) as world:
        for _ in range(2):
            world.node.call("payer", 1)
            world.run(1.0)
        assert world.node.get_state("a")["balance"] == 1
        assert not world.node.loop.dispatcher.outbox
        disk = disk.copy()
    with Simulator(2, app, disk=disk, journal_options=SMALL) as world:
        assert not world.node.loop.dispatcher.outbox
        world.node.forget("a", stop=True)
        world.node.restart_child("root", "a")
        world.run(1.0)
        disk = disk.copy()
    with Simulator(3, app, disk=disk, journal_options=SMALL) as world:
        world.run(1.0)
        assert world.node.get_state("a")["balance"] == 0

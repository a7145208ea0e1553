"""What a journaled server asked for is answered exactly once, whatever ends in between."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pybehave import Application, GenServer, Listener, Supervisor, Worker, actions
from pybehave.actions import CallFailed, ConnectFailed
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.power.machine import wait_for

TCP = "tcp://127.0.0.1:7000"


class Slow(GenServer[dict[Any, Any], Any, Any]):
    """Answers after a while; "crash" ends it, and with it all who wait."""

    def init(self, args: Any) -> dict[Any, Any]:
        return {}

    def handle_call(self, request: Any, caller: Any, state: dict[Any, Any]) -> Any:
        if request[0] == "crash":
            raise ValueError("a deliberate bug")
        state[len(state)] = caller
        return (
            state,
            actions.NO_REPLY,
            [actions.StartTimer(len(state), 0.005, (len(state) - 1, request))],
        )

    def handle_info(self, message: Any, state: dict[Any, Any]) -> Any:
        number, request = message
        return state, None, [actions.Reply(state[number], request)]


class Asker(GenServer[dict[str, list[Any]], Any, Any]):
    """Keeps what it asked and what it heard, by tag."""

    def init(self, args: Any) -> dict[str, list[Any]]:
        return {"asked": [], "heard": []}

    def step(self, line: bytes, state: dict[str, list[Any]]) -> Any:
        verb, _, tag = line.decode().partition(" ")
        if verb == "boom":
            raise ValueError("a deliberate bug")
        state["asked"].append(line)
        if verb == "monitor":
            return state, b"asked", [actions.Monitor("slow", tag)]
        request = ("crash",) if verb == "crash" else (verb, tag)
        return (
            state,
            b"asked",
            [actions.Call("slow", request, tag, timeout=None, idempotent=verb == "again")],
        )

    def handle_info(self, message: Any, state: dict[str, list[Any]]) -> Any:
        kind = type(message).__name__
        if kind == "CallReply" and message.value[0] == "sour":
            raise ValueError("a deliberate bug")
        if isinstance(message, CallFailed):
            kind = type(message.error).__name__
        state["heard"].append([kind, message.tag])
        return state, None


def application() -> Application:
    return Application(
        "t",
        Supervisor(
            "one_for_one", [Worker("asker", Asker, journal=True), Worker("slow", Slow)],
            intensity=30, period=1,
        ),
        listeners=[Listener(TCP, Lines(), to="asker")],
    )  # fmt: skip


class Cuts:
    """One seed: lives of one who asks, ended by power cuts."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.disk = SimDisk(seed)
        self.number = 0

    def run(self) -> Counter[str]:
        for _ in range(4):
            self.disk = self.life().lose_power(self.dice)
        world = self.life(shake=False)
        world.run(2.0)
        state = world.node.get_state("asker")
        world.stop()
        tags = [line.decode().partition(" ")[2] for line in state["asked"]]
        heard = Counter(tag for _, tag in state["heard"])
        down = {line.partition(b" ")[2].decode() for line in state["asked"] if b"monitor" in line}
        assert all(heard[tag] == 1 for tag in tags if tag not in down), (state, heard)
        assert all(heard[tag] <= 1 for tag in tags)
        again = {line.partition(b" ")[2].decode() for line in state["asked"] if b"again" in line}
        kinds = Counter(kind for kind, tag in state["heard"] if tag in again)
        assert set(kinds) <= {"CallReply", "Crashed", "NoProc"}  # never Interrupted
        return Counter(kind for kind, _ in state["heard"])

    def life(self, *, shake: bool = True) -> Simulator:
        world = Simulator(
            self.dice.getrandbits(32),
            application(),
            disk=self.disk,
            journal_options=Options(segment_bytes=64 << 10),
            shake=shake,
        ).start()
        world.node.journal.snapshots.records = self.dice.choice((4, 1000))
        client = world.connect(TCP)
        verbs = (b"once", b"once", b"again", b"again", b"monitor", b"boom", b"crash")
        for _ in range(self.dice.randrange(1, 12) if shake else 0):
            self.number += 1
            client.send(b"%s %d\n" % (self.dice.choice(verbs), self.number))
            world.run(self.dice.random() * 0.01)
        return world


def test_each_question_has_one_answer_through_crashes_and_power_cuts() -> None:
    heard: Counter[str] = Counter()
    for seed in range(120):
        heard += Cuts(seed).run()
    for kind in ("CallReply", "Interrupted", "Crashed", "Down"):
        assert heard[kind] > 20, heard


class Connecting(GenServer[list[Any], Any, Any]):
    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        state.append("asked")
        return state, None, [actions.Connect("tcp://10.0.0.9:9", Lines(), tag="c")]

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        state.append(message)
        return state, None


def test_a_connect_that_was_under_way_has_failed() -> None:
    """In the simulator, for there a connect takes as long as it must."""
    app = Application("t", Supervisor("one_for_one", [Worker("r", Connecting, journal=True)]))
    disk = SimDisk(1)
    world = Simulator(1, app, disk=disk, journal_options=Options(segment_bytes=64 << 10)).start()
    world.node.cast("r", "connect")
    world.run_until(lambda: world.node.get_state("r") == ["asked"])
    journal = world.node.journal.commit
    world.run_until(lambda: journal.durable_lsn == journal.next_lsn - 1)
    disk = world.lose_power(random.Random(1))
    world = Simulator(1, app, disk=disk, journal_options=Options(segment_bytes=64 << 10)).start()
    world.run_until(lambda: len(world.node.get_state("r")) == 2)
    failed = world.node.get_state("r")[1]
    assert isinstance(failed, ConnectFailed)
    assert failed.tag == "c"
    assert "tcp://10.0.0.9:9" in str(failed.error)
    world.stop()


def test_a_journaled_watcher_goes_on_watching(start: Callable[..., Any], tmp_path: Path) -> None:
    def watching() -> Application:
        workers = [
            Worker("asker", Asker, journal=True), Worker("slow", Slow),
        ]  # fmt: skip
        return Application("t", Supervisor("one_for_one", workers, intensity=100))

    node = start(watching(), data=tmp_path / "data")
    node.call("asker", b"monitor m")
    node.cast("asker", b"boom")
    wait_for(lambda: node.whereis("asker") == 2, "it is restarted")
    assert node.get_state("asker")["heard"] == []
    node.cast("slow", "unknown")
    wait_for(lambda: node.get_state("asker")["heard"] == [["Down", "m"]], "it hears")
    node.call("asker", b"monitor n")
    node.stop()
    node = start(watching(), data=tmp_path / "data")
    wait_for(lambda: node.get_state("asker")["heard"][1:] == [["Down", "n"]], "it hears")


class Tied(GenServer[int, str, int]):
    """Links itself to whom it is told to."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, name: str, state: int) -> Any:
        return state + 1, state + 1, [actions.Link(name)] if name else []


def test_a_link_to_one_that_does_not_run_any_more_ends_a_server_once(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    """Each restart broke on it again, until the node ended; and so did each start of the node."""
    tied, other = Worker("tied", Tied, journal=True), Worker("other", Tied, restart="temporary")
    app = Application("t", Supervisor("one_for_one", [tied, other], id="root", intensity=2))
    node = start(app, data=tmp_path / "data")
    node.call("tied", "other")
    node.terminate_child("root", "other")
    wait_for(lambda: node.whereis("tied") == 2, "the link ends it")
    for _ in range(2):
        assert node.call("tied", "") > 1
        node.run_on_loop(lambda: None)
        assert node.whereis("other") is None
        assert node.crashes() == [] or len(node.crashes()) == 1
        node.stop()
        app = Application("t", Supervisor("one_for_one", [tied], id="root", intensity=2))
        node = start(app, data=tmp_path / "data")
    assert node.call("tied", "") == 4


def test_an_answer_that_the_server_failed_on_was_one(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(application(), data=tmp_path / "data", listen=("tcp://127.0.0.1:0",))
    node.call("asker", b"sour s")
    wait_for(lambda: node.whereis("asker") == 2, "it fails on the answer")
    node.call("asker", b"once o")
    wait_for(lambda: len(node.get_state("asker")["heard"]) > 0, "the next answer comes")
    node.stop()
    node = start(application(), data=tmp_path / "data", listen=("tcp://127.0.0.1:0",))
    node.call("asker", b"once p")
    wait_for(lambda: ["CallReply", "p"] in node.get_state("asker")["heard"], "one more comes")
    assert node.get_state("asker")["heard"] == [["CallReply", "o"], ["CallReply", "p"]]

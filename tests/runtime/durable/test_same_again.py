"""What happened live is what a replay gives: messages and actions at the edges (decision 0035)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.actions import (
    Call,
    Cancel,
    Cast,
    Close,
    Connect,
    Continue,
    Info,
    Monitor,
    Reply,
    Run,
    Send,
    StartTimer,
    Stop,
)
from pybehave.errors import Crashed, StartFailed
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines, Protocol
from pybehave.runtime.durable.history import History
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial, until

TCP = "tcp://127.0.0.1:7000"
nowhere: Any = None

ACTIONS: dict[str, Callable[[], list[Any]]] = {
    "a Send to nothing": lambda: [Cast("other", "x"), Send(nowhere, b""), Cast("other", "y")],
    "a Send to a name": lambda: [Send("other", b""), StartTimer("t", 0.01, "late")],
    "a Reply to nobody": lambda: [StartTimer("t", 0.01, "late"), Reply("caller", 1)],
    "a Close of a name": lambda: [Cast("other", "x"), Close("connection")],
    "a timer's message": lambda: [Cast("other", "x"), StartTimer("t", 0.01, object())],
    "a call's tag": lambda: [Cast("other", "x"), Call("other", "y", tag=object())],
    "a call that is repeated": lambda: [Call("other", object(), tag=1, idempotent=True)],
    "a monitor's tag": lambda: [Cast("other", "x"), Monitor("other", tag=object())],
    "a connect's tag": lambda: [Connect(TCP, Lines(), tag=object())],
    "a timer's name": lambda: [Cast("other", "x"), StartTimer([], 0.01, "late")],
}


class Doer(GenServer[list[Any], Any, Any]):
    """Keeps what it hears, and does what it is told."""

    def init(self, args: Any) -> Any:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        state.append(command)
        found = ACTIONS.get(command)
        if found is not None:
            return state, "done", found()
        if command == "leave":
            return state, "done", [Continue("more"), Stop("normal")]
        if command == "go on":
            return state, "done", [Continue("bad"), StartTimer("t", 0.01, "late")]
        if isinstance(command, tuple):
            return state, "done", [Cast(name, "word") for name in command]
        return state, list(state)

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return [*state, message], None

    def handle_continue(self, term: Any, state: list[Any]) -> Any:
        return [*state, term], None, [Send(nowhere, b"")] if term == "bad" else None


def world_on(disk: SimDisk, *names: str) -> Simulator:
    children = [Worker(name, Doer, journal=True) for name in names or ("doer", "other")]
    tree = Supervisor("one_for_one", children, id="root", intensity=100)
    options = Options(segment_bytes=64 << 10)
    return Simulator(1, Application("t", tree), disk=disk, journal_options=options)


def found_on(disk: SimDisk, *names: str) -> dict[str, Any]:
    """The states after a start that finds this disk, a second later."""
    with world_on(disk, *names) as world:
        world.run(1.0)
        return {name: world.node.get_state(name) for name in world.node.names()}


@pytest.mark.parametrize("command", ACTIONS)
def test_an_action_that_cannot_be_carried_out_takes_all_others_along(command: str) -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        world.node.call("doer", "kept")
        with pytest.raises(Crashed):
            world.node.call("doer", command)
        world.run(1.0)
        live = {name: world.node.get_state(name) for name in world.node.names()}
        killed = disk.copy()
    assert live == {"doer": ["kept"], "other": []}
    assert found_on(killed) == found_on(disk) == live


def test_a_continue_whose_action_cannot_be_carried_out_has_not_been() -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        assert world.node.call("doer", "go on") == "done"
        world.run(1.0)
        live = world.node.get_state("doer")
        killed = disk.copy()
    assert live == ["go on", "late"]
    assert found_on(killed)["doer"] == found_on(disk)["doer"] == live


def test_behind_a_stop_nothing_is_continued() -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        world.node.call("doer", "leave")
        world.run(1.0)
        live = world.node.get_state("doer")
        killed = disk.copy()
    assert live == ["leave"]
    assert found_on(killed)["doer"] == found_on(disk)["doer"] == live


class Initial(Doer):
    """Its init asks for what cannot be."""

    bad = True

    def init(self, args: Any) -> Any:
        if type(self).bad:
            return [], StartTimer("t", 0.01, "late"), Send(nowhere, b"")
        return []


def test_an_init_whose_action_cannot_be_carried_out_has_not_been(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = Supervisor("one_for_one", [Worker("s", Initial, journal=True)])
    app, disk = Application("t", tree), SimDisk(1)
    with pytest.raises(StartFailed), Simulator(1, app, disk=disk):
        pass
    monkeypatch.setattr(Initial, "bad", False)
    with Simulator(1, app, disk=disk) as world:
        world.run(1.0)
        assert world.node.get_state("s") == []


def test_what_was_sent_to_a_name_that_never_was_stays_lost() -> None:
    disk = SimDisk(1)
    with world_on(disk, "doer") as world:
        world.node.call("doer", ("later", "doer2"))
        world.run(1.0)
        assert dict(world.node.loop.dispatcher.outbox) == {}
        killed = disk.copy()
    for each in (killed, disk):
        assert found_on(each, "doer", "later")["later"] == []


def test_what_was_sent_to_a_server_that_is_absent_waits_for_it() -> None:
    """Through starts without it, and through a snapshot."""
    disk = SimDisk(1)
    found_on(disk, "doer", "later")
    with world_on(disk, "doer") as world:
        world.node.call("doer", ("later",))
        world.run(1.0)
    with world_on(disk, "doer") as world:
        assert world.node.journal.snapshots.take()
        world.run(1.0)
        world.node.call("doer", ("later",))
        world.run(1.0)
        killed = disk.copy()
    for each in (killed, disk):
        found_on(each, "doer")
        assert found_on(each, "doer", "later")["later"] == ["word", "word"]
        assert found_on(each, "doer", "later")["later"] == ["word", "word"]


class Numbers(Protocol):
    """Lines of numbers; encodes nothing else."""

    framing = Lines()

    def decode(self, message: bytes) -> str:
        return message.decode()

    def encode(self, output: Any) -> bytes:
        return b"%d" % output


class Pusher(GenServer[list[str], str, int]):
    """Sends to whoever asks what its protocol has no form for."""

    def init(self, args: Any) -> list[str]:
        return []

    def step(self, command: str, state: list[str]) -> Any:
        state.append(command)
        if command == "push":
            return state, 1, Send(self.context.connection, "no number")
        return state, len(state)


def test_a_message_to_a_connection_that_has_no_form_is_a_crash_of_its_step() -> None:
    worker = Worker("s", Pusher, journal=True)
    app = Application(
        "t",
        Supervisor("one_for_one", [worker], intensity=100),
        listeners=[Listener(TCP, Numbers(), to="s")],
    )
    disk = SimDisk(1)
    with Simulator(1, app, disk=disk) as world:
        client = world.connect(TCP)
        for line in (b"kept\n", b"push\n", b"more\n"):
            client.send(line)
            world.run(0.2)
        assert world.node.get_state("s") == ["kept", "more"]
        killed = disk.copy()
    for each in (killed, disk):
        with Simulator(1, app, disk=each) as world:
            assert world.node.get_state("s") == ["kept", "more"]


class GoesOn(Pusher):
    """Each word of a line is continued with; what "push" sends has no form."""

    def step(self, command: str, state: list[str]) -> Any:
        state.append(command)
        again = [Continue((word, self.context.connection)) for word in command.split()]
        return state, len(state), again[1:]

    def handle_continue(self, term: Any, state: list[str]) -> Any:
        word, connection = term
        state.append(word)
        if word == "push":
            return state, None, [Cast("other", "lost"), Send(connection, "no number")]
        if word == "raise":
            raise ValueError("a deliberate bug")
        return state, None, [Cast("other", word), *([Continue(("x", 0))] if word == "w" else [])]


class GoesOnPurely(GoesOn):
    pure = True

    def handle_continue(self, term: Any, state: list[str]) -> Any:
        return super().handle_continue(term, list(state))


@pytest.mark.parametrize("kind", [GoesOn, GoesOnPurely])
@pytest.mark.parametrize("failing", ["push", "raise"])
def test_a_continue_that_failed_has_failed_for_each_start(kind: Any, failing: str) -> None:
    workers = [Worker("s", kind, journal=True), Worker("other", Doer, journal=True)]
    app = Application(
        "t",
        Supervisor("one_for_one", workers, intensity=100),
        listeners=[Listener(TCP, Numbers(), to="s")],
    )
    disk = SimDisk(1)
    with Simulator(1, app, disk=disk) as world:
        client = world.connect(TCP)
        for line in ("go v", f"go w {failing} never", "more", f"go {failing}", "go y"):
            client.send(f"{line}\n".encode())
            world.run(0.2)
        live = {name: world.node.get_state(name) for name in ("s", "other")}
        killed = disk.copy()
    went = ["go v", "v", f"go w {failing} never", "w", "more", f"go {failing}", "go y", "y"]
    assert live == {"s": went, "other": ["v", "w", "y"]}
    assert client.received.split()[0] == b"1"
    for each in (killed, disk):
        for _ in range(2):
            with Simulator(1, app, disk=each) as world:
                world.run(1.0)
                assert {name: world.node.get_state(name) for name in live} == live


@pytest.mark.parametrize("kind", [GoesOn, GoesOnPurely])
@pytest.mark.parametrize("failing", ["push", "raise"])
def test_a_continue_that_failed_has_failed_for_each_start_on_a_disk(
    start: Callable[..., Any], tmp_path: Path, kind: Any, failing: str
) -> None:
    """As above, on the other completion sources: after a clean end, and as a kill leaves it."""
    workers = [Worker("s", kind, journal=True), Worker("other", Doer, journal=True)]
    tree = Supervisor("one_for_one", workers, intensity=100)
    served = Application("t", tree, listeners=[Listener("tcp://127.0.0.1:0", Numbers(), to="s")])
    data, killed = tmp_path / "data", tmp_path / "killed"
    node = start(served, data=data)
    with dial(node) as client:
        for line, incarnation in (("go v", 1), (f"go w {failing} never", 2), ("more", 2),
                                  (f"go {failing}", 3), ("go y", 3)):  # fmt: skip
            client.sendall(f"{line}\n".encode())
            until(node, lambda line=line: line in known(node, "s"))  # type: ignore[misc]
            until(node, lambda n=incarnation: node.whereis("s") == n)  # type: ignore[misc]
        until(node, lambda: known(node, "s")[-1:] == ["y"] and known(node, "other")[-1:] == ["y"])
        node.call("other", "a word")  # durable, and all before it
        passing = shutil.ignore_patterns("dead-letters", "*.tmp")  # renamed while they are copied
        shutil.copytree(data, killed, ignore=passing)
    live = {name: node.get_state(name) for name in ("s", "other")}
    node.stop()
    went = ["go v", "v", f"go w {failing} never", "w", "more", f"go {failing}", "go y", "y"]
    assert live == {"s": went, "other": ["v", "w", "y", "a word"]}
    for folder in (killed, data):
        for _ in range(2):
            node = start(Application("t", tree), data=folder)
            assert {name: node.get_state(name) for name in live} == live
            node.stop()


def known(node: Any, name: str) -> list[str]:
    """A server's state, from the loop's own thread; empty while it is started again."""
    return list(node.get_state(name)) if node.whereis(name) else []


def test_each_state_that_a_look_back_shows_is_one_that_was(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    workers = [Worker("s", GoesOn, journal=True), Worker("other", Doer, journal=True)]
    app = Application("t", Supervisor("one_for_one", workers, intensity=100))
    node = start(app, data=tmp_path / "data")
    node.call("s", "go raise")
    while node.whereis("s") != 2:
        pass
    node.call("s", "more")
    node.stop()
    history = History(app, str(tmp_path / "data"), 0)
    shown = []
    for lsn in range(1, history.last_lsn + 1):
        history.advance(lsn)
        state = list(history.states().get("s", []))
        if state not in shown:
            shown.append(state)
    history.close()
    assert shown == [[], ["go raise"], ["go raise", "more"]]


class Caller(GenServer[list[Any], Any, Any]):
    """Connects to what is no address."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: str, state: list[Any]) -> Any:
        return state, None, Connect(command, Lines(), tag="t")

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return [*state, f"{type(message).__name__}: {message.error}"], None


@pytest.mark.parametrize("journal", [False, True])
def test_a_connect_to_no_address_is_told(
    start: Callable[..., Any], tmp_path: Path, journal: bool
) -> None:
    tree = Supervisor("one_for_one", [Worker("s", Caller, journal=journal)])
    node = start(Application("t", tree), data=tmp_path / "data")
    node.call("s", "nowhere://at-all")
    while not (state := node.get_state("s")):
        pass
    [told] = state
    assert told.startswith("ConnectFailed: Connect: url='nowhere://at-all' has no known scheme; ")
    assert node.whereis("s") == 1


class Unequal:
    """A tag that cannot be compared."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("a deliberate bug")

    __hash__ = None  # type: ignore[assignment]


class Unframed(Protocol):
    """Has no framing."""


class Asker(Caller):
    """Asks for what fails when its input is durable."""

    def step(self, command: str, state: list[Any]) -> Any:
        if command == "connect":
            return [*state, command], 1, Connect("tcp://127.0.0.1:1", Unframed(), tag="t")
        if command == "cancel":
            return [*state, command], 1, [Run(sum, ([1],), tag=1), Cancel(Unequal())]
        if command == "cancel and stop":
            job = Run(sum, ([1],), tag=1)
            return [*state, command], 1, [job, Cancel(Unequal()), Stop("normal")]
        return [*state, command], 1

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return [*state, type(message).__name__], None


@pytest.mark.parametrize("command", ["connect", "cancel"])
def test_an_action_that_fails_when_its_input_is_durable_ends_no_node(
    start: Callable[..., Any], tmp_path: Path, command: str
) -> None:
    tree = Supervisor("one_for_one", [Worker("s", Asker, journal=True)], intensity=100)
    node = start(Application("t", tree), data=tmp_path / "data")
    assert node.call("s", command) == 1
    if command == "cancel":
        while node.whereis("s") != 2:
            pass
    while len(state := node.get_state("s")) < 2:
        pass
    assert state == [command, "ConnectFailed" if command == "connect" else "RunFailed"]
    assert node.call("s", "more") == 1
    node.stop()
    node = start(Application("t", tree), data=tmp_path / "data")
    assert node.get_state("s") == [*state, "more"]


def test_an_action_that_fails_after_the_end_of_its_server_is_reported(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    tree = Supervisor("one_for_one", [Worker("s", Asker, journal=True, restart="transient")])
    node = start(Application("t", tree), data=tmp_path / "data")
    assert node.call("s", "cancel and stop") == 1
    while not (reports := node.crashes()):
        pass
    assert [(report.server, report.callback) for report in reports] == [("s", "an action")]
    assert isinstance(reports[0].reason, ValueError)
    assert (node.whereis("s"), node.stats()["loop"]["crashes"]) == (None, 1)


MODULE = """
import os, signal, sys
from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.actions import Cast, Send

class Doer(GenServer):
    def init(self, args):
        return []

    def step(self, command, state):
        state.append(command)
        if command == "bad":
            return state, 1, [Cast("other", "x"), Send(None, b""), Cast("other", "y")]
        if command == "never":
            return state, 1, [Cast("unborn", "x")]
        return state, list(state)

workers = [Worker("doer", Doer, journal=True), Worker("other", Doer, journal=True)]
if "unborn" in sys.argv:
    workers.append(Worker("unborn", Doer, journal=True))
app = Application("t", Supervisor("one_for_one", workers, intensity=100))
node = app.start(data="data", backend=sys.argv[1])
if "kill" in sys.argv:
    try:
        node.call("doer", "bad")
    except Exception as error:
        print(type(error).__name__)
    node.call("doer", "never")
    print(node.get_state("doer"), node.get_state("other"), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
print(*(node.get_state(worker.name) for worker in workers))
node.stop()
"""


def test_a_killed_process_has_done_what_the_next_one_finds(source: str, tmp_path: Path) -> None:
    (tmp_path / "doer.py").write_text(MODULE)

    def life(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "doer.py", source, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    end = life("kill")
    assert (end.returncode, end.stdout) == (-signal.SIGKILL, "Crashed\n['never'] []\n"), end.stderr
    assert life("unborn").stdout == "['never'] [] []\n"


class Sender(Doer):
    """Sends infos, more than anybody takes."""

    def step(self, command: Any, state: list[Any]) -> Any:
        return state, None, [Info("other", number) for number in range(command)]


def test_what_was_given_up_stays_given_up() -> None:
    """A message beyond the bound of a mailbox is lost now, and so it is at the next start."""
    workers = [
        Worker("sender", Sender, journal=True),
        Worker("other", Doer, journal=True, mailbox=1),
    ]
    app = Application("t", Supervisor("one_for_one", workers))
    disk = SimDisk(1)
    with Simulator(1, app, disk=disk) as world:
        world.node.call("sender", 100)
        world.run(1.0)
        live = world.node.get_state("other")
        assert live == list(range(64))
        killed = disk.copy()
    for each in (killed, disk):
        with Simulator(1, app, disk=each) as world:
            world.run(1.0)
            assert world.node.get_state("other") == live

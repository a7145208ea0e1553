"""Inputs that no journal has: stepped and answered like any other, and nothing of them is kept."""

from __future__ import annotations

import errno
import os
import queue
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, GenStatem, Listener, Once, Supervisor, Together, Worker
from pybehave.actions import (
    Active,
    Call,
    Cast,
    Continue,
    Hibernate,
    IdleTimeout,
    Reply,
    Run,
    Send,
    StartTimer,
    Stop,
)
from pybehave.errors import Crashed, EphemeralTrace, JournalFull, NotJournalable, SpecError
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines, Protocol
from pybehave.testing import fold
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial, receive

TCP = "tcp://127.0.0.1:7000"


class Ask:
    """A question; no journal could hold it."""

    def __init__(self, what: Callable[[Any], Any] = len) -> None:
        self.what = what


class Words(GenServer[list[Any], Any, Any]):
    ephemeral = Ask

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if not isinstance(command, Ask):
            state.append(self.context.random.random() if command == "draw" else command)
            return state, len(state)
        found = command.what(state)
        return found if isinstance(found, tuple) else (state, found)

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return [*state, message], None


def app(*, journal: bool = True, **options: Any) -> Application:
    workers = [Worker(name, Words, journal=journal, **options) for name in ("a", "b")]
    return Application("t", Supervisor("one_for_one", workers, intensity=100))


def world_on(disk: SimDisk, application: Application | None = None) -> Simulator:
    options = Options(segment_bytes=64 << 10)
    return Simulator(1, application or app(), disk=disk, journal_options=options)


def lsn_of(node: Any) -> int:
    return int(node.journal.commit.next_lsn)


def test_it_is_answered_and_not_recorded(start: Callable[..., Any], tmp_path: Path) -> None:
    node = start(app(), data=tmp_path / "d")
    node.call("a", "one")
    before = lsn_of(node)
    assert [node.call("a", Ask()), node.call("a", Ask(list))] == [1, ["one"]]
    assert node.call_many("a", [Ask(), Ask()]) == [1, 1]
    node.cast("a", Ask())
    assert node.call("a", Ask(), priority=True) == 1
    assert lsn_of(node) == before
    assert node.call("a", "two") == 2
    node.stop()
    node = start(app(), data=tmp_path / "d")
    assert node.call("a", Ask(list)) == ["one", "two"]


def test_a_full_disk_answers_questions_and_refuses_the_rest() -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        disk.fail(errno.ENOSPC, kinds=("fill",), is_forever=True)
        taken = 0
        with pytest.raises(JournalFull):
            while taken < 1000:
                world.node.call("a", "x" * 3000)
                taken += 1
        for _ in range(100):
            assert world.node.call("a", Ask()) == taken
        disk.heal()
        world.run(5)
        assert world.node.call("a", "again") == world.node.call("a", Ask()) == taken + 1


class Read(str):
    """A line that asks."""


class Asking(Protocol):
    framing = Lines()

    def decode(self, message: bytes) -> str:
        return Read(message.decode()) if message == b"?" else message.decode()

    def encode(self, output: Any) -> bytes:
        return str(output).encode()


class Counted(GenServer[list[str], str, int]):
    ephemeral = Read
    pure = True

    def init(self, args: Any) -> list[str]:
        return []

    def step(self, command: str, state: list[str]) -> Any:
        state = state if isinstance(command, Read) else [*state, command]
        return state, len(state)


def test_a_connection_asks_and_changes_in_turns(start: Callable[..., Any], tmp_path: Path) -> None:
    workers = [Worker("s", Counted, journal=True)]
    listeners = [Listener("tcp://127.0.0.1:0", Asking(), to="s")]
    node = start(
        Application("t", Supervisor("one_for_one", workers), listeners=listeners),
        data=tmp_path / "d",
    )
    with dial(node) as client:
        client.sendall(b"x\n?\n?\ny\n?\n")
        assert receive(client, 10) == b"1\n1\n1\n2\n2\n"
        before = lsn_of(node)
        client.sendall(b"?\n" * 100)
        assert receive(client, 200) == b"2\n" * 100
    assert lsn_of(node) == before


@pytest.mark.parametrize("seed", range(20))
def test_an_answer_waits_for_what_it_shows(seed: int) -> None:
    """Cut where it may be: what a question was answered with is there at the next start."""
    dice = random.Random(seed)
    disk = SimDisk(seed)
    workers = [Worker("s", Counted, journal=True)]
    listeners = [Listener(TCP, Asking(), to="s")]
    application = Application("t", Supervisor("one_for_one", workers), listeners=listeners)
    seen = 0
    for _ in range(5):
        world = Simulator(
            seed, application, disk=disk, journal_options=Options(segment_bytes=64 << 10)
        ).start()
        world.network.set(disk_ns_max=dice.choice((250_000, 20_000_000)))
        assert len(world.node.get_state("s")) >= seen
        changing, asking = world.connect(TCP), world.connect(TCP)
        for _ in range(dice.randrange(1, 10)):
            changing.send(b"x\n" * dice.randrange(1, 4))
            asking.send(b"?\n")
            world.run(dice.random() * 0.02)
        answers = bytes(asking.received).split()
        seen = max([seen, *map(int, answers)])
        disk = world.lose_power(dice)


def bad(state: list[Any]) -> Any:
    raise ValueError("a deliberate bug")


def in_place(state: list[Any]) -> Any:
    state.append("changed")
    return state, 1


TRACES: dict[str, Callable[[list[Any]], Any]] = {
    "return another state": lambda state: ([*state, 1], 1),
    "change the state in place": in_place,
    "ask for StartTimer": lambda state: (state, 1, StartTimer("t", 0.01, "late")),
    "ask for IdleTimeout": lambda state: (state, 1, IdleTimeout(0.01)),
    "ask for Continue": lambda state: (state, 1, Continue("x")),
    "ask for Call": lambda state: (state, 1, [Cast("b", "x"), Call("b", "x")]),
    "ask for Run": lambda state: (state, 1, Run(len, ())),
    "ask for Stop": lambda state: (state, 1, Stop("normal")),
    "ask for Reply": lambda state: (state, 1, Reply(None, 1)),
}


@pytest.mark.parametrize("what", TRACES)
def test_a_trace_is_a_crash_and_the_state_is_that_before(what: str) -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        node = world.node
        node.call("a", "kept")
        lsn = lsn_of(node)
        with pytest.raises(Crashed) as caught:
            node.call("a", Ask(TRACES[what]))
        assert isinstance(caught.value.reason, EphemeralTrace)
        assert caught.value.reason.detail == what
        world.run(1.0)
        live = node.get_state("a"), node.get_state("b"), node.whereis("a")
        assert live == (["kept"], [], 2)
        assert disk.names_below("dead-letters") == []
        assert lsn_of(node) <= lsn + 3  # the restart's
        killed = disk.copy()
    for each in (killed, disk):
        with world_on(each) as world:
            assert world.node.get_state("a") == ["kept"]


def test_a_failing_question_is_a_crash_like_any_other() -> None:
    disk = SimDisk(1)
    tree = Supervisor("one_for_one", [Worker("a", Words, journal=True)], intensity=0)
    with world_on(disk, Application("t", tree)) as world:
        world.node.call("a", "kept")
        for incarnation in (2, 3):  # not charged: the server is as if nobody had asked
            with pytest.raises(Crashed):
                world.node.call("a", Ask(bad))
            world.run(0.1)
            assert (world.node.get_state("a"), world.node.whereis("a")) == (["kept"], incarnation)
    with world_on(disk, Application("t", tree)) as world:
        assert world.node.get_state("a") == ["kept"]


def test_the_policy_clean_holds_for_it() -> None:
    with world_on(SimDisk(1), app(recovery="clean")) as world:
        world.node.call("a", "gone")
        with pytest.raises(Crashed):
            world.node.call("a", Ask(bad))
        world.run(0.1)
        assert world.node.get_state("a") == []


def test_an_equal_state_is_the_same_state() -> None:
    with world_on(SimDisk(1)) as world:
        world.node.call("a", "kept")
        assert world.node.call("a", Ask(lambda state: (list(state), "same"))) == "same"
        assert world.node.whereis("a") == 1


def test_a_large_state_is_looked_at_now_and_then() -> None:
    """What was changed unseen is found by the look that sees a change, not by later ones."""
    with world_on(SimDisk(1)) as world:
        node = world.node
        node.call("a", "x" * 20_000)
        assert node.call("a", Ask()) == 1
        looks = []
        for number in range(120):
            try:
                node.call("a", Ask(in_place))
            except Crashed:
                looks.append(number)
                break
        assert looks
        assert 30 <= looks[0] <= 50


def test_randomness_that_a_question_draws_is_not_the_state_s() -> None:
    def draw(state: list[Any]) -> Any:
        return world.node.loop.dispatcher.whereis("a").random.random()

    disk = SimDisk(1)
    with world_on(disk) as world:
        world.node.call("a", "draw")
        drawn = [world.node.call("a", Ask(draw)) for _ in range(3)]
        assert len(set(drawn)) == 3
        world.node.call("a", "draw")
        state = world.node.get_state("a")
    with world_on(disk) as again:
        assert again.node.get_state("a") == state


def test_it_cancels_no_idle_timeout_and_its_name_stays_free() -> None:
    with world_on(SimDisk(1)) as world:
        node = world.node
        assert node.call("a", Once("c", 1, Ask())) == 0
        assert node.call("a", Once("c", 1, "word")) == 1
        assert node.call("a", Once("c", 1, Ask())) == 1
        node.call("a", Ask(lambda state: (state, 1, Cast("b", "sent"))))
        world.run(0.1)
        assert node.get_state("b") == ["sent"]


class Idle(Words):
    def step(self, command: Any, state: list[Any]) -> Any:
        if command == "wait":
            return state, None, IdleTimeout(1.0)
        return super().step(command, state)


def test_an_idle_timeout_goes_on() -> None:
    tree = Supervisor("one_for_one", [Worker("a", Idle, journal=True)])
    with world_on(SimDisk(1), Application("t", tree)) as world:
        world.node.call("a", "wait")
        for _ in range(3):
            world.run(0.4)
            world.node.call("a", Ask())
        assert len(world.node.get_state("a")) == 1


class Front(GenServer[int, Any, int]):
    """Sends questions on."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: Any, state: int) -> Any:
        ask: Any = Ask(HEARD.append)
        if command == "once":
            ask = Once("c", state + 1, ask)
        return state + 1, state, [Cast("a", ask), Cast("a", "word")]


HEARD: list[Any] = []


@pytest.mark.parametrize("command", ["plain", "once"])
def test_a_question_of_another_server_is_asked_once_and_never_again(command: str) -> None:
    HEARD.clear()
    workers = [Worker("front", Front, journal=True), Worker("a", Words, journal=True)]
    application = Application("t", Supervisor("one_for_one", workers))
    disk = SimDisk(1)
    with world_on(disk, application) as world:
        world.node.call("front", command)
        world.run(1.0)
        assert len(HEARD) == 1
        assert dict(world.node.loop.dispatcher.outbox) == {}
        killed = disk.copy()
    for each in (killed, disk):
        with world_on(each, application) as world:
            world.run(1.0)
            assert (world.node.get_state("a"), len(HEARD)) == (["word"], 1)


class Drawer(GenServer[list[Any], Any, Any]):
    """Draws, and tells another."""

    def init(self, args: Any) -> list[Any]:
        return []

    def handle_call(self, request: Any, caller: Any, state: list[Any]) -> Any:
        drawn = self.context.random.random()
        return [*state, drawn], drawn, Cast("b", "word")


@pytest.mark.parametrize("name", ["d", "a"])
def test_who_hears_the_answer_may_call_servers_that_count(
    start: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    workers = [Worker("d", Drawer, journal=True)]
    workers += [Worker(each, Words, journal=True) for each in ("a", "b")]
    application = Application("t", Supervisor("one_for_one", workers))
    node = start(application, data=tmp_path / "d")
    heard: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def ask() -> None:
        answer = node.send_request("a", Ask(lambda state: (state, 1, Cast("b", "asked"))))
        answer.add_done_callback(lambda _: heard.put(node.call(name, "draw")))

    for _ in range(2):
        node.run_on_loop(ask)
        heard.get(timeout=10)
    while len(node.get_state("b")) < (4 if name == "d" else 2):
        pass
    live = {each: node.get_state(each) for each in ("a", "b", "d")}
    assert len(live[name]) == 2
    node.stop()
    node = start(application, data=tmp_path / "d")
    assert {each: node.get_state(each) for each in ("a", "d")} == {
        each: live[each] for each in ("a", "d")
    }


def test_together_it_counts_like_the_others() -> None:
    with world_on(SimDisk(1)) as world, pytest.raises(NotJournalable):
        world.node.call("a", Together(["x", Ask()]))


def test_a_sleeping_server_sleeps_on() -> None:
    with world_on(SimDisk(1)) as world:
        node = world.node
        node.call("a", "x" * 20_000)
        node.call("a", Ask(lambda state: (state, 1, Hibernate())))
        world.run(0.1)
        asleep = type(node.loop.dispatcher.whereis("a").state).__name__
        assert node.call("a", Ask()) == 1
        assert type(node.loop.dispatcher.whereis("a").state).__name__ == asleep


def test_a_send_leaves(start: Callable[..., Any], tmp_path: Path) -> None:
    class Sender(Counted):
        def step(self, command: str, state: list[str]) -> Any:
            return state, 1, Send(self.context.connection, "sent")

    listeners = [Listener("tcp://127.0.0.1:0", Asking(), to="s")]
    tree = Supervisor("one_for_one", [Worker("s", Sender, journal=True)])
    node = start(Application("t", tree, listeners=listeners), data=tmp_path / "d")
    with dial(node) as client:
        client.sendall(b"?\n")
        assert receive(client, 7) == b"sent\n1\n"


class OneByOne(Counted):
    """Asks for the next message each time."""

    def step(self, command: str, state: list[str]) -> Any:
        state = state if isinstance(command, Read) else [*state, command]
        return state, len(state), Active(self.context.connection)


@pytest.mark.parametrize("journal", [False, True])
def test_a_question_may_ask_for_the_next_message(
    start: Callable[..., Any], tmp_path: Path, journal: bool
) -> None:
    listeners = [Listener("tcp://127.0.0.1:0", Asking(), to="s", active="once")]
    tree = Supervisor("one_for_one", [Worker("s", OneByOne, journal=journal)])
    node = start(Application("t", tree, listeners=listeners), data=tmp_path / "d")
    with dial(node) as client:
        client.sendall(b"x\n?\ny\n?\n")
        assert receive(client, 8) == b"1\n1\n2\n2\n"


def test_the_same_holds_in_memory(start: Callable[..., Any]) -> None:
    node = start(app(journal=False))
    node.call("a", "kept")
    assert node.call("a", Ask()) == 1
    with pytest.raises(Crashed) as caught:
        node.call("a", Ask(TRACES["return another state"]))
    assert isinstance(caught.value.reason, EphemeralTrace)


@pytest.mark.parametrize("what", ["return another state", "change the state in place"])
def test_a_unit_test_finds_each_change(what: str) -> None:
    with pytest.raises(EphemeralTrace, match="Ask among its ephemeral inputs"):
        fold(Words, ["x" * 100_000, Ask(TRACES[what])])
    assert fold(Words, ["x", Ask()]).outputs == (1, 1)


def test_a_unit_test_finds_what_lasts() -> None:
    with pytest.raises(EphemeralTrace, match="may not ask for StartTimer"):
        fold(Words, [Ask(TRACES["ask for StartTimer"])])


def test_accepts_need_not_name_them() -> None:
    class Strict(Words):
        accepts = str

    tree = Supervisor("one_for_one", [Worker("a", Strict, journal=True)])
    with world_on(SimDisk(1), Application("t", tree)) as world:
        assert (world.node.call("a", "x"), world.node.call("a", Ask())) == (1, 1)


def test_a_declaration_that_cannot_be_asked_is_refused() -> None:
    with pytest.raises(SpecError, match=r"ephemeral=list\[int\] is not allowed"):
        type("Bad", (GenServer,), {"ephemeral": list[int]})
    with pytest.raises(SpecError, match="each event of a state machine counts"):
        type("Bad", (GenStatem,), {"ephemeral": int})


MODULE = """
import os, signal, sys
from pybehave import Application, GenServer, Supervisor, Worker

class Get:
    pass

class Store(GenServer):
    ephemeral = Get

    def init(self, args):
        return []

    def step(self, command, state):
        if isinstance(command, Get):
            return state, list(state)
        return [*state, command], None

app = Application("t", Supervisor("one_for_one", [Worker("s", Store, journal=True)]))
node = app.start(data="data", backend=sys.argv[1])
if len(sys.argv) > 2:
    for number in range(100):
        node.call("s", number)
        node.call("s", Get())
    print(len(node.call("s", Get())), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
print(len(node.call("s", Get())), node.journal.recovery.report.replayed)
node.stop()
"""


def test_a_killed_process_leaves_only_what_counts(source: str, tmp_path: Path) -> None:
    (tmp_path / "store.py").write_text(MODULE)

    def life(*words: str) -> tuple[int, str]:
        end = subprocess.run(
            [sys.executable, "store.py", source, *words],
            cwd=tmp_path,
            env=dict(os.environ),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return end.returncode, end.stdout

    assert life("kill") == (-signal.SIGKILL, "100\n")
    assert life() == (0, "100 100\n")

"""Several commands as one input: all of them happen, or none (A1-4)."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import (
    Application,
    EventHandler,
    GenEvent,
    GenServer,
    Listener,
    Once,
    Supervisor,
    Together,
    Worker,
    events,
)
from pybehave.actions import NO_REPLY, Call, Cast, Continue, StartTimer
from pybehave.errors import (
    BadReturn,
    Crashed,
    InputTypeMismatch,
    InvariantViolated,
    RecordTooLarge,
    Rejected,
)
from pybehave.journal import dead_letters
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines, Protocol
from pybehave.testing import repeat
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import SMALL, dial, receive_all
from tests.power.machine import wait_for

Start = Callable[..., Any]
TCP = "tcp://127.0.0.1:7000"


class Bank(GenServer[dict[str, int], Any, Any]):
    """Accounts; a transfer is two commands. The state is changed in place."""

    accepts = tuple

    def init(self, args: Any) -> dict[str, int]:
        return {"alice": 100, "bob": 0, "heard": 0}

    def validate(self, command: Any, state: dict[str, int]) -> object:
        return None if command[0] in state else f"{command[0]} has no account"

    def step(self, command: Any, state: dict[str, int]) -> Any:
        name, amount = command
        state[name] += amount
        if state[name] < 0:
            raise ValueError(f"{name} has {state[name]}")
        if amount == 77:
            return state, state[name], [StartTimer("t", 0.0, "due"), Continue("went on")]
        if amount == 66:
            return state, NO_REPLY
        return state, state[name]

    def handle_info(self, message: Any, state: dict[str, int]) -> Any:
        state["heard"] += 1
        return state, None

    def handle_continue(self, term: Any, state: dict[str, int]) -> Any:
        state["heard"] += 100
        return state, None


def transfer(amount: int) -> Together:
    return Together([("bob", amount), ("alice", -amount)])


def app(kind: type = Bank, *, journal: bool = True, **options: Any) -> Application:
    words = {"acknowledge": options.pop("acknowledge", "disk")} if journal else {}
    worker = Worker("bank", kind, journal=journal, **words)
    return Application("t", Supervisor("one_for_one", [worker], intensity=100), **options)


@pytest.fixture(params=[True, False], ids=["journaled", "in memory"])
def node(request: Any, start: Start, tmp_path: Path) -> Any:
    return start(app(journal=request.param), **({"data": tmp_path / "d"} if request.param else {}))


def balances(node: Any) -> tuple[int, int]:
    state = node.get_state("bank")
    return state["alice"], state["bob"]


def test_A1_4_all_of_them_happen_as_one_input(node: Any) -> None:
    inputs = node.loop.dispatcher.whereis("bank").inputs
    assert node.call("bank", transfer(5)) == [5, 95]
    assert Worker("bank", Bank).ref.call_together(node, [("bob", 1), ("bob", 2)]) == [6, 8]
    assert node.call_many("bank", [transfer(1), transfer(1)]) == [[9, 94], [10, 93]]
    node.cast("bank", transfer(3))
    assert node.run_on_loop(lambda: node.call("bank", transfer(10))) == [23, 80]
    assert node.loop.dispatcher.whereis("bank").inputs == inputs + 6


def test_A1_4_one_record_holds_them(start: Start, tmp_path: Path) -> None:
    node = start(app(), data=tmp_path / "d")
    node.call("bank", ("bob", 1))
    before = node.stats()["journal"]["next_lsn"]
    node.call("bank", ("bob", 1))
    single = node.stats()["journal"]["next_lsn"] - before
    node.call("bank", Together([("bob", 1)] * 50))
    assert node.stats()["journal"]["next_lsn"] - before == 2 * single
    node.stop()
    assert balances(start(app(), data=tmp_path / "d")) == (100, 52)


def test_if_one_fails_none_has_happened(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "d"
    node = start(app(), data=data)
    node.call("bank", transfer(10))
    with pytest.raises(Crashed) as crashed:
        node.call("bank", transfer(91))
    assert str(crashed.value.reason) == "alice has -1"
    [note] = crashed.value.reason.__notes__
    assert note == "command 2 of 2, ('alice', -91): none of them has happened"
    assert balances(node) == (90, 10)
    wait_for(lambda: len(dead_letters.numbers(str(data))) == 1, "one letter for all of them")
    node.stop()
    [lsn] = dead_letters.numbers(str(data))
    letter = (data / dead_letters.letter_name(lsn)).read_bytes()
    with pytest.raises(ValueError, match="alice has -1"):
        repeat(Bank, letter)
    assert balances(start(app(), data=data)) == (90, 10)


def test_in_memory_a_failure_begins_anew(start: Start) -> None:
    node = start(app(journal=False))
    node.call("bank", transfer(10))
    with pytest.raises(Crashed):
        node.call("bank", transfer(91))
    wait_for(lambda: node.whereis("bank") == 2, "it starts again")
    assert balances(node) == (100, 0)


def test_commands_of_others_fail_alone(start: Start, tmp_path: Path) -> None:
    """A1-7: one commit may hold many inputs, which have nothing to do with each other."""
    node = start(app(), data=tmp_path / "d")
    answers = node.call_many("bank", [("bob", 1), ("bob", -50), transfer(5), transfer(500)])
    assert [type(answer) for answer in answers] == [int, Crashed, list, Crashed]
    assert balances(node) == (95, 6)


def test_if_one_is_refused_none_is_stepped(node: Any) -> None:
    before = node.loop.dispatcher.whereis("bank").inputs
    with pytest.raises(InputTypeMismatch):
        node.call("bank", Together([("bob", 5), "bob 5"]))
    with pytest.raises(Rejected, match="carol has no account"):
        node.call("bank", Together([("bob", 5), ("carol", 5)]))
    assert balances(node) == (100, 0)
    assert node.loop.dispatcher.whereis("bank").inputs == before


def test_actions_and_continues_come_behind_them(node: Any) -> None:
    assert node.call("bank", Together([("bob", 77), ("bob", 77), ("bob", 1)])) == [77, 154, 155]
    wait_for(lambda: node.get_state("bank")["heard"] == 201, "two continues and one timer")


def test_a_reply_cannot_be_put_off(node: Any) -> None:
    with pytest.raises(Crashed) as crashed:
        node.call("bank", Together([("bob", 1), ("bob", 66)]))
    assert isinstance(crashed.value.reason, BadReturn)


class Balanced(Bank):
    """Money is not made: what a transfer takes, it gives; between its two commands it does not."""

    def invariant(self, state: dict[str, int]) -> object:
        return state["alice"] + state["bob"] == 100


def test_an_invariant_is_asked_about_the_last_state(start: Start, tmp_path: Path) -> None:
    node = start(app(Balanced), data=tmp_path / "d")
    assert node.call("bank", transfer(5)) == [5, 95]
    for command in (("bob", 1), Together([("bob", 2), ("alice", -1)])):
        with pytest.raises(Crashed) as crashed:
            node.call("bank", command)
        assert isinstance(crashed.value.reason, InvariantViolated)
    assert balances(node) == (95, 5)


def test_a_name_is_for_all_of_them(node: Any) -> None:
    once = Once("c", 1, transfer(5))
    assert [node.call("bank", once) for _ in range(3)] == [[5, 95]] * 3
    assert balances(node) == (95, 5)


def test_what_does_not_fit_into_a_frame_is_refused_whole(start: Start, tmp_path: Path) -> None:
    options = Options(segment_bytes=1 << 20, frame_bytes_max=4096)
    node = start(app(), data=tmp_path / "d", journal_options=options)
    with pytest.raises(RecordTooLarge):
        node.call("bank", Together([("bob", 1)] * 5000))
    assert balances(node) == (100, 0)


# --- from connections and servers ------------------------------------------------------------


class Transfers(Protocol):
    """`5 6 7`: transfers of so much."""

    framing = Lines()

    def decode(self, message: Any) -> Any:
        amounts = [int(word) for word in message.split()]
        return Together(command for each in amounts for command in transfer(each).commands)

    def encode(self, output: Any) -> Any:
        return b"%d" % output[-1]


@pytest.mark.parametrize("journal", [True, False])
def test_a_protocol_may_decode_them(start: Start, tmp_path: Path, journal: bool) -> None:
    listener = Listener("tcp://127.0.0.1:0", Transfers(), to="bank")
    node = start(
        app(journal=journal, listeners=[listener]), **({"data": tmp_path} if journal else {})
    )
    with dial(node) as client:
        client.sendall(b"5 5\n1\n200\n1 1\n")
        client.shutdown(1)
        answers = receive_all(client).splitlines()
    assert answers[:2] == [b"90", b"89"]
    assert answers[2].startswith(b"error: server 'bank' crashed")
    assert answers[3:] in ([b"87"], [b"98"])


class Clerk(GenServer[Any, Any, Any]):
    def init(self, args: Any) -> Any:
        return None

    def step(self, command: Any, state: Any) -> Any:
        if command == "heard":
            return state, state
        how, what = command
        return state, None, Call("bank", what) if how == "call" else Cast("bank", what)

    def handle_info(self, message: Any, state: Any) -> Any:
        return message.value, None


@pytest.mark.parametrize("journal", [True, False])
def test_another_server_may_send_them(start: Start, tmp_path: Path, journal: bool) -> None:
    workers = [Worker(name, kind, journal=journal) for name, kind in
               (("bank", Bank), ("clerk", Clerk))]  # fmt: skip
    tree = Application("t", Supervisor("one_for_one", workers))
    node = start(tree, **({"data": tmp_path / "d"} if journal else {}))
    node.call("clerk", ("call", transfer(5)))
    wait_for(lambda: node.call("clerk", "heard") == [5, 95], "the reply")
    node.call("clerk", ("cast", transfer(5)))
    wait_for(lambda: balances(node) == (90, 10), "the cast")


class Keeper(EventHandler):
    def init(self, args: Any) -> list[Any]:
        return args  # type: ignore[no-any-return]

    def handle_event(self, event: Any, state: Any) -> Any:
        state.append(event)
        return state


def test_to_an_event_manager_it_is_an_event(start: Start) -> None:
    seen: list[Any] = []
    worker = Worker("bus", GenEvent, [events.add_handler(Keeper, seen)])
    node = start(Application("t", Supervisor("one_for_one", [worker])))
    node.call("bus", events.sync_notify(Together([1, 2])))
    node.call("bus", Together([3]))
    assert seen == [Together([1, 2]), Together([3])]


# --- kills and power cuts ---------------------------------------------------------------------


class Threes(GenServer[list[bytes], Any, Any]):
    """Keeps lines; each comes three times."""

    def init(self, args: Any) -> list[bytes]:
        return []

    def step(self, command: bytes, state: list[bytes]) -> Any:
        state.append(command)
        if command == b"fail" and len(state) % 3 == 0:
            raise ValueError("a deliberate bug")
        return state, command


class Thrice(Protocol):
    framing = Lines()

    def decode(self, message: Any) -> Any:
        return Together([message] * 3)

    def encode(self, output: Any) -> Any:
        return output[0]


def check_whole(state: list[bytes], acknowledged: list[bytes]) -> None:
    """Each line is there three times or not at all, in order, and those that were answered are."""
    assert [line for line in state[::3] for _ in range(3)] == state
    assert b"fail" not in state
    position = -1
    for line in acknowledged:
        position = state.index(line, position + 1)


@pytest.mark.parametrize("acknowledge", ["disk", "os"])
@pytest.mark.parametrize("seed", range(60))
def test_A1_4_they_survive_power_cuts_and_kills_whole(seed: int, acknowledge: str) -> None:
    dice, disk, number = random.Random(f"{seed}{acknowledge}"), SimDisk(seed), 0
    acknowledged: list[bytes] = []
    for life in range(4):
        listeners = [Listener(TCP, Thrice(), to="bank")]
        world = Simulator(
            dice.getrandbits(32),
            app(Threes, acknowledge=acknowledge, listeners=listeners),
            disk=disk,
            journal_options=Options(segment_bytes=64 << 10, tail_bytes=64 << 10),
            shake=True,
        ).start()
        world.node.journal.snapshots.records = dice.choice((4, 1000))
        check_whole(world.node.get_state("bank"), acknowledged)
        client = world.connect(TCP)
        for _ in range(dice.randrange(1, 20)):
            number += 1
            line = b"fail" if dice.random() < 0.1 else b"%d %s" % (number, b"x" * number)
            client.send(line + b"\n")
            world.run(dice.random() * 0.005)
        if acknowledge == "disk":
            answers = bytes(client.received).split(b"\n")[:-1]
            acknowledged += [line for line in answers if not line.startswith(b"error")]
            disk = world.lose_power(dice) if life < 3 else disk
        else:  # a kill: what the kernel has stays
            answers = bytes(client.received).split(b"\n")[:-1]
            acknowledged += [line for line in answers if not line.startswith(b"error")]
            disk = disk.copy() if life < 3 else disk
    world.stop()


CHILD = """
import sys
from pybehave import Together
from pybehave.journal.recovery import Options
from tests.runtime.test_together import Threes, app

with app(Threes).start(
    backend=sys.argv[1], data=sys.argv[2], journal_options=Options(segment_bytes=1 << 20)
) as node:
    for number in range(1_000_000):
        line = b"%d" % number
        assert node.call("bank", Together([line] * 3)) == [line] * 3
        print(number, flush=True)
"""


def test_A1_4_a_killed_process_leaves_them_whole(start: Start, source: str, tmp_path: Path) -> None:
    for life in range(3):
        data = tmp_path / f"{life}"
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, source, str(data)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        last = -1
        for line in process.stdout:
            last = int(line)
            if last == 40 * (life + 1):
                process.kill()
        process.wait()
        process.stdout.close()
        node = start(app(Threes), data=data, journal_options=SMALL)
        assert last >= 40 * (life + 1)
        state = node.get_state("bank")
        check_whole(state, [b"%d" % number for number in range(last + 1)])
        node.stop()

"""Inputs that a server does not take: its sender hears why, and nothing has happened."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pybehave import Application, GenServer, GenStatem, Listener, Once, Supervisor, Worker
from pybehave._uring.servers import Asleep
from pybehave.actions import (
    NO_REPLY,
    Call,
    CallFailed,
    Cast,
    Continue,
    Hibernate,
    IdleTimeout,
    Reply,
)
from pybehave.errors import BadReturn, Crashed, InputTypeMismatch, PybehaveError, Rejected
from pybehave.journal import dead_letters
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines, Protocol
from pybehave.statem import KeepState
from pybehave.testing import repeat
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial, receive_all
from tests.power.machine import wait_for

Start = Callable[..., Any]
TCP = "tcp://127.0.0.1:7000"


class Deposit(msgspec.Struct, frozen=True):
    amount: int


@dataclass(frozen=True)
class Withdraw:
    amount: int


class Account(GenServer[int, Any, Any]):
    """Takes two types, and looks at what it is given."""

    types = (Deposit, Withdraw)
    accepts = Deposit | Withdraw

    def init(self, args: Any) -> int:
        return 0

    def validate(self, command: Any, state: int) -> object:
        if command.amount == 0:
            return "an amount of nothing"
        if command.amount > 1000:
            raise OverflowError("a deliberate bug")
        if isinstance(command, Withdraw) and command.amount > state:
            return ValueError(f"{state} is not enough")
        return None

    def step(self, command: Any, state: int) -> tuple[int, int]:
        state += command.amount if isinstance(command, Deposit) else -command.amount
        assert state >= 0
        return state, state


class Words(GenServer[list[str], str, int]):
    accepts = str

    def init(self, args: Any) -> list[str]:
        return []

    def step(self, command: str, state: list[str]) -> tuple[list[str], int]:
        state.append(command.upper())
        return state, len(state)


class Pairs(GenServer[int, Any, int]):
    """OTP's callbacks, and any kind of pair."""

    accepts = (tuple, list)

    def init(self, args: Any) -> int:
        return 0

    def handle_call(self, request: Any, caller: Any, state: int) -> tuple[int, int]:
        left, right = request
        return state + left * right, state

    def handle_cast(self, message: Any, state: int) -> tuple[int, None]:
        return state + len(message), None


SERVERS = {"account": Account, "words": Words, "pairs": Pairs}
RIGHT = {"account": Deposit(5), "words": "five", "pairs": (5, 5)}
WRONG = [None, 5, b"five", {"amount": 5}, object(), Once("c", 1, 7.5)]


def tree(*, journal: bool) -> Application:
    workers = [Worker(name, kind, journal=journal) for name, kind in SERVERS.items()]
    return Application("t", Supervisor("one_for_all", workers, intensity=0))


@pytest.fixture(params=[True, False], ids=["journaled", "in memory"])
def node(request: Any, start: Start, tmp_path: Path) -> Any:
    return start(tree(journal=request.param), **({"data": tmp_path / "d"} if request.param else {}))


def facts(node: Any) -> list[Any]:
    """What a refused input must not change."""
    servers = [node.loop.dispatcher.whereis(name) for name in SERVERS]
    lsn = node.stats()["journal"]["next_lsn"] if node.journal is not None else 0
    return [(s.incarnation, s.inputs, s.state, s.requests) for s in servers] + [lsn]


def refused(node: Any) -> int:
    count: int = node.stats()["loop"]["inputs_refused"]
    return count


@pytest.mark.parametrize("name", SERVERS)
def test_A0_2_a_wrongly_typed_input_is_an_error_value(node: Any, name: str) -> None:
    for each, right in RIGHT.items():
        node.call(each, right)
    before = facts(node)
    wrong = [*WRONG, *(right for other, right in RIGHT.items() if other != name)]
    for value in wrong:
        with pytest.raises(InputTypeMismatch, match=f"Server '{name}' takes "):
            node.call(name, value)
    assert [type(answer) for answer in node.call_many(name, wrong)] == [InputTypeMismatch] * 8
    assert refused(node) == 16
    assert facts(node)[:-1] == [(*fact[:3], requests_of(node, n)) for n, fact in
                                zip(SERVERS, before[:-1], strict=True)]  # fmt: skip
    assert facts(node)[-1] == before[-1]
    assert node.crashes() == []
    node.call(name, RIGHT[name])


def requests_of(node: Any, name: str) -> Any:
    return node.loop.dispatcher.whereis(name).requests


def test_what_is_right_is_taken_in_every_way(node: Any) -> None:
    assert node.call("account", Withdraw(-3)) == 3
    assert node.call_many("words", ["a", "b"]) == [1, 2]
    node.cast("pairs", [1, 2, 3])
    assert node.call("pairs", (0, 0)) == 3
    assert node.run_on_loop(lambda: node.call("words", "c")) == 3
    assert refused(node) == 0


def test_on_the_loops_own_thread_the_error_is_raised(node: Any) -> None:
    def ask() -> Any:
        with pytest.raises(InputTypeMismatch):
            node.call("words", 5)
        with pytest.raises(Rejected):
            node.call("account", Deposit(0))
        return node.call("words", "five")

    assert node.run_on_loop(ask) == 1


def test_a_refused_cast_is_counted_and_told(node: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "pybehave")
    before = facts(node)
    node.cast("words", 5)
    node.cast("account", Deposit(0))
    wait_for(lambda: refused(node) == 2, "both are refused")
    assert facts(node) == before
    assert node.stats()["loop"]["casts_lost"] == 2
    assert [record.getMessage().split(";")[0] for record in caplog.records] == [
        "a cast was lost: Server 'words' takes str, and not 5 of type int",
        "a cast was lost: Server 'account' has rejected the input: 'an amount of nothing'",
    ]


# --- validate -------------------------------------------------------------------------------


def test_A1_c23_what_is_known_to_be_wrong_is_rejected(node: Any) -> None:
    node.call("account", Deposit(5))
    before = facts(node)
    for command, reason in ((Deposit(0), "an amount of nothing"), (Withdraw(6), None)):
        with pytest.raises(Rejected) as rejected:
            node.call("account", command)
        assert rejected.value.server == "account"
        assert reason is None or rejected.value.reason == reason
    assert isinstance(rejected.value.reason, ValueError)
    assert str(rejected.value.reason) == "5 is not enough"
    assert facts(node) == before
    assert node.call("account", Withdraw(5)) == 0


def test_a_rejected_request_with_a_name_may_come_again(node: Any) -> None:
    request = Once("c", 1, Withdraw(5))
    for _ in range(2):
        with pytest.raises(Rejected):
            node.call("account", request)
    node.call("account", Deposit(7))
    assert [node.call("account", request) for _ in range(2)] == [2, 2]


def one(kind: type, *, journal: bool = True, **options: Any) -> Application:
    worker = Worker("s", kind, journal=journal)
    return Application("t", Supervisor("one_for_one", [worker], intensity=100), **options)


def test_what_validate_raises_is_a_crash_of_the_step(start: Start, tmp_path: Path) -> None:
    data = tmp_path / "d"
    node = start(one(Account), data=data)
    node.call("s", Deposit(5))
    for request in (Deposit(2000), Once("c", 1, Deposit(2000))):
        with pytest.raises(Crashed) as crashed:
            node.call("s", request)
        assert isinstance(crashed.value.reason, OverflowError)
    with pytest.raises(Crashed):
        node.call("s", Once("c", 1, Deposit(2000)))  # not asked again: it has failed
    assert node.call("s", Deposit(1)) == 6
    assert node.whereis("s") == 3
    wait_for(lambda: len(dead_letters.numbers(str(data))) == 2, "two letters")
    node.stop()
    for lsn in dead_letters.numbers(str(data)):
        with pytest.raises(OverflowError):
            repeat(Account, (data / dead_letters.letter_name(lsn)).read_bytes())
    assert start(one(Account), data=data).call("s", Deposit(1)) == 7


def test_what_validate_raises_ends_a_server_in_memory(start: Start) -> None:
    node = start(one(Account, journal=False))
    node.call("s", Deposit(5))
    with pytest.raises(Crashed):
        node.call("s", Deposit(2000))
    wait_for(lambda: node.whereis("s") == 2, "it starts again")
    assert node.call("s", Deposit(1)) == 1


class Yes(GenServer[int, Any, Any]):
    def init(self, args: Any) -> int:
        return 0

    def validate(self, command: Any, state: int) -> object:
        return command == "yes"

    def step(self, command: Any, state: int) -> tuple[int, int]:
        return state + 1, state


@pytest.mark.parametrize("command", ["yes", "no"])
def test_yes_and_no_are_bad_returns(start: Start, tmp_path: Path, command: str) -> None:
    node = start(one(Yes), data=tmp_path / "d")
    with pytest.raises(Crashed) as crashed:
        node.call("s", command)
    assert isinstance(crashed.value.reason, BadReturn)
    assert crashed.value.reason.callback == "validate"


class Odd(type):
    def __instancecheck__(cls, value: object) -> bool:
        if value == "bug":
            raise RuntimeError("a deliberate bug")
        return type(value) is str


class Text(metaclass=Odd):
    pass


class Odds(Words):
    accepts = Text


def test_a_type_that_cannot_say_is_a_crash(start: Start) -> None:
    node = start(
        one(Odds, journal=False, listeners=[Listener("tcp://127.0.0.1:0", Texts(), to="s")])
    )
    assert node.call("s", "five") == 1
    assert ask(node, b"bug\nfive\n")[0].startswith(b"error: server 's' crashed")
    for call in (node.call, lambda *words: node.run_on_loop(lambda: node.call(*words))):
        with pytest.raises(Crashed):
            call("s", "bug")


class Asking(GenServer[list[Any], Any, Any]):
    """Looks at what may be known of an input before it counts."""

    def init(self, args: Any) -> list[Any]:
        return []

    def validate(self, command: Any, state: list[Any]) -> object:
        context = self.context
        if command == "who":
            return (context.caller is not None, context.now > 0, context.name, len(state))
        return None

    def step(self, command: Any, state: list[Any]) -> Any:
        return [*state, command], NO_REPLY if command == "wait" else len(state)


def test_validate_may_ask_its_context(start: Start, tmp_path: Path) -> None:
    node = start(one(Asking), data=tmp_path / "d")
    node.call("s", "x")
    with pytest.raises(Rejected) as rejected:
        node.call("s", "who")
    assert rejected.value.reason == (True, True, "s", 1)


class Door(GenStatem):
    accepts = str

    def init(self, args: Any) -> Any:
        return "closed", 0

    def validate(self, content: Any, state: Any, data: Any) -> object:
        return f"{state} {data}" if content == "knock" and data else None

    def closed(self, kind: Any, content: Any, data: int) -> Any:
        return KeepState(data + 1, [Reply(kind[1], content)])


def test_a_state_machine_sees_state_and_data(start: Start, tmp_path: Path) -> None:
    node = start(one(Door), data=tmp_path / "d")
    assert node.call("s", "knock") == "knock"
    with pytest.raises(Rejected) as rejected:
        node.call("s", "knock")
    assert rejected.value.reason == "closed 1"
    with pytest.raises(InputTypeMismatch):
        node.call("s", b"knock")
    assert node.sys.get_state("s") == ("closed", 1)


class Lazy(GenServer[int, Any, Any]):
    """Is told when nothing came for a while; its first continue comes before any input."""

    def init(self, args: Any) -> Any:
        return 0, IdleTimeout(30.0), Continue("ready")

    def handle_continue(self, term: Any, state: int) -> Any:
        return 100, None, IdleTimeout(60.0)

    def validate(self, command: Any, state: int) -> object:
        return f"state {state}" if command == "no" else None

    def step(self, command: Any, state: int) -> Any:
        return state + 1, state + 1


def test_a_refused_input_leaves_the_idle_timeout_alone(start: Start) -> None:
    node = start(one(Lazy, journal=False))
    server = node.loop.dispatcher.whereis("s")
    with pytest.raises(Rejected) as rejected:
        node.call("s", "no")
    assert rejected.value.reason == "state 100"  # what init had asked for came first
    assert server.idle_s == 60.0
    assert node.call("s", "yes") == 101
    assert server.idle_s == 0.0


class Cold(Asking):
    def step(self, command: Any, state: list[Any]) -> Any:
        return [*state, command], len(state), Hibernate()


def test_who_was_asleep_sleeps_on(start: Start, tmp_path: Path) -> None:
    node = start(one(Cold), data=tmp_path / "d")
    node.call("s", "x")
    server = node.loop.dispatcher.whereis("s")
    with pytest.raises(Rejected) as rejected:
        node.call("s", "who")
    assert rejected.value.reason[-1] == 1
    wait_for(lambda: type(server.state) is Asleep, "it is out of memory again")
    assert node.call("s", "y") == 1


# --- from connections, and from other servers --------------------------------------------------


class Texts(Protocol):
    """Numbers are numbers, everything else is text."""

    framing = Lines()

    def decode(self, message: Any) -> Any:
        word = message.decode()
        return int(word) if word.isdigit() else word

    def encode(self, output: Any) -> Any:
        return b"%d" % output


class Polite(Words):
    """Rejects shouting."""

    def validate(self, command: str, state: list[str]) -> object:
        return "no shouting" if command.isupper() else None


def ask(node: Any, lines: bytes) -> list[bytes]:
    with dial(node) as client:
        client.sendall(lines)
        client.shutdown(1)
        return receive_all(client).splitlines()


@pytest.mark.parametrize("journal", [True, False])
@pytest.mark.parametrize("kind", [Words, Polite])
def test_a_connection_goes_on_behind_what_is_refused(
    start: Start, tmp_path: Path, kind: type, journal: bool
) -> None:
    app = one(kind, journal=journal, listeners=[Listener("tcp://127.0.0.1:0", Texts(), to="s")])
    node = start(app, **({"data": tmp_path / "d"} if journal else {}))
    answers = ask(node, b"a\n5\nb\nLOUD\n6\nc\n" * 20)
    assert len(answers) == 120
    words = [answer for answer in answers if answer.isdigit()]
    assert words == [b"%d" % (n + 1) for n in range(len(words))]
    mismatch = b"error: Server 's' takes str, and not 5 of type int"
    assert answers[1].startswith(mismatch)
    assert node.call("s", "end") == len(words) + 1 == (61 if kind is Polite else 81)
    assert refused(node) == (60 if kind is Polite else 40)
    assert node.whereis("s") == 1


class Sender(GenServer[list[Any], Any, Any]):
    """Passes on what it gets, as a call or a cast."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        if command == "heard":
            return state, state
        how, message = command
        return state, None, Call("s", message, "t") if how == "call" else Cast("s", message)

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        return [*state, message], None


def two(kind: type, *, journal: bool = True) -> Application:
    workers = [Worker("s", kind, journal=journal), Worker("from", Sender, journal=journal)]
    return Application("t", Supervisor("one_for_all", workers, intensity=0))


@pytest.mark.parametrize("journal", [True, False])
def test_another_server_is_told_by_an_info(start: Start, tmp_path: Path, journal: bool) -> None:
    node = start(two(Polite, journal=journal), **({"data": tmp_path / "d"} if journal else {}))
    for message in (5, "LOUD"):
        node.call("from", ("call", message))
    wait_for(lambda: len(node.call("from", "heard")) == 2, "both are told")
    heard = node.call("from", "heard")
    assert [type(each) for each in heard] == [CallFailed, CallFailed]
    assert [type(each.error) for each in heard] == [InputTypeMismatch, Rejected]
    if journal:
        texts = [str(each.error) for each in heard]
        node.stop()
        node = start(two(Polite), data=tmp_path / "d")
        assert [str(each.error) for each in node.call("from", "heard")] == texts


@pytest.mark.parametrize("seed", range(10))
def test_a_refused_message_of_a_journaled_server_has_arrived(seed: int) -> None:
    """It is part of the input that sent it, and a start would deliver it for ever."""
    disk = SimDisk(seed)
    world = Simulator(seed, two(Polite), disk=disk).start()
    for message in (5, "LOUD", "soft"):
        world.node.call("from", ("cast", message))
        world.run(0.5)
    assert refused(world.node) == 2
    assert dict(world.node.loop.dispatcher.outbox) == {}
    disk = world.lose_power(random.Random(seed))
    world = Simulator(seed, two(Polite), disk=disk).start()
    world.run(0.5)
    assert refused(world.node) == 0
    assert world.node.get_state("s") == ["SOFT"]
    assert world.node.whereis("s") == 2
    world.stop()


class Ledger(GenServer[list[bytes], Any, Any]):
    """Takes lines in their order, and no other."""

    accepts = bytes

    def init(self, args: Any) -> list[bytes]:
        return []

    def validate(self, command: bytes, state: list[bytes]) -> object:
        return None if int(command) == len(state) else b"%d is next" % len(state)

    def step(self, command: bytes, state: list[bytes]) -> Any:
        state.append(command)
        return state, command


@pytest.mark.parametrize("seed", range(40))
def test_what_was_not_rejected_survives_power_cuts(seed: int) -> None:
    dice, disk, acknowledged = random.Random(seed), SimDisk(seed), 0
    for life in range(4):
        world = Simulator(
            dice.getrandbits(32),
            one(Ledger, listeners=[Listener(TCP, Lines(), to="s")]),
            disk=disk,
            journal_options=Options(segment_bytes=64 << 10),
            shake=True,
        ).start()
        world.node.journal.snapshots.records = dice.choice((4, 1000))
        state = world.node.get_state("s")
        assert len(state) >= acknowledged
        assert state == [b"%d" % n for n in range(len(state))]
        client = world.connect(TCP)
        for _ in range(dice.randrange(2, 25)):
            client.send(b"%d\n" % (len(world.node.get_state("s")) + dice.choice((0, 0, 0, 1, -1))))
            world.run(dice.random() * 0.01)
        answers = bytes(client.received).splitlines()
        acknowledged = max([acknowledged, *(int(a) + 1 for a in answers if a.isdigit())])
        disk = world.lose_power(dice) if life < 3 else disk
    world.stop()


def test_a_refusal_can_be_caught_as_one_of_the_packages_errors(node: Any) -> None:
    with pytest.raises(PybehaveError):
        node.call("words", 5)

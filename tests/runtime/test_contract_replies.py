"""A contract moves by the replies that leave, and by those to its own questions (K2, K3).

The contract of these tests has as its state all that it was told: `?` for a question, the first
letter of a reply, `!` for an error in its place. Asked to `show`, it refuses with that state.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pybehave import (
    NO_REPLY,
    Application,
    Contract,
    GenServer,
    Listener,
    Release,
    Supervisor,
    Worker,
)
from pybehave.actions import Cast, Reply, Send, Stop
from pybehave.errors import ContractBroken, SourceUnavailable
from pybehave.protocols import Lines
from pybehave.testing.simulate import Simulator
from tests.conftest import SOURCES, dial, receive, until

Pairs = list[tuple[str, str]]


class Told(Contract[str]):
    def initial(self) -> str:
        return ""

    def received(self, state: str, message: str) -> str:
        if message == "show":
            raise ContractBroken(f"<{state}>")
        return state + "?"

    def replied(self, state: str, output: str) -> str | None:
        if output == "secret" and ("b" in state or "!" in state):
            return None
        return state + output[0]

    def failed(self, state: str, error: Exception) -> str:
        return state + "!"


class LogIn(Contract[str]):
    """Nothing may come but `login?`, until it is answered."""

    def initial(self) -> str:
        return "guest"

    def received(self, state: str, message: str) -> str | None:
        match state, message:
            case "guest", "login?":
                return "asked"
            case "user", _:
                return "user"
        return None

    def replied(self, state: str, output: str) -> str:
        return "user" if output == "welcome" else "guest"


class Front(GenServer[dict[str, Any], Any, Any]):
    """Puts off the replies to what ends in a question mark; `auth` gives them."""

    def init(self, args: Any) -> dict[str, Any]:
        return {}

    def handle_call(self, command: str, caller: Any, state: dict[str, Any]) -> Any:
        match command.split():
            case ["now", name]:
                return state, "now", Reply(state[name], "late")
            case ["twice"]:
                return state, "now", Reply(caller, "early")
            case ["stop", output]:
                return state, output, Stop("normal")
            case _ if command.endswith("?"):
                return {**state, command: caller}, NO_REPLY
        return state, command

    def handle_cast(self, message: tuple[Pairs, bool], state: dict[str, Any]) -> Any:
        pairs, is_good = message
        replies = [Reply(state[name], value) for name, value in pairs]
        return state, None, Cast("auth", (replies, is_good))


class Auth(GenServer[None, Any, Any]):
    """Gives the replies, together with an action that cannot be carried out."""

    def handle_cast(self, message: tuple[list[Reply], bool], state: None) -> Any:
        replies, is_good = message
        nobody: Any = "nobody"
        return None, None, replies if is_good else [*replies, Send(nobody, "?")]


def app(contract: Any, url: str, version: str = "1") -> Application:
    listener = Listener(url, Lines("utf-8"), to="front", contract=contract)
    workers = [Worker("front", Front), Worker("auth", Auth)]
    tree = Supervisor("one_for_one", workers, intensity=100)
    return Application("told", tree, listeners=[listener], version=version)


class Talk:
    """A node with one client, that says lines and hears them; on a real source."""

    url = "tcp://127.0.0.1:0"

    def __init__(self, node: Any) -> None:
        self.node = node
        self.client = dial(node)
        self.said = 0

    def until(self, condition: Callable[[], Any]) -> None:
        until(self.node, condition)

    def send(self, data: bytes) -> None:
        self.client.sendall(data)

    def receive(self, count: int) -> bytes:
        return receive(self.client, count)

    def say(self, *lines: str) -> None:
        """Say lines, and wait until the node has looked at them."""
        self.send("".join(f"{line}\n" for line in lines).encode())
        self.said += len(lines)
        self.until(lambda: self.count("commands") == self.said)

    def hears(self, *lines: str) -> None:
        expected = "".join(f"{line}\n" for line in lines)
        assert self.receive(len(expected)).decode() == expected

    def shows(self, state: str) -> None:
        """Let the contract say its state; nothing may be owed."""
        self.say("show")
        self.hears(f"error: Protocol error: <{state}>")

    def reply(self, *pairs: tuple[str, str], is_good: bool = True) -> None:
        """Let one step of `auth` give these replies; if it is not good, it crashes behind them."""
        crashes = self.count("crashes") + (not is_good)
        inputs = self.inputs("front") + 1
        self.node.cast("front", (list(pairs), is_good))
        self.until(lambda: self.inputs("front") == inputs and self.count("crashes") == crashes)

    def count(self, name: str) -> int:
        number: int = self.node.stats()["loop"][name]
        return number

    def inputs(self, name: str) -> int:
        server = self.node.loop.dispatcher.whereis(name)
        return 0 if server is None else server.inputs

    def upgrade(self, contract: Any, version: str, follows: str) -> None:
        new = app(contract, self.url, version)
        self.node.releases.upgrade(Release(new, upgrades=follows), from_version=follows)


class SimTalk(Talk):
    """The same on the simulator."""

    url = "tcp://127.0.0.1:7000"

    def __init__(self, world: Simulator) -> None:
        self.world, self.node = world, world.node
        self.peer = world.connect(self.url)
        self.said = self.taken = 0

    def until(self, condition: Callable[[], Any]) -> None:
        self.world.run_until(condition)

    def send(self, data: bytes) -> None:
        self.peer.send(data)

    def receive(self, count: int) -> bytes:
        self.until(lambda: len(self.peer.received) >= self.taken + count)
        self.taken += count
        return bytes(self.peer.received)[self.taken - count : self.taken]


@pytest.fixture(params=[*SOURCES, "sim"])
def talk(request: pytest.FixtureRequest) -> Iterator[Callable[[Any], Talk]]:
    ends: list[Callable[[], Any]] = []
    logger = logging.getLogger("pybehave")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # deliberate crashes need no traceback on the terminal

    def begin(contract: Any) -> Talk:
        if request.param == "sim":
            world = Simulator(1, app(contract, SimTalk.url)).start()
            ends.append(world.stop)
            return SimTalk(world)
        try:
            node = app(contract, Talk.url).start(backend=request.param)
        except SourceUnavailable as error:
            pytest.skip(f"{request.param}: {error.reason}")
        ends.append(lambda: node.stop(drain=False))
        found = Talk(node)
        ends.insert(0, found.client.close)
        return found

    yield begin
    for end in ends:
        end()
    logger.setLevel(level)


Begin = Callable[[Any], Talk]


# --- a reply that does not leave (K2) -----------------------------------------------------------


def test_a_reply_of_another_server_that_did_not_leave_opens_nothing(talk: Begin) -> None:
    """It had moved the contract when its actions were checked, and then its step crashed."""
    client = talk(LogIn())
    client.say("login?")
    client.reply(("login?", "welcome"), is_good=False)
    inputs = client.inputs("front")
    client.say("work")
    assert (client.inputs("front"), client.count("contracts_broken")) == (inputs, 1)
    client.reply(("login?", "welcome"))
    client.hears("welcome", "error: Protocol error: 'work' may not come in state 'asked'")
    client.say("work")
    client.hears("work")


def test_replies_that_did_not_leave_leave_nothing(talk: Begin) -> None:
    client = talk(Told())
    client.say("a?", "b?")
    client.reply(("a?", "x"), ("b?", "y"), is_good=False)
    client.reply(("b?", "2"))
    client.reply(("a?", "1"))
    client.hears("1", "2")
    client.shows("??21")


def test_replies_of_one_step_lead_from_one_to_the_next(talk: Begin) -> None:
    client = talk(Told())
    client.say("a?", "b?", "now a?")
    client.reply(("b?", "2"))
    client.hears("late", "2", "now")
    client.shows("???ln2")


def test_a_reply_is_judged_behind_those_that_leave_before_it(talk: Begin) -> None:
    client = talk(Told())
    client.say("a?", "b?")
    client.reply(("a?", "bye"), ("b?", "secret"), is_good=False)
    client.reply(("a?", "1"))
    heard = client.receive(len("1\nerror: ")).decode()
    assert heard == "1\nerror: "  # b hears why at once, behind what a is owed


def test_the_second_reply_to_a_caller_moves_nothing(talk: Begin) -> None:
    client = talk(Told())
    client.say("a?")
    client.reply(("a?", "1"), ("a?", "2"))
    client.hears("1")
    client.say("twice")
    client.hears("early")
    client.shows("?1?e")


@pytest.mark.parametrize(("output", "state"), [("welcome", "??!w"), ("secret", "??!")])
def test_a_reply_leads_on_from_where_the_errors_of_its_stop_have_led(
    talk: Begin, output: str, state: str
) -> None:
    """Who waits hears of the end before the reply leaves; where that may not come, it stays."""
    client = talk(Told())
    client.say("a?", f"stop {output}")
    client.hears("error: server 'front' stopped before it answered", output)
    client.shows(state)


# --- a reply to a question of before (K3) -------------------------------------------------------


def test_a_reply_to_a_question_of_before_the_contract_moves_nothing(talk: Begin) -> None:
    client = talk(None)
    client.say("a?", "b?")
    client.upgrade(Told(), "2", "1")
    client.say("c?")
    client.reply(("a?", "1"))
    client.reply(("c?", "3"), ("b?", "2"))
    client.hears("1", "2", "3")
    client.shows("?3")


def test_a_login_is_not_answered_by_the_reply_to_a_question_of_before(talk: Begin) -> None:
    client = talk(None)
    client.say("a?")
    client.upgrade(LogIn(), "2", "1")
    client.say("login?")
    client.reply(("a?", "welcome"))
    client.hears("welcome")
    inputs = client.inputs("front")
    client.say("work")
    assert (client.inputs("front"), client.count("contracts_broken")) == (inputs, 1)


def test_a_question_under_the_same_version_is_answered_across_an_upgrade(talk: Begin) -> None:
    client = talk(Told())
    client.say("a?")
    client.upgrade(Told(), "2", "1")
    client.reply(("a?", "1"))
    client.hears("1")
    client.shows("?1")


def test_a_question_asked_while_there_was_no_contract_is_none_of_it(talk: Begin) -> None:
    client = talk(Told())
    client.say("a?")
    client.upgrade(None, "2", "1")
    client.say("b?")
    client.node.releases.rollback()
    client.reply(("b?", "2"), ("a?", "1"))
    client.hears("1", "2")
    client.shows("?1")

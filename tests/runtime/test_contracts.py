"""Contracts on connections: what is refused, what clients hear, what an upgrade keeps (A3-43)."""

from __future__ import annotations

import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import (
    NO_REPLY,
    Application,
    Bridge,
    Contract,
    GenServer,
    Listener,
    Release,
    Speaks,
    Supervisor,
    Worker,
    family,
)
from pybehave.actions import Reply, Send, StartTimer
from pybehave.errors import ContractBroken
from pybehave.protocols import Http, HttpReply, Lines, Resp
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial, receive, receive_all

Start = Callable[..., Any]
URL = "tcp://127.0.0.1:0"
SIM_URL = "tcp://127.0.0.1:7000"


class Shell(GenServer[list[str], Any, Any]):
    """Keeps what it hears."""

    def init(self, args: Any) -> list[str]:
        return []

    def validate(self, command: Any, state: list[str]) -> object:
        return "no" if command == "refuse" else None

    def step(self, command: str, state: list[str]) -> Any:
        state.append(command)
        match command.split():
            case ["login", name]:
                return state, "welcome" if name != "mallory" else "go away"
            case ["crash"]:
                raise ValueError("a deliberate bug")
            case ["odd", *_]:
                return state, "odd"
            case ["login", "evil", what]:
                return state, "welcome", Send(what, "to whom?")
            case ["later"]:
                return state, NO_REPLY, StartTimer("t", 0.0, self.context.caller)
        return state, "ok"

    def handle_info(self, message: Any, state: list[str]) -> Any:
        return state, None, Reply(message, "late")


class LogIn(Contract[str]):
    """`login NAME` first, and one question at a time."""

    def initial(self) -> str:
        return "guest"

    def received(self, state: str, message: str) -> str | None:
        match state, message.split(maxsplit=1)[0]:
            case "guest", "login":
                return "asked"
            case "guest", _:
                raise ContractBroken("log in first")
            case "user", _:
                return "waits"
        return None

    def replied(self, state: str, output: str) -> str | None:
        match state, output:
            case _, "odd":
                return None
            case "asked", "go away":
                return "guest"
        return "user"

    def failed(self, state: str, error: Exception) -> str:
        return "guest" if state == "asked" else "user"


class Strict(LogIn):
    closes = True


class Newer(LogIn):
    version = 2


def app(contract: Any, *, journal: bool = False, version: str = "1", **more: Any) -> Application:
    url = more.pop("url", URL)
    listener = Listener(url, Lines("utf-8"), to="s", contract=contract, **more)
    worker = Worker("s", Shell, journal=journal)
    tree = Supervisor("one_for_one", [worker], intensity=100)
    return Application("shell", tree, listeners=[listener], version=version)


@pytest.fixture(params=[False, True], ids=["memory", "journal"])
def begin(request: Any, start: Start, tmp_path: Path) -> Start:
    def begin(contract: Any, **more: Any) -> Any:
        return start(app(contract, journal=request.param, **more), data=tmp_path / "d")

    begin.journal = request.param  # type: ignore[attr-defined]
    return begin


def ask(client: socket.socket, line: str) -> str:
    client.sendall(f"{line}\n".encode())
    return client.makefile("rb").readline().decode().strip()


def broken(node: Any) -> int:
    count: int = node.stats()["loop"]["contracts_broken"]
    return count


def test_A3_43_a_message_that_may_not_come_never_reaches_the_server(begin: Start) -> None:
    node = begin(LogIn())
    with dial(node) as client:
        inputs = node.loop.dispatcher.whereis("s").inputs
        assert ask(client, "work") == "error: Protocol error: log in first"
        assert node.loop.dispatcher.whereis("s").inputs == inputs
        assert ask(client, "login mallory") == "go away"
        assert ask(client, "work") == "error: Protocol error: log in first"
        assert ask(client, "login alice") == "welcome"
        assert ask(client, "work") == "ok"
        with dial(node) as other:
            assert ask(other, "work") == "error: Protocol error: log in first"
    assert node.get_state("s") == ["login mallory", "login alice", "work"]
    assert (broken(node), node.stats()["loop"]["decode_errors"]) == (3, 0)


def test_a_refused_message_is_not_journaled(start: Start, tmp_path: Path) -> None:
    node = start(app(LogIn(), journal=True), data=tmp_path / "d")
    before = node.stats()["journal"]["next_lsn"]
    with dial(node) as client:
        ask(client, "work")
    assert node.stats()["journal"]["next_lsn"] == before
    with dial(node) as client:
        ask(client, "login alice")
    node.stop()
    assert start(app(LogIn(), journal=True), data=tmp_path / "d").get_state("s") == ["login alice"]


def test_a_refusal_may_end_the_connection(begin: Start) -> None:
    node = begin(Strict())
    with dial(node) as client:
        client.sendall(b"login alice\nwork\n")
        assert receive(client, 11) == b"welcome\nok\n"
    with dial(node) as client:
        client.sendall(b"work\nlogin alice\nwork\n")
        assert receive_all(client) == b"error: Protocol error: log in first\n"
    assert node.get_state("s") == ["login alice", "work"]
    assert broken(node) == 1


def test_one_question_at_a_time(begin: Start) -> None:
    node = begin(LogIn())
    with dial(node) as client:
        assert ask(client, "login alice") == "welcome"
        client.sendall(b"later\nwork\n")
        expected = b"late\nerror: Protocol error: 'work' may not come in state 'waits'\n"
        assert receive(client, len(expected)) == expected
        assert ask(client, "work") == "ok"


def test_an_error_is_told_to_the_contract(begin: Start) -> None:
    node = begin(LogIn())
    with dial(node) as client:
        assert ask(client, "login alice") == "welcome"
        for command in ("crash", "refuse"):
            assert "error: " in ask(client, command)
            assert ask(client, "work") == "ok"
    assert broken(node) == 0


def test_of_a_reply_that_did_not_leave_nothing_is_left(begin: Start) -> None:
    """It was made and moved the contract on; then the step crashed by an action (K2)."""
    node = begin(LogIn())
    with dial(node) as client:
        assert ask(client, "login evil x").startswith("error: server 's' crashed")
        assert ask(client, "work") == "error: Protocol error: log in first"


def test_a_reply_that_may_not_come_is_a_crash(begin: Start) -> None:
    node = begin(LogIn())
    with dial(node) as client:
        assert ask(client, "login alice") == "welcome"
        assert ask(client, "odd").startswith("error: server 's' crashed")
        assert ask(client, "work") == "ok"
    assert node.stats()["loop"]["crashes"] == 1
    assert node.get_state("s")[-1] == "work"


def test_a_server_that_is_not_there_is_not_talked_to(start: Start) -> None:
    node = start(app(LogIn()))
    node.terminate_child("root", "s")
    with dial(node) as client:
        for _ in range(2):
            assert ask(client, "login alice") == "error: no server is called 's'"
        node.restart_child("root", "s")
        assert ask(client, "login alice") == "welcome"


class Echo(GenServer[None, Any, Any]):
    def step(self, command: Any, state: None) -> Any:
        return None, command if isinstance(command, list) else HttpReply(command.body or b"-")


class Twice(Contract[int]):
    """Two requests, no more."""

    closes = True

    def initial(self) -> int:
        return 0

    def received(self, state: int, message: Any) -> int | None:
        return state + 1 if state < 2 else None


class Fine(GenServer[None, Any, str]):
    def step(self, command: Any, state: None) -> tuple[None, str]:
        return None, "fine"


def test_over_http_a_name_that_nobody_has_is_not_talked_to(start: Start) -> None:
    workers = [Worker(name, Fine, restart="temporary") for name in ("s", "other")]
    listener = Listener(URL, Http(), to="s", contract=Twice())
    node = start(Application("t", Supervisor("one_for_one", workers), listeners=[listener]))
    node.terminate_child("root", "other")
    with dial(node) as client:
        for name in ("nobody", "other", "s", "nobody", "s", "other", "s"):
            head = f"POST /{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"
            client.sendall(f"{head}x".encode())
        got = re.findall(rb"HTTP/1.1 (\d+)", receive_all(client))
    assert got == [b"404", b"404", b"200", b"404", b"200", b"404", b"400"]
    assert broken(node) == 1


def test_over_http_a_refused_request_wakes_no_member_of_a_family(start: Start) -> None:
    children = [Worker("s", Fine), family("m-*", Fine)]
    listener = Listener(URL, Http(), to="s", contract=Twice())
    app = Application("t", Supervisor("one_for_one", children), listeners=[listener])
    node = start(app)
    with dial(node) as client:
        for number in range(3):
            head = f"POST /m-{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n"
            client.sendall(f"{head}x".encode())
        got = re.findall(rb"HTTP/1.1 (\d+)", receive_all(client))
    assert got == [b"200", b"200", b"400"]
    assert sorted(node.names()) == ["m-0", "m-1", "s"]


def test_what_a_protocol_answers_itself_is_not_looked_at(start: Start) -> None:
    tree = Supervisor("one_for_one", [Worker("s", Echo)])
    listener = Listener(URL, Resp(), to="s", contract=Twice())
    node = start(Application("t", tree, listeners=[listener]))
    with dial(node) as client:
        client.sendall(b"PING\r\nPING\r\nX\r\nPING\r\nX\r\nX\r\n")
        got = receive_all(client)
    assert got.startswith(b"+PONG\r\n+PONG\r\n*1\r\n$1\r\nX\r\n+PONG\r\n*1\r\n$1\r\nX\r\n-ERR ")
    assert broken(node) == 1


# --- versions ---------------------------------------------------------------------------------


SHORT: Bridge[str, str, str, str] = Bridge(
    up_input=lambda text: text.replace("in ", "login "), down_output=lambda text: text[:4]
)


def test_an_old_client_is_judged_by_what_the_server_gets(begin: Start) -> None:
    node = begin(LogIn(), speaks=Speaks(2, {1: SHORT}, assumed=1))
    with dial(node) as client:
        assert ask(client, "work") == "error: Protocol error: log in first"
        assert ask(client, "in alice") == "welc"
        assert ask(client, "work") == "ok"


def upgrade(node: Any, begin: Any, contract: Any, version: str, follows: str) -> None:
    new = app(contract, journal=begin.journal, version=version)
    node.releases.upgrade(Release(new, upgrades=follows))


def test_A3_43_an_upgrade_keeps_where_a_conversation_stands(begin: Any) -> None:
    node = begin(LogIn())
    with dial(node) as user, dial(node) as guest:
        assert ask(user, "login alice") == "welcome"
        upgrade(node, begin, LogIn(), "2", "1")
        assert ask(user, "work") == "ok"
        assert ask(guest, "work") == "error: Protocol error: log in first"


def test_a_contract_of_another_version_begins_with_new_connections(begin: Any) -> None:
    node = begin(LogIn())
    with dial(node) as user, dial(node) as silent:
        assert ask(user, "login alice") == "welcome"
        upgrade(node, begin, Newer(), "2", "1")
        assert ask(silent, "login bob") == "welcome"
        user.sendall(b"work\nwork\n")
        assert receive_all(user).decode() == (
            "error: Protocol error: the contract of this connection was version 1 and is version "
            "2 now: connect again\n"
        )
    assert broken(node) == 1


def test_a_contract_may_come_and_go(begin: Any) -> None:
    node = begin(None)
    with dial(node) as client:
        assert ask(client, "work") == "ok"
        upgrade(node, begin, LogIn(), "2", "1")
        assert ask(client, "work") == "error: Protocol error: log in first"
        assert ask(client, "login alice") == "welcome"
        upgrade(node, begin, None, "3", "2")
        assert ask(client, "work") == "ok"
        node.releases.rollback()
        assert ask(client, "work") == "ok"


@pytest.mark.parametrize("journal", [False, True])
def test_A3_43_on_the_simulator(journal: bool) -> None:
    with Simulator(1, app(LogIn(), journal=journal, url=SIM_URL), disk=SimDisk(1)) as world:
        client = world.connect(SIM_URL)
        client.send(b"work\nlogin alice\n")
        expected = b"error: Protocol error: log in first\nwelcome\n"
        world.run_until(lambda: bytes(client.received) == expected)
        client.send(b"later\nwork\n")
        expected += b"late\nerror: Protocol error: 'work' may not come in state 'waits'\n"
        world.run_until(lambda: bytes(client.received) == expected)
        assert world.node.get_state("s") == ["login alice", "later"]


# --- what it costs who has none ---------------------------------------------------------------


class Plain(GenServer[None, str, str]):
    def step(self, command: str, state: None) -> Any:
        return None, "ok"


class Anything(Contract[int]):
    def initial(self) -> int:
        return 1

    def received(self, state: int, message: Any) -> int | None:
        return state


@pytest.mark.parametrize("contract", [None, Anything()])
def test_a_listener_without_a_contract_steps_at_once(start: Start, contract: Any) -> None:
    """Between bytes and bytes no Python runs but the step: others do not pay for a contract."""
    listener = Listener(URL, Lines("utf-8"), to="s", contract=contract)
    tree = Supervisor("one_for_one", [Worker("s", Plain)])
    node = start(Application("t", tree, listeners=[listener]))
    called: list[str] = []

    def follow(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            called.append(frame.f_code.co_name)

    def begin() -> None:
        called.clear()
        sys.setprofile(follow)

    def end() -> list[str]:
        sys.setprofile(None)
        return list(called)

    with dial(node) as client:
        assert ask(client, "work") == "ok"
        node.run_on_loop(begin)
        for _ in range(3):
            assert ask(client, "work") == "ok"
        seen = [name for name in node.run_on_loop(end) if name not in OF_THE_TEST]
    assert seen.count("step") == 3
    assert set(seen) == {"step"} if contract is None else seen.count("received") == 3


OF_THE_TEST = ("begin", "end", "settle", "run_on_loop", "work")
"""What the test's own calls from its thread bring about."""

"""CLIENT REPLY: a client says which replies it wants.

The transcripts are what Redis 7.0 says to the same (with ECHO for SAY), where it is not odd: it
takes an empty line for the request to be skipped, and leaves a connection open that it had to
close, for its close follows a reply.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.actions import NO_REPLY, Reply, Send
from pybehave.protocols import Push, Resp
from tests.conftest import dial, receive_all


class Speaker(GenServer[dict[str, Any], Any, Any]):
    """Answers at once, later, never or with a crash, as it is asked to."""

    def init(self, args: Any) -> dict[str, Any]:
        return {"said": b""}

    def step(self, request: Any, state: dict[str, Any]) -> Any:
        match request:
            case [b"SAY", text]:
                state["said"] += text
                return state, text
            case [b"SAID"]:
                return state, state["said"]
            case [b"NIL"]:
                return state, None
            case [b"PUSH", text]:
                return state, text, [Send(self.context.connection, Push([text]))]
        raise KeyError(request)


class Later(GenServer[dict[str, Any], Any, Any]):
    """Keeps who says LATER waiting until somebody says NOW."""

    def init(self, args: Any) -> dict[str, Any]:
        return {}

    def handle_call(self, request: Any, caller: Any, state: dict[str, Any]) -> Any:
        if request == [b"LATER"]:
            return {"waiting": caller}, NO_REPLY
        if request == [b"NOW"]:
            return {}, b"now", [Reply(state["waiting"], b"later")]
        return state, request[-1]


def talk(node: Any, *requests: str) -> bytes:
    """What a client gets that sends all of this at once and ends its side."""
    with dial(node) as client:
        client.sendall("".join(f"{request}\r\n" for request in requests).encode())
        client.shutdown(1)
        return receive_all(client)


OFF, SKIP, ON = "CLIENT REPLY OFF", "CLIENT REPLY SKIP", "client reply on"

TRANSCRIPTS: dict[str, tuple[tuple[str, ...], bytes]] = {
    "off": ((OFF, "SAY a", "PING", ON, "SAY b"), b"+OK\r\n$1\r\nb\r\n"),
    "skip a request": ((SKIP, "SAY a", "SAY b", "SAY c"), b"$1\r\nb\r\n$1\r\nc\r\n"),
    "skip a native one": ((SKIP, "PING", "PING"), b"+PONG\r\n"),
    "skip another": ((SKIP, "ECHO a", "ECHO b"), b"$1\r\nb\r\n"),
    "skip twice": ((SKIP, SKIP, "SAY a", "SAY b"), b"$1\r\nb\r\n"),
    "on after skip": ((SKIP, ON, "SAY a"), b"+OK\r\n$1\r\na\r\n"),
    "skip while off": ((OFF, SKIP, "SAY a", "SAY b", ON), b"+OK\r\n"),
    "on twice": ((ON, ON), b"+OK\r\n+OK\r\n"),
    "reset": ((OFF, "RESET", "SAY a"), b"+RESET\r\n$1\r\na\r\n"),
    "another version": ((OFF, "HELLO 3", "NIL", ON, "NIL"), b"+OK\r\n_\r\n"),
    "errors": ((OFF, "CLIENT REPLY maybe", "SELECT 7", ON), b"+OK\r\n"),
    "an error that is heard": (("CLIENT REPLY maybe",), b"-ERR syntax error\r\n"),
    "nothing said": (
        ("CLIENT REPLY",),
        b"-ERR wrong number of arguments for 'client|reply' command\r\n",
    ),
    "an empty line": ((SKIP, "", "SAY a", "SAY b"), b"$1\r\nb\r\n"),
    "quit": ((OFF, "QUIT", "SAY a"), b""),
    "malformed": ((OFF, "SAY a", "*1\r\nx"), b""),
    "undecodable": ((OFF, "*2\r\n$3\r\nSAY\r\n:1", ON), b"+OK\r\n"),
    "skip undecodable": ((SKIP, "*2\r\n$3\r\nSAY\r\n:1", "SAY a"), b"$1\r\na\r\n"),
}


@pytest.mark.parametrize("case", TRANSCRIPTS)
def test_only_wanted_replies_are_sent(serve: Any, case: str) -> None:
    requests, answer = TRANSCRIPTS[case]
    assert talk(serve(Speaker, Resp()), *requests) == answer


def test_what_is_not_answered_is_done_all_the_same(serve: Any) -> None:
    answer = talk(serve(Speaker, Resp()), OFF, "SAY a", "SAY b", SKIP, "SAY c", ON, "SAID")
    assert answer == b"+OK\r\n$3\r\nabc\r\n"


def test_a_crash_is_not_told_to_who_wants_no_reply(serve: Any) -> None:
    node = serve(Speaker, Resp())
    assert talk(node, OFF, "BOOM", ON, "SAID") == b"+OK\r\n$0\r\n\r\n"
    assert node.whereis("s") == 2


def test_R4_what_was_asked_for_before_off_is_answered_after_it(serve: Any) -> None:
    answer = talk(serve(Later, Resp()), "LATER", OFF, "SAY a", "NOW", ON, "SAY b")
    assert answer == b"$5\r\nlater\r\n+OK\r\n$1\r\nb\r\n"


def test_R4_what_was_asked_for_while_off_is_not_answered_after_on(serve: Any) -> None:
    assert talk(serve(Later, Resp()), OFF, "LATER", ON, "NOW") == b"+OK\r\n$3\r\nnow\r\n"
    answer = talk(serve(Later, Resp()), SKIP, "LATER", "SAY a", "NOW")
    assert answer == b"$1\r\na\r\n$3\r\nnow\r\n"


def test_what_a_client_is_told_unasked_is_no_reply(serve: Any) -> None:
    answer = talk(serve(Speaker, Resp()), "HELLO 3", OFF, "PUSH hi")
    assert answer.endswith(b">1\r\n$2\r\nhi\r\n") and b"$2\r\nhi\r\n$2" not in answer


def test_a_server_that_is_not_there_is_not_told_of_either(start: Any) -> None:
    app = Application(
        "t",
        Supervisor("one_for_one", [Worker("s", Speaker)]),
        listeners=[Listener("tcp://127.0.0.1:0", Resp(), to="s")],
    )
    node = start(app)
    node.stop_server("s", "normal")
    assert talk(node, OFF, "SAY a", ON, "PING") == b"+OK\r\n+PONG\r\n"


@pytest.fixture
def journaled(start: Any, tmp_path: Path) -> Iterator[Any]:
    """A journaled server that answers when what it was told is durable."""
    app = Application(
        "t",
        Supervisor("one_for_one", [Worker("s", Speaker, journal=True)]),
        listeners=[Listener("tcp://127.0.0.1:0", Resp(), to="s")],
    )
    yield start(app, data=str(tmp_path))


def test_a_journaled_server_keeps_what_nobody_wants_an_answer_to(journaled: Any) -> None:
    answer = talk(journaled, OFF, *["SAY x"] * 500, ON, SKIP, "SAY y", "SAID")
    assert answer == b"+OK\r\n$501\r\n" + b"x" * 500 + b"y\r\n"


def test_the_version_of_a_client_that_wants_no_reply_is_listed_as_it_is(serve: Any) -> None:
    node = serve(Speaker, Resp())
    with dial(node) as client:
        client.sendall(b"HELLO 3\r\nCLIENT REPLY OFF\r\nPUSH done\r\n")
        received = b""
        while b"done" not in received:
            received += client.recv(4096)
        assert b" resp=3\n" in talk(node, "CLIENT LIST")

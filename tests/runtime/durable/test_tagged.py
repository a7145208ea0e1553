"""Questions on a connection, told from changes by their first word: answered on the spot."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from examples.kv import KeyValueStore
from pybehave import NO_REPLY, Application, GenServer, Listener, Supervisor, Tagged, Worker
from pybehave.actions import Call, Cast, Hibernate, Reply, Send, StartTimer, Stop
from pybehave.errors import JournalFull
from pybehave.journal.recovery import Options
from pybehave.protocols import Resp, Status
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import dial, receive, until

Steps = dict[bytes, Callable[["Words", list[Any]], Any]]


def bad(server: Words, state: list[Any]) -> Any:
    raise ValueError("a deliberate bug")


def in_place(server: Words, state: list[Any]) -> Any:
    state.append("changed")
    return state, 1


def drawn(server: Words, state: list[Any]) -> Any:
    return state, int(server.context.random.random() >= 0)


QUESTIONS: Steps = {
    b"size": lambda server, state: (state, len(state)),
    b"equal": lambda server, state: (list(state), len(state)),
    b"random": drawn,
    b"send": lambda server, state: (state, 1, Send(server.context.connection, 1)),
    b"cast": lambda server, state: (state, 1, Cast("b", "x")),
    b"hibernate": lambda server, state: (state, 1, Hibernate()),
    b"reply": lambda server, state: (state, NO_REPLY, Reply(server.context.caller, 1)),
    b"caller": lambda server, state: (state, int(server.context.caller is not None)),
}
TRACES: Steps = {
    b"another": lambda server, state: ([*state, 1], 1),
    b"in place": in_place,
    b"call": lambda server, state: (state, 1, [Cast("b", "x"), Call("b", "x")]),
    b"timer": lambda server, state: (state, 1, StartTimer("t", 0.01, "late")),
    b"stop": lambda server, state: (state, 1, Stop("normal")),
    b"other": lambda server, state: (state, 1, Reply(None, 1)),
    b"bad": bad,
    b"nothing": lambda server, state: None,
    b"unsaid": lambda server, state: (state, object()),
}


class Words(GenServer[list[Any], Any, Any]):
    ephemeral = Tagged(b"ASK")

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        match command:
            case [b"ASK", what]:
                return {**QUESTIONS, **TRACES}[what](self, state)
            case [b"ADD", word]:
                state.append(word)
        return state, len(state)


@pytest.fixture(params=[True, False], ids=["journal", "memory"])
def node(request: pytest.FixtureRequest, start: Callable[..., Any], tmp_path: Path) -> Any:
    workers = [Worker(name, Words, journal=request.param) for name in ("a", "b")]
    application = Application(
        "t",
        Supervisor("one_for_one", workers, intensity=1000),
        listeners=[Listener("tcp://127.0.0.1:0", Resp(), to="a")],
    )
    return start(application, data=tmp_path / "d" if request.param else None)


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def lsn_of(node: Any) -> int:
    return 0 if node.journal is None else int(node.journal.commit.next_lsn)


def lines(client: Any, count: int) -> list[bytes]:
    data = b""
    while data.count(b"\r\n") < count:
        data += receive(client, 1)
    return data.split(b"\r\n")[:-1]


def test_a_name_is_looked_at_each_time(node: Any) -> None:
    """Also one that is not the same object as the one before, and of which nobody knows."""
    is_journaled = lsn_of(node) > 0
    with dial(node) as client:
        for name in (b"ADD", b"GET", b"GET", b"ODD", b"ADD", b"ODD", b"", b"ASKS"):
            before = lsn_of(node)
            client.sendall(command(name, b"x"))
            lines(client, 1)
            recorded = lsn_of(node)
            assert (recorded > before) is is_journaled
            client.sendall(command(b"ASK", b"size") * 3)
            lines(client, 3)
            assert lsn_of(node) == recorded


@pytest.mark.parametrize("size", [65, 1 << 19])
def test_a_long_name_is_not_kept(node: Any, size: int) -> None:
    name = bytes(size)
    before = sys.getrefcount(name)
    node.call("a", [name, b"x"])
    until(node, lambda: sys.getrefcount(name) == before)


class Noneless(GenServer[int, Any, Any]):
    ephemeral = Tagged(None)

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: Any, state: int) -> Any:
        return (state, state) if command[0] is None else (state + 1, state)


def test_none_is_a_tag_like_any_other(start: Callable[..., Any], tmp_path: Path) -> None:
    """The memory of the latest name began with it, and said that it is none."""
    workers = [Worker("n", Noneless, journal=True)]
    node = start(Application("t", Supervisor("one_for_one", workers)), data=tmp_path / "d")
    before = lsn_of(node)
    assert node.call("n", [None]) == 0
    assert lsn_of(node) == before
    assert node.call("n", ["more"]) == 0
    assert lsn_of(node) > before
    before = lsn_of(node)
    assert node.call("n", [None]) == 1
    assert lsn_of(node) == before


@pytest.mark.parametrize("what", QUESTIONS)
def test_a_question_is_answered_in_its_place(node: Any, what: bytes) -> None:
    more = [b":1"] if what == b"send" else []
    with dial(node) as client:
        client.sendall(command(b"ADD", b"x") + command(b"ASK", what) + command(b"ADD", b"y"))
        assert lines(client, 3 + len(more)) == [b":1", *more, b":1", b":2"]
        before = lsn_of(node)
        client.sendall(command(b"ASK", b"size") * 50)
        assert lines(client, 50) == [b":2"] * 50
    assert lsn_of(node) == before
    assert node.get_state("a") == [b"x", b"y"]


@pytest.mark.parametrize("what", TRACES)
def test_a_trace_is_a_crash_and_what_comes_behind_goes_on(node: Any, what: bytes) -> None:
    with dial(node) as client:
        client.sendall(command(b"ADD", b"x"))
        assert lines(client, 1) == [b":1"]
        client.sendall(command(b"ASK", what))
        (answer,) = lines(client, 1)
        if what == b"in place" and node.journal is None:  # nothing is encoded there
            assert answer == b":1"
            return
        assert answer.startswith(b"-CRASHED") or (what == b"unsaid" and answer.startswith(b"-"))
        kept = 1 if node.journal is not None else 0
        client.sendall(command(b"ASK", b"size") + command(b"ADD", b"y"))
        assert lines(client, 2) == [b":%d" % kept, b":%d" % (kept + 1)]
    assert node.get_state("b") == []


def test_what_begins_with_another_word_counts(node: Any) -> None:
    with dial(node) as client:
        client.sendall(command(b"ADD", b"x"))
        assert lines(client, 1) == [b":1"]
        before = lsn_of(node)
        client.sendall(command(b"ask", b"size"))  # names come in upper case
        assert lines(client, 1) == [b":1"]
        assert lsn_of(node) == before
        client.sendall(command(b"ASKS", b"size"))
        assert lines(client, 1) == [b":1"]
    if node.journal is not None:
        assert lsn_of(node) > before


@pytest.mark.parametrize("message", [[], (), [["no tag"]], b"ASK", [b"OTHER", b"ASK"], {b"ASK": 1}])
def test_what_has_no_tag_is_stepped_like_any_other(node: Any, message: Any) -> None:
    before = lsn_of(node)
    assert node.call("a", message) == 0
    if node.journal is not None:
        assert lsn_of(node) > before


def test_a_tagged_tuple_is_a_question_too(node: Any) -> None:
    before = lsn_of(node)
    assert node.call("a", (b"ASK", b"size")) == node.call("a", [b"ASK", b"size"]) == 0
    assert lsn_of(node) == before


def test_the_store_of_the_example_answers_reads_on_a_full_disk() -> None:
    disk = SimDisk(1)
    tree = Supervisor("one_for_one", [Worker("kv", KeyValueStore, journal=True)])
    options = Options(segment_bytes=64 << 10)
    with Simulator(1, Application("kv", tree), disk=disk, journal_options=options) as world:
        call = world.node.call
        call("kv", [b"SET", b"x", b"1"])
        disk.fail(errno.ENOSPC, kinds=("fill",), is_forever=True)
        with pytest.raises(JournalFull):
            while True:
                call("kv", [b"SET", b"y", b"y" * 3000])
        before = lsn_of(world.node)
        assert call("kv", [b"GET", b"x"]) == b"1"
        assert call("kv", [b"EXISTS", b"x", b"z"]) == 1
        assert call("kv", [b"DBSIZE"]) == 2
        assert call("kv", [b"KEYS", b"*"]) == call("kv", [b"SCAN", b"0"])[1] == [b"x", b"y"]
        assert call("kv", [b"TYPE", b"x"]) == Status("string")
        assert call("kv", [b"STRLEN", b"y"]) == 3000
        assert lsn_of(world.node) == before
        for change in ([b"INCR", b"x"], [b"DEL", b"x"], [b"FLUSHALL"]):
            with pytest.raises(JournalFull):
                call("kv", change)
        disk.heal()
        world.run(5)
        assert call("kv", [b"INCR", b"x"]) == 2

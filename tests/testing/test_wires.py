"""Trials whose clients come over connections: bytes in pieces, resets, failures as answers."""

from __future__ import annotations

from typing import Any

import pytest

from pybehave import NO_REPLY, Application, GenServer, Listener, Supervisor, Worker
from pybehave.errors import SpecError
from pybehave.protocols import OK, Error, Lines, Resp
from pybehave.testing import Faults, Model, Trial, TrialFailed
from pybehave.testing.script import NO_FAULTS, Ask, Crash, GiveUp, PowerCut
from pybehave.testing.wires import LINES, MORE, RESP

URL = "tcp://127.0.0.1:7000"


class Store(GenServer[dict[bytes, bytes], list[bytes], Any]):
    def init(self, args: Any) -> dict[bytes, bytes]:
        return {}

    def step(self, command: list[bytes], state: dict[bytes, bytes]) -> Any:
        match command:
            case [b"SET", key, value]:
                state[key] = value
                return state, OK
            case [b"GET", key]:
                return state, state.get(key)
            case [b"ALL"]:
                return state, [*sorted(state), len(state)]
        return state, Error("ERR no such command")


class Forgetful(Store):
    def step(self, command: list[bytes], state: dict[bytes, bytes]) -> Any:
        return super().step(command, {} if command[0] == b"GET" else state)


class Silent(Store):
    def step(self, command: list[bytes], state: dict[bytes, bytes]) -> Any:
        state, output = super().step(command, state)
        return state, NO_REPLY if output is None else output


def application(kind: type = Store, protocol: Any = None) -> Application:
    return Application(
        "store",
        Supervisor("one_for_one", [Worker("store", kind, journal=True)], intensity=100),
        listeners=[Listener(URL, protocol or Resp(), to="store")],
    )


def ask(dice: Any) -> tuple[str, list[bytes]]:
    key = dice.choice((b"a", b"b"))
    if dice.random() < 0.5:
        return "store", [b"GET", key]
    return "store", [b"SET", key, b"%d" % dice.randrange(1000)]


MODEL = {"store": Model.of(Store, key=lambda command: command[1])}


def test_without_a_mistake_pieces_resets_crashes_and_cuts_change_nothing() -> None:
    faults = Faults(lose=40, crashes=2, power_cuts=2, give_ups=2, snapshots=2)
    trial = Trial(application, ask, wire=RESP, shake=True, model=MODEL, faults=faults, requests=30)
    counts = trial.check(range(80))
    met = ["answers", "errors", "lost", "given up", "power cuts", "crashes", "linearizable"]
    assert [what for what in met if not counts[what]] == []


def test_the_same_seed_gives_the_same_play_over_a_wire() -> None:
    trial = Trial(application, ask, wire=RESP, shake=True)
    for seed in range(15):
        assert trial.play(seed).trace_hash == trial.play(seed).trace_hash


def test_a_mistake_is_found_over_a_wire() -> None:
    with pytest.raises(TrialFailed) as caught:
        Trial(application(Forgetful), ask, wire=RESP, model=MODEL).check(range(20))
    played = caught.value.played
    assert played.failure is not None
    assert (played.failure.promise, len(played.script)) == ("history", 2)


def test_a_reply_that_never_comes_is_found_over_a_wire() -> None:
    with pytest.raises(TrialFailed) as caught:
        Trial(application(Silent), ask, wire=RESP).check(range(20))
    played = caught.value.played
    assert played.failure is not None
    assert (played.failure.promise, len(played.script)) == ("unanswered", 1)


def heard(*script: Any) -> list[tuple[str, Any]]:
    played = Trial(application, ask, wire=RESP, faults=NO_FAULTS).play(1, script)
    assert played.failure is None
    return [(each.client, each.output) for each in played.histories["store"].operations]


def test_replies_are_taken_as_resp_has_them() -> None:
    assert heard(
        Ask(0.1, "a", "store", [b"SET", b"k", b"v\r\n"]),
        Ask(0.2, "a", "store", [b"GET", b"k"]),
        Ask(0.3, "a", "store", [b"GET", b"none"]),
        Ask(0.4, "a", "store", [b"ALL"]),
        Ask(0.5, "a", "store", [b"WHAT"]),
    ) == [
        ("a", "OK"),
        ("a", b"v\r\n"),
        ("a", None),
        ("a", [b"k", 1]),
        ("a", "ERR no such command"),
    ]


def test_a_crash_that_is_answered_says_nothing_of_the_request() -> None:
    [(_, first), (_, second)] = heard(
        Crash(0.1, "store"),
        Ask(0.2, "a", "store", [b"SET", b"k", b"1"]),
        Ask(0.3, "a", "store", [b"GET", b"k"]),
    )
    assert (repr(first), second) == ("UNANSWERED", None)


def test_a_connection_that_broke_is_made_anew() -> None:
    replies = heard(
        Ask(0.1, "a", "store", [b"SET", b"k", b"1"], lost="reply"),
        Ask(0.2, "a", "store", [b"SET", b"k", b"2"]),
        GiveUp(0.3, "a"),
        Ask(0.4, "a", "store", [b"GET", b"k"]),
        PowerCut(0.5),
        Ask(0.6, "a", "store", [b"GET", b"k"]),
    )
    assert repr(replies[0][1]) == "UNANSWERED"
    assert [output for _, output in replies[1:]] == ["OK", b"2", b"2"]


def test_a_server_without_a_listener_is_refused() -> None:
    trial = Trial(application, lambda dice: ("other", [b"PING"]), wire=RESP)
    with pytest.raises(SpecError, match="no listener leads to server 'other'"):
        trial.play(1)


def test_named_requests_over_a_wire_are_refused() -> None:
    with pytest.raises(SpecError, match="once=True is for calls in process"):
        Trial(application, ask, wire=RESP, once=True)


class Echo(GenServer[int, bytes, bytes]):
    def init(self, args: Any) -> int:
        return 0

    def step(self, command: bytes, state: int) -> Any:
        return state + 1, b"%d %s" % (state, command)


def test_lines_are_spoken_too() -> None:
    app = application(Echo, Lines())
    trial = Trial(app, lambda dice: ("store", b"x"), wire=LINES, model={"store": Model.of(Echo)})
    assert trial.check(range(15))["answers"] > 100


@pytest.mark.parametrize(
    ("data", "reply"),
    [
        (b"+OK\r\n", "OK"),
        (b"-ERR no\r\n", Error("ERR no")),
        (b":-7\r\n", -7),
        (b"$3\r\na\r\n\r\n", b"a\r\n"),
        (b"$-1\r\n", None),
        (b"*2\r\n$5\r\na\r\nbc\r\n:1\r\n", [b"a\r\nbc", 1]),
        (b"*3\r\n:1\r\n$1\r\nx\r\n*1\r\n+y\r\n", [1, b"x", ["y"]]),
    ],
)
def test_replies_may_come_in_any_pieces(data: bytes, reply: Any) -> None:
    for cut in range(len(data)):
        received = bytearray(data[:cut])
        assert RESP.take(received) is MORE
        assert received == data[:cut]
    received = bytearray(data + b"rest")
    assert RESP.take(received) == reply
    assert received == b"rest"


def test_what_is_no_reply_is_an_error() -> None:
    with pytest.raises(ValueError, match="is no reply"):
        RESP.take(bytearray(b"?1\r\n"))


def test_failures_are_told_from_outputs() -> None:
    assert RESP.is_error(Error("CRASHED server 'a' crashed (crash id a-1-1)"))
    assert not RESP.is_error(Error("ERR no such key"))
    assert not RESP.is_error(b"CRASHED but bytes")
    assert LINES.is_error(b"error: server 'a' crashed")
    assert not LINES.is_error(b"errors: 0")

"""What a store's next lookups need is fetched ahead (decision 0053): a hint, and nothing else."""

from __future__ import annotations

import random
import sys
import sysconfig
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from pybehave import GenServer
from pybehave._uring import ahead
from pybehave.actions import Active
from pybehave.protocols import OK, Resp
from tests.power.resp import Connection, command

LARGE = 10_000
"""More keys than a table has that is left to the cache."""

IS_KNOWN = (
    sys.implementation.name == "cpython"
    and sys.version_info < (3, 15)
    and not sysconfig.get_config_var("Py_GIL_DISABLED")
)


def key(number: int) -> bytes:
    return b"key:%012d" % number


def store(count: int) -> dict[bytes, bytes]:
    return {key(number): b"v" for number in range(count)}


def test_dictionaries_of_this_python_are_known() -> None:
    assert ahead.knows_dictionaries() is IS_KNOWN


@pytest.mark.skipif(not IS_KNOWN, reason="dictionaries of this Python are left alone")
@pytest.mark.parametrize("count", [300, 3000, LARGE, 30_000, 50_000])
def test_most_keys_are_found_where_it_looks(count: int) -> None:
    kept = store(count)
    found = sum(ahead.finds(kept, each) for each in kept)
    assert found > 0.8 * count
    assert not ahead.finds(kept, b"another")
    for each in list(kept)[::2]:
        del kept[each]
    assert sum(ahead.finds(kept, each) for each in kept) > 0.8 * len(kept)
    assert not ahead.finds(kept, key(0)), "it was deleted"


def test_other_dictionaries_are_left_alone() -> None:
    assert not ahead.finds({}, b"a")
    assert not ahead.finds({"a": 1}, b"a")
    assert not ahead.finds({1: 1}, b"a")
    assert not ahead.finds({b"": 1, "a": 1}, b"a")


def requests(keys: list[bytes]) -> bytes:
    return b"".join(command(b"GET", each) for each in keys)


@pytest.mark.skipif(not IS_KNOWN, reason="dictionaries of this Python are left alone")
def test_it_looks_as_far_ahead_as_is_of_use() -> None:
    kept = store(LARGE)
    sent = requests([key(number) for number in range(40)])
    one = len(requests([key(0)]))
    assert ahead.look(kept, sent) == (16 * one, 16)
    assert ahead.look(kept, sent[: 3 * one + 5]) == (3 * one + 5, 3)
    assert ahead.look(kept, sent[:one]) == (one, 0), "one gains nothing"
    assert ahead.look(kept, b"GET a\r\n") == (len(b"GET a\r\n"), 0)
    assert ahead.look(kept, b"") == (0, 0)
    for other in ({}, store(100), {str(number): b"v" for number in range(LARGE)}):
        assert ahead.look(other, sent) == (len(sent), 0)


def test_any_bytes_are_harmless() -> None:
    kept, chance = store(LARGE), random.Random(53)
    sent = bytearray(requests([key(number) for number in range(30)]))
    for _ in range(20_000):
        place = chance.randrange(len(sent))
        sent[place] = chance.choice(b"*$\r\n0123456789a\x00\xff")
        begin = chance.randrange(len(sent))
        used, keys = ahead.look(kept, bytes(sent[begin:]))
        assert 1 <= used <= len(sent) - begin
        assert keys <= 16
        if chance.random() < 0.05:
            sent = bytearray(requests([key(chance.randrange(2 * LARGE)) for _ in range(30)]))


class Unlike(dict[bytes, bytes]):
    """Its lookups are its own."""

    def __getitem__(self, wanted: bytes) -> bytes:
        return b"own:" + wanted

    def get(self, wanted: bytes, _other: Any = None) -> bytes:
        return b"own:" + wanted


STATES: dict[str, Callable[[], Any]] = {
    "dict": lambda: store(LARGE),
    "ordered": lambda: OrderedDict(store(LARGE)),
    "default": lambda: defaultdict(bytes, store(LARGE)),
    "unlike": lambda: Unlike(store(LARGE)),
    "text": lambda: {str(number): b"v" for number in range(LARGE)},
    "empty": dict,
    "none": lambda: None,
    "list": lambda: [{}],
}


class Store(GenServer[Any, list[bytes], Any]):
    """A dictionary of some kind, or something else."""

    def init(self, args: Any) -> Any:
        return STATES[args]()

    def step(self, words: list[bytes], state: Any) -> tuple[Any, Any]:
        name, *others = words
        if not isinstance(state, dict):
            return state, b"-"
        if name == b"SET":
            state[others[0]] = others[1]
            return state, OK
        if name == b"DEL":
            return state, int(state.pop(others[0], None) is not None)
        if name == b"CLEAR":  # another state, in the middle of what was looked at ahead
            return {}, OK
        if name == b"FILL":
            return store(LARGE), OK
        if name == b"GROW":
            state.update((b"more%d" % number, b"") for number in range(3 * len(state)))
            return state, OK
        return state, state.get(others[0], b"none")


class Asking(Store):
    """Takes one request after the other."""

    def step(self, words: list[bytes], state: Any) -> Any:
        state, output = super().step(words, state)
        return state, output, [Active(self.context.connection, "once")]


def answers(kind: str, script: list[tuple[bytes, ...]]) -> list[Any]:
    """What the steps say, one after the other, without any network."""
    server, state, out = Store(), STATES[kind](), []
    for words in script:
        state, output = server.step(list(words), state)
        out.append(b"OK" if output is OK else output)
    return out


def random_script(chance: random.Random, count: int) -> list[tuple[bytes, ...]]:
    def one() -> tuple[bytes, ...]:
        name = chance.choice([b"SET", b"SET", b"SET", b"GET", b"GET", b"DEL"])
        if chance.random() < 0.01:
            return (chance.choice([b"CLEAR", b"FILL", b"GROW"]),)
        where = key(chance.randrange(2 * LARGE))
        return (name, where, b"%d" % chance.randrange(1000)) if name == b"SET" else (name, where)

    return [one() for _ in range(count)]


@pytest.mark.parametrize("kind", STATES)
@pytest.mark.parametrize("burst", [1, 2, 16, 17, 200])
def test_steps_say_what_they_say_without_it(
    serve: Callable[..., Any], kind: str, burst: int
) -> None:
    chance = random.Random(f"{kind} {burst}")
    script = random_script(chance, 600)
    if kind in ("none", "list", "text", "unlike"):  # these do not become something else
        script = [words for words in script if len(words) > 1]
    node = serve(Store, Resp(), args=kind)
    with Connection(int(node.urls[0].rpartition(":")[2])) as client:
        heard: list[Any] = []
        for begin in range(0, len(script), burst):
            sent = script[begin : begin + burst]
            client.send(b"".join(command(*words) for words in sent))
            heard += [client.reply() for _ in sent]
    assert heard == answers(kind, script)
    fetched = node.stats()["loop"]["keys_ahead"]
    if burst == 1 or kind in ("none", "list"):
        assert fetched == 0
    elif burst > 2 and kind in ("dict", "ordered", "default", "unlike"):
        assert fetched > 0 or not IS_KNOWN


def test_whoever_is_asked_for_one_message_at_a_time_is_not_looked_at(
    serve: Callable[..., Any],
) -> None:
    node = serve(Asking, Resp(), args="dict", active="once")
    with Connection(int(node.urls[0].rpartition(":")[2])) as client:
        client.send(requests([key(number) for number in range(100)]))
        assert [client.reply() for _ in range(100)] == [b"v"] * 100
    assert node.stats()["loop"]["keys_ahead"] == 0

"""The judge itself: every kind of broken promise is noticed, and a kept one is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.power.clients import INCR_EVERY, Client, Load, key_of, value_of
from tests.power.machine import wait_for
from tests.power.resp import Connection
from tests.power.served import serving
from tests.power.story import Lost, Story

SABOTAGE = {
    "an answered one is lost": ([b"DEL"], "is there, but|is lost"),
    "something nobody sent": ([b"SET", b"x", b"y"], "which nobody set"),
    "a key that nobody sent": ([b"SET", b"x", value_of(b"x")], "nobody sent"),
    "a wrong value": ([b"SET", b"key", b"y"], "which nobody set"),
    "an input taken twice": ([b"INCR", b"counter"], "times INCR|is there, but"),
    "everything is lost": ([b"FLUSHALL"], "is lost"),
}


def spoil(connection: Connection, words: list[bytes], client: Client) -> None:
    """Do what a journal must never do."""
    key = key_of(client.id, INCR_EVERY)
    names = {b"key": key, b"counter": client.counter}
    connection.ask(*[names.get(word, word) for word in words], *([key] * (words == [b"DEL"])))


@pytest.fixture
def written(tmp_path: Path):
    with serving(tmp_path, "epoll") as served:
        with Load("a", served.port, 3) as load:
            load.wait_acked(300)
            first = load.clients[0]  # `spoil` takes a key of it; one at a time, it is slow
            wait_for(lambda: first.acked > INCR_EVERY, "the first client gets on")
        with Connection(served.port) as connection:
            yield served, load, connection


def test_a_kept_promise_is_found_kept(written) -> None:
    served, load, _ = written
    story = Story(seed=0)
    story.check(served.port, load)
    story.check(served.port, None)
    assert story.judged == sum(load.acked())


@pytest.mark.parametrize("words, says", SABOTAGE.values(), ids=list(SABOTAGE))
def test_a_broken_promise_is_found(written, words: list[bytes], says: str) -> None:
    served, load, connection = written
    spoil(connection, words, load.clients[0])
    with pytest.raises(Lost, match=says):
        Story(seed=0).check(served.port, load)


def test_what_an_earlier_recovery_had_found_must_stay(written) -> None:
    served, load, connection = written
    story = Story(seed=0)
    story.check(served.port, load)
    spoil(connection, [b"DEL"], load.clients[1])
    with pytest.raises(Lost, match="earlier recovery"):
        story.check(served.port, None)


def test_a_wrong_order_is_found(written) -> None:
    served, load, connection = written
    last = load.clients[0]
    moved = key_of(last.id, 0)
    connection.ask(b"DEL", moved)
    connection.ask(b"SET", moved, value_of(moved))
    with pytest.raises(Lost, match="stands behind it"):
        Story(seed=0).check(served.port, load)

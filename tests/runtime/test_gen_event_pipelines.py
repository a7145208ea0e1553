"""What one builds of an event manager's ring, on nodes: five programs in small (A3-16).

Persist at the end of a batch; shards by the parity of the sequence; producers that send batches; a
client that is told when the ring is full; and a handler that answers when log and store are done.
"""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from pybehave import Application, EventHandler, GenEvent, Listener, Supervisor, Worker, events
from pybehave.events import Later
from pybehave.protocols import Http, Lines, Protocol, Resp
from tests.conftest import dial, receive_all

Start = Callable[..., Any]
SEEN: list[Any] = []


class Writer(EventHandler):
    """Collects events, and writes them when no further one has gathered."""

    def init(self, args: Any) -> list[Any]:
        return []

    def handle_event(self, event: Any, state: list[Any]) -> list[Any]:
        if not self.batch.is_last:
            return [*state, event]
        SEEN.append([*state, event])
        return []


class Odd(EventHandler):
    """Keeps what comes to its shard."""

    def init(self, args: Any) -> Any:
        return (args, [])

    def handle_event(self, event: Any, state: Any) -> Any:
        return (state[0], [*state[1], event])

    def handle_call(self, request: Any, state: Any) -> Any:
        return state, state[1]


class Stage(EventHandler):
    """Says what it sees; a slow one is done when it is told so."""

    is_slow = False

    def handle_event(self, event: Any, state: Any) -> Any:
        SEEN.append((type(self).__name__, event))
        return Later(state) if self.is_slow else state


class Log(Stage):
    is_slow = True


class Store(Stage):
    is_slow = True


class Answer(Stage):
    pass


class Narrow(GenEvent):
    """Refuses what does not fit."""

    capacity = 2
    overflow = "reject"


@pytest.fixture(autouse=True)
def _clean() -> None:
    SEEN.clear()


def app(kind: type[GenEvent], *handlers: Any, protocol: Protocol | None = None) -> Application:
    listeners = [Listener("tcp://127.0.0.1:0", protocol, to="bus")] if protocol else []
    tree = Supervisor("one_for_one", [Worker("bus", kind, list(handlers))])
    return Application("pipeline", tree, listeners=listeners)


def test_A3_16_events_are_persisted_once_a_batch(start: Start) -> None:
    node = start(app(GenEvent, events.add_handler(Writer)))

    def burst() -> None:
        for number in range(500):
            node.cast("bus", events.notify(number))

    node.run_on_loop(burst)
    node.call("bus", events.which_handlers())
    assert [number for written in SEEN for number in written] == list(range(500))
    assert len(SEEN) <= 10


def test_A3_16_shards_by_the_parity_of_the_sequence(start: Start) -> None:
    shards = [events.add_handler((Odd, index), index, shard=(index, 2)) for index in (0, 1)]
    node = start(app(GenEvent, *shards))
    for number in range(1, 9):
        node.call("bus", events.sync_notify(number))
    even, odd = (node.call("bus", events.call((Odd, index), "all")) for index in (0, 1))
    assert (even, odd) == ([2, 4, 6, 8], [1, 3, 5, 7])


def test_A3_16_producers_send_batches(start: Start) -> None:
    node = start(app(GenEvent, events.add_handler(Writer)))
    gate = threading.Barrier(3)

    def produce(first: int) -> None:
        gate.wait()
        node.cast("bus", events.notify_many(range(first, first + 100)))

    threads = [threading.Thread(target=produce, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    node.call("bus", events.which_handlers())
    assert [len(written) for written in SEEN] == [100, 100, 100]
    assert all(written == sorted(written) for written in SEEN)


@pytest.mark.parametrize(
    ("protocol", "said", "answer"),
    [
        (Lines("utf-8"), b"late\n", b"error: server 'bus' has 2 requests waiting"),
        (Resp(), b"*1\r\n$4\r\nlate\r\n", b"-BUSY server 'bus' has 2 requests waiting"),
    ],
    ids=["lines", "resp"],
)
def test_A3_16_a_client_is_told_that_the_ring_is_full(
    start: Start, protocol: Protocol, said: bytes, answer: bytes
) -> None:
    node = start(app(Narrow, events.add_handler(Log), protocol=protocol))
    node.cast("bus", events.notify_many([1, 2]))
    with dial(node) as client:
        client.sendall(said)
        client.shutdown(1)
        assert receive_all(client).startswith(answer)
    assert (node.whereis("bus"), node.crashes()) == (1, [])


def test_A3_16_an_http_client_hears_429_when_the_ring_is_full(start: Start) -> None:
    node = start(app(Narrow, events.add_handler(Log), protocol=Http()))
    node.cast("bus", events.notify_many([1, 2]))
    url = node.urls[0].replace("tcp://", "http://")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, data=b"late", timeout=10)
    assert caught.value.code == 429
    assert node.call("bus", events.which_handlers()) == [events.key_of(Log)]


def test_A3_16_the_answer_waits_for_the_log_and_the_store(start: Start) -> None:
    handlers = [
        events.add_handler(Log),
        events.add_handler(Store),
        events.add_handler(Answer, after=[Log, Store]),
    ]
    node = start(app(GenEvent, *handlers))
    answered = node.send_request("bus", events.sync_notify("order"))
    node.cast("bus", events.done(Store, 1))
    node.call("bus", events.which_handlers())
    assert SEEN == [("Store", "order"), ("Log", "order")]
    assert not answered.done()
    node.cast("bus", events.done(Log, 1))
    assert answered.result(10) == "ok"
    assert SEEN[2:] == [("Answer", "order")]

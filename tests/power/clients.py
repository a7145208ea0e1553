"""Clients that write until the power goes, and remember what they were told.

A client sends its own numbered commands in order: SET of a key that nobody else uses, and every
eighth one INCR of a counter of its own. A value follows from its key, so whoever reads the store
knows what must stand there. What was sent, what was answered and when is all that the judge
(story.py) gets to see.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import redis

from tests.power.resp import TIMEOUT_S, Connection, Refused, command

INCR_EVERY = 8
VALUE_BYTES_MAX = 1200

FULL = "cannot grow: there is no room for its next segment"
"""What JournalFull says; the command has done nothing."""

UNKNOWN = "so whether this command survives is unknown"
"""What DurabilityLost says. Any other error in an answer is wrong."""


def key_of(name: bytes, number: int) -> bytes:
    """The key that a client's command of that number sets."""
    return b"%b:%d" % (name, number)


def value_of(key: bytes) -> bytes:
    """The one value that a key may have; most are short, some cross blocks."""
    digest = hashlib.md5(key).hexdigest().encode()
    count = int(digest[:4], 16) % VALUE_BYTES_MAX if digest[4:5] == b"0" else 32
    return (key + b"=" + digest * (count // 32 + 1))[: len(key) + 1 + count]


def is_incr(number: int) -> bool:
    """Whether the command of that number counts."""
    return number % INCR_EVERY == INCR_EVERY - 1


class Client(threading.Thread):
    """One connection that writes, `depth` commands in flight, until it ends or `stop` is set.

    Args:
        name: Nobody else's; begins its keys.
        port: The server's.
        depth: Commands in flight.
        stop: Ends it politely.
    """

    def __init__(self, name: bytes, port: int, depth: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.id = name
        self.depth = depth
        self.sent_at: list[float] = []  # before it was handed to the kernel
        self.acked_at: list[float] = []  # after its reply was read, in order
        self.refused: dict[int, str] = {}
        self.wrong: list[str] = []
        self.on_acked: Callable[[], None] | None = None
        self._incrs_refused = 0
        self._port = port
        self._ended = stop

    @property
    def counter(self) -> bytes:
        """The key of its counter."""
        return b"n:" + self.id

    @property
    def sent(self) -> int:
        """Commands that the server may have."""
        return len(self.sent_at)

    @property
    def acked(self) -> int:
        """Commands that were answered; the refused ones among them were answered with an error."""
        return len(self.acked_at)

    def run(self) -> None:
        """Write until the connection or the wish ends."""
        try:
            self._write()
        except (OSError, redis.ConnectionError, redis.TimeoutError):
            return  # the power went

    def _write(self) -> None:
        with Connection(self._port) as connection:
            flying: deque[int] = deque()
            while not self._ended.is_set():
                numbers = range(self.sent, self.sent + self.depth - len(flying))
                self.sent_at += [time.perf_counter()] * len(numbers)
                connection.send(b"".join(self.command(number) for number in numbers))
                flying.extend(numbers)
                for _ in range(max(1, self.depth // 2)):
                    self._answered(flying.popleft(), connection.reply())
            while flying:
                self._answered(flying.popleft(), connection.reply())

    def command(self, number: int) -> bytes:
        """The bytes of its command of that number."""
        if is_incr(number):
            return command(b"INCR", self.counter)
        key = key_of(self.id, number)
        return command(b"SET", key, value_of(key))

    def _answered(self, number: int, reply: Any) -> None:
        if isinstance(reply, Refused) and UNKNOWN in str(reply):
            raise ConnectionError(str(reply))  # no answer; the node stops
        if isinstance(reply, Refused) and FULL in str(reply):
            self.refused[number] = str(reply)
            self._incrs_refused += is_incr(number)
        elif not self._is_right(number, reply):
            self.wrong.append(f"command {number} was answered {reply!r}")
        self.acked_at.append(time.perf_counter())
        if self.on_acked is not None:
            self.on_acked()

    def _is_right(self, number: int, reply: Any) -> bool:
        if not is_incr(number):
            return reply in (b"OK", True)
        return bool(reply == number // INCR_EVERY + 1 - self._incrs_refused)


class RedisClient(Client):
    """The same through redis-py, which has its own mind about connections and replies."""

    def _write(self) -> None:
        with redis.Redis(port=self._port, socket_timeout=TIMEOUT_S, retry=None) as client:
            while not self._ended.is_set():
                with client.pipeline(transaction=False) as pipe:
                    numbers = range(self.sent, self.sent + self.depth)
                    for number in numbers:
                        key = key_of(self.id, number)
                        pipe.incr(self.counter) if is_incr(number) else pipe.set(key, value_of(key))
                    self.sent_at += [time.perf_counter()] * len(numbers)
                    replies = pipe.execute(raise_on_error=False)
                for number, reply in zip(numbers, replies, strict=True):
                    is_error = isinstance(reply, redis.ResponseError)
                    self._answered(number, Refused(str(reply)) if is_error else reply)


class Load:
    """Several clients of different kinds at once; started on entry, ended and joined on exit."""

    KINDS = ((Client, 1), (Client, 16), (RedisClient, 1), (Client, 64), (RedisClient, 8))

    def __init__(self, name: str, port: int, count: int = len(KINDS)) -> None:
        self._stop = threading.Event()
        self._name, self._port = name.encode(), port
        self.clients = [
            kind(b"%b.%d" % (name.encode(), index), port, depth, self._stop)
            for index, (kind, depth) in enumerate(self.KINDS[:count])
        ]

    def __enter__(self) -> Load:
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def join_in(self) -> None:
        """One more client."""
        name = b"%b.%d" % (self._name, len(self.clients))
        self.clients.append(Client(name, self._port, 1, self._stop))
        self.clients[-1].start()

    @property
    def taken(self) -> int:
        """Commands that were answered and not refused."""
        return sum(self.acked()) - sum(len(client.refused) for client in self.clients)

    def end(self) -> None:
        """Stop writing; returns when every reply is there or the server is gone."""
        self._stop.set()
        for client in self.clients:
            client.join(TIMEOUT_S)
            assert not client.is_alive(), f"client {client.id!r} hangs"

    def acked(self) -> list[int]:
        """What each has been told by now."""
        return [client.acked for client in self.clients]

    def wait_acked(self, count: int) -> None:
        """Return when so many commands were answered, or when nobody is left to answer."""
        while sum(self.acked()) < count and any(client.is_alive() for client in self.clients):
            time.sleep(0)

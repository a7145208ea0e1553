"""What a store must hold after the power came back: the judge of every suite here.

For each client: what it was told is there (I1); what is there was sent, with the right value, and
is a prefix of what was sent, refused commands left out (I2, I3). For all of them: a command that
was sent after another one was answered does not stand before it, and what an earlier recovery had
found stands there still, in the same order (I5). examples/kv.py answers `KEYS *` in the order in
which the keys were first set; that is what shows the order.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

from tests.power.clients import Client, Load, is_incr, key_of, value_of
from tests.power.resp import Connection, command

SAMPLE = 200
"""Old values that are looked at again in each round, besides all new ones."""

KEYS_MAX = 20_000
"""Beyond this the store is emptied, so that rounds stay short."""


class Lost(AssertionError):
    """A promise was broken."""


class Story:
    """What one folder is known to hold, from round to round.

    Args:
        seed: Chooses the sample of old values.
        may_refuse: The disk was full at times, so commands may have been refused.
    """

    def __init__(self, seed: int, *, may_refuse: bool = False) -> None:
        self.may_refuse = may_refuse
        self._random = random.Random(seed)
        self.base: list[bytes] = []
        self.counters: dict[bytes, bytes] = {}
        self.rounds = 0
        self.judged = 0

    def check(self, port: int, load: Load | None, must: list[int] | None = None) -> None:
        """Compare what a restarted server holds with what the clients were told.

        Args:
            port: The server's.
            load: The clients of the round that ended.
            must: How many answers of each must have survived; None = all of them.

        Raises:
            Lost: Something acknowledged is not there, or something is there that must not be.
        """
        clients = load.clients if load is not None else []
        must = must or [client.acked for client in clients]
        with Connection(port) as connection:
            keys = connection.ask(b"KEYS", b"*")
            self._check_base(keys)
            new = keys[len(self.base) :]
            values = self._values(connection, new)
            self._check_values(values)
            self._check_old_values(connection)
            rest = set(new)
            for client, count in zip(clients, must, strict=True):
                rest -= self._check_client(client, count, values)
            if rest:
                raise Lost(f"nobody sent {sorted(rest)[:5]}, {len(rest)} in all")
            self._check_order(new, clients)
            self.base = keys
            self.rounds += 1
            self.judged += sum(must)
            self._tidy(connection)

    def _check_base(self, keys: list[bytes]) -> None:
        for index, (old, now) in enumerate(itertools.zip_longest(self.base, keys)):
            if index == len(self.base):
                return
            if old != now:
                raise Lost(f"key {index} of the earlier recovery was {old!r} and is {now!r} now")

    @staticmethod
    def _values(connection: Connection, keys: list[bytes]) -> dict[bytes, Any]:
        replies = connection.ask_all([command(b"GET", key) for key in keys])
        return dict(zip(keys, replies, strict=True))

    def _check_values(self, values: dict[bytes, Any]) -> None:
        for key, value in values.items():
            if not key.startswith(b"n:") and value != value_of(key):
                raise Lost(f"{key!r} is {value!r}, which nobody set")

    def _check_old_values(self, connection: Connection) -> None:
        sample = self._random.sample(self.base, min(SAMPLE, len(self.base)))
        values = self._values(connection, sample)
        self._check_values(values)
        for key, value in values.items():
            if key.startswith(b"n:") and value != self.counters[key]:
                raise Lost(f"the counter {key!r} was {self.counters[key]!r} and is {value!r} now")

    def _check_client(self, client: Client, must: int, values: dict[bytes, Any]) -> set[bytes]:
        """A prefix of what was sent, at least as long as what was answered."""
        if client.wrong:
            raise Lost(f"{client.id!r}: {client.wrong[0]}")
        if client.refused and not self.may_refuse:
            raise Lost(f"{client.id!r}: refused although there was room: {client.refused}")
        counted = int(values.get(client.counter) or 0)
        due = 0
        found, end = {client.counter} & values.keys(), None
        for number in (n for n in range(client.sent) if n not in client.refused):
            due += is_incr(number)
            is_there = counted >= due if is_incr(number) else key_of(client.id, number) in values
            if is_there and end is not None:
                raise Lost(f"{client.id!r}: command {number} is there, but {end} is not")
            if not is_there:
                if number < must:
                    raise Lost(f"{client.id!r}: command {number} of {must} answered ones is lost")
                end = number if end is None else end
            elif not is_incr(number):
                found.add(key_of(client.id, number))
        if counted > due:
            raise Lost(f"{client.id!r}: {due} times INCR, but the counter is {counted}")
        for number in client.refused:
            if not is_incr(number) and key_of(client.id, number) in values:
                raise Lost(f"{client.id!r}: command {number} was refused, but it is there")
        if counted:
            self.counters[client.counter] = b"%d" % counted
        return found

    @staticmethod
    def _check_order(keys: list[bytes], clients: list[Client]) -> None:
        """Nothing that was answered before another was sent stands behind it."""
        sent, acked = {}, {}
        for client in clients:
            names = [key_of(client.id, number) for number in range(client.sent)]
            sent |= dict(zip(names, client.sent_at, strict=True))
            acked |= dict(zip(names, client.acked_at, strict=False))
        earliest, which = float("inf"), b""
        for key in reversed(keys):
            if earliest < sent.get(key, earliest):
                raise Lost(f"{which!r} was answered before {key!r} was sent, but stands behind it")
            if acked.get(key, earliest) < earliest:
                earliest, which = acked[key], key

    def _tidy(self, connection: Connection) -> None:
        if len(self.base) > KEYS_MAX:
            assert connection.ask(b"FLUSHALL") == b"OK"
            self.base, self.counters = [], {}

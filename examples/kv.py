"""A supervised key-value store that speaks Redis' protocol.

    pybehave run examples.kv:app          then: redis-cli set x 1

`kv1` answers on the network and keeps a journal: what it acknowledged survives a power cut.
`kv2` and `kv3` are there to show a nested supervisor.
"""

from __future__ import annotations

import re
from typing import Any

from pybehave import Application, GenServer, Listener, Supervisor, Tagged, Worker
from pybehave.protocols import OK, Error, Resp, Status

Store = dict[bytes, bytes]
INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")


class KeyValueStore(GenServer[Store, list[bytes], Any]):
    """Keys and values in a dictionary: the sequential semantics, nothing else."""

    ephemeral = Tagged(
        b"GET", b"EXISTS", b"DBSIZE", b"KEYS", b"SCAN", b"TYPE", b"STRLEN"
    )  # who only asks writes nothing to the disk

    def init(self, args: object) -> Store:
        """Start empty."""
        return {}

    def step(self, command: list[bytes], state: Store) -> tuple[Store, Any]:
        """One command; a wrong one is answered with an error, and is no crash."""
        match command:
            case [b"SET", key, value]:
                state[key] = value
                return state, OK
            case [b"GET", key]:
                return state, state.get(key)
            case [b"DEL", *keys]:
                before = len(state)
                for key in keys:
                    state.pop(key, None)
                return state, before - len(state)
            case [b"EXISTS", *keys]:
                return state, sum(map(state.__contains__, keys))
            case [b"INCR", key]:
                return add(state, key, b"1")
            case [b"INCRBY", key, amount]:
                return add(state, key, amount)
            case [b"DBSIZE"]:
                return state, len(state)
            case [b"KEYS", b"*"]:
                return state, list(state)
            case [b"SCAN", b"0"] | [b"SCAN", b"0", b"COUNT", _]:  # all of them at once
                return state, [b"0", list(state)]
            case [b"TYPE", key]:
                return state, Status("string" if key in state else "none")
            case [b"STRLEN", key]:
                return state, len(state.get(key, b""))
            case [b"FLUSHALL"]:
                return {}, OK
            case [b"MULTI" | b"EXEC" | b"DISCARD" | b"WATCH" as name, *_]:
                return state, Error(f"ERR no {name.decode()} here: every command is by itself")
            case [b"CRASH"]:  # a deliberate bug: kv1 restarts as it was before it
                return state, 1 // 0
            case [name, *_]:
                return state, Error(f"ERR unknown command or wrong arguments: {name!r}")
        return state, Error("ERR an empty command")


def add(state: Store, key: bytes, amount: bytes) -> tuple[Store, Any]:
    """Add to a number of 64 bits that is kept as text, as Redis does."""
    old = state.get(key, b"0")
    if not (INTEGER.fullmatch(old) and INTEGER.fullmatch(amount)):
        return state, Error("ERR value is not an integer or out of range")
    number = int(old) + int(amount)
    if not -(2**63) <= number < 2**63:
        return state, Error("ERR increment or decrement would overflow")
    state[key] = b"%d" % number
    return state, number


app = Application(
    "kv",
    Supervisor(
        "one_for_one",
        [
            Worker("kv1", KeyValueStore, journal=True),
            Supervisor(
                "rest_for_one", [Worker("kv2", KeyValueStore), Worker("kv3", KeyValueStore)]
            ),
        ],
        intensity=10,
        period=10,
    ),
    listeners=[Listener("tcp://127.0.0.1:6379", Resp(), to="kv1")],
)

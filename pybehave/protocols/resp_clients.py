"""RESP's CLIENT command: who this connection is, what it is called, who else is connected.

Theory. Connections belong to the core, which tells of them when asked (`About`). Only their names
are kept here, by the connection's id, for as many connections as NAMES_MAX.

Invariants
  (L1) What is not supported is answered with an error, never with a false OK.
  (L2) An answer is bounded: LISTED_MAX connections, however many there are.

Does not know: sockets, other listeners.
Source: Redis 7, CLIENT LIST and its relatives: their fields, as far as there is something to say.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NotRequired, TypedDict

from pybehave._uring.codec import AGREED_OFF, AGREED_SKIP, AGREED_VERSION
from pybehave.protocols.resp_values import OK, Error, Status, arity, shown

NAMES_MAX = 10_000
"""Connection names kept; the oldest go first, so that connections that come and go cost nothing."""

LISTED_MAX = 1000
"""Connections in one CLIENT LIST: each costs a system call, and the loop serves nobody meanwhile.
`CLIENT LIST ID ...` finds the others."""

HELP = (
    "CLIENT <subcommand>. Subcommands are:",
    "GETNAME | ID | INFO | LIST [TYPE normal] [ID <id> ...]",
    "SETNAME <name> | SETINFO <lib-name|lib-ver> <value>",
    "NO-EVICT <on|off> | NO-TOUCH <on|off> | REPLY <on|off|skip> | HELP",
)


class Client(TypedDict):
    """One connection, as the core sees it."""

    id: int
    addr: str
    fd: int
    age_s: int
    idle_s: int
    input_bytes: int
    output_bytes: int
    version: int


class About(TypedDict):
    """Facts about the node, and about the connection whose command is answered."""

    id: int
    commands: int
    connections: int
    accepted: int
    uptime_s: int
    clients: NotRequired[Callable[[frozenset[int] | None, int], list[Client]]]
    """(ids or None for all, how many at most) -> connections of this listener."""


class ClientCommands:
    """Answers CLIENT, for all connections of a listener."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[int, bytes] = {}

    def __call__(self, args: list[bytes], about: About) -> Any:
        """Answer `CLIENT args...`."""
        if not args:
            return arity(b"CLIENT")
        match args[0].upper(), args[1:]:
            case b"ID", []:
                return about["id"]
            case b"GETNAME", []:
                return self._names.get(about["id"])
            case b"SETNAME", [name]:
                return self.set_name(name, about)
            case b"INFO", []:
                return "".join(self._lines(about, frozenset((about["id"],))))
            case b"LIST", filters:
                return self._list(filters, about)
            case b"SETINFO", [_, _]:
                return OK
            case ((b"NO-EVICT" | b"NO-TOUCH"), [switch]):
                return OK if switch.upper() in (b"ON", b"OFF") else Error("ERR syntax error")
            case b"HELP", []:
                return [Status(line) for line in HELP]
        return Error(
            f"ERR unknown subcommand or wrong number of arguments for '{shown(args[0])}'. "
            "Try CLIENT HELP."
        )

    def set_name(self, name: bytes, about: About) -> Status | Error:
        """Call the connection so; an empty name takes the old one away."""
        if any(not 0x21 <= byte <= 0x7E for byte in name):
            return Error("ERR Client names cannot contain spaces, newlines or special characters.")
        self.forget(about)
        if name:
            self._names[about["id"]] = name
        if len(self._names) > NAMES_MAX:
            del self._names[next(iter(self._names))]
        return OK

    def forget(self, about: About) -> None:
        """Take the connection's name away."""
        self._names.pop(about["id"], None)

    def _list(self, filters: list[bytes], about: About) -> Any:
        wanted: frozenset[int] | None = None
        while filters:
            match filters[0].upper(), filters[1:]:
                case b"TYPE", [kind, *rest] if kind.lower() in TYPES:
                    wanted = wanted if kind.lower() == b"normal" else frozenset()
                    filters = rest
                case b"TYPE", [kind, *_]:
                    return Error(f"ERR Unknown client type '{shown(kind)}'")
                case b"ID", [*ids] if ids:
                    if not all(number.isdigit() and len(number) < 20 for number in ids):
                        return Error("ERR Invalid client ID")
                    chosen = frozenset(map(int, ids))
                    wanted = chosen if wanted is None else wanted & chosen
                    filters = []
                case _:
                    return Error("ERR syntax error")
        return "".join(self._lines(about, wanted))

    def _lines(self, about: About, wanted: frozenset[int] | None) -> list[str]:
        find = about.get("clients")
        found = find(wanted, LISTED_MAX) if find is not None else []  # (L2)
        return [_line(client, self._names.get(client["id"], b"").decode()) for client in found]


TYPES = (b"normal", b"master", b"slave", b"replica", b"pubsub")
"""What CLIENT LIST TYPE may be asked for; all of ours are normal."""


def _line(client: Client, name: str) -> str:
    return (
        f"id={client['id']} addr={client['addr'] or '?'} fd={client['fd']} name={name} "
        f"age={client['age_s']} idle={client['idle_s']} flags=N db=0 sub=0 psub=0 multi=-1 "
        f"qbuf={client['input_bytes']} qbuf-free=0 argv-mem=0 obl={client['output_bytes']} oll=0 "
        f"omem=0 tot-mem={client['input_bytes'] + client['output_bytes']} events=r cmd=NULL "
        f"user=default redir=-1 resp={client['version']}\n"
    )


def wanted_replies(args: list[bytes], agreed: int) -> tuple[Status | Error, int]:
    """Answer `CLIENT REPLY args...`: which replies this connection wants from now on.

    Args:
        agreed: What the connection has agreed on so far.

    Returns:
        The answer, and what is agreed on now: with OFF and SKIP, not to send even that.
    """
    match [word.upper() for word in args]:
        case [b"ON"]:
            return OK, agreed & AGREED_VERSION
        case [b"OFF"]:
            return OK, agreed | AGREED_OFF
        case [b"SKIP"]:
            return OK, agreed | AGREED_SKIP
        case [_]:
            return Error("ERR syntax error"), agreed
    return arity(b"client|reply"), agreed

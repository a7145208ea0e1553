"""Commands of RESP that concern the connection and not the server's state.

Client libraries send some of these before the first real command, and tools ask others; a server
should not have to know them. PING without an argument is answered in C, the rest here.

Theory. One object serves all connections of a listener. What a connection has agreed on, its
protocol's version and which replies it wants, is a number that the caller keeps and hands in; what
it is called, resp_clients.py keeps.
There is no password to be had: AUTH is answered as Redis answers it while none is set, where the
default user may say anything and nobody else is known.

Invariants
  (N1) An answer is (output, agreed, is_closing); None means that the command is the server's own.
  (N2) What is not supported is answered with an error, never with a false OK.
  (N3) With more than a version in `agreed` the output is not sent: its client wants no reply.

Does not know: sockets, how many listeners there are.
Source: Redis 7, the reply texts of the commands named.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from pybehave._uring.codec import AGREED_VERSION
from pybehave.protocols.resp_clients import About, ClientCommands, wanted_replies
from pybehave.protocols.resp_values import OK, Error, Status, arity, shown

REDIS_VERSION = "7.0.0"
"""What we claim to be: clients choose features by it, and none of a later version is here."""

CONFIG = {
    "appendonly": "no",
    "databases": "1",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "save": "",
    "timeout": "0",
}
"""What tools ask for: redis-benchmark reads save and appendonly, others look for a limit."""

Answer = tuple[Any, int, bool]
InfoSource = Callable[[str | None], "str | dict[str, object]"]


class NativeCommands:
    """Answers requests that need no server."""

    __slots__ = ("_clients",)

    def __init__(self) -> None:
        self._clients = ClientCommands()

    def __call__(
        self,
        request: list[bytes],
        about: About,
        agreed: int,
        info_source: InfoSource | None,
    ) -> Answer | None:
        """Answer a request, or return None when it is the server's (N1).

        Args:
            about: Facts about the connection and the node.
            agreed: The protocol's version, 2 or 3, and AGREED_ bits for replies.
        """
        name, args = request[0], request[1:]
        match name:
            case b"HELLO":
                output, version = self._hello(args, about, agreed & AGREED_VERSION)
                return output, agreed & ~AGREED_VERSION | version, False
            case b"QUIT":
                return OK, agreed, True
            case b"RESET" if not args:
                self._clients.forget(about)
                return Status("RESET"), 2, False
            case b"AUTH":
                return _auth(args), agreed, False
            case b"CLIENT" if args and args[0].upper() == b"REPLY":
                return *wanted_replies(args[1:], agreed), False
            case b"CLIENT":
                return self._clients(args, about), agreed, False
            case b"INFO":
                return info(args, about, info_source), agreed, False
            case b"CONFIG" if args and args[0].upper() != b"GET":
                return None
            case b"PING" | b"ECHO" | b"SELECT" | b"CONFIG" | b"COMMAND" | b"RESET":
                return _simple(name, args), agreed, False
        return None

    def _hello(self, args: list[bytes], about: About, version: int) -> tuple[Any, int]:
        if args:
            try:
                wanted = int(args[0])
            except ValueError:
                text = "ERR Protocol version is not an integer or out of range"
                return Error(text), version
            if wanted not in (2, 3):
                return Error("NOPROTO unsupported protocol version"), version
            refused = self._hello_options(args[1:], about)
            if refused is not None:
                return refused, version
            version = wanted
        reply = {
            "server": "redis",
            "version": REDIS_VERSION,
            "proto": version,
            "id": about["id"],
            "mode": "standalone",
            "role": "master",
            "modules": [],
        }
        return reply, version

    def _hello_options(self, options: list[bytes], about: About) -> Error | None:
        while options:
            option = options[0].upper()
            if option == b"SETNAME" and len(options) >= 2:
                answer = self._clients.set_name(options[1], about)
                options = options[2:]
            elif option == b"AUTH" and len(options) >= 3:
                answer = _auth(options[1:3])
                options = options[3:]
            else:
                return Error("ERR Syntax error in HELLO option '" + shown(options[0]) + "'")
            if isinstance(answer, Error):
                return answer
        return None


def info(args: list[bytes], about: About, source: InfoSource | None) -> Any:
    """Answer INFO: the program's own text when it has set one, else a few honest lines."""
    section = args[0].decode("utf-8", "replace").lower() if args else None
    if source is None:
        text: str | dict[str, object] = info_default(section, about)
    else:
        try:
            text = source(section)
        except Exception as error:  # noqa: BLE001 -- a fault in a report is an answer
            return Error(f"ERR INFO failed: {type(error).__name__}: {error}")
    if isinstance(text, dict):
        text = "".join(f"{field}:{value}\r\n" for field, value in text.items())
    return text


def info_default(section: str | None, about: About) -> str:
    """Return INFO's text, or the one section of it that was asked for."""
    sections: dict[str, dict[str, object]] = {
        "Server": {
            "redis_version": REDIS_VERSION,
            "redis_mode": "standalone",
            "server_name": "pybehave",
            "uptime_in_seconds": about["uptime_s"],
        },
        "Clients": {"connected_clients": about["connections"], "blocked_clients": 0},
        "Memory": {"used_memory": _resident_bytes()},
        "Stats": {
            "total_connections_received": about["accepted"],
            "total_commands_processed": about["commands"],
        },
        "Replication": {"role": "master", "connected_slaves": 0},
    }
    wanted = (None, "all", "everything", "default")
    parts = [
        f"# {title}\r\n" + "".join(f"{field}:{value}\r\n" for field, value in fields.items())
        for title, fields in sections.items()
        if section in wanted or section == title.lower()
    ]
    return "\r\n".join(parts)


def _resident_bytes() -> int:
    """What the process holds of memory now; 0 where nobody tells."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * mmap.PAGESIZE
    except (OSError, IndexError, ValueError):
        return 0


def _simple(name: bytes, args: list[bytes]) -> Any:
    """Commands whose answer depends on nothing but their arguments."""
    match name, args:
        case b"PING", []:
            return Status("PONG")
        case ((b"PING" | b"ECHO"), [message]):
            return message
        case b"SELECT", [index]:
            return _select(index)
        case b"CONFIG", [_, _, *_]:
            patterns = [shown(pattern).lower() for pattern in args[1:]]
            return {
                field: value
                for field, value in CONFIG.items()
                if any(fnmatchcase(field, pattern) for pattern in patterns)
            }
        case b"COMMAND", []:
            return []
        case b"COMMAND", [subcommand, *names]:
            return _command(subcommand.upper(), names)
    return arity(name)


def _auth(args: list[bytes]) -> Status | Error:
    """The default user needs no password, so any is right; but who sends only a password means one
    that should have been set.
    """
    match args:
        case [_]:
            return Error(
                "ERR AUTH <password> called without any password configured for the default user. "
                "Are you sure your configuration is correct?"
            )
        case [b"default", _]:
            return OK
        case [_, _]:
            return Error("WRONGPASS invalid username-password pair or user is disabled.")
    return arity(b"AUTH")


def _command(subcommand: bytes, names: list[bytes]) -> Any:
    """COMMAND describes commands to redis-cli; ours are the program's, so there is nothing."""
    match subcommand:
        case b"COUNT":
            return 0
        case b"DOCS":
            return {}
        case b"LIST":
            return []
        case b"INFO":
            return [None] * len(names)
    return Error(f"ERR unknown subcommand '{shown(subcommand)}'.")


def _select(index: bytes) -> Status | Error:
    if index == b"0":
        return OK
    if index.isdigit():
        return Error("ERR DB index is out of range")
    return Error("ERR value is not an integer or out of range")

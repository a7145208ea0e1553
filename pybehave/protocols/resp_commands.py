"""Commands of RESP that concern the connection and not the server's state.

Client libraries send some of these before the first real command, and tools ask others; a server
should not have to know them. PING without an argument is answered in C, the rest here.

Theory. One object serves all connections of a listener. What a connection has agreed on is its
protocol version, which the caller keeps and hands in; its name (CLIENT SETNAME) is kept here by the
connection's id, for as many connections as NAMES_MAX.

Invariants
  (N1) An answer is (output, version, is_closing); None means that the command is the server's own.
  (N2) What is not supported is answered with an error, never with a false OK.

Does not know: sockets, how many listeners there are.
Source: Redis 7, the reply texts of the commands named.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

from pybehave.protocols.resp_values import OK, Error, Status

REDIS_VERSION = "7.0.0"
"""What we claim to be: clients choose features by it, and none of a later version is here."""

NAMES_MAX = 10_000
"""Connection names kept; the oldest go first, so that connections that come and go cost nothing."""

CONFIG = {
    "appendonly": "no",
    "databases": "1",
    "maxmemory": "0",
    "maxmemory-policy": "noeviction",
    "save": "",
    "timeout": "0",
}
"""What tools ask for: redis-benchmark reads save and appendonly, others look for a limit."""

CLIENT_HELP = (
    "CLIENT <subcommand>. Subcommands are:",
    "GETNAME | ID | INFO | SETNAME <name> | SETINFO <lib-name|lib-ver> <value>",
    "NO-EVICT <on|off> | NO-TOUCH <on|off> | REPLY ON | HELP",
)

Answer = tuple[Any, int, bool]
InfoSource = Callable[[str | None], "str | dict[str, object]"]


class NativeCommands:
    """Answers requests that need no server."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[int, bytes] = {}

    def __call__(
        self,
        request: list[bytes],
        about: dict[str, int],
        version: int,
        info_source: InfoSource | None,
    ) -> Answer | None:
        """Answer a request, or return None when it is the server's (N1).

        Args:
            about: id of the connection, commands and connections and uptime_s of the node.
            version: 2 or 3, the protocol version of the connection.
        """
        name, args = request[0], request[1:]
        match name:
            case b"HELLO":
                return self._hello(args, about, version)
            case b"QUIT":
                return OK, version, True
            case b"RESET":
                self._names.pop(about["id"], None)
                return Status("RESET"), 2, False
            case b"CLIENT":
                return self._client(args, about), version, False
            case b"INFO":
                return info(args, about, info_source), version, False
            case b"CONFIG" if args and args[0].upper() != b"GET":
                return None
            case b"PING" | b"ECHO" | b"SELECT" | b"CONFIG" | b"COMMAND":
                return _simple(name, args), version, False
        return None

    def _hello(self, args: list[bytes], about: dict[str, int], version: int) -> Answer:
        if args:
            try:
                wanted = int(args[0])
            except ValueError:
                text = "ERR Protocol version is not an integer or out of range"
                return Error(text), version, False
            if wanted not in (2, 3):
                return Error("NOPROTO unsupported protocol version"), version, False
            refused = self._hello_options(args[1:], about)
            if refused is not None:
                return refused, version, False
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
        return reply, version, False

    def _hello_options(self, options: list[bytes], about: dict[str, int]) -> Error | None:
        while options:
            option = options[0].upper()
            if option == b"SETNAME" and len(options) >= 2:
                refused = self._set_name(options[1], about)
                if refused is not OK:
                    return Error(refused)
                options = options[2:]
            elif option == b"AUTH" and len(options) >= 3:
                return Error("WRONGPASS this server has no passwords; connect without one")
            else:
                return Error("ERR Syntax error in HELLO option '" + _shown(options[0]) + "'")
        return None

    def _set_name(self, name: bytes, about: dict[str, int]) -> Status | Error:
        if any(not 0x21 <= byte <= 0x7E for byte in name):
            return Error("ERR Client names cannot contain spaces, newlines or special characters.")
        self._names.pop(about["id"], None)
        if name:
            self._names[about["id"]] = name
        if len(self._names) > NAMES_MAX:
            del self._names[next(iter(self._names))]
        return OK

    def _client(self, args: list[bytes], about: dict[str, int]) -> Any:
        if not args:
            return _arity(b"CLIENT")
        match args[0].upper(), len(args) - 1:
            case b"ID", 0:
                return about["id"]
            case b"GETNAME", 0:
                return self._names.get(about["id"])
            case b"SETNAME", 1:
                return self._set_name(args[1], about)
            case b"INFO", 0:
                name = self._names.get(about["id"], b"").decode()
                return f"id={about['id']} name={name} db=0 sub=0 psub=0\n"
            case b"SETINFO", 2:
                return OK
            case ((b"NO-EVICT" | b"NO-TOUCH"), 1):
                return OK
            case b"REPLY", 1 if args[1].upper() == b"ON":
                return OK
            case b"HELP", 0:
                return [Status(line) for line in CLIENT_HELP]
        return Error(
            f"ERR unknown subcommand or wrong number of arguments for '{_shown(args[0])}'. "
            "Try CLIENT HELP."
        )


def info(args: list[bytes], about: dict[str, int], source: InfoSource | None) -> Any:
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


def info_default(section: str | None, about: dict[str, int]) -> str:
    """Return INFO's text, or the one section of it that was asked for."""
    sections: dict[str, dict[str, object]] = {
        "Server": {
            "redis_version": REDIS_VERSION,
            "redis_mode": "standalone",
            "server_name": "pybehave",
            "uptime_in_seconds": about["uptime_s"],
        },
        "Clients": {"connected_clients": about["connections"]},
        "Stats": {"total_commands_processed": about["commands"]},
        "Replication": {"role": "master", "connected_slaves": 0},
    }
    wanted = (None, "all", "everything", "default")
    parts = [
        f"# {title}\r\n" + "".join(f"{field}:{value}\r\n" for field, value in fields.items())
        for title, fields in sections.items()
        if section in wanted or section == title.lower()
    ]
    return "\r\n".join(parts)


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
            patterns = [_shown(pattern).lower() for pattern in args[1:]]
            return {
                field: value
                for field, value in CONFIG.items()
                if any(fnmatchcase(field, pattern) for pattern in patterns)
            }
        case b"COMMAND", []:
            return []
        case b"COMMAND", [subcommand, *names]:
            return _command(subcommand.upper(), names)
    return _arity(name)


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
    return Error(f"ERR unknown subcommand '{_shown(subcommand)}'.")


def _select(index: bytes) -> Status | Error:
    if index == b"0":
        return OK
    if index.isdigit():
        return Error("ERR DB index is out of range")
    return Error("ERR value is not an integer or out of range")


def _arity(name: bytes) -> Error:
    return Error(f"ERR wrong number of arguments for '{name.decode().lower()}' command")


def _shown(argument: bytes) -> str:
    """An argument within an error: bounded, and with nothing that a terminal would obey."""
    return argument[:64].decode("ascii", "backslashreplace")

"""Where inputs come from: a listening address, the protocol spoken there, the server behind it.

A `Listener` is plain data. Its URL is parsed once, at construction, into a typed address:

| URL                                    | address                              |
|----------------------------------------|--------------------------------------|
| `tcp://127.0.0.1:6379`, `tcp://[::1]:0`| `TcpAddress(host, port)`             |
| `tcp://:6379`, `tcp://*:6379`          | `TcpAddress("*", 6379)`, all of them |
| `unix:///run/x.sock`, `unix://@name`   | `UnixAddress(path)`                  |
| `fd://3`                               | `FdAddress(3)`, inherited            |
| `systemd://NAME`                       | `SystemdAddress("NAME")`, inherited  |

Does not know: sockets; whether the address can be had.
Source: sd_listen_fds(3) for names of inherited descriptors; unix(7) for "@" (abstract) and for
the length of a path.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, final

from pybehave.behaviours.contract import Contract, is_contract
from pybehave.behaviours.rules import TEXT, is_number, is_text
from pybehave.behaviours.speaks import Speaks
from pybehave.errors import SpecError, show
from pybehave.flow import MODES, ActiveMode, is_mode

ANY_HOST: Final = "*"
PORT_MAX: Final = 65_535
UNIX_PATH_BYTES_MAX: Final = 107
"""sun_path holds 108 bytes, one of them the final zero (unix(7))."""

FRAME_TIMEOUT_S: Final = 30.0
"""A message that began must be complete after this long, or a slow sender holds a buffer."""

LINGER_S: Final = 5.0
"""How long a closing connection may take to send what is left."""

HALF_CLOSED_S: Final = 60.0
"""A client that is gone cannot be told from one that waits; after a minute it is taken as gone."""

KEEPALIVE_S_MAX: Final = 32_767
"""The kernel takes no more (tcp(7), TCP_KEEPIDLE)."""

HIGH_WATER_BYTES: Final = 64 * 1024
LOW_WATER_BYTES: Final = 16 * 1024
OUTPUT_BYTES_MAX: Final = 8 * 1024 * 1024
"""A client that lets more than this pile up is disconnected."""


@final
@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An IPv4 or IPv6 address and port.

    Attributes:
        host: A literal address or a name; `"*"` is every address of the machine.
        port: 0 lets the system choose one.
    """

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"


@final
@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket.

    Attributes:
        path: In the file system; or, when it starts with "@", an abstract name.
    """

    path: str

    def __str__(self) -> str:
        return f"unix://{self.path}"


@final
@dataclass(frozen=True, slots=True)
class FdAddress:
    """A listening socket that was inherited by number.

    Attributes:
        fd: The file descriptor.
    """

    fd: int

    def __str__(self) -> str:
        return f"fd://{self.fd}"


@final
@dataclass(frozen=True, slots=True)
class SystemdAddress:
    """A listening socket that was inherited from systemd by name.

    Attributes:
        name: FileDescriptorName= of the socket unit.
    """

    name: str

    def __str__(self) -> str:
        return f"systemd://{self.name}"


Address: TypeAlias = TcpAddress | UnixAddress | FdAddress | SystemdAddress


@final
@dataclass(frozen=True, slots=True, init=False)
class Listener:
    """A listening address, and how its connections behave.

    Attributes:
        url: As it was written: `tcp://HOST:PORT`, `unix://PATH`, `fd://NUMBER`, `systemd://NAME`.
        protocol: How bytes become commands and outputs become bytes.
        to: The name of the worker that gets the commands.
        name: For reports; the URL unless given.
        backlog: Connections the kernel may keep waiting.
        connections_max: More than this are told so and closed; None is no limit but the
            system's.
        idle_timeout: Seconds without a byte before a connection is closed; None never.
        frame_timeout: Seconds a message may take from its first byte to its last; None for ever.
        linger: Seconds a closing connection has to send what is left, from its last progress.
        half_closed_timeout: Seconds that a client which has ended its side waits for replies that
            were put off; None for ever.
        nodelay: Send small replies at once.
        reuse_port: Let several processes listen on the same port.
        keepalive: Idle seconds before the kernel probes the peer; None is off.
        events: Whether the server gets `Opened` and `Closed`; a new incarnation gets `Opened` for
            those that stand and that its state cannot know.
        active: How many messages a connection hands on before its server asks for more with the
            action `Active`: True all, "once" or a number so many, False none (needs `events`).
        high_water_bytes: With this much unsent, reading from the client stops ...
        low_water_bytes: ... until it has fallen to this.
        output_bytes_max: With this much unsent, the client is disconnected.
        speaks: Which version of its messages the server speaks, and which are understood
            (behaviours/speaks.py); None: version 1.
        contract: What may be said on a connection, and when (behaviours/contract.py); None:
            anything at any time, and nothing is looked at.
        address: What the URL says, typed.

    Raises:
        SpecError: Names the field, its value and what is allowed.
    """

    url: str
    protocol: Any
    to: str
    name: str
    backlog: int
    connections_max: int | None
    idle_timeout: float | None
    frame_timeout: float | None
    linger: float
    half_closed_timeout: float | None
    nodelay: bool
    reuse_port: bool
    keepalive: int | None
    events: bool
    active: ActiveMode
    high_water_bytes: int
    low_water_bytes: int
    output_bytes_max: int
    speaks: Speaks | None
    contract: Contract[Any] | None
    address: Address

    def __init__(
        self,
        url: str,
        protocol: Any,
        to: str,
        *,
        name: str | None = None,
        backlog: int = 1024,
        connections_max: int | None = None,
        idle_timeout: float | None = None,
        frame_timeout: float | None = FRAME_TIMEOUT_S,
        linger: float = LINGER_S,
        half_closed_timeout: float | None = HALF_CLOSED_S,
        nodelay: bool = True,
        reuse_port: bool = False,
        keepalive: int | None = None,
        events: bool = False,
        active: ActiveMode = True,
        high_water_bytes: int = HIGH_WATER_BYTES,
        low_water_bytes: int = LOW_WATER_BYTES,
        output_bytes_max: int = OUTPUT_BYTES_MAX,
        speaks: Speaks | None = None,
        contract: Contract[Any] | None = None,
    ) -> None:
        address = parse_url(url)
        fields: dict[str, Any] = {
            "url": url,
            "protocol": protocol,
            "to": to,
            "name": url if name is None else name,
            "backlog": backlog,
            "connections_max": connections_max,
            "idle_timeout": idle_timeout,
            "frame_timeout": frame_timeout,
            "linger": linger,
            "half_closed_timeout": half_closed_timeout,
            "nodelay": nodelay,
            "reuse_port": reuse_port,
            "keepalive": keepalive,
            "events": events,
            "active": active,
            "high_water_bytes": high_water_bytes,
            "low_water_bytes": low_water_bytes,
            "output_bytes_max": output_bytes_max,
            "speaks": speaks,
            "contract": contract,
        }
        _check_fields(f"Listener {url!r}", fields)
        for field, value in (*fields.items(), ("address", address)):
            object.__setattr__(self, field, value)


def parse_url(url: str) -> Address:
    """Parse a listening or connecting address.

    Args:
        url: `tcp://HOST:PORT`, `unix://PATH`, `fd://NUMBER` or `systemd://NAME`.

    Raises:
        SpecError: Shows the URL and a right one.
    """
    scheme, separator, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    parse = _PARSERS.get(scheme)
    if not separator or parse is None:
        raise _refuse(url, "has no known scheme", "tcp://127.0.0.1:6379 or unix:///run/x.sock")
    return parse(url, rest)


def _parse_tcp(url: str, rest: str) -> TcpAddress:
    host, separator, port = rest.rpartition(":")
    if host.startswith("[") != host.endswith("]") or (":" in host and not host.startswith("[")):
        raise _refuse(url, "has an unclear IPv6 address", "tcp://[::1]:6379")
    if not separator or not _is_decimal(port) or int(port) > PORT_MAX:
        raise _refuse(url, f"has no port from 0 to {PORT_MAX}", "tcp://127.0.0.1:6379")
    if any(character in host for character in "/@?# \0"):
        raise _refuse(url, "has more than a host and a port", "tcp://127.0.0.1:6379")
    host = host.removeprefix("[").removesuffix("]")
    return TcpAddress(host or ANY_HOST, int(port))


def _parse_unix(url: str, rest: str) -> UnixAddress:
    if len(rest) < 2 or rest[0] not in "/@" or "\0" in rest:
        raise _refuse(url, "has no absolute path", "unix:///run/x.sock or unix://@name")
    if any("\ud800" <= character <= "\udfff" for character in rest):
        raise _refuse(url, "has a path that is not UTF-8", "unix:///run/x.sock")
    if len(rest.encode()) > UNIX_PATH_BYTES_MAX:
        raise _refuse(url, f"has a path over {UNIX_PATH_BYTES_MAX} bytes", "a shorter path")
    return UnixAddress(rest)


def _parse_fd(url: str, rest: str) -> FdAddress:
    if not _is_decimal(rest):
        raise _refuse(url, "has no descriptor number", "fd://3")
    return FdAddress(int(rest))


def _is_decimal(digits: str) -> bool:
    """Not a number that is longer than any port or descriptor: it would be no int, either."""
    return digits.isascii() and digits.isdigit() and len(digits) < 10


def _parse_systemd(url: str, rest: str) -> SystemdAddress:
    if not rest or "/" in rest or ":" in rest:
        raise _refuse(url, "has no socket name", "systemd://NAME, as FileDescriptorName=NAME")
    return SystemdAddress(rest)


_PARSERS: Final[dict[str, Callable[[str, str], Address]]] = {
    "tcp": _parse_tcp,
    "unix": _parse_unix,
    "fd": _parse_fd,
    "systemd": _parse_systemd,
}


def _refuse(url: object, why: str, example: str) -> SpecError:
    return SpecError("Listener", f"url={show(url)} {why}; use {example}")


# --- the other fields --------------------------------------------------------


def _is_int(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_seconds(value: Any) -> bool:
    return is_number(value) and value >= 0


def _is_limit(value: Any) -> bool:
    return value is None or (_is_seconds(value) and value > 0)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_protocol(value: Any) -> bool:
    return not isinstance(value, type) and callable(getattr(value, "codec", None))


_FIELD_RULES: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "protocol": (_is_protocol, "a protocol, for example Resp()"),
    "to": (is_text, "the name of a worker"),
    "name": (is_text, TEXT),
    "backlog": (lambda value: _is_int(value, 1), "an integer >= 1"),
    "connections_max": (
        lambda value: value is None or _is_int(value, 1),
        "an integer >= 1 or None",
    ),
    "idle_timeout": (_is_limit, "seconds > 0 or None"),
    "frame_timeout": (_is_limit, "seconds > 0 or None"),
    "linger": (_is_seconds, "seconds >= 0"),
    "half_closed_timeout": (_is_limit, "seconds > 0 or None"),
    "nodelay": (_is_bool, "True or False"),
    "reuse_port": (_is_bool, "True or False"),
    "keepalive": (
        lambda value: value is None or (_is_int(value, 1) and value <= KEEPALIVE_S_MAX),
        f"whole seconds from 1 to {KEEPALIVE_S_MAX}, or None",
    ),
    "events": (_is_bool, "True or False"),
    "active": (is_mode, MODES),
    "high_water_bytes": (lambda value: _is_int(value, 1), "an integer >= 1"),
    "low_water_bytes": (lambda value: _is_int(value, 0), "an integer >= 0"),
    "output_bytes_max": (lambda value: _is_int(value, 1), "an integer >= 1"),
    "contract": (
        lambda value: value is None or is_contract(value),
        "an object of a class derived from Contract, with initial, received, and a version from 1",
    ),
    "speaks": (lambda value: value is None or isinstance(value, Speaks), "a Speaks, or None"),
}


def _check_fields(path: str, fields: dict[str, Any]) -> None:
    protocol = fields["protocol"]
    if isinstance(protocol, type) and hasattr(protocol, "codec"):
        name = protocol.__name__
        raise SpecError(path, f"protocol={name} is a class; write {name}(), an object of it")
    for field, (accepts, allowed) in _FIELD_RULES.items():
        if not accepts(fields[field]):
            raise SpecError(path, f"{field}={show(fields[field])} is not allowed; use {allowed}")
    if fields["active"] is False and not fields["events"]:
        raise SpecError(
            path,
            "active=False is not allowed without events=True: no server would "
            "ever hear of a connection whose messages it could ask for",
        )
    low, high = fields["low_water_bytes"], fields["high_water_bytes"]
    if low >= high:
        raise SpecError(
            path, f"low_water_bytes={low} is not allowed; use less than high_water_bytes={high}"
        )
    if fields["output_bytes_max"] < high:
        raise SpecError(
            path,
            f"output_bytes_max={fields['output_bytes_max']} is not allowed; "
            f"use at least high_water_bytes={high}",
        )

"""Addresses as the kernel takes them: from what a URL says to the bytes of a `sockaddr`.

The core takes a socket address as bytes, so that one verb serves every family and the simulator.
"""

from __future__ import annotations

import socket
import struct
from typing import Final

from pybehave.errors import SpecError, show
from pybehave.listener import ANY_HOST, Address, TcpAddress, UnixAddress

UNKNOWN: Final = (socket.EAI_NONAME, socket.EAI_NODATA)
"""What a resolver answers that was asked: there is no such host."""


def pack(address: Address) -> bytes:
    """Return the `sockaddr` of a TCP or Unix address; a host name is looked up (may block).

    Raises:
        SpecError: The host name is unknown or cannot be looked up, or the address is an inherited
            socket.
    """
    if isinstance(address, UnixAddress):
        return _pack_unix(address.path)
    if not isinstance(address, TcpAddress):
        raise SpecError(str(address), "an inherited socket has no address to connect to")
    if address.host == ANY_HOST:
        return _pack_v6("::", address.port) if _has_v6() else _pack_v4("0.0.0.0", address.port)
    family = _family_of(address.host)
    if family is None:
        return _pack_name(address)
    pack_literal = _pack_v6 if family == socket.AF_INET6 else _pack_v4
    return pack_literal(address.host, address.port)


def is_literal(address: Address) -> bool:
    """Say whether `pack` needs no name service and so cannot block."""
    if not isinstance(address, TcpAddress):
        return True
    return address.host == ANY_HOST or _family_of(address.host) is not None


def bound_url(url: str, fd: int) -> str:
    """Return the URL with the port the system chose, for a listener that asked for port 0."""
    if not url.startswith("tcp://") or fd < 0:
        return url
    try:
        with socket.socket(fileno=socket.dup(fd)) as copy:
            name = copy.getsockname()
    except OSError:
        return url  # the simulator's descriptors are not the kernel's
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"tcp://{host}:{name[1]}"


def _family_of(host: str) -> socket.AddressFamily | None:
    """The family of a literal address; None for a name, and what only a resolver understands."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):  # the latter: it holds what no address can
            continue
        return family
    return None


def _pack_name(address: TcpAddress) -> bytes:
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # the latter: no name can have that form
        raise SpecError(str(address), _why_not_found(address.host, error)) from error
    family, _, _, _, name = found[0]
    if family == socket.AF_INET6:
        return _pack_v6(str(name[0]), address.port, int(name[-1]) if len(name) == 4 else 0)
    return _pack_v4(str(name[0]), address.port)


def _why_not_found(host: str, error: OSError | UnicodeError) -> str:
    """An unknown name is one thing; a resolver that could not ask (no descriptors) is another."""
    why = (isinstance(error, OSError) and error.strerror) or error
    if isinstance(error, UnicodeError) or error.errno in UNKNOWN:
        return f"the host {show(host)} is unknown ({why}); use an address"
    return f"the host {show(host)} cannot be looked up ({why}); mend that, or use an address"


def _pack_v4(host: str, port: int) -> bytes:
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H4s8x", port, socket.inet_aton(host))


def _pack_v6(host: str, port: int, scope: int = 0) -> bytes:
    packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    head = struct.pack("=H", socket.AF_INET6) + struct.pack("!HI16s", port, 0, packed)
    return head + struct.pack("=I", scope)


def _pack_unix(path: str) -> bytes:
    name = path.encode()
    # An abstract name begins with a zero byte and its length ends it; a path ends with a zero.
    name = b"\0" + name[1:] if path.startswith("@") else name + b"\0"
    return struct.pack("=H", socket.AF_UNIX) + name


def _has_v6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::", 0))
    except OSError:
        return False
    return True

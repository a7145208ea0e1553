"""The client's side of a protocol, for trials whose clients come over connections.

A `Wire` packs requests into bytes and takes replies out of what has arrived. Replies come in the
order of requests, as all of the package's protocols have it.

Does not know: connections (connections.py), which listener speaks what.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

from pybehave.protocols.resp_values import Error, Status


@final
class _More:
    """The type of `MORE`, of which there is exactly one."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MORE"


MORE: Final = _More()
"""What `take` returns when there is no whole reply yet."""


@final
@dataclass(frozen=True, slots=True)
class Wire:
    """How a client speaks.

    Attributes:
        pack: Makes a request's bytes.
        take: Takes a reply off the beginning of a bytearray, or returns `MORE`.
        is_error: Says of a reply that it tells of a failure around the server, which is no output
            of its own: then nobody knows what became of the request.
    """

    pack: Callable[[Any], bytes]
    take: Callable[[bytearray], Any]
    is_error: Callable[[Any], bool]


# --- lines ----------------------------------------------------------------------------------------


def _take_line(received: bytearray, end: bytes = b"\n") -> Any:
    line, found, rest = received.partition(end)
    if not found:
        return MORE
    received[:] = rest
    return bytes(line)


LINES: Final = Wire(
    lambda request: bytes(request) + b"\n", _take_line, lambda reply: reply.startswith(b"error:")
)
"""Of `Lines()`: requests and replies are bytes."""


# --- RESP -----------------------------------------------------------------------------------------


def _pack_resp(request: list[bytes]) -> bytes:
    words = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in request)
    return b"*%d\r\n%s" % (len(request), words)


def _take_resp(received: bytearray) -> Any:
    rest = bytearray(received)
    reply = _parsed(rest)
    if reply is not MORE:
        received[:] = rest
    return reply


def _parsed(rest: bytearray) -> Any:
    """Take a reply; what is left when it is not whole does not matter."""
    head = _take_line(rest, b"\r\n")
    if head is MORE:
        return MORE
    kind, text = head[:1], head[1:]
    if kind == b"+":
        return Status(text.decode())
    if kind == b"-":
        return Error(text.decode())
    if kind == b":":
        return int(text)
    count = int(text)
    if count < 0:
        return None
    if kind == b"$":
        if len(rest) < count + 2:
            return MORE
        value = bytes(rest[:count])
        del rest[: count + 2]
        return value
    if kind != b"*":
        raise ValueError(f"{bytes(head)!r} is no reply of RESP2")
    items = []
    for _ in range(count):
        items.append(_parsed(rest))
        if items[-1] is MORE:
            return MORE
    return items


FAILURES: Final = (
    "CRASHED ",
    "BUSY ",
    "NOPROC ",
    "TIMEOUT ",
    "STOPPED ",
    "ERR The journal ",
    "ERR The input ",
)
"""How what is answered in a server's place begins; an `Error` of its own begins in another way."""

RESP: Final = Wire(
    _pack_resp,
    _take_resp,
    lambda reply: isinstance(reply, Error) and reply.startswith(FAILURES),
)
"""Of `Resp()`: requests are lists of bytes; replies are what RESP2 has."""

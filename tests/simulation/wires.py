"""The client's side of the protocols that the storms speak: commands out, answers in.

An answer is bytes; an error is whatever begins neither with `ok` nor with `failed`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from pybehave.protocols import Http, LengthPrefixed, Lines, Resp

Received = bytearray


class Wire(NamedTuple):
    """One protocol: the server's, and how a client packs a command and takes an answer."""

    protocol: Any
    pack: Callable[[bytes], bytes]
    take: Callable[[Received], bytes | None]


def pack_line(message: bytes) -> bytes:
    return message + b"\n"


def take_line(received: Received, end: bytes = b"\n") -> bytes | None:
    line, found, rest = received.partition(end)
    if not found:
        return None
    received[:] = rest
    return bytes(line)


def pack_counted(message: bytes) -> bytes:
    return struct.pack(">I", len(message)) + message


def take_counted(received: Received) -> bytes | None:
    if len(received) < 4:
        return None
    return take_bytes(received, 4, struct.unpack_from(">I", received)[0], 0)


def take_bytes(received: Received, head: int, size: int, tail: int) -> bytes | None:
    if len(received) < head + size + tail:
        return None
    message = bytes(received[head : head + size])
    del received[: head + size + tail]
    return message


def pack_resp(message: bytes) -> bytes:
    words = message.split()
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def take_resp(received: Received) -> bytes | None:
    head, found, _ = received.partition(b"\r\n")
    if not found:
        return None
    if head[:1] == b"$":
        return take_bytes(received, len(head) + 2, int(head[1:]), 2)
    return take_line(received, b"\r\n")


def pack_http(message: bytes) -> bytes:
    head = b"POST / HTTP/1.1\r\nHost: h\r\n"
    if len(message) % 2:
        return head + b"Content-Length: %d\r\n\r\n%s" % (len(message), message)
    chunks = (message[at : at + 7] for at in range(0, len(message), 7))
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"


def take_http(received: Received) -> bytes | None:
    head, found, _ = bytes(received).partition(b"\r\n\r\n")
    if not found:
        return None
    size = int(head.partition(b"Content-Length: ")[2].split(b"\r\n")[0])
    return take_bytes(received, len(head) + 4, size, 0)


LINES = Wire(Lines(), pack_line, take_line)
COUNTED = Wire(LengthPrefixed(), pack_counted, take_counted)
RESP = Wire(Resp(), pack_resp, take_resp)
HTTP = Wire(Http(body="bytes", timeout=5), pack_http, take_http)
WIRES = [LINES, COUNTED, RESP]

"""Nothing is kept of a message that has been handled."""

import gc
import sys

import pytest

from pybehave.errors import DecodeError, EncodeError
from pybehave.protocols import OK, Fixed, Http, LengthPrefixed, Lines, Protocol, Resp

ROUNDS = 20_000
BLOCKS_ALLOWED = 200
"""What the interpreter itself may allocate meanwhile: 1 per 100 messages would be a leak."""


def blocks_gained(action):
    """Objects left behind by many rounds, after some to warm up."""
    for _ in range(200):
        action()
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(ROUNDS):
        action()
    gc.collect()
    return sys.getallocatedblocks() - before


def refused(codec, output):
    with pytest.raises(EncodeError):
        codec.encode_bytes(output)


REQUESTS = {
    "bulks": b"*3\r\n$3\r\nset\r\n$300\r\n" + b"k" * 300 + b"\r\n$2\r\nvv\r\n",
    "unknown": b"*2\r\n$7\r\nunknown\r\n$2\r\nvv\r\n",
    "inline": b"set 'a b' ccc\r\n",
    "nested": b"*2\r\n$1\r\na\r\n*2\r\n:1234567\r\n+status\r\n",
    "undecodable": b"*1\r\n:1_0\r\n",
    "native": b"*1\r\n$7\r\nCOMMAND\r\n",
}


HTTP_REQUESTS = {
    "counted": b"POST /s HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
    "chunked": b"POST /s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "last": b"POST /s HTTP/1.0\r\n\r\n",
    "refused": b"POST /s HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("name", HTTP_REQUESTS)
def test_requests_of_http_leave_nothing_not_even_cycles(name):
    codec = Http().codec()

    def action():
        (exchange,) = codec.feed(HTTP_REQUESTS[name])
        exchange.encode_error(exchange.failure or DecodeError("x"))

    gc.disable()
    try:
        assert blocks_gained(action) < BLOCKS_ALLOWED
    finally:
        gc.enable()


@pytest.mark.parametrize("name", REQUESTS)
def test_requests_leave_nothing(name):
    codec = Resp().codec()

    def action():
        codec.feed(REQUESTS[name])
        codec.take_output()

    assert blocks_gained(action) < BLOCKS_ALLOWED


@pytest.mark.parametrize(
    "output", [OK, b"x" * 300, "text", 2**70, 1.5, [1, {"a": {2}}], bytearray(b"x"), None]
)
def test_outputs_leave_nothing(output):
    codec = Resp().codec()
    assert blocks_gained(lambda: codec.encode_bytes(output, 3)) < BLOCKS_ALLOWED


@pytest.mark.parametrize(
    ("protocol", "output"),
    [(Resp(), [b"x", object()]), (Lines(), "a\nb"), (Fixed(2), b"x"), (LengthPrefixed(), 5)],
)
def test_refused_outputs_leave_nothing(protocol, output):
    codec = protocol.codec()
    assert blocks_gained(lambda: refused(codec, output)) < BLOCKS_ALLOWED


def test_failures_leave_nothing():
    codec, error = Lines().codec(), DecodeError("x")
    assert blocks_gained(lambda: codec.encode_error_bytes(error)) < BLOCKS_ALLOWED


def test_codecs_leave_nothing():
    class Plain(Protocol):
        framing = Lines()

    assert blocks_gained(lambda: Plain().codec().feed(b"one\ntw")) < BLOCKS_ALLOWED

"""Every codec under streams that nobody meant, in the Python build and in bounded time.

The framings alone are fuzzed in C (src/_uring/tests/fuzz_frame.c); this goes through decode, native
answers and encode as well. Promises: the messages do not depend on how the stream was cut, faults
are DecodeErrors, and the codec survives. A failure names its seed; PYBEHAVE_FUZZ_SEED=N runs that
one, PYBEHAVE_FUZZ_ROUNDS=N runs more.
"""

import os
import random

import pytest

from pybehave.errors import DecodeError, EncodeError
from pybehave.protocols import (
    OK,
    Error,
    Fixed,
    LengthPrefixed,
    Lines,
    Protocol,
    Resp,
    RespClient,
    Status,
)
from tests.effort import rounds

ROUNDS = rounds("PYBEHAVE_FUZZ_ROUNDS")
FIRST_SEED = int(os.environ.get("PYBEHAVE_FUZZ_SEED", "1"))
STREAM_BYTES_MAX = 600


class Halves(Protocol):
    """A framing in Python: a digit says how many bytes follow it."""

    def split(self, buffer):
        size = int(buffer[:1]) + 1
        return size if len(buffer) >= size else -size

    def decode(self, message):
        return message[1:].decode()


PROTOCOLS = {
    "resp": Resp(frame_bytes_max=400),
    "resp as sent": Resp(native=False, uppercase=False),
    "replies": RespClient(frame_bytes_max=400),
    "lines": Lines("utf-8", frame_bytes_max=50),
    "lines with a long end": Lines(end=b"aab", frame_bytes_max=50),
    "length": LengthPrefixed(2, "little", frame_bytes_max=300),
    "fixed": Fixed(7),
    "python": Halves(),
}

TOKENS = [
    b"\r\n", b"\n", b"\0", b"\0\0", b"\5\0", b"aab", b"*1\r\n", b"*2\r\n", b"*-1\r\n", b"*0\r\n",
    b"$0\r\n\r\n", b"$3\r\nGET\r\n", b"$4\r\nping\r\n", b"$-1\r\n", b"$5\r\nHELLO\r\n",
    b"$1\r\n3\r\n",
    b":1\r\n", b":1_0\r\n", b"+OK\r\n", b"-ERR\r\n", b"_\r\n", b"#t\r\n", b",1.5\r\n", b"(99\r\n",
    b"%1\r\n", b"~1\r\n", b">1\r\n", b"=7\r\ntxt:abc\r\n", b"!2\r\nno\r\n", b"PING\r\n", b"INFO",
    b"CLIENT ID\r\n", b"'a b' ", b'"\\x41"', b"QUIT\r\n", b"\xff", b"\xc3\xa9", b"3abc", b"0", b"9",
]  # fmt: skip


def stream_of(dice):
    """Mostly sense, some of it broken."""
    parts = []
    for _ in range(dice.randrange(60)):
        parts.append(dice.choice(TOKENS) if dice.random() < 0.95 else dice.randbytes(3))
    return b"".join(parts)[:STREAM_BYTES_MAX]


def shown(messages):
    """Errors are equal when they say the same."""
    return [m.detail if isinstance(m, DecodeError) else (type(m), repr(m)) for m in messages]


def outcome(protocol, stream, dice, size_max):
    """Messages, native answers, and whether the stream ended with an error."""
    codec = protocol.codec()
    messages = []
    while stream and not codec.is_broken:
        size = dice.randint(1, size_max)
        messages += codec.feed(stream[:size])
        stream = stream[size:]
    return shown(messages), codec.take_output(), codec.is_broken


@pytest.mark.parametrize("name", PROTOCOLS)
def test_messages_do_not_depend_on_the_cuts(name):
    for seed in range(FIRST_SEED, FIRST_SEED + ROUNDS):
        dice = random.Random(seed)
        stream = stream_of(dice)
        whole = outcome(PROTOCOLS[name], stream, dice, 1 << 20)
        for size_max in (1, 9):
            got = outcome(PROTOCOLS[name], stream, dice, size_max)
            assert got == whole, f"seed {seed}, pieces up to {size_max}: {stream!r}"


def output_of(dice, depth=0):
    """Anything a step might return, and some things it should not."""
    leaves = [
        None, True, OK, Status("a b"), Error("ERR x"), b"", b"ab\n", "text", "\ud800", -5, 2**80,
        1.5, float("nan"), bytearray(b"x"), memoryview(b"abcd")[::2], object(), range(3), ...,
    ]  # fmt: skip
    if depth > 3 or dice.random() < 0.5:
        return dice.choice(leaves)
    items = [output_of(dice, depth + 1) for _ in range(dice.randrange(4))]
    if dice.random() < 0.3:
        return dict(enumerate(items))
    return items if dice.random() < 0.7 else tuple(items)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_C1_outputs_are_sent_whole_or_refused(name):
    codec = PROTOCOLS[name].codec()
    for seed in range(FIRST_SEED, FIRST_SEED + ROUNDS):
        output = output_of(random.Random(seed))
        for version in (0, 3):
            try:
                first = codec.encode_bytes(output, version)
            except EncodeError:
                continue
            assert codec.encode_bytes(output, version) == first, f"seed {seed}"


def test_every_resp_output_is_one_value_to_a_client():
    server, client = Resp().codec(), RespClient().codec()
    for seed in range(FIRST_SEED, FIRST_SEED + ROUNDS):
        for version in (2, 3):
            try:
                stream = server.encode_bytes(output_of(random.Random(seed)), version)
            except EncodeError:
                continue
            assert len(client.feed(stream)) == 1, f"seed {seed}"

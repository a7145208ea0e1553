"""Protocols that a user writes: hooks over a native framing, and framings of their own."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybehave.errors import Crashed, DecodeError, EncodeError, FrameTooLong, SpecError
from pybehave.protocols import Fixed, LengthPrefixed, Lines, Protocol, Resp


class JsonLines(Protocol):
    """The example of protocol.py."""

    framing = Lines(frame_bytes_max=65536)

    def decode(self, message):
        return json.loads(message)

    def encode(self, output):
        return json.dumps(output)

    def encode_error(self, error):
        return json.dumps({"error": type(error).__name__})


class Netstrings(Protocol):
    """`5:hello,` (D. J. Bernstein, 1997): a framing that is not native."""

    frame_bytes_max = 100

    def split(self, buffer):
        head, colon, _ = buffer.partition(b":")
        if not head.isdigit() and (head or colon):
            raise ValueError("a netstring begins with its length")
        if not colon:
            return 0
        size = len(head) + 1 + int(head) + 1
        return size if len(buffer) >= size else -size

    def decode(self, message):
        if not message.endswith(b","):
            raise DecodeError("a netstring ends with a comma")
        return message.partition(b":")[2][:-1]

    def encode(self, output):
        return b"%d:%s," % (len(output), output)


class Splitting(Protocol):
    """Says whatever it is told to."""

    def __init__(self, answer):
        self.answer = answer

    def split(self, buffer):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def protocol(**hooks):
    return type("Hooked", (Protocol,), {"framing": Lines(), **hooks})()


def test_decode_and_encode_run_over_a_native_framing():
    codec = JsonLines().codec()
    assert codec.feed(b'{"a": [1, null]}\n5\n') == [{"a": [1, None]}, 5]
    assert codec.encode_bytes({"a": None}) == b'{"a": null}\n'


def test_a_protocol_without_hooks_is_its_framing():
    codec = protocol(framing=LengthPrefixed(1)).codec()
    assert codec.feed(b"\3abc") == [b"abc"]
    assert codec.encode_bytes(b"abc") == b"\3abc"


def test_any_exception_in_decode_is_an_error_between_its_neighbours():
    before, error, after = JsonLines().codec().feed(b"1\n{\n2\n")
    assert (before, after) == (1, 2)
    assert isinstance(error, DecodeError)
    assert error.detail.startswith("JSONDecodeError: ")
    assert isinstance(error.__cause__, json.JSONDecodeError)


def test_a_decode_error_keeps_its_words():
    def decode(self, message):
        raise DecodeError("not today")

    (error,) = protocol(decode=decode).codec().feed(b"1\n")
    assert error.detail == "not today"


def test_recursion_in_decode_is_undecodable():
    (error,) = JsonLines().codec().feed(b"[" * 60_000 + b"\n")
    assert error.detail.startswith("RecursionError: ")


def test_interrupts_pass_through():
    def decode(self, message):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        protocol(decode=decode).codec().feed(b"1\n")


def test_none_from_decode_is_no_message():
    codec = protocol(decode=lambda self, line: None if line.startswith(b"#") else line).codec()
    assert codec.feed(b"a\n# note\nb\n") == [b"a", b"b"]


@pytest.mark.parametrize("output", [object(), {1: object()}])
def test_any_exception_in_encode_is_an_encode_error(output):
    with pytest.raises(EncodeError, match="TypeError") as caught:
        JsonLines().codec().encode_bytes(output)
    assert isinstance(caught.value.__cause__, TypeError)


def test_what_encode_returns_must_suit_the_framing():
    with pytest.raises(EncodeError, match="every message of this protocol has 4"):
        protocol(framing=Fixed(4)).codec().encode_bytes(b"abc")


def test_failures_may_have_a_form_of_their_own():
    crashed = Crashed("kv1", "c0ffee", 1)
    assert JsonLines().codec().encode_error_bytes(crashed) == b'{"error": "Crashed"}\n'
    native = b"error: server 'kv1' crashed (crash id c0ffee)\n"
    assert protocol().codec().encode_error_bytes(crashed) == native


@pytest.mark.parametrize("answer", [b"two\nlines", 1.5, [b"first", object()]])
def test_a_failure_that_cannot_be_encoded_is_told_natively(answer):
    codec = protocol(encode_error=lambda self, error: answer).codec()
    assert codec.encode_error_bytes(DecodeError("x")) == b"error: Protocol error: x\n"


def test_a_failure_in_encode_error_is_told_natively():
    codec = protocol(encode_error=lambda self, error: 1 / 0).codec()
    assert codec.encode_error_bytes(DecodeError("x")) == b"error: Protocol error: x\n"


def test_resp_may_be_the_framing(request_bytes):
    codec = protocol(framing=Resp(), decode=lambda self, request: tuple(request)).codec()
    assert codec.feed(request_bytes(b"get", b"a") + b"PING\r\n\r\n") == [(b"GET", b"a")]
    assert codec.take_output() == b"+PONG\r\n"
    assert codec.encode_bytes([1]) == b"*1\r\n:1\r\n"


@pytest.mark.parametrize("piece", [1, 2, 1000])
def test_a_framing_in_python(feed_in_pieces, piece):
    codec = Netstrings().codec()
    assert feed_in_pieces(codec, b"5:hello,0:,2:::,", [piece]) == [b"hello", b"", b"::"]
    assert codec.encode_bytes(b"hello") == b"5:hello,"


def test_a_need_that_split_told_is_respected(feed_in_pieces):
    calls = []

    class Counting(Netstrings):
        def split(self, buffer):
            calls.append(len(buffer))
            return super().split(buffer)

    codec = Counting().codec()
    stream = b"50:" + b"x" * 50 + b","
    assert feed_in_pieces(codec, stream, [1]) == [b"x" * 50]
    assert calls == [1, 2, 3, 54]


@pytest.mark.parametrize(("size", "is_allowed"), [(95, True), (96, True), (97, False)])
def test_a_framing_in_python_has_a_limit_too(feed_in_pieces, size, is_allowed):
    stream = b"%d:" % size + b"x" * size + b","  # 4 bytes more
    for piece in (1, 1000):
        (message,) = feed_in_pieces(Netstrings().codec(), stream, [piece])
        assert message == b"x" * size if is_allowed else isinstance(message, FrameTooLong)


@pytest.mark.parametrize("answer", [5, "1", None, 1 << 80, ValueError("x"), DecodeError("x")])
def test_a_split_that_fails_ends_the_stream(answer):
    codec = Splitting(answer).codec()
    (error,) = codec.feed(b"abc")
    assert isinstance(error, DecodeError)
    assert codec.is_broken


def test_a_protocol_without_framing_and_split_is_refused():
    with pytest.raises(SpecError, match="Bare: framing=None is not allowed; use a native framing"):
        type("Bare", (Protocol,), {})().codec()
    with pytest.raises(SpecError, match="framing='lines' is not allowed"):
        protocol(framing="lines").codec()
    with pytest.raises(SpecError, match="frame_bytes_max=0"):
        type("Small", (Netstrings,), {"frame_bytes_max": 0})().codec()


@given(bodies=st.lists(st.binary(max_size=80)), sizes=st.lists(st.integers(1, 30)))
def test_any_messages_in_any_pieces_come_back(feed_in_pieces, bodies, sizes):
    codec = Netstrings().codec()
    stream = b"".join(codec.encode_bytes(body) for body in bodies)
    assert feed_in_pieces(codec, stream, sizes) == bodies


def test_many_small_messages_are_split_in_linear_time():
    offered = []

    class Counting(Netstrings):
        def split(self, buffer):
            offered.append(len(buffer))
            return super().split(buffer)

    stream = b"5:hello," * 5000
    assert Counting().codec().feed(stream) == [b"hello"] * 5000
    assert sum(offered) < 100 * len(stream)


def test_a_long_message_behind_short_ones_is_found(feed_in_pieces):
    class Long(Netstrings):
        frame_bytes_max = 50_000

    long = b"x" * 40_000
    stream = b"1:a," * 3 + b"40000:" + long + b"," + b"1:b,"
    for piece in (7, 4096, 100_000):
        found = feed_in_pieces(Long().codec(), stream, [piece])
        assert found == [b"a"] * 3 + [long, b"b"]

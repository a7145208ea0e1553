"""Replies of RESP: every output, in both versions, read back by us and by redis-py."""

import math
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis._parsers import Encoder, _RESP2Parser, _RESP3Parser
from redis._parsers.socket import SocketBuffer
from redis.exceptions import ResponseError

from pybehave.errors import (
    Crashed,
    DecodeError,
    EncodeError,
    FrameTooLong,
    NoProc,
    Overloaded,
    StartFailed,
    Stopped,
    Timeout,
)
from pybehave.protocols import NIL, OK, Error, Push, Resp, RespClient, Status

CASES = [
    (OK, b"+OK\r\n", None),
    (Status("QUEUED"), b"+QUEUED\r\n", None),
    (Error("ERR no"), b"-ERR no\r\n", None),
    (Error("ERR a\r\nb"), b"-ERR a  b\r\n", None),
    (b"ab", b"$2\r\nab\r\n", None),
    (b"", b"$0\r\n\r\n", None),
    (b"x" * 100, b"$100\r\n" + b"x" * 100 + b"\r\n", None),
    ("grün", b"$5\r\ngr\xc3\xbcn\r\n", None),
    (bytearray(b"ab"), b"$2\r\nab\r\n", None),
    (memoryview(b"ab"), b"$2\r\nab\r\n", None),
    (None, b"$-1\r\n", b"_\r\n"),
    (True, b":1\r\n", b"#t\r\n"),
    (False, b":0\r\n", b"#f\r\n"),
    (0, b":0\r\n", None),
    (-7, b":-7\r\n", None),
    (2**63 - 1, b":9223372036854775807\r\n", None),
    (-(2**63), b":-9223372036854775808\r\n", None),
    (2**63, b"$19\r\n9223372036854775808\r\n", b"(9223372036854775808\r\n"),
    (1.5, b"$3\r\n1.5\r\n", b",1.5\r\n"),
    (math.inf, b"$3\r\ninf\r\n", b",inf\r\n"),
    ([], b"*0\r\n", None),
    ([1, [None]], b"*2\r\n:1\r\n*1\r\n$-1\r\n", b"*2\r\n:1\r\n*1\r\n_\r\n"),
    ((1,), b"*1\r\n:1\r\n", None),
    ({"a": 1}, b"*2\r\n$1\r\na\r\n:1\r\n", b"%1\r\n$1\r\na\r\n:1\r\n"),
    ({1}, b"*1\r\n:1\r\n", b"~1\r\n:1\r\n"),
    (frozenset(), b"*0\r\n", b"~0\r\n"),
    (Push([b"message", 1]), b"*2\r\n$7\r\nmessage\r\n:1\r\n", b">2\r\n$7\r\nmessage\r\n:1\r\n"),
]  # fmt: skip

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.binary(max_size=40)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.binary(max_size=9), st.integers()), inner, max_size=4),
    ),
    max_leaves=12,
)


def as_resp2(value):
    """What is left of a value when it travels in RESP2."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return str(value).encode()
    if isinstance(value, float):
        return repr(value).encode()
    if isinstance(value, dict):
        return [as_resp2(item) for pair in value.items() for item in pair]
    return [as_resp2(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
def redis_py():
    """redis-py's own parser behind a socket: bytes in, its idea of the value out."""
    ours, theirs = socket.socketpair()
    parsers = {2: _RESP2Parser(65536), 3: _RESP3Parser(65536)}
    for parser in parsers.values():
        parser._buffer = SocketBuffer(theirs, 65536, 5)
        parser.encoder = Encoder("utf-8", "strict", False)

    def read(data, version):
        ours.sendall(data)
        return parsers[version].read_response(disable_decoding=True)

    yield read
    ours.close()
    theirs.close()


@pytest.mark.parametrize(("output", "resp2", "resp3"), CASES)
def test_output(output, resp2, resp3):
    codec = Resp().codec()
    assert codec.encode_bytes(output) == resp2
    assert codec.encode_bytes(output, 2) == resp2
    assert codec.encode_bytes(output, 3) == (resp3 or resp2)


@pytest.mark.parametrize(
    "output", [object(), 1j, [object()], {"a": object()}, Status("a\r\nb"), "\ud800", range(3)]
)
def test_output_without_a_form_is_an_encode_error(output):
    codec = Resp().codec()
    with pytest.raises(EncodeError):
        codec.encode_bytes([b"before", output])
    assert codec.encode_bytes(OK) == b"+OK\r\n"  # (C1)


@pytest.mark.parametrize(("depth", "is_allowed"), [(31, True), (32, True), (33, False)])
def test_nesting_up_to_the_limit(depth, is_allowed):
    output = 1
    for _ in range(depth):
        output = [output]
    if is_allowed:
        assert Resp().codec().encode_bytes(output) == b"*1\r\n" * depth + b":1\r\n"
    else:
        with pytest.raises(EncodeError, match="nested deeper than 32 levels, or in a cycle"):
            Resp().codec().encode_bytes(output)


def test_a_cycle_is_an_encode_error():
    output = []
    output.append(output)
    with pytest.raises(EncodeError):
        Resp().codec().encode_bytes(output)


def test_an_integer_with_too_many_digits_is_an_encode_error():
    with pytest.raises(EncodeError):
        Resp().codec().encode_bytes(10**5000)


def test_a_push_is_not_taken_for_a_reply():
    (pushed, reply) = RespClient().codec().feed(b">2\r\n+message\r\n:1\r\n*1\r\n:1\r\n")
    assert pushed == Push(["message", 1])
    assert type(pushed) is Push
    assert type(reply) is list
    assert repr(pushed) == "Push([Status('message'), 1])"


def test_statuses_are_strings_to_python():
    assert OK == "OK"
    assert {OK: 1}["OK"] == 1
    assert (repr(OK), repr(Error("ERR"))) == ("Status('OK')", "Error('ERR')")


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (DecodeError("invalid bulk length"), b"-ERR Protocol error: invalid bulk length\r\n"),
        (FrameTooLong(9), b"-ERR Protocol error: message longer than 9 bytes\r\n"),
        (Crashed("kv1", "c0ffee", 1), b"-CRASHED server 'kv1' crashed (crash id c0ffee)\r\n"),
        (NoProc("kv9"), b"-NOPROC no server is called 'kv9'\r\n"),
        (Timeout("kv1", 0.5), b"-TIMEOUT server 'kv1' did not answer within 0.5 s\r\n"),
        (Stopped("kv1", "normal"), b"-STOPPED server 'kv1' stopped before it answered\r\n"),
        (StartFailed("kv/a\r\nb", "no"), b"-ERR "),
        (RuntimeError("not for the client"), b"-ERR RuntimeError\r\n"),
        (DecodeError("\ud800"), b"-ERR Protocol error: \\ud800\r\n"),
    ],
)
def test_failures(error, answer):
    sent = Resp().codec().encode_error_bytes(error)
    assert sent.startswith(answer)
    assert sent.count(b"\r\n") == 1  # (C4)


def test_overload_is_busy():
    answer = Resp().codec().encode_error_bytes(Overloaded("kv1", 1024))
    assert answer.startswith(b"-BUSY server 'kv1' has 1024 requests waiting")


def test_a_long_failure_is_cut():
    answer = Resp().codec().encode_error_bytes(DecodeError("x" * 10_000))
    assert len(answer) == 512 + 3


@pytest.mark.parametrize("null", [b"_\r\n", b"$-1\r\n", b"*-1\r\n"])
def test_a_null_reply_is_a_message_too(null):
    (message,) = RespClient().codec().feed(null)
    assert message is NIL
    assert not message
    assert repr(message) == "NIL"


@given(value=VALUES)
def test_any_value_comes_back_from_our_own_client(value):
    server, client = Resp().codec(), RespClient().codec()
    assert client.feed(server.encode_bytes([value], 3)) == [[value]]
    assert client.feed(server.encode_bytes([value], 2)) == [[as_resp2(value)]]


@given(values=st.lists(VALUES, max_size=5), sizes=st.lists(st.integers(1, 20)))
def test_any_replies_in_any_pieces_come_back(feed_in_pieces, values, sizes):
    codec = Resp().codec()
    stream = b"".join(codec.encode_bytes(value, 3) for value in values)
    messages = feed_in_pieces(RespClient().codec(), stream, sizes)
    assert messages == [NIL if value is None else value for value in values]


@pytest.mark.parametrize(
    "value", [None, True, 7, -(2**63), 1.5, b"", b"a\r\nb", [], [1, [None, b"x"]], {b"a": [1]}]
)
def test_redis_py_reads_the_same(redis_py, value):
    codec = Resp().codec()
    assert redis_py(codec.encode_bytes(value, 2), 2) == as_resp2(value)
    assert redis_py(codec.encode_bytes(value, 3), 3) == value


@given(values=st.lists(VALUES, min_size=1, max_size=20))
def test_redis_py_reads_any_value(values):
    ours, theirs = socket.socketpair()
    parser = _RESP3Parser(65536)
    parser._buffer = SocketBuffer(theirs, 65536, 5)
    parser.encoder = Encoder("utf-8", "strict", False)
    codec = Resp().codec()
    with ours, theirs:
        for value in values:
            ours.sendall(codec.encode_bytes(value, 3))
            assert parser.read_response(disable_decoding=True) == value


def test_redis_py_reads_errors_as_errors(redis_py):
    for answer in (
        Resp().codec().encode_bytes(Error("ERR no such key")),
        Resp().codec().encode_error_bytes(Crashed("kv1", "c0ffee", 1)),
    ):
        assert isinstance(redis_py(answer, 2), ResponseError)

"""Requests of RESP: what the step is given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pybehave.errors import DecodeError, FrameTooLong, SpecError
from pybehave.protocols import Error, Resp, RespClient, Status


def details(messages):
    return [message.detail for message in messages if isinstance(message, DecodeError)]


def nested(depth):
    """An array of arrays, `depth` of them below the request itself."""
    return b"*1\r\n" * (depth + 1) + b":1\r\n"


def test_a_request_is_a_list_of_bytes(request_bytes):
    stream = request_bytes(b"SET", b"key", b"\r\n\0") + request_bytes(b"GET", b"key")
    assert Resp().codec().feed(stream) == [[b"SET", b"key", b"\r\n\0"], [b"GET", b"key"]]


def test_known_names_are_one_object(request_bytes):
    first, second = Resp().codec().feed(request_bytes(b"SET", b"a") + request_bytes(b"set", b"b"))
    assert first[0] is second[0]


NAMES = ["g", "Ab", "get", "gEt", "xAdd", "Hello", "zrange", "geoDist", "hincrbyfloat",
         "zrevrangebyscoree", "a-name-much-longer-than-any-command", "Zß[`{@"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_only_the_name_is_put_in_upper_case(request_bytes, name):
    name = name.encode()
    stream = request_bytes(name, b"value")
    assert Resp(native=False).codec().feed(stream) == [[name.upper(), b"value"]]
    assert Resp(native=False, uppercase=False).codec().feed(stream) == [[name, b"value"]]


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b"set a b\r\n", [b"SET", b"a", b"b"]),
        (b"  set\ta  \n", [b"SET", b"a"]),
        (b"set \"a b\" 'c\\'d'\r\n", [b"SET", b"a b", b"c'd"]),
        (b'set "\\x00\\n" ""\r\n', [b"SET", b"\0\n", b""]),
    ],
)
def test_inline_requests_are_the_same_to_the_step(line, request_):
    assert Resp().codec().feed(line) == [request_]


@pytest.mark.parametrize("nothing", [b"\r\n", b"\n", b"*0\r\n", b"*-1\r\n", b"   \r\n"])
def test_empty_requests_are_ignored(request_bytes, nothing):
    stream = nothing + request_bytes(b"GET", b"a") + nothing
    assert Resp().codec().feed(stream) == [[b"GET", b"a"]]


def test_other_types_within_a_request():
    stream = (
        b"*12\r\n$1\r\na\r\n:-5\r\n+ok\r\n-ERR no\r\n#t\r\n_\r\n,1.5\r\n(1234567890123456789012\r\n"
        b"=7\r\ntxt:abc\r\n*2\r\n:1\r\n*0\r\n%1\r\n+k\r\n:1\r\n~1\r\n$1\r\nx\r\n"
    )
    (message,) = Resp(nested=True).codec().feed(stream)
    assert message == [
        b"A", -5, "ok", "ERR no", True, None, 1.5, 1234567890123456789012,
        b"abc", [1, []], {"k": 1}, {b"x"},
    ]  # fmt: skip
    assert type(message[2]) is Status
    assert type(message[3]) is Error


@pytest.mark.parametrize(
    "value",
    [b":1_0", b":", b": 1", b":1.5", b",1_0", b",", b",a", b"#x", b"_x", b"(x", b"(" + b"9" * 5000],
)
def test_a_value_that_says_nothing_is_undecodable_and_the_next_request_is_not(value, request_bytes):
    stream = b"*2\r\n$1\r\na\r\n" + value + b"\r\n" + request_bytes(b"GET", b"a")
    error, message = Resp().codec().feed(stream)
    assert isinstance(error, DecodeError)
    assert message == [b"GET", b"a"]


@pytest.mark.parametrize("value", [b"=2\r\nab\r\n", b"~1\r\n*0\r\n", b"%1\r\n*0\r\n:1\r\n"])
def test_aggregates_that_python_cannot_hold_are_undecodable(value):
    assert len(details(Resp().codec().feed(b"*1\r\n" + value))) == 1


@pytest.mark.parametrize(("depth", "is_allowed"), [(31, True), (32, True), (33, False)])
def test_nesting_up_to_the_limit(depth, is_allowed):
    messages = Resp(nested=True).codec().feed(nested(depth))
    assert (details(messages) == []) is is_allowed


@pytest.mark.parametrize("argument", [b"*1\r\n$1\r\na\r\n", b":1\r\n", b"+a\r\n", b"_\r\n"])
def test_arguments_are_bulk_strings_unless_nested_is_asked_for(argument):
    stream = b"*2\r\n$3\r\nGET\r\n" + argument
    (error,) = Resp().codec().feed(stream)
    assert "expected '$'" in str(error)
    (message,) = Resp(nested=True).codec().feed(stream)
    assert message[0] == b"GET"


@pytest.mark.parametrize(
    ("stream", "detail"),
    [
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$99999999999\r\n", "invalid bulk length"),
        (b"*1\r\nx", "expected '$', got 'x'"),
        (b"*1\r\n\xff", "expected '$', got '\\xff'"),
        (b'GET "a\r\n', "unbalanced quotes in request"),
        (b"a" * 65536, "too big inline request"),
        (b"*" + b"1" * 21, "too big mbulk count string"),
        (b"*1\r\n$" + b"1" * 21, "too big bulk count string"),
    ],
)
@pytest.mark.parametrize("piece", [1, 1 << 20])
def test_faults_have_redis_words(feed_in_pieces, stream, detail, piece):
    if piece == 1 and len(stream) > 1000:
        piece = 999
    assert details(feed_in_pieces(Resp().codec(), stream, [piece])) == [detail]


@pytest.mark.parametrize(("size", "is_allowed"), [(81, True), (82, True), (83, False)])
def test_a_request_up_to_the_limit(request_bytes, size, is_allowed):
    stream = request_bytes(b"a", b"x" * size)  # 18 bytes more than the value
    (message,) = Resp(frame_bytes_max=100).codec().feed(stream)
    assert message == [b"A", b"x" * size] if is_allowed else isinstance(message, FrameTooLong)


def test_big_values_arrive_whole(request_bytes, feed_in_pieces):
    value = bytes(range(256)) * 20_000
    stream = request_bytes(b"SET", b"a", value)
    assert feed_in_pieces(Resp().codec(), stream, [65536]) == [[b"SET", b"a", value]]


def test_fields_are_validated():
    with pytest.raises(SpecError, match="Resp: uppercase='yes' is not allowed; use True or False"):
        Resp(uppercase="yes")
    with pytest.raises(SpecError, match="RespClient: frame_bytes_max=0"):
        RespClient(frame_bytes_max=0)


REQUESTS = st.lists(st.lists(st.binary(max_size=50), min_size=1, max_size=6), max_size=8)


@given(requests=REQUESTS, sizes=st.lists(st.integers(1, 40)))
def test_any_requests_in_any_pieces_come_back(request_bytes, feed_in_pieces, requests, sizes):
    codec = Resp(native=False, uppercase=False).codec()
    stream = b"\r\n".join(request_bytes(*request) for request in requests)
    assert feed_in_pieces(codec, stream, sizes) == requests


@given(
    requests=st.lists(
        st.lists(st.one_of(st.binary(), st.text(), st.integers(), st.floats()), min_size=1)
    )
)
def test_what_our_client_sends_our_server_reads(requests):
    client, server = RespClient().codec(), Resp(native=False, uppercase=False).codec()
    stream = b"".join(client.encode_bytes(request) for request in requests)
    assert server.feed(stream) == [
        [arg if isinstance(arg, bytes) else str(arg).encode() for arg in request]
        for request in requests
    ]

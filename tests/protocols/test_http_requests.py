"""Requests of HTTP as bytes: what is found in them, and what is refused."""

import pytest

from pybehave.errors import NoProc, SpecError
from pybehave.protocols import Http, HttpReply, JsonBody
from pybehave.protocols.http_reader import HEADERS_MAX

POST = b"POST /kv HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"


def head(*lines, start="POST /kv HTTP/1.1", host="Host: h"):
    return "\r\n".join([start, *([host] if host else []), *lines, "", ""]).encode()


def exchanges(*stream, **options):
    codec = Http(**options).codec()
    return [found for piece in stream for found in codec.feed(piece)]


def refusal(*stream, **options):
    """Status of the only exchange, which is a refusal."""
    (found,) = exchanges(*stream, **options)
    return found.failure.status


def said(exchange):
    return exchange.encode_error(exchange.failure).partition(b"\r\n")[0]


def test_the_path_names_the_server_and_the_body_is_the_input():
    (found,) = exchanges(POST)
    assert (found.to, found.input, found.is_last) == ("kv", "hello", False)


def test_the_root_is_the_listeners_own_server():
    assert exchanges(POST.replace(b"/kv", b"/"))[0].to is None


@pytest.mark.parametrize(
    ("target", "name"),
    [
        (b"/session%201", "session 1"),
        (b"/caf%C3%A9", "café"),
        (b"/kv?a=b", "kv"),
        (b"http://h/kv", "kv"),
        (b"http://h:80/kv?a", "kv"),
        (b"/a/b", "a/b"),
    ],
)
def test_targets_are_decoded(target, name):
    assert exchanges(POST.replace(b"/kv", target))[0].to == name


@pytest.mark.parametrize("target", [b"/%ff", b"/kv?%ff", b"kv", b"*"])
def test_targets_that_are_none_are_undecodable(target):
    assert said(exchanges(POST.replace(b"/kv", target))[0]) == b"HTTP/1.1 400 Bad Request"


def test_pipelined_requests_are_found_in_order():
    stream = POST.replace(b"/kv", b"/a") + POST.replace(b"/kv", b"/b") + POST
    assert [found.to for found in exchanges(stream)] == ["a", "b", "kv"]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_requests_do_not_depend_on_how_they_were_cut(size):
    chunked = head("Transfer-Encoding: chunked") + b"3\r\nabc\r\n2;x=y\r\n\r\n\r\n0\r\nT: u\r\n\r\n"
    stream = POST + chunked + POST
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [found.input for found in exchanges(*pieces)] == ["hello", "abc\r\n", "hello"]


def test_a_trailer_is_no_header_of_the_next_request():
    seen = []
    chunked = head("Transfer-Encoding: chunked") + b"0\r\nEvil: 1\r\n\r\n"
    exchanges(chunked + POST, route=lambda request: seen.append(request.headers))
    assert seen == [
        {"host": "h", "transfer-encoding": "chunked"},
        {"host": "h", "content-length": "5"},
    ]


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        # What may be read in two ways is how requests are smuggled (RFC 9112, section 11.2).
        (head("Content-Length: 3", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
        (head("Transfer-Encoding: chunked", "Content-Length: 3") + b"0\r\n\r\n", 400),
        (head("Content-Length: 3", "Content-Length: 3"), 400),
        (head("Content-Length: 3, 3"), 400),
        (head("Content-Length: +3"), 400),
        (head("Content-Length: 0x3"), 400),
        (head("Content-Length : 3"), 400),
        (head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400),
        (head("Transfer-Encoding: xchunked"), 400),
        (head("Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", 501),
        (head("Transfer-Encoding: chunked", start="POST /kv HTTP/1.0") + b"0\r\n\r\n", 400),
        (head("Transfer-Encoding: chunked") + b"3\nabc", 400),
        (head("Transfer-Encoding: chunked") + b"-3\r\n", 400),
        (head("Transfer-Encoding: chunked") + b"ffffffffffffffffff\r\n", 400),
        (head("X: a\r\n b"), 400),
        (head("X: a\nY: b"), 400),
        (head("X: a\0b"), 400),
        (head("Connection: Upgrade", "Upgrade: h2c", "Content-Length: 5") + b"hello", 400),
        (head(host=None), 400),
        (head("Host: other"), 400),
        (head(start="POST /kv HTTP/2.0"), 505),
        (head(start="POST /kv", host=None), 505),
        (head("Expect: a pony", "Content-Length: 5"), 417),
        (head("Content-Encoding: gzip", "Content-Length: 5"), 415),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),  # TLS
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"SET x 1\r\n", 400),
    ],
)
def test_what_cannot_be_read_in_one_way_is_refused_and_is_the_last(stream, status):
    codec = Http().codec()
    found, *_ = codec.feed(stream)
    assert (found.failure.status, found.is_last) == (status, True)
    assert b"\r\nConnection: close\r\n" in found.encode_error(found.failure)


@pytest.mark.parametrize(("size", "is_allowed"), [(99, True), (100, True), (101, False)])
def test_a_body_is_as_long_as_it_may_be(size, is_allowed):
    body = b"x" * size
    counted = head(f"Content-Length: {size}") + body
    chunked = head("Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)
    for stream in (counted, chunked):
        found, *_ = exchanges(stream, body_bytes_max=100)
        assert (found.failure is None) is is_allowed
        assert is_allowed or found.failure.status == 413


def test_a_body_too_large_is_refused_before_it_comes():
    assert refusal(head("Content-Length: 101"), body_bytes_max=100) == 413


def test_chunks_may_not_be_smaller_than_their_heads_for_long():
    chunks = b"1;some=extension\r\nx\r\n" * 100
    stream = head("Transfer-Encoding: chunked"), chunks
    assert refusal(*stream, body_bytes_max=200, head_bytes_max=200) == 413


@pytest.mark.parametrize(("more", "is_allowed"), [(-1, True), (0, True), (1, False)])
@pytest.mark.parametrize("is_cut", [False, True])
def test_a_head_is_as_long_as_it_may_be(more, is_allowed, is_cut):
    stream = head("X: " + "x" * 200)
    cut = [bytes([byte]) for byte in stream] if is_cut else [stream]
    found = exchanges(*cut, head_bytes_max=len(stream) - more)
    assert (found[0].failure is None) is is_allowed
    assert is_allowed or found[0].failure.status == 431


@pytest.mark.parametrize(("count", "is_allowed"), [(HEADERS_MAX - 1, True), (HEADERS_MAX, False)])
def test_there_may_be_so_many_headers(count, is_allowed):
    (found,) = exchanges(head(*[f"X-{number}: y" for number in range(count)]))
    assert (found.failure is None) is is_allowed


def test_a_client_that_waits_for_a_word_gets_it_once():
    codec = Http().codec()
    asking = head("Expect: 100-continue", "Content-Length: 5")
    assert codec.feed(asking[:-1]) == []
    assert codec.take_output() == b""
    assert codec.feed(asking[-1:]) == []
    assert codec.take_output() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert codec.feed(b"hel") == []
    assert [found.input for found in codec.feed(b"lo")] == ["hello"]
    assert codec.take_output() == b""


def test_a_client_that_did_not_wait_gets_no_word():
    codec = Http().codec()
    codec.feed(head("Expect: 100-continue", "Content-Length: 5") + b"hel")
    assert codec.take_output() == b""


def test_a_client_that_waits_is_refused_instead():
    asking = head("Expect: 100-continue", "Content-Length: 5", start="PUT /kv HTTP/1.1")
    assert refusal(asking) == 405


def test_an_upgrade_that_is_not_had_is_an_ordinary_request():
    upgrade = head("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
    assert [found.input for found in exchanges(upgrade + POST)] == ["", "hello"]


@pytest.mark.parametrize(
    ("stream", "is_last"),
    [
        (head(), False),
        (head("Connection: close"), True),
        (head(start="POST /kv HTTP/1.0"), True),
        (head("Connection: keep-alive", start="POST /kv HTTP/1.0"), False),
    ],
)
def test_the_connection_stays_as_the_client_wants_it(stream, is_last):
    (found,) = exchanges(stream)
    assert found.is_last is is_last
    answer = found.encode("x")
    assert (b"\r\nConnection: close\r\n" in answer) is is_last
    is_old = b"HTTP/1.0" in stream
    assert (b"\r\nConnection: keep-alive\r\n" in answer) is (is_old and not is_last)


def test_a_route_sees_the_whole_request():
    seen = []
    stream = head(
        "X: 1", "x: 2", "Content-Length: 2", start="PUT /users/ann%20b?a=1&b=%20&a=2 HTTP/1.1"
    )
    (found,) = exchanges(stream + b"{}", body="json", route=lambda r: (seen.append(r), ("u", r))[1])
    (request,) = seen
    assert (found.to, found.input) == ("u", request)
    assert (request.method, request.path, request.body) == ("PUT", "/users/ann b", {})
    assert request.query == {"a": "2", "b": " "}
    assert request.headers == {"host": "h", "x": "1, 2", "content-length": "2"}


def test_a_route_may_answer_or_have_nothing_or_fail():
    get = head(start="GET /x HTTP/1.1")
    (answered,) = exchanges(get, route=lambda request: HttpReply(201, "made"))
    (nothing,) = exchanges(get, route=lambda request: None)
    (failed,) = exchanges(get, route=lambda request: request.query["key"])
    assert answered.encode(answered.answer).startswith(b"HTTP/1.1 201 Created\r\n")
    assert said(nothing) == b"HTTP/1.1 404 Not Found"
    assert said(failed) == b"HTTP/1.1 400 Bad Request"
    assert failed.failure.detail == "KeyError: 'key'"


@pytest.mark.parametrize("wrong", ["s", {}, ("kv", 1, 2), ("kv",), (1, 2), ["kv", 1], 0])
def test_what_a_route_may_not_return_is_its_own_fault(wrong, caplog):
    (failed,) = exchanges(head(start="GET /x HTTP/1.1"), route=lambda request: wrong)
    assert said(failed) == b"HTTP/1.1 500 Internal Server Error"
    (line,) = caplog.messages
    assert line.startswith(f"the route returned {wrong!r} for 'GET /x'; it returns (server, input)")


@pytest.mark.parametrize(
    "error", [AttributeError, TypeError, RuntimeError, SystemExit, GeneratorExit]
)
def test_an_exception_that_no_request_explains_is_logged(error, caplog):
    def route(request):
        raise error("ouch")

    (failed,) = exchanges(head(start="GET /x HTTP/1.1"), route=route)
    assert said(failed) == b"HTTP/1.1 500 Internal Server Error"
    assert "ouch" not in failed.failure.detail
    (record,) = caplog.records
    assert record.exc_info[0] is error


def test_an_exception_that_a_request_explains_is_for_its_client(caplog):
    def route(request):
        return "kv", int(request.path[1:])

    (failed,) = exchanges(head(start="GET /x HTTP/1.1"), route=route)
    assert said(failed) == b"HTTP/1.1 400 Bad Request"
    assert not caplog.records


def test_head_is_the_head_of_get():
    (found,) = exchanges(
        head(start="HEAD /x HTTP/1.1"), route=lambda request: (request.method, None)
    )
    assert found.to == "GET"
    answer = found.encode("hello")
    assert b"\r\nContent-Length: 5\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


@pytest.mark.parametrize("start", ["GET / HTTP/1.1", "HEAD / HTTP/1.1", "TRACE / HTTP/1.1"])
def test_other_methods_are_told_which_are_allowed(start):
    found = exchanges(head(start=start) + POST)
    assert found[0].failure.status == 405
    assert b"\r\nAllow: POST, OPTIONS\r\n" in found[0].encode_error(found[0].failure)
    assert found[1].input == "hello"


def test_options_says_what_is_allowed():
    (found,) = exchanges(head(start="OPTIONS * HTTP/1.1"), methods=("GET",), route=print)
    assert found.encode(found.answer) == (
        b"HTTP/1.1 204 No Content\r\nAllow: GET, HEAD, OPTIONS\r\n\r\n"
    )


def test_only_servers_that_are_named_can_be_asked():
    (found,) = exchanges(POST, servers=("other",))
    assert isinstance(found.failure, NoProc)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", None),
        ("application/json; charset=utf-8", None),
        ("application/ld+json", None),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
    ],
)
def test_json_is_taken_from_who_says_that_it_is(kind, status):
    (found,) = exchanges(head(f"Content-Type: {kind}", "Content-Length: 3") + b"[1]", body="json")
    assert (found.failure and found.failure.status) == status
    assert found.input == (None if status else [1])


def test_json_is_validated():
    stream = head("Content-Length: 5") + b'["x"]'
    (found,) = exchanges(stream, body=JsonBody(list[int]))
    assert found.encode_error(found.failure).partition(b"\r\n\r\n")[2] == (
        b'{"error":"the body is not what is wanted: Expected `int`, got `str` - at `$[0]`"}'
    )


@pytest.mark.parametrize(
    ("stream", "said_of_it"),
    [
        (head("Content-Length: 1") + b"\xff", b"400 Bad Request"),
        (
            head("Content-Length: 1", "Content-Type: text/plain; charset=utf-16") + b"x",
            b"415 Unsupported Media Type",
        ),
    ],
)
def test_text_is_utf_8(stream, said_of_it):
    assert said(exchanges(stream)[0]) == b"HTTP/1.1 " + said_of_it


@pytest.mark.parametrize(
    ("output", "body"),
    [("é", "é".encode()), (b"\xff", b"\xff"), (1, b"1"), (1.5, b"1.5"), ("", b"")],
)
def test_outputs_become_text(output, body):
    answer = exchanges(POST)[0].encode(output)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n")
    assert answer.endswith(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))


def test_no_output_is_no_content_but_null_in_json():
    assert exchanges(POST)[0].encode(None) == b"HTTP/1.1 204 No Content\r\n\r\n"
    (found,) = exchanges(head("Content-Length: 1") + b"1", body="json")
    assert found.encode(None).endswith(b"\r\n\r\nnull")


def test_a_reply_may_have_a_status_and_headers():
    reply = HttpReply(404, b"<p>", {"Content-Type": "text/html", "X": "é"})
    assert exchanges(POST)[0].encode(reply) == (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nX: \xe9\r\nContent-Length: 3\r\n\r\n"
        b"<p>"
    )
    assert exchanges(POST)[0].encode(HttpReply(299)).startswith(b"HTTP/1.1 299 \r\n")


@pytest.mark.parametrize(
    "fields",
    [
        {"status": 100},
        {"status": 600},
        {"status": "200"},
        {"status": 204, "body": "x"},
        {"headers": {"A b": "c"}},
        {"headers": {"A": "c\r\nD: e"}},
        {"headers": {"A": "\u2028"}},
        {"headers": {"content-length": "1"}},
        {"headers": {"A": 1}},
        {"headers": None},
        {"headers": [("A", "b")]},
    ],
)
def test_a_reply_that_would_break_the_stream_cannot_be_made(fields):
    with pytest.raises(ValueError, match=r"^HttpReply: "):
        HttpReply(**fields)


@pytest.mark.parametrize(
    ("fields", "said_of_it"),
    [
        ({"body": "xml"}, "body='xml' is not allowed"),
        ({"body": JsonBody}, "body=.* is not allowed"),
        ({"methods": "GET"}, "methods='GET' is not allowed"),
        ({"methods": ("get",)}, "methods=.* is not allowed"),
        ({"timeout": 0}, "timeout=0 is not allowed"),
        ({"timeout": True}, "timeout=True is not allowed"),
        ({"route": 1}, "route=1 is not allowed"),
        ({"servers": [1]}, "servers=.* is not allowed"),
        ({"body_bytes_max": 0}, "body_bytes_max=0 is not allowed"),
        ({"head_bytes_max": "x"}, "head_bytes_max='x' is not allowed"),
    ],
)
def test_a_wrong_field_is_one_sentence(fields, said_of_it):
    with pytest.raises(SpecError, match=said_of_it):
        Http(**fields)


def test_without_httptools_one_sentence_says_so(monkeypatch):
    monkeypatch.setattr("pybehave.protocols.http.find_spec", lambda name: None)
    with pytest.raises(SpecError, match="needs the package httptools: pip install"):
        Http()

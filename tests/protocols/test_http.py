"""HTTP through a whole node: routing, order, limits, crashes, restarts, the journal."""

import http.client
import shutil
import socket
import subprocess

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker, family
from pybehave.actions import NO_REPLY, Reply, Stop
from pybehave.protocols import Http, HttpReply
from tests.conftest import dial, receive_all
from tests.processes import STRANGERS


class Store(GenServer):
    """`Store "x" 1` and `Get "x"`, and some misbehaviour."""

    def init(self, args):
        return {}

    def handle_call(self, command, caller, state):
        match command.split():
            case ["Store", key, value]:
                state[key] = value
                return state, "stored"
            case ["Get", key]:
                return state, state.get(key, HttpReply(404, "no such key"))
            case ["Later", key]:
                state[key] = caller
                return state, NO_REPLY
            case ["Now", key, value]:
                return state, "told", Reply(state.pop(key), value)
            case ["Big", size]:
                return state, "x" * int(size)
            case ["Name"]:
                return state, self.context.name
            case ["Stop"]:
                return state, "stopped", Stop("shutdown")
            case ["Crash"]:
                return state, 1 // 0
        return state, command


@pytest.fixture
def node(start):
    """Start a node with stores `a` and `b` behind one listener: node(Http(...), **worker)."""

    def begin(protocol=None, *, listener=None, children=(), data=None, **worker):
        workers = [Worker(name, Store, **worker) for name in "ab"]
        tree = Supervisor("one_for_one", [*workers, *children], intensity=1000)
        listeners = [Listener("tcp://127.0.0.1:0", protocol or Http(), to="a", **(listener or {}))]
        return start(Application("test", tree, listeners=listeners), data=data)

    return begin


def post(path, body, *lines):
    head = "".join(f"{line}\r\n" for line in (f"Content-Length: {len(body)}", *lines))
    return f"POST {path} HTTP/1.1\r\nHost: h\r\n{head}\r\n{body}".encode()


def answers(client, count):
    """Status and body of so many answers, read by the standard library's parser."""
    got = []
    stream = client.makefile("rb")
    for _ in range(count):
        response = http.client.HTTPResponse(_Kept(stream), method="POST")
        response.begin()
        got.append((response.status, response.read().decode()))
    return got


class _Kept:
    """What an HTTPResponse takes for a socket: it must not close the stream behind its answer."""

    def __init__(self, stream):
        self._stream = stream

    def makefile(self, mode):
        return self

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def close(self):
        pass


def ask(running, *requests):
    with dial(running) as client:
        client.sendall(b"".join(requests))
        return answers(client, len(requests))


def test_a_path_names_its_server(node):
    running = node()
    names = [post("/a", "Name"), post("/b", "Name"), post("/", "Name"), post("/c", "Name")]
    assert ask(running, *names) == [
        (200, "a"),
        (200, "b"),
        (200, "a"),
        (404, "error: no server is called 'c'\n"),
    ]


def test_curl_stores_and_gets(node):
    running = node()
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    url = running.urls[0].replace("tcp", "http")

    def said(*arguments):
        command = [curl, "-sS", "--max-time", "20", "-w", " %{http_code}", *arguments]
        found = subprocess.run(command, check=True, capture_output=True, text=True, env=STRANGERS)
        return found.stdout

    assert said("-X", "POST", f"{url}/b", "-d", 'Store "x" 1') == "stored 200"
    assert said(f"{url}/b", "-d", 'Get "x"') == "1 200"
    assert said(f"{url}/b", "-d", 'Get "x"', "--http1.0") == "1 200"
    assert said(f"{url}/b", "-d", 'Get "x"', "--http2").endswith(" 400")
    assert said(f"{url}/b", "-d", 'Get "x"', "-H", "Transfer-Encoding: chunked") == "1 200"
    assert said(f"{url}/b", "-d", 'Get "x"', "-H", "Expect: 100-continue") == "1 200"
    assert said(f"{url}/b", "-d", 'Get "y"') == "no such key 404"
    assert said(f"{url}/b").endswith(" 405")
    assert "Allow: POST, OPTIONS" in said("-i", "-X", "OPTIONS", f"{url}/b")


def test_a_crash_is_500_with_its_id_and_the_connection_goes_on(node):
    running = node()
    crashed, after = ask(running, post("/b", "Crash"), post("/b", "Name"))
    assert crashed == (500, "error: server 'b' crashed (crash id b-1-1)\n")
    assert after == (200, "b")


class Choosy(GenServer):
    accepts = (str,)

    def validate(self, message, state):
        return "not today" if message == "no" else None

    def step(self, command, state):
        return state, command


def test_what_a_server_refuses_is_422(node):
    running = node(children=[Worker("c", Choosy)])
    assert ask(running, post("/c", "no"), post("/c", "yes")) == [
        (422, "error: Server 'c' has rejected the input: 'not today'; nothing was changed\n"),
        (200, "yes"),
    ]


def test_a_full_mailbox_is_429(node):
    running = node(mailbox=2, overflow="reject")
    requests = [post("/b", f"Later {number}") for number in range(2)]
    full = ask_until_full(running, requests)
    assert full[-1][0] == 429
    assert "requests waiting" in full[-1][1]


def ask_until_full(running, requests):
    """Suspend the server, so that its mailbox fills; what is refused is answered at once."""
    running.sys.suspend("b")
    with dial(running) as first, dial(running) as second:
        first.sendall(b"".join(requests))
        second.sendall(post("/b", "Name"))
        while (got := answers(second, 1))[0][0] != 429:  # the first ones may be on their way yet
            second.sendall(post("/b", "Name"))
        return got


def test_a_suspended_server_holds_up_its_own_requests_only(node):
    running = node()
    running.sys.suspend("a")
    with dial(running) as client, dial(running) as other:
        client.sendall(post("/", "Name"))
        other.sendall(post("/b", "Name") + post("/", "Name"))
        assert answers(other, 1) == [(200, "b")]
        running.sys.resume("a")
        assert (answers(client, 1), answers(other, 1)) == ([(200, "a")], [(200, "a")])


def test_answers_keep_the_order_of_requests(node):
    running = node()
    with dial(running) as client, dial(running) as other:
        client.sendall(post("/a", "Later k") + post("/b", "Name") + post("/nobody", ""))
        client.sendall(post("/a", "Name"))
        while answers_to_now(other) == 500:  # the key is not there yet: that is a crash
            pass
        got = answers(client, 4)
    assert [status for status, _ in got][1:] == [200, 404, 200]


def answers_to_now(other):
    other.sendall(post("/a", "Now k late"))
    return answers(other, 1)[0][0]


def test_no_answer_in_time_is_504(node):
    running = node(Http(timeout=0.05))
    late, after = ask(running, post("/a", "Later k"), post("/a", "Name"))
    assert late == (504, "error: server 'a' did not answer within 0.05 s\n")
    assert after == (200, "a")


def test_a_server_that_ends_owes_503(node):
    running = node()
    with dial(running) as client, dial(running) as other:
        client.sendall(post("/a", "Later k") + post("/b", "Name"))
        assert ask(running, post("/b", "Name")) == [(200, "b")]
        other.sendall(post("/a", "Stop"))
        assert answers(other, 1) == [(200, "stopped")]
        got = answers(client, 2)
    assert got[0] in ((503, "error: server 'a' stopped before it answered\n"), (200, "a"))
    assert got[1] == (200, "b")


def test_a_member_of_a_family_is_woken_by_its_path(node):
    members = family("session-*", Store)
    running = node(children=[members])
    assert ask(running, post("/session-7", "Name"), post("/session-8", "Name")) == [
        (200, "session-7"),
        (200, "session-8"),
    ]


@pytest.mark.parametrize("lines", [("Connection: close",), ()])
def test_the_connection_is_closed_behind_the_last_answer(node, lines):
    running = node()
    last = post("/a", "Name", *lines)
    last = last if lines else last.replace(b"HTTP/1.1", b"HTTP/1.0")
    with dial(running) as client:
        client.sendall(last + post("/a", "Crash"))
        assert receive_all(client).endswith(b"\r\n\r\na")


def test_a_refused_stream_is_answered_and_closed(node):
    running = node()
    with dial(running) as client:
        client.sendall(post("/a", "Name") + b"nonsense\r\n\r\n" + post("/a", "Crash"))
        got = receive_all(client)
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\n\r\naHTTP/1.1 400 Bad Request\r\n" in got
    assert got.count(b"HTTP/1.1") == 2


def test_a_client_that_waits_for_a_word_gets_it_behind_earlier_answers(node):
    running = node()
    asking = post("/b", "Name", "Expect: 100-continue")
    with dial(running) as client:
        client.sendall(post("/a", "Name") + asking[:-4])
        stream = client.makefile("rb")
        got = b""
        while not got.endswith(b"HTTP/1.1 100 Continue\r\n\r\n"):
            got += stream.read(1)
        client.sendall(b"Name")
        assert answers(client, 1) == [(200, "b")]
    assert got.startswith(b"HTTP/1.1 200 OK\r\n")


def test_large_answers_to_pipelined_requests_wait_for_their_reader(node):
    running = node(listener={"output_bytes_max": 1 << 20})
    requests = [post("/a", "Big 300000")] * 20
    assert ask(running, *requests) == [(200, "x" * 300_000)] * 20


def test_a_slow_head_is_cut_off(node):
    running = node(listener={"frame_timeout": 0.05})
    with dial(running) as client:
        client.sendall(b"POST /a HTTP/1.1\r\nHost:")
        assert receive_all(client) == b""
    assert ask(running, post("/a", "Name")) == [(200, "a")]


def test_too_many_connections_are_503(node):
    running = node(listener={"connections_max": 1})
    with dial(running) as first:
        first.sendall(post("/a", "Name"))
        assert answers(first, 1) == [(200, "a")]
        with dial(running) as second:
            assert receive_all(second).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")


def test_a_thousand_connections_are_kept(node):
    running = node()
    clients = [dial(running, 60) for _ in range(1000)]
    try:
        for _ in range(2):
            for number, client in enumerate(clients):
                client.sendall(post("/ab"[: 2 + number % 2], "Name")[:-2])
            for client in clients:
                client.sendall(b"me")
            assert {answers(client, 1)[0] for client in clients} == {(200, "a"), (404, MISSING)}
    finally:
        for client in clients:
            client.close()


MISSING = "error: no server is called 'ab'\n"


def test_an_abandoned_request_leaves_nothing(node):
    running = node()
    for _ in range(10):
        with dial(running) as client:
            client.sendall(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc")
    assert ask(running, post("/a", "Name")) == [(200, "a")]


def test_what_was_answered_is_in_the_journal(node, tmp_path):
    running = node(journal=True, data=tmp_path)
    stores = [post("/b", f"Store k{number} {number}") for number in range(100)]
    assert ask(running, *stores) == [(200, "stored")] * 100
    assert ask(running, post("/b", "Crash"))[0][0] == 500
    assert ask(running, post("/b", "Get k7")) == [(200, "7")]
    running.stop()
    again = node(journal=True, data=tmp_path)
    gets = [post("/b", f"Get k{number}") for number in range(100)]
    assert ask(again, *gets) == [(200, str(number)) for number in range(100)]


def test_http_over_a_unix_socket(start, tmp_path):
    path = tmp_path / "h.sock"
    app = Application(
        "test",
        Supervisor("one_for_one", [Worker("a", Store)]),
        listeners=[Listener(f"unix://{path}", Http(), to="a")],
    )
    start(app)
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(post("/", "Name"))
        assert answers(client, 1) == [(200, "a")]

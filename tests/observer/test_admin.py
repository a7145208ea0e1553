"""The admin socket: what it answers, what it refuses, whom, and that the node does not mind."""

from __future__ import annotations

import os
import socket
import stat
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pybehave import NO_REPLY, Application, GenServer, Listener, Supervisor, Worker, family
from pybehave._uring.values import Values
from pybehave.actions import Reply
from pybehave.errors import Crashed, ListenFailed, NotAnswered, RequestRefused
from pybehave.observer import admin, view, wire
from pybehave.observer.admin import Admin
from pybehave.observer.client import AdminClient
from pybehave.protocols import Http, Lines
from pybehave.testing.simulate import Simulator
from tests.conftest import dial, receive, receive_all


class Store(GenServer[dict[str, Any], Any, Any]):
    def init(self, args: Any) -> dict[str, Any]:
        return {"seen": [], "secret": "hush"}

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        if command == "break":
            raise ValueError("a deliberate bug")
        if command == "later":
            return {**state, "caller": self.context.caller}, NO_REPLY
        if command == "answer":
            return state, None, Reply(state["caller"], "at last")
        if command == "odd":
            return state, object()
        if command == "large":
            return state, b"x" * (wire.ANSWER_BYTES_MAX + 1)
        state["seen"].append(command)
        return state, command

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        return {**status, "state": {**status["state"], "secret": "***"}}


def application(**options: Any) -> Application:
    tree = Supervisor(
        "one_for_one",
        [
            Worker("a", Store, **options),
            Worker("b", Store, restart="temporary"),
            Supervisor("rest_for_one", [Worker("c", Store), Worker("d", Store)], id="sub"),
        ],
        intensity=1000,
    )
    return Application(
        "kv", tree, listeners=[Listener("tcp://127.0.0.1:0", Lines("utf-8"), to="a")]
    )


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "admin.sock")


@pytest.fixture
def node(start: Callable[..., Any], path: str) -> Any:
    node = start(application())
    Admin(node, path).open()
    return node


@pytest.fixture
def client(node: Any, path: str) -> Iterator[AdminClient]:
    with AdminClient(path) as client:
        yield client


def refused(client: AdminClient, verb: str, **words: Any) -> str:
    with pytest.raises(RequestRefused) as caught:
        client.ask(verb, **words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- what it answers ------------------------------------------------------------------------------


def test_it_says_who_it_is(client: AdminClient, node: Any) -> None:
    greeting = client.ask("hello")
    assert (greeting["name"], greeting["pid"]) == ("kv", os.getpid())
    assert greeting["source"] == node.loop.source


def test_it_lists_servers_and_those_that_match(client: AdminClient) -> None:
    rows = client.ask("list")["rows"]
    assert [row["server"] for row in rows] == ["a", "b", "c", "d"]
    assert [row["server"] for row in client.ask("list", match="c")["rows"]] == ["c"]


def test_it_shows_the_tree(client: AdminClient) -> None:
    lines = client.ask("tree")["lines"]
    assert lines[0].startswith("root")
    assert any("sub" in line for line in lines)
    assert any("d" in line and "running" in line for line in lines)
    assert any(line.endswith("running  incarnation 1") for line in lines)


def test_it_inspects_a_server_as_format_status_lets_it(client: AdminClient, node: Any) -> None:
    with pytest.raises(Crashed):
        node.call("c", "break")
    found = client.ask("inspect", server="c")
    assert (found["incarnation"], found["path"], found["mode"]) == (2, "root/sub/c", "running")
    assert "***" in found["state"] and "hush" not in found["state"]
    [crash] = found["crashes"]
    assert crash["reason"] == "ValueError: a deliberate bug"


def test_it_shows_crash_reports_of_one_or_all(client: AdminClient, node: Any) -> None:
    for name in ("a", "c", "a"):
        refused(client, "call", server=name, request="break")
    assert [row["server"] for row in client.ask("crashes")["rows"]] == ["a", "c", "a"]
    [report] = client.ask("crashes", server="c")["rows"]
    assert (report["path"], report["message"]) == ("root/sub/c", "'break'")
    assert "hush" not in str(report)
    assert "server=7 is no name" in refused(client, "crashes", server=7)


def test_a_call_reaches_the_server_and_its_reply_comes_back(client: AdminClient) -> None:
    value = ("x", [b"\x00", 2**70, None, {"k": {1}}])
    assert client.ask("call", server="a", request=value) == value


def test_a_reply_that_has_no_form_or_is_too_large_is_shown(client: AdminClient) -> None:
    assert "object object" in client.ask("call", server="a", request="odd")["shown"]
    assert client.ask("call", server="a", request="large")["shown"].startswith("b'xxx")


def test_a_call_may_crash_its_server_or_find_none(client: AdminClient) -> None:
    assert "a deliberate bug" in refused(client, "call", server="a", request="break")
    assert "No server is named 'x'" in refused(client, "call", server="x", request=1)


def test_a_call_waits_as_long_as_it_is_told(client: AdminClient, node: Any) -> None:
    text = refused(client, "call", server="a", request="later", timeout=0.01)
    assert "did not reply within 0.01 s" in text
    node.call("a", "answer")  # the one who asked has gone
    assert client.ask("hello")["name"] == "kv"


def test_a_reply_that_waits_for_the_disk_when_its_time_is_over_hurts_nobody(
    start: Callable[..., Any], path: str, tmp_path: Path
) -> None:
    node = start(application(journal=True), data=tmp_path / "data")
    Admin(node, path).open()
    with AdminClient(path) as client:
        for number in range(50):  # the disk is quicker at times: then the reply is there
            try:
                assert client.ask("call", server="a", request=number, timeout=0) == number
            except RequestRefused as error:
                assert "did not reply within 0 s" in str(error)
        assert client.ask("call", server="a", request="next") == "next"
    assert node.get_state("a")["seen"] == [*range(50), "next"]


def test_a_reply_that_was_put_off_comes_later(client: AdminClient, node: Any) -> None:
    answers: list[Any] = []
    asking = threading.Thread(
        target=lambda: answers.append(client.ask("call", server="a", request="later"))
    )
    asking.start()
    while not node.sys.get_status("a").callers:
        pass
    node.call("a", "answer")
    asking.join()
    assert answers == ["at last"]


def test_a_server_is_suspended_and_resumed(client: AdminClient, node: Any) -> None:
    client.ask("suspend", server="a")
    assert client.ask("inspect", server="a")["mode"] == "suspended"
    assert client.ask("stats")["suspended"] == 1
    node.cast("a", "waits")
    client.ask("resume", server="a")
    assert client.ask("call", server="a", request="x") == "x"
    assert node.get_state("a")["seen"] == ["waits", "x"]


def test_a_restart_is_of_one_server_and_charged_to_nobody(client: AdminClient, node: Any) -> None:
    node.call("c", "gone")
    assert client.ask("restart", server="c") == 2
    assert (node.whereis("c"), node.whereis("d")) == (2, 1)
    assert node.get_state("c")["seen"] == []
    assert "restarts" not in "\n".join(client.ask("tree")["lines"])


def test_a_temporary_server_is_restarted_too(client: AdminClient, node: Any) -> None:
    assert client.ask("restart", server="b") == 2
    assert node.which_child("root", "b").status == "running"


def test_a_child_made_from_a_template_is_restarted_and_not_forgotten(
    start: Callable[..., Any], path: str
) -> None:
    rooms = Supervisor("simple_one_for_one", [Worker("room", Store)], id="rooms")
    node = start(Application("hotel", Supervisor("one_for_one", [rooms, family("u-*", Store)])))
    Admin(node, path).open()
    node.start_child("rooms", [], name="room-7")
    node.call("u-ann", "wake up")
    with AdminClient(path) as client:
        assert [client.ask("restart", server=name) for name in ("room-7", "u-ann")] == [2, 2]
    assert (node.whereis("room-7"), node.whereis("u-ann")) == (2, 2)


def test_a_path_restarts_a_supervisor_or_a_child_that_is_stopped(
    client: AdminClient, node: Any
) -> None:
    assert client.ask("restart", server="root/sub") is None
    assert (node.whereis("c"), node.whereis("d"), node.whereis("a")) == (2, 2, 1)
    node.terminate_child("sub", "c")
    assert client.ask("restart", server="root/sub/c") == 3
    assert "no child or supervisor" in refused(client, "restart", server="root/nobody")


def test_a_trace_is_sent_as_it_happens_and_ends_with_the_server(
    client: AdminClient, node: Any
) -> None:
    client.ask("trace", server="a")
    events = client.events()
    node.call("a", "one")
    assert "in call 'one' from a thread or task" in next(events)
    assert "out 'one'" in next(events)
    with pytest.raises(Crashed):
        node.call("a", "break")
    rest = list(events)
    assert len(rest) == 2
    assert "a deliberate bug" in rest[-1]


def test_a_trace_ends_with_its_connection(client: AdminClient, node: Any) -> None:
    client.ask("trace", server="a")
    assert node.sys.get_status("a").debug == ("1 functions",)
    client.close()
    while node.sys.get_status("a").debug:
        pass


def test_a_trace_that_is_too_much_says_what_it_left_out(
    client: AdminClient, node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "EVENTS_MAX", 3)
    client.ask("trace", server="a")

    def burst() -> None:
        for number in range(5):
            node.call("a", number)

    node.run_on_loop(burst)
    events = client.events()
    found = [next(events) for _ in range(4)]
    assert found[3] == "... 7 events were missed here"


def test_stats_count_and_lists_are_cut(
    client: AdminClient, node: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert client.ask("stats")["servers"] == 4
    monkeypatch.setattr(view, "LINES_MAX", 2)
    assert (len(client.ask("list")["rows"]), client.ask("list")["is_cut"]) == (2, True)
    assert (len(client.ask("tree")["lines"]), client.ask("tree")["is_cut"]) == (2, True)
    monkeypatch.setattr(view, "LINES_MAX", 6)
    assert client.ask("list")["is_cut"] is False
    assert client.ask("tree")["is_cut"] is False


def test_dead_letters_are_listed(
    start: Callable[..., Any], tmp_path: Path, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = start(application(journal=True), data=tmp_path / "data")
    Admin(node, path).open()
    with AdminClient(path) as client:
        for _ in range(2):
            refused(client, "call", server="a", request="break")
        while len(client.ask("dead_letters")["rows"]) < 2:
            pass
        rows = client.ask("dead_letters")["rows"]
        assert [row["server"] for row in rows] == ["a", "a"]
        assert "a deliberate bug" in rows[0]["error"]
        monkeypatch.setattr(admin, "LETTERS_MAX", 1)
        assert client.ask("dead_letters") == {"rows": rows[1:], "is_cut": True}
        assert client.ask("stats")["journal"]


# --- what it refuses ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "verb, words, says",
    [
        ("nonsense", {}, "There is no request 'nonsense'; there are hello, list"),
        ([1], {}, "There is no request [1]"),
        ("inspect", {}, "wants a server's name, not None"),
        ("inspect", {"server": 7}, "wants a server's name, not 7"),
        ("inspect", {"server": "x"}, "No server is named 'x'"),
        ("suspend", {"server": admin.NAME}, "is the server that answers this"),
        ("restart", {"server": "x"}, "No server is named 'x'"),
        ("trace", {"server": "x"}, "No server is named 'x'"),
        ("call", {"server": "a", "timeout": -1}, "timeout=-1"),
        ("call", {"server": "a", "timeout": "1"}, "timeout='1' is no time"),
        ("list", {"match": 1}, "match=1 is no text"),
        ("dead_letters", {}, "keeps no journal"),
    ],
)
def test_a_bad_request_is_one_sentence(
    client: AdminClient, verb: Any, words: dict[str, Any], says: str
) -> None:
    assert says in refused(client, verb, **words)
    assert client.ask("hello")["name"] == "kv"


@pytest.mark.parametrize(
    "data, says",
    [
        (struct.pack(">I", 3) + b"\xc1\xc1\xc1", "no MessagePack value"),
        (struct.pack(">I", 1) + b"\x07", "a map was expected, and 7 came"),
        (struct.pack(">I", wire.REQUEST_BYTES_MAX + 1), str(wire.REQUEST_BYTES_MAX)),
        (wire.framed({"do": "hello", "id": [1]}), "'name': 'kv'"),
        (wire.framed({}), "There is no request None"),
    ],
)
def test_bytes_that_are_no_request_are_one_sentence(
    node: Any, path: str, data: bytes, says: str
) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.settimeout(10)
        raw.connect(path)
        raw.sendall(data)
        (size,) = struct.unpack(">I", receive(raw, 4))
        answer = Values().decode(receive(raw, size))
    assert says in str(answer)
    with AdminClient(path) as client:
        assert client.ask("hello")["name"] == "kv"


def test_the_file_is_private_and_goes_with_the_node(node: Any, path: str) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    node.stop()
    assert not os.path.exists(path)
    with pytest.raises(NotAnswered, match="There is no admin socket"):
        AdminClient(path)


def test_another_user_is_refused_by_name(
    node: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin.os, "geteuid", lambda: 4711)
    monkeypatch.setattr(admin, "ROOT", 4712)
    with AdminClient(path) as client:
        text = refused(client, "hello")
        assert f"not user {os.getuid()}" in text
        with pytest.raises(NotAnswered, match="ended the connection"):
            client.ask("hello")
    monkeypatch.undo()
    with AdminClient(path) as client:
        assert client.ask("hello")["name"] == "kv"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_the_kernel_says_who_asks(node: Any, path: str, tmp_path: Path) -> None:
    os.chmod(path, 0o666)  # as if somebody had opened it
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == "root" and len(folder.parts) > 2:
            os.chmod(folder, 0o755)
    heard = []

    def ask_as_nobody() -> None:
        libc_setresuid(65534)
        with AdminClient(path) as client:
            heard.append(refused(client, "hello"))

    thread = threading.Thread(target=ask_as_nobody)
    thread.start()
    thread.join()
    assert heard == [f"This node answers user {os.geteuid()} and root only, not user 65534"]


@pytest.mark.parametrize("route", [None, lambda request: (request.path[1:], request.body)])
def test_nobody_is_an_operator_who_comes_through_another_listener(
    start: Callable[..., Any], path: str, route: Any
) -> None:
    protocol = Http(body="json", route=route)
    listener = Listener("tcp://127.0.0.1:0", protocol, to="a")
    tree = Supervisor("one_for_one", [Worker("a", Store)])
    node = start(Application("kv", tree, listeners=[listener]))
    Admin(node, path).open()
    for body in (b'{"do": "restart", "server": "a"}', b'"no request"'):
        head = f"POST /{admin.NAME} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
        with dial(node) as stranger:
            stranger.sendall(head.encode() + body)
            answer = receive_all(stranger)
        assert (b"admin socket only" in answer) if route else answer.startswith(b"HTTP/1.1 404")
    assert node.call(admin.NAME, {"do": "restart", "server": "a"})["error"] == admin.ELSEWHERE
    assert node.whereis("a") == 1
    with AdminClient(path) as client:
        assert client.ask("restart", server="a") == 2


def libc_setresuid(uid: int) -> None:
    """Change the calling thread's user alone: the C library's own function changes all threads."""
    import ctypes

    setresuid = {"x86_64": 117, "aarch64": 147}[os.uname().machine]
    if ctypes.CDLL(None, use_errno=True).syscall(setresuid, -1, uid, -1) != 0:
        raise OSError(ctypes.get_errno(), "setresuid")


def test_a_path_that_is_taken_is_refused(node: Any, start: Callable[..., Any], path: str) -> None:
    other = start(application())
    with pytest.raises(ListenFailed, match="Address already in use"):
        Admin(other, path).open()
    assert other.call("a", "x") == "x"
    Admin(other, path + "2").open()
    with AdminClient(path + "2") as client:
        assert client.ask("list", match="a")["rows"]


def test_in_a_folder_that_is_locked_a_socket_that_lives_on_is_taken_over(
    node: Any, start: Callable[..., Any], path: str
) -> None:
    other = start(application())
    Admin(other, path, takes_over=True).open()
    with AdminClient(path) as client:
        client.ask("restart", server="c")
    assert (node.whereis("c"), other.whereis("c")) == (1, 2)
    node.stop()
    with AdminClient(path) as client:  # the first one leaves alone what is not its own any more
        assert client.ask("hello")["name"] == "kv"


def test_the_node_serves_others_while_it_is_asked(client: AdminClient, node: Any) -> None:
    with dial(node) as customer:
        for number in range(20):
            client.ask("list")
            customer.sendall(b"%d\n" % number)
            assert receive(customer, len(b"%d\n" % number)) == b"%d\n" % number


def test_urls_are_the_applications_own(client: AdminClient, node: Any) -> None:
    assert len(node.urls) == 1
    assert node.urls[0].startswith("tcp://")


# --- in a simulation ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
def test_in_any_weather_every_request_has_one_answer(seed: int) -> None:
    app = Application("kv", Supervisor("one_for_one", [Worker("a", Store)], intensity=1000))
    verbs = [
        {"do": "list"},
        {"do": "inspect", "server": "a"},
        {"do": "nonsense"},
        {"do": "call", "server": "a", "request": "x"},
        {"do": "call", "server": "a", "request": "break"},
        {"do": "restart", "server": "a"},
        {"do": "suspend", "server": "a"},
        {"do": "call", "server": "a", "request": "held", "timeout": 1},
        {"do": "resume", "server": "a"},
        {"do": "trace", "server": "a"},
        {"do": "call", "server": "a", "request": "y"},
    ]
    with Simulator(seed, app, shake=True) as world:
        world.network.set(reset=0, accept_failure=0)  # who is hung up on hears nothing
        Admin(world.node, "/admin").open()
        client = world.connect("unix:///admin")
        for number, request in enumerate(verbs):
            client.send(wire.framed({"id": number, **request}))
        answers: list[Any] = []

        def all_answered() -> bool:
            while (message := wire.taken(client.received)) is not None:
                answers.append(message)
            return len([a for a in answers if "events" not in a]) == len(verbs)

        world.run_until(all_answered)
        plain = [answer for answer in answers if "events" not in answer]
        assert [answer["id"] for answer in plain] == list(range(len(verbs)))
        errors = {answer["id"]: answer["kind"] for answer in plain if "error" in answer}
        assert errors == {2: "RequestRefused", 4: "Crashed", 7: "Timeout"}

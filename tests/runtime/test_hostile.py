"""What hostile reviewers found: each once a defect, each a promise now."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker, actions
from pybehave.actions import NO_REPLY
from pybehave.errors import Crashed, ListenFailed, SpecError, StartFailed, Stopped
from pybehave.protocols import Lines, Resp
from tests.conftest import dial, receive_all, until


class Odd(GenServer[Any, Any, Any]):
    """Does what it is told, however wrong that is."""

    def init(self, args: Any) -> Any:
        return {} if args is None else ({}, args)

    def step(self, command: Any, state: Any) -> Any:
        match command:
            case "none":
                return state, "fine", None
            case ("act", *wanted):
                return state, "done", wanted
            case "interrupt":
                raise KeyboardInterrupt
        return state, "fine"


@pytest.fixture
def odd(start: Callable[..., Any]) -> Any:
    workers = [Worker("odd", Odd), Worker("other", Odd)]
    return start(Application("odd", Supervisor("one_for_one", workers, intensity=1000)))


@pytest.mark.parametrize(
    "action",
    [
        actions.Close("junk"),
        actions.Send("junk", b"x"),
        actions.Send(None, b"x"),
        actions.Reply("junk", 1),
    ],
    ids=repr,
)
def test_an_action_that_fails_crashes_its_server_and_nothing_else(odd: Any, action: Any) -> None:
    with pytest.raises(Crashed):
        odd.call("odd", ("act", action))
    assert odd.call("odd", "x") == "fine"
    assert odd.whereis("other") == 1


def test_closing_no_connection_does_nothing(odd: Any) -> None:
    assert odd.call("odd", ("act", actions.Close(None))) == "done"


def test_no_actions_may_be_none(odd: Any) -> None:
    assert odd.call("odd", "none") == "fine"


def test_a_stop_without_a_reason_is_a_stop(odd: Any) -> None:
    assert odd.call("odd", ("act", actions.Stop(None))) == "done"
    assert odd.call("odd", "x") == "fine"
    assert odd.whereis("odd") == 2


def test_an_init_that_stops_among_its_actions_does_not_start(start: Callable[..., Any]) -> None:
    app = Application(
        "odd", Supervisor("one_for_one", [Worker("odd", Odd, actions.Stop("no database"))])
    )
    with pytest.raises(StartFailed) as caught:
        start(app)
    assert isinstance(caught.value.reason, Stopped)


def test_an_interrupt_raised_by_a_step_is_a_crash_on_a_thread(odd: Any) -> None:
    with pytest.raises(Crashed):
        odd.call("odd", "interrupt", timeout=None)
    assert odd.call("odd", "x") == "fine"


def test_a_child_that_is_no_specification_is_refused(odd: Any) -> None:
    with pytest.raises(SpecError, match="is not a child specification"):
        odd.start_child("root", Odd)
    assert odd.call("odd", "x") == "fine"


@pytest.mark.parametrize("timeout", [-1, -0.5, float("nan")])
def test_a_timeout_that_is_no_time_is_refused_before_anything_is_sent(
    odd: Any, timeout: float
) -> None:
    with pytest.raises(ValueError, match="seconds >= 0"):
        odd.call("odd", "x", timeout=timeout)


class Slow(GenServer[int, Any, int]):
    """Counts, and lets the first input wait."""

    gate = threading.Event()

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: Any, state: int) -> tuple[int, int]:
        if command == "wait":
            self.gate.wait(20)
        return state + 1, state + 1


def test_no_cast_is_lost_when_senders_are_to_wait(start: Callable[..., Any]) -> None:
    Slow.gate.clear()
    app = Application("s", Supervisor("one_for_one", [Worker("s", Slow, mailbox=16)]))
    node = start(app)
    node.cast("s", "wait")
    threads = [
        threading.Thread(target=lambda: [node.cast("s", "x") for _ in range(2000)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    Slow.gate.set()
    for thread in threads:
        thread.join(60)
    assert node.call("s", "x", timeout=60) == 1 + 8000 + 1


def test_a_stop_leaves_nobody_waiting(start: Callable[..., Any], source: str) -> None:
    for _ in range(20):
        node = Application("o", Supervisor("one_for_one", [Worker("o", Odd)])).start(backend=source)
        ended = threading.Event()

        def ask(node: Any = node, ended: threading.Event = ended) -> None:
            try:
                while True:
                    node.run_on_loop(lambda: None)
            except Exception:  # noqa: BLE001 -- whatever it is told, it is told something
                ended.set()

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        node.stop()
        assert ended.wait(20)


class Helper(GenServer[list[Any], Any, Any]):
    """`ask` passes its caller on to another server, which replies with what cannot be encoded."""

    def init(self, args: Any) -> list[Any]:
        return []

    def handle_call(self, request: Any, caller: Any, state: list[Any]) -> Any:
        return state, NO_REPLY, [actions.Cast("answers", caller)]

    def handle_cast(self, caller: Any, state: list[Any]) -> Any:
        return state, None, [actions.Reply(caller, object())]


def test_a_reply_that_cannot_be_encoded_is_answered_at_once(start: Callable[..., Any]) -> None:
    app = Application(
        "h",
        Supervisor("one_for_one", [Worker("asks", Helper), Worker("answers", Helper)]),
        listeners=[Listener("tcp://127.0.0.1:0", Resp(), to="asks")],
    )
    with dial(start(app)) as client:
        client.sendall(b"*1\r\n$3\r\nASK\r\n")
        assert client.recv(100).startswith(b"-")


class Greeter(GenServer[list[str], Any, Any]):
    """Writes down what it hears first of a connection."""

    def init(self, args: Any) -> list[str]:
        return []

    def step(self, command: Any, state: list[str]) -> Any:
        greeted = self.context.connection.id in state
        return state, "greeted" if greeted else "NOT GREETED"

    def handle_info(self, message: Any, state: list[str]) -> Any:
        if isinstance(message, actions.Opened):
            state.append(message.connection.id)
        return state, None


def test_a_connection_is_announced_before_it_speaks(start: Callable[..., Any]) -> None:
    app = Application(
        "g",
        Supervisor("one_for_one", [Worker("g", Greeter)]),
        listeners=[Listener("tcp://127.0.0.1:0", Lines(), to="g", events=True)],
    )
    node = start(app)
    clients = []

    def storm() -> None:
        for _ in range(200):
            client = dial(node)
            client.sendall(b"hello\n")
            client.shutdown(socket.SHUT_WR)
            clients.append(client)

    node.run_on_loop(storm)  # all of them at once, as after a long tick
    for client in clients:
        with client:
            assert receive_all(client) == b"greeted\n"


class Later(GenServer[list[Any], Any, Any]):
    """Puts the reply to WAIT off for ever."""

    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: list[bytes], state: list[Any]) -> Any:
        if command == [b"WAIT"]:
            return [*state, self.context.caller], NO_REPLY
        return state, b"x" * 100


def test_replies_behind_one_that_was_put_off_are_bounded(serve: Callable[..., Any]) -> None:
    node = serve(Later, Resp(), high_water_bytes=65536)
    with dial(node) as client:
        client.sendall(b"WAIT\r\n")
        client.settimeout(1.0)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 200 << 20:
                sent += client.send(b"GET x\r\n" * 10_000)
        assert node.stats()["servers"]["s"]["inputs"] < 5000


def test_a_client_that_ended_and_is_owed_a_reply_is_given_up(serve: Callable[..., Any]) -> None:
    node = serve(Later, Resp(), half_closed_timeout=0.2)
    with dial(node) as client:
        client.sendall(b"WAIT\r\n")
        client.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionResetError):
            receive_all(client)
    until(node, lambda: node.stats()["connections"]["ended"]["linger"] == 1)


def test_a_start_that_fails_touches_no_socket_of_others(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    def app(path: Path) -> Application:
        return Application(
            "u",
            Supervisor("one_for_one", [Worker("o", Odd)]),
            listeners=[Listener(f"unix://{path}", Resp(), to="o")],
        )

    path = tmp_path / "s"
    start(app(path))
    with pytest.raises(ListenFailed):
        start(app(path))
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    file = tmp_path / "precious.txt"
    file.write_text("keep me")
    with pytest.raises(ListenFailed):
        start(app(file))
    assert file.read_text() == "keep me"


class Forking(GenServer[int, Any, Any]):
    """Its step forks, and the child returns from the step as the parent does."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: Any, state: int) -> tuple[int, Any]:
        if command != "fork":
            return state + 1, state + 1
        return state + 1, os.fork()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_step_that_forks_leaves_one_node(start: Callable[..., Any]) -> None:
    tree = Supervisor("one_for_one", [Worker("odd", Forking)])
    node = start(Application("t", tree))
    child = node.call("odd", "fork")
    assert child > 0
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) >= 0  # it ended by itself, and nobody heard of it
    assert node.call("odd", "next") == 2


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: actions.StartTimer("t", -1, None), "StartTimer: seconds is 0 or more, not -1"),
        (lambda: actions.StartTimer("t", float("nan"), None), "seconds is 0 or more, not nan"),
        (lambda: actions.StartTimer("t", "1", None), "seconds is a number, not '1'"),
        (lambda: actions.StartTimer([], 1, None), "unhashable"),
        (lambda: actions.IdleTimeout(None), "IdleTimeout: seconds is a number, not None"),
        (lambda: actions.Call("a", 1, timeout=-1), "Call: timeout is 0 or more, not -1"),
        (lambda: actions.Call(None, 1), "Call: server is the name of one, not None"),
        (lambda: actions.Cast(b"a", 1), "Cast: server is the name of one, not b'a'"),
        (lambda: actions.Info(7, 1), "Info: server is the name of one, not 7"),
        (lambda: actions.Run("f"), "Run: function is something to call, not 'f'"),
    ],
)
def test_an_action_that_cannot_be_is_refused_where_it_is_made(
    make: Callable[[], Any], words: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(words)):
        make()


class Planner(GenServer[Any, Any, Any]):
    """Asks its supervisor for children from within its hooks."""

    node: Any = None

    def init(self, args: Any) -> Any:
        return None

    def step(self, command: Any, state: Any) -> tuple[Any, Any]:
        if command == "start":
            return state, self.node.start_child("root", Worker("by-step", Odd)) is not None
        return state, self.node.terminate_child("root", "by-step")

    def terminate(self, reason: object, state: Any) -> None:
        assert self.node.start_child("root", Worker("by-terminate", Odd)) is None


def test_children_may_be_asked_for_from_within_hooks(start: Callable[..., Any]) -> None:
    node = start(Application("t", Supervisor("one_for_one", [Worker("planner", Planner)])))
    Planner.node = node
    assert node.call("planner", "start") is True
    assert set(node.names()) == {"planner", "by-step"}
    assert node.call("planner", "stop") is None
    node.terminate_child("root", "planner")
    node.which_children("root")  # whatever was queued before this has been carried out
    assert node.names() == ["by-terminate"]


class Refusing(GenServer[Any, Any, Any]):
    def init(self, args: Any) -> Any:
        if args == "stop":
            return actions.Stop("no license")
        raise ValueError("no database")


@pytest.mark.parametrize(("args", "tracebacks"), [("stop", 0), ("raise", 1)])
def test_a_failed_init_is_told_once(
    start: Callable[..., Any], caplog: pytest.LogCaptureFixture, args: str, tracebacks: int
) -> None:
    caplog.set_level("ERROR", "pybehave.supervisor")
    inner = Supervisor("one_for_one", [Worker("bad", Refusing, args)], id="inner")
    with pytest.raises(StartFailed) as failed:
        start(Application("t", Supervisor("one_for_one", [inner])))
    assert sum(bool(record.exc_info) for record in caplog.records) == tracebacks, caplog.records
    said = "returned Stop('no license')" if args == "stop" else "failed with ValueError"
    assert said in str(failed.value)


@pytest.mark.parametrize("host", ["no.such.host.invalid", "h" * 300, "a..b"])
def test_an_unknown_host_fails_before_anything_starts(start: Callable[..., Any], host: str) -> None:
    begun: list[int] = []

    class Seen(Odd):
        def init(self, args: Any) -> Any:
            begun.append(1)
            return super().init(args)

    listener = Listener(f"tcp://{host}:1", Lines(), to="seen")
    tree = Supervisor("one_for_one", [Worker("seen", Seen)])
    with pytest.raises(SpecError, match="unknown"):
        start(Application("t", tree, listeners=[listener]))
    assert not begun


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("tcp://192.0.2.1:7", "no interface of this machine has that address"),
        ("unix:///dev/null/x", "is no folder; choose another path"),
    ],
)
def test_a_listener_that_cannot_be_says_what_to_do(
    start: Callable[..., Any], url: str, advice: str
) -> None:
    tree = Supervisor("one_for_one", [Worker("odd", Odd)])
    with pytest.raises(ListenFailed, match=advice):
        start(Application("t", tree, listeners=[Listener(url, Lines(), to="odd")]))

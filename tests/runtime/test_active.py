"""A2-8: a server takes what a connection sends when it asks for it: `active` and `Active`."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Any

import pytest

from pybehave import NO_REPLY, Application, GenServer, Listener, Supervisor, Worker
from pybehave.actions import Active, Connect, Connected, Opened, Received, Reply, Send, StartTimer
from pybehave.errors import SpecError
from pybehave.protocols import Lines, Resp
from pybehave.testing import SimDisk, Simulator
from tests.conftest import dial, receive, receive_all


class Asker(GenServer[dict[str, Any], Any, Any]):
    """Takes what comes, and asks for more when it is told to: `("more", mode)`."""

    def init(self, args: Any) -> dict[str, Any]:
        return {"taken": [], "connection": None}

    def handle_call(self, request: Any, caller: Any, state: dict[str, Any]) -> Any:
        match request:
            case "taken":
                return state, list(state["taken"])
            case ("more", "twice the once"):
                return state, None, [Active(state["connection"]), Active(state["connection"])]
            case ("more", mode):
                return state, None, Active(state["connection"], mode)
            case b"crash":
                raise ValueError("as it was told to")
        state["connection"] = self.context.connection
        state["taken"].append(request)
        return state, request

    def handle_info(self, message: Any, state: dict[str, Any]) -> Any:
        if isinstance(message, Opened):
            state["connection"] = message.connection
        return state, None


class Slow(GenServer[list[Any], Any, Any]):
    """Answers each message ten seconds later, and asks for the next one then."""

    def init(self, args: Any) -> list[Any]:
        return []

    def handle_call(self, request: Any, caller: Any, state: list[Any]) -> Any:
        assert not state, "one message at a time"
        state[:] = [request, caller, self.context.connection]
        return state, NO_REPLY, StartTimer("done", 10.0, None)

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        request, caller, connection = state
        state.clear()
        return state, None, [Reply(caller, request), Active(connection)]


LISTEN = "tcp://127.0.0.1:7000"


def lines(kind: type, *, journal: bool = False, **options: Any) -> Application:
    return Application(
        "test",
        Supervisor("one_for_one", [Worker("s", kind, journal=journal)]),
        listeners=[Listener(LISTEN, Lines(), to="s", **options)],
    )


def taken(node: Any) -> Any:
    return node.call("s", "taken")


@pytest.mark.parametrize("worker", [{}, {"journal": True}], ids=["memory", "journal"])
def test_once_hands_on_one_message_for_each_that_is_asked_for(
    serve: Any, worker: dict[str, Any], tmp_path: Any
) -> None:
    node = serve(Asker, Lines(), active="once", worker=worker, loop={"data": str(tmp_path)})
    with dial(node) as client:
        client.sendall(b"1\n2\n3\n4\n")
        assert receive(client, 2) == b"1\n"
        assert taken(node) == [b"1"]
        node.call("s", ("more", "once"))
        assert receive(client, 2) == b"2\n"
        assert taken(node) == [b"1", b"2"]
        node.call("s", ("more", "twice the once"))  # OTP's, too, sets it, and adds nothing
        assert receive(client, 2) == b"3\n"
        assert taken(node) == [b"1", b"2", b"3"]


def test_a_number_is_added_and_true_takes_all(serve: Any) -> None:
    node = serve(Asker, Lines(), active=2)
    with dial(node) as client:
        client.sendall(b"1\n2\n3\n4\n5\n6\n7\n8\n")
        assert receive(client, 4) == b"1\n2\n"
        assert taken(node) == [b"1", b"2"]
        node.call("s", ("more", 1))
        assert receive(client, 2) == b"3\n"
        assert taken(node) == [b"1", b"2", b"3"]
        node.call("s", ("more", True))
        assert receive(client, 10) == b"4\n5\n6\n7\n8\n"


def test_a_passive_connection_hands_on_nothing_until_it_is_asked(serve: Any) -> None:
    node = serve(Asker, Lines(), active=False, events=True)
    with dial(node) as client:
        client.sendall(b"1\n2\n")
        while not node.run_on_loop(lambda: node.loop.stats()["connections"]["recv_bytes"]):
            pass
        assert taken(node) == []
        node.call("s", ("more", "once"))
        assert receive(client, 2) == b"1\n"
        node.call("s", ("more", True))
        assert receive(client, 2) == b"2\n"
        node.call("s", ("more", False))
        client.sendall(b"3\n")
        assert taken(node) == [b"1", b"2"]
        node.call("s", ("more", 1))
        assert receive(client, 2) == b"3\n"


def test_an_answer_of_the_runtime_costs_no_message(serve: Any) -> None:
    class Choosy(Asker):
        accepts = (bytes, str, tuple)

        def validate(self, request: Any, state: Any) -> str | None:
            return "not that" if request == b"bad" else None

    node = serve(Choosy, Lines(), active="once")
    with dial(node) as client:
        client.sendall(b"bad\nbad\n1\n2\n")
        with client.makefile("rb") as answers:
            assert [b"not that" in answers.readline() for _ in range(2)] == [True, True]
            assert answers.readline() == b"1\n"
            assert taken(node) == [b"1"]


def test_messages_that_the_protocol_answers_itself_cost_none(serve: Any) -> None:
    node = serve(Asker, Resp(), active="once")
    with dial(node) as client:
        client.sendall(b"PING\r\nPING\r\nPING\r\n")
        assert receive(client, 21) == b"+PONG\r\n" * 3


def test_the_next_incarnation_gets_the_next_message(serve: Any) -> None:
    node = serve(Asker, Lines(), active="once")
    with dial(node) as first, dial(node) as other, other.makefile("rb") as answers:
        other.sendall(b"1\n2\n")
        assert answers.readline() == b"1\n"  # and is not asked for more
        first.sendall(b"crash\n")
        assert b"crashed" in first.recv(1000)
        assert answers.readline() == b"2\n"
        assert taken(node) == [b"2"]


def test_a_crash_with_the_message_that_was_asked_for_holds_nobody_up(serve: Any) -> None:
    node = serve(Asker, Lines(), active="once")
    with dial(node) as client, client.makefile("rb") as answers:
        client.sendall(b"crash\ncrash\n1\n")
        assert [b"crashed" in answers.readline() for _ in range(2)] == [True, True]
        assert answers.readline() == b"1\n"


@pytest.mark.parametrize("worker", [{}, {"journal": True}], ids=["memory", "journal"])
@pytest.mark.parametrize("active", [True, "once"])
def test_the_next_incarnation_hears_who_was_to_be_silent(
    serve: Any, active: Any, worker: dict[str, Any], tmp_path: Any
) -> None:
    node = serve(Asker, Lines(), active=active, worker=worker, loop={"data": str(tmp_path)})
    with dial(node) as client, dial(node) as other:
        client.sendall(b"1\n")
        assert receive(client, 2) == b"1\n"
        node.call("s", ("more", False))
        other.sendall(b"crash\n")
        assert b"crashed" in other.recv(1000)
        client.sendall(b"2\n")
        assert receive(client, 2) == b"2\n"


def test_a_slow_server_is_read_for_no_further_than_high_water(serve: Any) -> None:
    """Each message that it asks for would bring another chunk otherwise."""
    high = 8192
    node = serve(Asker, Lines(), active="once", high_water_bytes=high, low_water_bytes=high // 2)
    [(_, port)] = node.applications.listening()
    most = 0
    with dial(node) as client:
        for _ in range(400):
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    client.send(b"0123456789abcde\n" * 4096)
            client.settimeout(10.0)
            assert receive(client, 16) == b"0123456789abcde\n"
            node.call("s", ("more", "once"))
            [facts] = node.run_on_loop(lambda: node.loop.dispatcher.clients(port.codec, None, 10))
            most = max(most, facts["input_bytes"])
    assert high // 2 < most < 1 << 20  # what a multishot receive brings before it is cancelled


@pytest.mark.parametrize("is_ended", [False, True], ids=["open", "half-closed"])
def test_a_stop_does_not_wait_for_what_nobody_asks_for(serve: Any, is_ended: bool) -> None:
    node = serve(Asker, Lines(), active="once")
    with dial(node) as client:
        client.sendall(b"1\n2\n")
        if is_ended:
            client.shutdown(socket.SHUT_WR)
        assert receive(client, 2) == b"1\n"
        began = time.monotonic()
        node.stop()
        assert time.monotonic() - began < 5.0  # a drain may take ten seconds
        assert receive_all(client) == b""


@pytest.mark.parametrize(
    "worker", [{"mailbox": 2, "overflow": "reject"}, {"journal": True}], ids=["full", "unfit"]
)
def test_a_message_that_is_lost_makes_no_outbound_connection_silent(
    start: Any, worker: dict[str, Any], tmp_path: Any
) -> None:
    """Its server cannot ask for the next one: it has not heard of this one."""

    class Client(GenServer[list[Any], Any, Any]):
        def init(self, args: Any) -> Any:
            return [], Connect(args, Lines(frame_bytes_max=4 << 20), "out", active="once")

        def handle_call(self, request: Any, caller: Any, state: list[Any]) -> Any:
            return state, list(state)

        def handle_cast(self, message: Any, state: list[Any]) -> Any:
            return state, None

        def handle_info(self, message: Any, state: list[Any]) -> Any:
            if isinstance(message, Received):
                return [*state, message.message], None
            return [type(message).__name__], None

    journaled = Worker("other", Asker, journal=True)  # else the node keeps no journal
    node = start(Application("test", Supervisor("one_for_one", [journaled])), data=str(tmp_path))

    def wait_for(expected: list[Any]) -> None:
        deadline = time.monotonic() + 20.0
        while node.call("out", "got") != expected:
            assert time.monotonic() < deadline

    with socket.create_server(("127.0.0.1", 0)) as there:
        url = f"tcp://127.0.0.1:{there.getsockname()[1]}"
        node.start_child("root", Worker("out", Client, url, **worker))
        peer, _ = there.accept()
        with peer:
            wait_for(["Connected"])
            if "mailbox" in worker:
                node.sys.suspend("out")
                for _ in range(2):
                    node.cast("out", "it is full now")
                node.run_on_loop(lambda: None)  # behind them
                peer.sendall(b"1\n")
                while not node.loop.stats()["loop"]["overloaded"]:
                    pass
                node.sys.resume("out")
                wait_for(["Connected"])
                peer.sendall(b"2\n")
            else:  # no record of this journal holds the first
                peer.sendall(b"1" * 2_000_000 + b"\n2\n")
            wait_for(["Connected", b"2"])


def test_an_outbound_connection_can_be_asked_too(serve: Any) -> None:
    class Client(GenServer[list[Any], Any, Any]):
        def init(self, args: Any) -> Any:
            return [], Connect(args, Lines(), "out", active="once")

        def handle_call(self, request: Any, caller: Any, state: list[Any]) -> Any:
            if request == "more":
                return state, None, Active(state[0])
            return state, [each.message for each in state[1:]]

        def handle_info(self, message: Any, state: list[Any]) -> Any:
            if isinstance(message, Connected):
                return [message.connection], None, Send(message.connection, [b"1", b"2", b"3"])
            return [*state, message], None

    class Echo(GenServer[None, Any, Any]):
        def step(self, command: Any, state: None) -> Any:
            return state, command

    node = serve(Echo, Lines())
    node.start_child("root", Worker("out", Client, node.urls[0]))
    for expected in ([b"1"], [b"1", b"2"], [b"1", b"2", b"3"]):
        while len(got := node.call("out", "got")) < len(expected):
            pass
        assert got == expected
        node.call("out", "more")
    assert Received  # what comes over it is told as an info


# --- on the simulator ---------------------------------------------------------------------------


@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
@pytest.mark.parametrize("seed", range(5))
def test_a_server_that_works_on_each_message_gets_one_at_a_time(journal: bool, seed: int) -> None:
    app = lines(Slow, journal=journal, active="once")
    disk = SimDisk() if journal else None
    with Simulator(seed=seed, app=app, shake=True, disk=disk) as world:
        client = world.connect()
        asked = b"".join(b"%d\n" % number for number in range(20))
        client.send(asked)
        world.run_until(lambda: bytes(client.received) == asked, within=400.0)


def test_what_is_not_asked_for_holds_the_client_up() -> None:
    app = lines(Asker, active="once")
    with Simulator(seed=1, app=app) as world:
        client = world.connect()
        client.send(b"x" * 1000 + b"\n")
        client.send(b"y\n" * 500_000)
        world.run(60.0)
        assert bytes(client.received) == b"x" * 1000 + b"\n"
        assert len(client.unsent) > 500_000
        assert world.node.call("s", "taken") == [b"x" * 1000]


def test_what_came_before_the_end_is_still_handed_on() -> None:
    """A client asks, ends its side and waits, longer than `linger`: that is not its doing."""
    app = lines(Slow, active="once", linger=1.0)
    with Simulator(seed=2, app=app) as world:
        client = world.connect()
        client.send(b"1\n2\n3\n4\n")
        client.shutdown()
        world.run_until(lambda: client.state == "ended", within=200.0)
        assert bytes(client.received) == b"1\n2\n3\n4\n"


@pytest.mark.parametrize("journal", [False, True], ids=["memory", "journal"])
@pytest.mark.parametrize("is_ended", [False, True], ids=["open", "half-closed"])
def test_what_nobody_has_asked_for_moves_to_another_process(journal: bool, is_ended: bool) -> None:
    app = lines(Asker, journal=journal, active="once")
    disk = SimDisk() if journal else None
    with Simulator(seed=3, app=app, disk=disk) as world:
        client = world.connect()
        client.send(b"1\n2\n3\n")
        if is_ended:
            client.shutdown()
        world.run(5.0)
        assert bytes(client.received) == b"1\n"
        loop, [(_, port)] = world.node.loop, world.node.applications.listening()
        world.run_until(lambda: loop.hold([port]) == 0, within=1.0)
        assert [carry for _, _, carry, _ in loop.held(port)] == [b"2\n3\n"]
        loop.let_go([port])
        assert world.node.call("s", ("more", True)) is None
        world.run_until(lambda: bytes(client.received) == b"1\n2\n3\n", within=5.0)
        world.run(5.0)
        assert (client.state == "ended") is is_ended


# --- mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0, -1, 40_000, "twice", None, 1.0])
def test_a_mode_that_is_none_is_refused_at_the_door(mode: Any) -> None:
    with pytest.raises(TypeError, match=r'Active: mode is True, False, "once" or a number from 1'):
        Active(object(), mode)
    with pytest.raises(SpecError, match=r'active=.* is not allowed; use True, False, "once"'):
        Listener(LISTEN, Lines(), to="s", active=mode)


def test_a_passive_listener_needs_events() -> None:
    with pytest.raises(SpecError, match="active=False is not allowed without events=True"):
        Listener(LISTEN, Lines(), to="s", active=False)


def test_asking_a_connection_that_has_gone_does_nothing(serve: Any) -> None:
    node = serve(Asker, Lines(), active="once")
    with dial(node) as client:
        client.sendall(b"1\n")
        assert receive(client, 2) == b"1\n"
        client.shutdown(1)
        assert receive_all(client) == b""
    assert node.call("s", ("more", "once")) is None

"""A new incarnation is told `Opened` of the connections that stand, before it hears from them."""

from __future__ import annotations

from typing import Any

import pytest

from examples import chat
from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.actions import Closed, Opened
from pybehave.protocols import Lines
from pybehave.testing import SimDisk, Simulator
from pybehave.testing.simulate import Client


class Witness(GenServer[dict[str, str], Any, Any]):
    """Writes down what it is told, and knows its connections by their ids."""

    def init(self, args: list[str] | None) -> dict[str, str]:
        self.log = args
        return {}

    def step(self, command: str, state: dict[str, str]) -> Any:
        if command == "boom":
            raise ValueError("a deliberate bug")
        if command == "known":
            return state, sorted(state)
        connection: Any = self.context.connection
        self._say(f"{command} from {connection.id}")
        return state, "ok"

    def handle_info(self, message: Any, state: dict[str, str]) -> Any:
        match message:
            case Opened(connection):
                self._say(f"opened {connection.id}")
                state[connection.id] = "open"
            case Closed(connection, _):
                self._say(f"closed {connection.id}")
                del state[connection.id]
        return state, None

    def _say(self, line: str) -> None:
        if self.log is not None:
            self.log.append(line)


class Allergic(Witness):
    """Crashes when the second connection is told."""

    def handle_info(self, message: Any, state: dict[str, str]) -> Any:
        if isinstance(message, Opened) and message.connection.id == "1.1":
            raise ValueError("a deliberate bug")
        return super().handle_info(message, state)


def witnessed(server: type[GenServer[Any, Any, Any]], args: Any, **worker: Any) -> Application:
    return Application(
        "app",
        Supervisor("one_for_one", [Worker("s", server, args, **worker)]),
        listeners=[Listener("tcp://127.0.0.1:1", Lines("utf-8"), to="s", events=True)],
    )


def connected(world: Simulator, count: int) -> list[Client]:
    """So many clients, accepted in this order."""
    clients = []
    for _ in range(count):
        clients.append(world.connect())
        world.run(1)
    return clients


def told_after_a_crash() -> list[str]:
    log: list[str] = []
    with Simulator(1, witnessed(Witness, log)) as world:
        clients = connected(world, 3)
        log.clear()
        clients[1].send(b"boom\nbehind\n")  # the second one stands in the same bytes
        clients[0].send(b"first\n")
        world.run(1)
        clients[2].close()
        world.run(1)
    return log[:6]


def test_a_restarted_server_is_told_of_them_in_order_and_before_their_messages() -> None:
    log = told_after_a_crash()
    assert log[:3] == ["opened 0.1", "opened 1.1", "opened 2.1"]
    assert sorted(log[3:5]) == ["behind from 1.1", "first from 0.1"]
    assert log[5] == "closed 2.1"
    assert log == told_after_a_crash()


def test_a_restarted_child_hears_of_who_came_and_not_of_who_went_meanwhile() -> None:
    log: list[str] = []
    with Simulator(2, witnessed(Witness, log)) as world:
        clients = connected(world, 2)
        world.node.terminate_child("root", "s")
        clients += connected(world, 1)
        clients[0].close()
        world.run(1)
        log.clear()
        world.node.restart_child("root", "s")
        world.run(1)
        clients[1].close()
        world.run(1)
    assert log[:3] == ["opened 1.1", "opened 2.1", "closed 1.1"]


def test_one_whose_opened_was_a_crash_is_not_told_again() -> None:
    """Each incarnation would end with it, and the supervisor give up."""
    log: list[str] = []
    with Simulator(3, witnessed(Allergic, log)) as world:
        clients = connected(world, 3)
        assert world.node.call("s", "known") == ["0.1", "2.1"]
        clients[1].close()
        world.run(1)
        assert world.node.call("s", "known") == ["0.1", "2.1"]
        assert "closed 1.1" not in log


def test_a_journaled_server_knows_them_and_hears_of_those_that_came_meanwhile() -> None:
    app = witnessed(Witness, None, journal=True)
    with Simulator(4, app, disk=SimDisk()) as world:
        clients = connected(world, 2)
        clients[0].send(b"boom\n")
        world.run(1)
        assert world.node.call("s", "known") == ["0.1", "1.1"]
        world.node.terminate_child("root", "s")
        connected(world, 1)
        world.node.restart_child("root", "s")
        world.run(1)
        assert world.node.call("s", "known") == ["0.1", "1.1", "2.1"]
        server = world.node.loop.dispatcher.whereis("s")
        assert server is not None and server.inputs == 2, "the new one, and the question"


def test_a_journaled_server_hears_first_of_those_that_went_meanwhile() -> None:
    """They stayed in its state for ever."""
    log: list[str] = []
    with Simulator(8, witnessed(Witness, log, journal=True), disk=SimDisk()) as world:
        clients = connected(world, 3)
        world.node.terminate_child("root", "s")
        clients[2].close()
        world.run(1)
        clients[0].close()
        world.run(1)
        connected(world, 1)
        log.clear()
        world.node.restart_child("root", "s")
        world.run(1)
        assert log == ["closed 2.1", "closed 0.1", "opened 0.2"]
        assert world.node.call("s", "known") == ["0.2", "1.1"]
        world.node.terminate_child("root", "s")
        world.node.restart_child("root", "s")
        world.run(1)
        assert world.node.call("s", "known") == ["0.2", "1.1"]
        assert len(log) == 3, "once"


@pytest.mark.parametrize("recovery", ["last_good", "clean"])
def test_a_crash_keeps_no_end_from_a_journaled_server(recovery: Any) -> None:
    log: list[str] = []
    app = witnessed(Witness, log, journal=True, recovery=recovery)
    with Simulator(9, app, disk=SimDisk()) as world:
        clients = connected(world, 2)
        world.node.sys.suspend("s")
        world.node.cast("s", "boom")
        clients[0].close()
        world.run(1)
        log.clear()
        world.node.sys.resume("s")
        world.run(1)
        assert log.count("closed 0.1") == (recovery == "last_good")
        assert log[-1] == ("closed 0.1" if recovery == "last_good" else "opened 1.1")
        assert world.node.call("s", "known") == ["1.1"]


def test_nor_of_one_that_has_come_and_gone_or_that_it_has_crashed_on() -> None:
    log: list[str] = []
    with Simulator(10, witnessed(Allergic, log, journal=True), disk=SimDisk()) as world:
        connected(world, 1)
        world.node.sys.suspend("s")
        coming = connected(world, 3)
        for client in coming[:2]:
            client.close()
            world.run(1)
        log.clear()
        world.node.sys.resume("s")
        world.run(1)
        assert not any(line.startswith("closed") for line in log)
        assert log[-1] == "opened 3.1"
        assert world.node.call("s", "known") == ["0.1", "3.1"]


def test_a_journaled_server_hears_of_those_that_a_crash_kept_from_it() -> None:
    """They stood in its mailbox, and counted as told. The one whose `Opened` was the crash is not
    told again, nor of its end.
    """
    log: list[str] = []
    app = witnessed(Allergic, log, journal=True)
    with Simulator(7, app, disk=SimDisk()) as world:
        world.node.terminate_child("root", "s")
        clients = connected(world, 5)
        world.node.restart_child("root", "s")
        world.run(1)
        assert world.node.call("s", "known") == ["0.1", "2.1", "3.1", "4.1"]
        clients[1].close()
        clients[3].close()
        world.run(1)
        assert world.node.call("s", "known") == ["0.1", "2.1", "4.1"]
        assert "closed 1.1" not in log


def test_a_journaled_server_that_begins_clean_is_told_of_all() -> None:
    app = witnessed(Witness, None, journal=True, recovery="clean")
    with Simulator(5, app, disk=SimDisk()) as world:
        clients = connected(world, 2)
        clients[0].send(b"boom\n")
        world.run(1)
        assert world.node.call("s", "known") == ["0.1", "1.1"]
        clients[1].close()
        world.run(1)
        assert world.node.call("s", "known") == ["0.1"]


class Fragile(chat.Chat):
    """The example, with a bug."""

    def step(self, command: str, state: chat.Room) -> Any:
        if command == "/crash":
            raise ValueError("a deliberate bug")
        return super().step(command, state)


@pytest.mark.parametrize("journal", [False, True])
def test_talk_in_the_chat_room_goes_on_after_a_crash(journal: bool) -> None:
    """Who had not crashed it was a ghost: he heard nothing, and what he said was taken for his
    name.
    """
    app = Application(
        "chat",
        Supervisor("one_for_one", [Worker("chat", Fragile, journal=journal)]),
        listeners=chat.app.listeners,
    )
    with Simulator(6, app, disk=SimDisk() if journal else None) as world:
        people = {name: world.connect() for name in ("ann", "bob", "cid")}
        for name, client in people.items():
            client.send(name.encode() + b"\n")
            world.run(1)
        people["ann"].send(b"/crash\n")
        world.run(1)
        for name, client in people.items():
            assert client.take().endswith(b"your name?\n") is not journal
            client.send(b"" if journal else name.encode() + b"\n")
            world.run(1)
        people["bob"].send(b"still here?\n")
        world.run(1)
        assert all(each.take().endswith(b"bob: still here?\n") for each in people.values())
        people["cid"].close()
        world.run(1)
        assert people["ann"].take() == b"* cid left\n"

"""The simulator itself, as its users see it: virtual time, clients, weather, repeatability."""

from random import Random
from typing import Any

import pytest

from pybehave.actions import Connect, Connected, ConnectFailed, Received, Send, StartTimer
from pybehave.behaviours.application import Application
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.supervisor import Supervisor
from pybehave.listener import Listener
from pybehave.protocols import Lines
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Client, Simulator

URL = "tcp://127.0.0.1:7000"
REMOTE = "tcp://127.0.0.1:5432"


class Echo(GenServer[int, bytes, bytes]):
    """Counts and echoes."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: bytes, state: int) -> Any:
        if command == b"crash":
            raise ValueError(command)
        return state + 1, command

    def handle_info(self, message: Any, state: int) -> Any:
        return state + 1, None


class Clock(Echo):
    """Ticks once a second, and says when."""

    def init(self, args: Any) -> Any:
        return [], StartTimer("tick", 1.0, "tick")

    def step(self, command: bytes, state: Any) -> Any:
        return state, state

    def handle_info(self, message: Any, state: Any) -> Any:
        return [*state, self.context.monotonic], None, StartTimer("tick", 1.0, "tick")


class Caller(Echo):
    """Connects to a remote server and remembers what comes of it."""

    def init(self, args: Any) -> Any:
        return [], Connect(REMOTE, Lines(), tag="remote")

    def step(self, command: bytes, state: Any) -> Any:
        return state, state

    def handle_info(self, message: Any, state: Any) -> Any:
        state.append(message)
        if isinstance(message, Connected):
            return state, None, Send(message.connection, b"hello")
        return state, None


def simulate(server: type[GenServer[Any, Any, Any]], seed: int = 1, **options: Any) -> Simulator:
    tree = Supervisor("one_for_one", [Worker("server", server)])
    app = Application("app", tree, listeners=[Listener(URL, Lines(), to="server")])
    return Simulator(seed, app, **options)


def test_a_client_is_answered() -> None:
    with simulate(Echo) as world:
        client = world.connect()
        client.send(b"hello\n")
        world.run_until(lambda: client.received)
        assert client.take() == b"hello\n"


def test_an_hour_of_timers_passes_in_a_moment() -> None:
    with simulate(Clock) as world:
        started = world.now
        world.run(3600.5)
        ticks = world.node.call("server", b"")
        assert len(ticks) == 3600
        assert ticks[-1] - started == pytest.approx(3600, abs=0.5)


def test_run_stops_at_the_virtual_moment() -> None:
    with simulate(Echo) as world:
        started = world.now
        world.run(12.5)
        assert world.now - started == pytest.approx(12.5, abs=1e-4)


def test_run_until_gives_up_and_names_the_seed() -> None:
    with simulate(Echo, seed=77) as world, pytest.raises(TimeoutError, match="seed 77"):
        world.run_until(lambda: False, within=1.0)


def test_after_runs_in_order_of_time_then_of_age() -> None:
    ran: list[str] = []
    with simulate(Echo) as world:
        world.after(2.0, lambda: ran.append("c"))
        world.after(1.0, lambda: ran.append("a"))
        world.after(1.0, lambda: ran.append("b"))
        world.run(3.0)
    assert ran == ["a", "b", "c"]


def test_a_client_that_waits_for_each_answer() -> None:
    with simulate(Echo) as world:
        end = world.now + 1.0
        client = world.connect()
        client.on_data = lambda c: c.send(c.take() if world.now < end else b"")
        client.send(b"ball\n")
        world.run(2.0)
        assert world.node.get_state("server") > 1000


def test_what_does_not_fit_the_window_follows_by_itself() -> None:
    with simulate(Echo) as world:
        world.network.set(window_bytes=100)
        client = world.connect()
        client.send(b"x" * 5000 + b"\n")
        assert client.unsent
        world.run_until(lambda: len(client.received) == 5001)
        assert not client.unsent


def test_a_slow_client_holds_up_only_itself() -> None:
    with simulate(Echo) as world:
        world.network.set(window_bytes=1000)
        slow, quick = world.connect(), world.connect()
        slow.pause()
        slow.send(b"y" * 50_000 + b"\n")
        quick.send(b"z\n")
        world.run_until(lambda: quick.received)
        world.run(1.0)
        assert not slow.received
        slow.resume()
        world.run_until(lambda: len(slow.received) == 50_001)


def test_half_close_still_gets_the_answer_then_the_end() -> None:
    with simulate(Echo) as world:
        client = world.connect()
        client.send(b"last\n")
        client.shutdown()
        world.run_until(lambda: client.state == "ended")
        assert client.take() == b"last\n"


def test_a_crash_is_answered_and_the_server_starts_again() -> None:
    with simulate(Echo) as world:
        client = world.connect()
        client.send(b"a\ncrash\nb\n")
        world.run_until(lambda: client.received.count(b"\n") == 3)
        assert b"crashed" in client.take().splitlines()[1]
        assert world.node.whereis("server") == 2
        assert world.node.get_state("server") == 1


def test_stop_answers_what_was_read_and_closes() -> None:
    world = simulate(Echo).start()
    client = world.connect()
    client.send(b"bye\n")
    world.run_until(lambda: client.received)
    census = world.network.census()
    assert census["descriptors"] == 1
    assert world.stop() == 0


def test_the_end_of_an_application_shows_in_its_status() -> None:
    world = simulate(Echo).start()
    client = world.connect()
    client.send(b"crash\n" * 5)
    world.run(1.0)
    assert not world.is_running
    assert world.stop() == 1


def test_nobody_listens() -> None:
    with simulate(Echo) as world:
        client = world.connect(("127.0.0.1", 9))
        world.run(1.0)
        assert client.state == "refused"


def outcome(answer: Any, seconds: float) -> list[Any]:
    world = simulate(Caller)
    if answer is not None:
        world.network.listen(REMOTE, answer)
    with world:
        world.run(seconds)
        result: list[Any] = world.node.call("server", b"")
        return list(result)


@pytest.mark.parametrize("answer", ["refuse", None])
def test_a_refused_connect_comes_back_as_an_info(answer: str | None) -> None:
    [info] = outcome(answer, 1.0)
    assert isinstance(info, ConnectFailed)
    assert isinstance(info.error, ConnectionRefusedError)


def test_a_connect_to_silence_times_out_as_the_kernel_does() -> None:
    assert outcome("silence", 100.0) == []
    [info] = outcome("silence", 200.0)
    assert isinstance(info, ConnectFailed)
    assert isinstance(info.error, TimeoutError)


def test_the_application_talks_to_a_remote_server() -> None:
    remotes: list[Client] = []
    world = simulate(Caller)
    world.listen(REMOTE, remotes.append)
    with world:
        world.run_until(lambda: remotes and remotes[0].received)
        assert remotes[0].take() == b"hello\n"
        remotes[0].send(b"welcome\n")
        world.run(1.0)
        connected, received = world.node.call("server", b"")
        assert isinstance(connected, Connected)
        assert isinstance(received, Received)
        assert received.message == b"welcome"


def test_the_same_seed_gives_the_same_run() -> None:
    def run(seed: int) -> int:
        with simulate(Echo, seed=seed, shake=True) as world:
            clients = [world.connect() for _ in range(5)]
            for client in clients:
                client.send(b"one\ntwo\nthree\n")
            world.run(10.0)
            return world.trace_hash

    assert run(5) == run(5)
    assert run(5) != run(6)


@pytest.mark.parametrize("is_cut", [False, True])
def test_the_hash_of_the_run_is_there_when_it_is_over(is_cut: bool) -> None:
    def run(seed: int) -> int:
        listener = Listener("tcp://127.0.0.1:7000", Lines(), to="echo")
        tree = Supervisor("one_for_one", [Worker("echo", Echo)])
        app = Application("t", tree, listeners=[listener])
        with Simulator(seed, app, disk=SimDisk(seed)) as world:
            world.connect().send(b"one\n")
            world.run(1.0)
            if is_cut:
                world.lose_power(Random(seed))
        return world.trace_hash

    assert run(5) == run(5) != 0


def test_the_trace_tells_every_act() -> None:
    with simulate(Echo) as world:
        world.network.keep_trace()
        client = world.connect()
        client.send(b"hello\n")
        world.run(1.0)
        acts = [record[1] for record in world.network.trace()]
        assert acts == ["completion", "recv", "completion", "send", "completion"]

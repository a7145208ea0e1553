"""What the Simulator tells a test whose condition does not come to hold."""

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.protocols import Lines
from pybehave.testing import Simulator


class Echo(GenServer[None, bytes, bytes]):
    def step(self, command: bytes, state: None) -> tuple[None, bytes]:
        return state, command


@pytest.fixture
def app() -> Application:
    return Application(
        "echo",
        Supervisor("one_for_one", [Worker("echo", Echo)]),
        listeners=[Listener("tcp://127.0.0.1:7000", Lines(), to="echo")],
    )


def test_a_condition_that_never_holds_names_the_seed(app: Application) -> None:
    with Simulator(7, app) as sim, pytest.raises(TimeoutError) as timeout:
        sim.connect().send(b"hello\n")
        sim.run_until(lambda: False, within=1.0)
    assert str(timeout.value) == "nothing came of it within 1 virtual seconds; seed 7"


def test_connections_that_are_gone_are_named(app: Application) -> None:
    with Simulator(7, app) as sim:
        clients = [sim.connect(), sim.connect(), sim.connect("tcp://127.0.0.1:1")]
        clients[0].send(b"hello\n")
        sim.run_until(lambda: clients[0].received)
        clients[1].send(b"never answered " * 100_000)  # longer than a line may be
        with pytest.raises(TimeoutError, match="; of the connections 1 is") as timeout:
            sim.run_until(lambda: False, within=40.0)
        assert str(timeout.value).endswith(f"1 is {clients[1].state}, 2 is refused")

"""What the Simulator tells a test whose condition does not come to hold; what its disks hold."""

import pytest

from pybehave import Application, GenServer, Listener, Supervisor, Worker
from pybehave.errors import RecordTooLarge
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.testing import SimDisk, Simulator


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


class Length(GenServer[int, str, int]):
    def init(self, args: object) -> int:
        return 0

    def step(self, command: str, state: int) -> tuple[int, int]:
        return len(command), state


def test_inputs_beyond_4_mib_need_the_options_of_a_node() -> None:
    app = Application("t", Supervisor("one_for_one", [Worker("a", Length, journal=True)]))
    large = "x" * (5 << 20)
    with Simulator(1, app, disk=SimDisk(1)) as sim, pytest.raises(RecordTooLarge):
        sim.node.call("a", large)
    with Simulator(1, app, disk=SimDisk(1), journal_options=Options()) as sim:
        sim.node.call("a", large)
        assert sim.node.call("a", "") == len(large)

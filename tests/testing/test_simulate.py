"""What the Simulator tells a test whose condition does not come to hold; what its disks hold."""

from random import Random
from typing import ClassVar

import pytest

from pybehave import Application, GenServer, Listener, Node, Supervisor, Worker, testing
from pybehave.errors import Crashed, LoopClosed, RecordTooLarge, SpecError
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


class Noted(GenServer[None, str, None]):
    ends: ClassVar[list[str]] = []

    def init(self, args: object) -> None:
        return None

    def step(self, command: str, state: None) -> tuple[None, None]:
        raise ValueError(command)

    def terminate(self, reason: object, state: None) -> None:
        self.ends.append(self.context.name)


def test_what_was_not_started_says_so_at_once(app: Application) -> None:
    sim = Simulator(1, app)
    for act in (sim.connect, lambda: sim.run(1), lambda: sim.node.call("echo", b"x", timeout=None)):
        with pytest.raises(LoopClosed, match=r"has not begun; use it in a `with` block"):
            act()  # type: ignore[no-untyped-call]
    sim.start().stop()


def test_without_a_disk_no_power_is_lost(app: Application) -> None:
    with Simulator(1, app) as sim, pytest.raises(ValueError, match=r"disk=SimDisk\(seed\)"):
        sim.lose_power(Random(1))


def test_without_listeners_nobody_connects(app: Application) -> None:
    mute = Application("mute", app.tree)
    with Simulator(1, mute) as sim, pytest.raises(ValueError, match="'mute' has no listeners"):
        sim.connect()


def test_only_an_application_is_simulated() -> None:
    with pytest.raises(SpecError, match="app=5 is not allowed; use an Application"):
        Simulator(1, 5)  # type: ignore[arg-type]


def test_a_node_is_where_the_guides_say(app: Application) -> None:
    assert type(Simulator(1, app).node) is Node


def test_all_names_are_listed() -> None:
    assert set(testing.__all__) <= set(dir(testing))


def test_the_node_ends_with_a_permanent_application_that_gives_up() -> None:
    own = Application("own", Supervisor("one_for_one", [Worker("a", Noted)]))
    tree = Supervisor("one_for_one", [Worker("b", Noted)], intensity=0)
    with Simulator(1, own) as sim:
        sim.node.start_application(Application("needed", tree), "permanent")
        assert sim.is_running
        Noted.ends.clear()
        with pytest.raises(Crashed):
            sim.node.call("b", "a bug")
        before = sim.now
        sim.run(60.0)
        assert not sim.is_running
        assert sim.now - before < 1.0
        assert sim.stop() == 1
        assert Noted.ends == ["b", "a"]


def test_the_node_goes_on_without_a_temporary_application() -> None:
    own = Application("own", Supervisor("one_for_one", [Worker("a", Noted)]))
    tree = Supervisor("one_for_one", [Worker("b", Noted)], intensity=0)
    with Simulator(1, own) as sim:
        sim.node.start_application(Application("spare", tree), "temporary")
        with pytest.raises(Crashed):
            sim.node.call("b", "a bug")
        sim.run(60.0)
        assert sim.is_running
        assert sim.node.names() == ["a"]

"""What survives a crash, by where it happens: one test for each cell of docs/concepts/durable.md.

The process ends in the middle of a callback: the disk is taken as it is at that moment, and the
next start finds nothing else. Killed, all that was written is there; in a power cut only what is
durable, and some of the rest.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.actions import Cast, Run, RunFailed, Send
from pybehave.errors import Crashed, JobLost, NonDeterminism, StartFailed
from pybehave.journal.recovery import Options
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator

OPTIONS = Options(segment_bytes=64 << 10)


class Moment:
    """Something to happen in a callback, once.

    Attributes:
        disks: The disk at that moment, when the process ends there.
    """

    def __init__(self) -> None:
        self.place = ""
        self.what: Callable[[], None] = lambda: None
        self.disks: list[SimDisk] = []

    def comes(self, place: str) -> None:
        if place == self.place:
            self.place = ""
            self.what()


MOMENT = Moment()


class Fragile(GenServer[list[Any], Any, Any]):
    """Keeps what it hears, and comes by the moment everywhere."""

    def init(self, args: Any) -> list[Any]:
        MOMENT.comes("init")
        return []

    def step(self, command: Any, state: list[Any]) -> Any:
        MOMENT.comes("callback")
        state.append(command)
        if command == "act":
            nowhere: Any = None
            return state, "done", [Cast("other", "before"), Send(nowhere, b""), Cast("other", "")]
        if command == "run":
            return state, "done", Run(job, tag="job")
        if command == "run again":
            return state, "done", Run(job, tag="job", idempotent=True)
        return state, len(state)

    def handle_info(self, message: Any, state: list[Any]) -> Any:
        if isinstance(message, RunFailed):
            assert isinstance(message.error, JobLost)
            return [*state, "lost"], None
        return [*state, message.value], None

    def terminate(self, reason: Any, state: list[Any]) -> Any:
        MOMENT.comes("terminate")


def job() -> str:
    MOMENT.comes("effect")
    return "result"


def world_on(disk: SimDisk) -> Simulator:
    children = [Worker(name, Fragile, journal=True) for name in ("other", "server")]
    tree = Supervisor("one_for_one", children, id="root", intensity=100)
    return Simulator(1, Application("t", tree), disk=disk, journal_options=OPTIONS)


def states(disk: SimDisk) -> tuple[list[Any], list[Any]]:
    """What `server` and `other` know after the next start, a moment later."""
    with world_on(disk) as world:
        world.run(1.0)
        node = world.node
        return node.get_state("server"), node.get_state("other")


def raises() -> None:
    raise ValueError("a deliberate bug")


@pytest.fixture(autouse=True)
def moment() -> Moment:
    MOMENT.__init__()  # type: ignore[misc]
    return MOMENT


@pytest.fixture(params=["killed", "power cut"])
def end(request: Any, moment: Moment) -> Callable[[SimDisk, str], None]:
    """Let the process end at a place: `end(disk, place)`."""

    def end(disk: SimDisk, place: str) -> None:
        def take() -> None:
            cut = request.param == "power cut"
            moment.disks.append(disk.cut(random.Random(1)) if cut else disk.copy())

        moment.place, moment.what = place, take

    return end


End = Callable[[SimDisk, str], None]


# --- init -----------------------------------------------------------------------------------------


def test_an_exception_in_the_first_init_leaves_nothing(moment: Moment) -> None:
    disk = SimDisk(1)
    moment.place, moment.what = "init", raises
    with pytest.raises(StartFailed), world_on(disk):
        pass
    assert states(disk) == ([], [])


def test_an_end_in_the_first_init_leaves_nothing(moment: Moment, end: End) -> None:
    disk = SimDisk(1)
    end(disk, "init")
    with world_on(disk):
        assert len(moment.disks) == 1
    assert states(moment.disks[0]) == ([], [])


def test_an_exception_in_a_later_init_keeps_the_state(moment: Moment) -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        world.node.call("server", "kept")
        moment.place, moment.what = "init", raises
        with pytest.raises(StartFailed):
            world.node.restart("root", "server")
        world.node.restart_child("root", "server")
        assert world.node.get_state("server") == ["kept"]
    assert states(disk)[0] == ["kept"]


def test_an_end_in_a_later_init_keeps_the_state(moment: Moment, end: End) -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        world.node.call("server", "kept")
        end(disk, "init")
        world.node.restart("root", "server")
    assert states(moment.disks[0])[0] == ["kept"]


# --- a callback -----------------------------------------------------------------------------------


def test_an_exception_in_a_callback_keeps_the_state_before_its_input(moment: Moment) -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        world.node.call("server", "kept")
        moment.place, moment.what = "callback", raises
        with pytest.raises(Crashed):
            world.node.call("server", "poison")
        world.run(1.0)
        assert world.node.get_state("server") == ["kept"]
        assert len(disk.names_below("dead-letters")) == 1
    assert states(disk)[0] == ["kept"]


def test_an_end_in_a_callback_keeps_the_state_before_its_input(moment: Moment, end: End) -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        world.node.call("server", "kept")
        end(disk, "callback")
        world.node.call("server", "without a reply")
    assert states(moment.disks[0])[0] == ["kept"]


# --- an action ------------------------------------------------------------------------------------


def test_an_action_that_cannot_be_carried_out_is_a_crash_of_its_step(end: End) -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        world.node.call("server", "kept")
        with pytest.raises(Crashed):
            world.node.call("server", "act")
        end(disk, "callback")
        world.run(1.0)
        assert world.node.get_state("server") == ["kept"]
        assert world.node.get_state("other") == []
        assert len(disk.names_below("dead-letters")) == 1
        world.node.call("server", "without a reply")
    for found in (disk, *MOMENT.disks):
        assert states(found)[0][:1] == ["kept"]
        assert "act" not in states(found)[0]
        assert states(found)[1] == []


def test_an_end_while_an_effect_is_under_way_is_told_once(moment: Moment, end: End) -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        world.node.call("server", "kept")
        end(disk, "effect")
        world.node.call("server", "run")
        world.run(1.0)
        assert world.node.get_state("server") == ["kept", "run", "result"]
    for _ in range(2):
        assert states(moment.disks[0])[0] == ["kept", "run", "lost"]


def test_an_effect_that_may_come_twice_does(moment: Moment, end: End) -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        end(disk, "effect")
        world.node.call("server", "run again")
        world.run(1.0)
    assert states(moment.disks[0])[0] == ["run again", "result"]


# --- terminate, restart ---------------------------------------------------------------------------


def test_an_exception_in_terminate_keeps_the_state(moment: Moment) -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        world.node.call("server", "kept")
        moment.place, moment.what = "terminate", raises
        world.node.restart("root", "server")
        assert world.node.get_state("server") == ["kept"]
    assert states(disk)[0] == ["kept"]


def test_an_end_in_terminate_keeps_the_state(moment: Moment, end: End) -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        world.node.call("server", "kept")
        end(disk, "terminate")
        world.node.restart("root", "server")
    assert states(moment.disks[0])[0] == ["kept"]


def test_F34_an_exception_while_inputs_are_stepped_again_changes_nothing(moment: Moment) -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        world.node.call("server", "kept")
    moment.place, moment.what = "callback", raises
    with pytest.raises(NonDeterminism), world_on(disk):
        pass
    assert states(disk)[0] == ["kept"]


def test_an_end_while_inputs_are_stepped_again_changes_nothing(moment: Moment, end: End) -> None:
    disk = SimDisk(1)
    with world_on(disk) as world:
        world.node.call("server", "kept")
        world.node.call("server", "too")
    end(disk, "callback")
    assert states(disk)[0] == ["kept", "too"]
    assert states(moment.disks[0])[0] == ["kept", "too"]

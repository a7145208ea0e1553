"""`init(args, recovery)`: what it is told, that its choice counts, and that it is durable."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pybehave import (
    Application,
    GenServer,
    GenStatem,
    Listener,
    Recovery,
    Rollback,
    Supervisor,
    Worker,
    actions,
)
from pybehave.errors import Crashed, NoProc, StartFailed, StateNotKept
from pybehave.journal import dead_letters
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.statem import NextState, StateTimeout
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.conftest import kept_by
from tests.power.machine import wait_for
from tests.processes import run

TCP = "tcp://127.0.0.1:7000"
OPTIONS = Options(segment_bytes=64 << 10)

Choose = Callable[[Recovery[Any] | None], Any]


def go_on(recovery: Recovery[Any] | None) -> Any:
    return [] if recovery is None else recovery.state


class Ledger(GenServer[Any, Any, Any]):
    """Keeps what it hears, and what its init was told."""

    told: ClassVar[list[Any]]
    choose: ClassVar[Choose]

    def init(self, args: Any, recovery: Recovery[Any] | None = None) -> Any:
        self.told.append(recovery)
        return type(self).choose(recovery)

    def step(self, command: Any, state: Any) -> Any:
        if command == "timer":
            return state, None, actions.StartTimer("t", 3e8, "tick")
        state.append(command)
        if command in ("break", b"break"):
            raise ValueError("a deliberate bug")
        return state, b"%d" % len(state)

    def handle_continue(self, term: Any, state: Any) -> Any:
        return [*state, term], None


class PureLedger(Ledger):
    pure = True

    def step(self, command: Any, state: Any) -> Any:
        return super().step(command, list(state))


def ledger(choose: Choose, base: type[Ledger] = Ledger, **fields: Any) -> Any:
    """A class of its own, so that no test hears what another's was told."""
    return type("Ledger", (base,), {"told": [], "choose": staticmethod(choose), **fields})


def app(kind: Any, recovery: Any = "last_good", **options: Any) -> Application:
    worker = Worker("l", kind, journal=True, recovery=recovery)
    return Application("t", Supervisor("one_for_one", [worker], intensity=100), **options)


@pytest.fixture
def live(start: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Begin a life of the ledger: live(Class, recovery); the one before ends first."""
    lives: list[Any] = []

    def begin(kind: Any, recovery: Any = "last_good") -> Any:
        for node in lives:
            node.stop()
        node = start(app(kind, recovery), data=tmp_path, journal_options=OPTIONS)
        lives.append(node)
        return node

    return begin


def fail(node: Any, command: Any = "break") -> None:
    with pytest.raises(Crashed):
        node.call("l", command)


def start_records(data: Path) -> str:
    return "\n".join(
        line
        for line in run("journal", "dump", str(data)).stdout.splitlines()
        if '"type": "start"' in line
    )


def test_an_init_that_takes_no_recovery_is_called_as_ever(live: Callable[..., Any]) -> None:
    class Plain(Ledger):
        def init(self, args: Any) -> Any:  # type: ignore[override]
            return []

    node = live(Plain)
    node.call("l", "a")
    fail(node)
    assert node.get_state("l") == ["a"]


def test_without_a_journal_there_is_nothing_to_go_on_from(start: Callable[..., Any]) -> None:
    kind = ledger(go_on)
    node = start(Application("t", Supervisor("one_for_one", [Worker("l", kind)])))
    fail(node)
    assert node.get_state("l") == []
    assert kind.told == [None, None]


@pytest.mark.parametrize("base", [Ledger, PureLedger])
def test_after_a_crash_init_is_told_what_failed(
    live: Callable[..., Any], tmp_path: Path, base: type[Ledger]
) -> None:
    kind = ledger(go_on, base)
    node = live(kind)
    node.call("l", "a")
    node.call("l", "timer")
    fail(node)
    assert node.get_state("l") == ["a"]
    recovery = kind.told[-1]
    wait_for(lambda: dead_letters.numbers(str(tmp_path)), "a letter")
    assert [recovery.failure.lsn] == dead_letters.numbers(str(tmp_path))
    assert recovery.failure.message == "break"
    assert recovery.failure.error == "builtins.ValueError: a deliberate bug"
    assert (recovery.policy, recovery.timers) == ("last_good", {"t"})
    assert kind.told[0] is None
    node.stop()
    assert "chosen" not in start_records(tmp_path)


def test_a_start_without_a_failure_is_told_too(live: Callable[..., Any], tmp_path: Path) -> None:
    kind = ledger(go_on)
    live(kind).call("l", "a")
    node = live(kind)
    assert kind.told[-1] == Recovery(["a"], "last_good")
    node.terminate_child("root", "l")
    node.restart_child("root", "l")
    assert kind.told[-1] == Recovery(["a"], "last_good")
    node.stop()
    assert "chosen" not in start_records(tmp_path)


CHOICES: dict[str, tuple[Choose, list[Any]]] = {
    "another": (lambda r: ["new"] if r and r.failure else go_on(r), ["new"]),
    "shorter": (lambda r: r.state[:-1] if r and r.failure else go_on(r), ["a"]),
    "the input": (lambda r: [r.failure.message] if r and r.failure else go_on(r), ["break"]),
}


@pytest.mark.parametrize("base", [Ledger, PureLedger])
@pytest.mark.parametrize("choose, expected", CHOICES.values(), ids=list(CHOICES))
def test_what_init_chooses_counts_and_stays(
    live: Callable[..., Any], base: type[Ledger], choose: Choose, expected: list[Any]
) -> None:
    """Also when the code of the next life would choose otherwise: the record says what was."""
    node = live(ledger(choose, base))
    for command in ("a", "b"):
        node.call("l", command)
    fail(node)
    assert node.get_state("l") == expected
    node.call("l", "c")
    for _ in range(2):
        assert live(ledger(go_on, base)).get_state("l") == [*expected, "c"]


def test_a_change_in_place_is_a_choice(live: Callable[..., Any]) -> None:
    node = live(ledger(lambda r: r.state.clear() or r.state if r and r.failure else go_on(r)))
    node.call("l", "a")
    fail(node)
    assert node.get_state("l") == []
    assert live(ledger(go_on)).get_state("l") == []


def test_every_crash_is_told_of_the_choice_before(live: Callable[..., Any]) -> None:
    kind = ledger(lambda r: [len(r.state)] if r and r.failure else go_on(r))
    node = live(kind)
    node.call("l", "a")
    node.call("l", "b")
    seen = []
    for _ in range(3):
        fail(node)
        seen.append(list(node.get_state("l")))
    assert seen == [[2], [1], [1]]
    assert live(kind).get_state("l") == [1]


def test_a_policy_is_told_and_a_ladder_too(live: Callable[..., Any]) -> None:
    """The last good state is a candidate under every policy; after a rollback it is the older."""
    kind = ledger(go_on)
    node = live(kind, ("last_good", Rollback(1), "clean"))
    for command in ("a", "b"):
        node.call("l", command)
    for _ in range(3):
        fail(node)
    told = [(recovery.policy, recovery.state) for recovery in kind.told if recovery is not None]
    assert ("last_good", ["a", "b"]) in told
    assert (Rollback(1), ["a"]) in told
    assert ("clean", ["a"]) in told
    assert node.get_state("l") == ["a"]
    assert live(ledger(go_on)).get_state("l") == ["a"]


def test_an_init_decides_before_its_policy_stops_the_node(live: Callable[..., Any]) -> None:
    kind = ledger(lambda r: ["mended"] if r and r.failure else go_on(r))
    node = live(kind, "stop")
    node.call("l", "a")
    fail(node)
    node._thread.join(20)
    assert node.exit_status == 1
    assert live(kind, "stop").get_state("l") == ["mended"]
    assert next(r.policy for r in kind.told if r and r.failure) == "stop"


@pytest.mark.parametrize("is_snapshot", [False, True])
def test_a_failure_of_an_earlier_life_is_still_told(
    start: Callable[..., Any], tmp_path: Path, is_snapshot: bool
) -> None:
    def begin(kind: Any) -> Any:
        worker = Worker("l", kind, journal=True, restart="temporary")
        tree = Supervisor("one_for_one", [worker])
        return start(Application("t", tree), data=tmp_path, journal_options=OPTIONS)

    node = begin(ledger(go_on, PureLedger))
    fail(node)
    with pytest.raises(NoProc):
        node.call("l", "a")
    if is_snapshot:
        node.run_on_loop(node.journal.snapshots.take)
        wait_for(lambda: node.stats()["journal"]["snapshots"]["taken"] == 1, "a snapshot")
    node.stop()
    kind = ledger(go_on, PureLedger)
    begin(kind)
    failure = kind.told[-1].failure
    assert failure.message == "break"
    assert failure.error == "builtins.ValueError: a deliberate bug"


def test_an_init_that_fails_has_changed_nothing(live: Callable[..., Any], tmp_path: Path) -> None:
    """Neither has the state that it was told been kept, nor is a rollback carried out again."""
    tries: list[int] = []

    def choose(recovery: Recovery[Any] | None) -> Any:
        if recovery is None or recovery.failure is None:
            return go_on(recovery)
        tries.append(len(recovery.state))
        if len(tries) < 3:
            recovery.state.append("half done")
            raise OSError("not yet")
        return recovery.state

    node = live(ledger(choose), Rollback(1))
    for command in ("a", "b", "c"):
        node.call("l", command)
    fail(node)
    wait_for(lambda: node.whereis("l") is not None, "the third try")
    assert node.get_state("l") == ["a", "b"]
    assert len(set(tries)) == 1
    wait_for(lambda: len(dead_letters.numbers(str(tmp_path))) == 2, "two letters")
    assert live(ledger(go_on)).get_state("l") == ["a", "b"]


def test_a_state_without_a_form_is_refused_in_one_sentence(
    live: Callable[..., Any],
) -> None:
    live(ledger(go_on)).call("l", "a")
    with pytest.raises(StartFailed) as caught:
        live(ledger(lambda r: [] if r is None else [object()]))
    assert isinstance(caught.value.root_cause, StateNotKept)
    assert "The state that the init of 'l' chose cannot be journaled" in str(caught.value)
    assert live(ledger(go_on)).get_state("l") == ["a"]


def test_a_choice_larger_than_a_frame_is_refused(start: Callable[..., Any], tmp_path: Path) -> None:
    options = Options(segment_bytes=64 << 10, frame_bytes_max=8192)

    def begin(choice: list[Any]) -> Any:
        kind = ledger(lambda r: choice if r else [])
        return start(app(kind), data=tmp_path, journal_options=options)

    begin([]).stop()
    with pytest.raises(StartFailed, match="does not fit into one journal frame of 8192 bytes"):
        begin([b"x" * 8192])
    begin([b"x" * 7000]).stop()
    node = start(app(ledger(go_on)), data=tmp_path, journal_options=options)
    assert node.get_state("l") == [b"x" * 7000]


def test_timers_and_continues_of_the_choice_are_repeated(live: Callable[..., Any]) -> None:
    def choose(recovery: Recovery[Any] | None) -> Any:
        if recovery is None:
            return []
        return (
            recovery.state,
            actions.CancelTimer("t"),
            actions.StartTimer("u", 3e8, "tock"),
            actions.Continue("went on"),
        )

    def due(node: Any) -> Any:
        return node.run_on_loop(lambda: dict(node.loop.dispatcher.whereis("l").due))

    node = live(ledger(choose))
    node.call("l", "timer")
    fail(node)
    wait_for(lambda: node.get_state("l") == ["went on"], "the continue")
    before = due(node)
    assert list(before) == ["u"]
    again = live(ledger(go_on))
    assert again.get_state("l") == ["went on"]
    assert due(again) == before


def test_what_the_choice_asks_for_is_remembered(start: Callable[..., Any], tmp_path: Path) -> None:
    """A link is made again in the next life, though that one's init asks for none."""

    def begin(choose: Choose) -> Any:
        workers: list[Any] = [Worker("l", ledger(choose), journal=True), Worker("o", Ledger)]
        tree = Supervisor("one_for_one", workers[::-1], intensity=100)
        return start(Application("t", tree), data=tmp_path, journal_options=OPTIONS)

    Ledger.told, Ledger.choose = [], staticmethod(go_on)
    begin(go_on).stop()
    for choose in (lambda r: (r.state, actions.Link("o")) if r else [], go_on):
        node = begin(choose)
        found = node.run_on_loop(lambda node=node: node.loop.dispatcher.whereis("l").asked)
        assert found.actions() == [actions.Link("o")]
        node.stop()


class Machine(GenStatem):
    choose: ClassVar[Any] = staticmethod(lambda recovery: recovery.state)

    def init(self, args: Any, recovery: Recovery[Any] | None = None) -> Any:
        return ("idle", []) if recovery is None else type(self).choose(recovery)

    def idle(self, event_type: Any, content: Any, data: Any) -> Any:
        if content == "break":
            raise ValueError("a deliberate bug")
        return NextState("busy", [*data, content], [StateTimeout(3e8, "late")])

    def busy(self, event_type: Any, content: Any, data: Any) -> Any:
        return self.idle(event_type, content, data)


def test_a_machine_goes_on_as_it_is(live: Callable[..., Any]) -> None:
    node = live(Machine)
    node.cast("l", "go")
    node.cast("l", "break")
    wait_for(lambda: node.whereis("l") == 2, "the restart")
    for machine in (kept_by(node, "l"), kept_by(live(Machine), "l")):
        assert (machine.state, machine.data) == ("busy", ["go"])
        assert machine.timeouts == {"state_timeout": "late"}


def test_a_machine_begins_anew_in_another_state(live: Callable[..., Any]) -> None:
    choose = staticmethod(lambda recovery: ("idle", [*recovery.state[1], recovery.policy]))
    node = live(type("Machine", (Machine,), {"choose": choose}))
    node.cast("l", "go")
    node.cast("l", "break")
    wait_for(lambda: node.whereis("l") == 2, "the restart")
    node.run_on_loop(lambda: None)
    assert node.stats()["servers"]["l"]["timers"] == 0
    for machine in (kept_by(node, "l"), kept_by(live(Machine), "l")):
        assert (machine.state, machine.data) == ("idle", ["go", "last_good"])
        assert machine.timeouts == {}


class Line(Ledger):
    def step(self, command: Any, state: Any) -> Any:
        if command == b"?":
            return state, b" ".join(state)
        return super().step(command, state)


@pytest.mark.parametrize("seed", range(60))
def test_choices_survive_power_cuts(seed: int) -> None:
    """What a life has found stays found: a choice is durable before anything answers after it."""
    dice, disk = random.Random(seed), SimDisk(seed)
    seen: list[bytes] = []

    def choose(recovery: Recovery[Any] | None) -> Any:
        if recovery is None:
            return []
        if recovery.failure is None or dice.random() < 0.3:
            return recovery.state
        return [*recovery.state[: dice.randrange(4)], b"chosen%d" % recovery.failure.lsn]

    for life in range(5):
        world = Simulator(
            seed * 10 + life,
            app(ledger(choose, Line), listeners=[Listener(TCP, Lines(), to="l")]),
            disk=disk,
            journal_options=OPTIONS,
        ).start()
        world.node.journal.snapshots.records = dice.choice((4, 1000))
        assert list(world.node.get_state("l"))[: len(seen)] == seen
        client = world.connect(TCP)
        for number in range(dice.randrange(2, 12)):
            line = b"break" if dice.random() < 0.2 else b"%d.%d" % (life, number)
            client.send(line + b"\n")
            world.run(dice.random() * 0.01)
        asking = world.connect(TCP)
        asking.send(b"?\n")
        world.run_until(lambda asking=asking: asking.received.endswith(b"\n"))
        seen = bytes(asking.received).split()
        if life < 4:
            disk = world.lose_power(dice)
        else:
            world.stop()

"""What a journaled server goes on with after a crash: policies, and ladders of them."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, Backoff, GenServer, Listener, Rollback, Supervisor, Worker
from pybehave.actions import Continue
from pybehave.errors import Crashed, NoProc, PybehaveError, SpecError
from pybehave.journal import dead_letters
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from tests.power.machine import wait_for

TCP = "tcp://127.0.0.1:7000"


class Ledger(GenServer[list[Any], Any, Any]):
    def init(self, args: Any) -> list[Any]:
        return []

    def step(self, command: Any, state: list[Any]) -> tuple[list[Any], Any]:
        if command == b"?":
            return state, b" ".join(state)
        state.append(command)
        if command == b"break":
            raise ValueError("a deliberate bug")
        return state, b"%d" % len(state)


class PureLedger(Ledger):
    pure = True

    def step(self, command: Any, state: list[Any]) -> tuple[list[Any], Any]:
        return super().step(command, list(state))


def app(recovery: Any, kind: type[Ledger] = Ledger, **options: Any) -> Application:
    worker = Worker("l", kind, journal=True, recovery=recovery)
    return Application("t", Supervisor("one_for_one", [worker], intensity=100), **options)


def fail(node: Any) -> None:
    with pytest.raises(Crashed):
        node.call("l", b"break")


@pytest.mark.parametrize("kind", [Ledger, PureLedger])
def test_a_rollback_takes_inputs_back_for_good(
    start: Callable[..., Any], tmp_path: Path, kind: type[Ledger]
) -> None:
    data = tmp_path / "data"
    node = start(app(Rollback(2), kind), data=data)
    for command in (b"a", b"b", b"c", b"d"):
        node.call("l", command)
    fail(node)
    assert node.get_state("l") == [b"a", b"b"]
    node.call("l", b"e")
    wait_for(lambda: len(dead_letters.numbers(str(data))) == 3, "three letters")
    node.stop()
    letters = [dead_letters.get(str(data), lsn) for lsn in dead_letters.numbers(str(data))]
    assert ["taken back" in letter.error for letter in letters] == [True, True, False]
    node = start(app("last_good", kind), data=data)
    assert node.get_state("l") == [b"a", b"b", b"e"]


def test_a_rollback_beyond_the_beginning_takes_all_back(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(app(Rollback(50)), data=tmp_path / "data")
    node.call("l", b"a")
    fail(node)
    assert node.get_state("l") == []


class Asked(Ledger):
    ephemeral = int

    def step(self, command: Any, state: list[Any]) -> tuple[list[Any], Any]:
        return (state, len(state)) if command == 7 else super().step(command, state)


def test_a_rollback_counts_questions_but_for_those_that_no_journal_has(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(app(Rollback(2), Asked), data=tmp_path / "data")
    for command in (b"a", b"b", b"?", 7):
        node.call("l", command)
    fail(node)
    assert node.get_state("l") == [b"a"]
    node.call("l", 7)
    node.call("l", b"?")
    fail(node)  # not counted: the failed one before it
    assert node.get_state("l") == []


def with_defaults(recovery: Any, kind: type[Ledger] = Ledger) -> Application:
    """OTP's intensity: one restart in five seconds."""
    worker = Worker("l", kind, journal=True, recovery=recovery)
    return Application("t", Supervisor("one_for_one", [worker]))


@pytest.mark.parametrize(
    ("recovery", "left"),
    [("last_good", b"a b"), (Rollback(1), b""), (("last_good", Rollback(1)), b"")],
    ids=["last-good", "rollback", "ladder"],
)
@pytest.mark.parametrize("kind", [Ledger, PureLedger])
def test_bad_commands_do_not_end_a_durable_node(
    start: Callable[..., Any], tmp_path: Path, kind: type[Ledger], recovery: Any, left: bytes
) -> None:
    node = start(with_defaults(recovery, kind), data=tmp_path / "data")
    node.call("l", b"a")
    node.call("l", b"b")
    for _ in range(5):
        fail(node)
    assert node.call("l", b"?") == left


@pytest.mark.parametrize("seed", range(3))
def test_bad_casts_do_not_end_it_in_the_simulator(seed: int) -> None:
    with Simulator(seed, with_defaults("last_good"), disk=SimDisk(seed)) as world:
        for _ in range(5):
            world.node.cast("l", b"break")
            world.run(0.1)
        assert world.node.loop.dispatcher.whereis("l").state == []
        assert world.node.loop.dispatcher.whereis("l").incarnation == 6


def test_a_new_state_is_charged(start: Callable[..., Any], tmp_path: Path) -> None:
    node = start(with_defaults("clean"), data=tmp_path / "data")
    fail(node)
    fail(node)
    node._thread.join(20)
    assert node.exit_status == 1


class Self(Ledger):
    """Breaks what it brings about itself, at each start: a circle, if nobody counted."""

    def init(self, args: Any, recovery: Any = None) -> Any:
        return [], Continue("again")

    def handle_continue(self, message: Any, state: list[Any]) -> Any:
        raise ValueError("a deliberate bug")


def test_what_a_server_does_to_itself_at_each_start_is_charged(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(with_defaults("last_good", Self), data=tmp_path / "data")
    node._thread.join(20)
    assert node.exit_status == 1


def test_an_intensity_that_a_policy_does_not_survive_is_warned_of() -> None:
    def tree(recovery: Any, **options: Any) -> Supervisor:
        worker = Worker("l", Ledger, journal=True, recovery=recovery)
        return Supervisor("one_for_one", [worker], intensity=0, **options)

    for recovery in ("clean", ("last_good", "clean")):
        with pytest.warns(UserWarning, match="child 'l': with intensity=0"):
            tree(recovery)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree("last_good")
        tree("clean", backoff=Backoff())


def test_stop_ends_the_node_and_keeps_the_state_before(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    node = start(app("stop"), data=tmp_path / "data")
    node.call("l", b"a")
    fail(node)
    node._thread.join(20)
    assert node.exit_status == 1
    with pytest.raises(PybehaveError):
        node.call("l", b"?")
    node = start(app("stop"), data=tmp_path / "data")
    assert node.get_state("l") == [b"a"]


def test_a_ladder_tries_the_next_policy_while_the_server_keeps_failing(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    ladder = ("last_good", Rollback(1), "clean")
    node = start(app(ladder), data=tmp_path / "data")
    for command in (b"a", b"b", b"c"):
        node.call("l", command)
    seen = []
    for _ in range(4):
        fail(node)
        seen.append(list(node.get_state("l")))
    assert seen == [[b"a", b"b", b"c"], [b"a", b"b"], [], []]
    node.call("l", b"new")
    node.stop()
    assert start(app(ladder), data=tmp_path / "data").get_state("l") == [b"new"]


@pytest.mark.parametrize(
    "recovery", ["rollback", (), ("last_good", "never"), Rollback(0), Rollback(True), None, 7]
)
def test_what_is_no_policy_is_refused(recovery: Any) -> None:
    with pytest.raises(SpecError, match="recovery="):
        Worker("l", Ledger, journal=True, recovery=recovery)


@pytest.mark.parametrize("seed", range(60))
def test_rollbacks_survive_power_cuts(seed: int) -> None:
    """What a life has found stays found: a rollback is durable before anything answers after it."""
    dice, disk = random.Random(seed), SimDisk(seed)
    seen: list[bytes] = []
    for life in range(5):
        world = Simulator(
            seed * 10 + life,
            app(Rollback(dice.randrange(1, 4)), listeners=[Listener(TCP, Lines(), to="l")]),
            disk=disk,
            journal_options=Options(segment_bytes=64 << 10),
        ).start()
        world.node.journal.snapshots.records = dice.choice((4, 1000))
        assert b" ".join(world.node.get_state("l")).startswith(b" ".join(seen))
        client = world.connect(TCP)
        for number in range(dice.randrange(2, 12)):
            line = b"break" if dice.random() < 0.15 else b"%d.%d" % (life, number)
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


def test_a_server_that_gave_up_is_told_of(start: Callable[..., Any], tmp_path: Path) -> None:
    worker = Worker("l", Ledger, journal=True, restart="temporary")
    node = start(Application("t", Supervisor("one_for_one", [worker])), data=tmp_path / "data")
    fail(node)
    with pytest.raises(NoProc):
        node.call("l", b"?")

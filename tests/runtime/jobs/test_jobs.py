"""Jobs of journaled servers: one answer each, through crashes, ends of the node and power cuts."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pybehave import Application, GenServer, Listener, Pool, Supervisor, Worker
from pybehave.actions import Cancel, Run
from pybehave.errors import Crashed, JobCancelled, JobLost, NotJournalable
from pybehave.journal.recovery import Options
from pybehave.protocols import Lines
from pybehave.runtime.durable import snapshots
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import DIES, Simulator
from tests.runtime import work
from tests.runtime.work import until

TCP = "tcp://127.0.0.1:7000"


class Boss(GenServer[dict[str, Any], Any, Any]):
    """Asks for jobs and keeps their answers; a command is a line or a tuple."""

    def init(self, args: Any) -> dict[str, Any]:
        return {"asked": [], "answers": []}

    def step(self, command: Any, state: dict[str, Any]) -> Any:
        if isinstance(command, bytes):
            words = command.decode().split()
            command = (words[0], *words[1:])
        kind, key = command
        if kind == "boom":
            raise ValueError("a deliberate bug")
        if kind == "cancel":
            return state, b"ok", Cancel(key)
        state["asked"].append(key)
        if kind == "wait":
            return state, b"ok", Run(work.wait_at, "gate", key, tag=key, pool="p")
        if kind == "wait again":
            again = Run(work.wait_at, "gate", key, tag=key, pool="p", idempotent=True)
            return state, b"ok", again
        if kind == "odd result":
            return state, b"ok", Run(object, tag=key, pool="p")
        if kind == "odd tag":
            return state, b"ok", Run(len, "", tag=object(), pool="p")
        job = Run(work.count, key, tag=key, pool="p", idempotent=kind == "again")
        return state, b"ok", job

    def handle_info(self, message: Any, state: dict[str, Any]) -> Any:
        state["answers"].append((message.tag, type(getattr(message, "error", None)).__name__))
        return state, None


def boss(**options: Any) -> Application:
    tree = Supervisor(
        "one_for_one",
        [Pool("p", shutdown="brutal_kill"), Worker("boss", Boss, journal=True)],
        intensity=1000,
        period=1,
    )
    return Application("t", tree, **options)


@pytest.fixture
def begin(start: Callable[..., Any], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start it on the same folder again and again; jobs at the gate go on at the end."""
    work.GATES["gate"] = threading.Event()

    def again(**options: Any) -> Any:
        options.setdefault("journal_options", Options(segment_bytes=256 * 1024))
        return start(boss(), data=tmp_path / "data", **options)

    yield again
    work.GATES["gate"].set()


def answers(node: Any) -> list[Any]:
    return list(node.get_state("boss")["answers"])


def wait_for_answers(node: Any, expected: list[Any]) -> None:
    until(lambda: answers(node))
    assert answers(node) == expected


def test_an_answer_is_an_input_of_the_journal(begin: Callable[..., Any]) -> None:
    node = begin()
    node.call("boss", ("once", "a"))
    until(lambda: answers(node) == [("a", "NoneType")])
    node.stop()
    again = begin()
    assert answers(again) == [("a", "NoneType")]
    assert again.run_on_loop(lambda: dict(again.loop.dispatcher.outbox)) == {}


def test_a_job_without_an_answer_is_told_as_lost_once(begin: Callable[..., Any]) -> None:
    node = begin()
    node.call("boss", ("wait", "a"))
    node.stop()
    for _ in range(3):
        node = begin()
        wait_for_answers(node, [("a", JobLost.__name__)])
        node.stop()


@pytest.mark.parametrize("records", [0, 100_000])
def test_an_idempotent_job_without_an_answer_is_run_again(
    begin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, records: int
) -> None:
    monkeypatch.setattr(snapshots, "LAST_SNAPSHOT_RECORDS", records)
    node = begin()
    node.call("boss", ("wait again", "a"))
    node.stop()
    node = begin()
    until(lambda: node.stats()["pools"]["p"]["hands"]["busy"] == 1)
    work.GATES["gate"].set()
    until(lambda: answers(node) == [("a", "NoneType")])


def test_a_cancelled_job_is_not_run_again(begin: Callable[..., Any]) -> None:
    node = begin()
    node.call("boss", ("wait again", "a"))
    node.call("boss", ("cancel", "a"))
    until(lambda: answers(node) == [("a", JobCancelled.__name__)])
    node.stop()
    node = begin()
    assert node.stats()["pools"]["p"]["taken"] == 0
    assert answers(node) == [("a", JobCancelled.__name__)]


@pytest.mark.parametrize("is_snapshot_between", [False, True])
def test_a_cancel_whose_answer_was_not_recorded_holds_in_the_next_start(
    begin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, is_snapshot_between: bool
) -> None:
    node = begin()
    node.call("boss", ("wait again", "a"))
    if is_snapshot_between:
        assert node.run_on_loop(node.journal.snapshots.take)
        until(lambda: not node.run_on_loop(lambda: node.journal.snapshots.is_busy))
        until(lambda: node.stats()["journal"]["snapshots"]["taken"] == 1)
    with monkeypatch.context() as patch:
        patch.setattr(node.host.pools, "cancel", lambda *_: None)  # as if the power went just then
        node.call("boss", ("cancel", "a"))
        node.stop()
    node = begin()
    until(lambda: bool(answers(node)))
    assert answers(node) == [("a", JobCancelled.__name__)]
    assert node.stats()["pools"]["p"]["taken"] == 0


def test_the_next_incarnation_gets_the_answer(begin: Callable[..., Any]) -> None:
    node = begin()
    node.call("boss", ("wait", "a"))
    with pytest.raises(Crashed):
        node.call("boss", ("boom", ""))
    work.GATES["gate"].set()
    until(lambda: answers(node) == [("a", "NoneType")])


def test_a_result_without_a_form_in_the_journal_has_failed(begin: Callable[..., Any]) -> None:
    node = begin()
    node.call("boss", ("odd result", "a"))
    until(lambda: answers(node) == [("a", NotJournalable.__name__)])
    assert node.whereis("boss") == 1


def test_a_tag_without_a_form_in_the_journal_is_refused_at_once(begin: Callable[..., Any]) -> None:
    node = begin()
    with pytest.raises(Crashed, match="NotJournalable"):
        node.call("boss", ("odd tag", "a"))


def test_an_idempotent_job_needs_a_function_with_a_name() -> None:
    with pytest.raises(ValueError, match=r"cannot find .* at the top of a module"):
        Run(lambda: 1, idempotent=True)


class Cuts:
    """One seed: lives of a boss and its pool, ended by power cuts."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.disk = SimDisk(seed)
        self.number = 0
        self.cancelled: set[str] = set()
        work.RUNS.clear()

    def run(self) -> None:
        for _ in range(5):
            self.disk = self.life().lose_power(self.dice)
        world = self.life(shake=False)
        world.run(20.0)
        state = world.node.get_state("boss")
        assert Counter(tag for tag, _ in state["answers"]) == Counter(state["asked"])  # (J2)
        self.check(dict(state["answers"]))
        assert dict(world.node.loop.dispatcher.outbox) == {}
        world.stop()

    def check(self, told: dict[str, str]) -> None:
        for key, error in told.items():
            if key.startswith("o"):
                assert work.RUNS[key] <= 1  # (J1)
            elif error == "NoneType":
                assert work.RUNS[key] >= 1
            else:
                assert error == "WorkerDied" or key in self.cancelled, (key, error)
            assert error != "NoneType" or work.RUNS[key]

    def fate(self, _run: Run) -> float | None:
        return DIES if self.dice.random() < 0.1 else self.dice.random() * 0.5

    def life(self, *, shake: bool = True) -> Simulator:
        app = boss(listeners=[Listener(TCP, Lines(), to="boss")])
        world = Simulator(
            self.dice.getrandbits(32), app, disk=self.disk, shake=shake, work=self.fate,
            journal_options=Options(segment_bytes=64 << 10),
        ).start()  # fmt: skip
        assert world.node.journal is not None
        world.node.journal.snapshots.records = self.dice.choice((4, 1000))
        for _ in range(self.dice.randrange(2, 12)):
            client = world.connect()
            client.send(b"".join(self.lines()))
            world.run(self.dice.choice((0.001, 0.02, 0.3)))
        world.run(self.dice.choice((0.0, 0.01, 0.2, 2.0)))
        return world

    def lines(self) -> Iterator[bytes]:
        for _ in range(self.dice.randrange(1, 4)):
            self.number += 1
            kind = self.dice.choice(("once", "again", "again"))
            key = f"{kind[0]}{self.number}"
            yield b"%s %s\n" % (kind.encode(), key.encode())
            if self.dice.random() < 0.2:
                self.cancelled.add(key)
                yield b"cancel %s\n" % key.encode()
            if self.dice.random() < 0.1:
                yield b"boom x\n"


@pytest.mark.parametrize("seed", range(60))
def test_every_job_has_one_answer_through_power_cuts(seed: int) -> None:
    Cuts(seed).run()

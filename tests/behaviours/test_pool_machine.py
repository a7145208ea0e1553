"""Pools as decisions: who gets which job, how many hands there are; no thread, no clock."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

from pybehave import Pool
from pybehave.behaviours.pool_machine import (
    DEADLINES_SLACK,
    START_FAILURES_MAX,
    STRAY_FACTOR,
    EndHand,
    Fail,
    Give,
    Hand,
    HandStatus,
    Job,
    KillHand,
    PoolMachine,
    PoolSettings,
    StartHand,
    Tell,
)
from pybehave.errors import (
    JobCancelled,
    JobTimedOut,
    PoolOverloaded,
    SpecError,
    Stopped,
    WorkerDied,
)


class Bench:
    """A machine, and what became of its steps."""

    def __init__(self, *, kind: str = "thread", size: tuple[int, int] = (0, 2), queue: int = 10):
        self.machine = PoolMachine("p", PoolSettings(kind, size, 30.0, queue))
        self.now = 0.0
        self.told: dict[Job[Any], BaseException | None] = {}
        self.hands: list[Hand] = []
        self.killed: list[Hand] = []
        self.ended: list[Hand] = []
        self.failures: list[BaseException] = []
        self.take(self.machine.open(0.0))

    def take(self, steps: list[Any]) -> None:
        for step in steps:
            if isinstance(step, Tell):
                assert step.job not in self.told  # (P1)
                self.told[step.job] = step.error
            elif isinstance(step, StartHand):
                self.hands.append(step.hand)
            elif isinstance(step, EndHand | KillHand):
                self.hands.remove(step.hand)
                (self.killed if isinstance(step, KillHand) else self.ended).append(step.hand)
            elif isinstance(step, Fail):
                self.failures.append(step.error)
            else:
                assert isinstance(step, Give)
                assert step.hand in self.hands

    def submit(self, timeout: float | None = None) -> Job[Any]:
        job: Job[Any] = Job("what", timeout)
        self.take(self.machine.submit(job, self.now))
        return job

    def ready(self) -> None:
        for hand in [hand for hand in self.hands if hand.status is HandStatus.STARTING]:
            self.take(self.machine.ready(hand, self.now))

    def done(self, job: Job[Any]) -> None:
        assert job.hand is not None
        self.take(self.machine.done(job.hand, "value", None, self.now))

    def at(self, now: float) -> None:
        self.now = now
        self.take(self.machine.tick(now))


def test_hands_are_started_for_jobs_up_to_the_most() -> None:
    bench = Bench(size=(0, 2))
    jobs = [bench.submit() for _ in range(5)]
    assert len(bench.hands) == 2
    bench.ready()
    assert [job.hand is not None for job in jobs] == [True, True, False, False, False]


def test_the_least_number_of_hands_is_there_at_once() -> None:
    assert len(Bench(size=(3, 4)).hands) == 3


def test_a_job_goes_to_the_hand_that_was_idle_for_the_shortest_time() -> None:
    bench = Bench(size=(0, 2))
    first, second = bench.submit(), bench.submit()
    bench.ready()
    old, recent = first.hand, second.hand
    bench.done(first)
    bench.done(second)
    assert bench.submit().hand is recent is not old


def test_hands_that_are_not_needed_end_down_to_the_least() -> None:
    bench = Bench(size=(1, 3))
    jobs = [bench.submit() for _ in range(3)]
    bench.ready()
    for job in jobs:
        bench.done(job)
    assert bench.machine.next_tick() == 30.0
    bench.at(29.9)
    assert len(bench.hands) == 3
    bench.at(30.0)
    assert len(bench.hands) == 1
    assert bench.machine.next_tick() is None


def test_the_size_follows_a_step_of_the_load_once() -> None:
    """A3-38: up with the load, no swinging while it lasts, down after it."""
    bench = Bench(size=(1, 8), queue=1000)
    bench.ready()
    sizes = []
    running: list[tuple[float, Job[Any]]] = []
    for tick in range(2000):
        bench.at(tick * 0.1)
        for due, job in list(running):
            if due <= bench.now:
                running.remove((due, job))
                bench.done(job)
        if 200 <= tick < 1200:
            running.append((bench.now + 0.45, bench.submit()))
        bench.ready()
        sizes.append(len(bench.hands))
    changes = [b - a for a, b in itertools.pairwise(sizes) if a != b]
    assert max(sizes) == 5
    grows = [change > 0 for change in changes]
    assert grows == sorted(grows, reverse=True), "it grows, then it shrinks"
    assert sizes[-1] == 1


@pytest.mark.parametrize(("count", "refused"), [(12, 0), (13, 1)])
def test_the_queue_has_a_limit(count: int, refused: int) -> None:
    bench = Bench(size=(0, 2), queue=10)
    for _ in range(count):
        bench.submit()
    assert [type(error) for error in bench.told.values()] == [PoolOverloaded] * refused


def test_a_queue_of_nothing_takes_a_job_for_each_hand() -> None:
    bench = Bench(size=(0, 1), queue=0)
    first, second = bench.submit(), bench.submit()
    assert first not in bench.told
    assert isinstance(bench.told[second], PoolOverloaded)


def test_a_job_that_waits_is_cancelled_and_never_given() -> None:
    bench = Bench(size=(0, 1))
    first, second = bench.submit(), bench.submit()
    bench.ready()
    bench.take(bench.machine.cancel(second, 0.0))
    assert isinstance(bench.told[second], JobCancelled)
    bench.done(first)
    assert second.hand is None


def test_a_thread_whose_job_is_given_up_has_a_substitute_and_comes_back() -> None:
    bench = Bench(size=(0, 1))
    first, second = bench.submit(), bench.submit()
    bench.ready()
    bench.take(bench.machine.cancel(first, 0.0))
    bench.ready()
    assert second.hand is not None
    assert second.hand is not first.hand
    bench.done(first)
    assert list(bench.told) == [first]
    assert bench.ended == [first.hand], "one too many"


def test_a_process_whose_job_is_given_up_is_killed() -> None:
    bench = Bench(kind="process", size=(0, 1))
    job = bench.submit(timeout=5.0)
    bench.ready()
    assert bench.machine.next_tick() == 5.0
    bench.at(5.0)
    assert isinstance(bench.told[job], JobTimedOut)
    assert bench.killed == [job.hand]


def test_functions_that_never_return_do_not_grow_the_pool_without_bound() -> None:
    bench = Bench(size=(0, 2), queue=100)
    for round_ in range(10):
        job = bench.submit(timeout=1.0)
        bench.ready()
        bench.at(10.0 * (round_ + 1))
        assert isinstance(bench.told[job], JobTimedOut)
    assert len(bench.hands) == 2 * STRAY_FACTOR


def test_time_waiting_counts() -> None:
    bench = Bench(size=(0, 1))
    bench.submit()
    late = bench.submit(timeout=1.0)
    bench.ready()
    bench.at(1.0)
    assert isinstance(bench.told[late], JobTimedOut)
    assert late.hand is None


def test_a_hand_that_dies_fails_its_job_and_is_replaced() -> None:
    bench = Bench(kind="process", size=(1, 1))
    job = bench.submit()
    bench.ready()
    hand = bench.hands.pop()
    bench.take(bench.machine.died(hand, "signal SIGSEGV", 0.0))
    assert isinstance(bench.told[job], WorkerDied)
    assert len(bench.hands) == 1


@pytest.mark.parametrize("deaths", [START_FAILURES_MAX - 1, START_FAILURES_MAX])
def test_hands_that_cannot_start_are_the_pools_failure(deaths: int) -> None:
    bench = Bench(kind="process", size=(1, 1))
    for _ in range(deaths):
        bench.take(bench.machine.died(bench.hands.pop(), "exit status 1", 0.0))
    assert len(bench.failures) == (deaths == START_FAILURES_MAX)


def test_a_drain_tells_what_waits_and_lets_finish_what_runs() -> None:
    bench = Bench(size=(0, 1))
    first, second = bench.submit(), bench.submit()
    bench.ready()
    bench.take(bench.machine.drain("shutdown"))
    assert isinstance(bench.told[second], Stopped)
    assert not bench.machine.is_over
    bench.done(first)
    assert bench.told[first] is None
    assert bench.machine.is_over
    assert isinstance(bench.told[bench.submit()], Stopped)


def test_time_limits_of_jobs_that_are_over_are_forgotten() -> None:
    bench = Bench(size=(0, 1), queue=1)
    bench.submit()
    bench.ready()
    for _ in range(1000):
        bench.take(bench.machine.cancel(bench.submit(timeout=1e6), 0.0))
    assert len(bench.machine._deadlines) <= DEADLINES_SLACK + 5


@pytest.mark.parametrize("seed", range(200))
def test_every_job_is_told_once_whatever_happens(seed: int) -> None:
    dice = random.Random(seed)
    kind = dice.choice(["thread", "process"])
    most = dice.randint(1, 4)
    bench = Bench(kind=kind, size=(dice.randint(0, most), most), queue=dice.randint(0, 6))
    jobs: list[Job[Any]] = []
    strays: list[Hand] = []
    for _ in range(300):
        bench.now += dice.choice([0.0, 0.1, 1.0, 40.0])
        choice = dice.random()
        busy = [hand for hand in bench.hands if hand.status in (HandStatus.BUSY, HandStatus.STRAY)]
        if choice < 0.4:
            jobs.append(bench.submit(timeout=dice.choice([None, 0.5, 20.0])))
        elif choice < 0.55:
            bench.ready()
        elif choice < 0.75 and busy:
            bench.take(bench.machine.done(dice.choice(busy), 1, None, bench.now))
        elif choice < 0.8 and jobs:
            bench.take(bench.machine.cancel(dice.choice(jobs), bench.now))
        elif choice < 0.85 and bench.hands and kind == "process":
            hand = bench.hands.pop(dice.randrange(len(bench.hands)))
            bench.take(bench.machine.died(hand, "signal SIGKILL", bench.now))
            bench.ready()
        elif choice < 0.9:
            strays += bench.killed
            for hand in strays:  # what comes late is not heard
                bench.take(bench.machine.done(hand, 1, None, bench.now))
        else:
            bench.at(bench.now)
        alive = [hand for hand in bench.hands if hand.status is not HandStatus.STRAY]
        assert len(alive) <= most  # (P2)
        assert len(bench.hands) <= STRAY_FACTOR * most
        if bench.failures:
            break
    bench.take(bench.machine.kill("shutdown"))
    assert set(bench.told) == set(jobs)  # (P1)
    assert bench.hands == []
    assert bench.machine.is_over


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "fibre"),
        ("size", (2, 1)),
        ("size", (0, 0)),
        ("size", (0, 1025)),
        ("size", 4),
        ("idle", -1),
        ("queue", -1),
        ("queue", True),
    ],
)
def test_a_field_that_is_not_allowed_is_named(field: str, value: Any) -> None:
    with pytest.raises(SpecError, match=rf"Pool 'p': {field}=.*use "):
        Pool("p", **{field: value})

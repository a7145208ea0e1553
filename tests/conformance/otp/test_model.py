"""Random trees and random life, compared with a model after every step (hypothesis).

Beyond test_against_otp.py: time passes, and retries run one by one with other things in between.
The second machine lets terminates take time, where no model says what happens when; there the
invariants of the tree are checked instead.
"""

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.supervisor import ChildSpec, Supervisor
from pybehave.errors import PybehaveError, StartFailed
from pybehave.runtime.tree.supervisor import Phase
from tests.builders import Idle, Run
from tests.conformance.otp.model import PERIOD, Model

RESTARTS = st.sampled_from(["permanent", "permanent", "transient", "temporary"])
STRATEGIES = st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"])
WORKERS = st.sampled_from([f"w{n}" for n in range(9)])
PICKS = st.integers(0, 30)


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    """Up to nine workers under up to four supervisors, in up to three levels."""
    workers = iter(range(9))
    supervisors = iter(range(1, 4))

    def supervisor(name: str, depth: int) -> dict[str, Any]:
        children = []
        for kind in draw(st.lists(st.sampled_from("wwws"), min_size=1, max_size=4)):
            number = next(supervisors if kind == "s" and depth < 2 else workers, None)
            if number is not None and kind == "s" and depth < 2:
                children.append(supervisor(f"s{number}", depth + 1))
            elif number is not None:
                children.append({"id": f"w{number}", "restart": draw(RESTARTS)})
        return {
            "id": name,
            "restart": draw(RESTARTS),
            "strategy": draw(STRATEGIES),
            "intensity": draw(st.sampled_from([1, 2, 5, 0])),
            "children": children,
        }

    return supervisor("root", 0)


def spec_of(data: dict[str, Any]) -> ChildSpec:
    if "children" not in data:
        return Worker(data["id"], Idle, restart=data["restart"])
    return Supervisor(
        data["strategy"],
        [spec_of(child) for child in data["children"]],
        id=data["id"],
        restart=data["restart"],
        intensity=data["intensity"],
        period=PERIOD,
    )


def tree_of(data: dict[str, Any]) -> Run:
    spec = spec_of(data)
    assert isinstance(spec, Supervisor)
    return Run(spec)


class Against(RuleBasedStateMachine):
    """The tree and the model live the same life."""

    @initialize(data=trees(), failing=st.none() | WORKERS)
    def start(self, data: dict[str, Any], failing: str | None) -> None:
        self.run, self.model = tree_of(data), Model(data)
        if failing is not None:
            self.fail(failing, 1)
        try:
            self.run.tree.start()
            has_started = True
        except StartFailed:
            has_started = False
        assert self.model.start(self.model.root) is has_started

    @precondition(lambda self: self.has_workers())
    @rule(which=PICKS, reason=st.sampled_from(["boom", "boom", "boom", "normal", "shutdown"]))
    def crash(self, which: int, reason: str) -> None:
        names = sorted(self.run.host.names)
        name = names[which % len(names)]
        self.run.host.crash(name, reason)
        self.model.crash(name, reason)

    @rule(name=WORKERS, times=st.integers(1, 3))
    def fail(self, name: str, times: int) -> None:
        self.run.host.init_results.pop(name, None)
        self.run.host.fail_init(name, times)
        self.model.fails[name] = times

    @precondition(lambda self: hasattr(self, "model") and self.model.retries)
    @rule()
    def retry(self) -> None:
        assert self.run.host.run_deferred(times=1) == 1
        self.model.retry()

    @rule(seconds=st.sampled_from([0.5, 2.5, 5.0, 6.0]))
    def advance(self, seconds: float) -> None:
        self.run.host.advance(seconds)
        self.model.now += seconds

    @precondition(lambda self: self.children())
    @rule(which=PICKS, request=st.sampled_from(["terminate", "restart", "delete"]))
    def ask(self, which: int, request: str) -> None:
        children = self.children()
        supervisor, name = children[which % len(children)]
        answer = getattr(self.run.tree, f"{request}_child")(supervisor, name)
        assert answer.is_done
        assert answer.error is None or isinstance(answer.error, PybehaveError)
        getattr(self.model, request)(name)

    def has_workers(self) -> bool:
        return hasattr(self, "run") and bool(self.run.host.names)

    def children(self) -> list[tuple[str, str]]:
        states = self.model.states() if hasattr(self, "model") else {}
        return [(name, child) for name, children in states.items() for child, _ in children]

    @invariant()
    def is_as_the_model_says(self) -> None:
        if not hasattr(self, "run"):
            return
        tree = self.run.tree
        states = {
            path.rpartition("/")[2]: [(c.id, c.status) for c in tree.which_children(path)]
            for path in tree.supervisors
        }
        assert self.run.host.trace == self.model.trace
        assert states == self.model.states()

    def teardown(self) -> None:
        if hasattr(self, "run"):
            self.run.tree.stop()
            self.model.stop(self.model.root)
            assert self.run.host.trace == self.model.trace
            assert self.run.tree.is_ended


class Slow(RuleBasedStateMachine):
    """Terminates take time; whatever comes in between, the tree keeps its promises."""

    @initialize(data=trees())
    def start(self, data: dict[str, Any]) -> None:
        self.run = tree_of(data)
        self.host, self.tree = self.run.host, self.run.tree
        self.tree.start()
        self.answers: list[Any] = []
        self.stops: list[object] = []
        self.stops_asked = 0

    @precondition(lambda self: hasattr(self, "host") and self.host.names)
    @rule(which=PICKS)
    def crash(self, which: int) -> None:
        names = sorted(self.host.names)
        self.host.crash(names[which % len(names)])

    @rule(name=WORKERS, is_slow=st.booleans())
    def make_slow(self, name: str, is_slow: bool) -> None:
        (self.host.slow.add if is_slow else self.host.slow.discard)(name)

    @rule(name=WORKERS, times=st.integers(1, 2))
    def fail(self, name: str, times: int) -> None:
        self.host.fail_init(name, times)

    @precondition(lambda self: hasattr(self, "host") and self.host.stopping)
    @rule(which=PICKS, outcome=st.sampled_from(["shutdown", "killed", "boom"]))
    def finish(self, which: int, outcome: str) -> None:
        names = sorted(self.host.stopping)
        self.host.finish(names[which % len(names)], outcome)

    @precondition(lambda self: hasattr(self, "host") and self.host.deferred)
    @rule()
    def retry(self) -> None:
        self.host.run_deferred(times=1)

    @precondition(lambda self: hasattr(self, "tree") and self.tree.supervisors)
    @rule(which=PICKS, request=st.sampled_from(["terminate", "restart", "delete"]))
    def ask(self, which: int, request: str) -> None:
        children = [
            (path, info.id)
            for path in self.tree.supervisors
            for info in self.tree.which_children(path)
        ]
        if children:
            supervisor, name = children[which % len(children)]
            self.answers.append(getattr(self.tree, f"{request}_child")(supervisor, name))

    @precondition(lambda self: hasattr(self, "stops"))
    @rule(is_wanted=st.sampled_from([False, False, False, True]))
    def stop(self, is_wanted: bool) -> None:
        if is_wanted:
            self.stops_asked += 1
            self.tree.stop(done=self.stops.append)

    @invariant()
    def T1_the_tree_knows_exactly_the_workers_that_run(self) -> None:
        if hasattr(self, "run"):
            known = {*self.host.names.values(), *self.host.ending.values()}
            assert set(self.tree.workers) == known

    @invariant()
    def no_worker_starts_while_its_stop_is_under_way(self) -> None:
        if hasattr(self, "run"):
            assert not set(self.host.stopping) & set(self.host.names)

    @invariant()
    def nothing_waits_unless_a_terminate_takes_time(self) -> None:
        if hasattr(self, "run") and not self.host.stopping:
            phases = {node.phase for node in self.tree.supervisors.values()}
            assert phases <= {Phase.IDLE}
            assert all(answer.is_done for answer in self.answers)
            assert len(self.stops) == self.stops_asked

    def teardown(self) -> None:
        if hasattr(self, "run"):
            self.stops_asked += 1
            self.tree.stop(done=self.stops.append)
            while self.host.stopping:
                self.host.finish(next(iter(self.host.stopping)))
            assert self.host.names == {}
            assert len(self.stops) == self.stops_asked
            assert all(answer.is_done for answer in self.answers)
            self.every_start_had_its_end()

    def every_start_had_its_end(self) -> None:
        runs: dict[str, int] = {}
        for line in self.host.trace:
            verb, name, *rest = line.split()
            if verb == "init":
                runs[name] = runs.get(name, 0) + 1
                assert runs[name] == 1
            elif verb in ("term", "kill") and rest != ["done"]:
                runs[name] -= 1
        assert not any(runs.values())


SETTINGS = settings(max_examples=200, stateful_step_count=40, deadline=None)

TestAgainstTheModel = Against.TestCase
TestAgainstTheModel.settings = SETTINGS
TestSlowTerminates = Slow.TestCase
TestSlowTerminates.settings = SETTINGS

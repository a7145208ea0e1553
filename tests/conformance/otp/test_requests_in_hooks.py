"""Requests that servers make from within their own init and terminate, compared with a model.

A hook is armed for one moment of one server ("init w1"); when that moment comes, it asks the
supervisor for something. What was asked waits until the plan that is under way is done, and is
then carried out in the order in which it was asked: that is all the model knows of it. A server
that crashes does so before its supervisor hears of it: what its terminate asks for comes first, and
if that is its own end, it was told to stop and nothing else follows.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pybehave.behaviours.child_spec import Worker
from pybehave.runtime.tree.supervisor import Phase
from tests.builders import Idle, running
from tests.conformance.otp.model import PERIOD, Model

NAMES = [f"w{n}" for n in range(5)]
WORKERS = st.sampled_from(NAMES)
MOMENTS = st.sampled_from([f"{moment} {name}" for moment in ("init", "term") for name in NAMES])
ASKED = st.tuples(st.sampled_from(["terminate", "restart", "delete", "start"]), WORKERS)


class Queued(Model):
    """The model, and what its hooks ask: first come, first served, when nothing else goes on."""

    def __init__(self, spec: dict[str, Any]) -> None:
        super().__init__(spec)
        self.armed: dict[str, tuple[str, str]] = {}
        self.asked: list[tuple[str, str]] = []

    def start(self, node: Any) -> bool:
        self.moment(f"init {node.id}")
        return super().start(node)

    def stop(self, node: Any) -> None:
        if node.status == "running":
            self.moment(f"term {node.id}")
        super().stop(node)

    def crash(self, name: str, reason: str) -> None:
        node = self.find(name)
        assert node is not None
        self.trace.append(f"term {name}")
        node.status = "dying"
        self.moment(f"term {name}")
        if ("terminate", name) in self.asked:
            self.asked.clear()
            self.terminate(name)
        else:
            self.settle()
            if node.status == "dying":  # else a hook of what was just started has ended it
                self.ended(node, reason)
        self.settle()

    def moment(self, which: str) -> None:
        asked = self.armed.pop(which, None)
        if asked is not None:
            self.asked.append(asked)

    def ask(self, request: str, name: str) -> None:
        if request == "start":
            if self.find(name) is None:
                node = type(self.root)({"id": name, "restart": "permanent"}, self.root)
                if self.start(node):
                    self.root.children.append(node)
        else:
            getattr(self, request)(name)

    def settle(self) -> None:
        while self.asked and self.root.status == "running":
            self.ask(*self.asked.pop(0))
        self.asked.clear()


class Hooked(RuleBasedStateMachine):
    """One supervisor and the model live the same life."""

    @initialize(
        strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        restarts=st.lists(
            st.sampled_from(["permanent", "transient", "temporary"]), min_size=3, max_size=3
        ),
        intensity=st.sampled_from([1, 3, 1000]),
    )
    def begin(self, strategy: str, restarts: list[Any], intensity: int) -> None:
        specs = dict(zip(NAMES, restarts, strict=False))
        self.run = running(
            strategy,
            *(Worker(name, Idle, restart=restart) for name, restart in specs.items()),
            intensity=intensity,
            period=PERIOD,
        )
        children = [{"id": name, "restart": restart} for name, restart in specs.items()]
        self.model = Queued(
            {
                "id": "root",
                "restart": "permanent",
                "strategy": strategy,
                "intensity": intensity,
                "children": children,
            }
        )
        self.model.start(self.model.root)
        self.model.trace.clear()
        self.answers: list[Any] = []

    def ask(self, request: str, name: str) -> None:
        what: Any = Worker(name, Idle) if request == "start" else name
        self.answers.append(getattr(self.run.tree, f"{request}_child")("root", what))

    def is_alive(self) -> bool:
        return hasattr(self, "run") and not self.run.tree.is_ended

    @precondition(is_alive)
    @rule(moment=MOMENTS, asked=ASKED)
    def arm(self, moment: str, asked: tuple[str, str]) -> None:
        def hook() -> None:
            del self.run.host.hooks[moment]
            self.ask(*asked)

        self.run.host.hooks[moment] = hook
        self.model.armed[moment] = asked

    @precondition(is_alive)
    @rule(name=WORKERS, times=st.integers(1, 2))
    def fail(self, name: str, times: int) -> None:
        self.run.host.init_results.pop(name, None)
        self.run.host.fail_init(name, times)
        self.model.fails[name] = times

    @precondition(is_alive)
    @rule(name=WORKERS, reason=st.sampled_from(["boom", "boom", "normal"]))
    def crash(self, name: str, reason: str) -> None:
        if name in self.run.host.names:
            self.run.host.crash(name, reason)
            self.model.crash(name, reason)

    @precondition(is_alive)
    @rule(asked=ASKED)
    def request(self, asked: tuple[str, str]) -> None:
        self.ask(*asked)
        self.model.ask(*asked)
        self.model.settle()

    @precondition(lambda self: self.is_alive() and self.model.retries)
    @rule()
    def retry(self) -> None:
        assert self.run.host.run_deferred(times=1) == 1
        self.model.retry()
        self.model.settle()

    @rule()
    def wait(self) -> None:
        """Nothing can be done with a tree that has ended."""

    @invariant()
    def is_as_the_model_says(self) -> None:
        if hasattr(self, "run"):
            assert self.run.host.trace == self.model.trace
            assert all(answer.is_done for answer in self.answers)
        if self.is_alive():
            tree = self.run.tree
            states = {"root": [(c.id, c.status) for c in tree.which_children("root")]}
            assert states == self.model.states()
            assert tree.supervisor("root").phase is Phase.IDLE
            assert set(tree.workers) == set(self.run.host.names.values())


TestRequestsInHooks = Hooked.TestCase
TestRequestsInHooks.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)

"""What OTP says a tree does when a worker ends: restated without the package's own code.

`Model.ended` is told each end of a worker, in the order in which they happen; `expected` is what a
right runtime does then: "terminate NAME" and "init NAME", in order. Nothing here knows plans,
machines or loops: a child is stopped by stopping it and started by starting it.

Source: OTP stdlib, supervisor; the rules are those of otp.md, sections 0 to 2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.supervisor import Supervisor


@dataclass
class Leaf:
    spec: Worker[Any, Any]
    parent: Branch
    is_running: bool = False


@dataclass
class Branch:
    spec: Supervisor
    parent: Branch | None
    is_running: bool = False
    children: list[Leaf | Branch] = field(default_factory=list)
    restarts: list[float] = field(default_factory=list)


class Model:
    """One tree, and what has to happen in it."""

    def __init__(self, spec: Supervisor) -> None:
        self.expected: list[str] = []
        self.incarnations: dict[str, int] = {}
        self.leaves: dict[str, Leaf] = {}
        self.restarts = self.given_up = 0
        self.root = Branch(spec, None)
        self._start(self.root)

    @property
    def is_down(self) -> bool:
        return not self.root.is_running

    def running(self) -> dict[str, int]:
        """Names that answer, with their incarnations."""
        return {
            name: self.incarnations[name] for name, leaf in self.leaves.items() if leaf.is_running
        }

    def ended(self, name: str, *, is_clean: bool, now: float) -> None:
        """A worker ended by itself: its own terminate runs first, then its supervisor acts."""
        leaf = self.leaves[name]
        assert leaf.is_running
        self.expected.append(f"terminate {name}")
        leaf.is_running = False
        self._child_ended(leaf, is_clean, now)

    def stopped(self) -> None:
        """The whole tree is stopped from outside."""
        if self.root.is_running:
            self._stop(self.root)

    # --- one end -------------------------------------------------------------------------------

    def _child_ended(self, child: Leaf | Branch, is_clean: bool, now: float) -> None:
        above = child.parent
        if above is None:
            return
        restart = child.spec.restart
        if restart == "temporary":
            above.children.remove(child)
        if restart == "temporary" or (restart == "transient" and is_clean):
            return
        window = [at for at in above.restarts if at >= now - above.spec.period]
        above.restarts = [*window, now]
        if len(above.restarts) > above.spec.intensity:
            self._give_up(above, now)
            return
        self.restarts += 1
        self._restart(above, child)

    def _restart(self, above: Branch, child: Leaf | Branch) -> None:
        first = {
            "one_for_one": above.children.index(child),
            "rest_for_one": above.children.index(child),
            "one_for_all": 0,
        }[above.spec.strategy]
        last = first + 1 if above.spec.strategy == "one_for_one" else len(above.children)
        group = above.children[first:last]
        for other in reversed(group):
            if other.is_running:
                self._stop(other)
        for other in group:
            if other.spec.restart == "temporary":
                above.children.remove(other)
            else:
                self._start(other)

    def _give_up(self, above: Branch, now: float) -> None:
        self.given_up += 1
        self._stop(above)
        self._child_ended(above, True, now)  # with "shutdown", a clean reason

    # --- stopping and starting -----------------------------------------------------------------

    def _stop(self, child: Leaf | Branch) -> None:
        child.is_running = False
        if isinstance(child, Leaf):
            if child.spec.shutdown != "brutal_kill":
                self.expected.append(f"terminate {child.spec.name}")
            return
        for other in reversed(child.children):
            if other.is_running:
                self._stop(other)

    def _start(self, child: Leaf | Branch) -> None:
        child.is_running = True
        if isinstance(child, Leaf):
            name = child.spec.name
            self.leaves[name] = child
            self.incarnations[name] = self.incarnations.get(name, 0) + 1
            self.expected.append(f"init {name}")
            return
        child.restarts = []
        child.children = [
            Branch(spec, child) if isinstance(spec, Supervisor) else Leaf(spec, child)
            for spec in child.spec.children
        ]
        for other in child.children:
            self._start(other)

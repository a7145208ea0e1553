"""One entry of a running supervisor's list, and what its machine is told of it.

A worker's entry holds the reference of the incarnation that runs, a nested supervisor's its
machine. A hundred thousand of them may live under one supervisor, so an entry is as small as it
can be: what follows from its specification is not stored again.

Does not know: what follows from an end (restart.py), how steps are taken (tree/supervisor.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, final

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.plan import Child, Kept, Rare
from pybehave.behaviours.supervisor import ChildSpec, Supervisor
from pybehave.errors import StartFailed

if TYPE_CHECKING:
    from pybehave.runtime.tree.supervisor import SupervisorNode


@final
class TreeRare(Rare):
    """What few children of a running tree have.

    Attributes: as `TreeChild` and `MadeChild` have them.
    """

    __slots__ = ("_args_before", "has_ended", "node", "reason")

    def __init__(self) -> None:
        super().__init__()
        self.node: SupervisorNode | None = None
        self.has_ended = False
        self.reason: object = None
        self._args_before: tuple[Any] | None = None


class TreeChild(Child):
    """A child of a running tree: a worker's reference, or the machine of a nested supervisor.

    Attributes:
        owner: The machine that supervises it.
        node: The nested supervisor's machine while it runs; None for a worker.
        has_ended: It has ended by itself, and its supervisor has not handled that yet (M2).
        reason: What it ended with, or why its start failed, until that is handled.
    """

    __slots__ = ("owner",)

    node: Kept[SupervisorNode | None] = Kept(None)
    has_ended = Kept(False)
    reason: Kept[object] = Kept(None)

    usual: ClassVar[Rare] = TreeRare()
    owner: SupervisorNode

    @property
    def began(self) -> float | None:
        """Monotonic seconds since which it runs."""
        node = self.rare.node
        return super().began if node is None else node.began

    @property
    def path(self) -> str:
        """Ids from the root, joined by "/"."""
        return f"{self.owner.path}/{self.id}"

    @property
    def name(self) -> str:
        """What a worker answers to."""
        assert isinstance(self.spec, Worker)
        return self.spec.name

    @property
    def args(self) -> Any:
        """What a worker's init gets."""
        assert isinstance(self.spec, Worker)
        return self.spec.args

    def ended(self, reason: object, because: str = "", *, is_free: bool = False) -> None:
        """Let the supervisor know of an end that nobody asked for."""
        rare = self.own()
        rare.has_ended = True
        rare.is_free = is_free
        rare.reason = reason
        owner = self.owner
        owner.post((type(owner).handle_end, self, None))

    def retry(self, attempt: int) -> None:
        """Let the supervisor know that a retry is due."""
        owner = self.owner
        owner.post((type(owner).handle_retry, self, attempt))

    def start_failed(self, error: StartFailed) -> None:
        """If this is part of the root's start, that has failed too; rolling back may take time."""
        if self.owner.is_starting:
            self.owner.entry.start_failed(StartFailed(self.path, error))

    def start_done(self, error: BaseException | None) -> None:
        """A step of the supervisor's plan is over: this child has started, or not."""
        owner = self.owner
        owner.in_flight = None
        if error is None:
            owner.note_started(self, self.path)
        else:
            owner.note_start_failed(self, error)
        if owner.is_waiting:
            owner.tree.run(owner)

    def reconfigured(self, spec: Supervisor) -> None:
        """It goes by other flags and children; how it is treated itself stays as it is."""
        assert isinstance(self.spec, Supervisor)
        self.spec = spec.treated_as(self.spec)

    def stop_done(self, outcome: object) -> None:
        """A step of the supervisor's plan is over: this child has stopped."""
        owner = self.owner
        if owner.in_flight is not self:
            return  # the supervisor was killed meanwhile
        owner.in_flight = None
        owner.note_stopped(self, outcome)
        if owner.is_waiting:
            owner.tree.run(owner)


class MadeChild(TreeChild):
    """A child of a simple_one_for_one, whose arguments are the template's."""

    __slots__ = ()

    spec: Worker[Any, Any]

    _args_before: Kept[tuple[Any] | None] = Kept(None)

    @property
    def name(self) -> str:
        """What it answers to; its id is the same."""
        return self.id

    @property
    def args(self) -> Any:
        """What its init gets: what the template had when it was made."""
        before: tuple[Any] | None = self.rare._args_before
        return self.spec.args if before is None else before[0]

    def adopt(self, spec: ChildSpec) -> None:
        """Go by another template; the arguments stay (OTP keeps them with the child)."""
        assert isinstance(spec, Worker)
        args = self.args
        if spec.journal:
            spec = spec.made(self.id, args)  # the journal looks for it by its name
        else:
            self._args_before = (args,)
        super().adopt(spec)


@final
class GivenChild(MadeChild):
    """A child of a simple_one_for_one that was given arguments of its own."""

    __slots__ = ("_args",)

    def __init__(self, name: str, spec: ChildSpec, args: object) -> None:
        super().__init__(name, spec)
        self._args = args

    @property
    def args(self) -> Any:
        """What its init gets: the template's arguments, and those that start_child was given."""
        return self._args


@final
class Crowd:
    """The children of a simple_one_for_one, all told to stop, and waited for together.

    Source: OTP supervisor, `terminate_dynamic_children/1`: unordered, one time limit for all.

    Args:
        owner: The machine that waits, with this in flight.
    """

    __slots__ = ("_children", "_owner", "is_told")

    def __init__(self, owner: SupervisorNode) -> None:
        self._owner = owner
        self._children: set[TreeChild] = set()
        self.is_told = False

    @property
    def is_gone(self) -> bool:
        """Whether all have stopped."""
        return self.is_told and not self._children

    @property
    def left(self) -> list[TreeChild]:
        """Those whose terminate still yields."""
        return list(self._children)

    def add(self, child: TreeChild) -> None:
        """Wait for one more."""
        self._children.add(child)

    def stopped(self, child: TreeChild, outcome: object) -> None:
        """One of them has stopped; with the last one the step is over."""
        owner = self._owner
        if owner.in_flight is not self:
            return  # the supervisor was killed meanwhile
        self._children.remove(child)
        owner.note_stopped(child, outcome)
        if self.is_gone:
            owner.in_flight = None
            if owner.is_waiting:
                owner.tree.run(owner)

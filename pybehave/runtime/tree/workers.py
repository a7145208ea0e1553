"""The workers of a tree that run, each found by the reference that the host gave for it.

The entry is kept in the reference itself, as its `owner`: a table of a hundred thousand would cost
five megabytes, and as much again while it grows. When a worker does not run for the tree any more,
its reference has its specification for an owner again, which is what the host reports by.

Does not know: what a reference is, beyond having an `owner`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, final

from pybehave.behaviours.child_spec import Worker
from pybehave.runtime.tree.child import TreeChild

if TYPE_CHECKING:
    from pybehave.runtime.tree.tree import Tree


@final
class TreeWorkers:
    """References of running workers, and whose they are.

    Args:
        tree: The tree; another one's workers are not in here.
    """

    __slots__ = ("_count", "_tree")

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        nodes = list(self._tree.supervisors.values())
        return iter([c.ref for node in nodes for c in node.children() if self.get(c.ref) is c])

    def __contains__(self, ref: object) -> bool:
        return self.get(ref) is not None

    def get(self, ref: object) -> TreeChild | None:
        """The child that a reference is of; None for one that does not run for this tree."""
        child = getattr(ref, "owner", None)
        return child if isinstance(child, TreeChild) and child.owner.tree is self._tree else None

    def add(self, ref: Any, child: TreeChild) -> None:
        """A worker runs."""
        ref.owner = child
        self._count += 1

    def discard(self, ref: Any) -> TreeChild | None:
        """A worker does not run any more, or not for long; the child that it was, if it was one."""
        child = self.get(ref)
        if child is not None:
            ref.owner = child.spec
            self._count -= 1
        return child


def place_of(owner: Worker[Any, Any] | TreeChild) -> tuple[str, str]:
    """Where a server stands, by its owner: its supervisor's path and its id there, or ""."""
    return (owner.owner.path, owner.id) if isinstance(owner, TreeChild) else ("", "")


def spec_of(owner: Worker[Any, Any] | TreeChild) -> Worker[Any, Any]:
    """The specification of a server by its owner: that is its entry in a tree, or itself."""
    spec = owner.spec if isinstance(owner, TreeChild) else owner
    assert isinstance(spec, Worker)
    return spec

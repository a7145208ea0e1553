"""Callers that wait for a server's next incarnation: `on_restart="wait"`.

Theory. Requests belong to an incarnation and fail with it; a patient caller's request that has not
begun is kept with the name instead (src/_uring/mailboxes.pyx), and the next incarnation takes it.
Whether there will be one follows from where its supervisor stands. That is looked at whenever a
tree has done what it could for now: from then on a start must be due, or the callers are told what
the server ended with.

Invariants
  (W1) A kept request is taken by the next incarnation of its name, or refused once no supervisor
       is to start one; its caller never waits for what cannot come.
  (W2) Nothing is looked at as long as nobody waits.

Does not know: mailboxes, time limits (a caller gives up by itself).
Source: our own; in OTP a request is lost with the process that it was sent to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.plan import Status
from pybehave.runtime.tree.child import TreeChild
from pybehave.runtime.tree.supervisor import Phase

if TYPE_CHECKING:
    from pybehave._uring.servers import Server
    from pybehave.runtime.host import LoopHost
    from pybehave.runtime.tree.supervisor import SupervisorNode
    from pybehave.runtime.tree.tree import Tree


@final
class Patience:
    """Names whose next incarnation somebody waits for.

    Args:
        host: Where the servers run.
        trees: Returns the trees that run.
    """

    def __init__(self, host: LoopHost, trees: Callable[[], list[Tree]]) -> None:
        self._dispatcher = host.loop.dispatcher
        self._trees = trees
        self._defer = host.defer
        self._errors: dict[str, Exception] = {}
        self._children: dict[str, TreeChild] = {}
        self._dispatcher.on_patient = self._begin

    def _begin(self, name: str, server: Server | None, error: Exception) -> bool:
        """Requests for a name are to be kept: since its server has just ended, or nobody has it."""
        if server is None:
            self._find({name})
            if not self._is_to_come(name):
                self._children.pop(name, None)
                return False
        if not self._errors:
            self._defer(self.settled)  # also when no supervisor has anything to do with it
        self._errors.setdefault(name, error)
        return True

    def settled(self) -> None:
        """A tree has done what it could for now: let nobody wait in vain (W1)."""
        if not self._errors:
            return  # (W2)
        self._find({name for name in self._errors if name not in self._children})
        for name, error in list(self._errors.items()):
            has_come = self._dispatcher.whereis(name) is not None
            if not has_come and self._is_to_come(name):
                continue
            self._errors.pop(name, None)
            self._children.pop(name, None)
            if not has_come:
                self._dispatcher.refuse_kept(name, error)

    def _find(self, names: set[str]) -> None:
        """Find the entries of some names in their supervisors' lists: one look at all children."""
        if not names:
            return
        for tree in self._trees():
            for node in tree.supervisors.values():
                for child in node.children():
                    if isinstance(child.spec, Worker) and child.name in names:
                        self._children[child.name] = child

    def _is_to_come(self, name: str) -> bool:
        child = self._children.get(name)
        if child is None:
            return False
        if child.owner.phase is Phase.ENDED:  # its supervisor may have been started again
            self._find({name})
        return _is_to_start(self._children[name])


def _is_to_start(child: TreeChild) -> bool:
    """Whether a child that does not run is going to be started."""
    owner = child.owner
    if _is_leaving(owner):
        entry: Any = owner.entry
        if not isinstance(entry, TreeChild):
            return False
        if entry.node is owner and not owner.is_asked_to_stop:
            return not _is_leaving(entry.owner)  # it has not been told of this end yet
        return _is_to_start(entry)
    if owner.state.children.get(child.id) is not child:
        return False
    plan = owner.plan
    return (
        child.status is Status.RESTARTING
        or child.has_ended
        or child.ref in owner.tree.workers  # its own terminate is not over
        or (plan is not None and child in plan.starts)
    )


def _is_leaving(node: SupervisorNode) -> bool:
    return node.is_asked_to_stop or node.phase is Phase.ENDING or node.phase is Phase.ENDED

"""Move a running worker to another supervisor, in its supervisor's turn.

A request like others (tree/requests.py): it waits in the inbox of the supervisor that has the
worker, so that no plan of that one is under way. The other supervisor may be at work: its plan
names the children it had when that was made, and the new one is not among them.

The server itself is not touched, so that its state, mailbox, timers, monitors, callers, connections
and its place in the journal stay what they are, and nobody who sends to it notices.

Does not know: what may be moved (behaviours/transfer.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pybehave.behaviours import transfer
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.supervisor import Supervisor
from pybehave.errors import NoProc, PybehaveError, Restarting, Stopped
from pybehave.runtime.events import ChildMigrated
from pybehave.runtime.tree.child import TreeChild
from pybehave.types import SHUTDOWN

if TYPE_CHECKING:
    from pybehave.runtime.tree.requests import Answer
    from pybehave.runtime.tree.supervisor import SupervisorNode


def migrate(node: SupervisorNode, what: tuple[Any, SupervisorNode], answer: Answer[Any]) -> None:
    """Move a worker of this supervisor.

    Args:
        what: Its reference, and the machine of the supervisor that is to have it.
    """
    ref, target = what
    child = node.tree.workers.get(ref)
    try:
        if child is None or child.owner is not node or child.has_ended:
            raise NoProc(ref.name)  # it has ended, or has gone elsewhere, since that was asked
        if target is not node:
            _move(node, child, target)
    except PybehaveError as error:
        answer.fail(error)
    else:
        answer.give(None)


def _move(node: SupervisorNode, child: TreeChild, target: SupervisorNode) -> None:
    if target.is_starting:
        raise Restarting(target.path)
    if not target.is_open:
        raise Stopped(target.path, SHUTDOWN)
    transfer.check_transfer(node.state, node.path, target.state, target.path, child.name)
    spec, ref = child.spec, child.ref
    assert isinstance(spec, Worker)
    if node.state.is_simple and spec.name != child.name:
        spec = spec.made(child.name, child.args)  # what it would be started as
    moved = target.make_child(child.id, spec)
    is_listed = transfer.move(node.state, child, target.state, target.path, moved)
    node.tree.workers.discard(ref)
    target.tree.workers.add(ref, moved)
    if is_listed:
        _put_spec(node, transfer.without(node.state.spec, child.id))
        _put_spec(target, transfer.having(target.state.spec, moved.id, spec))
    node.tree.host.emit(ChildMigrated(node.path, child.id, ref, target.path))


def _put_spec(node: SupervisorNode, spec: Supervisor) -> None:
    """Let a supervisor, and those above it, be started with what runs now."""
    node.state.spec = spec
    node.entry.reconfigured(spec)
    entry = node.entry
    if isinstance(entry, TreeChild) and entry.id in entry.owner.state.spec.child_ids:
        above = entry.owner
        _put_spec(above, transfer.having(above.state.spec, entry.id, entry.spec))

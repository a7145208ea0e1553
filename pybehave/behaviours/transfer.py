"""Move a child that runs from one supervisor's list to another's: nothing stops, nothing starts.

The child joins the end of the other list, so under rest_for_one it depends on all that were there.
From then on it is treated as the other supervisor's strategy, intensity and end say, and by the
restart type and the back-off of its own; how often it was restarted, and its failures in a row, go
with it, what the first supervisor was charged for it stays there.

Where a child came from a specification, the specifications change with it, up to the root: a
supervisor that is started again starts those that it has now. One that was added later is no more
than that in its new place, and is gone when the supervisor there is started again.

Invariants
  (G1) A child is in exactly one list, before and after.
  (G2) A refused transfer changes nothing.

Does not know: what runs (tree/transfer.py).
Source: Peeper (Elixir), `transfer`; catalogue row P-4. OTP has none.
"""

from __future__ import annotations

from pybehave.behaviours.child_requests import check_new
from pybehave.behaviours.plan import Child, Status, SupervisorState
from pybehave.behaviours.rules import refused
from pybehave.behaviours.supervisor import ChildSpec, Supervisor


def check_transfer(
    source: SupervisorState, source_path: str, target: SupervisorState, target_path: str, name: str
) -> None:
    """Check that a child may leave one supervisor for another.

    Args:
        source: Whose it is.
        source_path: For errors.
        target: Whose it is to be.
        target_path: For errors.
        name: The server's.

    Raises:
        SpecError: The lists are of kinds that no child leaves, or joins, so.
    """
    if source.spec.pattern is not None:
        raise refused(
            f"Supervisor {source_path!r}",
            "migrate",
            name,
            "it for others: a member of a family is where the messages for its name start it",
        )
    if target.is_simple:
        raise refused(
            f"Supervisor {target_path!r}",
            "migrate",
            name,
            "a supervisor whose children are not made from a template",
        )


def move(
    source: SupervisorState, child: Child, target: SupervisorState, path: str, moved: Child
) -> bool:
    """Move a child that runs.

    Args:
        source: Whose it is.
        child: Its entry there.
        target: Whose it is to be.
        path: The target's, for errors.
        moved: Its entry there, with its id and specification; not in the list yet.

    Returns:
        Whether it came from the source's specification.

    Raises:
        AlreadyStarted, AlreadyPresent: The id is taken there.
        SpecError: The child's significance does not go with the supervisor there.
    """
    assert child.status is Status.RUNNING
    check_new(target, path, moved)  # (G2)
    moved.ref, moved.status = child.ref, child.status
    moved.restarts, moved.row, moved.is_free = child.restarts, child.row, child.is_free
    del source.children[child.id]
    target.children[moved.id] = moved  # (G1)
    child.ref, child.status = None, Status.STOPPED
    return not source.is_simple and child.id in source.spec.child_ids


def without(spec: Supervisor, child_id: str) -> Supervisor:
    """Return a supervisor that does not list a child any more; the others keep their ids."""
    listed = dict(zip(spec.child_ids, spec.children, strict=True))
    listed.pop(child_id, None)
    return spec.listing(listed)


def having(spec: Supervisor, child_id: str, child: ChildSpec) -> Supervisor:
    """Return a supervisor that lists a child: in its old place if it has one, else at the end."""
    listed = dict(zip(spec.child_ids, spec.children, strict=True))
    listed[child_id] = child
    return spec.listing(listed)

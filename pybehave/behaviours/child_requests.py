"""Requests to a supervisor about single children: which are refused, what the others do.

Source: OTP stdlib, supervisor, `handle_call/3`, for the static strategies:

| request         | running         | stopped         | restarting      | unknown   |
|-----------------|-----------------|-----------------|-----------------|-----------|
| start_child     | AlreadyStarted  | AlreadyPresent  | AlreadyPresent  | starts it |
| terminate_child | stops it        | nothing to do   | cancels retry   | NotFound  |
| restart_child   | Running         | starts it       | Restarting      | NotFound  |
| delete_child    | Running         | forgets it      | Restarting      | NotFound  |
| get_childspec   | the spec        | the spec        | the spec        | NotFound  |

None of them is charged. A start that fails stores nothing (start_child) or leaves the child
stopped (restart_child). A temporary child that is terminated leaves the list.

Does not know: how a child is started and stopped; that is the plan's matter.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, TypeAlias

from pybehave.behaviours.child_spec import refused
from pybehave.behaviours.restart import (
    Child,
    Plan,
    Status,
    SupervisorState,
    Verdict,
    cancel_retry,
)
from pybehave.behaviours.supervisor import ChildSpec, Supervisor, check_significant
from pybehave.errors import AlreadyPresent, AlreadyStarted, NotFound, Restarting, Running

ChildType: TypeAlias = Literal["worker", "supervisor"]


class ChildInfo(NamedTuple):
    """One row of which_children.

    Attributes:
        id: The child's id.
        status: `"running"`, `"stopped"` or `"restarting"`.
        ref: What the runtime knows it by while it runs; else None.
        type: `"worker"` or `"supervisor"`.
        restarts: How often it was started again by its supervisor.
    """

    id: str
    status: str
    ref: Any
    type: ChildType
    restarts: int


class ChildCount(NamedTuple):
    """What count_children answers.

    Attributes:
        specs: Children in the list, whether they run or not.
        active: Those that run.
        supervisors: Those in the list that are supervisors.
        workers: Those in the list that are workers.
    """

    specs: int
    active: int
    supervisors: int
    workers: int


def which_children(state: SupervisorState) -> list[ChildInfo]:
    """List the children, newest first as OTP does."""
    return [
        ChildInfo(child.id, child.status.value, child.ref, _type_of(child), child.restarts)
        for child in reversed(state.children.values())
    ]


def count_children(state: SupervisorState) -> ChildCount:
    """Count the children; the last two count by type, whether they run or not."""
    children = state.children.values()
    supervisors = sum(isinstance(child.spec, Supervisor) for child in children)
    active = sum(child.status is Status.RUNNING for child in children)
    return ChildCount(len(children), active, supervisors, len(children) - supervisors)


def plan_start_child(state: SupervisorState, path: str, child: Child) -> Plan:
    """Decide on starting a child that is not in the list yet.

    Args:
        state: The supervisor.
        path: The supervisor's path, for errors.
        child: The new child; it joins the end of the list once it has started.

    Raises:
        AlreadyStarted: The id is taken by a child that runs.
        AlreadyPresent: The id is taken by a child that does not.
        SpecError: The child's significance does not go with this supervisor.
    """
    other = state.children.get(child.id)
    if other is not None:
        if other.status is Status.RUNNING:
            raise AlreadyStarted(f"{path}/{child.id}", other.ref)
        raise AlreadyPresent(f"{path}/{child.id}")
    check_significant(f"Supervisor {path!r}", state.spec.auto_shutdown, child.id, child.spec)
    return Plan(Verdict.REQUEST, child, starts=[child])


def plan_terminate_child(state: SupervisorState, path: str, child_id: str) -> Plan:
    """Decide on stopping a child; it stays in the list, and no retry of it stands any more.

    Raises:
        NotFound: There is no such child.
    """
    child = find_child(state, path, child_id)
    if child.status is Status.RUNNING:
        return Plan(Verdict.REQUEST, child, stops=[child])
    cancel_retry(child)
    return Plan(Verdict.REQUEST, child)


def plan_restart_child(state: SupervisorState, path: str, child_id: str) -> Plan:
    """Decide on starting a child that is in the list but stopped.

    Raises:
        NotFound: There is no such child.
        Running: It runs.
        Restarting: Its supervisor is trying already.
    """
    child = _stopped_child(state, path, child_id)
    return Plan(Verdict.REQUEST, child, starts=[child])


def delete_child(state: SupervisorState, path: str, child_id: str) -> None:
    """Forget a child that is stopped.

    Raises:
        NotFound: There is no such child.
        Running: It runs.
        Restarting: Its supervisor is trying to start it.
    """
    del state.children[_stopped_child(state, path, child_id).id]


def check_id(path: str, spec: ChildSpec) -> str:
    """Return the id of a child that is about to be added.

    Args:
        path: The supervisor's path, for the error.
        spec: What the child is specified as.

    Raises:
        SpecError: A supervisor without an id has no place in the list to take one from.
    """
    if spec.id is None:
        raise refused(
            f"Supervisor {path!r}", "id", None, "an id for a supervisor that is added later"
        )
    return spec.id


def find_child(state: SupervisorState, path: str, child_id: str) -> Child:
    """Return a child by its id.

    Raises:
        NotFound: There is no such child.
    """
    child = state.children.get(child_id)
    if child is None:
        raise NotFound(f"{path}/{child_id}")
    return child


def _stopped_child(state: SupervisorState, path: str, child_id: str) -> Child:
    child = find_child(state, path, child_id)
    if child.status is Status.RUNNING:
        raise Running(f"{path}/{child_id}")
    if child.status is Status.RESTARTING:
        raise Restarting(f"{path}/{child_id}")
    return child


def _type_of(child: Child) -> ChildType:
    return "supervisor" if isinstance(child.spec, Supervisor) else "worker"

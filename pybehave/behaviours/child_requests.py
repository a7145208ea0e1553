"""Requests to a supervisor about single children: which are refused, what the others do.

Source: OTP stdlib, supervisor, `handle_call/3`, for the static strategies:

| request         | running         | stopped         | restarting      | unknown   |
|-----------------|-----------------|-----------------|-----------------|-----------|
| start_child     | AlreadyStarted  | AlreadyPresent  | AlreadyPresent  | starts it |
| terminate_child | stops it        | nothing to do   | cancels retry   | NotFound  |
| restart_child   | Running         | starts it       | Restarting      | NotFound  |
| delete_child    | Running         | forgets it      | Restarting      | NotFound  |
| get_childspec   | the spec        | the spec        | the spec        | NotFound  |

A simple_one_for_one differs: start_child takes the arguments that are added to the template's,
terminate_child takes a name or a reference and forgets the child, restart_child and delete_child
are refused (`SimpleOneForOne`). OTP's children there have no id; ours have a name, and that is it.

None of them is charged. A start that fails stores nothing (start_child) or leaves the child
stopped (restart_child). A temporary child that is terminated leaves the list.

Does not know: how a child is started and stopped; that is the plan's matter.
"""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, TypeAlias

from pybehave.behaviours.child_spec import ID_RULE, Worker
from pybehave.behaviours.plan import REQUEST, Child, Plan, Status, SupervisorState
from pybehave.behaviours.restart import cancel_retry
from pybehave.behaviours.rules import refused
from pybehave.behaviours.supervisor import Supervisor, check_significant
from pybehave.errors import (
    AlreadyPresent,
    AlreadyStarted,
    NotFound,
    Restarting,
    Running,
    SimpleOneForOne,
    SpecError,
    show,
)

_LISTS: Final = (list, tuple)
"""Of a child's arguments. Not `list | tuple`, which is made anew each time it is read."""

ChildType: TypeAlias = Literal["worker", "supervisor"]


class ChildInfo(NamedTuple):
    """One row of which_children.

    Attributes:
        id: The child's id; of a simple_one_for_one the child's name.
        status: `"running"`, `"stopped"` or `"restarting"`.
        ref: What the runtime knows it by while it runs; else None.
        type: `"worker"` or `"supervisor"`.
        restarts: How often it was started again by its supervisor.
        uptime: Whole seconds since which it runs; None while it does not.
        restarts_in: Seconds that its back-off, or its supervisor's pause, has yet to last; None
            when none does.
    """

    id: str
    status: str
    ref: Any
    type: ChildType
    restarts: int
    uptime: int | None = None
    restarts_in: float | None = None


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


def which_children(state: SupervisorState, now: float) -> list[ChildInfo]:
    """List the children, newest first as OTP does; `now` in monotonic seconds."""
    return [child_info(state, child, now) for child in reversed(state.children.values())]


def child_info(state: SupervisorState, child: Child, now: float) -> ChildInfo:
    """Return what there is to know of one child; `now` in monotonic seconds."""
    status, began, uptime, wait = child.status, child.began, None, None
    if status is Status.RUNNING and began is not None:
        uptime = max(int(now) - int(began), 0)
    elif status is Status.RESTARTING:
        row = state.pauses if state.is_paused else child.row
        wait = row.latest - now if row is not None and row.latest > now else None
    return ChildInfo(
        child.id, status.value, child.ref, _type_of(child), child.restarts, uptime, wait
    )


def count_children(state: SupervisorState) -> ChildCount:
    """Count the children; the last two count by type, whether they run or not.

    A simple_one_for_one has one specification, however many children were made from it.
    """
    children = state.children.values()
    if state.is_simple:
        retried = sum(child.status is Status.RESTARTING for child in children)
        return ChildCount(1, len(children) - retried, 0, len(children))
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
    check_new(state, path, child)
    return Plan(REQUEST, child, starts=[child])


def check_new(state: SupervisorState, path: str, child: Child) -> None:
    """Check that a child may join the list.

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
    if child.spec.significant:
        check_significant(f"Supervisor {path!r}", state.spec.auto_shutdown, child.id, child.spec)


def plan_terminate_child(state: SupervisorState, path: str, child_id: str) -> Plan:
    """Decide on stopping a child; it stays in the list, and no retry of it stands any more.

    Raises:
        NotFound: There is no such child.
    """
    child = find_child(state, path, child_id)
    if child.status is Status.RUNNING:
        return Plan(REQUEST, child, stops=[child])
    cancel_retry(child)
    if state.is_simple:
        del state.children[child_id]  # (R8)
    return Plan(REQUEST, child)


def plan_restart_child(state: SupervisorState, path: str, child_id: str) -> Plan:
    """Decide on starting a child that is in the list but stopped.

    Raises:
        NotFound: There is no such child.
        Running: It runs.
        Restarting: Its supervisor is trying already.
        SimpleOneForOne: Its supervisor starts others in its place.
    """
    child = _stopped_child(state, path, child_id)
    return Plan(REQUEST, child, starts=[child])


def plan_restart_on_purpose(state: SupervisorState, path: str, child_id: str) -> Plan:
    """Decide on stopping a child, if it runs, and starting it again: no failure, not charged.

    Its siblings stay as they are, whatever the strategy. A start that fails leaves it stopped.

    Raises:
        NotFound: There is no such child.
    """
    child = find_child(state, path, child_id)
    if child.status is Status.RUNNING:
        return Plan(REQUEST, child, stops=[child], starts=[child])
    cancel_retry(child)
    return Plan(REQUEST, child, starts=[child])


def delete_child(state: SupervisorState, path: str, child_id: str) -> None:
    """Forget a child that is stopped.

    Raises:
        NotFound: There is no such child.
        Running: It runs.
        Restarting: Its supervisor is trying to start it.
        SimpleOneForOne: Its supervisor keeps no child that is stopped.
    """
    del state.children[_stopped_child(state, path, child_id).id]


def check_id(path: str, spec: object) -> str:
    """Return the id of a child that is about to be added.

    Args:
        path: The supervisor's path, for the error.
        spec: What the child is specified as.

    Raises:
        SpecError: It is no specification, or a supervisor without an id, which has no place in
            the list to take one from.
    """
    if not isinstance(spec, Worker | Supervisor):
        raise SpecError(
            f"Supervisor {path!r}",
            f"{show(spec)} is not a child specification; use Worker or Supervisor",
        )
    if spec.id is None:
        raise refused(
            f"Supervisor {path!r}", "id", None, "an id for a supervisor that is added later"
        )
    return spec.id


def refuse_name(path: str, name: object) -> None:
    """Refuse a name that was given beside a specification, which has one.

    Raises:
        SpecError: There is one.
    """
    if name is not None:
        raise refused(f"Supervisor {path!r}", "name", name, "the specification's own name")


def extend_args(path: str, args: object, extra: object) -> object:
    """Return what the init of a child made from a template gets.

    Args:
        path: The supervisor's path, for the error.
        args: The template's: None, or a list or tuple.
        extra: A list or tuple that is added to them; when empty, the template's stay as they are.

    Raises:
        SpecError: One of the two is no list.

    Source: OTP supervisor, start_child/2, `apply(M, F, A ++ List)`.
    """
    if not isinstance(extra, _LISTS):
        raise refused(f"Supervisor {path!r}", "start_child", extra, "a list of further args")
    if not extra:
        return args
    if args is not None and not isinstance(args, list | tuple):
        raise refused(f"Supervisor {path!r} template", "args", args, "a list or tuple, or None")
    return (*(args or ()), *extra)


def make_name(state: SupervisorState, path: str, template: Worker[Any, Any], name: Any) -> str:
    """Return the name of a child that is about to be made from a template.

    Args:
        state: The supervisor.
        path: Its path, for the error.
        template: What the child is made from.
        name: What was asked for; None takes the template's and a number.

    Raises:
        SpecError: It is no name, or is missing where the state outlives the child.
    """
    if name is None:
        if template.journal:
            raise refused(f"Supervisor {path!r}", "name", None, "a name for a journaled child")
        state.made += 1
        return f"{template.name}-{state.made}"
    if not ID_RULE.accepts(name):
        raise refused(f"Supervisor {path!r}", "name", name, ID_RULE.allowed)
    return str(name)


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
    if state.is_simple:
        raise SimpleOneForOne(f"{path}/{child_id}")
    child = find_child(state, path, child_id)
    if child.status is Status.RUNNING:
        raise Running(f"{path}/{child_id}")
    if child.status is Status.RESTARTING:
        raise Restarting(f"{path}/{child_id}")
    return child


def _type_of(child: Child) -> ChildType:
    return "supervisor" if isinstance(child.spec, Supervisor) else "worker"

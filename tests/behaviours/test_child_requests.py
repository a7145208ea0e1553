"""The table of requests about single children, every cell of it (otp.md 1.8)."""

from collections.abc import Callable
from typing import Any

import pytest

from pybehave.behaviours.child_requests import (
    ChildCount,
    count_children,
    delete_child,
    find_child,
    plan_restart_child,
    plan_start_child,
    plan_terminate_child,
    which_children,
)
from pybehave.behaviours.plan import Child, Status, SupervisorState
from pybehave.errors import (
    AlreadyPresent,
    AlreadyStarted,
    NotFound,
    Restarting,
    Running,
    SpecError,
)
from tests.builders import supervisor, workers


def state_with(status: Status | None) -> SupervisorState:
    """A supervisor with a running "x" and, unless None, a child "a" of some status."""
    state = SupervisorState.of(supervisor("one_for_one", "x a"))
    if status is None:
        del state.children["a"]
    else:
        state.children["a"].status = status
    return state


def start(state: SupervisorState) -> Any:
    return plan_start_child(state, "root", Child("a", workers("a")[0]))


def terminate(state: SupervisorState) -> Any:
    return plan_terminate_child(state, "root", "a")


def restart(state: SupervisorState) -> Any:
    return plan_restart_child(state, "root", "a")


def delete(state: SupervisorState) -> Any:
    delete_child(state, "root", "a")


def get(state: SupervisorState) -> Any:
    return find_child(state, "root", "a")


CELLS = [
    (start, Status.RUNNING, AlreadyStarted),
    (start, Status.STOPPED, AlreadyPresent),
    (start, Status.RESTARTING, AlreadyPresent),
    (start, None, None),
    (terminate, Status.RUNNING, None),
    (terminate, Status.STOPPED, None),
    (terminate, Status.RESTARTING, None),
    (terminate, None, NotFound),
    (restart, Status.RUNNING, Running),
    (restart, Status.STOPPED, None),
    (restart, Status.RESTARTING, Restarting),
    (restart, None, NotFound),
    (delete, Status.RUNNING, Running),
    (delete, Status.STOPPED, None),
    (delete, Status.RESTARTING, Restarting),
    (delete, None, NotFound),
    (get, Status.RUNNING, None),
    (get, Status.STOPPED, None),
    (get, Status.RESTARTING, None),
    (get, None, NotFound),
]


@pytest.mark.parametrize(("request_of", "status", "error"), CELLS)
def test_S1_8_every_request_meets_every_status(
    request_of: Callable[[SupervisorState], Any],
    status: Status | None,
    error: type[Exception] | None,
) -> None:
    state = state_with(status)
    if error is None:
        request_of(state)
    else:
        before = list(state.children.items())
        with pytest.raises(error, match="root/a"):
            request_of(state)
        assert list(state.children.items()) == before


def test_S1_8_terminate_cancels_a_retry() -> None:
    state = state_with(Status.RESTARTING)
    terminate(state)
    assert state.children["a"].status is Status.STOPPED


def test_S1_8_start_child_checks_the_significance() -> None:
    child = Child("s", workers("s", restart="transient", significant=True)[0])
    with pytest.raises(SpecError, match="Supervisor 'root' child 's': significant=True"):
        plan_start_child(state_with(None), "root", child)


def test_S1_8_which_children_lists_the_newest_first() -> None:
    state = SupervisorState.of(supervisor("one_for_one", "a b", supervisor("one_for_one", "c")))
    listed = [(info.id, info.type) for info in which_children(state, 0.0)]
    assert listed == [("supervisor-3", "supervisor"), ("b", "worker"), ("a", "worker")]


def test_S1_8_count_children_counts_by_type_whether_they_run_or_not() -> None:
    state = SupervisorState.of(supervisor("one_for_one", "a b", supervisor("one_for_one", "c")))
    state.children["a"].status = Status.STOPPED
    state.children["supervisor-3"].status = Status.RESTARTING
    assert count_children(state) == ChildCount(specs=3, active=1, supervisors=1, workers=2)

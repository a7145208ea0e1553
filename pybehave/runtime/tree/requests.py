"""Requests about single children, as they are carried out in their turn, and their answers.

A request waits in its supervisor's inbox like everything else, so it never meets a plan half way.
What it means is decided in `pybehave.behaviours.child_requests`; here it becomes a plan, and the
answer is given when the plan has been carried out.

Does not know: threads. Whoever asks from another thread goes through the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar, final

from pybehave.behaviours import child_requests
from pybehave.behaviours.plan import Status
from pybehave.behaviours.reconfigure import reconfigure as change
from pybehave.behaviours.rules import refused
from pybehave.behaviours.supervisor import Supervisor
from pybehave.errors import NotFound, PybehaveError, show

if TYPE_CHECKING:
    from pybehave.runtime.tree.supervisor import SupervisorNode

T = TypeVar("T")


@final
class Answer(Generic[T]):
    """What a request will bring: a value or an error, now or later.

    Attributes:
        is_done: Whether it is there.
        error: The error, if it is one.
    """

    __slots__ = ("_callbacks", "_value", "error", "is_done")

    def __init__(self) -> None:
        self.is_done = False
        self.error: BaseException | None = None
        self._value: T | None = None
        self._callbacks: list[Callable[[Answer[T]], object]] | None = None  # most are never asked

    def result(self) -> T:
        """Return the value.

        Raises:
            PybehaveError: The request was refused, or what it started failed.
            RuntimeError: It is not there yet: the request was made inside a hook, or a terminate
                yields. Use `then`.
        """
        if not self.is_done:
            raise RuntimeError("the answer is not there yet; use then(callback)")
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]

    def then(self, callback: Callable[[Answer[T]], object]) -> None:
        """Call back with this answer once it is there; at once if it is."""
        if self.is_done:
            callback(self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def give(self, value: T) -> None:
        """Answer with a value."""
        self._value = value
        self._settle()

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        self.error = error
        self._settle()

    def _settle(self) -> None:
        assert not self.is_done, "a request is answered once"
        self.is_done = True
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback(self)


Request: TypeAlias = Callable[["SupervisorNode", Any, Answer[Any]], None]


def start_child(node: SupervisorNode, what: tuple[Any, str | None], answer: Answer[Any]) -> None:
    """Plan the start of a child that is not in the list yet.

    Args:
        what: The child's specification, or the arguments that are added to the template's; and
            the name of a child that is made from a template.
    """
    spec, name = what
    try:
        if node.state.is_simple:
            child = node.make_from_template(name, spec)
        else:
            child = node.make_child(child_requests.check_id(node.path, spec), spec)
            child_requests.refuse_name(node.path, name)
        plan = child_requests.plan_start_child(node.state, node.path, child)
    except PybehaveError as error:
        answer.fail(error)
    else:
        node.carry_out(plan, answer)


def id_of(node: SupervisorNode, child: Any) -> str:
    """The id of a child that is named by it or by its ref; to look at it.

    Raises:
        NotFound: The reference is of no child that is there.
    """
    child_id = child if isinstance(child, str) else _find_ref(node, child)
    if child_id is None:
        raise NotFound(f"{node.path}/{show(child)}")
    return child_id


def terminate_child(node: SupervisorNode, child: Any, answer: Answer[Any]) -> None:
    """Plan the stop of a child, named by its id or, under a simple_one_for_one, by its ref."""
    try:
        child_id = child if isinstance(child, str) else _find_ref(node, child)
        if child_id is None:
            answer.give(None)
            return
        plan = child_requests.plan_terminate_child(node.state, node.path, child_id)
    except PybehaveError as error:
        answer.fail(error)
    else:
        node.carry_out(plan, answer)


def remove_child(node: SupervisorNode, child: Any, answer: Answer[Any]) -> None:
    """Plan the stop of a child that is forgotten afterwards, before anything else is handled.

    Source: Suture v4, `Remove` and `RemoveAndWait`.
    """
    entry = None if isinstance(child, str) else node.tree.workers.get(child)
    child_id = child if entry is None else entry.id

    def forget(stopped: Answer[Any]) -> None:
        if stopped.error is not None:
            answer.fail(stopped.error)
            return
        node.state.children.pop(child_id, None)
        answer.give(None)

    stopping: Answer[Any] = Answer()
    terminate_child(node, child, stopping)
    stopping.then(forget)


def _find_ref(node: SupervisorNode, ref: Any) -> str | None:
    """The id of the child that a reference is of; None for one that has ended.

    One that has ended and whose child is being restarted stands for the attempts.

    Raises:
        NotFound: The reference runs and is no child of this supervisor, or no reference.

    Source: OTP supervisor, `find_child(Pid, State)`.
    """
    host = node.tree.host
    child = node.tree.workers.get(ref)
    if child is not None and child.owner is node:
        return child.id
    name = None if child is not None or not node.state.is_simple else host.ended_name(ref)
    if name is None:
        raise NotFound(f"{node.path}/{show(ref)}")
    retried = node.state.children.get(name)
    is_retried = retried is not None and retried.status is Status.RESTARTING
    return name if is_retried else None


def restart_child(node: SupervisorNode, child_id: str, answer: Answer[Any]) -> None:
    """Plan the start of a child that is stopped."""
    try:
        plan = child_requests.plan_restart_child(node.state, node.path, child_id)
    except PybehaveError as error:
        answer.fail(error)
    else:
        node.carry_out(plan, answer)


def restart(node: SupervisorNode, child_id: str, answer: Answer[Any]) -> None:
    """Plan the stop and the start of a child, with all that is below it."""
    try:
        plan = child_requests.plan_restart_on_purpose(node.state, node.path, child_id)
    except PybehaveError as error:
        answer.fail(error)
    else:
        node.carry_out(plan, answer)


def reconfigure(node: SupervisorNode, spec: Any, answer: Answer[Any]) -> None:
    """Change a supervisor's specification; nothing starts, nothing stops."""
    try:
        if not isinstance(spec, Supervisor):
            raise refused(f"Supervisor {node.path!r}", "reconfigure", spec, "a Supervisor")
        added = change(node.state, node.path, spec, node.make_child)
    except PybehaveError as error:
        answer.fail(error)
    else:
        node.entry.reconfigured(spec)
        answer.give(added)


def delete_child(node: SupervisorNode, child_id: str, answer: Answer[Any]) -> None:
    """Forget a child that is stopped."""
    try:
        child_requests.delete_child(node.state, node.path, child_id)
    except PybehaveError as error:
        answer.fail(error)
    else:
        answer.give(None)

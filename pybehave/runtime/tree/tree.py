"""The running tree: carries supervision plans out against a host.

Theory. Decisions are made in `pybehave.behaviours.restart`; a *host* (the node on its loop, a fake
in a test) starts and stops single workers. Between them stands one machine per supervisor
(tree/supervisor.py), which takes the steps of its plan one by one, and this class, which is the
way in. A stop may take many ticks, for a terminate may yield; a start is over when init returned.

What comes in (a worker's end, a retry, a request, a stop) is put into the inbox of the supervisor
it belongs to. If nothing of the tree is on the stack, it is handled before the call returns, so a
restart leaves no gap that another input could see. If a hook (init, terminate, an event's
observer) calls in, it is handled when the stack has unwound: queued, never nested.

Invariants
  (T1) Every worker the host started is known by its ref until it has ended or been told to stop.
  (T2) Machines run one at a time: no two of them are on the stack, but a parent and its child.
  (T3) Whoever was promised an answer gets exactly one, also when the supervisor ends first.

Does not know: strategies, restart types, loops, sockets.
Source: OTP stdlib, supervisor; features.md E-13 for requests at any moment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, Protocol, final

from pybehave.behaviours.child_requests import (
    ChildCount,
    ChildInfo,
    child_info,
    count_children,
    find_child,
    which_children,
)
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.supervisor import ROOT_ID, ChildSpec, Supervisor, describe
from pybehave.errors import NoProc, NotFound, StartFailed
from pybehave.runtime.events import Event
from pybehave.runtime.tree import requests as tree_requests
from pybehave.runtime.tree import transfer as tree_transfer
from pybehave.runtime.tree.requests import Answer
from pybehave.runtime.tree.supervisor import Phase, SupervisorNode
from pybehave.runtime.tree.workers import TreeWorkers
from pybehave.types import IGNORED, SHUTDOWN

__all__ = ["IGNORED", "Answer", "Host", "Tree"]

STOPPED: Final = "stop"
START_FAILED: Final = "start_failed"
"""Why a tree has ended, beside "give_up" and "auto_shutdown"."""


class Host(Protocol):
    """What the tree needs of whoever runs the workers."""

    def now(self) -> float:
        """Return monotonic seconds."""

    def start_worker(self, worker: Worker[Any, Any], name: str, args: Any) -> object:
        """Make a server and run its init; name and args are its own if it comes from a template.

        `Tree.worker_ended` for this worker must come later than this call's return.

        Returns:
            A reference of this incarnation, which has an attribute `owner` for the tree, or
            `IGNORED`.

        Raises:
            BaseException: The reason for which it did not start; KeyboardInterrupt passes.
        """

    def stop_worker(
        self,
        ref: Any,
        reason: object,
        timeout: float | None,
        done: Callable[[object], None],
    ) -> None:
        """Run terminate(reason) and end the worker.

        Call `done` exactly once with the reason it ended with, before returning or later:
        `reason` itself, what terminate raised, or "killed" after `timeout` seconds. For a worker
        that is already ending (its own terminate yields), call `done` when that is over; terminate
        does not run twice.
        """

    def ended_name(self, ref: Any) -> str | None:
        """Return the name of a worker that has ended; None for one that runs, and for no worker."""

    def kill_worker(self, ref: Any) -> None:
        """End the worker at once, without terminate; a pending `done` is not called any more."""

    def defer(self, function: Callable[[], None]) -> None:
        """Call the function later, at the end of the loop's queue."""

    def after(self, seconds: float, function: Callable[[], None]) -> None:
        """Call the function after so many seconds."""

    def draw(self) -> float:
        """Return a random number, 0 <= x < 1."""

    def emit(self, event: Event) -> None:
        """Report an event; must not raise."""

    def pass_through(self, error: BaseException) -> None:
        """End the node with an exception that its supervisor does not bear; must not raise."""

    def settled(self) -> None:
        """Take note that the tree has done what it could for now; must not raise."""


@final
class Tree:
    """A supervision tree that runs.

    Args:
        spec: The outermost supervisor.
        host: Who starts and stops the workers.
        on_root_ended: Called when the root has ended and nobody waits for that in `start` or
            `stop`: it gave up or its significant children ended ("shutdown"), or a failed start
            has been rolled back at last (the StartFailed).
        root_id: The first part of every path, unless the outermost supervisor has an id.

    Attributes:
        ended_because: `"stop"`, `"give_up"`, `"auto_shutdown"`, `"terminate"`, `"start_failed"`;
            None before.
        cause: The exception because of which a supervisor of it gave up last, or ended as it was
            ordered to; None before.
        root: The outermost machine, while there is one.
        supervisors: The machines, by path.
        families: Those whose children are started by the first message, in start order.
        workers: The workers that run, found by the host's ref (T1).
    """

    __slots__ = (
        "_is_running",
        "_is_starting",
        "_on_root_stopped",
        "_ready",
        "cause",
        "ended_because",
        "families",
        "host",
        "on_root_ended",
        "root",
        "root_id",
        "spec",
        "start_error",
        "supervisors",
        "workers",
    )

    def __init__(
        self,
        spec: Supervisor,
        host: Host,
        on_root_ended: Callable[[object], None] | None = None,
        root_id: str = ROOT_ID,
    ) -> None:
        self.spec = spec
        self.root_id = spec.id or root_id
        self.host = host
        self.on_root_ended = on_root_ended
        self.root: SupervisorNode | None = None
        self.supervisors: dict[str, SupervisorNode] = {}
        self.workers = TreeWorkers(self)
        self.families: list[SupervisorNode] = []
        self.ended_because: str | None = None
        self.cause: BaseException | None = None
        self.start_error: StartFailed | None = None
        self._ready: deque[SupervisorNode] = deque()
        self._is_running = False
        self._is_starting = False
        self._on_root_stopped: list[tuple[object, Callable[[object], None]]] = []

    # --- life ----------------------------------------------------------------

    @property
    def is_ended(self) -> bool:
        """Whether nothing of the tree runs: before start, after stop, after the root's end."""
        return self.root is None

    def start(self) -> None:
        """Start every child, depth-first; returns when every init has returned.

        Raises:
            StartFailed: A child did not start. What had started was stopped in reverse; if one of
                them yields in its terminate, `is_ended` becomes true only later.
        """
        assert self.root is None, "the tree runs already"
        self.start_error = self.ended_because = self.cause = None
        self.root = SupervisorNode(self, self.spec, self.root_id, _Root(self))
        self.root.begin_start()
        self._is_starting = True
        try:
            self.run(self.root)
        finally:
            self._is_starting = False
        if self.start_error is not None:
            raise self.start_error

    def stop(self, reason: object = SHUTDOWN, done: Callable[[object], None] | None = None) -> None:
        """Stop every child in exact reverse order, then end.

        A restart that is under way is not finished first: what it would still start stays down.

        Args:
            reason: What the root ends with.
            done: Called with the reason, maybe before this returns, maybe ticks later.
        """
        if done is not None:
            self._on_root_stopped.append((reason, done))
        if self.root is None:
            self._tell_stopped()
        else:
            self.root.ask_to_stop(None)
            self.run(self.root)

    def worker_ended(self, ref: object, reason: object, *, is_free: bool = False) -> None:
        """Take note that a worker has ended by itself; its own terminate has run.

        One that was told to stop, or is unknown, is ignored.

        Args:
            ref: What the host gave when it started.
            reason: `"normal"`, an exception, ...
            is_free: Starting it again is not charged: it cannot fail on the same again (R10).
        """
        child = self.workers.discard(ref)
        if child is not None:
            child.ended(reason, is_free=is_free)

    # --- single children -----------------------------------------------------

    def start_child(self, supervisor: str, spec: Any, name: str | None = None) -> Answer[Any]:
        """Add a child at the end of a supervisor's list and start it.

        Args:
            supervisor: The supervisor's path, or its id where only one has it.
            spec: A Worker, or a Supervisor that has an id; for a simple_one_for_one a list or
                tuple of arguments that are added to the template's.
            name: Of a child made from a template; None takes the template's and a number.

        Returns:
            The new child's ref, or None when its init ignored; or AlreadyStarted, AlreadyPresent,
            SpecError, StartFailed (then nothing is stored), NotFound, Stopped.
        """
        return self._ask(supervisor, tree_requests.start_child, (spec, name))

    def terminate_child(self, supervisor: str, child: Any) -> Answer[Any]:
        """Stop a child, or the attempts to start it; it stays in the list unless temporary.

        Args:
            supervisor: As for start_child.
            child: Its id, or its ref. One made from a template leaves the list; a ref that has
                ended is no error there.

        Returns:
            None; or NotFound, Stopped.
        """
        return self._ask(supervisor, tree_requests.terminate_child, child)

    def restart_child(self, supervisor: str, child_id: str) -> Answer[Any]:
        """Start a stopped child in its old place. It is not charged.

        Returns:
            Its new ref, or None when its init ignored; or NotFound, Running, Restarting,
            StartFailed (then it stays stopped), SimpleOneForOne, Stopped.
        """
        return self._ask(supervisor, tree_requests.restart_child, child_id)

    def delete_child(self, supervisor: str, child_id: str) -> Answer[Any]:
        """Forget a stopped child.

        Returns:
            None; or NotFound, Running, Restarting, SimpleOneForOne, Stopped.
        """
        return self._ask(supervisor, tree_requests.delete_child, child_id)

    def remove_child(self, supervisor: str, child: Any) -> Answer[Any]:
        """Stop a child if it runs, and forget it.

        Args:
            supervisor: As for start_child.
            child: As for terminate_child.

        Returns:
            None; or NotFound, Stopped.
        """
        return self._ask(supervisor, tree_requests.remove_child, child)

    def restart(self, supervisor: str, child_id: str) -> Answer[Any]:
        """Stop a child if it runs, with all below it, and start it again: no failure.

        Returns:
            Its new ref, or None when its init ignored; or NotFound, StartFailed (then it stays
            stopped), Stopped.
        """
        return self._ask(supervisor, tree_requests.restart, child_id)

    def reconfigure(self, supervisor: str, spec: Supervisor) -> Answer[Any]:
        """Change a supervisor's flags and children; nothing starts, nothing stops.

        Returns:
            The ids that are new, and stopped; or SpecError (then nothing has changed), NotFound,
            Stopped.
        """
        return self._ask(supervisor, tree_requests.reconfigure, spec)

    def migrate(self, ref: Any, to: SupervisorNode) -> Answer[Any]:
        """Move a worker that runs to another supervisor, of this tree or another one.

        Returns:
            None; or NoProc (it does not run any more), AlreadyStarted, AlreadyPresent, SpecError,
            Stopped. Then it is where it was.
        """
        answer: Answer[Any] = Answer()
        child = self.workers.get(ref)
        if child is None:
            answer.fail(NoProc(getattr(ref, "name", "")))
        else:
            child.owner.post((tree_transfer.migrate, (ref, to), answer))
        return answer

    def which_children(self, supervisor: str) -> list[ChildInfo]:
        """List a supervisor's children as they are now, newest first.

        Raises:
            NotFound: There is no such supervisor, or it is ambiguous.
        """
        return which_children(self.supervisor(supervisor).state, self.host.now())

    def which_child(self, supervisor: str, child: Any) -> ChildInfo:
        """Find one of a supervisor's children as it is now, by its id or its ref.

        Raises:
            NotFound: There is no such child or supervisor.
        """
        node = self.supervisor(supervisor)
        found = find_child(node.state, node.path, tree_requests.id_of(node, child))
        return child_info(node.state, found, self.host.now())

    def count_children(self, supervisor: str) -> ChildCount:
        """Count a supervisor's children as they are now.

        Raises:
            NotFound: There is no such supervisor, or it is ambiguous.
        """
        return count_children(self.supervisor(supervisor).state)

    def get_childspec(self, supervisor: str, child: Any) -> ChildSpec:
        """Return what a child is specified as, defaults included; by its id or its ref.

        Under a simple_one_for_one the template's id will do, too, with or without children (OTP).

        Raises:
            NotFound: There is no such child or supervisor.
        """
        node = self.supervisor(supervisor)
        if node.state.is_simple and child == node.state.spec.child_ids[0]:
            return node.state.spec.children[0]
        return find_child(node.state, node.path, tree_requests.id_of(node, child)).spec

    def supervisor(self, name: str) -> SupervisorNode:
        """Find a running supervisor by its path, or by its id where only one has it.

        Raises:
            NotFound: None has it, or several.
        """
        node = self.supervisors.get(name)
        if node is None:
            found = self.paths_of(name)
            if len(found) != 1:
                raise NotFound(name, several=found)
            node = self.supervisors[found[0]]
        return node

    def paths_of(self, name: str) -> list[str]:
        """The paths of running supervisors that a name means: one, where it is a path itself."""
        if name in self.supervisors:
            return [name]
        return [path for path in self.supervisors if path.endswith(f"/{name}")]

    def _ask(self, supervisor: str, request: tree_requests.Request, what: Any) -> Answer[Any]:
        answer: Answer[Any] = Answer()
        try:
            node = self.supervisors.get(supervisor) or self.supervisor(supervisor)
        except NotFound as error:
            answer.fail(error)
        else:
            node.post((request, what, answer))
        return answer

    # --- for the machines ----------------------------------------------------

    def run(self, node: SupervisorNode) -> None:
        """Let a machine go on, now or when the stack has unwound (T2)."""
        ready = self._ready
        if self._is_running:
            ready.append(node)
            return
        self._is_running = True
        try:
            node.go_on()
            while ready:
                ready.popleft().go_on()
        finally:
            self._is_running = False
        self.host.settled()

    def root_ended(self, reason: object, because: str) -> None:
        """Take note that the root has ended, and tell who waits for it."""
        self.root = None
        self.ended_because = because
        if self._on_root_stopped:
            self._tell_stopped()
        elif self.on_root_ended is not None and not self._is_starting:
            self.on_root_ended(reason)

    def _tell_stopped(self) -> None:
        waiting, self._on_root_stopped = self._on_root_stopped, []
        for reason, done in waiting:
            done(reason)

    # --- text ----------------------------------------------------------------

    def dump(self) -> str:
        """Return the running tree as text: where each child stands, its ref, its restarts."""
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """Yield the running tree as text, one child a line."""
        if self.root is None:
            yield f"{self.root_id}  stopped"
            return
        yield f"{self.root.path}  {describe(self.spec)}"
        yield from _dump_lines(self.root, "")


class _Root:
    """Stands where a nested supervisor has its entry in its parent's list."""

    __slots__ = ("tree",)

    def __init__(self, tree: Tree) -> None:
        self.tree: Final = tree

    def start_failed(self, error: StartFailed) -> None:
        """The root will not start."""
        self.tree.start_error = error

    def start_done(self, error: BaseException | None) -> None:
        """The root's start is over, and so is the rolling back if it failed."""
        if error is not None:
            self.tree.root_ended(error, START_FAILED)

    def stop_done(self, outcome: object) -> None:
        """The root has stopped as it was told to."""
        self.tree.root_ended(outcome, STOPPED)

    def reconfigured(self, spec: Supervisor) -> None:
        """The root goes by another specification."""
        self.tree.spec = spec

    def ended(self, reason: object, because: str) -> None:
        """The root has ended by itself."""
        self.tree.root_ended(reason, because)


def _dump_lines(node: SupervisorNode, rest: str) -> Iterator[str]:
    children = node.children()
    for place, child in enumerate(children, 1):
        is_last = place == len(children)
        words = [child.id, describe(child.spec), child.status.value]
        if child.ref is not None and child.node is None:
            words.append(f"incarnation {getattr(child.ref, 'incarnation', child.ref)}")
        if child.restarts:
            words.append(f"restarts {child.restarts}")
        yield f"{rest}{'└── ' if is_last else '├── '}{'  '.join(words)}"
        if child.node is not None and child.node.phase is not Phase.ENDED:
            yield from _dump_lines(child.node, rest + ("    " if is_last else "│   "))

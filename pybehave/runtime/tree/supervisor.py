"""One supervisor that runs: takes the steps of its plan one by one, and waits where it must.

Theory. The machine holds at most one plan. `go_on` is its only engine: as long as no step is in
flight, it takes the plan's next step; without a plan it takes the next event from the inbox. A
step that is over at once leaves nothing in flight, and the loop goes on; one that takes time
leaves the child in flight, `go_on` returns, and the step's completion calls it again.

| phase    | what is under way            | leaves to                                             |
|----------|------------------------------|-------------------------------------------------------|
| STARTING | the first start of all       | IDLE, or ENDING when a start fails                    |
| IDLE     | nothing                      | WORKING with an event from the inbox; ENDING with stop|
| WORKING  | a restart or a request       | IDLE when it is done; ENDING with stop, or giving up  |
| ENDING   | all children stop            | ENDED                                                 |
| ENDED    | nothing, for ever            |                                                       |

Invariants
  (M1) In flight is at most one child, or the crowd of a simple_one_for_one that stops as one, and
       then `go_on` does nothing.
  (M2) An end that its supervisor has not handled yet (`has_ended`) is handled once: by its event,
       or before that by a plan that was going to stop the child anyway. The second is no failure
       of its own.
  (M3) A stop waits for the step in flight, and then for nothing else: what a restart would still
       start stays down, what waits in the inbox is refused or dropped.
  (M4) When a machine has ended, nothing below it runs.

A supervisor with a time limit of its own passes the deadline down; what is left when it has
passed is killed. A step that was in flight before the deadline was set keeps its own limit.

Does not know: strategies, restart types (restart.py); what a worker is (the host).
Source: OTP stdlib, supervisor, as a process handles one message after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeGuard, cast, final

from pybehave.behaviours import child_requests, restart
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.orders import order_of
from pybehave.behaviours.plan import (
    DELAY,
    FORGET,
    GIVE_UP,
    KEEP,
    PAUSE,
    REQUEST,
    RESTART,
    RESTARTING,
    ROLL_BACK,
    RUNNING,
    START,
    STOP,
    TERMINATE,
    Plan,
    SupervisorState,
)
from pybehave.behaviours.supervisor import ChildSpec, Supervisor
from pybehave.errors import AlreadyStarted, DoNotRestart, StartFailed, Stopped
from pybehave.runtime.crashes import user_frames
from pybehave.runtime.events import (
    ChildStarted,
    ChildStopped,
    ChildTerminated,
    Escalated,
    IntensityReached,
    ShutdownError,
    StartError,
)
from pybehave.runtime.tree import retries as tree_retries
from pybehave.runtime.tree.child import Crowd, GivenChild, MadeChild, TreeChild
from pybehave.runtime.tree.requests import Answer
from pybehave.types import IGNORED, KILLED, SHUTDOWN

if TYPE_CHECKING:
    from pybehave.runtime.tree.tree import Tree


class Phase(Enum):
    """Where a machine stands; the table is in the module's header."""

    STARTING = "starting"
    IDLE = "idle"
    WORKING = "working"
    ENDING = "ending"
    ENDED = "ended"


# As in plan.py.
STARTING: Final = Phase.STARTING
IDLE: Final = Phase.IDLE
WORKING: Final = Phase.WORKING
ENDING: Final = Phase.ENDING
ENDED: Final = Phase.ENDED


class Entry(Protocol):
    """Who a machine tells how its start and its end went: its place in its parent's list."""

    def start_failed(self, error: StartFailed) -> None:
        """It will not start; what had started is being stopped."""

    def start_done(self, error: BaseException | None) -> None:
        """The start is over; with an error, what had started is stopped."""

    def stop_done(self, outcome: object) -> None:
        """The stop that was asked for is over."""

    def ended(self, reason: object, because: str) -> None:
        """It ended by itself."""

    def reconfigured(self, spec: Supervisor) -> None:
        """It goes by another specification, also when it is started again."""


Event: TypeAlias = tuple[Callable[["SupervisorNode", Any, Any], None], Any, Any]


@final
class SupervisorNode:
    """The machine of one supervisor.

    Attributes:
        began: When it began to start its children, monotonic seconds.
        state: What decisions depend on.
        path: Ids from the root, joined by "/".
        phase: Where it stands.
        in_flight: The child whose start or stop is under way, or a crowd of them.
        is_waiting: `go_on` returned because of that, so its completion must call it again.
    """

    __slots__ = (
        "answer",
        "began",
        "deadline",
        "entry",
        "error",
        "in_flight",
        "inbox",
        "is_asked_to_stop",
        "is_waiting",
        "path",
        "phase",
        "plan",
        "state",
        "tree",
    )

    def __init__(self, tree: Tree, spec: Supervisor, path: str, entry: Entry) -> None:
        self.tree = tree
        self.path = path
        self.entry = entry
        self.state = SupervisorState(spec)
        self.began = tree.host.now()
        self.phase: Phase = STARTING
        self.plan: Plan | None = None
        self.answer: Answer[Any] | None = None
        self.error: BaseException | None = None
        self.in_flight: TreeChild | Crowd | None = None
        self.is_waiting = False
        self.is_asked_to_stop = False
        self.deadline: float | None = None
        self.inbox: deque[Event] = deque()
        tree.supervisors[path] = self

    def children(self) -> list[TreeChild]:
        """The children in start order; `make_child` is the only source of entries."""
        return cast("list[TreeChild]", list(self.state.children.values()))

    @property
    def is_starting(self) -> bool:
        """Whether its first start is under way."""
        return self.phase is STARTING

    @property
    def is_open(self) -> bool:
        """Whether a child may join its list: it has started, and is not about to end."""
        return self.phase in (IDLE, WORKING) and not self.is_asked_to_stop

    # --- what comes in -------------------------------------------------------

    def begin_start(self) -> None:
        """Plan the start of all children; `go_on` carries it out."""
        spec = self.state.spec
        if spec.pattern is not None:
            self.tree.families.append(self)
        if not spec.is_simple:  # else they come one by one, made from the template
            for child_id, child_spec in zip(spec.child_ids, spec.children, strict=True):
                self.state.children[child_id] = self.make_child(child_id, child_spec)
        self.plan = restart.plan_start(self.state)

    def ask_to_stop(self, deadline: float | None) -> None:
        """Stop all children as soon as no step is in flight (M3); `go_on` carries it out.

        Args:
            deadline: Monotonic seconds after which what still runs is killed; None is never.
        """
        self.is_asked_to_stop = True
        self.deadline = deadline

    def kill(self) -> None:
        """End at once, with all below, no terminate called."""
        if self.phase is ENDED:
            return
        for child in reversed(self.children()):
            if child.node is not None:
                child.node.kill()
            elif child.ref is not None and not child.has_ended:
                self.tree.workers.discard(child.ref)
                self.tree.host.kill_worker(child.ref)
        self.in_flight = None
        self._end()

    def post(self, event: Event) -> None:
        """Put an event into the inbox and go on."""
        self.inbox.append(event)
        self.tree.run(self)

    def carry_out(self, plan: Plan, answer: Answer[Any] | None = None) -> None:
        """Take a plan up; `go_on` takes its steps."""
        self.plan = plan
        self.answer = answer
        verdict = plan.verdict
        is_work = verdict is RESTART or verdict is REQUEST
        self.phase = WORKING if is_work else ENDING

    def handle_end(self, child: TreeChild, _: object) -> None:
        """Decide what follows from a child's end."""
        rare = child.rare
        if not rare.has_ended:
            return  # a plan that was going to stop it has consumed this end (M2)
        rare.has_ended = False
        reason, ref = rare.reason, child.ref
        host = self.tree.host
        if self.state.spec.pass_through and _is_panic(reason):
            self.note_stopped(child, reason)
            host.pass_through(reason)
            return
        plan = restart.plan_restart(self.state, child.id, host.now(), reason, host.draw())
        rare.node = child.ref = None
        if restart.is_end_reported(child, reason):
            how, verdict = child.spec.restart, plan.verdict.word
            count, limit = self.state.budget.charged(host.now()), self.state.spec.intensity
            host.emit(ChildTerminated(self.path, child.id, ref, reason, how, verdict, count, limit))
        self.take_up(plan, child)

    def handle_retry(self, child: TreeChild, attempt: int) -> None:
        """Try a start again that failed, unless that was overtaken."""
        if restart.is_retry_due(child, attempt):
            host = self.tree.host
            plan = restart.plan_retry(self.state, child.id, host.now(), host.draw())
            self.take_up(plan, child)

    def take_up(self, plan: Plan, child: TreeChild) -> None:
        """Begin what was decided about a child that ended or has waited."""
        reason, child.rare.reason = child.rare.reason, None
        restart.begin(self.state, plan)
        verdict = plan.verdict
        if isinstance(reason, BaseException) and verdict in (GIVE_UP, TERMINATE):
            self.tree.cause = reason  # those above end for a supervisor's "shutdown"
        if verdict is GIVE_UP:
            spec = self.state.spec
            self.tree.host.emit(
                IntensityReached(self.path, child.id, reason, spec.intensity, spec.period)
            )
        if verdict is DELAY or verdict is PAUSE:
            tree_retries.wait(self, child, plan, reason)
        elif verdict is not KEEP and verdict is not FORGET:
            self.carry_out(plan)

    # --- the engine ----------------------------------------------------------

    def go_on(self) -> None:
        """Take steps and events until one is in flight or none is left."""
        self.is_waiting = False
        while self.in_flight is None:
            if self.is_asked_to_stop:
                self._turn_to_stopping()
            plan = self.plan
            if plan is not None:
                self._take_step(plan)
            elif self.inbox:
                if self.phase is ENDED:
                    return
                handle, subject, detail = self.inbox.popleft()
                handle(self, subject, detail)
            else:
                return
        self.is_waiting = True

    def _turn_to_stopping(self) -> None:
        """Drop the plan for the one that stops everything; a request is finished first."""
        plan = self.plan
        if self.phase in (ENDING, ENDED):
            return
        if plan is None or plan.verdict is not REQUEST:
            self.plan = restart.plan_stop(self.state)
            self.phase = ENDING

    def _take_step(self, plan: Plan) -> None:
        child: Any = plan.next_stop() if plan.stops else None
        if child is not None and self.state.is_simple and plan.verdict is not REQUEST:
            self._stop_crowd(plan, child)
            return
        if child is not None:
            self._stop(child)
            return
        child = plan.next_start()
        if child is not None:
            self._start(child)
        else:
            self.plan = None
            self._conclude(plan)

    def _conclude(self, plan: Plan) -> None:
        verdict = plan.verdict
        if verdict is RESTART:
            self.phase = IDLE
        elif verdict is START:
            self.phase = IDLE
            self.entry.start_done(None)
        elif verdict is REQUEST:
            self.phase = IDLE
            self._answer(plan)
        elif verdict is ROLL_BACK:
            self._end()
            self.entry.start_done(self.error)
        else:
            self._end()
            self._report_end(plan)

    def _answer(self, plan: Plan) -> None:
        answer, self.answer = self.answer, None
        error, self.error = self.error, None
        assert answer is not None
        assert plan.child is not None
        if error is not None:
            answer.fail(error)
        else:
            answer.give(plan.child.ref if plan.starts else None)

    def _report_end(self, plan: Plan) -> None:
        verdict, order = plan.verdict, plan.order
        reason: object = SHUTDOWN
        if order is not None:
            reason = order if order.scope == "root" else DoNotRestart(order)
        if verdict is not STOP:
            above, _, own = self.path.rpartition("/")
            self.tree.host.emit(Escalated(above, own, verdict.value, reason))
        if self.is_asked_to_stop:
            is_late = self.deadline is not None and self.tree.host.now() >= self.deadline
            self.entry.stop_done(KILLED if is_late else SHUTDOWN)
        else:
            self.entry.ended(reason, verdict.value)

    def _end(self) -> None:
        self.phase = ENDED
        self.plan = None
        self.tree.supervisors.pop(self.path, None)
        if self in self.tree.families:
            self.tree.families.remove(self)
        inbox, self.inbox = self.inbox, deque()
        waiting = [detail for _, _, detail in inbox if isinstance(detail, Answer)]
        if self.answer is not None:
            waiting.append(self.answer)
            self.answer = None
        for answer in waiting:
            answer.fail(Stopped(self.path, SHUTDOWN))

    # --- steps ---------------------------------------------------------------

    def make_child(self, child_id: str, spec: ChildSpec) -> TreeChild:
        """Return a child of this supervisor that is not in its list yet."""
        child = TreeChild(child_id, spec)
        child.owner = self
        return child

    def make_from_template(self, name: str | None, extra: object) -> TreeChild:
        """Return a child of a simple_one_for_one that is not in its list yet.

        Raises:
            SpecError: The name or the extra arguments are not what they may be.
        """
        template = self.state.spec.children[0]
        assert isinstance(template, Worker)
        args = child_requests.extend_args(self.path, template.args, extra)
        own = child_requests.make_name(self.state, self.path, template, name)
        if template.journal:
            template = template.made(own, args)  # the journal looks for it by its name
        is_given = args is not template.args
        child = GivenChild(own, template, args) if is_given else MadeChild(own, template)
        child.owner = self
        return child

    def _start(self, child: TreeChild) -> None:
        spec = child.spec
        if isinstance(spec, Worker):
            try:
                ref = self.tree.host.start_worker(spec, child.name, child.args)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 -- whatever init raises is its failure
                self.note_start_failed(child, error)
                return
            if ref is IGNORED:
                restart.ignored(self.state, child)
            else:
                self.tree.workers.add(ref, child)
                self.note_started(child, ref)
            return
        self.in_flight = child
        child.node = SupervisorNode(self.tree, spec, child.path, child)
        child.node.begin_start()
        try:
            child.node.go_on()
        except BaseException:
            # KeyboardInterrupt half way: a later stop must find what had started.
            self.in_flight = None
            child.status = RUNNING
            raise

    def _stop(self, child: TreeChild) -> None:
        rare = child.rare
        if rare.has_ended:
            rare.has_ended = False  # (M2)
            reason, rare.reason = rare.reason, None
            self.note_stopped(child, reason)
            return
        self.in_flight = child
        try:
            if rare.node is not None:
                self._stop_supervisor(child, rare.node)
            else:
                self._stop_worker(child, child.stop_done)
        except BaseException:
            self.in_flight = None  # KeyboardInterrupt in a terminate: it counts as stopped
            restart.stopped(self.state, child)
            raise

    def _stop_crowd(self, plan: Plan, first: TreeChild) -> None:
        """Tell all to stop, the newest first, and wait once for all of them."""
        crowd = self.in_flight = Crowd(self)
        child: Any = first
        while child is not None and self.in_flight is crowd:
            crowd.add(child)
            if child.has_ended:
                child.has_ended = False  # (M2)
                crowd.stopped(child, child.reason)
            else:
                try:
                    self._stop_worker(child, partial(crowd.stopped, child))
                except BaseException:
                    self.in_flight = None  # KeyboardInterrupt in a terminate
                    restart.stopped(self.state, child)
                    raise
            child = plan.next_stop()
        crowd.is_told = True
        if crowd.is_gone and self.in_flight is crowd:
            self.in_flight = None

    def _stop_worker(self, child: TreeChild, done: Callable[[object], None]) -> None:
        ref, host = child.ref, self.tree.host
        self.tree.workers.discard(ref)
        limit = child.spec.shutdown
        left = self._time_left()
        if limit == "brutal_kill" or (left is not None and left <= 0):
            host.kill_worker(ref)
            done(KILLED)
            return
        timeout = None if isinstance(limit, str) else limit
        if left is not None:
            timeout = left if timeout is None else min(timeout, left)
        host.stop_worker(ref, SHUTDOWN, timeout, done)

    def _stop_supervisor(self, child: TreeChild, node: SupervisorNode) -> None:
        limit = child.spec.shutdown
        left = self._time_left()
        if limit == "brutal_kill" or (left is not None and left <= 0):
            node.kill()
            child.stop_done(KILLED)
            return
        deadline = self.deadline
        if not isinstance(limit, str):
            own = self.tree.host.now() + limit
            deadline = own if deadline is None else min(own, deadline)
        node.ask_to_stop(deadline)
        node.go_on()

    def _time_left(self) -> float | None:
        return None if self.deadline is None else self.deadline - self.tree.host.now()

    # --- what a step came to -------------------------------------------------

    def note_started(self, child: TreeChild, ref: object) -> None:
        """A child runs."""
        plan = self.plan
        if plan is not None and plan.verdict is RESTART:
            child.own().restarts += 1
        child.ref = ref
        restart.started(self.state, child)
        self.tree.host.emit(
            ChildStarted(self.path, child.id, ref, child.rare.restarts, self.state.is_simple)
        )

    def note_start_failed(self, child: TreeChild, error: BaseException) -> None:
        """A child did not start; nothing of it runs."""
        plan = self.plan
        assert plan is not None
        child.node = None
        error.__traceback__ = user_frames(error)
        self.tree.host.emit(StartError(self.path, child.id, error, plan.verdict.value))
        follow_up = restart.start_failed(self.state, plan, child, error)
        if follow_up is not None and follow_up.verdict is TERMINATE:
            self.tree.cause = error
            self.carry_out(follow_up)
        elif follow_up is not None:
            self.plan, self.phase = follow_up, ENDING
            failure = self.error = StartFailed(child.path, error)
            self.entry.start_failed(failure)
        elif child.status is RESTARTING:
            child.reason = error
            tree_retries.retry_later(self, child)
        elif plan.verdict is REQUEST:
            is_taken = isinstance(error, AlreadyStarted)
            self.error = error if is_taken else StartFailed(child.path, error)

    def note_stopped(self, child: TreeChild, outcome: object) -> None:
        """A child has stopped that was told to, or had ended before it was told."""
        ref = child.ref
        restart.stopped(self.state, child, self.plan)
        child.rare.node = None
        event = ShutdownError if restart.is_shutdown_error(child, outcome) else ChildStopped
        self.tree.host.emit(event(self.path, child.id, ref, outcome))


def _is_panic(reason: object) -> TypeGuard[BaseException]:
    """Whether a child ended by an exception that orders nothing (Suture, PassThroughPanics)."""
    return isinstance(reason, BaseException) and order_of(reason) is None

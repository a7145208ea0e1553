"""Requests to the supervisors of a node, from any thread: the part of `Node` that is about trees.

From another thread a request is posted to the loop and waited for. On the loop's own thread it is
carried out at once, or in its turn when its supervisor is at work. Inside a callback one that stops
something waits until that is over, for it may stop who asks; so do those that are made behind it.

Does not know: loops beyond posting; what a request means (tree/requests.py).
"""

from __future__ import annotations

import logging
import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pybehave.behaviours.application import Application, StartType, ensure_all
from pybehave.behaviours.child_requests import ChildCount, ChildInfo
from pybehave.behaviours.child_spec import Ref, Worker
from pybehave.behaviours.supervisor import ChildSpec, Supervisor, workers
from pybehave.errors import NoProc, PybehaveError, Timeout
from pybehave.runtime.optional import load_optional
from pybehave.runtime.sys import name_of
from pybehave.runtime.tree.tree import Answer, Tree
from pybehave.runtime.waiters import ThreadWaiter, check_timeout

if TYPE_CHECKING:
    from pybehave._uring.loop import Loop
    from pybehave.runtime.applications import Applications
    from pybehave.runtime.host import LoopHost

T = TypeVar("T")

logger = logging.getLogger("pybehave")


class Supervision:
    """What can be asked of the supervisors of a node.

    Attributes:
        loop: The node's loop.
        host: What it does for its trees.
        applications: Whose trees they are in.
    """

    loop: Loop
    host: LoopHost
    applications: Applications
    _put_off_count = 0  # requests of callbacks that wait for their ends

    @abstractmethod
    def run_on_loop(self, function: Callable[[], T], *, timeout: float | None = None) -> T:
        """Call a function on the loop's thread and return its result."""

    @abstractmethod
    def post(self, name: str | None, kind: int, message: Any, waiter: object) -> None:
        """Hand a function to the loop."""

    def start_child(
        self, supervisor: str, spec: ChildSpec | Sequence[Any], *, name: str | None = None
    ) -> Any:
        """Add a child to a running supervisor and start it (OTP, supervisor:start_child/2).

        From a hook (an init, a step, a terminate) the request is carried out at once if the
        supervisor is idle; if it is starting or stopping something, the request waits in its queue,
        this returns None, and a refusal is logged. So it is with all requests below; those that
        stop something (`terminate_child`, `remove_child`, `restart`), and what is asked for behind
        them, wait until the hook is over; so does the start of a journaled child by the step of a
        journaled server, whose record is made until then. A hook that fails has asked all the same,
        and a journaled step asks again whenever it is stepped again: there let another server ask.

        Args:
            supervisor: Its path ("root/supervisor-2"), or its id where only one has it.
            spec: A Worker, or a Supervisor with an id; for a simple_one_for_one the list of
                arguments that are added to the template's.
            name: What a child made from a template answers to; by default the template's name
                and a number.

        Returns:
            The new child's ref, or None when its init ignored.

        Raises:
            AlreadyStarted, AlreadyPresent, SpecError, StartFailed, NotFound: Nothing was stored.
        """
        return self._ask(
            lambda: self._tree(supervisor).start_child(supervisor, spec, name),
            starts=lambda: (
                spec if isinstance(spec, Worker | Supervisor) else self._template(supervisor)
            ),
        )

    def terminate_child(self, supervisor: str, child: Any, *, timeout: float | None = None) -> None:
        """Stop a child; it stays in the list unless it is temporary or made from a template.

        Args:
            supervisor: As for start_child.
            child: Its id, or the ref that start_child returned.
            timeout: Seconds to wait for its end; None waits as long as it takes. It ends the
                wait, not the stop.

        Raises:
            NotFound: No such supervisor or child.
            Stopped: Its supervisor has ended meanwhile, and the child with it.
            Timeout: It has not stopped yet; `unstopped()` shows where it stands.
        """
        self._ask_end(lambda: self._tree(supervisor).terminate_child(supervisor, child), timeout)

    def remove_child(self, supervisor: str, child: Any, *, timeout: float | None = None) -> None:
        """Stop a child if it runs, and forget it (Suture, RemoveAndWait).

        Args:
            supervisor: As for start_child.
            child: As for terminate_child.
            timeout: As for terminate_child.

        Raises:
            NotFound: No such supervisor or child, or the child is another supervisor's.
            Stopped: Its supervisor has ended meanwhile, and the child with it.
            Timeout: It has not stopped yet; `unstopped()` shows where it stands.
        """
        self._ask_end(lambda: self._tree(supervisor).remove_child(supervisor, child), timeout)

    def restart(self, supervisor: str, child_id: str) -> Any:
        """Stop a child, with all below it, and start it again: on purpose, so it is no failure.

        Nothing is charged, siblings stay as they are whatever the strategy.

        Args:
            supervisor: As for start_child.
            child_id: A worker's or a nested supervisor's id; a made child's name.

        Returns:
            Its new ref, or None when its init ignored.

        Raises:
            NotFound: No such supervisor or child.
            StartFailed: It did not start again, and is stopped.
        """
        return self._ask_end(lambda: self._tree(supervisor).restart(supervisor, child_id))

    def reconfigure(self, supervisor: str, spec: Supervisor) -> list[str]:
        """Change a running supervisor's flags and children; nothing starts, nothing stops.

        A child in both lists gets its new specification at its next start, one that is new is
        there but stopped, one that is missing stays as it is, behind the others (OTP, code_change).

        Args:
            supervisor: As for start_child.
            spec: What it would be started as.

        Returns:
            The ids that are new; `restart_child` starts them.

        Raises:
            NotFound: No such supervisor.
            SpecError: The new flags do not go with what runs, or a worker is journaled and the node
                keeps no journal; nothing has changed.
        """
        for worker in workers(spec) if isinstance(spec, Supervisor) else ():
            self.host.check_journal(worker)
        added: list[str] = self._ask(lambda: self._tree(supervisor).reconfigure(supervisor, spec))
        return added

    def migrate(self, server: str | Ref[Any, Any], *, to: str) -> None:
        """Move a server that runs to the end of another supervisor's children (Peeper, transfer).

        The server does not notice: state, mailbox, timers, monitors, callers and its journal stay
        what they are, and no request is lost or waits. From now on its failures are the other
        supervisor's matter. A child that was specified in its tree is specified in its new place,
        until the node stops; one that was added later is one that was added later there.

        Args:
            server: Its name, or its worker's ref.
            to: The other supervisor, as for start_child; also in another application of the node.

        Raises:
            NoProc: No server of this name runs, or it is in no tree.
            NotFound: No such supervisor.
            AlreadyStarted, AlreadyPresent: Its id is taken there.
            SpecError: It cannot live there: a significant child under one that never ends by
                itself, a supervisor with a template; or it is a family's member.
            Restarting, Stopped: The other supervisor is starting; it is about to end.
        """
        name = name_of(server)

        def request() -> Answer[Any]:
            found = self.loop.dispatcher.whereis(name)
            child = None if found is None else self.applications.child_of(found)
            if child is None:
                raise NoProc(name)
            return child.owner.tree.migrate(found, self._tree(to).supervisor(to))

        self._ask(request)

    def restart_child(self, supervisor: str, child_id: str) -> Any:
        """Start a stopped child in its old place.

        Raises:
            NotFound, Running, Restarting, StartFailed: It stays as it is.
        """
        return self._ask(
            lambda: self._tree(supervisor).restart_child(supervisor, child_id),
            starts=lambda: self._tree(supervisor).get_childspec(supervisor, child_id),
        )

    def delete_child(self, supervisor: str, child_id: str) -> None:
        """Forget a stopped child.

        Raises:
            NotFound, Running, Restarting: It stays as it is.
        """
        self._ask(lambda: self._tree(supervisor).delete_child(supervisor, child_id))

    def which_children(self, supervisor: str) -> list[ChildInfo]:
        """List a supervisor's children, newest first."""
        return self.run_on_loop(lambda: self._tree(supervisor).which_children(supervisor))

    def which_child(self, supervisor: str, child: Any) -> ChildInfo:
        """Find one of a supervisor's children (OTP 28, supervisor:which_child/2).

        Args:
            supervisor: As for start_child.
            child: Its id, or the ref that start_child returned.

        Raises:
            NotFound: There is no such child or supervisor.
        """
        return self.run_on_loop(lambda: self._tree(supervisor).which_child(supervisor, child))

    def get_childspec(self, supervisor: str, child: Any) -> ChildSpec:
        """Return what a child is specified as (OTP, supervisor:get_childspec/2).

        Args:
            supervisor: As for start_child.
            child: Its id, or the ref that start_child returned; of a simple_one_for_one a child's
                name, its ref, or the template's id.

        Raises:
            NotFound: There is no such child or supervisor.
        """
        return self.run_on_loop(lambda: self._tree(supervisor).get_childspec(supervisor, child))

    def count_children(self, supervisor: str) -> ChildCount:
        """Count a supervisor's children by kind and whether they run."""
        return self.run_on_loop(lambda: self._tree(supervisor).count_children(supervisor))

    def start_application(self, app: Application, start_type: StartType = "temporary") -> list[str]:
        """Start another application, and before it what it depends on and what does not run yet.

        In a hook it waits as `start_child` does: behind requests that wait, and by the step of a
        journaled server until that is over. Then it returns nothing, and a refusal is logged.
        Source: OTP kernel, application:ensure_all_started/2.

        Args:
            app: Its server names must be others than those that run.
            start_type: What its end means: "permanent", the node ends; "transient", it ends unless
                the reason is normal; "temporary", it is reported.

        Returns:
            The names of those that were started, in order.

        Raises:
            AlreadyStarted: It runs already.
            SpecError, ConfigError, StartFailed, ListenFailed: Nothing was started, or it was
                stopped again.
        """

        def request() -> Answer[Any]:
            begun: Answer[Any] = Answer()
            begun.give(self.applications.start(app, start_type))
            return begun

        return self._ask(request, starts=lambda: _journaled_tree(app)) or []

    def stop_application(self, name: str, *, drain: bool = True) -> None:
        """Stop an application; others stay, also those that depend on it.

        On the loop's own thread this returns before it has stopped; in a hook it begins when that
        is over, and a refusal is logged.

        Args:
            name: The application's.
            drain: Give its connections time for their last replies.

        Raises:
            NotStarted: It does not run.
        """
        over = threading.Event()

        def request() -> Answer[Any]:
            self.applications.stop(name, over.set, drain=drain)
            begun: Answer[Any] = Answer()
            begun.give(None)
            return begun

        self._ask_end(request)
        if not self.loop.is_here:
            over.wait()

    def _tree(self, supervisor: str) -> Tree:
        return self.applications.tree_with(supervisor)

    def _ask_end(self, request: Callable[[], Answer[Any]], timeout: float | None = None) -> Any:
        """As `_ask`; whoever asks inside a callback may be what is to stop."""
        check_timeout(timeout)
        if self.loop.is_here and self.loop.dispatcher.stepping_name is not None:
            return self._put_off(request)
        return self._ask(request, timeout)

    def _put_off(self, request: Callable[[], Answer[Any]]) -> None:
        self._put_off_count += 1

        def carry_out() -> None:
            self._put_off_count -= 1
            try:
                request().then(_log_refusal)
            except (PybehaveError, TypeError) as error:
                logger.error("a request made in a hook was refused: %s", error)

        self.host.defer(carry_out)

    def _template(self, supervisor: str) -> ChildSpec | None:
        spec = self._tree(supervisor).supervisor(supervisor).state.spec
        return spec.children[0] if spec.is_simple else None

    def _is_recorded(self, starts: Callable[[], ChildSpec | None]) -> bool:
        """Whether a start would now be a record in the middle of another."""
        journal = self.host.journal
        if journal is None or not journal.commit.is_recording:
            return False
        spec = starts()
        return spec is not None and any(worker.journal for worker in workers(spec))

    def _ask(
        self,
        request: Callable[[], Answer[Any]],
        timeout: float | None = None,
        starts: Callable[[], ChildSpec | None] = lambda: None,
    ) -> Any:
        if timeout is not None:
            check_timeout(timeout)
        if self.loop.is_here:
            is_in_callback = self.loop.dispatcher.stepping_name is not None
            if is_in_callback and (self._put_off_count or self._is_recorded(starts)):
                return self._put_off(request)  # in the order in which they were made
            answer = request()
            if answer.is_done:
                return answer.result()
            answer.then(_log_refusal)  # it waits for what its supervisor is doing now
            return None
        waiter = ThreadWaiter()

        def answered(answer: Answer[Any]) -> None:
            waiter.settle(None if answer.error else answer.result(), answer.error)

        def work() -> None:
            try:
                request().then(answered)
            except Exception as error:  # noqa: BLE001 -- raised again in the asking thread
                waiter.settle(None, error)

        self.post(None, 0, work, waiter)
        if not waiter.wait(timeout):
            raise Timeout("", timeout or 0.0, "The supervisor")
        return waiter.take()


def _journaled_tree(app: Application) -> Supervisor | None:
    """The tree of an application, or of one that it depends on, that a start may record."""
    trees = [each.tree for each in ensure_all(app, load_optional)]
    return next((tree for tree in trees if any(worker.journal for worker in workers(tree))), None)


def _log_refusal(answer: Answer[Any]) -> None:
    """A request from within a hook had to wait, and nobody is there to hear its error."""
    if answer.error is not None:
        logger.error("a request made in a hook was refused: %s", answer.error)

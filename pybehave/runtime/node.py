"""A node: one application on one loop, and the ways to talk to it.

    with app.start() as node:                 the loop runs on a thread of its own
        node.call("kv1", [b"GET", b"x"])      from any thread
        await node.acall("kv1", ...)          from asyncio code

`run` serves on the calling thread instead (the command does), and `boot` with `run_once` lets a
test drive the loop tick by tick, as the simulator needs.

Life: NEW -> RUNNING -> STOPPING -> STOPPED. Stopping drains: accept no more, answer what was read,
flush, close; then the tree stops in reverse start order; then the loop is closed.
"""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, final

from pybehave._uring.batch import call_many
from pybehave._uring.loop import Loop
from pybehave._uring.servers import (
    ACK_OS,
    ACK_SERVERS,
    INPUT_CALL,
    INPUT_CAST,
    INPUT_INFO,
    OVERFLOW_DROP_OLDEST,
    OVERFLOW_REJECT,
)
from pybehave.actions import Down
from pybehave.behaviours.application import Application, StartType
from pybehave.config import Config
from pybehave.errors import (
    CalledInCallback,
    DurabilityLost,
    LoopClosed,
    LoopForked,
    Overloaded,
    Timeout,
    show_reason,
)
from pybehave.journal.disk import Disk
from pybehave.journal.recovery import Options
from pybehave.listener import Listener
from pybehave.runtime import addresses, draining, listeners, signals, systemd
from pybehave.runtime.applications import Applications
from pybehave.runtime.counters import counters_of
from pybehave.runtime.crashes import CrashReport
from pybehave.runtime.durable.forgetting import Forgetting
from pybehave.runtime.durable.place import journal_in
from pybehave.runtime.events import EventHub
from pybehave.runtime.families import Families
from pybehave.runtime.health import ASK_S, Health, HealthLimits, HealthWatch
from pybehave.runtime.host import LoopHost
from pybehave.runtime.isolation import Isolation
from pybehave.runtime.node_options import LOOP_DEFAULTS, check_options, default_backend
from pybehave.runtime.patience import Patience
from pybehave.runtime.release.handover import Replacement
from pybehave.runtime.release.releases import Releases
from pybehave.runtime.requests import Requests
from pybehave.runtime.servers import level_of
from pybehave.runtime.sys import Name, Sys, name_of
from pybehave.runtime.tree.supervision import Supervision
from pybehave.runtime.tree.tree import Tree
from pybehave.runtime.tree.unstopped import Unstopped, unstopped
from pybehave.runtime.waiters import (
    ThreadWaiter,
    check_timeout,
    is_patient_of,
    refuse_stop,
    settling,
)
from pybehave.runtime.watchdog import watchdog_for
from pybehave.types import Acknowledge, OnRestart

T = TypeVar("T")

CALL_TIMEOUT_S: Final = 5.0
"""OTP's default for gen_server:call."""

DATA: Final = "data"
"""Where the journal lies unless told otherwise: below the current folder."""

DRAIN_TIMEOUT_S: Final = 10.0
"""How long connections may take to get their last replies when the node stops."""

HANDOVER_DRAIN_S: Final = 1.0
"""For whoever has asked for the handover to hear how it went."""

STOP_TICK_S: Final = 1.0
"""How long a tick may wait while the tree stops; whatever ends a stop also ends the wait."""

logger = logging.getLogger("pybehave")


@final
class Node(Requests, Supervision, Forgetting):
    """One running application.

    Args:
        app: The tree and its listeners.
        backend: "auto", "uring", "full", "basic", "epoll" or "sim"; None takes the environment's
            PYBEHAVE_BACKEND, or "auto".
        listen: URLs that replace those of the application's listeners, in order.
        config: Values for the environments: application -> key -> value; or what config.read gave.
        drain_timeout: Seconds for the last replies when the node stops.
        seed: Of `context.random` and of the simulator.
        data: The folder of the journal, when a worker has `journal=True`; or a Disk. None keeps
            everything in memory.
        journal_options: How the journal is kept.
        reset: Names of journaled servers that begin anew at this start (durable/forgetting.py): all
            that is kept of them is lost, and none of their inputs is stepped.
        step_budget: Seconds after which a step is reported with its stack (runtime/watchdog.py);
            None: nobody looks, and there is no thread for it.
        debug_isolation: Look after each step for what servers share by accident; slow
            (runtime/isolation.py).
        step_abort: Seconds after which a step is aborted, a crash of its server; None is never.
        health: From when on something is a reason not to be well (runtime/health.py).
        loop_options: `buffers`, `buffer_bytes`, `submissions`, `completions`.

    Attributes:
        is_asked_to_stop: By its owner, by a signal, or by the end of an application that it is not
            to live without; it stops at the end of this tick, or does so already.
    """

    is_asked_to_stop = _is_begun = _is_booting = _is_stopping = _is_left = False
    replacement: Replacement | None = None
    _passed: BaseException | None = None
    _failure: BaseException | None = None
    _thread: threading.Thread | None = None

    def __init__(
        self,
        app: Application,
        *,
        backend: str | None = None,
        listen: tuple[str, ...] = (),
        config: Config | Mapping[str, Mapping[str, Any]] | None = None,
        drain_timeout: float = DRAIN_TIMEOUT_S,
        seed: int = 0,
        data: str | os.PathLike[str] | Disk | None = DATA,
        journal_options: Options | None = None,
        reset: Collection[str] = (),
        step_budget: float | None = None,
        step_abort: float | None = None,
        debug_isolation: bool = False,
        health: HealthLimits | None = None,
        **loop_options: Any,
    ) -> None:
        check_options(locals())
        self.events = EventHub()
        self.watch = HealthWatch(self, health or HealthLimits())
        self.exit_status = 0
        sizes = {**LOOP_DEFAULTS, **loop_options}
        self.loop = Loop(backend or default_backend(), seed=seed, **sizes)
        self.host = LoopHost(self.loop, self.events, self.run_on_loop)
        self.host.node = self
        if debug_isolation:
            self.host.isolation = Isolation(self.events)
        self.host.is_durable = data is not None
        self.drain_timeout = drain_timeout
        self.applications = Applications(self, app, Config.of(config), listen)
        self.app = self.applications.primary
        self.host.on_worker_ended = self.applications.worker_ended
        self.journal = journal_in(self, data, journal_options or Options(), reset)
        self.watchdog = watchdog_for(self, step_budget, step_abort)
        self.sys = Sys(self)
        self.releases = Releases(self)
        self.host.on_change = self.releases.server_changes
        self.groups = self.host.groups
        self.families = Families(self.host, self.applications.trees)
        self.loop.dispatcher.on_missing = self.families.wake
        self.host.settled = Patience(self.host, self.applications.trees).settled
        self.inherited: dict[str, int] = {}  # listening sockets of the process before, by name
        self.kept_beside: list[Port] = []  # of `_beside`, those that a process after this one gets
        self._beside: dict[Port, tuple[str, int, int] | None] = {}
        self.is_draining = True
        self._started = threading.Event()

    # --- life --------------------------------------------------------------------------------

    def start(self) -> Self:
        """Run the loop on a thread of its own; returns when every init has returned.

        Raises:
            StartFailed: A child did not start; what had started was stopped again.
            ListenFailed: An address cannot be had.
            LoopClosed: It has been started before.
        """
        self._begin()
        self._thread = threading.Thread(
            target=self._run_thread, name=f"pybehave-{self.app.name}", daemon=True
        )
        self._thread.start()
        self._started.wait()
        if self._passed is not None:
            self._thread.join()
            raise self._passed
        return self

    def run(self, on_ready: Callable[[Node], None] | None = None, is_last: bool = False) -> int:
        """Serve on this thread until stopped; returns the process's exit status.

        On the main thread TERM drains, INT stops, a second INT ends at once (130), HUP and USR1
        are events (see runtime/signals.py).

        Args:
            on_ready: Called when the node serves; one that it asks to stop is not said to be ready.
            is_last: The process ends behind it: another TERM changes nothing any more.
        """
        with signals.installed(self, is_last):
            self.boot()
            if on_ready is not None:
                on_ready(self)
            if not self.is_asked_to_stop:
                systemd.notify("READY=1")
            systemd.feed_watchdog(self.loop.dispatcher.start_alarm)
            try:
                self._serve()
            except KeyboardInterrupt:
                self.is_draining = False
                self.exit_status = self.exit_status or signals.INTERRUPTED
            except LoopForked:  # a step has forked, and this is the child: it has no node
                raise
            except BaseException as error:  # noqa: BLE001 -- raised again below
                self._loop_failed(error)
                self._passed = self._passed or error
            try:
                self._shut_down()
            except KeyboardInterrupt:  # at once; a program that goes on has to know of it
                if not is_last:
                    raise
                self.exit_status = self.exit_status or signals.INTERRUPTED
        if self._passed is not None:
            raise self._passed
        return self.exit_status

    def boot(self) -> None:
        """Start tree and listeners on this thread, the loop's from now on; raises as `start`."""
        if self._thread is not threading.current_thread():
            self._begin()
        is_fallback = self.loop.source == "epoll" and "asked for" not in self.loop.reason
        level = logging.WARNING if is_fallback else logging.INFO
        logger.log(level, "using %s: %s", self.loop.source, self.loop.reason)
        self._is_booting = True
        try:
            self.loop.run_once(0.0)
            if self.journal is not None:
                self.journal.open()
                self.host.journal = self.journal
            if self.watchdog is not None:
                self.watchdog.start()
            self.applications.check()
            self.applications.boot()
            if self.journal is not None:
                self.journal.deliver()
            self.applications.open_listeners()
            if self.journal is not None:
                self.journal.letters.send_again()
            self.watch.serving()
        except BaseException:
            self.is_draining = False
            self._shut_down()
            raise
        finally:
            self._is_booting = False

    def add_listener(
        self, listener: Listener, *, mode: int | None = None, is_kept: bool = False
    ) -> Port:
        """Open a listener beside the applications' own; on the loop's thread, after `boot`.

        Args:
            mode: Of a Unix socket's file; None = as the umask says.
            is_kept: Whether a process that takes this one's place gets its socket.

        Raises:
            ListenFailed: The address cannot be had.
        """
        packed, fd = listeners.address_of(listener), self.inherited.pop(listener.name, -1)
        port = listeners.open_listener(self.loop, listener, packed, mode=mode, fd=fd)
        self._beside[port] = listeners.socket_file(listener)
        self.kept_beside += [port] if is_kept else []
        return port

    def run_once(self, timeout: float = 0.0) -> int:
        """One tick of the loop, for tests that drive it; returns the completions it brought."""
        return self.loop.run_once(timeout)

    def stop(self, *, drain: bool = True, timeout: float | None = None) -> int:
        """Stop the node and wait until it has; returns its exit status.

        Args:
            drain: Give connections time for their last replies.
            timeout: Seconds to wait for the end; None waits as long as it takes.

        Raises: CalledInCallback: Within a callback; use `request_stop` there.
        """
        check_timeout(timeout)
        refuse_stop(self.loop, self._thread, is_booting=self._is_booting)
        self.request_stop(drain=drain)
        self._is_left = True
        if self._thread is not None:
            self._thread.join(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
            for late in self.unstopped() if self._thread.is_alive() else ():
                logger.warning("%s has not ended:\n%s", late.path, late.stack)
        elif not self.loop.is_running:
            self._shut_down()
        return self.exit_status

    def fail(self, error: BaseException) -> None:
        """End the node with an exception: `run` raises it, or leaving the `with` block does."""
        self._passed = self._passed or error
        self.give_up(error)

    def request_stop(self, *, drain: bool = True) -> None:
        """Ask the node to stop; from any thread and from signal handlers."""
        self.is_draining = self.is_draining and drain
        self.is_asked_to_stop = True
        self.loop.stop()

    def __enter__(self) -> Self:
        self._check_not_left()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        failure = self._failure
        if failure is None or failure is error:
            return
        if error is None:
            raise failure
        error.add_note(f"Before that, the node had ended: {show_reason(failure)}")

    def _begin(self) -> None:
        self._check_not_left()
        if self._is_begun:
            raise LoopClosed(f"Node {self.app.name!r} runs already; stop it, or start another")
        self._is_begun = True

    def _check_not_left(self) -> None:
        if self._is_left:
            raise LoopClosed(f"Node {self.app.name!r} has stopped; a node runs once, start another")

    def _run_thread(self) -> None:
        try:
            self.boot()
        except BaseException as error:  # noqa: BLE001 -- raised again in start()
            self._passed = error
            self._started.set()
            return
        self._started.set()
        try:
            self._serve()
        except LoopForked:  # a step has forked, and this is the child: it has no node
            return
        except BaseException as error:  # noqa: BLE001 -- raised again in __exit__
            self._loop_failed(error)
        self._shut_down()

    def _loop_failed(self, error: BaseException) -> None:
        logger.critical("the loop of %r failed", self.app.name, exc_info=error)
        self._failure = self._failure or error
        self.exit_status = 1

    def _serve(self) -> None:
        if not self.is_asked_to_stop:  # a signal may have come while the tree was starting
            self.loop.run()

    def application_ended(self, error: BaseException | None) -> None:
        """An application that the node is not to live without has ended; something outside may
        restart us.

        Args:
            error: What the node's owner is to hear; None for an orderly end.
        """
        if self._is_stopping:
            return
        if error is None:
            self.request_stop()
        else:
            self.give_up(error, drain=True)

    def give_up(self, error: BaseException, *, drain: bool = False) -> None:
        """End the node for a reason that its owner is to hear: by the exit status of `run`, or as
        what leaving the `with` block raises. The first reason stands. On the loop's thread.
        """
        self.exit_status = 1
        self._failure = self._failure or error
        self.request_stop(drain=drain)

    def _shut_down(self) -> None:
        if self._is_stopping:
            return
        self._is_stopping = True
        until = self.loop.now() + self.drain_timeout
        self.watch.stopping()
        self.releases.close()
        if self.replacement is None:
            systemd.notify("STOPPING=1")
            self._close_connections()
        else:
            self.applications.leave_files()
            self._beside = dict.fromkeys(self._beside)
        self.host.pools.is_closing = True
        self._stop_trees(until)
        if self.loop.dispatcher.is_deciding:  # there was no tick any more to tell who waits
            self.loop.dispatcher.decided()
        self.host.pools.close()
        if self.journal is not None:
            self.journal.close(is_followed=self.replacement is not None)
        if self.replacement is not None:
            self._finish_handover(self.replacement)
        self.host.workers.close()
        self.host.monitors.close()
        if self.watchdog is not None:
            self.watchdog.stop()
        signals.loop_closes(self.loop.wake_fd)
        self.loop.close()
        for bound in self._beside.values():
            if bound is not None and self.loop.source != "sim":
                listeners.remove_socket(bound)

    def hand_over(self, replacement: Replacement) -> None:
        """Stop, and let another process go on with the connections (release/handover.py)."""
        self.replacement = replacement
        self.request_stop()

    def _finish_handover(self, replacement: Replacement) -> None:
        if not replacement.carry_out():
            self.exit_status = 1
        for port in replacement.ports:  # nothing is under way: the other process's stay open
            self.loop.end_connections(port, True)
        self.drain_timeout = min(self.drain_timeout, HANDOVER_DRAIN_S)
        self._close_connections()
        replacement.pass_on_stop()

    def _close_connections(self) -> None:
        draining.close_connections(
            self.loop, self.drain_timeout, lambda: self.is_draining, self.applications.servers
        )

    def _stop_trees(self, until: float) -> None:
        if self.is_draining:
            self.loop.run_once(0.0)  # what other threads have sent gets into the mailboxes
        for running in self.applications.in_reverse():
            seconds = max(until - self.loop.now(), 0.0) if self.is_draining else 0.0
            self._wait(partial(self.applications.end_tree, running, seconds=seconds))
        for tree in self.applications.half_started():
            self._wait(partial(_stop_tree, tree))

    def _wait(self, begin: Callable[[Callable[[], None]], object]) -> None:
        """Begin something on this thread and let the loop run until it is over."""
        over: list[bool] = []
        begin(lambda: over.append(True))
        while not over:
            self.loop.run_once(STOP_TICK_S)

    # --- talking to servers --------------------------------------------------------------------

    def call(
        self,
        server: Name,
        request: Any,
        *,
        timeout: float | None = CALL_TIMEOUT_S,
        acknowledge: Acknowledge | None = None,
        on_restart: OnRestart = "fail",
        priority: bool = False,
    ) -> Any:
        """Send a request and wait for its reply; from any thread.

        On the loop's own thread the turn runs at once. Inside a callback this is refused: return
        the action `Call` instead.

        Args:
            server: Name, a worker's `ref`, or a `Via`.
            request: What `step` or `handle_call` gets.
            timeout: Seconds; None waits for ever. A timeout ends the wait, not the request.
            acknowledge: When a journaled server's reply may be given: "disk", "os" or "memory";
                by default as its worker says.
            on_restart: What the server's end means for a request that it has not begun: "fail",
                an error at once, as in OTP; "wait", the next incarnation takes it, if its
                supervisor is to start one within `timeout`. One that has begun always fails. On
                the loop's own thread nothing can wait.
            priority: Go ahead of what waits in the server's mailbox (`post_urgent`).

        Raises:
            NoProc: No server has this name; `names()` lists them.
            Crashed: The callback raised; nothing is retried.
            Stopped: The server ended before it replied.
            Overloaded: The mailbox is full and its policy is to reject.
            Timeout: No reply in time.
        """
        name = server if type(server) is str else name_of(server)
        if timeout is not CALL_TIMEOUT_S:  # what is left out is in order: a turn takes 0.1 us
            check_timeout(timeout)
        level = ACK_SERVERS if acknowledge is None else self.level(acknowledge)
        is_patient = on_restart != "fail" and is_patient_of(on_restart)
        if priority:
            return self.call_urgent(name, request, timeout, level, is_patient=is_patient)
        if self.loop.is_here:
            return self.call_here(name, request, level, timeout)
        waiter = ThreadWaiter(level, is_patient=is_patient)
        self.post(name, INPUT_CALL, request, waiter)
        if not waiter.wait(timeout):
            self.host.defer(lambda: self.loop.dispatcher.abandon(waiter))
            raise Timeout(name, timeout or 0.0)
        return waiter.take()

    def level(self, acknowledge: Acknowledge | None) -> int:
        """The number of a call's level; what it needs is there from now on."""
        level = level_of(acknowledge)
        if level == ACK_OS and self.journal is not None and self.journal.commit.tail is None:
            self.run_on_loop(self.journal.tail.want)
        return level

    def call_here(self, name: str, request: Any, level: int, timeout: float | None) -> Any:
        """Call on the loop's own thread; between ticks the loop runs until the reply is durable."""
        dispatcher = self.loop.dispatcher
        if self.journal is None:
            return dispatcher.call(name, request)
        try:
            return dispatcher.call(name, request)
        finally:
            barrier = dispatcher.wanted(name, level, dispatcher.barrier_now())
            self.wait_durable(barrier, name, timeout)

    def wait_durable(self, batch: int, server: str = "", timeout: float | None = None) -> None:
        """Run the loop until a batch of the journal is durable; at once while the loop runs.

        Raises:
            DurabilityLost: It never will be.
            Timeout: It was not within so many seconds, on a full disk for one.
        """
        due = self.loop.now() + (math.inf if timeout is None else timeout)
        while self.journal is not None and batch > self.journal.commit.durable_batch:
            if self.loop.is_running:
                return
            if self.journal.commit.error:
                raise DurabilityLost(os.strerror(self.journal.commit.error))
            left = due - self.loop.now()
            if left <= 0:
                raise Timeout(server, timeout or 0.0)
            self.loop.run_once(min(STOP_TICK_S, left))

    def acall(
        self,
        server: Name,
        request: Any,
        *,
        timeout: float | None = CALL_TIMEOUT_S,
        acknowledge: Acknowledge | None = None,
        on_restart: OnRestart = "fail",
        priority: bool = False,
    ) -> Awaitable[Any]:
        """Like `call`, to be awaited in an asyncio task. Cancelling ends the wait only."""
        check_timeout(timeout)
        from pybehave.runtime import aio  # here, for asyncio takes 50 ms to import

        level = self.level(acknowledge)
        how: dict[str, Any] = {"is_patient": is_patient_of(on_restart), "priority": priority}
        return aio.call(self, name_of(server), request, timeout, level, **how)

    def call_many(
        self,
        server: Name,
        requests: Sequence[Any],
        *,
        timeout: float | None = CALL_TIMEOUT_S,
        acknowledge: Acknowledge | None = None,
    ) -> list[Any]:
        """Call a server with many requests, in order; from any other thread than the loop's.

        The way to the loop and the wait for the disk are paid once for all of them. They are
        stepped one after the other, as if each had been called alone.

        Returns:
            The outputs; in place of each that failed, the exception that `call` would have raised.

        Raises:
            Timeout: Not all replies came in time.
        """
        name = name_of(server)
        check_timeout(timeout)
        if self.loop.is_here:
            raise CalledInCallback(self.loop.dispatcher.stepping_name or "", name)
        level = self.level(acknowledge)
        waiter = ThreadWaiter()

        def work() -> None:
            try:
                outputs, batch = call_many(self.loop.dispatcher, name, requests)
            except Exception as error:  # noqa: BLE001 -- raised again in the asking thread
                waiter.settle(None, error)
                return
            if self.journal is None:
                waiter.settle(outputs, None)
            else:
                batch = self.loop.dispatcher.wanted(name, level, batch)
                self.journal.commit.settle_when_durable(batch, waiter, outputs)

        result: list[Any] = self.waited(work, waiter, name, timeout)
        return result

    def cast(self, server: Name, message: Any) -> None:
        """Send a message and wait for nothing; to an unknown name it is lost (OTP, cast/2).

        A full mailbox makes another thread wait when its policy is "block".

        Raises:
            Overloaded: The mailbox is full and its policy is to reject.
        """
        name = server if type(server) is str else name_of(server)
        if not self.loop.post_here(name, INPUT_CAST, message):
            self._send(name, INPUT_CAST, message)

    def info(self, server: Name, message: Any) -> None:
        """Send an info: `handle_info` gets it. Otherwise like `cast`."""
        name = name_of(server)
        if not self.loop.post_here(name, INPUT_INFO, message):
            self._send(name, INPUT_INFO, message)

    def run_on_loop(self, function: Callable[[], T], *, timeout: float | None = None) -> T:
        """Call a function on the loop's thread and return its result; it must not block."""
        if self.loop.is_here:
            return function()
        waiter = ThreadWaiter()
        result: T = self.waited(settling(function, waiter), waiter, "", timeout)
        return result

    def waited(
        self, work: Callable[[], None], waiter: ThreadWaiter, name: str, timeout: float | None
    ) -> Any:
        """Let the loop call `work`, and return what it settles `waiter` with."""
        self.post(None, 0, work, waiter)
        if not waiter.wait(timeout):
            raise Timeout(name, timeout or 0.0, "" if name else "The loop")
        return waiter.take()

    def _send(self, name: str, kind: int, message: Any) -> None:
        """Post from another thread than the loop's."""
        server = self.loop.dispatcher.whereis(name)
        # What other threads have posted and the loop has not seen may all be for this server.
        if server is None or (
            server.mailbox_count + self.loop.inbox_count < server.capacity
            or server.overflow == OVERFLOW_DROP_OLDEST
        ):
            self.post(name, kind, message, None)
        elif server.overflow == OVERFLOW_REJECT and server.is_full:
            raise Overloaded(name, server.capacity)
        else:
            # Block: this thread goes on when the loop has got round to the message's mailbox.
            waiter = ThreadWaiter()
            post = self.loop.dispatcher.post_when_room
            self.waited(lambda: post(name, kind, message, waiter), waiter, name, None)

    def post(self, name: str | None, kind: int, message: Any, waiter: object) -> None:
        """Hand an input to the loop, as `call` and `cast` do; for other ways of waiting."""
        if self._is_stopping:
            why = "" if self._failure is None else f" ({show_reason(self._failure)})"
            raise LoopClosed(
                f"Node {self.app.name!r} has stopped{why}; start the application again"
            ) from self._failure
        if waiter is not None and self.loop.source == "sim" and not self._is_begun:
            raise LoopClosed(  # nobody would ever answer: only the test itself runs this loop
                f"The simulation of {self.app.name!r} has not begun; use it in a `with` block, or "
                f"call start()"
            )
        if name is None or not self.loop.post_here(name, kind, message, waiter):
            self.loop.post(name, kind, message, waiter)

    # --- applications --------------------------------------------------------------------------

    @property
    def tree(self) -> Tree:
        """The tree of the application that the node was made for."""
        return self.applications.tree

    def which_applications(self) -> list[tuple[str, str, StartType]]:
        """Name, version and start type of the applications that run, in the order of starts."""
        return self.run_on_loop(self.applications.which)

    def env(self, application: str) -> Any:
        """Return an application's environment: an instance of the class that it declares.

        Raises:
            NotStarted: It does not run.
        """
        return self.run_on_loop(lambda: self.applications.env(application))

    def configure(self, config: Mapping[str, Mapping[str, Any]]) -> None:
        """Set keys of environments while the applications run; `config_change` tells them.

        Args:
            config: Application -> key -> value.

        Raises:
            ConfigError, NotStarted: Nothing was changed.
        """
        self.run_on_loop(lambda: self.applications.configure(Config.of(config)))

    def monitor(self, server: Name) -> Future[Down]:
        """Watch a server from outside; the result is its `Down`, once it has ended.

        If no server has the name, that is a `Down` with reason "noproc". The future is cancelled
        when the node's loop ends. Servers use the action `Monitor`.
        """
        name = name_of(server)
        return self.run_on_loop(lambda: self.host.monitors.monitor_outside(name, self.loop))

    # --- looking -------------------------------------------------------------------------------

    @property
    def failure(self) -> BaseException | None:
        """Why the node has ended, or is about to, by itself; None for all other ends."""
        return self._failure

    @property
    def urls(self) -> tuple[str, ...]:
        """Where the node listens, with the ports the system chose."""
        return tuple(
            addresses.bound_url(port.url, port.fd)
            for port in self.loop.ports
            if port.is_open and port not in self._beside
        )

    @property
    def listening(self) -> list[tuple[Listener, str]]:
        """The listeners of all applications, each with the URL it has got."""
        return [
            (listener, addresses.bound_url(port.url, port.fd))
            for listener, port in self.applications.listening()
        ]

    def unstopped(self) -> list[Unstopped]:
        """Servers whose `terminate` is not over, and where each stands; from any thread."""
        return unstopped(self.applications.trees(), self.host)

    def names(self) -> list[str]:
        """Names of the servers that run."""
        return self.run_on_loop(self.loop.dispatcher.names)

    def whereis(self, name: Name) -> int | None:
        """The incarnation of a running server, or None."""
        server = self.loop.dispatcher.whereis(name_of(name))
        return None if server is None else server.incarnation

    def get_state(self, server: Name) -> Any:
        """As `sys.get_state`, but it does not wait for what the server has yet to take.

        Raises:
            NoProc: No server has this name.
        """
        name = name_of(server)
        return self.run_on_loop(lambda: self.sys.state_now(name))

    def health(self, *, timeout: float | None = ASK_S) -> Health:
        """Say whether the node is well, and why not; from any thread.

        Args:
            timeout: Seconds for the loop to answer, or else it is stuck; None waits for ever.
        """
        return self.watch.ask(timeout)

    def crashes(self) -> list[CrashReport]:
        """The newest crash reports, at most 128, oldest first; of a node that has stopped, too."""
        try:
            return self.run_on_loop(lambda: list(self.host.crashes))
        except LoopClosed:
            return list(self.host.crashes)

    def stats(self) -> dict[str, Any]:
        """All counters of the loop, its connections and its servers."""
        return self.run_on_loop(lambda: counters_of(self))


def _stop_tree(tree: Tree, done: Callable[[], None]) -> None:
    tree.stop("shutdown", lambda _: done())


if TYPE_CHECKING:
    from pybehave._uring.servers import Port

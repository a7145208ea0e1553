"""What a tree asks of the loop: start this worker, stop that one.

The tree decides (tree/tree.py), this carries out: it makes servers, calls `init` and
`terminate`, and tells the tree when a server has ended.

Order when a server crashes (OTP): callers are told and the name is free, `terminate` runs, then
the supervisor hears of it and acts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from msgspec.structs import replace

from pybehave._uring.handout import Batch, HandOut, events_in
from pybehave._uring.servers import INPUT_INFO, Server
from pybehave.actions import Cancel, Closed, Connect, ConnectFailed, Join, Run
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.event_manager import Entry
from pybehave.behaviours.gen_event import GenEvent
from pybehave.behaviours.gen_server import GenServer, Initial, overrides, shape_of, shown_state
from pybehave.behaviours.handout import SPECIAL
from pybehave.behaviours.handout import Stopped as RunStopped
from pybehave.behaviours.hosted import Beside, HostedServer
from pybehave.behaviours.orders import order_of
from pybehave.behaviours.recovery import Failure, Recovery, takes_recovery
from pybehave.behaviours.schema import version_of
from pybehave.errors import (
    AlreadyStarted,
    InitStopped,
    NoProc,
    SpecError,
    Stopped,
    ended_error,
    show,
)
from pybehave.listener import Listener
from pybehave.runtime import addresses
from pybehave.runtime.cleanup import Cleanup, has_terminate, terminate
from pybehave.runtime.crashes import MESSAGES_KEPT, Crashes, CrashReport
from pybehave.runtime.debug import Debug
from pybehave.runtime.durable import asked
from pybehave.runtime.durable.policies import stop_for
from pybehave.runtime.durable.recoveries import error_text, first_state
from pybehave.runtime.events import EventHub
from pybehave.runtime.groups import Groups
from pybehave.runtime.invariants import Invariants
from pybehave.runtime.jobs.pools import Pools
from pybehave.runtime.monitors import Monitors
from pybehave.runtime.observed import Observed
from pybehave.runtime.registries import Registries
from pybehave.runtime.servers import instance_of, make_server
from pybehave.runtime.tree.workers import place_of, spec_of
from pybehave.runtime.trimming import Trimmer
from pybehave.runtime.watchdog import StepTooLong
from pybehave.runtime.workers import Workers
from pybehave.types import IGNORED, KILLED, is_clean

if TYPE_CHECKING:
    from collections import deque

    from pybehave._uring.codec import Codec
    from pybehave._uring.handles import Caller
    from pybehave._uring.loop import Loop
    from pybehave.runtime.durable.journaling import NodeJournal
    from pybehave.runtime.durable.replay import Known
    from pybehave.runtime.isolation import Isolation
    from pybehave.runtime.node import Node

logger = logging.getLogger("pybehave")

CALLBACKS = {
    0: "an action",
    1: "handle_call",
    2: "handle_cast",
    3: "handle_info",
    4: "handle_continue",
    5: "handle_info",
    6: "a link to another server",
    7: "sys.terminate",
}
Left: TypeAlias = tuple[
    "Caller | None", "deque[tuple[Any, ...]] | None", int, int, "Debug | None", int, Any
]
NOTHING_LEFT: Final[Left] = (None, None, 0, 0, None, 0, None)
"""What is known of a server beside its state, when its end has been told already."""

HAND_OUT: Final = HandOut(SPECIAL, RunStopped)
ACTION, LINK, SYSTEM = NOT_CRASHES = 0, 6, 7
"""Its own callback was over when it ended, so its state stands."""

SENT: Final = (1, 2)
"""Calls and casts come from others; what else a server gets, its own init may bring about again."""


@final
class LoopHost:
    """The tree's hands on one loop.

    Args:
        loop: Where the servers live.
        events: Who hears of starts and ends.
        run_on_loop: How another thread gets a function called on the loop's.

    Attributes:
        emit: Lets everybody hear of an event.
        settled: Called when a tree has done what it could for now.
        on_worker_ended: Called when a worker has ended by itself, its terminate included: with its
            reason, and whether starting it again is free (restart.py, R10).
        on_change: Called with a server's name before it is ended from outside, and before it
            starts: then with its specification, too, and it may refuse by an UpgradeRefused.
        is_durable: A worker with `journal=True` must find a journal; False: it is kept in memory.
    """

    def __init__(
        self,
        loop: Loop,
        events: EventHub,
        run_on_loop: Callable[[Callable[[], Any]], Any] = lambda function: function(),
    ) -> None:
        self.loop = loop
        self.events = events
        self.emit = events.emit
        self.crashes = Crashes()
        self.workers = Workers()
        self.pools = Pools(loop, self.defer)
        self.monitors = Monitors(loop.dispatcher, self._end_linked, self.defer, self._ending_of)
        self.groups = Groups(loop.dispatcher, run_on_loop)
        self.settled: Callable[[], None] = lambda: None
        self.on_worker_ended: Callable[[Server, object, bool], None] | None = None
        self.on_change: Callable[[str, Worker[Any, Any] | None], None] = lambda _, __: None
        self.is_durable = False
        self.node: Node | None = None
        self.isolation: Isolation | None = None
        self.invariants = Invariants()
        self.observed = Observed()
        self.registries = Registries()
        self.doing: tuple[str, str, int] | None = None  # what else than a step: for the watchdog
        self._done = 0
        self.journal: NodeJournal | None = None
        self.terminating: dict[Server, Cleanup | None] = {}
        self._starting: set[str] = set()
        self._trimmer = Trimmer(self.after)
        self._random = Random(f"{loop.dispatcher.seed}/tree")
        # Servers that end by themselves and whose terminate still yields, and who else waits.
        self._ending: dict[Server, list[Callable[[object], None]]] = {}
        loop.dispatcher.on_ended = self._ended
        loop.dispatcher.on_unexpected = _warn_of_info
        loop.dispatcher.on_refused = _warn_of_refused
        loop.on_error = _report_posted
        loop.dispatcher.on_action = self._act

    # --- what the tree asks ------------------------------------------------------------------

    def now(self) -> float:
        """Monotonic seconds."""
        return self.loop.now()

    def defer(self, function: Callable[[], None]) -> None:
        """Call a function at the end of the loop's queue."""
        self.loop.post(None, 0, function, None)

    def after(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function after so many seconds."""
        self.loop.dispatcher.start_alarm(seconds, function)

    def draw(self) -> float:
        """A random number from the node's seed."""
        return self._random.random()

    def start_worker(self, worker: Worker[Any, Any], name: str, args: Any) -> object:
        """Make a server and call its init; returns the incarnation, or `IGNORED`.

        Args:
            worker: Its specification, which is a template's if name and args differ from its own.
            name: What it answers to.
            args: What init gets.

        Raises:
            AlreadyStarted: Another server has the name.
            Stopped: Init returned Stop.
            UpgradeRefused: Its specification was of an upgrade that is given up now.
            BaseException: Whatever init raised.
        """
        self.on_change(name, worker)
        dispatcher = self.loop.dispatcher
        if name in self._starting or dispatcher.whereis(name) is not None:
            raise AlreadyStarted(name)
        self._starting.add(name)  # its init may ask for another of its own name
        ref: object = IGNORED
        try:
            ref = self._start(worker, name, args)
        finally:
            self._starting.discard(name)
            if ref is IGNORED:
                self.registries.leave(name)
        self._trimmer.started()
        return ref

    def _start(self, worker: Worker[Any, Any], name: str, args: Any) -> object:
        if worker.journal:
            if self.journal is not None:
                return self._start_journaled(worker, self.journal, args)
            self.check_journal(worker)
        instance = self.make_instance(worker)
        server = make_server(self.loop.dispatcher, worker, instance, name=name)
        initial = self._init(server, worker, args)
        if not isinstance(initial, Initial):
            return IGNORED
        if worker.observers:
            self._begin(server, worker, initial)
        else:  # as _begin does, for a start has to be cheap
            server.owner = worker
            self.loop.dispatcher.begin(server, initial.state, initial.actions)
        if isinstance(instance, HostedServer):
            self._open(instance, server)
        return server

    def check_journal(self, worker: Worker[Any, Any]) -> None:
        """Make sure that a worker can be as durable as it says.

        Raises:
            SpecError: It is journaled, and this node keeps no journal.
        """
        if worker.journal and self.journal is None and self.is_durable:
            raise SpecError(
                f"Worker {worker.id!r}",
                "journal=True, but no worker was journaled when the node started, so it keeps no "
                "journal; start the node with this worker",
            )

    def _begin(
        self,
        server: Server,
        worker: Worker[Any, Any],
        initial: Initial,
        *,
        is_known: bool = False,
    ) -> None:
        """Let a server answer to its name, its observers looking on."""
        server.owner = worker
        dispatcher = self.loop.dispatcher
        if not worker.observers:
            dispatcher.begin(server, initial.state, initial.actions, is_known)
            return
        commit = self.journal.commit if self.journal is not None and server.number else None
        watch = self.observed.started(worker, server, commit)
        debug = Debug(server, dispatcher.unix_now)
        debug.observed = watch
        dispatcher.set_debug(server, debug)
        try:
            dispatcher.begin(server, initial.state, initial.actions, is_known)
        except BaseException:
            self.observed.forget(server)
            raise
        watch.started()
        self.defer(watch.show_start)

    def _open(self, instance: HostedServer, server: Server) -> None:
        """Make what a server stands for."""
        try:
            instance.beside = instance.open(self, server)
        except BaseException:
            self.loop.dispatcher.retire(server, NoProc(server.name))
            raise

    def open_asyncio(self, server: Server, **settings: Any) -> Beside:
        """Start the coroutine that a server stands for."""
        from pybehave.runtime import asyncio_task  # here, for asyncio takes 50 ms to import

        return asyncio_task.open_thread(self, server, **settings)

    def _start_journaled(self, worker: Worker[Any, Any], journal: NodeJournal, args: Any) -> object:
        """Go on from what the journal knows. Init is called all the same: it sets up the instance,
        but the state it returns counts only when there is no other, the policy says so, or it was
        told what there is.
        """
        dispatcher = self.loop.dispatcher
        instance = self.make_instance(worker)
        self.observed.check(worker, instance, is_journaled=True)
        is_asked = takes_recovery(instance)
        _doubt_other_versions(journal, worker.name, instance)
        known = journal.known(worker, is_asked=is_asked)
        server = make_server(
            dispatcher,
            worker,
            instance,
            number=journal.number_of(worker.name),
            values=journal.values_of(worker, instance),
            incarnation=known.incarnation + 1 if known is not None else 0,
        )
        offer = journal.offer(worker, server, known) if known is not None and is_asked else None
        initial = self._init(server, worker, args, None if offer is None else offer.recovery)
        if not isinstance(initial, Initial):
            return IGNORED
        dispatcher.check_actions(server, initial.actions)
        if known is not None and offer is None:  # a journal may be older than an invariant
            self.invariants.check(server.name, instance, args, known.state)
        is_clean = known is None or (
            not is_asked and known.is_after_crash and journal.policies.of(worker) == "clean"
        )
        if known is None or is_clean:
            self.monitors.forget(worker.name)
            fields = {"policy": "clean", **first_state(server, initial)}
            journal.started(worker, server, fields)
            self._begin(server, worker, initial)
            return server
        if offer is None:
            journal.started(worker, server, {"policy": "last_good"})
            joins = (action for action in initial.actions if isinstance(action, Join))
            initial = Initial(known.state, tuple(joins))
        else:
            journal.started(worker, server, offer.fields(initial))
        dispatcher.revive(
            server, initial.state, known.due, known.idle_s, known.requests, known.asked
        )
        self._go_on(server, worker, initial, known)
        return server

    def _go_on(
        self, server: Server, worker: Worker[Any, Any], initial: Initial, known: Known
    ) -> None:
        """A journaled server has its state: it begins, and hears what it could not hear before."""
        if known.server is not None:
            self.loop.dispatcher.unmiss(server.name)
        before = [] if known.asked is None else known.asked.actions()
        self._begin(server, worker, initial, is_known=True)
        for connection in known.lost:
            self.loop.dispatcher.inform(server, Closed(connection, "restart"))
        self._settle_later(server, before)

    def is_starting(self, name: str) -> bool:
        """Whether the init of a server of that name has begun, and not returned."""
        return name in self._starting

    def is_running(self, name: str) -> bool:
        """Whether a server answers to that name."""
        return self.loop.dispatcher.whereis(name) is not None

    def make_instance(self, worker: Worker[Any, Any]) -> Any:
        """Make a server, with somebody who looks over its shoulder if that is wanted."""
        instance = instance_of(worker)
        if isinstance(instance, GenEvent):
            instance.hand_out, instance.events_in = HAND_OUT, events_in
            instance.hand_batches, instance.make_batch = HAND_OUT.batches, Batch
            instance._handler_crashed, instance._is_running = self._handler_crashed, self.is_running
        self.invariants.watch(instance)
        if self.isolation is not None:
            self.isolation.watch(instance)
        return instance

    def _settle_later(self, server: Server, actions: list[Any]) -> None:
        """Once the tree stands: what it asks again, it asks others of it."""
        if not actions:
            return
        self.defer(lambda: asked.settle(server, actions, self.loop.dispatcher, self.monitors))

    def _init(
        self,
        server: Server,
        worker: Worker[Any, Any],
        args: Any,
        recovery: Recovery[Any] | None = None,
    ) -> Any:
        """Call a server's init, in the watchdog's sight.

        One that raises is kept as a crash; its supervisor logs it.
        """
        name, instance = server.name, server.instance
        self.registries.enter(name, instance, args)
        self._done += 1
        self.doing = (name, "init", self._done)
        try:
            initial = instance._initial(name, args, recovery)
            if isinstance(initial, Initial):
                self.invariants.check(name, instance, args, initial.state)
        except InitStopped:
            raise
        except Exception as error:
            self.crashes.keep(self._crash(server, error, "init", args, worker, NOTHING_LEFT))
            raise
        finally:
            self.doing = None  # not what it was: a supervisor at work is not a step

        if self.isolation is not None and isinstance(initial, Initial):
            self.isolation.looked_at(name, instance, initial.state)
        return initial

    def _terminate(
        self,
        server: Server,
        reason: object,
        limit: float | None,
        done: Callable[[object, BaseException | None], None],
    ) -> None:
        """Call a server's terminate, in the watchdog's sight; while it runs, `unstopped` finds
        where it stands.
        """
        if not has_terminate(server.instance):
            done(reason, None)
            return

        began = self.now()

        def is_done(how: object, error: BaseException | None) -> None:
            if self.terminating.pop(server, None) is None:  # it has not yielded
                self._note_long_terminate(server, self.now() - began, limit)
            done(how, error)

        self._done += 1
        self.doing = (server.name, "terminate", self._done)
        self.terminating[server] = None
        dispatcher = self.loop.dispatcher
        try:
            steps = terminate(server.instance, reason, server.state, limit, dispatcher, is_done)
        finally:
            self.doing = None  # not what it was: a supervisor at work is not a step
        if server in self.terminating:
            self.terminating[server] = steps

    def _note_long_terminate(self, server: Server, seconds: float, limit: float | None) -> None:
        """Nothing could end a plain terminate when its time was over; somebody should know."""
        if limit is None or seconds <= limit:
            return
        logger.getChild("server").warning(
            "terminate of server %r took %.3g s, and its limit is shutdown=%.3g; nothing can end "
            "one that does not yield, and everything else has waited for it",
            server.name,
            seconds,
            limit,
        )
        self.events.hand_on(StepTooLong("", server.name, "terminate", seconds, ""))

    def stop_worker(
        self, ref: Server, reason: object, timeout: float | None, done: Callable[[object], None]
    ) -> None:
        """End a server: its callers are told, `terminate` runs, `done` gets the reason."""
        if ref in self._ending:
            self._ending[ref].append(done)  # it terminates already, and only once
            cleanup = self.terminating.get(ref)
            if cleanup is not None:
                cleanup.limit(timeout)  # now it is an order, too
            return
        self.on_change(ref.name, None)
        dispatcher = self.loop.dispatcher
        dispatcher.retire(ref, Stopped(ref.name, reason))
        self._remember(ref, is_crash=False)

        def ended(how: object, _error: BaseException | None) -> None:
            self._gone(ref, how)
            done(how)

        self._terminate(ref, reason, timeout, ended)

    def _gone(self, server: Server, how: object) -> None:
        """Its terminate has run: who is to hear of the end is told (O2 of monitors.py)."""
        self.observed.ended(server, how)
        instance = server.instance
        if not server.number and isinstance(instance, GenServer):
            for name, message in instance._last_words(server.state):
                self.loop.dispatcher.post(name, INPUT_INFO, message, None)
        self.monitors.ended(server, how)

    def _ending_of(self, name: str) -> Server | None:
        """The newest server of a name whose terminate is under way."""
        return next((each for each in reversed(self.terminating) if each.name == name), None)

    def ended_name(self, ref: Any) -> str | None:
        """The name of a server that has ended, or None."""
        return ref.name if isinstance(ref, Server) and not ref.is_running else None

    def kill_worker(self, ref: Server) -> None:
        """End a server without its `terminate`, or in the middle of it (brutal_kill)."""
        cleanup = self.terminating.pop(ref, None)
        if cleanup is not None:
            self._ending.pop(ref, None)
            error = cleanup.drop()
            if error is not None:
                self._report(ref, error, "terminate", None, NOTHING_LEFT)
            self._gone(ref, KILLED)
            return
        self.on_change(ref.name, None)
        if isinstance(ref.instance, HostedServer) and ref.instance.beside is not None:
            ref.instance.beside.kill(KILLED)
        self.loop.dispatcher.retire(ref, Stopped(ref.name, KILLED))
        self._remember(ref, is_crash=False)
        self.observed.ended(ref, KILLED)
        self.monitors.ended(ref, KILLED)

    def _remember(self, server: Server, *, is_crash: bool, failure: Failure | None = None) -> None:
        self.groups.ended(server)
        self.registries.leave(server.name)
        if self.isolation is not None:
            self.isolation.forget(server.name)
        if self.journal is not None and server.number:
            self.journal.ended(server, is_crash=is_crash, failure=failure)

    # --- what the loop tells -----------------------------------------------------------------

    def _ended(self, server: Server, reason: object, kind: int, message: Any) -> None:
        """A server crashed, or stopped by itself; its name is free already."""
        failure = None
        left = self.loop.dispatcher.take_left() or NOTHING_LEFT
        # A Stop comes as no input: say what it was the answer to.
        on = left[5:] if kind == ACTION and message is None else (kind, message)
        if server.failed_lsn:
            failure = Failure(server.failed_lsn, message, error_text(reason))
        worker, is_crash = spec_of(server.owner), kind not in NOT_CRASHES
        if self.journal is not None and server.number and is_crash:
            self.journal.policies.failed(worker, reason, self.journal.now_ns())
        self._remember(server, is_crash=is_crash, failure=failure)
        if self.journal is not None and server.failed_lsn:
            self.journal.letters.add(server, worker, reason, kind, message)
        is_input = server.number and (server.failed_lsn or kind in SENT)
        if self.journal is not None and is_input and self.journal.policies.of(worker) == "stop":
            stop_for(self.journal.node, server, reason)
        # Asked now: a ladder may have come to another policy when its terminate is over.
        journal = self.journal
        is_free = journal is not None and kind in SENT and journal.is_mended(server, worker)
        # `shutdown` limits orders. What runs beside the loop may never end: it is left alone then.
        is_beside = isinstance(server.instance, HostedServer)
        limit = worker.shutdown if is_beside and not isinstance(worker.shutdown, str) else None
        if not is_clean(reason):
            self._report(server, reason, _callback(server, on[0]), on[1], left)

        waiting = self._ending[server] = []

        def done(how: object, error: BaseException | None) -> None:
            del self._ending[server]
            if how is not reason and order_of(reason) is not None:
                how = reason  # an order stands, also when the terminate fails or is given up
            if error is not None and error is not reason:
                self._report(server, error, "terminate", on[1], NOTHING_LEFT)
            self._gone(server, how)
            for tell in waiting:
                tell(how)
            if self.on_worker_ended is not None:
                self.on_worker_ended(server, how, is_free)

        self._terminate(server, reason, limit, done)

    def pass_through(self, error: BaseException) -> None:
        """End the node with an exception that its supervisor does not bear."""
        if self.node is not None:
            self.node.fail(error)

    def end_worker(self, server: Server, reason: object) -> None:
        """End a server between two inputs as if by itself: its supervisor acts on the reason."""
        self.on_change(server.name, None)
        self._retire_for(server, reason)
        self._ended(server, reason, SYSTEM, None)

    def _end_linked(self, server: Server, reason: object) -> None:
        self.on_change(server.name, None)
        self._retire_for(server, reason)
        self._ended(server, reason, LINK, None)

    def _retire_for(self, server: Server, reason: object) -> None:
        error = ended_error(server.name, server.incarnation, server.inputs, reason)
        self.loop.dispatcher.retire(server, error)

    def _report(
        self, server: Server, reason: object, callback: str, message: Any, left: Left
    ) -> None:
        self.crashes.add(self._crash(server, reason, callback, message, server.owner, left))

    def _handler_crashed(
        self, server: Server, entry: Entry, callback: str, message: Any, error: Exception
    ) -> None:
        """A handler of an event manager is gone, and that goes on (OTP gen_event, error report)."""
        left = (server.caller, None, server.callers_count, server.timers_count, None, 0, None)
        report = self._crash(server, error, callback, message, server.owner, left)
        shape = getattr(entry.handler, "format_status", report.shape)
        self.crashes.add(
            replace(
                report, state=entry.state, shape=shape, server_class=type(entry.handler),
                kept=None, handler=entry.key,
            )
        )  # fmt: skip

    def _crash(
        self,
        server: Server,
        reason: object,
        callback: str,
        message: Any,
        owner: Any,
        left: Left,
    ) -> CrashReport:
        caller, mail, callers, timers, debug, *_ = left
        instance, log = server.instance, None if debug is None else getattr(debug, "log", None)
        supervisor, child = place_of(owner)
        return CrashReport(  # in the order of its fields: names for all of them take half a restart
            server.name,
            server.incarnation,
            server.inputs,
            reason,
            callback,
            message,
            shown_state(instance, server.state),
            server.now,
            shape_of(instance, server.state),
            type(instance),
            supervisor,
            child,
            spec_of(owner).restart,
            "" if caller is None else caller.origin,
            0 if mail is None else len(mail),
            () if mail is None else tuple(islice(mail, MESSAGES_KEPT)),
            callers,
            timers,
            server.failed_lsn,
            () if log is None else tuple(log),
            server.state,
        )

    def _act(self, server: Server, action: object, lsn: int, index: int) -> None:
        """Actions that need more than the core: workers, other servers' ends, connections.

        One that raises ends its server. If that has ended already, while the action waited for the
        disk, there is no end to tell of, so the failure is reported by itself.
        """
        has_ended = not server.is_running
        try:
            self._hand_out(server, action, lsn, index)
        except Exception as error:
            if has_ended:
                self._report(server, error, CALLBACKS[ACTION], (action,), NOTHING_LEFT)
            raise

    def _hand_out(self, server: Server, action: object, lsn: int, index: int) -> None:
        if self.monitors.act(server, action) or self.groups.act(server, action):
            return
        if isinstance(action, Run):
            self.pools.run(server, action, (lsn, index) if lsn else None)
        elif isinstance(action, Cancel):
            self.pools.cancel(server, action.tag)
        elif isinstance(action, Connect):
            self._connect(server, action)
        else:
            raise TypeError(f"{action!r} is not an action that the runtime knows")

    def _connect(self, server: Server, action: Connect) -> None:
        try:
            settings = Listener(action.url, action.protocol, "-", events=True, active=action.active)
            codec = settings.protocol.codec()  # one without a framing has none
        except Exception as error:  # noqa: BLE001 -- told, as its input counts already
            if isinstance(error, SpecError):  # the rules are a listener's, which this is none of
                error = SpecError(error.path.replace("Listener", "Connect", 1), error.detail)
            self.loop.dispatcher.inform(server, ConnectFailed(action.tag, error))
            return
        if addresses.is_literal(settings.address):
            packed = addresses.pack(settings.address)
            self.loop.connect(action.url, packed, codec, server, action.tag, settings)
            return
        # A name service may take seconds: ask it on a thread.
        future = self.workers.submit(addresses.pack, settings.address)
        future.add_done_callback(
            lambda found: self.defer(
                lambda: self._looked_up(server, action, settings, codec, found)
            )
        )

    def _looked_up(
        self, server: Server, action: Connect, settings: Listener, codec: Codec, found: Any
    ) -> None:
        error = found.exception()
        if error is None:
            self.loop.connect(action.url, found.result(), codec, server, action.tag, settings)
        else:
            self.loop.dispatcher.inform(server, ConnectFailed(action.tag, error))


def _callback(server: Server, kind: int) -> str:
    name = CALLBACKS[kind]
    return "step" if kind in SENT and not overrides(server.instance, name) else name


def _warn_of_info(server: Server, message: Any) -> None:
    """A server without handle_info got an info, and ignores it (OTP, gen_server: a warning)."""
    logger.warning(
        "server %r has no handle_info and ignores the info %s", server.name, show(message)
    )


def _warn_of_refused(_: Server, error: Exception) -> None:
    """A cast was refused: there is nobody else to be told."""
    logger.warning("a cast was lost: %s", error)


def _report_posted(error: Exception) -> None:
    """A function that was posted to the loop raised: a mistake of ours, and not a reason to end."""
    logger.critical("a function posted to the loop failed", exc_info=error)


def _doubt_other_versions(journal: NodeJournal, name: str, instance: Any) -> None:
    """A state of another version's shape is built again, as it would be at a start of the node."""
    known = journal.remembered(name)
    if known is not None and known.version != version_of(instance):
        known.is_dirty = True

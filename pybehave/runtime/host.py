"""What a tree asks of the loop: start this worker, stop that one.

The tree decides (runtime/tree.py), this carries out: it makes servers, calls `init` and
`terminate`, and tells the tree when a server has ended.

Order when a server crashes (OTP): callers are told and the name is free, `terminate` runs, then
the supervisor hears of it and acts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from pybehave.actions import Closed, Connect, ConnectFailed, Run
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import Initial, initial_of
from pybehave.errors import AlreadyStarted, Stopped
from pybehave.listener import Listener
from pybehave.runtime import addresses
from pybehave.runtime.cleanup import terminate
from pybehave.runtime.crashes import Crashes, CrashReport
from pybehave.runtime.events import Event, EventHub
from pybehave.runtime.servers import make_server
from pybehave.runtime.workers import Workers
from pybehave.types import IGNORED, KILLED, is_clean

if TYPE_CHECKING:
    from pybehave._uring.loop import Loop
    from pybehave._uring.servers import Server
    from pybehave.runtime.journaling import NodeJournal
    from pybehave.runtime.tree import Tree

logger = logging.getLogger("pybehave")

CALLBACKS = {
    0: "an action",
    1: "handle_call",
    2: "handle_cast",
    3: "handle_info",
    4: "handle_continue",
    5: "handle_info",
}


@final
class LoopHost:
    """The tree's hands on one loop.

    Args:
        loop: Where the servers live.
        events: Who hears of starts and ends.
    """

    def __init__(self, loop: Loop, events: EventHub) -> None:
        self.loop = loop
        self.events = events
        self.crashes = Crashes()
        self.workers = Workers(self.defer, loop.dispatcher.inform)
        self.tree: Tree | None = None
        self.journal: NodeJournal | None = None
        # Servers whose own terminate still yields after a crash, and who else waits for it.
        self._ending: dict[Server, list[Callable[[object], None]]] = {}
        loop.dispatcher.on_ended = self._ended
        loop.on_error = _report_posted
        loop.dispatcher.on_action = self._act

    # --- what the tree asks ------------------------------------------------------------------

    def now(self) -> float:
        """Monotonic seconds."""
        return self.loop.now()

    def defer(self, function: Callable[[], None]) -> None:
        """Call a function at the end of the loop's queue."""
        self.loop.post(None, 0, function, None)

    def emit(self, event: Event) -> None:
        """Let everybody hear of an event."""
        self.events.emit(event)

    def start_worker(self, worker: Worker[Any, Any], path: str) -> object:
        """Make a server and call its init; returns the incarnation, or `IGNORED`.

        Raises:
            AlreadyStarted: Another server has the name.
            Stopped: Init returned Stop.
            BaseException: Whatever init raised.
        """
        dispatcher = self.loop.dispatcher
        if dispatcher.whereis(worker.name) is not None:
            raise AlreadyStarted(worker.name)
        if worker.journal and self.journal is not None:
            return self._start_journaled(worker, self.journal)
        instance: Any = worker.server()
        server = make_server(dispatcher, worker, instance)
        initial = initial_of(worker.name, instance, worker.args)
        if not isinstance(initial, Initial):
            return IGNORED
        server.owner = worker
        dispatcher.begin(server, initial.state, initial.actions)
        return server

    def _start_journaled(self, worker: Worker[Any, Any], journal: NodeJournal) -> object:
        """Go on from what the journal knows. Init is called all the same: it sets up the instance,
        but the state it returns counts only when there is no other, or the policy says so.
        """
        dispatcher = self.loop.dispatcher
        known = journal.known(worker)
        instance: Any = worker.server()
        server = make_server(
            dispatcher,
            worker,
            instance,
            number=journal.number_of(worker.name),
            values=journal.values_of(worker, instance),
            incarnation=known.incarnation + 1 if known is not None else 0,
        )
        initial = initial_of(worker.name, instance, worker.args)
        if not isinstance(initial, Initial):
            return IGNORED
        is_clean = known is None or (
            known.is_after_crash and journal.policies.of(worker) == "clean"
        )
        journal.started(worker, server, is_clean=is_clean)
        server.owner = worker
        if known is None or is_clean:
            dispatcher.begin(server, initial.state, initial.actions)
        else:
            dispatcher.revive(server, known.state, known.due, known.idle_s, known.requests)
            dispatcher.begin(server, known.state, ())
            for connection in known.lost:
                dispatcher.inform(server, Closed(connection, "restart"))
        return server

    def stop_worker(
        self, ref: Server, reason: object, timeout: float | None, done: Callable[[object], None]
    ) -> None:
        """End a server: its callers are told, `terminate` runs, `done` gets the reason."""
        if ref in self._ending:
            self._ending[ref].append(done)  # it terminates already, and only once
            return
        dispatcher = self.loop.dispatcher
        dispatcher.retire(ref, Stopped(ref.name, reason))
        self._remember(ref, is_crash=False)
        terminate(
            ref.instance, reason, ref.state, timeout, dispatcher, lambda how, _error: done(how)
        )

    def kill_worker(self, ref: Server) -> None:
        """End a server without its `terminate` (brutal_kill)."""
        self.loop.dispatcher.retire(ref, Stopped(ref.name, KILLED))
        self._remember(ref, is_crash=False)

    def _remember(self, server: Server, *, is_crash: bool) -> None:
        if self.journal is not None and server.number:
            self.journal.ended(server, is_crash=is_crash)

    # --- what the loop tells -----------------------------------------------------------------

    def _ended(self, server: Server, reason: object, kind: int, message: Any) -> None:
        """A server crashed, or stopped by itself; its name is free already."""
        self._remember(server, is_crash=kind != 0)
        worker = server.owner
        if self.journal is not None and server.failed_lsn:
            self.journal.letters.add(server, worker, reason, kind, message)
            if self.journal.policies.of(worker) == "stop":
                self.journal.stop_for(server)
        limit = None if isinstance(worker.shutdown, str) else worker.shutdown
        if not is_clean(reason):
            self._report(server, reason, kind, message)

        waiting = self._ending[server] = []

        def done(how: object, error: BaseException | None) -> None:
            del self._ending[server]
            if error is not None and error is not reason:
                self._report(server, error, kind, message)
            for tell in waiting:
                tell(how)
            if self.tree is not None:
                self.tree.worker_ended(server, how)

        terminate(server.instance, reason, server.state, limit, self.loop.dispatcher, done)

    def _report(self, server: Server, reason: object, kind: int, message: Any) -> None:
        self.crashes.add(
            CrashReport(
                crash_id=f"{server.name}-{server.incarnation}-{server.inputs}",
                server=server.name,
                incarnation=server.incarnation,
                reason=reason,
                callback=CALLBACKS[kind],
                message=message,
                state=server.state,
                at=server.instance.context.now,
                shape=server.instance.format_status,
            )
        )

    def _act(self, server: Server, action: object) -> None:
        """Actions that need more than the core: threads and outbound connections."""
        if isinstance(action, Run):
            self.workers.run(server, action)
        elif isinstance(action, Connect):
            self._connect(server, action)
        else:
            raise TypeError(f"{action!r} is not an action that the runtime knows")

    def _connect(self, server: Server, action: Connect) -> None:
        settings = Listener(action.url, action.protocol, "-", events=True)
        if addresses.is_literal(settings.address):
            self._connect_to(server, action, settings, addresses.pack(settings.address))
            return
        # A name service may take seconds: ask it on a thread.
        future = self.workers.submit(addresses.pack, settings.address)
        future.add_done_callback(
            lambda found: self.defer(lambda: self._looked_up(server, action, settings, found))
        )

    def _looked_up(self, server: Server, action: Connect, settings: Listener, found: Any) -> None:
        error = found.exception()
        if error is None:
            self._connect_to(server, action, settings, found.result())
        else:
            self.loop.dispatcher.inform(server, ConnectFailed(action.tag, error))

    def _connect_to(
        self, server: Server, action: Connect, settings: Listener, address: bytes
    ) -> None:
        codec = settings.protocol.codec()
        self.loop.connect(action.url, address, codec, server, action.tag, settings)


def _report_posted(error: Exception) -> None:
    """A function that was posted to the loop raised: a mistake of ours, and not a reason to end."""
    logger.critical("a function posted to the loop failed", exc_info=error)

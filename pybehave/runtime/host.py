"""What a tree asks of the loop: start this worker, stop that one.

The tree decides (runtime/tree.py), this carries out: it makes servers, calls `init` and
`terminate`, and tells the tree when a server has ended.

Order when a server crashes (OTP): callers are told and the name is free, `terminate` runs, then
the supervisor hears of it and acts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from pybehave.actions import Connect, ConnectFailed, Run
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import Initial, interpret_init, overrides
from pybehave.errors import AlreadyStarted, Stopped
from pybehave.listener import Listener
from pybehave.runtime import addresses
from pybehave.runtime.cleanup import terminate
from pybehave.runtime.crashes import Crashes, CrashReport
from pybehave.runtime.events import Event, EventHub
from pybehave.runtime.workers import Workers
from pybehave.types import IGNORED, KILLED, is_clean

if TYPE_CHECKING:
    from pybehave._uring.loop import Loop
    from pybehave._uring.servers import Server
    from pybehave.runtime.tree import Tree

OVERFLOWS = {"block": 0, "reject": 1, "drop_oldest": 2}
CALLBACKS = {
    0: "an action",
    1: "handle_call",
    2: "handle_cast",
    3: "handle_info",
    4: "handle_continue",
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
        # Servers whose own terminate still yields after a crash, and who else waits for it.
        self._ending: dict[Server, list[Callable[[object], None]]] = {}
        loop.dispatcher.on_ended = self._ended
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
        instance: Any = worker.server()
        has_own_call = overrides(instance, "handle_call")
        has_own_cast = overrides(instance, "handle_cast")
        server = dispatcher.create(
            worker.name,
            instance,
            capacity=worker.mailbox,
            overflow=OVERFLOWS[worker.overflow],
            is_fast_call=not has_own_call,
            is_fast_cast=not has_own_cast,
        )
        initial = interpret_init(worker.name, instance.init(worker.args))
        if not isinstance(initial, Initial):
            return IGNORED
        server.owner = worker
        dispatcher.begin(server, initial.state, initial.actions)
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
        terminate(
            ref.instance, reason, ref.state, timeout, dispatcher, lambda how, _error: done(how)
        )

    def kill_worker(self, ref: Server) -> None:
        """End a server without its `terminate` (brutal_kill)."""
        self.loop.dispatcher.retire(ref, Stopped(ref.name, KILLED))

    # --- what the loop tells -----------------------------------------------------------------

    def _ended(self, server: Server, reason: object, kind: int, message: Any) -> None:
        """A server crashed, or stopped by itself; its name is free already."""
        worker = server.owner
        limit = worker.shutdown if isinstance(worker.shutdown, int | float) else None
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

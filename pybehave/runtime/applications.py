"""The applications of a node: started in the order of their dependencies, stopped in reverse.

Each has a tree of its own under the node's one host. The node's *primary* application, the one it
was made for, has the paths "root/..."; the others' begin with their names.

    start:  depended-on applications, whole; tree; start phases; listeners
    stop:   listeners, connections; prep_stop; tree; stop

Invariants
  (P1) An application runs only while what it depends on was started before it; stopping one that
       others depend on is allowed, as in OTP, and warned of.
  (P2) A start that fails has stopped what it had started, in reverse; what ran before still runs.
  (P3) Each application that has started gets prep_stop and stop once, also if its tree ended by
       itself.

Does not know: supervision, sockets, the journal.
Source: OTP kernel, application_controller and application_master; otp.md section 5.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, final

from pybehave.behaviours.application import (
    START_TYPES,
    Application,
    StartType,
    ensure_all,
)
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.environment import differences
from pybehave.behaviours.rules import refused
from pybehave.behaviours.supervisor import ROOT_ID, workers
from pybehave.config import Config, loader
from pybehave.errors import (
    AlreadyStarted,
    ApplicationEnded,
    NotFound,
    NotStarted,
    StartFailed,
    show_reason,
)
from pybehave.listener import Listener
from pybehave.runtime import draining, kept_sockets, listeners
from pybehave.runtime.optional import load_optional
from pybehave.runtime.tree.child import TreeChild
from pybehave.runtime.tree.tree import Tree

if TYPE_CHECKING:
    from pybehave._uring.servers import Port
    from pybehave.behaviours.supervisor import Supervisor
    from pybehave.runtime.node import Node

DRAIN_LOOK_S: Final = 0.01
"""How often a stopping application looks whether its connections have gone."""

logger = logging.getLogger("pybehave")


@final
@dataclass(slots=True, eq=False)
class Running:
    """An application that has started.

    Attributes:
        app: As configured.
        tree: Its supervision tree.
        start_type: What its end means for the node.
        ports: Its listeners and where they listen.
        bound: The socket files that they have made.
        is_stopping: Its stop is under way: it drains, or its tree stops ...
        is_ending: ... and this is the second.
        waiting: Who wants to know when it has stopped.
    """

    app: Application
    tree: Tree
    start_type: StartType
    ports: list[tuple[Listener, Port]] = field(default_factory=list)
    bound: list[tuple[str, int, int]] = field(default_factory=list)
    is_stopping: bool = False
    is_ending: bool = False
    waiting: list[Callable[[], None]] = field(default_factory=list)


@final
class Applications:
    """All applications of a node.

    Args:
        node: Whose.
        primary: The application that the node was made for.
        config: Values for the environments.
        listen: URLs that replace those of the primary's listeners, in order.
    """

    def __init__(
        self, node: Node, primary: Application, config: Config, listen: tuple[str, ...]
    ) -> None:
        self._node = node
        self._config = config
        self._load = loader(load_optional, config)
        self._running: dict[str, Running] = {}
        self._starting: list[Tree] = []
        # As an application's tree was written, and what servers that moved have made of it.
        self._specs: dict[str, tuple[Supervisor, Supervisor]] = {}
        self.primary = config.configured(primary)
        self.planned = ensure_all(self.primary, self._load)
        self._listeners = listeners.override(self.primary.listeners, listen)
        self.tree = self._tree_of(self.primary)
        for name in config.tables.keys() - {each.name for each in self._all(self.planned)}:
            logger.warning("there is a configuration for %r, but no such application", name)

    # --- start ---------------------------------------------------------------------------------

    def boot(self) -> None:
        """Start the primary application and all that it depends on; listeners come later."""
        for app in self.planned:
            self._start(app, "permanent")

    def open_listeners(self) -> None:
        """Open the listeners of all applications that run, in the order of their starts."""
        for running in self._running.values():
            self._open(running, self._packed(running.app))
        kept_sockets.drop_rest()

    def check(self) -> None:
        """Look up the hosts of all listeners, before anything starts.

        Raises:
            SpecError: A host is unknown.
        """
        for app in self.planned:
            self._packed(app)

    def start(self, app: Application, start_type: StartType = "temporary") -> list[str]:
        """Start an application, and before it those that it depends on and that do not run.

        Returns:
            The names of those that it started, in order.

        Raises:
            AlreadyStarted: It runs already.
            SpecError, ConfigError: It is described wrongly.
            StartFailed, ListenFailed: What had been started was stopped again.
        """
        if not isinstance(app, Application):
            raise refused("start_application", "app", app, "an Application")
        if start_type not in START_TYPES:
            raise refused(f"Application {app.name!r}", "start_type", start_type, _TYPES)
        app = self._config.configured(app)
        if app.name in self._running:
            raise AlreadyStarted(app.name, is_application=True)
        wanted = ensure_all(app, self._load)
        packed = {each.name: self._packed(each) for each in wanted}
        started: list[str] = []
        try:
            for each in wanted:
                if each.name not in self._running:
                    started.append(each.name)
                    self._open(self._start(each, start_type), packed[each.name])
        except BaseException:
            for name in reversed(started):
                if name in self._running:
                    self.stop(name, lambda: None, drain=False)
            raise
        return started

    def _start(self, app: Application, start_type: StartType) -> Running:
        tree = self.tree if app is self.primary else self._tree_of(app)
        running = Running(app, tree, start_type)
        tree.on_root_ended = lambda reason: self._ended(running, reason)
        self._starting.append(tree)
        tree.start()
        self._starting.remove(tree)
        self._running[app.name] = running
        for phase in app.phases:
            for part in self._with_included(app):
                if part is app or phase in part.phases:
                    self._phase(app, part, phase)
        return running

    def _phase(self, app: Application, part: Application, phase: str) -> None:
        try:
            part.callbacks.start_phase(self._node, phase)
        except Exception as error:
            raise StartFailed(app.name, error, phase=phase) from error

    def _tree_of(self, app: Application) -> Tree:
        root_id = ROOT_ID if app is self.primary else app.name
        written, spec = self._specs.get(app.name, (app.tree, app.tree))
        return Tree(spec if written is app.tree else app.tree, self._node.host, None, root_id)

    def _packed(self, app: Application) -> list[tuple[Listener, bytes]]:
        own = self._listeners if app is self.primary else app.listeners
        return [(listener, listeners.address_of(listener)) for listener in own]

    def _open(self, running: Running, packed: list[tuple[Listener, bytes]]) -> None:
        loop = self._node.loop
        for listener, address in packed:
            fd = self._node.inherited.pop(listener.name, -1)
            if fd < 0 and loop.source != "sim":
                fd = kept_sockets.take(listener)
            port = listeners.open_listener(loop, listener, address, fd=fd)
            running.ports.append((listener, port))
            if loop.source != "sim":
                kept_sockets.put(listener, port.fd)
            bound = listeners.socket_file(listener)
            if bound is not None and loop.source != "sim":
                running.bound.append(bound)

    # --- stop ----------------------------------------------------------------------------------

    def stop(self, name: str, done: Callable[[], None], *, drain: bool = True) -> None:
        """Stop one application; `done` is called when it has stopped, maybe ticks later.

        Raises:
            NotStarted: It does not run.
        """
        running = self._running.get(name)
        if running is None or running.is_stopping:
            raise NotStarted(name)
        for other in self._running.values():
            if any(each.name == name for each in other.app.depends):
                logger.warning(
                    "application %r is stopped, though %r depends on it", name, other.app.name
                )
        running.is_stopping = True
        running.waiting.append(done)
        loop = self._node.loop
        for listener, port in running.ports:
            loop.close_port(port)
            kept_sockets.drop(listener)
        until = loop.now() + (self._node.drain_timeout if drain else 0.0)
        self._drain(
            running, until, lambda: self.end_tree(running, seconds=max(until - loop.now(), 0.0))
        )

    def _drain(self, running: Running, until: float, then: Callable[[], None]) -> None:
        if running.is_ending:
            return  # the node did not wait for its connections
        loop = self._node.loop
        is_late = loop.now() >= until
        draining.refuse_suspended(loop, lambda: list(running.tree.workers))
        left = sum(loop.end_connections(port, is_late) for _, port in running.ports)
        if left and not is_late:
            loop.dispatcher.start_alarm(DRAIN_LOOK_S, lambda: self._drain(running, until, then))
            return
        then()

    def end_tree(
        self, running: Running, done: Callable[[], None] | None = None, *, seconds: float = 0.0
    ) -> None:
        """Stop an application's tree, with its callbacks around it (P3).

        Args:
            running: Whose.
            done: Called when it has stopped.
            seconds: How long its servers may take for what waits for them.
        """
        if done is not None:
            running.waiting.append(done)
        if running.is_ending:
            return
        running.is_stopping = running.is_ending = True
        self._call_back(running, "prep_stop")

        def ended(_reason: object) -> None:
            self._forget(running)
            for tell in running.waiting:
                tell()

        draining.after_waiting(
            self._node.loop,
            list(running.tree.workers),
            seconds,
            lambda: self._node.is_draining,
            lambda: running.tree.stop("shutdown", ended),
        )

    def in_reverse(self) -> list[Running]:
        """What runs, the latest first."""
        return list(reversed(self._running.values()))

    def half_started(self) -> list[Tree]:
        """Trees whose start has failed; what had started of them may still be stopping."""
        return [tree for tree in self._starting if not tree.is_ended]

    def _forget(self, running: Running) -> None:
        self._running.pop(running.app.name, None)
        self._specs[running.app.name] = running.app.tree, running.tree.spec
        self._call_back(running, "stop")
        for bound in running.bound:
            listeners.remove_socket(bound)

    def _call_back(self, running: Running, which: str) -> None:
        """An application cannot prevent its end by a callback that raises."""
        try:
            getattr(running.app.callbacks, which)(self._node)
        except Exception:
            logger.exception("%s of application %r failed", which, running.app.name)

    def _ended(self, running: Running, reason: object) -> None:
        """A tree has ended by itself: it gave up, or its significant children ended."""
        if running.is_stopping:
            return
        name, is_orderly = running.app.name, running.tree.ended_because == "auto_shutdown"
        if is_orderly:
            logger.info("application %r ended with its significant children", name)
        else:
            logger.critical("%s", _error_of(running))
        loop = self._node.loop
        is_needed = running.start_type == "permanent" or (
            running.start_type == "transient" and reason != "normal"
        )
        for listener, port in running.ports:
            loop.close_port(port)
            if not is_needed:  # else the node ends, with its connections, and a next one may listen
                kept_sockets.drop(listener)
        if not is_needed:  # behind the replies of the input that it ended with
            until = loop.now() + self._node.drain_timeout
            self._node.host.defer(lambda: self._drain(running, until, _nothing))
        running.is_stopping = True
        self._call_back(running, "prep_stop")
        self._forget(running)
        if is_needed:
            self._node.application_ended(None if is_orderly else _error_of(running))

    # --- looking -------------------------------------------------------------------------------

    def which(self) -> list[tuple[str, str, StartType]]:
        """Name, version and start type of those that run, in the order of their starts."""
        return [(r.app.name, r.app.version, r.start_type) for r in self._running.values()]

    def listening(self) -> list[tuple[Listener, Port]]:
        """Every listener, and where it listens."""
        return [each for running in self._running.values() for each in running.ports]

    def listeners_planned(self) -> list[Listener]:
        """The listeners that a boot opens."""
        own = [self._listeners if app is self.primary else app.listeners for app in self.planned]
        return [listener for each in own for listener in each]

    def leave_files(self) -> None:
        """Forget the files of sockets: another process listens on them."""
        for running in self._running.values():
            running.bound.clear()

    def env(self, name: str) -> Any:
        """The environment of an application that runs, or that is part of one.

        Raises:
            NotStarted: There is none of that name.
        """
        return self._part(name).env

    def worker_ended(self, server: object, reason: object, is_free: bool) -> None:
        """A worker has ended by itself; its own terminate has run."""
        child = getattr(server, "owner", None)
        if isinstance(child, TreeChild):
            child.owner.tree.worker_ended(server, reason, is_free=is_free)

    def tree_with(self, supervisor: str) -> Tree:
        """The tree in which a supervisor is; the only one, if there are no others.

        Raises:
            NotFound: None has it, or several have.
        """
        if len(self._running) == 1 and not self._starting:  # asked for each of 100,000 children
            return next(iter(self._running.values())).tree
        trees = self.trees()
        if len(trees) == 1:
            return trees[0]  # which says itself what it does not have
        found = [(tree, path) for tree in trees for path in tree.paths_of(supervisor)]
        if len(found) != 1:
            raise NotFound(supervisor, several=[path for _, path in found])
        return found[0][0]

    def workers(self) -> list[Worker[Any, Any]]:
        """All workers that a boot starts."""
        return [worker for app in self.planned for worker in workers(app.tree)]

    def servers(self) -> list[Any]:
        """All servers that run."""
        return [server for tree in self.trees() for server in tree.workers]

    def path_of(self, server: object) -> str:
        """Where a running worker stands: ids from its root, joined by "/"; "" = in no tree."""
        child = self.child_of(server)
        return "" if child is None else child.path

    def child_of(self, server: object) -> TreeChild | None:
        """The place of a running worker in its tree; None when it has none."""
        child = self.tree.workers.get(server)  # most are the primary's, and a restart asks, too
        if child is not None:
            return child
        found = (tree.workers.get(server) for tree in self.trees())
        return next((child for child in found if child is not None), None)

    def trees(self) -> list[Tree]:
        """The trees of all applications that run or start, in the order of their starts."""
        return [running.tree for running in self._running.values()] + self._starting

    def _part(self, name: str) -> Application:
        for app in self._all([running.app for running in self._running.values()]):
            if app.name == name:
                return app
        raise NotStarted(name)

    def _with_included(self, app: Application) -> list[Application]:
        """The application, and those included in it, top-down."""
        return [app, *(part for each in app.included for part in self._with_included(each))]

    def _all(self, apps: list[Application]) -> list[Application]:
        return [part for app in apps for part in self._with_included(app)]

    # --- configuration -------------------------------------------------------------------------

    def configure(self, config: Config) -> None:
        """Give applications that run other values; their callbacks hear of it, their trees stay.

        Raises:
            NotStarted, ConfigError: Nothing was changed.
        """
        changed: list[tuple[Running, Application]] = []
        for name in config.tables:
            self._part(name)
        for running in self._running.values():
            app = config.configured(running.app)
            if app != running.app:
                changed.append((running, app))
        for running, app in changed:
            before = {part.name: part.env for part in self._with_included(running.app)}
            running.app = app
            for part in self._with_included(app):
                what = differences(before.get(part.name), part.env)
                if any(what):
                    self._config_changed(part, *what)

    # --- releases ------------------------------------------------------------------------------

    def planned_for(self, app: Application) -> list[Application]:
        """An application of another release and what it depends on, in order, configured.

        Raises:
            SpecError, ConfigError: They do not go together, or not with the node's configuration.
        """
        return ensure_all(self._config.configured(app), self._load)

    def replace(self, running: Running, app: Application) -> None:
        """An application that runs is of another release from now on."""
        if running.app is self.primary:
            self.primary = self._node.app = app
        self.planned = [app if each.name == app.name else each for each in self.planned]
        running.app = app

    def tell_changed(self, before: list[Application], after: list[Application]) -> None:
        """Call `config_change` where another release has another environment (OTP)."""
        old = {part.name: part.env for part in self._all(before)}
        for part in self._all(after):
            what = differences(old.get(part.name), part.env)
            if any(what):
                self._config_changed(part, *what)

    def _config_changed(self, app: Application, *what: Any) -> None:
        try:
            app.callbacks.config_change(self._node, *what)
        except Exception:
            logger.exception("config_change of application %r failed", app.name)


def _nothing() -> None:
    pass


def _error_of(running: Running) -> ApplicationEnded:
    """What the owner of a node hears of a tree that has ended by itself."""
    cause = running.tree.cause
    last = "" if cause is None else f", the last time for {show_reason(cause)}"
    why = f"its supervisors gave up{last}"
    if running.tree.ended_because == "terminate":
        why = "a server ordered it"
    error = ApplicationEnded(running.app.name, why)
    error.__cause__ = cause
    return error


_TYPES: Final = "one of: " + ", ".join(repr(each) for each in START_TYPES)

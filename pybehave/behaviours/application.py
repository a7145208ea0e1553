"""An application: a supervision tree, the listeners that feed it, a name and a version.

It is plain data until `start` hands it to the runtime, which is imported only then: describing
and checking an application needs no loop. Tree and listeners may depend on the environment; then
they are functions of it, and are called at construction with the defaults, so that a mistake shows
at once.

Does not know: how a node joins tree and loop (runtime/node.py), files (config.py).
Source: OTP kernel, application: the resource file's keys, the callbacks, start phases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

from pybehave.behaviours import environment
from pybehave.behaviours.rules import TEXT, is_text, refused
from pybehave.behaviours.supervisor import ChildSpec, Supervisor, named_workers
from pybehave.errors import SpecError, show
from pybehave.listener import Listener

if TYPE_CHECKING:
    from pybehave.runtime.node import Node

StartType: TypeAlias = Literal["permanent", "transient", "temporary"]
"""What an application's end means for its node: permanent, the node ends; transient, it ends unless
the reason is normal; temporary, it is reported."""

START_TYPES: tuple[StartType, ...] = ("permanent", "transient", "temporary")

NO_WORKER: Final = "add one; servers that are made while the node runs are called through it"
"""To whom a listener leads when a tree has only families and templates: to nobody yet."""

NO_VERSION: Final = "0"
"""Of an application that was given none."""


class Callbacks:
    """What an application does at its own start and stop; override what is needed.

    Called on the loop's thread: they must not block. They may call servers, also across
    applications that run, as `node.call("name", ...)`.

    Source: OTP kernel, application: the callback module.
    """

    def start_phase(self, node: Node, phase: str) -> None:
        """Do a part of the start that needs the whole tree; an exception ends the start.

        Args:
            node: Where the application runs.
            phase: One of the phases that the starting application names.
        """

    def prep_stop(self, node: Node) -> None:
        """Get ready for the end; the tree still runs."""

    def stop(self, node: Node) -> None:
        """Clean up; the tree has ended."""

    def config_change(
        self, node: Node, changed: dict[str, Any], new: dict[str, Any], removed: list[str]
    ) -> None:
        """Take note of an environment that has changed while the application runs.

        Args:
            node: Where the application runs.
            changed: Keys with other values than before.
            new: Keys that the version before did not have.
            removed: Keys that this version has no more.
        """


@final
@dataclass(frozen=True, slots=True, init=False)
class Application:
    """A tree with a name, ready to be started.

    Attributes:
        name: For reports, the command line, configuration and releases.
        tree: The outermost supervisor; included applications' trees are its last children.
        listeners: Where inputs come from, each bound to a worker by name.
        version: The application's own version.
        depends: Applications that must run before this one.
        optional: The same, as "MODULE:APP"; a module that is not installed is no matter.
        included: Applications that are part of this one: their trees, listeners and start phases.
        phases: Names of start phases, in order; run when the tree is up.
        callbacks: What is called at start phases and stop.
        env: The environment: an instance of the class that was given, None without one.

    Raises:
        SpecError: Names the field, or the child and field of the tree, and what is allowed.
    """

    name: str
    tree: Supervisor
    listeners: tuple[Listener, ...]
    version: str
    depends: tuple[Application, ...]
    optional: tuple[str, ...]
    included: tuple[Application, ...]
    phases: tuple[str, ...]
    callbacks: Callbacks
    env: Any
    _tree: Any = field(repr=False, compare=False)
    _listeners: Any = field(repr=False, compare=False)
    _cut: Callable[[Supervisor], Supervisor] | None = field(repr=False, compare=False)

    def __init__(
        self,
        name: str,
        tree: Supervisor | Callable[[Any], Supervisor],
        *,
        listeners: Iterable[Listener] | Callable[[Any], Iterable[Listener]] = (),
        version: str = NO_VERSION,
        depends: Iterable[Application] = (),
        optional: Iterable[str] = (),
        included: Iterable[Application] = (),
        phases: Iterable[str] = (),
        callbacks: Callbacks | None = None,
        env: type | None = None,
    ) -> None:
        path = f"Application {show(name)}"
        for key, value in (("name", name), ("version", version)):
            _check_text(path, key, value)
        if callbacks is not None and not isinstance(callbacks, Callbacks):
            raise refused(path, "callbacks", callbacks, "an instance of pybehave.Callbacks")
        self._set(
            name=name,
            version=version,
            depends=_check_all(path, "depends", depends, Application),
            optional=_check_targets(path, optional),
            included=_check_all(path, "included", included, Application),
            phases=_check_all(path, "phases", phases, str),
            callbacks=Callbacks() if callbacks is None else callbacks,
            _tree=tree,
            _cut=None,
            _listeners=listeners if callable(listeners) else _check_list(path, listeners),
        )
        self._build(None if env is None else environment.defaults(path, env))

    @property
    def title(self) -> str:
        """Its name, and its version if it was given one."""
        return self.name if self.version == NO_VERSION else f"{self.name} {self.version}"

    def start(self, **options: Any) -> Node:
        """Start the applications this one depends on, then its tree and listeners.

        Args:
            options: What `pybehave.runtime.node.Node` takes, for example `backend="epoll"`.

        Returns:
            The running node, when every init has returned; as a context manager it stops
            everything at the end.

        Raises:
            StartFailed: A child did not start; everything before it was stopped again.
            ListenFailed: A listener's address cannot be had.
        """
        node: Node = import_module("pybehave.runtime.node").Node(self, **options)
        return node.start()

    def running(self, **options: Any) -> AbstractAsyncContextManager[Node]:
        """Run as a guest of an asyncio program: `async with app.running() as node:`.

        The node's loop has a thread of its own, so neither loop waits for the other: starting and
        stopping are awaited, calls are `await node.acall(...)`.

        Args:
            options: As for `start`.

        Raises:
            StartFailed, ListenFailed: As in `start`, when the block is entered.
        """
        running: AbstractAsyncContextManager[Node] = import_module(
            "pybehave.runtime.guest"
        ).running(self, options)
        return running

    def configured(self, table: Mapping[str, Any]) -> Application:
        """Return this application with other values for keys of its environment.

        Args:
            table: Key -> value, as TOML gives it; tables within are merged.

        Raises:
            ConfigError: A key is unknown or its value has a wrong type; names the key.
            SpecError: The tree is not allowed with these values.
        """
        return self.with_env(environment.changed(self.name, self.env, table))

    def with_env(self, env: Any) -> Application:
        """Return this application in another environment, an instance of the declared class."""
        copy = self._copy()
        copy._build(env)
        return copy

    def with_parts(
        self, depends: tuple[Application, ...], included: tuple[Application, ...]
    ) -> Application:
        """Return this application with others of the same names in these places."""
        copy = self._copy()
        copy._set(depends=depends, included=included)
        copy._build(self.env)
        return copy

    def cut_by(self, cut: Callable[[Supervisor], Supervisor]) -> Application:
        """Return this application without some of its children, in every environment.

        A listener stays if its worker does.

        Args:
            cut: Returns what is left of the whole tree (pybehave/deployment.py).
        """
        copy = self._copy()
        copy._set(_cut=cut)
        copy._build(self.env)
        return copy

    def uncut_tree(self) -> Supervisor:
        """Return the tree with all its children, also those that were cut off."""
        if self._cut is None:
            return self.tree
        copy = self._copy()
        copy._set(_cut=None)
        copy._build(self.env)
        return copy.tree

    def _copy(self) -> Application:
        copy = object.__new__(Application)
        copy._set(**{name: getattr(self, name) for name in self.__slots__})
        return copy

    def _set(self, **values: Any) -> None:
        for key, value in values.items():
            object.__setattr__(self, key, value)

    def _build(self, env: Any) -> None:
        """Tree and listeners in an environment."""
        path = f"Application {show(self.name)}"
        tree = _made("tree", path, self._tree, env)
        if not isinstance(tree, Supervisor):
            raise refused(path, "tree", tree, "a Supervisor, or a function that returns one")
        listeners = _made("listeners", path, self._listeners, env)
        inner = self.included
        tree = tree.with_children(*(_as_child(each) for each in inner)) if inner else tree
        all_listeners = (*listeners, *(each for part in inner for each in part.listeners))
        checked = _check_listeners(path, tree, all_listeners)
        if self._cut is not None:
            tree = self._cut(tree)
            left = {worker.name for worker in named_workers(tree)}
            checked = tuple(each for each in checked if each.to in left)
        self._set(env=env, tree=tree, listeners=checked)


def ensure_all(app: Application, load: Callable[[str], Application | None]) -> list[Application]:
    """Return the applications to start for one of them, in order: depth-first, left to right.

    Args:
        app: The one that is wanted; it comes last.
        load: Gives an optional one by "MODULE:APP", or None.

    Raises:
        SpecError: Two of them have the same name, or two workers have; or they depend on each
            other in a circle.

    Source: OTP kernel, application:ensure_all_started/2.
    """
    found: dict[str, Application] = {}
    _collect(app, load, found, ())
    _check_shared_names(found.values())
    return list(found.values())


def _collect(
    app: Application,
    load: Callable[[str], Application | None],
    found: dict[str, Application],
    above: tuple[str, ...],
) -> None:
    if app.name in above:
        circle = " -> ".join([*above, app.name])
        raise SpecError(f"Application {app.name!r}", f"it depends on itself: {circle}")
    before = found.get(app.name)
    if before is not None:
        if before != app:
            raise SpecError(
                f"Application {app.name!r}", "two different applications have this name"
            )
        return
    optional = [load(each) for each in app.optional]
    for each in (*app.depends, *(one for one in optional if one is not None)):
        _collect(each, load, found, (*above, app.name))
    found[app.name] = app


def _check_shared_names(apps: Iterable[Application]) -> None:
    owners: dict[str, str] = {}
    for app in apps:
        for worker in named_workers(app.tree):
            other = owners.setdefault(worker.name, app.name)
            if other != app.name:
                raise SpecError(
                    f"Application {app.name!r} child {worker.id!r}",
                    f"name={worker.name!r} is taken by a worker of application {other!r}; "
                    f"give every worker of a node a name of its own",
                )


def _made(what: str, path: str, given: Any, env: Any) -> Any:
    if not callable(given):
        return given
    try:
        return given(env)
    except SpecError:
        raise
    except Exception as error:
        raise SpecError(
            path, f"its {what} cannot be made: {type(error).__name__}: {error}"
        ) from error


def _as_child(app: Application) -> ChildSpec:
    """The tree of an included application as a child, with an id of its own."""
    return app.tree if app.tree.id is not None else app.tree.with_id(app.name)


def _check_text(path: str, key: str, value: Any) -> None:
    if not is_text(value):
        raise refused(path, key, value, TEXT)


def _check_all(path: str, key: str, values: Any, kind: type) -> tuple[Any, ...]:
    name = "names" if kind is str else f"{kind.__name__}s"
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise refused(path, key, values, f"a list of {name}")
    checked = tuple(values)
    for value in checked:
        if not isinstance(value, kind):
            raise refused(path, key, value, f"a list of {name}")
    return checked


def _check_targets(path: str, optional: Any) -> tuple[str, ...]:
    targets = _check_all(path, "optional", optional, str)
    for target in targets:
        module, _, attribute = target.partition(":")
        if not all(part.isidentifier() for part in [*module.split("."), attribute]):
            raise refused(path, "optional", target, "MODULE:APP, such as 'shop.audit:app'")
    return targets


def _check_list(path: str, listeners: Any) -> tuple[Any, ...]:
    """What is no list of anything is told before it is looked into."""
    if isinstance(listeners, Iterable):
        return tuple(listeners)
    raise refused(path, "listeners", listeners, "a list of Listeners")


def _check_listeners(
    path: str, tree: Supervisor, listeners: Iterable[Listener]
) -> tuple[Listener, ...]:
    checked = _check_list(path, listeners)
    names = {worker.name for worker in named_workers(tree)}
    for listener in checked:
        if not isinstance(listener, Listener):
            raise refused(path, "listeners", listener, "a list of Listener")
        if listener.to not in names:
            known = "use one of: " + ", ".join(sorted(names)) if names else NO_WORKER
            raise SpecError(
                f"{path} listener {listener.url!r}",
                f"to={listener.to!r} is no worker of the tree; {known}",
            )
    return checked

"""An application: a supervision tree, the listeners that feed it, a name and a version.

It is plain data until `start` hands it to the runtime, which is imported only then: describing
and checking an application needs no loop.

Does not know: how a node joins tree and loop (runtime/node.py).
Source: OTP kernel, application: name, version, start callback.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, final

from pybehave.behaviours.child_spec import refused
from pybehave.behaviours.supervisor import Supervisor, named_workers
from pybehave.errors import SpecError, show
from pybehave.listener import Listener
from pybehave.types import RunningNode


@final
@dataclass(frozen=True, slots=True, init=False)
class Application:
    """A tree with a name, ready to be started.

    Attributes:
        name: For reports, the command line and releases.
        tree: The outermost supervisor.
        listeners: Where inputs come from, each bound to a worker by name.
        version: The application's own version.
    """

    name: str
    tree: Supervisor
    listeners: tuple[Listener, ...]
    version: str

    def __init__(
        self,
        name: str,
        tree: Supervisor,
        *,
        listeners: Iterable[Listener] = (),
        version: str = "0",
    ) -> None:
        path = f"Application {show(name)}"
        for field, value in (("name", name), ("version", version)):
            _check_text(path, field, value)
        if not isinstance(tree, Supervisor):
            raise refused(path, "tree", tree, "a Supervisor")
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "tree", tree)
        object.__setattr__(self, "listeners", _check_listeners(path, tree, listeners))
        object.__setattr__(self, "version", version)

    def start(self, **options: Any) -> RunningNode:
        """Start the tree and its listeners; returns when every init has returned.

        Args:
            options: What `pybehave.runtime.node.Node` takes, for example `backend="epoll"`.

        Returns:
            The running node; as a context manager it stops the tree at the end.

        Raises:
            StartFailed: A child did not start; everything before it was stopped again.
            ListenFailed: A listener's address cannot be had.
        """
        node: RunningNode = import_module("pybehave.runtime.node").Node(self, **options)
        return node.start()


def _check_text(path: str, field: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise refused(path, field, value, "a non-empty string")


def _check_listeners(
    path: str, tree: Supervisor, listeners: Iterable[Listener]
) -> tuple[Listener, ...]:
    checked = tuple(listeners)
    names = {worker.name for worker in named_workers(tree)}
    for listener in checked:
        if not isinstance(listener, Listener):
            raise refused(path, "listeners", listener, "a list of Listener")
        if listener.to not in names:
            known = ", ".join(sorted(names)) or "none"
            raise SpecError(
                f"{path} listener {listener.url!r}",
                f"to={listener.to!r} is no worker of the tree; use one of: {known}",
            )
    return checked

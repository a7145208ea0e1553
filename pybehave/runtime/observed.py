"""Show a server's states to its observers, when they stand and, with a journal, are durable.

Theory. The core tells whatever watches a server of each input before it is stepped, and of its
outcome once the new state stands (debug.py). A server with observers has such a watcher from its
start; others have none, and pay nothing. What is to be shown of a journaled server waits for the
batch that its record is in, whatever its `acknowledge` says, in the order of the batches.

Invariants
  (O1) An observer can hurt nobody: one that raises is logged and not called again for this
       incarnation.
  (O2) In order: on_start, on_state_changed each with the state before as `old`, on_terminate.
  (O3) A state of a journaled server is shown only after the input that led there is on stable
       storage. If the journal fails, it never is.

Does not know: how states come about; replays, which show nothing.
Source: Peeper (Elixir), its listener; catalogue row P-3.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

from pybehave.behaviours.gen_server import shown_state
from pybehave.behaviours.observer import Observer
from pybehave.errors import SpecError

if TYPE_CHECKING:
    from pybehave._uring.commit import Commit
    from pybehave._uring.servers import Server
    from pybehave.behaviours.child_spec import Worker

logger = logging.getLogger("pybehave")


@final
class StateWatch:
    """What shows one incarnation's states.

    Args:
        server: Which.
        observers: To whom.
        commit: Whose batches make its states durable; None when it is not journaled.
    """

    __slots__ = ("_batch", "_before", "_commit", "_first", "_observers", "_raw", "_server")

    def __init__(
        self, server: Server, observers: tuple[Observer, ...], commit: Commit | None
    ) -> None:
        self._server = server
        self._observers = list(observers)
        self._commit = commit
        self._batch = 0
        self._first: tuple[str, Any] | None = None
        self._raw: Any = None
        self._before: Any = None

    @property
    def count(self) -> int:
        """How many observers it has still."""
        return len(self._observers)

    def started(self) -> None:
        """It runs; shown by `show_start`, when its supervisor knows of it."""
        self._first = self._server.name, self.state()
        if self._commit is not None:
            self._batch = self._commit.batch_of_last()

    def show_start(self) -> None:
        """Show that it runs, if that was not shown yet."""
        if self._first is not None:
            (name, state), self._first = self._first, None
            self._show(lambda observer: observer.on_start(name, state))

    def took(self) -> None:
        """An input is about to be stepped."""
        self.show_start()
        self._raw = self._server.state
        self._before = self.state()

    def gave(self) -> None:
        """An input has been stepped, and the new state stands."""
        server, before = self._server, self._before
        is_same = server.state is self._raw
        self._raw = self._before = None
        if is_same and getattr(server.instance, "pure", False):
            return
        if self._commit is not None:
            self._batch = self._commit.batch  # the record of this input is in it
        self._show_change(before)

    def replaced(self, before: Any) -> None:
        """Another state was put in the place of one, between two inputs."""
        self.show_start()
        if self._commit is not None:
            self._batch = self._commit.batch_of_last()
        self._show_change(before)

    def ended(self, reason: object) -> None:
        """It has ended."""
        self.show_start()
        name, state = self._server.name, self.state()
        self._show(lambda observer: observer.on_terminate(name, reason, state))

    def state(self) -> Any:
        """The state as it is shown."""
        return shown_state(self._server.instance, self._server.state)

    def _show_change(self, before: Any) -> None:
        name, after = self._server.name, self.state()
        self._show(lambda observer: observer.on_state_changed(name, before, after))

    def _show(self, call: Callable[[Observer], None]) -> None:
        if self._commit is None:
            self._call(call)
        else:
            self._commit.when_durable(self._batch, lambda: self._call(call))  # (O2), (O3)

    def _call(self, call: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            try:
                call(observer)
            except BaseException:  # (O1), also for one that raises KeyboardInterrupt
                logger.exception("the observer %r of %r is removed", observer, self._server)
                # By identity, and it may be gone by now: it was called again meanwhile.
                self._observers = [each for each in self._observers if each is not observer]


@final
class Observed:
    """The servers of a node that have observers."""

    def __init__(self) -> None:
        self._watches: dict[Server, StateWatch] = {}

    def check(self, worker: Worker[Any, Any], instance: Any, *, is_journaled: bool) -> None:
        """Refuse what cannot be shown.

        Raises:
            SpecError: A journaled server changes its states in place.
        """
        if worker.observers and is_journaled and not getattr(instance, "pure", False):
            raise SpecError(
                f"Worker {worker.id!r}",
                f"observers with journal=True need a server that declares pure = True: "
                f"{type(instance).__name__} may have changed a state in place before it is durable",
            )

    def started(
        self, worker: Worker[Any, Any], server: Server, commit: Commit | None
    ) -> StateWatch:
        """A server runs that has observers; what watches it from now on."""
        watch = self._watches[server] = StateWatch(server, worker.observers, commit)
        return watch

    def shown(self, server: Server) -> Any:
        """A server's state as its observers see it; None when it has none."""
        watch = self._watches.get(server)
        return None if watch is None else watch.state()

    def replaced(self, server: Server, before: Any) -> None:
        """An operator, or an upgrade that counts, has put another state in the place of one."""
        watch = self._watches.get(server)
        if watch is not None:
            watch.replaced(before)

    def forget(self, server: Server) -> None:
        """A server has not started after all."""
        self._watches.pop(server, None)

    def ended(self, server: Server, reason: object) -> None:
        """A server has ended, its terminate included."""
        watch = self._watches.pop(server, None)
        if watch is not None:
            watch.ended(reason)

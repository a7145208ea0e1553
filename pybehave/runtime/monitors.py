"""Who is to hear of whose end: monitors and links between servers.

Theory. A monitor is one-way and belongs to one incarnation of the watched server; its end makes one
`Down`. A link has two ends and at most one exists between two servers. Both are kept under the
watched incarnation, and the other way round under the watcher, so that its own end forgets them.

Invariants
  (O1) Each monitor makes exactly one `Down`, unless it is taken back or its watcher ends before.
  (O2) `Down` and `Exit` come after the ended server's `terminate`, before its supervisor acts; also
       to who has asked for them while it yielded, when nobody else has the name.
  (O3) A link that breaks ends the other server after the current input, never within it.

A journaled watcher's monitors outlive it, for its next incarnation goes on with its state; what
became due meanwhile is told by durable/asked.py.

Does not know: supervisors, the journal.
Source: OTP erts, monitor/2, demonitor/2, link/1, unlink/1; otp.md section 8.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from pybehave.actions import Demonitor, Down, Exit, Link, Monitor, Unlink, name_in
from pybehave.errors import show_reason
from pybehave.runtime.jobs.hands import tell
from pybehave.runtime.waiters import LoopFuture

if TYPE_CHECKING:
    from pybehave._uring.dispatch import Dispatcher
    from pybehave._uring.loop import Loop
    from pybehave._uring.servers import Server

Watcher: TypeAlias = "Server | str | Future[Down]"
"""A server; the name of a journaled one, the same again after a restart; or somebody
outside the loop."""

NOPROC: Final = "noproc"
RESTART: Final = "restart"


@final
@dataclass(slots=True)
class _Watched:
    """What hangs on one incarnation: tags by watcher, and the servers that are linked to it."""

    monitors: dict[Watcher, list[Any]] = field(default_factory=dict)
    links: dict[Server, None] = field(default_factory=dict)


@final
class Monitors:
    """All monitors and links of a node.

    Args:
        dispatcher: Whose servers they are about.
        end: Ends a server with a reason as if by itself, because a linked one has ended.
        defer: Calls a function at the end of the loop's queue.
        ending: Finds the server of a name whose terminate is under way.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        end: Callable[[Server, object], None],
        defer: Callable[[Callable[[], None]], None],
        ending: Callable[[str], Server | None] = lambda _: None,
    ) -> None:
        self._dispatcher = dispatcher
        self._ending = ending
        self._end = end
        self._defer = defer
        self._watched: dict[Server, _Watched] = {}
        self._watching: dict[Watcher, dict[Server, None]] = {}

    # --- what servers ask ----------------------------------------------------------------------

    def act(self, server: Server, action: object) -> bool:
        """Carry out an action of a server; False when it is none of these."""
        if isinstance(action, Monitor):
            self.monitor(server, name_in(action), action.tag)
        elif isinstance(action, Demonitor):
            self._demonitor(server, action)
        elif isinstance(action, Link):
            self.link(server, name_in(action))
        elif isinstance(action, Unlink):
            self._unlink(server, action.server)
        else:
            return False
        return True

    def monitor(self, server: Server, name: str, tag: Any) -> None:
        """Let a server hear of the end of whoever has the name now."""
        watched = self._named(name)
        if watched is None:
            self._dispatcher.inform(server, Down(name, 0, NOPROC, tag))
        else:
            self._watch(watched, _watcher_of(server), tag)

    def monitor_outside(self, name: str, loop: Loop) -> Future[Down]:
        """Like `monitor`, for somebody who is no server."""
        future: Future[Down] = LoopFuture(loop, name)
        watched = self._named(name)
        if watched is None:
            future.set_result(Down(name, 0, NOPROC))
        else:
            self._watch(watched, future, None)
            future.add_done_callback(self._given_up)
        return future

    def _given_up(self, future: Future[Down]) -> None:
        """Whoever cancels its future in time is not kept until the server ends."""
        if future.cancelled():
            tell(self._defer, lambda: self._forget_watcher(future))

    def link(self, server: Server, name: str) -> None:
        """Tie two servers together."""
        other = self._named(name)
        if other is server:
            return
        if other is None:
            self._defer(lambda: self._broken(server, name, NOPROC))
            return
        for one, two in ((server, other), (other, server)):
            self._watched.setdefault(one, _Watched()).links[two] = None

    def _named(self, name: str) -> Server | None:
        found = self._dispatcher.whereis(name)
        return self._ending(name) if found is None else found

    def is_watching(self, server: Server, name: str, tag: Any) -> bool:
        """Whether such a monitor of a journaled server has outlived the one before it."""
        watcher = _watcher_of(server)
        return any(
            watched.name == name and tag in self._watched[watched].monitors[watcher]
            for watched in self._watching.get(watcher, ())
        )

    def _watch(self, watched: Server, watcher: Watcher, tag: Any) -> None:
        entry = self._watched.setdefault(watched, _Watched())
        entry.monitors.setdefault(watcher, []).append(tag)
        self._watching.setdefault(watcher, {})[watched] = None

    def _demonitor(self, server: Server, action: Demonitor) -> None:
        watcher = _watcher_of(server)
        for watched in list(self._watching.get(watcher, ())):
            if watched.name != action.server:
                continue
            tags = self._watched[watched].monitors[watcher]
            tags[:] = [tag for tag in tags if tag != action.tag]
            if not tags:
                self._forget(watched, watcher)
        self._dispatcher.withdraw(
            server,
            lambda info: (
                type(info) is Down and info.name == action.server and info.tag == action.tag
            ),
        )

    def _unlink(self, server: Server, name: str) -> None:
        for other in list(self._links_of(server)):
            if other.name == name:
                self._untie(server, other)
        self._dispatcher.withdraw(server, lambda info: type(info) is Exit and info.name == name)

    # --- what happens --------------------------------------------------------------------------

    def ended(self, server: Server, reason: object) -> None:
        """A server has ended, its terminate has run: tell who is to hear of it (O1, O2)."""
        if not server.number:
            self._forget_watcher(server)
        entry = self._watched.pop(server, None)
        if entry is None:
            return
        for watcher, tags in entry.monitors.items():
            self._stop_watching(watcher, server)
            for tag in tags:
                self._tell(watcher, server, reason, tag)
        for other in entry.links:
            self._links_of(other).pop(server, None)
            self._break(other, server.name, reason)

    def forget(self, name: str) -> None:
        """A journaled server begins anew: its monitors were those of the one before."""
        self._forget_watcher(name)

    def close(self) -> None:
        """The loop ends: nobody hears of anything any more."""
        for watcher in self._watching:
            if isinstance(watcher, Future):
                watcher.cancel()

    def _tell(self, watcher: Watcher, server: Server, reason: object, tag: Any) -> None:
        name, incarnation = server.name, server.incarnation
        if isinstance(watcher, Future):
            if watcher.set_running_or_notify_cancel():
                watcher.set_result(Down(name, incarnation, reason, tag))
            return
        told = self._dispatcher.whereis(watcher) if isinstance(watcher, str) else watcher
        if told is not None:
            self._dispatcher.inform(told, Down(name, incarnation, _form(told, reason), tag))

    def _break(self, other: Server, name: str, reason: object) -> None:
        """(O3)"""
        self._defer(lambda: self._broken(other, name, reason))

    def _broken(self, server: Server, name: str, reason: object) -> None:
        if not server.is_running:
            return
        if server.instance.trap_exit:
            self._dispatcher.inform(server, Exit(name, _form(server, reason)))
        elif reason != "normal":
            self._dispatcher.finish(server)  # what its latest input is continued with is part of it
            if server.is_running:
                self._end(server, reason)

    # --- the two directions --------------------------------------------------------------------

    def _links_of(self, server: Server) -> dict[Server, None]:
        entry = self._watched.get(server)
        return {} if entry is None else entry.links

    def _untie(self, one: Server, two: Server) -> None:
        for server, other in ((one, two), (two, one)):
            self._links_of(server).pop(other, None)
            self._tidy(server)

    def _forget(self, watched: Server, watcher: Watcher) -> None:
        self._watched[watched].monitors.pop(watcher, None)
        self._stop_watching(watcher, watched)
        self._tidy(watched)

    def _forget_watcher(self, watcher: Watcher) -> None:
        for watched in list(self._watching.get(watcher, ())):
            self._forget(watched, watcher)

    def _stop_watching(self, watcher: Watcher, watched: Server) -> None:
        watching = self._watching.get(watcher)
        if watching is not None:
            watching.pop(watched, None)
            if not watching:
                del self._watching[watcher]

    def _tidy(self, server: Server) -> None:
        entry = self._watched.get(server)
        if entry is not None and not entry.monitors and not entry.links:
            del self._watched[server]


def _form(server: Server, reason: object) -> object:
    """A reason as a server can be told it: a journal keeps what it is told, and what somebody else
    has ended with may have no form. Then it is what would be shown of it.
    """
    if server.values is None:
        return reason
    try:
        server.values.encode(reason)
    except Exception:  # noqa: BLE001 -- it has no form, is too large, or its repr raises
        return show_reason(reason)
    return reason


def _watcher_of(server: Server) -> Watcher:
    return server.name if server.number else server

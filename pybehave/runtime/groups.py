"""Process groups: servers under one word, for a message to all of them. `node.groups`.

A server joins by the action `Join` and is a member until `Leave` or its end, whichever comes first.
Membership belongs to an incarnation: the next one joins again, which it does best in its `init`.
That holds for journaled servers too: a `Join` that `init` returns is carried out at every start,
also when the state comes from the journal. Nothing of it is written down.

A message to a group goes to those who are members when the action is carried out, in the order in
which they joined. From a journaled server it goes out when its input is durable, once; a power cut
in between loses it, for it is not part of the input as a `Cast` to one name is.

Does not know: supervisors, who sends.
Source: OTP pg: join/2, leave/2, get_members/1, which_groups/0. There a process that joins twice is
a member twice; here it is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, final

from pybehave._uring.servers import INPUT_CAST
from pybehave.actions import CastGroup, Join, Leave

if TYPE_CHECKING:
    from pybehave._uring.dispatch import Dispatcher
    from pybehave._uring.servers import Server

K = TypeVar("K")
V = TypeVar("V")


@final
class Groups:
    """All groups of a node; its methods may be called from any thread.

    Args:
        dispatcher: Whose servers are in them.
        run_on_loop: Calls a function on the loop's thread and returns what it returns.
    """

    def __init__(
        self, dispatcher: Dispatcher, run_on_loop: Callable[[Callable[[], Any]], Any]
    ) -> None:
        self._dispatcher = dispatcher
        self._run_on_loop = run_on_loop
        self._members: dict[str, dict[Server, None]] = {}
        self._joined: dict[Server, dict[str, None]] = {}

    def members(self, group: str) -> list[str]:
        """Names of a group's members, in the order in which they joined; of none, none."""
        found: list[str] = self._run_on_loop(
            lambda: [server.name for server in self._members.get(group, ())]
        )
        return found

    def names(self) -> list[str]:
        """Groups that have members."""
        found: list[str] = self._run_on_loop(lambda: sorted(self._members))
        return found

    def cast(self, group: str, message: Any) -> int:
        """Send a message to all members; returns how many there were."""
        count: int = self._run_on_loop(lambda: self._cast(group, message))
        return count

    # --- on the loop ---------------------------------------------------------------------------

    def act(self, server: Server, action: object) -> bool:
        """Carry out an action of a server; False when it is none of these."""
        if isinstance(action, Join):
            if server.is_running:
                self._members.setdefault(action.group, {})[server] = None
                self._joined.setdefault(server, {})[action.group] = None
        elif isinstance(action, Leave):
            self._leave(server, action.group)
        elif isinstance(action, CastGroup):
            self._cast(action.group, action.message)
        else:
            return False
        return True

    def ended(self, server: Server) -> None:
        """A server takes no inputs any more."""
        for group in list(self._joined.get(server, ())):
            self._leave(server, group)

    def _leave(self, server: Server, group: str) -> None:
        _drop(self._members, group, server)
        _drop(self._joined, server, group)

    def _cast(self, group: str, message: Any) -> int:
        members = list(self._members.get(group, ()))
        for server in members:
            self._dispatcher.post(server.name, INPUT_CAST, message, None)
        return len(members)


def _drop(table: dict[K, dict[V, None]], key: K, item: V) -> None:
    """Forget an item, and with the last one its key."""
    items = table.get(key)
    if items is not None:
        items.pop(item, None)
        if not items:
            del table[key]

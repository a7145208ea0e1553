"""What a journaled server had asked for when it ended: told of, or done again, by the next one.

An action that asks (`Call`, `Connect`, `Monitor`, `Link`) brings an info later. A server's state
survives a crash and a power cut, what it waits for does not: no caller waits any more. The table of
what is open (src/_uring/asked.pyx) follows from the journal, so a new incarnation knows it, and
each entry is settled exactly once:

| action             | the next incarnation                                                     |
|--------------------|--------------------------------------------------------------------------|
| `Call`             | hears `CallFailed` with `Interrupted` (at most once)                     |
| idempotent `Call`  | nothing; the request is sent again (at least once)                       |
| `Connect`          | hears `ConnectFailed` with `Interrupted`                                 |
| `Monitor`          | still watches; or hears `Down`, if the other ended meanwhile             |
| `Link`             | is linked again: a link is part of a server, as its timers are; to one   |
|                    | that does not run only if it traps exits, and hears so                   |

`Run` is kept in another way: its answer is told apart by the input that asked (pybehave/jobs.py).

Does not know: the journal's records, how actions are carried out.
Source: "at most once" and "at least once" as in Birrell and Nelson, Implementing Remote Procedure
Calls (1984).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pybehave._uring.asked import Asked
from pybehave.actions import (
    Call,
    CallFailed,
    Connect,
    ConnectFailed,
    Down,
    Link,
    Monitor,
    name_in,
)
from pybehave.errors import Interrupted
from pybehave.runtime.monitors import RESTART

if TYPE_CHECKING:
    from pybehave._uring.dispatch import Dispatcher
    from pybehave._uring.servers import Server
    from pybehave._uring.values import Values
    from pybehave.runtime.monitors import Monitors


def settled(action: Any) -> Any:
    """The info that a server is told of something it will not hear of in another way; or None when
    the action is to be carried out once more.
    """
    if isinstance(action, Call):
        error = Interrupted(f"a call of server {action.server!r}")
        return None if action.idempotent else CallFailed(action.tag, name_in(action), error)
    if isinstance(action, Connect):
        return ConnectFailed(action.tag, Interrupted(f"a connect to {action.url}"))
    return None


def settle(server: Server, actions: list[Any], dispatcher: Dispatcher, monitors: Monitors) -> None:
    """Settle what the incarnation before had asked for.

    Args:
        server: The one that goes on.
        actions: What was open when it began. What it has asked since is on its way.
        dispatcher: Whose server it is.
        monitors: Of the same node.
    """
    if not server.is_running or server.asked is None:
        return  # it ended meanwhile, and what is open is for the next one
    still = {id(action) for action in server.asked.actions()}
    for action in actions:
        if id(action) not in still:
            continue
        info = settled(action)
        if info is not None:
            dispatcher.inform(server, info)
        elif isinstance(action, Monitor):
            if not monitors.is_watching(server, name_in(action), action.tag):
                dispatcher.inform(server, Down(name_in(action), 0, RESTART, action.tag))
        elif isinstance(action, Link):
            # This start is an end gone through already: another for the same would be the next
            # start's as well, and so on until the node ends, now and whenever it is started.
            other = name_in(action)
            if server.instance.trap_exit or dispatcher.whereis(other) is not None:
                monitors.link(server, other)
        else:
            dispatcher.repeat(server, action)


def dump(asked: Asked | None, values: Values) -> bytes:
    """As a snapshot keeps it. What will not be done again is kept without its arguments.

    Raises:
        NotJournalable: A tag, or an argument of what is to be done again, has no form.
    """
    return b"" if asked is None else values.encode([fields_of(act) for act in asked.actions()])


def load(data: bytes, values: Values) -> Asked | None:
    """Read what `dump` wrote.

    Raises:
        ValueError: Malformed.
    """
    if not data:
        return None
    asked = Asked()
    for fields in values.decode(data):
        asked.add(action_of(fields))
    return asked


def action_of(fields: list[Any]) -> Any:
    """Return the action of `fields_of`."""
    kind, *rest = fields
    return _MAKE[kind](*rest)


def fields_of(action: Any) -> list[Any]:
    """Return an action that asks as plain values."""
    if isinstance(action, Call):
        if not action.idempotent:
            return ["call", action.tag, action.server, None, None, False]
        again = ["call", action.tag, action.server, action.request, action.timeout, True]
        return again if action.on_restart == "fail" else [*again, action.on_restart]
    if isinstance(action, Connect):
        return ["connect", action.tag, action.url]
    if isinstance(action, Monitor):
        return ["monitor", action.tag, action.server]
    assert isinstance(action, Link)
    return ["link", action.server]


_MAKE: dict[str, Callable[..., Any]] = {
    "call": lambda tag, server, request, timeout, idempotent, on_restart="fail": Call(
        server, request, tag, timeout, idempotent=idempotent, on_restart=on_restart
    ),
    "connect": lambda tag, url: Connect(url, None, tag),
    "monitor": lambda tag, server: Monitor(server, tag),
    "link": Link,
}

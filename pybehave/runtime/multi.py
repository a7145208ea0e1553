"""One request to many servers, and one message to many: `node.multi_call`, `node.abcast`.

All requests are sent before the first reply is waited for, so the servers work on them side by
side, and one time limit holds for all. Whoever has not answered by then is among the bad ones; its
reply, when it comes, is dropped.

Does not know: loops beyond posting. Servers on other nodes: there is one node.
Source: OTP stdlib, gen_server:multi_call/2,3,4 and abcast/2,3. There the same name is called on
many nodes; here many names on one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Protocol

from pybehave._uring.servers import INPUT_CALL
from pybehave.behaviours.child_spec import Ref
from pybehave.errors import LoopClosed, PybehaveError
from pybehave.runtime.sys import name_of
from pybehave.runtime.waiters import ThreadWaiter

Replies = tuple[list[tuple[str, Any]], list[str]]
"""(name, reply) of those who have answered, and the names of those who have not."""


class Poster(Protocol):
    """What hands inputs to a loop: a node."""

    def post(self, name: str | None, kind: int, message: Any, waiter: object) -> None:
        """Hand an input to the loop."""


def names_of(servers: Iterable[str | Ref[Any, Any]]) -> list[str]:
    """Return the names of servers.

    Raises:
        TypeError: It is one name, and not several.
    """
    if isinstance(servers, str | Ref):
        raise TypeError(f"servers is a list of names, not one: use [{name_of(servers)!r}]")
    return [name_of(server) for server in servers]


def from_a_thread(
    node: Poster,
    names: list[str],
    request: Any,
    timeout: float | None,
    abandon: Callable[[list[ThreadWaiter]], None],
) -> Replies:
    """Call servers from another thread than the loop's.

    Args:
        node: Where they run.
        names: Whom; each once.
        request: What each gets.
        timeout: Seconds for all of them; None is no limit.
        abandon: Called with the waiters that have given up.
    """
    deadline = None if timeout is None else monotonic() + timeout
    waiters = [ThreadWaiter() for _ in names]
    for name, waiter in zip(names, waiters, strict=True):
        node.post(name, INPUT_CALL, request, waiter)
    replies: list[tuple[str, Any]] = []
    bad: list[str] = []
    late: list[ThreadWaiter] = []
    for name, waiter in zip(names, waiters, strict=True):
        left = None if deadline is None else max(0.0, deadline - monotonic())
        if not waiter.wait(left):
            late.append(waiter)
            bad.append(name)
        elif waiter.error is None:
            replies.append((name, waiter.value))
        elif isinstance(waiter.error, LoopClosed):
            raise waiter.error
        else:
            bad.append(name)
    if late:
        abandon(late)
    return replies, bad


def on_the_loop(call: Callable[[str], Any], names: list[str]) -> Replies:
    """Call servers on the loop's thread, one after the other.

    Args:
        call: Calls one of them.
        names: Whom.
    """
    replies: list[tuple[str, Any]] = []
    bad: list[str] = []
    for name in names:
        try:
            replies.append((name, call(name)))
        except PybehaveError:
            bad.append(name)
    return replies, bad

"""Requests of the admin socket about what the journal keeps: list it, take it away for good.

What cannot be undone is done only if the request says `confirm`: true.

Does not know: sockets, frames (admin.py, wire.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pybehave.errors import LoopClosed, RequestRefused, show

if TYPE_CHECKING:
    from pybehave.observer.wire import Message
    from pybehave.runtime.node import Node

ROWS_MAX: Final = 1000


def kept(node: Node, request: Message, answer: Callable[..., None]) -> None:
    """Answer with the names that the journal knows, and how each of them is."""
    match = request.get("match", "")
    if not isinstance(match, str):
        raise RequestRefused(f"match={show(match)} is no text; use a part of the names")
    found = [name for name in node.kept() if match in name]
    rows = [{"server": name, "is": _mode(node, name)} for name in found[:ROWS_MAX]]
    answer({"rows": rows, "is_cut": len(found) > ROWS_MAX})


def _mode(node: Node, name: str) -> str:
    if node.loop.dispatcher.whereis(name) is not None:
        return "running"
    assert node.journal is not None
    return "absent" if name in node.journal.absent else "stopped"


def forget(node: Node, request: Message, answer: Callable[..., None]) -> None:
    """Forget a server; `stop`: true stops it first."""
    _check_confirmed(request, "forgotten")
    node.begin_forget(request["server"], _told(node, answer), stop=request.get("stop") is True)


def reset(node: Node, request: Message, answer: Callable[..., None]) -> None:
    """Let a server that runs begin anew."""
    _check_confirmed(request, "lost")
    node.begin_reset(request["server"], _told(node, answer))


def _check_confirmed(request: Message, word: str) -> None:
    if request.get("confirm") is not True:
        raise RequestRefused(
            f"All that {request['server']!r} keeps would be {word}; say --yes (confirm: true)"
        )


def _told(node: Node, answer: Callable[..., None]) -> Callable[[Any, BaseException | None], None]:
    """Answer at the loop: what was asked for may end on a thread."""

    def told(value: Any, error: BaseException | None) -> None:
        try:
            node.host.defer(lambda: answer(value, error))
        except LoopClosed:  # and with it who asked
            return

    return told

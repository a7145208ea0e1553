"""Signals of a node on the main thread.

| signal      | what it does                                                             |
|-------------|--------------------------------------------------------------------------|
| TERM        | drain: accept no more, answer what was read, stop the tree, exit status 0 |
| TERM, twice | as one: what is under way ends, and the exit status stays 0                |
| INT         | stop now: connections are closed, the tree stops in order                 |
| INT, twice  | end at once, as Python does by itself                                     |
| HUP         | event `SignalReceived("HUP")`: reopen logs, reload settings               |
| USR1        | event `SignalReceived("USR1")`, and the tree goes to the log              |

Handlers that somebody set before are kept. CPython writes a byte to the loop's wake-up socket when
a signal comes (`signal.set_wakeup_fd`), so none is slept over.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any

from pybehave.runtime.events import Event

if TYPE_CHECKING:
    from pybehave.runtime.node import Node

logger = logging.getLogger("pybehave")


class SignalReceived(Event, frozen=True):
    """HUP or USR1 came: for hooks that reopen logs or look around.

    Attributes:
        signal: Its name without SIG.
    """

    signal: str

    def __str__(self) -> str:
        return f"{self.child} got signal {self.signal}"


@contextlib.contextmanager
def installed(node: Node, is_last: bool) -> Iterator[None]:
    """Handle signals for a node while the block runs; nothing on other threads than the main.

    Args:
        is_last: The process ends behind the block: TERM is ignored there, for who sends it
            twice is not to see that the second one killed a process that had ended well.
    """
    if threading.current_thread() is not threading.main_thread() or node.loop.wake_fd < 0:
        yield
        return
    before: dict[int, Any] = {}
    wake_before = signal.set_wakeup_fd(node.loop.wake_fd, warn_on_full_buffer=False)
    try:
        for number, handler in _handlers(node).items():
            old = signal.getsignal(number)
            if old in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = old
                signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            is_late = is_last and number == signal.SIGTERM
            signal.signal(number, signal.SIG_IGN if is_late else old)
        signal.set_wakeup_fd(wake_before)


def _handlers(node: Node) -> dict[int, Any]:
    def terminate(_number: int, _frame: FrameType | None) -> None:
        node.request_stop(drain=True)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        node.request_stop(drain=False)

    def notice(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name.removeprefix("SIG")
        node.loop.post(None, 0, lambda: _noticed(node, name), None)

    return {
        signal.SIGTERM: terminate,
        signal.SIGINT: interrupt,
        signal.SIGHUP: notice,
        signal.SIGUSR1: notice,
    }


def _noticed(node: Node, name: str) -> None:
    node.events.emit(SignalReceived("", node.app.name, name))
    if name == "USR1":
        logger.warning("tree of %r:\n%s", node.app.name, node.tree.dump())

"""Signals of a node on the main thread.

| signal      | what it does                                                             |
|-------------|--------------------------------------------------------------------------|
| TERM        | drain: accept no more, answer what was read, stop the tree, exit status 0 |
| TERM, twice | as one: what is under way ends, and the exit status stays 0                |
| INT         | stop now: connections are closed, the tree stops in order                 |
| INT, twice  | end at once, as Python does by itself; exit status 130                    |
| TERM, INT   | stop now; at once, if what was running at TERM still runs                  |
| HUP         | event `SignalReceived("HUP")`: reopen logs, reload settings               |
| USR1        | event `SignalReceived("USR1")`, and the tree goes to the log              |

A process that another one is taking the place of passes TERM and INT on to that, as TERM.

A stop is the loop's to make, between two steps. While a step does not return, a signal would change
nothing that can be seen, so after PATIENCE_S the log says who keeps the node from stopping.

Handlers that somebody set before are kept. CPython writes a byte to the loop's wake-up socket when
a signal comes (`signal.set_wakeup_fd`), so none is slept over. The child of a fork has no node, and
not that socket for long: signals are to it what they were before.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from pybehave.errors import LoopClosed
from pybehave.runtime.events import Event
from pybehave.runtime.watchdog import named, running

if TYPE_CHECKING:
    from pybehave.runtime.node import Node

logger = logging.getLogger("pybehave")

INTERRUPTED: Final = 128 + signal.SIGINT
"""The exit status of a node that was ended at once, as shells say it."""

PATIENCE_S: Final = 1.0
"""A loop that is well comes to a stop within milliseconds."""

_before: list[dict[int, Any]] = []
"""What this process's nodes on the main thread have replaced, the latest last."""


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
        is_last: The process ends behind the block: all but INT are ignored there, for who sends
            one late is not to see that it killed a process that had ended by itself, and has an
            exit status to tell.
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
        _before.append(before)
        yield
    finally:
        if before in _before:  # not in a child
            _before.remove(before)
        for number, old in before.items():
            is_late = is_last and number != signal.SIGINT
            signal.signal(number, signal.SIG_IGN if is_late else old)
        signal.set_wakeup_fd(wake_before)


def loop_closes(fd: int) -> None:
    """Let go of a loop's wake-up socket: its number may soon be another file's.

    Args:
        fd: The socket; nothing happens if it is not the one that signals write to.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    now = signal.set_wakeup_fd(-1)
    if now != fd:
        signal.set_wakeup_fd(now)


def _after_fork_in_child() -> None:
    if _before:
        signal.set_wakeup_fd(-1)
    while _before:
        for number, old in _before.pop().items():
            signal.signal(number, old)


os.register_at_fork(after_in_child=_after_fork_in_child)


def _handlers(node: Node) -> dict[int, Any]:
    after_terminate: list[Any] = []  # what ran when TERM came, or was then told to hold it up

    def ask(*, drain: bool) -> None:
        node.request_stop(drain=drain)
        if node.replacement is not None:
            node.replacement.is_stop_meant_for_both = True

    def terminate(_number: int, _frame: FrameType | None) -> None:
        ask(drain=True)
        if not after_terminate:
            after_terminate.append(running(node))
            _look_later(node, "INT ends at once", after_terminate)

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        ask(drain=False)
        if any(seen is not None and seen == running(node) for seen in after_terminate):
            signal.default_int_handler(number, frame)
        _look_later(node, "INT again ends at once", [])

    def notice(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name.removeprefix("SIG")
        with contextlib.suppress(
            LoopClosed
        ):  # the node has ended, and this stands for a moment yet
            node.loop.post(None, 0, lambda: _noticed(node, name), None)

    return {
        signal.SIGTERM: terminate,
        signal.SIGINT: interrupt,
        signal.SIGHUP: notice,
        signal.SIGUSR1: notice,
    }


def _look_later(node: Node, advice: str, told: list[Any]) -> None:
    """Say in a moment who keeps a node from stopping, if anybody does, and add that to `told`."""
    since = time.monotonic()

    def look() -> None:
        time.sleep(PATIENCE_S / 2)
        seen = running(node)
        time.sleep(PATIENCE_S / 2)
        if seen is None or running(node) != seen:
            return
        told.append(seen)
        name, what = named(seen)
        seconds = time.monotonic() - since
        if node.watchdog is not None:
            seconds = max(seconds, node.watchdog.seconds_of(seen))
        logger.warning(
            "%r is asked to stop, but %s %s of server %r has been running for %.3g s; %s",
            node.app.name,
            "an" if what == "init" else "a",
            what,
            name,
            seconds,
            advice,
        )

    with contextlib.suppress(RuntimeError):  # no thread is left: then nobody says so
        # Not a Thread: its start takes locks, and a handler may stand in the middle of another one.
        _thread.start_new_thread(look, ())


def _noticed(node: Node, name: str) -> None:
    node.events.emit(SignalReceived("", node.app.name, name))
    if name == "USR1":
        logger.warning("tree of %r:\n%s", node.app.name, node.tree.dump())

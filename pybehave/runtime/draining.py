"""The last replies: what a node does with its connections before its tree stops.

Accept no more, answer what was read, flush, close. A server that is suspended answers nothing until
somebody resumes it, and nobody will: its clients are told at once that it ends, and the drain does
not wait for them. To resume it instead would run, on the way out, what an operator has held back.
Nor is anything waited for that a server has not asked for (`active`): it is dropped, as is what the
kernel has of it.

Then servers take what waits in their mailboxes, in the time that connections have: those of OTP's
who trap exits do, for the supervisor's signal stands behind it, and all of ours end as those do.

What systemd's users expect of TERM is an end within seconds, and a word on why it takes that long:
the log and `systemctl status` say who is waited for and who was cut.

Does not know: trees; who asked for the stop.
Source: OTP sys:suspend_loop: a suspended process ends when its supervisor says so, and its callers
get that reason.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pybehave.runtime import systemd

if TYPE_CHECKING:
    from pybehave._uring.loop import Loop

TICKS_MAX: Final = 64
"""Ticks that read what clients had sent before a drain; busy ones would never be done sending."""

LOOK_S: Final = 0.1
"""How soon a drain that is called off is seen to be."""

ABORT_TICKS_MAX: Final = 200
ABORT_TICK_S: Final = 0.005
"""Aborted connections come home within a tick or two; after 1 s something is wrong."""

logger = logging.getLogger("pybehave")


def close_connections(
    loop: Loop,
    seconds: float,
    is_draining: Callable[[], bool],
    servers: Callable[[], Iterable[Any]],
) -> None:
    """Close all connections, on the loop's thread; with a drain after their last replies.

    Args:
        loop: Whose connections.
        seconds: How long the last replies may take.
        is_draining: Whether they are waited for; it may change meanwhile.
        servers: Returns those that run.
    """
    ticks = TICKS_MAX if is_draining() else 0
    while ticks and loop.run_once(0.0):
        ticks -= 1
    loop.close_listeners()
    if is_draining():
        _drain(loop, seconds, is_draining, servers)
    ticks = ABORT_TICKS_MAX
    while loop.abort_connections() and ticks:
        loop.run_once(ABORT_TICK_S)
        ticks -= 1


def after_waiting(
    loop: Loop,
    servers: Iterable[Any],
    seconds: float,
    is_draining: Callable[[], bool],
    then: Callable[[], None],
) -> None:
    """Call a function when servers have taken what waits for them now; on the loop's thread.

    What they send each other meanwhile is waited for by nobody. A server that is suspended takes
    nothing.

    Args:
        loop: Whose servers.
        servers: Those that run.
        seconds: After these it is called all the same; 0: at once.
        is_draining: Whether they are waited for; it may change meanwhile.
        then: The function.
    """
    until = loop.now() + seconds
    busy = {server.name for server in servers if server.mailbox_count} if seconds else set()
    if not busy:
        then()
        return

    alarm: Any = None

    def has_taken(name: str) -> None:
        busy.discard(name)
        if not busy and loop.dispatcher.cancel_alarm(alarm):
            then()

    def look() -> None:
        nonlocal alarm
        left = until - loop.now()
        if left > 0 and is_draining():
            alarm = loop.dispatcher.start_alarm(min(left, LOOK_S), look)
            return
        logger.warning("%d servers have not taken all that waited for them", len(busy))
        then()

    alarm = loop.dispatcher.start_alarm(min(seconds, LOOK_S), look)
    for name in sorted(busy):
        loop.dispatcher.in_turn(name, partial(has_taken, name))


def refuse_suspended(loop: Loop, servers: Callable[[], Iterable[Any]]) -> None:
    """Tell the clients of suspended servers that these end."""
    if not loop.dispatcher.suspended_count:
        return
    for server in servers():
        count = loop.dispatcher.refuse_clients(server)
        if count:
            logger.warning(
                "server %r is suspended: %d requests of clients are refused, for it is to stop",
                server.name,
                count,
            )


def _drain(
    loop: Loop,
    seconds: float,
    is_draining: Callable[[], bool],
    servers: Callable[[], Iterable[Any]],
) -> None:
    deadline = loop.now() + seconds
    loop.finish_connections()
    refuse_suspended(loop, servers)
    left = loop.finish_unasked()
    if left:
        logger.info("waiting at most %g s for the last replies of %d connections", seconds, left)
        systemd.notify(f"STATUS=Waiting for the last replies of {left} connections", wait=0.0)
    while left and is_draining() and loop.now() < deadline:
        loop.run_once(deadline - loop.now())
        refuse_suspended(loop, servers)
        left = loop.finish_unasked()
    if left and is_draining():
        logger.warning("%d connections were cut: no last reply within %g s", left, seconds)

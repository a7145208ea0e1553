"""systemd: sockets it hands over, and the notices it wants.

The watchdog is fed from the loop itself, by an alarm: as long as a step does not return, nothing is
said, and systemd ends a process that it has not heard of for `WatchdogSec`.

Source: sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3). A few lines over the environment
each; no library.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Final

from pybehave.errors import ListenFailed

LISTEN_FDS_START: Final = 3
"""The first inherited descriptor (sd_listen_fds(3), SD_LISTEN_FDS_START)."""

_OF_ONE_PROCESS: Final = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID")

WAIT_S: Final = 1.0
"""The loop stands still meanwhile, so not longer; who listens at all takes a notice at once."""

NOTICES_PER_LIMIT: Final = 2
"""sd_watchdog_enabled(3) recommends half of the time: one notice may be late."""


def listen_fd(url: str, name: str) -> int:
    """Return the inherited listening socket of that FileDescriptorName.

    Raises:
        ListenFailed: This process was not started by socket activation, or has no such name.
    """
    if os.environ.get("LISTEN_PID") not in (None, str(os.getpid())):
        raise _missing(url, "LISTEN_PID names another process")
    found = inherited()
    for known, fd in found:
        if known == name:
            return fd
    known = ", ".join(each for each, _ in found) or "none"
    raise _missing(url, f"systemd handed over no socket of that name (it has: {known})")


def notify(message: str, fds: tuple[int, ...] = (), *, wait: float = WAIT_S) -> bool:
    """Tell systemd, for example `READY=1`; False when nobody listens.

    Args:
        fds: Descriptors of which it gets copies (sd_pid_notify_with_fds(3)).
        wait: Seconds for room in the socket, when whoever listens is held up (a parent that was
            stopped by Ctrl-Z); 0 for what is said again anyway.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(wait)
            sender.connect(address)
            socket.send_fds(sender, [message.encode()], fds)
    except OSError:
        return False  # a notice is not worth failing for
    return True


def inherited() -> list[tuple[str, int]]:
    """Name and number of each descriptor that this process was given (sd_listen_fds(3))."""
    if os.environ.get("LISTEN_PID") not in (None, str(os.getpid())):
        return []
    count = os.environ.get("LISTEN_FDS", "0")
    total = int(count) if count.isascii() and count.isdigit() else 0
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")[:total]
    return [(name, LISTEN_FDS_START + index) for index, name in enumerate(names)]


def for_another_process() -> dict[str, str]:
    """The environment without what systemd says of this process alone."""
    return {name: value for name, value in os.environ.items() if name not in _OF_ONE_PROCESS}


def watchdog_s() -> float | None:
    """Return within how many seconds systemd wants to hear of this process; None when it does not
    (sd_watchdog_enabled(3): WATCHDOG_USEC, and WATCHDOG_PID if it is set).
    """
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    limit = os.environ.get("WATCHDOG_USEC", "")
    microseconds = int(limit) if limit.isascii() and limit.isdigit() else 0
    return microseconds / 1e6 if microseconds > 0 else None


def feed_watchdog(start_alarm: Callable[[float, Callable[[], None]], object]) -> None:
    """Say `WATCHDOG=1` now and from then on at half the time that systemd allows, if it asks.

    Args:
        start_alarm: Calls a function on the loop's thread after so many seconds.
    """
    limit = watchdog_s()
    if limit is None:
        return
    interval = limit / NOTICES_PER_LIMIT

    def feed() -> None:
        notify("WATCHDOG=1", wait=0.0)
        start_alarm(interval, feed)

    feed()


def _missing(url: str, why: str) -> ListenFailed:
    return ListenFailed(url, OSError(errno.ENOENT, why))

"""systemd: sockets it hands over, and the notices it wants.

Source: sd_listen_fds(3), sd_notify(3). Both are a few lines over the environment; no library.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from pybehave.errors import ListenFailed

LISTEN_FDS_START: Final = 3
"""The first inherited descriptor (sd_listen_fds(3), SD_LISTEN_FDS_START)."""


def listen_fd(url: str, name: str) -> int:
    """Return the inherited listening socket of that FileDescriptorName.

    Raises:
        ListenFailed: This process was not started by socket activation, or has no such name.
    """
    if os.environ.get("LISTEN_PID") not in (None, str(os.getpid())):
        raise _missing(url, "LISTEN_PID names another process")
    count = os.environ.get("LISTEN_FDS", "0")
    total = int(count) if count.isascii() and count.isdigit() else 0
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    for index in range(total):
        if index < len(names) and names[index] == name:
            return LISTEN_FDS_START + index
    known = ", ".join(names[:total]) or "none"
    raise _missing(url, f"systemd handed over no socket of that name (it has: {known})")


def notify(message: str) -> bool:
    """Tell systemd, for example `READY=1`; False when nobody listens."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(message.encode(), address)
    except OSError:
        return False  # a notice is not worth failing for
    return True


def _missing(url: str, why: str) -> ListenFailed:
    return ListenFailed(url, OSError(errno.ENOENT, why))

"""What a looked-after process says: notices on a datagram socket, as systemd gets them.

A node says by sd_notify(3) that it is ready, that its loop turns, that it stops, which process
takes its place; and it puts its listening sockets aside (runtime/kept_sockets.py). Whoever looks
after it listens in systemd's place, so the node has one voice for both. The kernel adds who has
sent a notice; one of another user's process is dropped, for the socket has no file and no mode.

Does not know: what follows from a notice.
Source: sd_notify(3); unix(7), SCM_CREDENTIALS, abstract names and autobind.
"""

from __future__ import annotations

import array
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, final

NOTICE_BYTES_MAX: Final = 1 << 16
"""A command line fits; systemd's own limit is 4 KiB."""

FDS_MAX: Final = 16

_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred: process, user, group."""


@final
@dataclass(frozen=True, slots=True)
class Notice:
    """One datagram.

    Attributes:
        pid: Who has sent it.
        fields: NAME -> value.
        fds: Descriptors that came with it, this process's now.
    """

    pid: int
    fields: Mapping[str, str]
    fds: tuple[int, ...] = ()


@final
class Notices:
    """The socket. Its address is for NOTIFY_SOCKET."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)
        self._socket.bind("")  # the kernel chooses an abstract name
        self.address = "@" + self._socket.getsockname()[1:].decode()

    def fileno(self) -> int:
        """What poll waits for."""
        return self._socket.fileno()

    def take(self) -> Iterator[Notice]:
        """All that has come, oldest first."""
        room = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * FDS_MAX)
        while True:
            try:
                data, extra, _, _ = self._socket.recvmsg(
                    NOTICE_BYTES_MAX, room, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            pid, user, fds = _sender(extra)
            if user == os.geteuid():
                yield Notice(pid, _fields(data), fds)
            else:
                for fd in fds:
                    os.close(fd)

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


def _sender(extra: list[tuple[int, int, bytes]]) -> tuple[int, int, tuple[int, ...]]:
    """Process, user, and descriptors."""
    pid, user, fds = 0, -1, array.array("i")
    for level, kind, data in extra:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS:
            pid, user, _ = _CREDENTIALS.unpack(data[: _CREDENTIALS.size])
        elif kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return pid, user, tuple(fds)


def _fields(data: bytes) -> dict[str, str]:
    lines = data.decode(errors="replace").splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}

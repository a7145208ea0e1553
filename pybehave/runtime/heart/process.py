"""Starting a process with descriptors that outlive it, in the way of systemd's socket activation.

The descriptors that are kept lie above LOW_FD_MAX, closed on exec; a process that is started gets
copies from number 3 on, and their names in its environment.

Does not know: when a process is started, and what becomes of it.
Source: sd_listen_fds(3); posix_spawn(3); prctl(2), PR_SET_CHILD_SUBREAPER.
"""

from __future__ import annotations

import ctypes
import fcntl
import logging
import os
import signal
import socket
from typing import Final, final

from pybehave.runtime import systemd

FDS_KEPT_MAX: Final = 128
"""More listeners than any application has; one more is not kept."""

LOW_FD_MAX: Final = systemd.LISTEN_FDS_START + FDS_KEPT_MAX

PR_SET_CHILD_SUBREAPER: Final = 36

OF_ITS_PARENT: Final = ("WATCHDOG_USEC", "NOTIFY_SOCKET", "FDSTORE")
"""What systemd has told us is not for the process that we start."""

logger = logging.getLogger("pybehave.heart")


@final
class Shelf:
    """Descriptors by name: what systemd has given to us, and what our child has put there."""

    def __init__(self) -> None:
        self._kept: dict[str, int] = {}
        for name, fd in systemd.inherited():
            self._kept[name] = _moved_up(fd)
            os.close(fd)

    def put(self, name: str, fds: tuple[int, ...]) -> None:
        """Keep a descriptor, in the place of one of that name; it is the shelf's from now on."""
        for fd in fds:
            if len(self._kept) < FDS_KEPT_MAX or name in self._kept:
                self.remove(name)
                self._kept[name] = _moved_up(fd)
            else:
                logger.warning("%d sockets are kept already, %s is not", FDS_KEPT_MAX, name)
            os.close(fd)

    def remove(self, name: str) -> None:
        """Close one, if it is there."""
        if name in self._kept:
            os.close(self._kept.pop(name))

    def clear(self) -> None:
        """Close all."""
        for name in list(self._kept):
            self.remove(name)

    def given(self) -> dict[str, int]:
        """Name and descriptor of those for the next process.

        A listening socket that this process was started with (`--listen fd://3`) keeps its number
        there; should one that is kept come to lie on it, none is kept any more.
        """
        last = systemd.LISTEN_FDS_START + len(self._kept)
        taken = [fd for fd in range(systemd.LISTEN_FDS_START, last) if _is_inherited_listener(fd)]
        if taken:
            logger.warning("no listening socket is kept: number %d is that of fd://", taken[0])
            self.clear()
        return dict(self._kept)


def start_process(words: tuple[str, ...], says: dict[str, str], shelf: Shelf) -> int:
    """Start a command in a process group of its own: what a terminal sends comes through us, once.

    Args:
        says: Of its environment, what is not in ours.

    Returns:
        Its process id.

    Raises:
        OSError: There is no such program, or no room for another process.
    """
    given = shelf.given()
    own = systemd.for_another_process()
    environment = {name: value for name, value in own.items() if name not in OF_ITS_PARENT}
    environment |= says | {
        "FDSTORE": str(FDS_KEPT_MAX),
        "LISTEN_FDS": str(len(given)),
        "LISTEN_FDNAMES": ":".join(given),
    }
    copies = [
        (os.POSIX_SPAWN_DUP2, fd, systemd.LISTEN_FDS_START + index)
        for index, fd in enumerate(given.values())
    ]
    return os.posix_spawnp(
        words[0],
        words,
        environment,
        file_actions=copies,
        setpgroup=0,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores them; its child begins anew
    )


def set_subreaper(*, is_one: bool) -> None:
    """Get the orphans of our children: a process that has taken another one's place is one."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(is_one), 0, 0, 0)


def _moved_up(fd: int) -> int:
    """A copy above all numbers that a child gets."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, LOW_FD_MAX)


def _is_inherited_listener(fd: int) -> bool:
    try:
        if not os.get_inheritable(fd):
            return False
        with socket.socket(fileno=os.dup(fd)) as copy:
            return bool(copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:  # nothing is open there, or no socket
        return False

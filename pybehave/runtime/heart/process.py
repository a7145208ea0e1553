"""Starting a process with descriptors that outlive it, in the way of systemd's socket activation;
and a process that may be somebody else's child, watched.

The descriptors that are kept lie above LOW_FD_MAX, closed on exec; a process that is started gets
copies from number 3 on, and their names in its environment.

Does not know: when a process is started, and what becomes of it.
Source: sd_listen_fds(3); posix_spawn(3); prctl(2), PR_SET_CHILD_SUBREAPER; pidfd_open(2);
proc_pid_stat(5), exit_code.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import logging
import os
import select
import signal
import socket
from pathlib import Path
from typing import Final, final

from pybehave.runtime import systemd

FDS_KEPT_MAX: Final = 128
"""More listeners than any application has; one more is not kept."""

LOW_FD_MAX: Final = systemd.LISTEN_FDS_START + FDS_KEPT_MAX

PR_SET_CHILD_SUBREAPER: Final = 36

_PARENT: Final = 4 - 3
_EXIT_CODE: Final = 52 - 3
"""Fields of proc_pid_stat(5), behind number and name."""

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
            try:
                if len(self._kept) < FDS_KEPT_MAX or name in self._kept:
                    kept = _moved_up(fd)
                    self.remove(name)
                    self._kept[name] = kept
                else:
                    logger.warning("%d sockets are kept already, %s is not", FDS_KEPT_MAX, name)
            except OSError as error:  # beyond the limit of open files
                logger.warning("the socket %s is not kept: %s", name, error)
            finally:
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


@final
class Watched:
    """A process by number and by descriptor: the number may be a stranger's as soon as the process
    has been reaped, by whoever is its father; the descriptor never is.

    Args:
        pid: Its number.

    Raises:
        OSError: It has been reaped, or there is no room for another descriptor.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def fileno(self) -> int:
        """What poll waits for: it can be read once the process has ended."""
        return self._fd

    def has_ended(self) -> bool:
        """Say whether it runs no more, reaped or not."""
        looking = select.poll()
        looking.register(self._fd, select.POLLIN)
        return bool(looking.poll(0))

    def kill(self, number: int) -> None:
        """Send a signal, unless it has been reaped."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def status(self) -> int | None:
        """How it ended, as wait(2) says it, from its remains; None = somebody has reaped it.

        Only for a process that has ended: the number must not be a stranger's.
        """
        try:
            fields = _stat(self.pid)
            signal.pidfd_send_signal(self._fd, 0)  # so it was not reaped before, and this was it
        except OSError:
            return None
        return int(fields[_EXIT_CODE])

    def close(self) -> None:
        """Watch it no more."""
        os.close(self._fd)


def start_process(words: tuple[str, ...], says: dict[str, str], shelf: Shelf) -> Watched:
    """Start a command in a process group of its own: what a terminal sends comes through us, once.

    Args:
        says: Of its environment, what is not in ours.

    Raises:
        OSError: There is no such program, or no room for another process or descriptor.
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
    pid = os.posix_spawnp(
        words[0],
        words,
        environment,
        file_actions=copies,
        setpgroup=0,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores them; its child begins anew
    )
    try:
        return Watched(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def parent_of(pid: int) -> int:
    """Return the number of a process's father; -1 = the process has gone."""
    try:
        return int(_stat(pid)[_PARENT])
    except OSError:
        return -1


def _stat(pid: int) -> list[str]:
    text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()  # the name may hold anything


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

"""Listening sockets that outlive the process: put aside with whoever started it, taken again.

Between the end of a process and the start of the next one nobody listens, and clients are refused.
Unless the socket is kept by somebody else: then they wait in its queue. systemd does that for a
service with `FileDescriptorStoreMax=`, and so does `pybehave run --heart` (heart/parent.py), by
the same words: who keeps descriptors says how many in FDSTORE, gets them with notices, and gives
them to the next process as it gives those of socket activation.

A kept socket is known by the listener's name and address together, so one whose address was changed
between two starts is opened anew. What nobody takes is closed: a socket on which nobody accepts is
worse than none.

Does not know: who keeps them; what is served.
Source: sd_pid_notify_with_fds(3), FDSTORE=1, FDNAME=, FDSTOREREMOVE=1; sd_listen_fds(3).
"""

from __future__ import annotations

import logging
import os
from typing import Final
from urllib.parse import quote

from pybehave.listener import FdAddress, Listener, SystemdAddress, UnixAddress
from pybehave.runtime import systemd

PREFIX: Final = "pybehave."
NAME_CHARS_MAX: Final = 255
"""The longest FDNAME that systemd takes."""

TAKEN: Final = "taken"

logger = logging.getLogger("pybehave")


def put(listener: Listener, fd: int) -> None:
    """Let a copy of a listener's socket be kept, if somebody does."""
    name = _name_of(listener)
    if not _room() or isinstance(listener.address, FdAddress | SystemdAddress):
        return  # nobody keeps any, or whoever gave it has it
    if len(name) > NAME_CHARS_MAX:
        logger.warning("the socket of %s is not kept: its name is too long", listener.name)
        return
    systemd.notify(f"FDSTORE=1\nFDNAME={name}", (fd,))


def take(listener: Listener) -> int:
    """Return a listener's socket that was kept, and is this process's now; -1 = none."""
    names = _names()
    wanted = _name_of(listener)
    if wanted not in names:
        return -1
    fd = systemd.LISTEN_FDS_START + names.index(wanted)
    _forget(names, fd)
    if _is_out_of_reach(listener):
        os.close(fd)
        return -1
    return fd


def drop(listener: Listener) -> None:
    """A listener is closed for good: clients are to be refused."""
    if _room():
        systemd.notify(f"FDSTOREREMOVE=1\nFDNAME={_name_of(listener)}")


def drop_rest() -> None:
    """Close what was kept for listeners that there are not any more."""
    for name, fd in systemd.inherited():
        if name.startswith(PREFIX):
            _forget(_names(), fd)
            os.close(fd)
            systemd.notify(f"FDSTOREREMOVE=1\nFDNAME={name}")


def _name_of(listener: Listener) -> str:
    return PREFIX + quote(f"{listener.name} {listener.url}", safe="")


def _is_out_of_reach(listener: Listener) -> bool:
    """Whether the file of a Unix socket was removed: nobody could connect."""
    address = listener.address
    has_file = isinstance(address, UnixAddress) and not address.path.startswith("@")
    return has_file and not os.path.exists(str(address).removeprefix("unix://"))


def _room() -> int:
    room = os.environ.get("FDSTORE", "")
    return int(room) if room.isascii() and room.isdigit() else 0


def _names() -> list[str]:
    return [name for name, _ in systemd.inherited()]


def _forget(names: list[str], fd: int) -> None:
    """What was taken is given to nobody twice, nor to processes that this one starts."""
    os.set_inheritable(fd, False)
    names[fd - systemd.LISTEN_FDS_START] = TAKEN
    os.environ["LISTEN_FDNAMES"] = ":".join(names)

"""Opening an application's listeners: addresses, inherited sockets, stale Unix sockets."""

from __future__ import annotations

import dataclasses
import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, Any, Final

from pybehave.behaviours.speaks import Edge
from pybehave.errors import ListenFailed, SpecError
from pybehave.listener import (
    ANY_HOST,
    FdAddress,
    Listener,
    SystemdAddress,
    TcpAddress,
    UnixAddress,
)
from pybehave.runtime import addresses, systemd

if TYPE_CHECKING:
    from pybehave._uring.loop import Loop
    from pybehave._uring.servers import Port

OPTIONS: Final = tuple(
    field.name
    for field in dataclasses.fields(Listener)
    if field.name not in ("url", "protocol", "to", "name", "address")
)


def address_of(listener: Listener) -> bytes:
    """Return the packed address to bind; empty for a socket that is inherited. May block.

    Raises:
        SpecError: A host name is unknown.
    """
    if isinstance(listener.address, FdAddress | SystemdAddress):
        return b""
    return addresses.pack(listener.address)


def open_listener(
    loop: Loop, listener: Listener, packed: bytes, *, mode: int | None = None, fd: int = -1
) -> Port:
    """Listen for an application; on the loop's thread or before it runs.

    Args:
        packed: What `address_of` gave.
        mode: Of a Unix socket's file, from the moment it is there; None = as the umask says.
        fd: A socket that listens already, of the process before; -1 = none.

    Raises:
        ListenFailed: The address is in use or not allowed, or the inherited socket is not there.
    """
    address = listener.address
    codec: Any = listener.protocol.codec()
    to = loop.dispatcher.address(listener.to)
    is_dual = fd < 0 and isinstance(address, TcpAddress) and address.host == ANY_HOST
    if fd < 0:
        fd = _inherited(loop, listener, mode)
    try:
        port = loop.listen(listener.name, listener.url, packed, codec, to, listener, fd, is_dual)
    except ListenFailed as error:
        raise _explained(listener, error.reason) from error.__cause__
    port.speak(Edge(listener.speaks))
    port.agree(listener.contract)
    port.greet()
    return port


def _inherited(loop: Loop, listener: Listener, mode: int | None) -> int:
    """The socket that this process was given, or that has to be bound by itself; -1 = none."""
    address = listener.address
    if isinstance(address, FdAddress):
        return address.fd
    if isinstance(address, SystemdAddress):
        return systemd.listen_fd(listener.url, address.name)
    if isinstance(address, UnixAddress) and loop.source != "sim":
        remove_stale(listener.url, address.path)
        if mode is not None:
            return _bound_with_mode(listener, address.path, mode)
    return -1


def _bound_with_mode(listener: Listener, path: str, mode: int) -> int:
    """Bind a Unix socket whose file never had another mode: Linux takes the socket's own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
        try:
            os.fchmod(bound.fileno(), mode)
            bound.bind(path)
            bound.listen(listener.backlog)
        except OSError as error:
            raise _explained(listener, error) from error
        return bound.detach()


def _explained(listener: Listener, reason: object) -> ListenFailed:
    """Where nothing can be made (/proc) the kernel says ENOENT, as for a folder that is missing."""
    address = listener.address
    if (
        isinstance(address, UnixAddress)
        and isinstance(reason, OSError)
        and reason.errno == errno.ENOENT
        and os.path.isdir(os.path.dirname(address.path) or ".")
    ):
        reason = OSError(errno.ENOENT, "no socket can be made in its folder")
    return ListenFailed(listener.url, reason)


def override(own: tuple[Listener, ...], urls: tuple[str, ...]) -> tuple[Listener, ...]:
    """Return the application's listeners with these URLs in place of theirs, in order.

    Raises:
        SpecError: There are more URLs than listeners, or one is malformed.
    """
    if urls and not own:
        raise SpecError(
            "--listen",
            "the application has no listener whose address it could replace; leave it out",
        )
    if len(urls) > len(own):
        listeners = "one listener" if len(own) == 1 else f"{len(own)} listeners"
        raise SpecError(
            "--listen", f"{len(urls)} addresses for {listeners}; give at most one for each"
        )
    return tuple(
        _with_url(listener, urls[index]) if index < len(urls) else listener
        for index, listener in enumerate(own)
    )


def _with_url(listener: Listener, url: str) -> Listener:
    options = {name: getattr(listener, name) for name in OPTIONS}
    name = url if listener.name == listener.url else listener.name
    return Listener(url, listener.protocol, listener.to, name=name, **options)


def remove_stale(url: str, path: str) -> None:
    """Remove a socket file that nobody listens on any more (its owner was killed).

    Raises:
        ListenFailed: Somebody listens on it, or it is not a socket.
    """
    if path.startswith("@") or not os.path.lexists(path):
        return
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise ListenFailed(url, OSError(errno.EEXIST, f"{path} exists and is not a socket"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            os.unlink(path)
        except OSError:
            return  # somebody is there but slow, or it is not ours to see: bind will say
        else:
            raise ListenFailed(url, OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)))


def socket_file(listener: Listener) -> tuple[str, int, int] | None:
    """Return path, device and inode of the file that a listener has just bound; None = no file."""
    address = listener.address
    if not isinstance(address, UnixAddress) or address.path.startswith("@"):
        return None
    try:
        found = os.lstat(address.path)
    except OSError:
        return None
    return address.path, found.st_dev, found.st_ino


def remove_socket(bound: tuple[str, int, int]) -> None:
    """Remove the file of a Unix listener that was closed, if it is still the one it bound."""
    path, device, inode = bound
    try:
        found = os.lstat(path)
        if (found.st_dev, found.st_ino) == (device, inode):
            os.unlink(path)
    except OSError:
        return  # gone already, or the folder is: nothing is left to remove

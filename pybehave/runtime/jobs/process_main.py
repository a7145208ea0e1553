"""What a worker process runs: jobs from a socket, one after the other, until the socket ends.

It is started as a program of its own (processes.py says why) and imports the standard library
alone, so that it is there in 60 ms; what a job's function needs comes with the function.

It dies with the node: the kernel kills it when the thread that started it ends, and it ends by
itself when the socket does. SIGINT and SIGTERM, which a terminal and systemd send to every process
of the service, are for the node: it drains, and its workers finish what they are at. When memory
runs out the kernel is to take a worker, not the node.

Messages: eight bytes of length, most significant first, then so many bytes of pickle.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
OOM_SCORE: Final = b"500"
"""Half of what there is: before the node at equal size, and after what is ten times larger."""

LENGTH_BYTES: Final = 8
PIECE_BYTES: Final = 1 << 20


def main() -> None:
    """Serve until the node goes away."""
    parent, number = int(sys.argv[1]), int(sys.argv[2])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before the line above
        return
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, _ignore)  # a handler, for SIG_IGN would be inherited by what a job runs
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "wb", 0) as score:
        score.write(OOM_SCORE)
    node = socket.socket(fileno=number)
    node.set_inheritable(False)  # what a job starts must not keep it open
    sys.path[:] = pickle.loads(receive(node) or pickle.dumps(sys.path))
    send(node, b"")
    while (task := receive(node)) is not None:
        send(node, perform(task))


def perform(task: bytes) -> bytes:
    """Do a job; returns the pickle of (value, None) or (None, (error, its pickle, traceback))."""
    try:
        function, args = pickle.loads(task)
        return pickle.dumps((function(*args), None), pickle.HIGHEST_PROTOCOL)
    except BaseException as error:  # noqa: BLE001 -- whatever it is, it is the job's outcome
        text = "".join(traceback.format_exception(error)[-20:])
        try:
            exact = pickle.dumps(error, pickle.HIGHEST_PROTOCOL)
        except Exception:  # noqa: BLE001 -- then its text has to do
            exact = b""
        return pickle.dumps((None, (f"{type(error).__qualname__}: {error}", exact, text)))


def send(peer: socket.socket, data: bytes) -> None:
    """Send one message."""
    peer.sendall(len(data).to_bytes(LENGTH_BYTES, "big"))
    peer.sendall(data)


def receive(peer: socket.socket) -> bytes | None:
    """Receive one message; None when the other end is gone."""
    head = _exactly(peer.recv, LENGTH_BYTES)
    return None if head is None else _exactly(peer.recv, int.from_bytes(head, "big"))


def _exactly(recv: Callable[[int], bytes], count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        piece = recv(min(PIECE_BYTES, count - len(data)))
        if not piece:
            return None
        data += piece
    return bytes(data)


def _ignore(_number: int, _frame: Any) -> None:
    """The node decides when its workers end."""


if __name__ == "__main__":
    del sys.path[0]  # the folder of this file: its modules are named as the library's own
    with contextlib.suppress(OSError):  # the node is gone
        main()

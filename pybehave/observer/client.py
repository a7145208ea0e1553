"""The other end of the admin socket: asks a node, waits, returns what it says.

Blocking, for commands and scripts; one request at a time.

Does not know: what is asked, terminals.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self, final

from pybehave.errors import DecodeError, NotAnswered, RequestRefused
from pybehave.observer.admin import SOCKET
from pybehave.observer.wire import Message, framed, taken

ANSWER_S: Final = 10.0
"""A loop that does not answer within this is in a step that takes too long."""


@final
class AdminClient:
    """A connection to a node's admin socket.

    Args:
        path: The socket, or a journal's folder that holds it.
        timeout: Seconds to wait for an answer.

    Raises:
        NotAnswered: No node is there, or it is another user's.
    """

    def __init__(self, path: str, *, timeout: float = ANSWER_S) -> None:
        self.path = os.path.join(path, SOCKET) if os.path.isdir(path) else path
        self._timeout = timeout
        self._buffer = bytearray()
        self._count = 0
        if os.path.exists(self.path) and not stat.S_ISSOCK(os.stat(self.path).st_mode):
            raise NotAnswered(self.path, OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK)))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            self._socket.connect(self.path)
        except OSError as error:
            self._socket.close()
            raise NotAnswered(self.path, error) from error

    def ask(self, verb: str, *, wait: float = 0.0, **words: Any) -> Any:
        """Send a request and return what it brings.

        Args:
            wait: Seconds to wait beyond the usual, for a request that takes time itself.

        Raises:
            RequestRefused: The node says why.
            NotAnswered: It does not answer in time, or has ended.
        """
        self._count += 1
        request = {"id": self._count, "do": verb, **words}
        self._socket.settimeout(self._timeout + wait)
        try:
            self._socket.sendall(framed(request))
        except OSError as error:
            raise NotAnswered(self.path, error) from error
        while True:
            answer = self._next()
            if "events" in answer and "ok" not in answer:
                continue  # of a trace that was ended
            if "error" in answer:
                raise RequestRefused(answer["error"], answer.get("kind", ""))
            if answer.get("id") == self._count:
                return answer["ok"]

    def events(self) -> Iterator[str]:
        """Yield what a trace brings, until the server's incarnation ends.

        Raises:
            NotAnswered: The node has ended.
        """
        self._socket.settimeout(None)
        while True:
            message = self._next()
            yield from message.get("events", ())
            if message.get("missed"):
                yield f"... {message['missed']} events were missed here"
            if message.get("is_ended"):
                return

    def close(self) -> None:
        """Hang up; the node ends this connection's traces."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _next(self) -> Message:
        while True:
            try:
                message = taken(self._buffer)
                if message is not None:
                    return message
                piece = self._socket.recv(1 << 16)
            except (OSError, DecodeError) as error:
                raise NotAnswered(self.path, error) from error
            if not piece:
                raise NotAnswered(self.path)
            self._buffer += piece

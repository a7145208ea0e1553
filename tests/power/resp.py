"""The client's side of RESP2, as plain as can be: nothing here is shared with what is tested."""

from __future__ import annotations

import socket
from typing import Any

TIMEOUT_S = 30.0


class Refused(Exception):
    """The server answered with an error."""


def command(*words: bytes) -> bytes:
    """One command as an array of bulk strings."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


class Connection:
    """One connection; an error reply is returned as Refused, an end raises ConnectionError."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self.socket.makefile("rb", 1 << 16)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Hand bytes to the kernel, all of them."""
        self.socket.sendall(data)

    def reply(self) -> Any:
        """The next reply: bytes, int, None, list, or Refused."""
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed")
        kind, rest = line[:1], line[1:-2]
        match kind:
            case b"+":
                return rest
            case b"-":
                return Refused(rest.decode())
            case b":":
                return int(rest)
            case b"$":
                return None if rest == b"-1" else self._exactly(int(rest))
            case b"*":
                return [self.reply() for _ in range(int(rest))]
        raise AssertionError(f"not RESP: {line!r}")

    def _exactly(self, count: int) -> bytes:
        data = self._file.read(count + 2)
        if len(data) != count + 2:
            raise ConnectionError("the server closed")
        return data[:-2]

    def ask(self, *words: bytes) -> Any:
        """One command, one reply."""
        self.send(command(*words))
        return self.reply()

    def ask_all(self, commands: list[bytes], depth: int = 256) -> list[Any]:
        """Many commands, `depth` in flight; their replies."""
        found = []
        for at in range(0, len(commands), depth):
            self.send(b"".join(commands[at : at + depth]))
            found += [self.reply() for _ in commands[at : at + depth]]
        return found

"""The same clients against a node on sockets, a node in a process and a simulated one.

A `Talker` is one client's conversation, without any I/O: numbered lines, many in flight, and a
check of every line that comes back. A world carries it: `SocketWorld` with real sockets,
`SimulatedWorld` on virtual time. Both wait for conditions and never for time.
"""

from __future__ import annotations

import selectors
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from pybehave.testing.simulate import Client, Simulator

BATCH = 40
"""Lines in flight: small enough that a client's write never has to wait for the server."""

SELECT_S = 0.02


class Talker:
    """One client: what it asked, what it was answered.

    Args:
        name: Begins each of its lines.
        lines: How many it will ask in all; None goes on until `finish`.
        may_fail: An answer may be an error.
        text: What it says instead of numbered lines.
    """

    def __init__(
        self,
        name: str,
        *,
        lines: int | None = None,
        may_fail: bool = False,
        text: bytes | None = None,
    ) -> None:
        self.name = name
        self.text = text
        self.left = lines
        self.may_fail = may_fail
        self.asked: deque[bytes] = deque()
        self.count = self.answered = self.errors = 0
        self.rest = b""
        self.is_ended = False

    def more(self) -> bytes:
        """Lines to send now."""
        room = BATCH - len(self.asked) if len(self.asked) <= BATCH // 2 else 0
        lines = [b"%s %d" % (self.name.encode(), self.count + index) for index in range(room)]
        if self.text is not None:
            lines = [self.text] * room
        if self.left is not None:
            lines = lines[: self.left]
            self.left -= len(lines)
        self.count += len(lines)
        self.asked += lines
        return b"".join(line + b"\n" for line in lines)

    def take(self, data: bytes) -> bytes:
        """Check what came back; returns what to send next."""
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            assert self.asked, f"{self.name} never asked for {line!r}"
            asked = self.asked.popleft()
            if line != asked:
                assert self.may_fail, f"{self.name} asked {asked!r} and got {line!r}"
                assert line.startswith(b"error: "), f"{self.name} asked {asked!r}, got {line!r}"
                self.errors += 1
            self.answered += 1
        return self.more()

    def finish(self) -> None:
        """Ask nothing more."""
        self.left = 0


class World(Protocol):
    """Clients, and the node they talk to."""

    node: Any
    talkers: list[Talker]

    def connect(self, listener: int, talker: Talker) -> None:
        """Let a client begin its conversation with a listener, named by its index."""

    def until(self, condition: Callable[[], Any]) -> None:
        """Carry what the clients say until a condition holds."""

    def terminate(self) -> int:
        """SIGTERM, or what it does; clients go on until they see the end. The exit status."""

    def close(self) -> None:
        """Stop everything that is left."""


class SocketWorld:
    """Real sockets.

    Args:
        ports: Of the listeners.
        node: When it runs in this process.
        process: When it runs in another.
    """

    def __init__(
        self, ports: list[int], node: Any = None, process: subprocess.Popen[str] | None = None
    ) -> None:
        self.ports = ports
        self.node = node
        self.process = process
        self.talkers: list[Talker] = []
        self.selector = selectors.DefaultSelector()

    def connect(self, listener: int, talker: Talker) -> None:
        client = socket.create_connection(("127.0.0.1", self.ports[listener]), 20)
        self.talkers.append(talker)
        self.selector.register(client, selectors.EVENT_READ, talker)
        client.sendall(talker.more())

    def until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            for key, _ in self.selector.select(SELECT_S):
                self._read(key.fileobj, key.data)

    def _read(self, client: Any, talker: Talker) -> None:
        data = client.recv(1 << 16)
        if data:
            client.sendall(talker.take(data))
        else:
            talker.is_ended = True
            self.selector.unregister(client)
            client.close()

    def terminate(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.until(lambda: all(talker.is_ended for talker in self.talkers))
        return self.process.wait(20)

    def close(self) -> None:
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self.selector.close()
        if self.node is not None:
            self.node.stop(drain=False)


class SimulatedWorld:
    """The simulator in calm weather: the clients' turn comes after every tick."""

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        self.node = simulator.node
        self.talkers: list[Talker] = []
        self.clients: list[tuple[Client, Talker]] = []

    def connect(self, listener: int, talker: Talker) -> None:
        client = self.simulator.connect(self.node.app.listeners[listener].url)
        client.on_data = lambda client: client.send(talker.take(client.take()))
        self.talkers.append(talker)
        self.clients.append((client, talker))
        client.send(talker.more())

    def until(self, condition: Callable[[], Any]) -> None:
        def is_so() -> Any:
            for client, talker in self.clients:
                if not talker.is_ended and not client.is_open:
                    talker.is_ended = True
                    client.close()
            return condition()

        self.simulator.run_until(is_so)

    def terminate(self) -> int:
        self.node.loop.close_listeners()  # as Node does when it drains, but tick by tick
        self.node.loop.finish_connections()
        self.until(lambda: all(talker.is_ended for talker in self.talkers))
        return self.simulator.stop()

    def close(self) -> None:
        self.simulator.stop()

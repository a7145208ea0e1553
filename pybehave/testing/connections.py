"""Connections of a trial's clients: one for each client and server, as long as it stands.

A client that has none, or whose connection has ended, makes a new one when it asks next. What was
asked on a connection that ended is never answered; whether it was carried out, nobody knows.

Does not know: which acts there are, what is noted of replies (playing.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, final

from pybehave.errors import SpecError
from pybehave.testing.simulate import Client, Simulator
from pybehave.testing.wires import MORE, Wire

T = TypeVar("T")

BROKEN: Final = ("refused", "reset", "ended")


@final
class Connection(Generic[T]):
    """A client's connection to a server.

    Attributes:
        waiting: What was asked on it and not answered, oldest first.
    """

    def __init__(self, client: Client, wire: Wire, heard: Callable[[T, Any], None]) -> None:
        self.waiting: deque[T] = deque()
        self._client = client
        self._wire = wire
        self._heard = heard
        client.on_data = self._arrived

    @property
    def is_open(self) -> bool:
        """Whether it stands, as far as its client knows."""
        return self._client.is_open and self._client.state not in BROKEN

    def ask(self, what: T, request: Any) -> None:
        """Send a request; `heard` is told of its reply."""
        self.waiting.append(what)
        self._client.send(self._wire.pack(request))

    def reset(self) -> None:
        """Break it: what has not been answered never will be."""
        self._client.reset()
        self.waiting.clear()

    def _arrived(self, client: Client) -> None:
        while self.waiting:
            reply = self._wire.take(client.received)
            if reply is MORE:
                return
            self._heard(self.waiting.popleft(), reply)


@final
class Connections(Generic[T]):
    """All connections of one life of the node.

    Args:
        world: Where they are.
        wire: How its clients speak.
        heard: Called with what was asked, and the reply.
    """

    def __init__(self, world: Simulator, wire: Wire, heard: Callable[[T, Any], None]) -> None:
        self._world = world
        self._wire = wire
        self._heard = heard
        self._open: dict[tuple[str, str], Connection[T]] = {}

    def to(self, client: str, server: str) -> Connection[T]:
        """Return a client's connection to a server; made anew when there is none that stands.

        Raises:
            SpecError: No listener leads to that server.
        """
        found = self._open.get((client, server))
        if found is None or not found.is_open:
            found = Connection(self._connect(server), self._wire, self._heard)
            self._open[client, server] = found
        return found

    def reset(self, client: str) -> None:
        """Break all connections of a client."""
        for (name, _), connection in self._open.items():
            if name == client:
                connection.reset()

    def unanswered(self) -> list[T]:
        """What was asked on connections that stand, and is not answered."""
        return [each for one in self._open.values() if one.is_open for each in one.waiting]

    def _connect(self, server: str) -> Client:
        for listener in self._world.node.app.listeners:
            if listener.to == server:
                return self._world.connect(listener.url)
        raise SpecError("Trial", f"wire is given, but no listener leads to server {server!r}")

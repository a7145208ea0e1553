"""Requests that take effect once, however often they are sent.

A client that hears nothing (the connection broke, the node was killed, the call timed out) cannot
know whether its request was carried out. It may send the same request again if it named it: who it
is, and which of its requests this is. The server's runtime remembers, durably for a journaled
server, what came of the latest requests of each client, and answers a repetition with the outcome
of the first time, without a step.

Source: B. Liskov, J. Cowling, "Viewstamped Replication Revisited" (2012), the client table;
D. Ongaro, "Consensus: Bridging Theory and Practice" (2014), section 6.3, sessions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

from pybehave.errors import show

CLIENT_BYTES_MAX: Final = 256
"""Longer names of clients are refused: a name is an identity, not a document."""

NUMBER_MAX: Final = 2**63 - 1


@final
@dataclass(frozen=True, slots=True)
class Once:
    """A request with a name: `node.call("kv", Once("client-7", 12, ["SET", key, value]))`.

    The step gets `request` alone. A client numbers its requests 1, 2, 3, ...; up to 64 of them may
    be under way, in any order. What is remembered of a client is forgotten an hour after its latest
    request at the earliest; a client that waits longer takes a new name.

    Attributes:
        client: Who sends it: the same name again after a reconnect, and nobody else's; such as a
            UUID. str or bytes, 1 to 256 bytes.
        number: Which of the client's requests it is; 1 is the first.
        request: What the server is asked.

    Raises:
        TypeError: A field has another type, or the request is itself a Once.
        ValueError: The name is empty or too long, or the number is not in 1 to 2**63 - 1.
    """

    client: str | bytes
    number: int
    request: Any

    def __post_init__(self) -> None:
        if not isinstance(self.client, str | bytes):
            raise TypeError(f"Once: client is a str or bytes, not {show(self.client)}")
        if not isinstance(self.number, int) or isinstance(self.number, bool):
            raise TypeError(f"Once: number is an int, not {show(self.number)}")
        if isinstance(self.request, Once):
            raise TypeError("Once: the request is itself a Once; it has one name only")
        if not 1 <= len(self.key) <= CLIENT_BYTES_MAX:
            raise ValueError(f"Once: client has 1 to {CLIENT_BYTES_MAX} bytes, not {len(self.key)}")
        if not 1 <= self.number <= NUMBER_MAX:
            raise ValueError(f"Once: number is 1 to {NUMBER_MAX}, not {self.number}")

    @property
    def key(self) -> bytes:
        """The client's name as bytes."""
        if isinstance(self.client, bytes):
            return self.client
        return self.client.encode("utf-8", "surrogatepass")

"""A server by a key of its own, in a registry that is not ours.

    class Order(GenServer):
        def via(self, args):
            return Via(ORDERS, ("order", args))

    node.call(Via(ORDERS, ("order", 7)), "ship")

Theory. A server's name is a str, unique in its node. What it is called outside may be anything: an
order's number, a pair, a line in somebody's table. A registry leads from such a key to the name. It
is asked where the name is needed, so a restart, or another server under the key, is no matter.

Does not know: who asks the registry, and when (runtime/registries.py).
Source: OTP stdlib, gen_server, `{via, Module, ViaName}`: register_name/2, unregister_name/1,
whereis_name/1. `send/2` of such a module has no counterpart: a node sends to the name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol, final

from pybehave.errors import show

FUNCTIONS: Final = ("register_name", "unregister_name", "whereis_name")


class Registry(Protocol):
    """What leads from keys to servers' names.

    A node registers and unregisters on its loop's thread, so these must be quick; `whereis_name` is
    called by whoever calls a server, from any thread.
    """

    def register_name(self, key: Any, name: str) -> bool:
        """Let a key lead to a server; False if it leads to another one."""

    def unregister_name(self, key: Any) -> None:
        """Let a key lead nowhere."""

    def whereis_name(self, key: Any) -> str | None:
        """Return the name of the server that a key leads to, or None."""


@final
@dataclass(frozen=True, slots=True)
class Via:
    """A server by a key in a registry; wherever a node takes a server's name.

    Attributes:
        registry: Which.
        key: Whatever the registry takes.

    Raises:
        TypeError: The registry lacks one of its functions.
    """

    registry: Registry
    key: Any

    def __post_init__(self) -> None:
        for function in FUNCTIONS:
            if not callable(getattr(self.registry, function, None)):
                raise TypeError(f"Via: the registry {show(self.registry)} has no {function}")

    @property
    def name(self) -> str:
        """The name that the key leads to now; of none, one that no worker of a tree should have."""
        return self.registry.whereis_name(self.key) or f"via {show(self.key)}"

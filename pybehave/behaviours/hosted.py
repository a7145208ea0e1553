"""Servers whose work is done beside the loop: worker pools, asyncio code.

Such a server is a child like any other: it has a name, a place in the tree, a restart type and a
shutdown limit. What it holds beside the loop is made when it has started and ends with it.

Does not know: what that is; the runtime opens it and hands it over (runtime/host.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol, final

from msgspec import Struct

from pybehave.actions import Stop
from pybehave.behaviours.gen_server import Cleanup, GenServer
from pybehave.types import is_clean

PAUSE_S_MIN: Final = 0.001
PAUSE_S_MAX: Final = 0.02
"""How often the end of what runs beside the loop is looked for: quickly at first, 50 times a second
later. Only while the node or this child stops."""


class Beside(Protocol):
    """What runs beside the loop for one server."""

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left that anybody waits for."""

    def drain(self, reason: object) -> None:
        """Take no more, finish what is under way."""

    def kill(self, reason: object) -> None:
        """End at once; idempotent."""

    def stats(self) -> dict[str, Any]:
        """Return counters."""


@final
class Failed(Struct, frozen=True):
    """Info to the server itself: what ran beside the loop cannot go on."""

    error: BaseException


@final
class Finished(Struct, frozen=True):
    """Info to the server itself: what ran beside the loop is done, as it should be."""


class HostedServer(GenServer[Any, Any, Any]):
    """A server that stands for something beside the loop.

    Attributes:
        beside: That thing, from its start to its end.
    """

    beside: Beside | None = None
    _handle_together = None  # type: ignore[assignment]  # it takes no commands

    def init(self, args: Any) -> Any:
        """Its state are the args themselves: they are for what runs beside the loop."""
        return args

    def open(self, host: Any, server: Any) -> Beside:
        """Make what runs beside the loop; called when the server's name answers.

        Args:
            host: The runtime's LoopHost.
            server: This incarnation.
        """
        raise NotImplementedError

    def step(self, command: Any, state: Any) -> Any:
        """Answer "stats"; nothing else is for a server like this."""
        if command == "stats" and self.beside is not None:
            return state, self.beside.stats()
        raise ValueError(f"{type(self).__name__} answers 'stats' alone, and got {command!r}")

    def handle_info(self, message: Any, state: Any) -> Any:
        """End with what runs beside the loop."""
        if isinstance(message, Failed):
            raise message.error
        if isinstance(message, Finished):
            return state, None, Stop("normal")
        return state, None

    def terminate(self, reason: Any, state: Any) -> Cleanup:
        """Drain, within the child's shutdown limit; then kill."""
        beside = self.beside
        if beside is None:
            return
        try:
            if is_clean(reason):
                beside.drain(reason)
                for seconds in _pauses():
                    if beside.is_over:
                        break
                    yield seconds
        finally:
            beside.kill(reason)


def _pauses() -> Iterator[float]:
    seconds = PAUSE_S_MIN
    while True:
        yield seconds
        seconds = min(2 * seconds, PAUSE_S_MAX)

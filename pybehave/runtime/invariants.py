"""Invariants: whether a state may be is asked before it stands, and so before anybody sees it.

A class that defines `invariant(state)` is followed: what a callback returns is looked at while the
guard of the step is still open, so that a state that may not be is a crash like any other. No
reply, action or record of success comes of it; the input is a dead letter with its evidence.

Whoever tests may ask about all servers at once (`overall`): such a function gets the states by
name, with the new one in its place. As long as a server that it looks at does not run, it holds.

Theory. A followed server has another class, derived from its own, whose callbacks look at what the
real ones return. Servers that nobody asks about keep their class, and pay nothing. A followed
server's `step` is called by way of `handle_call` and `handle_cast`, so that each input is looked at
once, also if callbacks call each other.

Does not know: what becomes of a crash (host.py, journaling.py); replays, which do not ask: what
was recorded as done had been asked about.
Source: design.md 4, "`invariant(state)` checked before commit" (A1-c13).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, final

from pybehave.behaviours.gen_server import GenServer, shown_state
from pybehave.behaviours.hosted import HostedServer
from pybehave.behaviours.together import step_together
from pybehave.errors import InvariantViolated

CALLBACKS: Final = ("handle_call", "handle_cast", "handle_info", "handle_continue")

OWN: Final = "invariant"
"""The name of the invariant that a class defines."""

_DEFAULT: Final = GenServer.invariant
"""Compared here and not by `overrides`: each start asks twice."""

LENGTHS: Final = (2, 3)
"""Of what a callback may return; anything else is another crash (BadReturn)."""


class _NotThere(KeyError):  # noqa: N818 -- a fact
    """A server that an overall invariant looks at does not run."""


def _nobody(name: str) -> Any:
    raise KeyError(name)


@final
class States(Mapping[str, Any]):
    """The states of all servers that run, by name.

    Args:
        look: Gives a server's state by its name, or raises LookupError.
        names: Gives the names of those that run.
        changed: States that are to stand next.
    """

    def __init__(
        self,
        look: Callable[[str], Any],
        names: Callable[[], list[str]],
        changed: Mapping[str, Any],
    ) -> None:
        self._look = look
        self._names = names
        self._changed = changed

    def __getitem__(self, name: str) -> Any:
        if name in self._changed:
            return self._changed[name]
        try:
            return self._look(name)
        except LookupError:
            raise _NotThere(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter({*self._names(), *self._changed})

    def __len__(self) -> int:
        return len({*self._names(), *self._changed})


@final
class Invariants:
    """What is asked about the servers of one node.

    Attributes:
        overall: Functions of the states of all servers, by name; set before the tree starts.
        look: Gives a server's state by its name, for those.
        names: Gives the names of all servers, for those.
        on_violated: Hears of each violation.
        interfere: Called with a server's name when a callback has returned, before anybody asks
            about its state; what it raises, the callback has raised. For simulated crashes.
    """

    def __init__(self) -> None:
        self.overall: dict[str, Callable[[Mapping[str, Any]], object]] = {}
        self.look: Callable[[str], Any] = _nobody
        self.names: Callable[[], list[str]] = list
        self.on_violated: Callable[[InvariantViolated], None] | None = None
        self.interfere: Callable[[str], None] | None = None
        self._followed: dict[type, type] = {}

    def watch(self, instance: Any) -> None:
        """Follow a server, if anybody asks about it."""
        kind = type(instance)
        own = getattr(kind, OWN, None)
        is_asked = own is not None and own is not _DEFAULT
        if not is_asked and not self.overall and self.interfere is None:
            return
        if not isinstance(instance, GenServer) or isinstance(instance, HostedServer):
            return
        if kind not in self._followed:
            self._followed[kind] = self._derived(kind)
        instance.__class__ = self._followed[kind]

    def check(self, server: str, instance: Any, message: Any, state: Any) -> None:
        """Ask about a state that is to stand next.

        Args:
            server: Its name.
            instance: The server.
            message: The input that has led there.
            state: What the runtime would keep.

        Raises:
            InvariantViolated: It may not be.
        """
        own = getattr(type(instance), OWN, None)
        is_asked = own is not None and own is not _DEFAULT
        if not is_asked and not self.overall:
            return
        shown = shown_state(instance, state)
        if is_asked:
            self._ask(OWN, instance.invariant, shown, server, message, shown)
        states = States(self.look, self.names, {server: shown})
        for name, function in self.overall.items():
            self._ask(name, function, states, server, message, shown)

    def _ask(
        self,
        name: str,
        function: Callable[[Any], object],
        about: Any,
        server: str,
        message: Any,
        shown: Any,
    ) -> None:
        try:
            answer = function(about)
        except _NotThere:
            return
        except Exception as error:
            why = str(error) if isinstance(error, AssertionError) else f"{error!r}"
            raise self._violated(server, name, message, shown, why) from error
        if answer is not None and not answer:
            raise self._violated(server, name, message, shown, "")

    def _violated(
        self, server: str, name: str, message: Any, shown: Any, why: str
    ) -> InvariantViolated:
        lines = why.strip().splitlines()  # pytest explains asserts at length
        violated = InvariantViolated(server, name, message, shown, lines[0] if lines else "")
        if self.on_violated is not None:
            self.on_violated(violated)
        return violated

    def _derived(self, kind: Any) -> type:
        """A subclass whose callbacks are looked at; it goes by the same name."""
        body: dict[str, Any] = {
            "__module__": kind.__module__,
            "__qualname__": kind.__qualname__,
            "__slots__": (),
        }
        for callback in CALLBACKS:
            body[callback] = self._looked_at(getattr(kind, callback))
        if kind._handle_together is not None:
            body["_handle_together"] = self._looked_at(_together(kind))
        return type(kind.__name__, (kind,), body)

    def _looked_at(self, own: Callable[..., Any]) -> Callable[..., Any]:
        def followed(server: Any, message: Any, *rest: Any) -> Any:
            returned = own(server, message, *rest)
            if self.interfere is not None:
                self.interfere(server.context.name)
            if type(returned) is tuple and len(returned) in LENGTHS:
                self.check(server.context.name, server, message, returned[0])
            return returned

        return followed


def _together(kind: type[GenServer[Any, Any, Any]]) -> Callable[..., Any]:
    """Steps several commands by the callbacks that are not looked at: the last state counts."""

    def step(server: Any, commands: tuple[Any, ...], *rest: Any) -> Any:
        return step_together(server, kind, commands, *rest)

    return step

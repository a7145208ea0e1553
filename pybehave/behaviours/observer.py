"""Observers: who is shown the states of one server, and can do it no harm.

An observer is for mirrors, caches, audits and displays: what wants to know of each state, and is
not part of the server. It is shown a state when that stands; of a journaled server when it is
durable, so that what an observer has shown to others is never taken back.

Does not know: when a state stands (runtime/observed.py).
Source: Peeper.Listener (Elixir): on_state_changed/2, on_terminate/2.
"""

from __future__ import annotations

from typing import Any


class Observer:
    """Base class of observers: override what is of interest.

    All three are called on the loop's thread, between two inputs, and should be quick. They cannot
    call servers; they may `cast`. One that raises is logged, and is not called again for this
    incarnation of the server; nothing else comes of it.
    """

    def on_start(self, server: str, state: Any) -> None:
        """An incarnation has started.

        Args:
            server: Its name.
            state: What it begins with: of init, or recovered.
        """

    def on_state_changed(self, server: str, old: Any, new: Any) -> None:
        """An input has been stepped, or an operator has replaced the state.

        A server that is `pure` is asked about only if the state is another object. One that is not
        may have changed its state in place: then `old` and `new` are the same object, and this is
        called for each input.

        Args:
            server: Its name.
            old: The state before.
            new: The state that stands.
        """

    def on_terminate(self, server: str, reason: object, state: Any) -> None:
        """The incarnation has ended, its `terminate` included; nothing follows.

        Args:
            server: Its name.
            reason: "normal", "shutdown", an exception, "killed" ...
            state: The last good one.
        """

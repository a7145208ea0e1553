# ruff: noqa: N818 -- facts, not "...Error"
"""What the sender of an input hears that its server does not take.

Nothing has happened then: the input was neither stepped nor journaled, and the server goes on as it
was. Their name for the world is `pybehave.errors`, as that of all the others.

Does not know: who asks, and when.
"""

from __future__ import annotations

from pybehave.error_base import PybehaveError, show, show_reason


class InputTypeMismatch(PybehaveError):
    """An input is of no type that its server accepts.

    Attributes:
        server: Who was asked.
        got: Of which type the input is.
        accepts: The types that it may be of.
    """

    def __init__(self, server: str, value: object, accepts: tuple[type, ...]) -> None:
        names = tuple(getattr(kind, "__qualname__", str(kind)) for kind in accepts)
        super().__init__(
            f"Server {server!r} takes {' or '.join(names) or 'nothing'}, and not {show(value)} of "
            f"type {type(value).__qualname__}; nothing was changed, send it what it takes"
        )
        self.server = server
        self.got = type(value).__qualname__
        self.accepts = names


class EphemeralTrace(PybehaveError):
    """A step has left a trace of an input that its server names as ephemeral: a crash.

    Attributes:
        server: Whose step.
        got: Of which type the input was.
        detail: What it must not do.
    """

    def __init__(self, server: str, value: object, detail: str) -> None:
        what = type(value).__qualname__
        if isinstance(value, (list, tuple)) and value:  # Tagged, mostly
            what = f"{what} beginning with {show(value[0])}"
        super().__init__(
            f"Server {server!r} has {what} among its ephemeral inputs, which no journal has, so "
            f"its step may not {detail}; take that out of `ephemeral`, or leave all as it is"
        )
        self.server = server
        self.got = type(value).__qualname__
        self.detail = detail


class Rejected(PybehaveError):
    """A server has looked at an input and refused it.

    Attributes:
        server: Who was asked.
        reason: Why: what its `validate` returned.
    """

    def __init__(self, server: str, reason: object) -> None:
        super().__init__(
            f"Server {server!r} has rejected the input: {show_reason(reason)}; nothing was changed"
        )
        self.server = server
        self.reason = reason
        if isinstance(reason, BaseException):
            self.__cause__ = reason

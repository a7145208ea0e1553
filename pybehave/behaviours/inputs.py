"""Which inputs a server takes: the types that its class accepts, and what its `validate` says.

Theory. If it is known that a message is wrong, it should be refused before it counts: before it is
in the journal, where it would have to be stepped and fail at each start. Two questions can be asked
then. Of which type it is: one `isinstance`, for servers whose class declares `accepts`. Whether it
may come in this state: `validate(input, state)`, for classes that define it.

Both are asked of calls and casts alone. What else a server gets, it or the runtime has caused. Of
commands that come `Together` each is asked about, with the state before the first.

A class may also name types that are `ephemeral`: questions, say. Such an input is stepped, and
nothing of it is kept (src/_uring/ephemeral.pyx), so it may change nothing that is.

Does not know: when that is asked (src/_uring/gate.pyx), what a refusal becomes.
Source: A1-c4 and A1-c23 of the discussion of durable servers ("reject what is known to be wrong").
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from pybehave.actions import Active, Cast, CastGroup, Close, Hibernate, Info, Reply, Send
from pybehave.errors import (
    BadReturn,
    EphemeralTrace,
    InputTypeMismatch,
    Rejected,
    SpecError,
    show,
)
from pybehave.together import Together

InputTypes: TypeAlias = Any
"""What `isinstance` takes: a class, a union of classes, a tuple of them. (No type says that.)"""

ALLOWED: Final = "return None for an input that may come, else why it may not"

TRACELESS: Final = (Send, Close, Active, Cast, CastGroup, Info, Hibernate, Reply)
"""What an ephemeral input may ask for. (Replies to its own caller; nobody knows that here.)"""

Validate: TypeAlias = Callable[[Any, Any, Any], object]
"""(server, input, state as the runtime keeps it) -> None, or the reason."""


def classes_of(declared: InputTypes) -> tuple[type, ...]:
    """Return the classes of a declaration, unions and aliases taken apart.

    Args:
        declared: What a class has as its `accepts`.

    Raises:
        TypeError: It is nothing that `isinstance` could be asked with.
    """
    origin: Any = typing.get_origin(declared)
    if isinstance(declared, tuple) or origin in (typing.Union, types.UnionType):
        parts = declared if isinstance(declared, tuple) else typing.get_args(declared)
        return tuple(dict.fromkeys(kind for part in parts for kind in classes_of(part)))
    if declared is None:
        return (types.NoneType,)
    if type(declared).__name__ == "TypeAliasType":  # `type Command = Set | Get`, Python 3.12
        return classes_of(declared.__value__)
    isinstance(None, declared)
    return (declared,)


def gate_of(kind: Any, base: Any) -> tuple[tuple[type, ...] | None, Validate | None]:
    """Return what is to be asked about the inputs of a class.

    Args:
        kind: The server's class.
        base: The behaviour that it is derived from, whose `validate` refuses nothing.

    Returns:
        (the classes that it accepts, None = any; what asks its `validate`, None = nobody).
    """
    accepts = (*classes_of(kind.accepts), *classes_of(kind.ephemeral))
    own = kind.validate is not base.validate
    return None if object in accepts else accepts, kind._validate if own else None


def check_accepts(kind: Any) -> None:
    """Refuse a class whose declaration cannot be asked with.

    Raises:
        SpecError: Names the class and what it has.
    """
    for field in ("accepts", "ephemeral"):
        declared = getattr(kind, field)
        try:
            classes_of(declared)
        except TypeError:
            raise SpecError(
                kind.__name__,
                f"{field}={show(declared)} is not allowed; use classes, as in `Deposit | Withdraw` "
                f"or `list`, for what is in a list is not looked at",
            ) from None
    if classes_of(kind.ephemeral) and not kind._passing():
        raise SpecError(
            kind.__name__,
            f"ephemeral={show(kind.ephemeral)} is not allowed; leave it away, for each event of a "
            f"state machine counts: it ends an event time-out",
        )


def check_trace(server: str, instance: Any, message: Any, before: Any, turn: Any) -> None:
    """Refuse what an ephemeral input has left; nothing is asked of any other input.

    Args:
        server: Its name, for the error.
        instance: The server.
        message: The input.
        before: The state as it was: a copy, or the state itself if it is not changed in place.
        turn: What the callback has asked for (a `Turn`).

    Raises:
        EphemeralTrace: Another state, or an action that would have to be kept.
    """
    if not isinstance(message, instance._passing()):
        return
    if turn.state is not before and not turn.state == before:
        raise EphemeralTrace(server, message, "change the state")
    for action in turn.actions:
        if not isinstance(action, TRACELESS):
            raise EphemeralTrace(server, message, f"ask for {type(action).__name__}")


def refusal(server: str, instance: Any, message: Any, state: Any) -> Exception | None:
    """Return why a server does not take an input; None = it does.

    Args:
        server: Its name, for the error.
        instance: The server.
        message: The input.
        state: As the runtime keeps it.

    Raises:
        BadReturn: `validate` returned True or False.
        BaseException: Whatever `validate` raised; it is a crash.
    """
    if isinstance(message, Together) and instance._handle_together is not None:
        found = (refusal(server, instance, each, state) for each in message.commands)
        return next((error for error in found if error is not None), None)
    accepts, validate = instance._gate()
    if accepts is not None and not isinstance(message, accepts):
        return InputTypeMismatch(server, message, accepts)
    reason = None if validate is None else validate(instance, message, state)
    if reason is None:
        return None
    if isinstance(reason, bool):
        raise BadReturn(server, "validate", reason, ALLOWED)
    return Rejected(server, reason)

"""What is said to an event manager (GenEvent), and what handlers return.

    node.cast("bus", events.notify(("order", 7)))
    node.call("bus", events.add_handler(Audit, "audit.log", after=[Prices]))

Each function makes a message: plain data, to be sent by `call` and `cast` of a node or by the
actions `Call` and `Cast` of a server, and journaled as any input. Handlers are named by their
class, or by (class, id) when a class is there more than once.

Does not know: who handles what, in which order (behaviours/gen_event.py).
Source: OTP stdlib, gen_event, exported functions.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any, Final, TypeAlias, final

from msgspec import Struct

from pybehave.errors import show

MARK: Final = "$event"
"""Begins every message to a manager."""

Key: TypeAlias = Any
"""A handler's name as messages hold it: "module:Class", or that and an id."""


def key_of(handler: Any) -> Key:
    """Return the name of a handler: of a class, of (class, id), or of a name itself.

    Raises:
        TypeError: It is none of these, or a class that no module has at its top level.
    """
    if isinstance(handler, tuple) and len(handler) == 2:
        if not isinstance(handler[1], Hashable):  # an array's == gives no truth value
            raise TypeError(f"the id {show(handler[1])} of a handler cannot be hashed; use another")
        return (key_of(handler[0]), handler[1])
    if isinstance(handler, type):
        if "<locals>" in handler.__qualname__:
            raise TypeError(
                f"the handler {handler.__qualname__} is defined in a function, where no manager "
                f"finds it by its name; define it at the top level of a module"
            )
        return f"{handler.__module__}:{handler.__qualname__}"
    if isinstance(handler, str):
        return handler
    raise TypeError(f"a handler is named by its class or by (class, id), not by {show(handler)}")


def notify(event: Any) -> tuple[Any, ...]:
    """For `cast`: every handler gets the event, soon."""
    return (MARK, "notify", event)


def notify_many(events: Iterable[Any]) -> tuple[Any, ...]:
    """For `cast`: one message for many events, in their order; for `call`: as `sync_notify`."""
    return (MARK, "notify_many", list(events))


def sync_notify(event: Any) -> tuple[Any, ...]:
    """For `call`: the reply `"ok"` comes when every handler has handled the event."""
    return (MARK, "sync_notify", event)


def add_handler(
    handler: Any,
    args: Any = None,
    *,
    after: Iterable[Any] = (),
    shard: tuple[int, int] | None = None,
) -> tuple[Any, ...]:
    """For `call`: add a handler; the reply is `"ok"`, or what its init made of it.

    Args:
        handler: Its class, or (class, id).
        args: What its init gets.
        after: A list of handlers that are there and come before it for every event.
        shard: (index, count): of each `count` events it gets one; see EventHandler.shard_of.

    Raises:
        TypeError: A handler has no such name, `after` is no list, or `shard` no pair of integers.
        ValueError: The shard's index is not in 0 to count - 1.
    """
    if isinstance(after, str) or not isinstance(after, Iterable):
        raise TypeError(f"after={show(after)} is not allowed; use a list of handlers")
    names = [key_of(each) for each in after]
    return (MARK, "add", key_of(handler), args, names, _checked(shard), None)


def _checked(shard: tuple[int, int] | None) -> tuple[int, int] | None:
    match shard:
        case None:
            return None
        case (int(index), int(count)):
            if 0 <= index < count:
                return shard
            raise ValueError(f"shard={show(shard)}: the index is 0 to {show(count - 1)}")
    raise TypeError(f"shard={show(shard)} is not allowed; use (index, count)")


def add_sup_handler(handler: Any, args: Any = None, *, owner: str, **more: Any) -> tuple[Any, ...]:
    """For `call`: `add_handler`, and the server `owner` is told once when the handler goes.

    It gets the info `("event_handler_exit", manager, handler, reason)`: `"normal"` when the handler
    was deleted or removed itself, `"shutdown"` when the manager ends, `("swapped", new)`, or
    `("error", text)`. The reply is a `NoProc`, and nothing has changed, when no such server runs.

    Args:
        handler: Its class, or (class, id).
        args: What its init gets.
        owner: The name of a server that runs.
        more: `after` and `shard`, as for `add_handler`.

    Raises:
        TypeError, ValueError: As for `add_handler`; `owner` is no name.
    """
    return (*add_handler(handler, args, **more)[:-1], _named(owner))


def _named(owner: str) -> str:
    if isinstance(owner, str):
        return owner
    raise TypeError(f"owner={show(owner)} is not allowed; use the name of a server that runs")


def delete_handler(handler: Any, args: Any = None) -> tuple[Any, ...]:
    """For `call`: remove a handler; the reply is what its terminate returned for `args`.

    Args:
        handler: Its class, or (class, id).
        args: What its terminate gets as the reason.

    Raises:
        TypeError: That is no name of a handler.
    """
    return (MARK, "delete", key_of(handler), args)


def swap_handler(old: Any, old_args: Any, new: Any, new_args: Any) -> tuple[Any, ...]:
    """For `call`: end one handler and begin another; its init gets
    `(new_args, what the old one's terminate returned)`.

    Args:
        old: The class of the one that ends, or (class, id).
        old_args: What its terminate gets as the reason.
        new: The class of the one that begins, or (class, id).
        new_args: The first half of what its init gets.

    Raises:
        TypeError: That is no name of a handler.
    """
    return (MARK, "swap", key_of(old), old_args, key_of(new), new_args)


def swap_sup_handler(
    old: Any, old_args: Any, new: Any, new_args: Any, *, owner: str
) -> tuple[Any, ...]:
    """For `call`: `swap_handler`, and the server `owner` owns the new one, as of `add_sup_handler`.

    Without it the new one belongs to whom the old one did, or to nobody.

    Args:
        old, old_args, new, new_args: As for `swap_handler`.
        owner: The name of a server that runs.

    Raises:
        TypeError: That is no name of a handler, or `owner` no name.
    """
    return (*swap_handler(old, old_args, new, new_args), _named(owner))


def call(handler: Any, request: Any) -> tuple[Any, ...]:
    """For `call`: ask one handler; the reply is what its handle_call replied, or its exception.

    Args:
        handler: Its class, or (class, id).
        request: What its handle_call gets.

    Raises:
        TypeError: That is no name of a handler.
    """
    return (MARK, "call", key_of(handler), request)


def which_handlers() -> tuple[Any, ...]:
    """For `call`: the names of the handlers, in the order in which they get an event."""
    return (MARK, "which")


def done(handler: Any, sequence: int) -> tuple[Any, ...]:
    """For `cast`: a handler that returned `Later` has finished with the event of that sequence; one
    that takes batches, with all up to it.

    Args:
        handler: Its class, or (class, id).
        sequence: The event's number, `self.batch.sequence`.

    Raises:
        TypeError: That is no name of a handler.
    """
    return (MARK, "done", key_of(handler), sequence)


# --- what handlers return ------------------------------------------------------------------------


@final
class Handled(Struct, frozen=True):
    """A new state, and actions (`pybehave.actions`) that the manager carries out.

    Attributes:
        state: The handler's state from now on.
        actions: In their order.
    """

    state: Any
    actions: Any = ()


@final
class Later(Struct, frozen=True):
    """This handler is not done with the event: those that come after it wait, and so does whoever
    sent it with `sync_notify`. `done(handler, sequence)` ends that.

    Attributes:
        state: The handler's state from now on.
        actions: In their order; a `Run` for example.
    """

    state: Any
    actions: Any = ()


@final
class Remove(Struct, frozen=True):
    """The handler goes; its terminate gets `"remove_handler"`."""


@final
class Swap(Struct, frozen=True):
    """Another handler takes this one's place.

    When its init raises, both are gone, and the owner hears of both ends.

    Attributes:
        args: What the terminate of this one gets.
        handler: The class of the other, or (class, id).
        new_args: What its init gets, with what terminate returned.
    """

    args: Any
    handler: Any
    new_args: Any

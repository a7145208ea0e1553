"""Make a server's incarnation out of its worker's specification, and what reads its values."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from pybehave._uring.servers import ACK_DISK, ACK_MEMORY, ACK_OS, ACK_SERVERS, INPUT_CAST
from pybehave._uring.values import Values
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.schema import Schema
from pybehave.errors import SpecError, show
from pybehave.once import Once

if TYPE_CHECKING:
    from pybehave._uring.dispatch import Dispatcher
    from pybehave._uring.servers import Server

OVERFLOWS: Final = {"block": 0, "reject": 1, "drop_oldest": 2}
LEVELS: Final = {"memory": ACK_MEMORY, "os": ACK_OS, "disk": ACK_DISK}


def instance_of(worker: Worker[Any, Any]) -> Any:
    """Return a new instance of a worker's server.

    Raises:
        SpecError: The worker's factory made something else.
        Exception: Whatever the factory raised.
    """
    instance: Any = worker.server()
    if not isinstance(instance, GenServer):
        raise SpecError(
            f"Worker {worker.id!r}",
            f"server={worker.server_name}: the factory returned {type(instance).__name__}, "
            f"not a GenServer",
        )
    return instance


def make_server(
    dispatcher: Dispatcher,
    worker: Worker[Any, Any],
    instance: Any,
    *,
    name: str | None = None,
    number: int = 0,
    values: Values | None = None,
    incarnation: int = 0,
) -> Server:
    """Make an incarnation that does not answer to its name yet.

    Args:
        instance: What the worker's `server` made.
        name: When it is not the worker's, which is a template.
        number: In the journal; 0 = it is not journaled.
        values: What encodes its inputs for the journal.
        incarnation: Which one it is, when the journal knows; 0 = the next.
    """
    kind = type(instance)
    return dispatcher.create(
        worker.name if name is None else name,
        instance,
        capacity=min(worker.mailbox, sys.maxsize),
        overflow=OVERFLOWS[worker.overflow],
        is_fast_call=kind.handle_call is GenServer.handle_call,
        is_fast_cast=kind.handle_cast is GenServer.handle_cast,
        is_deaf=kind.handle_info is GenServer.handle_info,
        number=number,
        values=values,
        level=LEVELS[worker.acknowledge],
        incarnation=incarnation,
    )


def is_ephemeral(server: Server | None, kind: int, message: Any) -> bool:
    """Whether a message under way to a server is one that no journal has, named or not."""
    message = message.request if type(message) is Once else message
    return (
        server is not None
        and kind == INPUT_CAST
        and isinstance(message, server.instance._passing())
    )


def level_of(acknowledge: object) -> int:
    """Return the number of the level that a call asks for; None = its server's.

    Raises:
        ValueError: It is none.
    """
    if acknowledge is None:
        return ACK_SERVERS
    if not isinstance(acknowledge, str) or acknowledge not in LEVELS:
        raise ValueError(
            f'acknowledge={show(acknowledge)} is not allowed; use "disk", "os", "memory" or None'
        )
    return LEVELS[acknowledge]


def make_values(name: str, instance: Any) -> Values:
    """Make what encodes a server's values: its class's `types`, which it also reads by `aliases`.

    Raises:
        SpecError: Two types have the same name, or a declaration of versions is not allowed.
    """
    schema = Schema(name, instance)
    try:
        values = Values(getattr(instance, "types", ()))
    except ValueError as error:
        raise SpecError(f"Server {name!r} of class {schema.kind}", str(error)) from error
    names = schema.names(schema.version)
    return values.reader(names) if names else values


def reader_of(
    schema: Schema, values: Values | None, version: int
) -> tuple[Values, Callable[[Any, int], Any]]:
    """What reads the inputs that a version of a server's class was given, as today's wants them.

    Args:
        schema: Of today's class.
        values: Of today's class.
        version: An older one, or today's.

    Returns:
        What decodes them, and what is to be called with an input and its lsn then.
    """
    assert values is not None  # it is journaled
    if version == schema.version:
        return values, lambda message, _: message
    return (
        values.reader(schema.names(version)),
        lambda message, lsn: schema.message(version, message, f"the input of lsn {lsn}"),
    )

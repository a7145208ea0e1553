"""Make a server's incarnation out of its worker's specification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import overrides

if TYPE_CHECKING:
    from pybehave._uring.dispatch import Dispatcher
    from pybehave._uring.servers import Server
    from pybehave._uring.values import Values

OVERFLOWS: Final = {"block": 0, "reject": 1, "drop_oldest": 2}


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
    return dispatcher.create(
        worker.name if name is None else name,
        instance,
        capacity=worker.mailbox,
        overflow=OVERFLOWS[worker.overflow],
        is_fast_call=not overrides(instance, "handle_call"),
        is_fast_cast=not overrides(instance, "handle_cast"),
        number=number,
        values=values,
        is_held=worker.acknowledge != "memory",
        incarnation=incarnation,
    )

"""Calls from asyncio code. Imported only there: importing asyncio costs tens of milliseconds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pybehave._uring.servers import INPUT_CALL
from pybehave.errors import Timeout
from pybehave.runtime.waiters import TaskWaiter

if TYPE_CHECKING:
    from pybehave.runtime.node import Node


async def call(
    node: Node,
    name: str,
    request: Any,
    timeout: float | None,
    level: int,
    *,
    is_patient: bool,
    priority: bool,
    post: Callable[..., None] | None = None,
) -> Any:
    """Await a server's reply; cancellation and timeout end the wait, not the request.

    Args:
        post: Takes the input; by default `node.post`, which refuses once the node begins to stop.
    """
    waiter = TaskWaiter(level, is_patient=is_patient)
    if priority:
        node.post_urgent(name, request, waiter)
    else:
        (post or node.post)(name, INPUT_CALL, request, waiter)
    try:
        async with asyncio.timeout(timeout):
            return await waiter.future
    except TimeoutError as error:
        if isinstance(error, Timeout):
            raise  # the server's own answer
        raise Timeout(name, timeout or 0.0) from None
    finally:
        if waiter.future.cancelled() or not waiter.future.done():
            node.host.defer(lambda: node.loop.dispatcher.abandon(waiter))

"""A node as a guest of an asyncio program.

The node runs on a thread of its own; starting it and stopping it are awaited. A start or a stop
cannot be interrupted: whoever is cancelled meanwhile hears of it when it is over, so that no node
is left behind.

Does not know: what the program does; calls are aio.py's.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from pybehave.behaviours.application import Application
from pybehave.runtime.node import Node


@contextlib.asynccontextmanager
async def running(app: Application, options: Mapping[str, Any]) -> AsyncIterator[Node]:
    """Run an application while the block runs.

    Args:
        app: What runs.
        options: What `Node` takes.
    """
    node = Node(app, **options)
    try:
        await _in_thread(node.start)
    except asyncio.CancelledError:
        await _in_thread(node.stop)
        raise
    try:
        yield node
    finally:
        error = sys.exc_info()
        await _in_thread(lambda: node.__exit__(*error))


async def _in_thread(function: Callable[[], object]) -> None:
    """Call a function on a thread of its own and await its end, also when cancelled meanwhile."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def work() -> None:
        error: BaseException | None = None
        try:
            function()
        except BaseException as caught:  # noqa: BLE001 -- raised again where it is awaited
            error = caught
        loop.call_soon_threadsafe(ended.set_result, error)

    threading.Thread(target=work, name="pybehave-guest", daemon=True).start()
    cancelled: asyncio.CancelledError | None = None
    while not ended.done():
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError as error:
            cancelled = error
    if (failure := ended.result()) is not None:
        raise failure
    if cancelled is not None:
        raise cancelled

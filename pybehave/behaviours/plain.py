"""Refuse callbacks that are no plain functions, where their class is written.

Theory. A callback returns its result; calling an `async def`, or a function with a `yield`, only
makes an object that nobody runs. As a result of `step` that is a crash at the first input; as the
state that `init` or a handler returns it would stand unnoticed, and so it is told at the class.

Not looked at: the methods of a state machine that are named by its states. They cannot be told from
helpers; what they return is (`BadReturn`).

Does not know: what a callback is for.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import Final

from pybehave.errors import SpecError

SERVER_CALLBACKS: Final = (
    "init", "step", "validate", "handle_call", "handle_cast", "handle_info", "handle_continue",
    "handle_event", "terminate", "invariant", "code_change", "dump", "load", "upcast",
    "upcast_state", "format_status",
)  # fmt: skip
HANDLER_CALLBACKS: Final = (
    "init", "handle_event", "handle_batch", "handle_call", "handle_info", "terminate",
    "code_change", "shard_of", "format_status",
)  # fmt: skip

MEND: Final = (
    "a callback is a plain function that returns its result; for what waits return the action Run, "
    "or use an AsyncioTask (docs/guide/from_asyncio.md)"
)


def check_plain(cls: type, callbacks: Collection[str], may_yield: Collection[str] = ()) -> None:
    """Refuse a class with a callback that is suspended instead of returning.

    Args:
        cls: Whose callbacks are looked at, inherited ones included.
        callbacks: Their names.
        may_yield: Those that may be generators, for the runtime goes on with them.

    Raises:
        SpecError: A callback is an `async def`, or has a `yield`.
    """
    for name in callbacks:
        callback = getattr(cls, name, None)
        if inspect.iscoroutinefunction(callback) or inspect.isasyncgenfunction(callback):
            raise SpecError(cls.__name__, f"async def {name} is not allowed; {MEND}")
        if name not in may_yield and inspect.isgeneratorfunction(callback):
            raise SpecError(cls.__name__, f"{name} must not yield; {MEND}")

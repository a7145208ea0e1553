"""What a server orders its supervisors to do by the way it ends: `DoNotRestart`, `TerminateTree`.

An order is an exception that a callback raises, or the reason of a `Stop`. It is found also behind
another exception, as its cause or in a group, so that a library can wrap it.

Source: Suture v4, `ErrDoNotRestart`, `ErrTerminateSupervisorTree`, matched with `errors.Is`.
"""

from __future__ import annotations

from typing import Final

from pybehave.errors import DoNotRestart, InitStopped, StartFailed, TerminateTree

_HOLDERS: Final = (DoNotRestart, TerminateTree, InitStopped, StartFailed, BaseExceptionGroup)


def order_of(reason: object) -> DoNotRestart | TerminateTree | None:
    """Return the order in a reason of ending, the strongest if there are several; or None."""
    if not isinstance(reason, BaseException):
        return None
    if reason.__cause__ is None and not isinstance(reason, _HOLDERS):
        return None  # nearly every crash: no list and no set are made for it
    found: DoNotRestart | TerminateTree | None = None
    waiting: list[object] = [reason]
    seen: set[int] = set()
    while waiting:
        error = waiting.pop()
        if not isinstance(error, BaseException) or id(error) in seen:
            continue
        seen.add(id(error))
        if isinstance(error, TerminateTree):
            if error.scope == "root":
                return error
            found = error
        elif isinstance(error, DoNotRestart) and found is None:
            found = error
        waiting.append(error.__cause__)
        if isinstance(error, InitStopped | StartFailed):
            waiting.append(error.reason)
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
    return found

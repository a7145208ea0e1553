"""What a server orders its supervisors to do by the way it ends: `DoNotRestart`, `TerminateTree`.

An order is an exception that a callback raises, or the reason of a `Stop`. It is found also behind
another exception, as its cause or in a group, so that a library can wrap it.

Source: Suture v4, `ErrDoNotRestart`, `ErrTerminateSupervisorTree`, matched with `errors.Is`.
"""

from __future__ import annotations

from pybehave.errors import DoNotRestart, TerminateTree


def order_of(reason: object) -> DoNotRestart | TerminateTree | None:
    """Return the order in a reason of ending, the strongest if there are several; or None."""
    found: DoNotRestart | TerminateTree | None = None
    waiting, seen = [reason], set[int]()
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
        waiting.append(getattr(error, "reason", None))  # InitStopped, StartFailed
        if isinstance(error, BaseExceptionGroup):
            waiting.extend(error.exceptions)
    return found

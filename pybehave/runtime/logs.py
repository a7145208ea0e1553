"""Whether anybody listens to a logger, before a record is made for nobody.

A log record costs about 8 us, which is half of a restart. `Logger.isEnabledFor` only looks at
levels; this also looks for a handler that does something. The answer is never cached: handlers come
and go.
"""

from __future__ import annotations

import logging


def is_heard(logger: logging.Logger, level: int) -> bool:
    """Say whether a record of this level would reach a handler other than `NullHandler`."""
    if not logger.isEnabledFor(level):
        return False
    found = False
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            if type(handler) is not logging.NullHandler:
                return True
            found = True
        if not current.propagate:
            break
        current = current.parent
    # Without any handler at all `logging` writes warnings and errors to stderr by itself.
    return not found and logging.lastResort is not None and level >= logging.lastResort.level

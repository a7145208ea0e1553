"""What every exception of the package is made of: its base, and values as messages show them.

Its name for the world is `pybehave.errors`, as that of all the others.

Does not know: which exceptions there are.
"""

from __future__ import annotations

import reprlib

VALUE_CHARS_MAX = 200
"""A value shown in a message is cut here: one log line, not a dump of the state."""

_shown = reprlib.Repr()
_shown.maxstring = _shown.maxother = _shown.maxlong = VALUE_CHARS_MAX


def show(value: object) -> str:
    """Return `value` as a message shows it: its repr, bounded, and never an exception.

    Args:
        value: Anything, also an object whose `__repr__` raises.
    """
    try:
        text = _shown.repr(value)
    except Exception as error:  # noqa: BLE001 -- a message must not fail because a repr does
        text = f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return text if len(text) <= VALUE_CHARS_MAX else text[: VALUE_CHARS_MAX - 3] + "..."


def show_reason(reason: object) -> str:
    """Return a reason of ending as a message shows it: `ZeroDivisionError: ...` or `'shutdown'`."""
    if isinstance(reason, BaseException):
        try:
            text = str(reason)
        except Exception as error:  # noqa: BLE001 -- the same promise as in show()
            text = f"<str raised {type(error).__name__}>"
        name = type(reason).__name__
        return f"{name}: {text[:VALUE_CHARS_MAX]}" if text else name
    return show(reason)


def _rebuild(
    kind: type[PybehaveError], args: tuple[object, ...], fields: dict[str, object]
) -> PybehaveError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(fields)
    return error


class PybehaveError(Exception):
    """What all exceptions of the package derive from."""

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, dict(self.__dict__))

"""Tables of validators: what a field may hold, and the sentence that says so.

Whoever describes something (a worker, a supervisor, a back-off) has one row for each field, and
checks all of them at construction. Behind that door nobody checks again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from pybehave.errors import SpecError, show

_CONTROL: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Unicode's controls, line ends, marks of direction, and halves of surrogate pairs."""


class Rule(NamedTuple):
    """One row of a table of validators.

    Attributes:
        accepts: Says whether a value is allowed.
        allowed: The end of the sentence "use ...".
    """

    accepts: Callable[[Any], bool]
    allowed: str


def one_of(*values: str) -> Rule:
    """Return the rule that accepts the given words."""
    words = [f'"{value}"' for value in values]
    allowed = " or ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} or {words[-1]}"
    return Rule(lambda value: isinstance(value, str) and value in values, allowed)


def is_number(value: object) -> bool:
    """Say whether a value is a finite number, also as a float, and not a bool."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an int beyond any float
        return False


def is_count(value: object) -> bool:
    """Say whether a value is an int >= 0 and not a bool (OTP refuses 1.0 as well)."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def is_text(value: object) -> bool:
    """Say whether a value is a string that may stand in a line of a log or on a terminal as it is:
    not empty, and nothing in it ends the line, moves the cursor or turns what follows round.
    """
    return isinstance(value, str) and value != "" and _CONTROL.search(value) is None


TEXT: Final = "a non-empty string without control characters"
"""What `is_text` accepts."""


def check(path: str, rules: Mapping[str, Rule], fields: Mapping[str, Any]) -> None:
    """Check every field of a specification by its row of the table.

    Args:
        path: Whose fields these are, for the error.
        rules: One rule per field.
        fields: The values.

    Raises:
        SpecError: Names the path, the field, the value and what is allowed.
    """
    for field, rule in rules.items():
        if not rule.accepts(fields[field]):
            raise refused(path, field, fields[field], rule.allowed)


def refused(path: str, field: str, value: object, allowed: str) -> SpecError:
    """Return the error for one field: what it holds and what to use instead."""
    return SpecError(path, f"{field}={show(value)} is not allowed; use {allowed}")

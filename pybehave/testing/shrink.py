"""Make a script that fails smaller, as long as it fails in the same way.

Theory. Delta debugging: try to leave out a half, a quarter, an eighth, ... of the acts; whenever
the rest still fails, go on with the rest; at the end no single act can be left out. Then each act
is made simpler by itself: no delay, nothing lost. A run is a function of its script, so every try
is one run, and the smallest script replays as it is.

Does not know: what a run is, what failing means.
Source: Zeller & Hildebrandt, "Simplifying and isolating failure-inducing input" (2002), ddmin.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from pybehave.testing.script import Act, Ask

TRIES_MAX: Final = 400
"""Runs that shrinking may take; a script of a hundred acts rarely needs half of them."""


class _Enough(Exception):  # noqa: N818 -- it is not an error
    """All tries are used up."""


def shrink(
    script: list[Act], fails: Callable[[list[Act]], bool], *, tries_max: int = TRIES_MAX
) -> list[Act]:
    """Return a part of a script that still fails, of which no act can be left out.

    Args:
        script: One that fails.
        fails: Plays a script and says whether it fails in the same way.
        tries_max: After so many plays the smallest one so far is returned.
    """
    best = script
    left = tries_max

    def is_smaller(candidate: list[Act]) -> bool:
        nonlocal best, left
        if left == 0:
            raise _Enough
        left -= 1
        if not fails(candidate):
            return False
        best = candidate
        return True

    try:
        _leave_out(script, is_smaller)
        _simplify(best, is_smaller)
    except _Enough:
        pass
    return best


def _leave_out(script: list[Act], is_smaller: Callable[[list[Act]], bool]) -> None:
    """The ddmin of complements; a chunk that can go is gone at once."""
    size = max(len(script) // 2, 1)
    while script:
        at, has_shrunk = 0, False
        while at < len(script):
            rest = script[:at] + script[at + size :]
            if is_smaller(rest):
                script, has_shrunk = rest, True
            else:
                at += size
        if size == 1 and not has_shrunk:
            return
        size = max(size // 2, 1)


def _simplify(script: list[Act], is_smaller: Callable[[list[Act]], bool]) -> None:
    for index in range(len(script)):
        for change in ({"lost": ""}, {"delay": 0.0}, {"back": 0.0}):
            act = script[index]
            field, value = next(iter(change.items()))
            if isinstance(act, Ask) and getattr(act, field) != value:
                simpler = msgspec.structs.replace(act, **change)
                candidate = [*script[:index], simpler, *script[index + 1 :]]
                if is_smaller(candidate):
                    script = candidate

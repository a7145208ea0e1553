"""Options that are a time: numbers of seconds that a clock can wait for."""

from __future__ import annotations

import math
from typing import Any, Final

import click

SECONDS_MAX: Final = 366 * 86_400.0
"""A year: more is a mistake of the unit, and timers of the system end a few powers of ten above."""


class Seconds(click.FloatRange):
    """A finite number of seconds; "nan" and "inf", which Python takes for numbers, are refused.

    Args:
        min: The least.
        max: The most; a year unless given.
        min_open: The least itself is too little.
    """

    name = "seconds"

    def __init__(
        self,
        min: float = 0.0,  # noqa: A002 -- click's name for it
        max: float = SECONDS_MAX,  # noqa: A002 -- click's name for it
        *,
        min_open: bool = False,
    ) -> None:
        super().__init__(min=min, max=max, min_open=min_open)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Take the text of an option.

        Raises:
            click.BadParameter: It is no number, or one that is no such time.
        """
        found: float = click.FLOAT.convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no time; use a number of seconds", param, ctx)
        in_range: float = super().convert(found, param, ctx)
        return in_range

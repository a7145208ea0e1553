"""`--reset NAME --yes`: let a journaled server begin anew at a start, and at that one only."""

from __future__ import annotations

import click

from pybehave.cli.load import Mistake


def confirmed(context: click.Context, _: click.Parameter, is_confirmed: bool) -> None:
    """`--yes` was said, or not; it is looked at first."""
    context.meta["is_confirmed"] = is_confirmed


def check_reset(
    context: click.Context, _: click.Parameter, reset: tuple[str, ...]
) -> tuple[str, ...]:
    """What cannot be undone is said twice."""
    is_confirmed = context.meta["is_confirmed"]
    if reset and not is_confirmed:
        raise Mistake(
            f"--reset: all that the journal keeps of {', '.join(map(repr, reset))} would be lost, "
            "for good; say --yes, too"
        )
    if is_confirmed and not reset:
        raise Mistake("--yes says yes to --reset NAME; without that there is nothing to confirm")
    return reset


def without_reset(words: list[str]) -> list[str]:
    """Return a command line whose process resets nothing again."""
    found = iter(words)
    kept = []
    for word in found:
        if word == "--reset":
            next(found, None)
        elif word != "--yes" and not word.startswith("--reset="):
            kept.append(word)
    return kept

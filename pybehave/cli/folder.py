"""What commands on a journal's folder share: its option, and its mistakes in one sentence."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from pybehave._uring.values import Values
from pybehave.cli.load import Mistake
from pybehave.errors import JournalRefused, PybehaveError
from pybehave.journal.dead_letters import Letter, get, numbers
from pybehave.runtime.node import DATA

Command = TypeVar("Command", bound=Callable[..., Any])


def data_option(command: Command) -> Command:
    """Add `--data DIR`."""
    return click.option(
        "--data", default=DATA, show_default=True, metavar="DIR", help="The journal's folder."
    )(command)


def letter_of(data: str, lsn: int) -> Letter:
    """A dead letter; a mistake when there is none."""
    check_folder(data)
    try:
        return get(data, lsn)
    except JournalRefused as error:
        raise Mistake(str(error)) from error


def letters(data: str) -> list[Letter]:
    """All dead letters, oldest first."""
    check_folder(data)
    return [letter_of(data, lsn) for lsn in numbers(data)]


def check_folder(data: str) -> None:
    """A mistake when there is no journal."""
    if not Path(data, "MANIFEST").exists():
        raise Mistake(f"there is no journal in {data}; name its folder with --data")


def shown(encoded: bytes) -> str:
    """A value of the journal as Python writes it, if it has only plain types."""
    try:
        return repr(Values().decode(encoded))
    except ValueError as error:
        return f"<{error}>"


def written(text: str) -> bytes:
    """A Python literal as a value of the journal."""
    try:
        return Values().encode(ast.literal_eval(text))
    except (ValueError, SyntaxError, PybehaveError) as error:
        raise Mistake(f"{text!r} is not a Python literal that can be journaled: {error}") from error

"""What commands on a journal's folder share: its option, and its mistakes in one sentence."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from pybehave._uring.values import Values
from pybehave.cli.load import Mistake
from pybehave.errors import CodecRefused, JournalRefused, PybehaveError
from pybehave.journal.codec import Codec, Coder
from pybehave.journal.dead_letters import Letter, get, numbers
from pybehave.journal.reader import MANIFEST, read_manifest
from pybehave.runtime.node import DATA

Command = TypeVar("Command", bound=Callable[..., Any])


def data_option(command: Command) -> Command:
    """Add `--data DIR`."""
    return click.option(
        "--data", default=DATA, show_default=True, metavar="DIR", help="The journal's folder."
    )(command)


def coder_of(data: str, codec: tuple[Codec, ...]) -> Coder:
    """What opens the files of a journal; a mistake when there is none."""
    check_folder(data)
    try:
        return Coder(codec, read_manifest(data).journal_id)
    except JournalRefused as error:
        raise Mistake(str(error)) from error


def letter_of(data: str, lsn: int, codec: tuple[Codec, ...]) -> Letter:
    """A dead letter; a mistake when there is none, or it cannot be opened."""
    coder = coder_of(data, codec)
    try:
        return get(data, lsn, coder)
    except (JournalRefused, CodecRefused) as error:
        raise Mistake(str(error)) from error


def numbers_of(data: str) -> list[int]:
    """The lsns of all dead letters, oldest first."""
    check_folder(data)
    return numbers(data)


def check_folder(data: str) -> None:
    """A mistake when there is no journal."""
    if not Path(data, MANIFEST).exists():
        raise Mistake(f"there is no journal in {_named(data)}; name its folder with --data")


def check_journal(directory: str) -> None:
    """A mistake when nothing in a folder is of a journal; what is left of one is damage.

    Raises:
        Mistake: Says what is there instead.
    """
    if directory and not Path(directory).is_dir() and Path(directory).exists():
        raise Mistake(f"there is no journal in {directory}, which is a file; name a folder")
    if not directory or not (_has_files(directory)):
        raise Mistake(f"there is no journal in {_named(directory)}; name its folder")


def _has_files(directory: str) -> bool:
    """Whether anything there is a journal's; what is left of one counts."""
    return Path(directory, MANIFEST).exists() or any(Path(directory).glob("seg-*.pbj"))


def _named(folder: str) -> str:
    """A folder in a sentence."""
    return folder or "''"


def check_server(server: str | None, names: Iterable[str]) -> None:
    """A mistake when a server that was named is none of those there are.

    Args:
        server: Its name; None = nobody asked for one.
        names: Of those there are.
    """
    known = sorted(set(names) - {""})
    if server is not None and server not in known:
        others = f"those are: {', '.join(known)}" if known else "there is none at all"
        raise Mistake(f"no journaled server is named {server!r}; {others}")


def check_range(first: int, last: int) -> None:
    """A mistake when nothing can lie between two lsns."""
    if first > last:
        raise Mistake(f"--from {first} is behind --to {last}; nothing lies between them")


def shown(encoded: bytes) -> str:
    """A value of the journal as Python writes it, if it has only plain types."""
    try:
        return repr(Values().decode(encoded))
    except ValueError as error:
        return f"<{error}>"


def one_line(text: str) -> str:
    """A text as it is, but for what ends a line or means something to a terminal."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def written(text: str) -> bytes:
    """A Python literal as a value of the journal."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise Mistake(
            f'{text!r} is not a Python literal; write for example \'text\', 1, or [b"GET", b"x"]'
        ) from None
    try:
        return Values().encode(value)
    except (ValueError, PybehaveError) as error:
        raise Mistake(f"{text!r} cannot be journaled: {error}") from error

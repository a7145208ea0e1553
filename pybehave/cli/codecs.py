"""What commands need to read and write a journal with codecs: `--codec` and `--key-file`.

A key never stands on the command line, where every user of the machine sees it in the list of
processes and the shell writes it down; nor in the environment, which every child inherits. It is in
a file, and the file's name may be in either.

Does not know: journals.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, Final, TypeVar

import click

from pybehave.cli.load import Mistake
from pybehave.errors import SpecError
from pybehave.journal.codec import Codec, Compressed, check_codecs
from pybehave.journal.encrypted import Encrypted

CODEC_VARIABLE: Final = "PYBEHAVE_CODEC"
KEY_FILE_VARIABLE: Final = "PYBEHAVE_KEY_FILE"

Command = TypeVar("Command", bound=Callable[..., Any])


def codec_options(command: Command) -> Command:
    """Add `--codec` and `--key-file`; the command gets what both come to as `codec`."""

    @wraps(command)
    def with_codecs(*args: Any, codec: tuple[str, ...], key_file: str | None, **more: Any) -> Any:
        return command(*args, codec=codecs(codec, key_file), **more)

    return codec_parameters(with_codecs)  # type: ignore[return-value]


def codec_parameters(command: Command) -> Command:
    """Add `--codec` and `--key-file`, which the command gets as they are."""
    for option in (
        click.option(
            "--key-file",
            default=None,
            type=click.Path(dir_okay=False),
            envvar=KEY_FILE_VARIABLE,
            show_envvar=True,
            metavar="FILE",
            help="Encrypt the journal with the first key of FILE; the others read what is older.",
        ),
        click.option(
            "--codec",
            multiple=True,
            envvar=CODEC_VARIABLE,
            show_envvar=True,
            metavar="NAME",
            help="zlib, or MODULE:NAME of a codec; several in this order, encryption last.",
        ),
    ):
        command = option(command)
    return command


def codecs(names: tuple[str, ...], key_file: str | None) -> tuple[Codec, ...]:
    """Return the codecs that the options say.

    Raises:
        Mistake: One cannot be had; says why.
    """
    found = [codec for name in names for codec in _named(name)]
    try:
        if key_file is not None:
            found.append(Encrypted.from_file(key_file))
        check_codecs(tuple(found))
    except (SpecError, ValueError) as error:
        raise Mistake(str(error)) from error
    return tuple(found)


def _named(name: str) -> tuple[Codec, ...]:
    """A codec, or several that stand in a module under one name."""
    if name == Compressed.name:
        return (Compressed(),)
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise Mistake(f"--codec {name!r} is not known; write {Compressed.name}, or MODULE:NAME")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(import_module(module_name), attribute)
    except Exception as error:  # whatever the module does at its import
        raise Mistake(f"--codec {name} cannot be had: {error!r}") from error
    return found if isinstance(found, tuple) else (found,)

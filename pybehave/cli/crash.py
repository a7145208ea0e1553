"""`pybehave crash`: how servers failed, and a test that fails the same way."""

from __future__ import annotations

import base64
import re
import textwrap
from pathlib import Path

import click
import msgspec

from pybehave.cli import dead_letters
from pybehave.cli.codecs import codec_options
from pybehave.cli.folder import data_option, letter_of, one_line
from pybehave.cli.load import Mistake
from pybehave.journal.codec import Codec
from pybehave.journal.dead_letters import Letter

TEST = '''"""Made by `pybehave crash to-test`: server {server} failed on its input of lsn {lsn}.

{error}

Turn the last line round once the code is mended.
"""

import base64

import pytest

from {module} import {top}
from pybehave.testing import repeat

LETTER = base64.b64decode(
    """
{text}
    """
)


def test_{name}_fails_on_input_{lsn}():
    with pytest.raises({kind}):
        repeat({path}, LETTER)
'''


@click.group()
def command() -> None:
    """How journaled servers failed: the same store as the dead letters."""


command.add_command(dead_letters.list_letters)
command.add_command(dead_letters.show)


@command.command(name="to-test")
@click.argument("lsn", type=int)
@click.option("--output", metavar="FILE", help="Write it there instead of to the terminal.")
@click.option(
    "--class",
    "target",
    metavar="MODULE:NAME",
    help="Where the server's class is, if it has no name there by which it can be imported.",
)
@data_option
@codec_options
def to_test(
    lsn: int, output: str | None, target: str | None, data: str, codec: tuple[Codec, ...]
) -> None:
    """Write a pytest file that fails the same way: same state, input, time and randomness."""
    letter = letter_of(data, lsn, codec)
    if letter.state is None:
        raise Mistake(
            f"the state before lsn {lsn} was not kept: it has no form in the journal (give "
            f"{letter.qualname} `dump` and `load`), or nothing of it was wanted (recovery='clean')"
        )
    text = test_of(letter, *_place(letter, target))
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        raise Mistake(f"{output} cannot be written: {error.strerror}") from error
    click.echo(f"written to {output}; run it with pytest")


def _place(letter: Letter, target: str | None) -> tuple[str, str]:
    """The module and the name that a test can import the server's class by.

    Raises:
        Mistake: It has none: it was made in a function, by `both` or `either`, or in a script.
    """
    module, _, path = (target or f"{letter.module}:{letter.qualname}").partition(":")
    is_named = all(part.isidentifier() for part in [*module.split("."), *path.split(".")])
    if target is not None and not is_named:
        raise Mistake(f"--class {target!r} is not MODULE:NAME; write for example shop:Counter")
    if not is_named or module == "__main__":
        raise Mistake(
            f"a test cannot import the class of {letter.server!r}, {letter.qualname} of the module "
            f"{letter.module}; give it a name at the top of a module, and say which with "
            f"--class MODULE:NAME"
        )
    return module, path


def test_of(letter: Letter, module: str, path: str) -> str:
    """The test's text.

    Args:
        letter: The input that failed.
        module: Where the server's class is.
        path: Its name there.
    """
    encoded = base64.b64encode(msgspec.msgpack.encode(letter)).decode()
    raised_in, _, kind = letter.error.partition(":")[0].rpartition(".")
    return TEST.format(
        server=_quoted(repr(letter.server)),
        lsn=letter.lsn,
        error=_quoted(letter.error),
        module=module,
        top=path.partition(".")[0],
        path=path,
        text=textwrap.indent("\n".join(textwrap.wrap(encoded, 88)), "    "),
        name=re.sub(r"\W", "_", letter.server),
        kind=kind if raised_in in ("", "builtins") else "Exception",
    )


def _quoted(text: str) -> str:
    """A text as it may stand in a docstring."""
    return one_line(text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"'))

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
from pybehave.cli.folder import data_option, letter_of
from pybehave.cli.load import Mistake
from pybehave.journal.codec import Codec
from pybehave.journal.dead_letters import Letter

TEST = '''"""Made by `pybehave crash to-test`: server {server!r} failed on its input of lsn {lsn}.

{error}

Turn the last line round once the code is mended.
"""

import base64

import pytest

from {module} import {imported}
from pybehave.testing import repeat

LETTER = base64.b64decode(
    """
{text}
    """
)


def test_{name}_fails_on_input_{lsn}():
    with pytest.raises({kind}):
        repeat({qualname}, LETTER)
'''


@click.group()
def command() -> None:
    """How journaled servers failed: the same store as the dead letters."""


command.add_command(dead_letters.list_letters)
command.add_command(dead_letters.show)


@command.command(name="to-test")
@click.argument("lsn", type=int)
@click.option("--output", metavar="FILE", help="Write it there instead of to the terminal.")
@data_option
@codec_options
def to_test(lsn: int, output: str | None, data: str, codec: tuple[Codec, ...]) -> None:
    """Write a pytest file that fails the same way: same state, input, time and randomness."""
    letter = letter_of(data, lsn, codec)
    if letter.state is None:
        raise Mistake(
            f"the state before lsn {lsn} was not kept: it has no form in the journal (give "
            f"{letter.qualname} `dump` and `load`), or nothing of it was wanted (recovery='clean')"
        )
    if not all(part.isidentifier() for part in letter.qualname.split(".")):
        raise Mistake(
            f"no test can import {letter.qualname}, the class of server {letter.server!r}: give it "
            f"a name at the top of a module, as `class Shop(both(Stock, Orders)): pass`; what "
            f"fails from then on can become a test"
        )
    text = test_of(letter)
    if output is None:
        click.echo(text, nl=False)
    else:
        Path(output).write_text(text, encoding="utf-8")
        click.echo(f"written to {output}; run it with pytest")


def test_of(letter: Letter) -> str:
    """The test's text."""
    encoded = base64.b64encode(msgspec.msgpack.encode(letter)).decode()
    module, _, kind = letter.error.partition(":")[0].rpartition(".")
    return TEST.format(
        server=letter.server,
        lsn=letter.lsn,
        error=letter.error,
        module=letter.module,
        imported=letter.qualname.partition(".")[0],
        qualname=letter.qualname,
        text=textwrap.indent("\n".join(textwrap.wrap(encoded, 88)), "    "),
        name=re.sub(r"\W", "_", letter.server),
        kind=kind if module in ("", "builtins") else "Exception",
    )

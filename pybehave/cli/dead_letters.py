"""`pybehave dead-letters`: inputs that failed: look at them, send them again, forget them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import click

from pybehave.cli.codecs import codec_options
from pybehave.cli.folder import (
    check_folder,
    coder_of,
    data_option,
    letter_of,
    numbers_of,
    one_line,
    shown,
    written,
)
from pybehave.cli.load import Mistake
from pybehave.errors import CodecRefused, JournalRefused
from pybehave.journal import dead_letters
from pybehave.journal.codec import Codec


@click.group(name="dead-letters")
def command() -> None:
    """Inputs on which a journaled server failed."""


@contextlib.contextmanager
def mistakes(data: str) -> Iterator[None]:
    """What keeps a letter from being written or removed, in one sentence."""
    try:
        yield
    except OSError as error:
        raise Mistake(f"{error.filename or data}: {error.strerror}") from error
    except (JournalRefused, CodecRefused) as error:
        raise Mistake(str(error)) from error


@command.command(name="list")
@data_option
@codec_options
def list_letters(data: str, codec: tuple[Codec, ...]) -> None:
    """One line for each, oldest first."""
    waiting = set(dead_letters.numbers(data, dead_letters.REQUEUE))
    coder = coder_of(data, codec)
    for lsn in numbers_of(data):
        mark = "  (to be sent again)" if lsn in waiting else ""
        try:
            letter = dead_letters.get(data, lsn, coder)
        except JournalRefused as error:
            click.echo(f"{lsn}  {error.detail}{mark}")
            continue
        except CodecRefused as error:
            click.echo(f"{lsn}  {error}{mark}")
            continue
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(letter.at))
        click.echo(f"{lsn}  {at}  {letter.server}  {one_line(letter.error)}{mark}")


@command.command()
@data_option
def count(data: str) -> None:
    """How many there are."""
    click.echo(len(numbers_of(data)))


@command.command()
@click.argument("lsn", type=int)
@data_option
@codec_options
def show(lsn: int, data: str, codec: tuple[Codec, ...]) -> None:
    """Everything about one."""
    letter = letter_of(data, lsn, codec)
    click.echo(f"server    {letter.server} (incarnation {letter.incarnation}), {letter.qualname}")
    click.echo(f"crash id  {letter.crash_id}")
    click.echo(f"input     {shown(letter.message)}")
    click.echo(f"state     {'not kept' if letter.state is None else shown(letter.state)}")
    click.echo(letter.traceback.rstrip())


@command.command()
@click.argument("lsn", type=int)
@click.option("--message", metavar="LITERAL", help="Send this instead, a Python literal.")
@data_option
@codec_options
def requeue(lsn: int, message: str | None, data: str, codec: tuple[Codec, ...]) -> None:
    """Send one again when the node starts next; with --message another input in its place."""
    letter = letter_of(data, lsn, codec)
    message_ = None if message is None else written(message)
    with mistakes(data):
        dead_letters.requeue(data, letter, message_, coder_of(data, codec))
    click.echo(f"{lsn} is sent to {letter.server} when the node starts next")


@command.command()
@click.argument("lsn", type=int)
@data_option
def delete(lsn: int, data: str) -> None:
    """Forget one; the journal keeps its mark."""
    check_folder(data)
    with mistakes(data):
        dead_letters.delete(data, lsn)


@command.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@data_option
def purge(data: str, yes: bool) -> None:
    """Forget all of them."""
    found = numbers_of(data)
    if not yes:
        click.confirm(f"forget {len(found)} dead letters in {data}?", abort=True)
    with mistakes(data):
        for lsn in found:
            dead_letters.delete(data, lsn)
    click.echo(f"{len(found)} forgotten")

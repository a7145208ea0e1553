"""`pybehave replay`: step through a journal's history; nothing is written or sent."""

from __future__ import annotations

import difflib
import pprint
import sys
from collections.abc import Iterator

import click

from pybehave.cli.codecs import codec_options
from pybehave.cli.configuration import config_options, planned, read_config
from pybehave.cli.folder import check_journal, check_range, check_server, data_option
from pybehave.cli.load import Mistake, load
from pybehave.errors import CodecRefused, JournalRefused, NonDeterminism, SpecError
from pybehave.journal.codec import Codec
from pybehave.journal.verify import verify
from pybehave.runtime.durable.history import LSN_MAX, History

WIDTH = 96
LSN = click.IntRange(min=0)


@click.command()
@click.argument("target", metavar="MODULE:APP")
@click.option("--from", "first", type=LSN, metavar="LSN", help="Show each step from here on.")
@click.option("--to", "last", type=LSN, default=LSN_MAX, metavar="LSN", help="Go no further.")
@click.option("--server", metavar="NAME", help="Show only this one.")
@click.option("--diff", is_flag=True, help="Show what each input changed.")
@click.option("--break-on", metavar="EXPRESSION", help="Stop when it is true of `state`.")
@click.option("--check", is_flag=True, help="Name every outcome that differs; exit status 1.")
@data_option
@config_options
@codec_options
def command(
    target: str,
    first: int | None,
    last: int,
    server: str | None,
    diff: bool,
    break_on: str | None,
    check: bool,
    data: str,
    files: tuple[str, ...],
    settings: tuple[str, ...],
    codec: tuple[Codec, ...],
) -> None:
    """Show the states of an application's servers as they were at an lsn.

    MODULE:APP is the code that steps the inputs; it may be newer than the journal. Give it the
    configuration that the node has. Exit status 1: the journal is damaged; what is before that is
    shown.
    """
    application, config = load(target), read_config(files, settings)
    planned(application, config)
    check_journal(data)
    check_range(first or 0, last)
    try:
        problems = verify(data).problems
        before = (first or last + 1) - 1
        history = History(
            application, data, before, is_strict=not check, codec=codec, config=config
        )
        check_server(server, history.names)
        for problem in problems:
            click.echo(f"damaged: {problem}; history ends with lsn {history.last_lsn}", err=True)
        _say_end(history, first or 0, last)
        if diff or break_on:
            _step_by_step(history, first or history.lsn + 1, last, server, break_on, diff)
        history.advance(last)
        say_unknown(history, application.name)
    except (JournalRefused, CodecRefused, NonDeterminism, SpecError) as error:
        raise Mistake(str(error)) from error
    differences = history.replay.replayer.differences
    if check:
        for difference in differences:
            click.echo(str(difference))
        click.echo(f"{history.replay.replayer.inputs} inputs, {len(differences)} outcomes differ")
        sys.exit(1 if differences or problems else 0)
    if not diff and not break_on:
        click.echo("\n".join(_lines(history, server)))
    history.close()
    sys.exit(1 if problems else 0)


def _say_end(history: History, first: int, last: int) -> None:
    """A word about numbers that are behind the end of what there is."""
    behind = [f"--from {first}"] if first > history.last_lsn else []
    behind += [f"--to {last}"] if history.last_lsn < last < LSN_MAX else []
    if behind:
        click.echo(f"the journal ends with lsn {history.last_lsn}, before {behind[0]}", err=True)


def say_unknown(history: History, application: str) -> None:
    """A word about servers of which nothing is shown or compared, for there is no code of theirs.

    Args:
        history: Has come to its end.
        application: The name of what was looked at.
    """
    if unknown := history.replay.unknown:
        names = ", ".join(map(repr, unknown))
        click.echo(f"passed over, for {application!r} has no code of it: {names}", err=True)


def _lines(history: History, server: str | None) -> Iterator[str]:
    yield f"# lsn {history.lsn}"
    for name, state in history.states().items():
        if server in (None, name):
            yield f"{name} = {pprint.pformat(state, width=WIDTH)}"


def _step_by_step(
    history: History, first: int, last: int, server: str | None, break_on: str | None, diff: bool
) -> None:
    history.advance(first - 1)
    before = list(_lines(history, server))[1:]
    for lsn in range(first, min(last, history.last_lsn) + 1):
        history.advance(lsn)
        after = list(_lines(history, server))[1:]
        if diff and after != before:
            click.echo(f"# lsn {lsn}")
            old, new = "\n".join(before).splitlines(), "\n".join(after).splitlines()
            changes = difflib.unified_diff(old, new, lineterm="", n=0)
            click.echo("\n".join(line for line in changes if line[:3] not in ("---", "+++", "@@ ")))
        before = after
        if break_on and _is_true(break_on, history, server):
            click.echo(f"# stopped at lsn {lsn}: {break_on}")
            click.echo("\n".join(after))
            sys.exit(0)


def show_changes(history: History, lsn: int) -> None:
    """Print what one input changes in the states of servers.

    Args:
        history: Stands before that lsn, or nearer to the beginning.
        lsn: The input's.
    """
    _step_by_step(history, lsn, lsn, None, None, True)


def _is_true(expression: str, history: History, server: str | None) -> bool:
    """Whether an expression of the operator's is true of a server's state."""
    for name, state in history.states().items():
        if server in (None, name):
            try:
                if eval(expression, {"state": state, "name": name}):
                    return True
            except Exception as error:
                raise Mistake(f"{expression!r} failed on the state of {name!r}: {error}") from error
    return False

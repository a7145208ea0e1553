"""`pybehave release status|check|upgrade|rollback|replace`: a running node's code, and the next.

`check` needs no node: it steps a recorded journal again with the new code. The others ask the node
at its admin socket.

Does not know: how servers change (release/releases.py), what a journal is (durable/history.py).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import click

from pybehave.behaviours.release import Release
from pybehave.behaviours.upgrade_schema import Uncheckable, UpgradeSchema
from pybehave.cli.codecs import codec_options
from pybehave.cli.configuration import config_options, planned, read_config
from pybehave.cli.folder import check_folder, data_option
from pybehave.cli.load import Mistake, load_release
from pybehave.cli.release_clients import check_clients, spoken_lines
from pybehave.cli.replay import say_unknown, show_changes
from pybehave.cli.seconds import Seconds
from pybehave.errors import (
    CodecRefused,
    CodeRefused,
    JournalRefused,
    NonDeterminism,
    NotAnswered,
    RequestRefused,
    SpecError,
)
from pybehave.journal.codec import Codec
from pybehave.journal.verify import verify
from pybehave.observer.client import AdminClient
from pybehave.runtime.durable.history import LSN_MAX, History
from pybehave.runtime.node import DATA
from pybehave.runtime.release.probation import CRASHES, WATCH_S

CHANGE_S: Final = 600.0
"""How long a change may take: an import, and a snapshot of all that is journaled."""

CANNOT_CHECK: Final = 3
"""Exit status: the journal says nothing of whether the code may follow. 2 is click's."""

Option = Callable[[Any], Any]


def node_option(command: Any) -> Any:
    """Add `--node PATH`."""
    return click.option(
        "--node",
        default=DATA,
        show_default=True,
        metavar="PATH",
        help="The node's admin socket, or its journal's folder.",
    )(command)


class AboutANode(click.Command):
    """A command that is told its node or folder by an option, and says so to who writes it as an
    argument.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Take the command line apart."""
        ctx.allow_extra_args = True  # click would refuse them, and not say where they belong
        extra = super().parse_args(ctx, args)
        if extra and not ctx.resilient_parsing:
            options = [each.opts[0] for each in self.params if each.name in ("node", "data")]
            ctx.fail(
                f"Got unexpected extra argument ({extra[0]}); which node is meant is said by "
                f"{options[0]} {extra[0]}"
            )
        return extra


@click.group()
def command() -> None:
    """Take a running node to new code, look how it is, and go back."""


@command.command(cls=AboutANode)
@node_option
def status(node: str) -> None:
    """What runs, since when, and what could be gone back to."""
    found = _ask(node, "release_status")
    line = f"{found['application']} {found['version']} is {found['state']}"
    if found["state"] == "current":
        line += f": on probation, {found['crashes']} crashes"
    click.echo(line)
    if found["under_way"]:
        click.echo(f"on the way to {found['under_way']}")
    if found["old"] is not None:
        why = found["history"][-1].get("no_way_back")  # an older pybehave does not say
        rest = f"there is no way back: {why}" if why else "`pybehave release rollback` goes back"
        click.echo(f"old: {found['old']}; {rest}")
    for name, version, kind in found["applications"]:
        click.echo(f"  {name} {version}, {kind}")
    for line in spoken_lines(found["listeners"]):
        click.echo(f"  {line}")
    for report in found["history"]:
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(report["at"]))
        click.echo(f"{at}  {_sentence(report)}")


@command.command(cls=AboutANode)
@click.argument("target", metavar="MODULE:APP")
@click.option(
    "--path", type=click.Path(file_okay=False, exists=True), help="The new code's folder."
)
@click.option("--from", "before", metavar="VERSION", help="What is to run now; else it is refused.")
@click.option(
    "--watch",
    type=Seconds(min=0),
    default=WATCH_S,
    show_default=True,
    help="Seconds of probation; 0: none.",
)
@click.option(
    "--crashes",
    type=click.IntRange(min=1),
    default=CRASHES,
    show_default=True,
    help="So many take it back by then.",
)
@node_option
def upgrade(
    target: str, path: str | None, before: str | None, watch: float, crashes: int, node: str
) -> None:
    """Let a running node import MODULE and go on with its APP, an Application or a Release.

    Connections stay, states are migrated. When anything fails, all goes on as before.
    """
    report = _ask(
        node,
        "release_upgrade",
        target=target,
        path=None if path is None else os.path.abspath(path),
        watch=watch,
        crashes=crashes,
        **{"from": before},
    )
    click.echo(_sentence(report))
    for added in report["added"]:
        supervisor, _, child = added.rpartition("/")
        click.echo(f"new, and not started: {child!r} of {supervisor!r}")
    if report["no_way_back"]:
        click.echo(f"there is no way back: {report['no_way_back']}")


@command.command(cls=AboutANode)
@node_option
def rollback(node: str) -> None:
    """Let a running node go on with the release before. What was acknowledged stays."""
    click.echo(_sentence(_ask(node, "release_rollback")))


@command.command(cls=AboutANode)
@click.argument("target", metavar="[MODULE:APP]", required=False)
@click.option(
    "--path", type=click.Path(file_okay=False, exists=True), help="The new code's folder."
)
@click.option("--from", "before", metavar="VERSION", help="What is to run now; else it is refused.")
@node_option
def replace(target: str | None, path: str | None, before: str | None, node: str) -> None:
    """Replace a node's process: another one takes over its listeners, connections and journal.

    For a new Python, new packages, other options of a listener. Servers without a journal begin
    anew. When the new process does not serve, one of the old release does.
    """
    facts = _ask(
        node,
        "release_replace",
        target=target,
        path=None if path is None else os.path.abspath(path),
        **{"from": before},
    )
    click.echo(f"version {facts['version']} serves, in process {facts['pid']}")
    if facts["is_fallback"]:
        why = facts.get("why") or "its log says why"  # an older pybehave does not say
        click.echo(f"that is the old release: the new process did not serve: {why}")
        sys.exit(1)


@command.command(cls=AboutANode)
@click.argument("target", metavar="MODULE:APP")
@click.option(
    "--path", type=click.Path(file_okay=False, exists=True), help="The new code's folder."
)
@data_option
@config_options
@codec_options
def check(
    target: str,
    path: str | None,
    data: str,
    files: tuple[str, ...],
    settings: tuple[str, ...],
    codec: tuple[Codec, ...],
) -> None:
    """Step a recorded journal again with new code; name the first outcome that differs.

    Nothing is locked, written or sent; the node may run, and is asked then which versions its
    clients speak. Give it the configuration that the node has. Exit status 1: something differs, or
    the new code does not read what the journal holds, or does not understand what is spoken; 3:
    what is there cannot be checked.
    """
    found = load_release(target, path)
    application = found.app if isinstance(found, Release) else found
    migrations = found.migrations if isinstance(found, Release) else {}
    config = read_config(files, settings)
    planned(application, config)
    begin = partial(
        History,
        application,
        data,
        is_strict=False,
        codec=codec,
        schema=partial(UpgradeSchema, migrations=migrations),
        config=config,
    )
    check_folder(data)
    unheard = check_clients(application, data)
    history, lsn, first = _replayed(begin)
    click.echo(f"{history.replay.replayer.inputs} inputs up to lsn {history.replay.replayer.lsn}")
    say_unknown(history, application.name)
    _say_older(history)
    _say_damaged(history, verify(data).problems, is_all=first is None)
    if first is None:
        click.echo(
            f"no outcome differs: {application.name} {application.version} "
            f"{'does not follow, for the clients' if unheard else 'may follow'}"
        )
        sys.exit(1 if unheard else 0)
    status = _say_first(first)
    if lsn is not None:
        _show(begin, lsn)
    sys.exit(status)


def _say_first(first: object) -> int:
    """What kept the code from repeating the journal; returns the exit status."""
    if isinstance(first, Uncheckable):
        click.echo(f"it cannot be checked: {first}")
        return CANNOT_CHECK
    click.echo(f"the first that differs: {first}")
    return 1


def _say_damaged(history: History, problems: list[str], *, is_all: bool) -> None:
    """What cuts the history off; that is an end, if nothing else is to be said."""
    for problem in problems:
        click.echo(f"damaged: {problem}; history ends with lsn {history.last_lsn}")
    if problems and is_all:
        click.echo("no outcome differs before that; what is behind it cannot be checked")
        sys.exit(CANNOT_CHECK)


def _say_older(history: History) -> None:
    """What was made of the inputs of older versions."""
    if history.replay.upcast:
        click.echo("some are of an older version of their class: read by upcast, not compared")
    for name in sorted(history.replay.alike):
        click.echo(
            f"some are of an older version of {name!r}, whose class has no upcast: stepped as they "
            f"are; that is right for `release upgrade`, and not enough for `release replace`"
        )


def _replayed(begin: Callable[..., History]) -> tuple[History, int | None, object]:
    """The history as far as it goes, and the first difference with its lsn."""
    try:
        history = begin()
    except (CodeRefused, Uncheckable) as error:  # already the snapshot
        sys.exit(_say_first(error))
    except (JournalRefused, CodecRefused, SpecError) as error:
        raise Mistake(str(error)) from error
    try:
        history.advance(LSN_MAX)
    except NonDeterminism as error:
        cause = f": {type(error.__cause__).__name__}: {error.__cause__}" if error.__cause__ else ""
        found = history.replay.replayer.differences
        return (history, found[0].lsn, found[0]) if found else (history, None, f"{error}{cause}")
    except JournalRefused as error:
        return history, None, error
    found = history.replay.replayer.differences
    return (history, found[0].lsn, found[0]) if found else (history, None, None)


def _show(begin: Callable[..., History], lsn: int) -> None:
    """What the new code makes of that input."""
    history = begin(to=lsn - 1)
    click.echo("what the new code changes there:")
    show_changes(history, lsn)
    history.close()


def _ask(node: str, verb: str, **words: Any) -> Any:
    try:
        with AdminClient(node) as client:
            return client.ask(verb, wait=CHANGE_S, **words)
    except (RequestRefused, NotAnswered) as error:
        click.echo(f"pybehave: {error}", err=True)
        sys.exit(1)


def _sentence(report: dict[str, Any]) -> str:
    how = "back" if report["is_rollback"] else "on"
    count = len(report["servers"])
    ended = report["ended"]
    return (
        f"{report['application']} went {how} from {report['before']} to {report['after']}: {count} "
        f"server{'' if count == 1 else 's'}, in {report['pause'] * 1000:.1f} ms"
        + (f"; {ended} connection{'' if ended == 1 else 's'} ended" if ended else "")
    )

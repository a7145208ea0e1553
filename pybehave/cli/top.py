"""`pybehave top [PATH]`: what a node does just now, again and again.

On a terminal the screen is drawn by rich, if it is there (`pip install pybehave[top]`), and else
printed anew. `--once` prints one screen of plain text, for scripts.

Does not know: what is counted (observer/activity.py).
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from pybehave.cli.seconds import Seconds
from pybehave.errors import NotAnswered, RequestRefused
from pybehave.observer.activity import Activity
from pybehave.observer.client import AdminClient
from pybehave.runtime.node import DATA

EVERY_S: Final = 2.0

SUBTREES_SHOWN: Final = 8

HEAD_LINES: Final = 8
"""What stands above the servers, beside the subtrees."""


@click.command()
@click.argument("path", default=DATA)
@click.option(
    "--every",
    type=Seconds(min=0.01, max=3600),
    default=EVERY_S,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option("--once", is_flag=True, help="Two looks, one screen of plain text.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a look, without a screen.")
def command(path: str, every: float, once: bool, as_json: bool) -> None:
    """Show the busiest servers, the most restarted subtrees, connections, commits and the loop.

    PATH is the socket that `pybehave run` has named, or the folder of the node's journal (default:
    data). Ctrl-C ends it.
    """
    try:
        with AdminClient(path) as client:
            found = looks(client, every)
            if once or as_json or not sys.stdout.isatty():
                print_all(found, once=once, as_json=as_json)
            else:
                show_all(found)
    except (NotAnswered, RequestRefused) as error:
        click.echo(f"pybehave: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(0)


def looks(
    client: AdminClient, every: float, pause: Callable[[float], None] = time.sleep
) -> Iterator[Activity]:
    """Yield what a node has done since the look before, for ever."""
    before = client.ask("activity")
    while True:
        pause(every)
        after = client.ask("activity")
        yield Activity.between(before, after)
        before = after


def print_all(found: Iterator[Activity], *, once: bool, as_json: bool) -> None:
    """Print looks one below the other."""
    for each in found:
        for line in [as_object(each)] if as_json else lines(each, len(each.servers)):
            click.echo(line)
        sys.stdout.flush()
        if once:
            return


def show_all(found: Iterator[Activity]) -> None:
    """Draw each look in the place of the one before."""
    try:
        from rich.live import Live
        from rich.text import Text
    except ImportError:
        for each in found:
            click.clear()
            click.echo("\n".join(screen(each)))
        return
    with Live(screen=True, auto_refresh=False) as live:
        for each in found:
            live.update(Text("\n".join(screen(each)), no_wrap=True), refresh=True)


def screen(found: Activity) -> list[str]:
    """As many lines as the terminal has, each as long as it is wide at most."""
    size = shutil.get_terminal_size()
    room = size.lines - HEAD_LINES - min(len(found.subtrees), SUBTREES_SHOWN)
    return [line[: size.columns] for line in lines(found, max(1, room))][: size.lines]


def as_object(found: Activity) -> str:
    """A look for programs."""
    fields: dict[str, Any] = found._asdict()
    fields["servers"] = [server._asdict() for server in found.servers]
    fields["subtrees"] = [subtree._asdict() for subtree in found.subtrees]
    return json.dumps(fields)


def lines(found: Activity, servers: int) -> Iterator[str]:
    """A look for people.

    Args:
        servers: How many are shown.
    """
    busy = "?" if found.busy is None else f"{100 * found.busy:.0f} %"
    yield f"{found.name} on {found.source}: {found.health}"
    yield (
        f"loop {busy} busy   {found.connections} connections   {found.commands:,.0f} commands/s   "
        f"{found.crashes} crashes"
    )
    if found.commits is not None:
        took = "" if found.commit_ms is None else f", {found.commit_ms:.2f} ms each"
        yield f"journal {found.records:,.0f} records/s in {found.commits:,.0f} commits/s{took}"
    if found.warning:
        yield f"warning: {found.warning}"
    yield ""
    yield f"{'SUBTREE':40} {'CHILDREN':>8} {'RESTARTS':>8}"
    for subtree in found.subtrees[:SUBTREES_SHOWN]:
        yield f"{subtree.path:40} {subtree.children:8} {subtree.restarts:8}"
    yield ""
    yield f"{'SERVER':40} {'INPUTS/S':>10} {'MAILBOX':>8} {'RESTARTS':>8}  STATE"
    for server in found.servers[:servers]:
        yield (
            f"{server.path:40} {server.rate:10,.0f} {server.mailbox:8} {server.restarts:8}  "
            f"{server.state}"
        )
    more = len(found.servers) - servers
    if more > 0 or found.is_cut:
        yield f"... and {f'{more} ' if not found.is_cut else ''}more"

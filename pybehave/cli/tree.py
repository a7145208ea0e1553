"""`pybehave tree MODULE:APP`: what would be started, in which order."""

from __future__ import annotations

import click

from pybehave.cli.load import Mistake, load
from pybehave.errors import SpecError


@click.command()
@click.argument("target", metavar="MODULE:APP")
@click.option("--json", "as_json", is_flag=True, help="As JSON, which Supervisor.from_json reads.")
def command(target: str, as_json: bool) -> None:
    """Print an application's supervision tree; nothing is started."""
    application = load(target)
    if not as_json:
        click.echo(application.tree.dump())
        return
    try:
        click.echo(application.tree.to_json())
    except SpecError as error:
        raise Mistake(str(error)) from error

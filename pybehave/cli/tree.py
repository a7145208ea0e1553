"""`pybehave tree MODULE:APP`: what would be started, in which order."""

from __future__ import annotations

import click

from pybehave.cli.configuration import config_options, planned, read_config
from pybehave.cli.load import Mistake, load
from pybehave.errors import SpecError


@click.command()
@click.argument("target", metavar="MODULE:APP")
@click.option("--json", "as_json", is_flag=True, help="As JSON, which Supervisor.from_json reads.")
@config_options
def command(target: str, as_json: bool, files: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Print an application's supervision tree; nothing is started.

    If it depends on others, theirs come first, in the order of the start.
    """
    apps = planned(load(target), read_config(files, settings))
    if not as_json:
        for app in apps:
            if len(apps) > 1:
                click.echo(f"application {app.title}")
            click.echo(app.tree.dump())
        return
    try:
        click.echo(apps[-1].tree.to_json())
    except SpecError as error:
        raise Mistake(str(error)) from error

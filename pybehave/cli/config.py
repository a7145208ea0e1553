"""`pybehave config MODULE:APP`: what may be set, what it is, and where that came from."""

from __future__ import annotations

import click

from pybehave import config
from pybehave.cli.configuration import config_options, parts_of, planned, read_config
from pybehave.cli.load import load


@click.command()
@click.argument("target", metavar="MODULE:APP")
@config_options
def command(target: str, files: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Print the environment of an application and of all that it needs; nothing is started."""
    found = read_config(files, settings)
    apps = [part for app in planned(load(target), found) for part in (app, *parts_of(app))]
    lines = config.effective(apps, found)
    for name, key, value, origin in lines:
        click.echo(f"{name}.{key} = {value!r}  ({origin})")
    if not lines:
        click.echo("nothing can be set: no application declares an environment", err=True)

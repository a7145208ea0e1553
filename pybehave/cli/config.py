"""`pybehave config MODULE:APP`: what may be set, what it is, and where that came from."""

from __future__ import annotations

import click

from pybehave import config
from pybehave.behaviours.application import Application
from pybehave.cli.configuration import config_options, planned, read_config
from pybehave.cli.load import load


@click.command()
@click.argument("target", metavar="MODULE:APP")
@config_options
def command(target: str, files: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Print the environment of an application and of all that it needs; nothing is started."""
    found = read_config(files, settings)
    lines = config.effective(_with_parts(planned(load(target), found)), found)
    for name, key, value, origin in lines:
        click.echo(f"{name}.{key} = {value!r}  ({origin})")
    if not lines:
        click.echo("nothing can be set: no application declares an environment", err=True)


def _with_parts(apps: list[Application]) -> list[Application]:
    """Those and the applications that are included in them."""
    return [part for app in apps for part in (app, *_with_parts(list(app.included)))]

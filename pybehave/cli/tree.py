"""`pybehave tree MODULE:APP`: what would be started, in which order."""

from __future__ import annotations

import click

from pybehave.behaviours.application import Application
from pybehave.cli.configuration import (
    config_options,
    deploy_options,
    nodes_of,
    planned,
    read_config,
)
from pybehave.cli.load import Mistake, load
from pybehave.errors import SpecError


@click.command()
@click.argument("target", metavar="MODULE:APP")
@click.option("--json", "as_json", is_flag=True, help="As JSON, which Supervisor.from_json reads.")
@config_options
@deploy_options
def command(
    target: str,
    as_json: bool,
    files: tuple[str, ...],
    settings: tuple[str, ...],
    deploy: str | None,
    as_node: str | None,
) -> None:
    """Print an application's supervision tree; nothing is started.

    If it depends on others, theirs come first, in the order of the start. With --deploy and without
    --as, what each node runs is printed.
    """
    if deploy is not None and as_node is None and not as_json:
        app = load(target)
        nodes = {
            node: planned(app, read_config(files, settings, deploy, node))
            for node in nodes_of(deploy)
        }
        for node, apps in nodes.items():
            click.echo(f"node {node}")
            show(apps)
        return
    apps = planned(load(target), read_config(files, settings, deploy, as_node))
    if not as_json:
        show(apps)
        return
    try:
        click.echo(apps[-1].tree.to_json())
    except SpecError as error:
        raise Mistake(str(error)) from error


def show(apps: list[Application]) -> None:
    """Print the trees of applications, each under its name if there are several."""
    for app in apps:
        if len(apps) > 1:
            click.echo(f"application {app.title}")
        click.echo(app.tree.dump())

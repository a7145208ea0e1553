"""Options of commands that take configuration, and its mistakes in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click

from pybehave import config, deployment
from pybehave.behaviours.application import Application, ensure_all
from pybehave.cli.load import Mistake
from pybehave.config import Config
from pybehave.errors import ConfigError, SpecError
from pybehave.runtime.optional import load_optional

Command = TypeVar("Command", bound=Callable[..., Any])


def config_options(
    command: Command, callback: Callable[[click.Context, click.Parameter, Any], Any] | None = None
) -> Command:
    """Add `--config FILE` and `--set APPLICATION.KEY=VALUE`.

    Args:
        callback: Gets the files before any other option is looked at; None: nobody does.
    """
    with_files = click.option(
        "--config",
        "files",
        multiple=True,
        is_eager=callback is not None,
        callback=callback,
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="TOML: a table for each application, and [pybehave] for the node. Later files win.",
    )
    with_settings = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="APPLICATION.KEY=VALUE",
        help="One value; wins over files.",
    )
    return with_files(with_settings(command))


def deploy_options(command: Command) -> Command:
    """Add `--deploy FILE` and `--as NODE`."""
    with_file = click.option(
        "--deploy",
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="TOML: [deploy], with a node for each child; only what is on NODE is started.",
    )
    with_node = click.option("--as", "as_node", metavar="NODE", help="Which of --deploy this is.")
    return with_file(with_node(command))


def read_config(
    files: tuple[str, ...],
    settings: tuple[str, ...],
    deploy: str | None = None,
    as_node: str | None = None,
) -> Config:
    """What the options say."""
    if (deploy is None) != (as_node is None):
        raise Mistake("--deploy FILE and --as NODE belong together: give both, or none")
    try:
        found = config.read(files, settings)
        if deploy is not None and as_node is not None:
            found.deployment = deployment.read(deploy).on(as_node)
        return found
    except (ConfigError, OSError) as error:
        raise Mistake(str(error)) from error


def nodes_of(deploy: str) -> list[str]:
    """The nodes of a map."""
    try:
        return deployment.read(deploy).nodes
    except (ConfigError, OSError) as error:
        raise Mistake(str(error)) from error


def planned(application: Application, found: Config) -> list[Application]:
    """The applications that would be started, configured, in order.

    Raises:
        Mistake: A tree or a value is not allowed, or a table is nobody's.
    """
    absent: list[str] = []

    def load(target: str) -> Application | None:
        app = load_optional(target)
        if app is None:
            absent.append(target)
        return app

    try:
        whole = replace(found, deployment=None)
        apps = ensure_all(whole.configured(application), config.loader(load, whole))
        _check_tables(found, [part.name for app in apps for part in (app, *parts_of(app))], absent)
        if found.deployment is not None:
            if not absent:
                found.deployment.check_names(app.name for app in apps)
            apps = ensure_all(found.configured(application), config.loader(load, found))
    except (ConfigError, SpecError) as error:
        raise Mistake(str(error)) from error
    return apps


def parts_of(app: Application) -> list[Application]:
    """Those that are included in an application, and in them."""
    return [part for each in app.included for part in (each, *parts_of(each))]


def _check_tables(found: Config, names: list[str], absent: list[str]) -> None:
    """Whose table is nobody's is misspelt; or it is that of an optional one, which is not here.

    Raises:
        ConfigError: Names the table, where it stands, and the applications that there are.
    """
    for name in found.tables:
        if name not in names and not absent:
            origins = [origin for (owner, _), origin in found.origins.items() if owner == name]
            known = ", ".join(names)
            raise ConfigError(
                name, f"there is no such application; there is: {known}", (origins or [""])[0]
            )

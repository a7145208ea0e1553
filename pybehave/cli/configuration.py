"""Options of commands that take configuration, and its mistakes in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from pybehave import config
from pybehave.behaviours.application import Application, ensure_all
from pybehave.cli.load import Mistake
from pybehave.config import Config
from pybehave.errors import ConfigError, SpecError
from pybehave.runtime.optional import load_optional

Command = TypeVar("Command", bound=Callable[..., Any])


def config_options(command: Command) -> Command:
    """Add `--config FILE` and `--set APPLICATION.KEY=VALUE`."""
    with_files = click.option(
        "--config",
        "files",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False),
        metavar="FILE",
        help="TOML: a table for each application. Later files win.",
    )
    with_settings = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="APPLICATION.KEY=VALUE",
        help="One value; wins over files.",
    )
    return with_files(with_settings(command))


def read_config(files: tuple[str, ...], settings: tuple[str, ...]) -> Config:
    """What the options say."""
    try:
        return config.read(files, settings)
    except (ConfigError, OSError) as error:
        raise Mistake(str(error)) from error


def planned(application: Application, found: Config) -> list[Application]:
    """The applications that would be started, configured, in order."""
    try:
        return ensure_all(found.configured(application), config.loader(load_optional, found))
    except (ConfigError, SpecError) as error:
        raise Mistake(str(error)) from error

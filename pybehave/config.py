"""Configuration: files and options become environments, and each value knows where it came from.

A TOML file has a table for each application; later files and then single settings
(`--set kv.port=7000`) win. What no file says has the default that the application declares.

    [kv]
    port = 7000

The table `[pybehave]` is the node's own (cli/node_table.py); no application can be configured that
has this name.

Does not know: what keys mean (behaviours/environment.py checks names and types).
Source: OTP kernel, application: priority of resource file, configuration files, command line.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final

from pybehave.behaviours.application import Application
from pybehave.behaviours.environment import keys_of, merged
from pybehave.deployment import Deployment
from pybehave.errors import ConfigError
from pybehave.toml_files import read_tables

NODE_TABLE: Final = "pybehave"
DEFAULT: Final = "default"
IN_CODE: Final = "in code"


@final
@dataclass(slots=True)
class Config:
    """What was configured.

    Attributes:
        tables: Application -> key -> value.
        origins: (application, key) -> file or option.
        node: What a node is told that the command starts, by key; nothing else reads it.
        deployment: What is left of applications here; None: all.
    """

    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    origins: dict[tuple[str, str], str] = field(default_factory=dict)
    node: dict[str, Any] = field(default_factory=dict)
    deployment: Deployment | None = None

    @classmethod
    def of(cls, tables: Config | Mapping[str, Mapping[str, Any]] | None) -> Config:
        """Return a configuration that was given in code: application -> key -> value."""
        if isinstance(tables, Config):
            return tables
        config = cls()
        for name, table in (tables or {}).items():
            config.add(name, table, IN_CODE)
        return config

    def add(self, name: str, table: Any, origin: str) -> None:
        """Take one application's table; its values win over those that are there.

        Raises:
            ConfigError: It is no table.
        """
        if not isinstance(table, Mapping):
            raise ConfigError(name, "a table is expected, with an application's name", origin)
        self.tables[name] = merged(self.tables.get(name, {}), table)
        for key in table:
            self.origins[name, key] = origin

    def add_node(self, table: Any, origin: str) -> None:
        """Take a file's `[pybehave]`; its values win over those that are there.

        Raises:
            ConfigError: It is no table.
        """
        if not isinstance(table, Mapping):
            raise ConfigError(NODE_TABLE, "a table is expected, with options of the node", origin)
        self.node = merged(self.node, table)
        for key, value in table.items():
            self.origins[NODE_TABLE, key] = origin
            for below in value if isinstance(value, Mapping) else ():
                self.origins[NODE_TABLE, f"{key}.{below}"] = origin

    def origin_of(self, name: str, key: str) -> str:
        """Return where an application's key has its value from."""
        return self.origins.get((name, key), DEFAULT)

    def configured(self, app: Application) -> Application:
        """Return an application, and all it depends on or includes, with these values; cut to what
        is on this node.

        Raises:
            ConfigError: A key or a value is not allowed; says where it came from.
            SpecError: A tree is not allowed with these values.
        """
        app = self.whole(app)
        return app if self.deployment is None else self.deployment.placed(app)

    def whole(self, app: Application) -> Application:
        """Return an application with these values and all its children; see `configured`."""
        depends = tuple(self.whole(each) for each in app.depends)
        included = tuple(self.whole(each) for each in app.included)
        if depends != app.depends or included != app.included:
            app = app.with_parts(depends, included)
        table = self.tables.get(app.name)
        if not table:
            return app
        try:
            return app.configured(table)
        except ConfigError as error:
            key = error.key.removeprefix(f"{app.name}.").partition(".")[0].partition("[")[0]
            origin = self.origins.get((app.name, key), "")
            raise ConfigError(error.key, error.detail, origin) from error


def read(paths: Iterable[str | Path], settings: Iterable[str] = ()) -> Config:
    """Read files in order, then single settings.

    Args:
        paths: TOML files.
        settings: As "kv.port=7000"; the value is TOML, or else a text.

    Raises:
        ConfigError: A file is not TOML or longer than 1 MiB, or a setting has another form.
        OSError: A file cannot be read.
    """
    config = Config()
    for path in paths:
        for name, table in read_tables(path).items():
            if name == NODE_TABLE:
                config.add_node(table, str(path))
            else:
                config.add(name, table, str(path))
    for setting in settings:
        _take_setting(config, setting)
    return config


def _take_setting(config: Config, setting: str) -> None:
    place, equals, text = setting.partition("=")
    name, dot, path = place.strip().partition(".")
    if not (equals and dot and name and path):
        raise ConfigError(setting, "write APPLICATION.KEY=VALUE", "--set")
    if name == NODE_TABLE:
        option = path.replace("_", "-")
        raise ConfigError(setting, f"the node's own options are said as --{option}", "--set")
    try:
        value: Any = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    key, *rest = path.split(".")
    for part in reversed(rest):
        value = {part: value}
    config.add(name, {key: value}, f"--set {place.strip()}")


def effective(apps: Iterable[Application], config: Config) -> list[tuple[str, str, Any, str]]:
    """Return application, key, value and origin of everything that may be configured."""
    return [
        (app.name, key, getattr(app.env, key), config.origin_of(app.name, key))
        for app in apps
        for key in (keys_of(type(app.env)) or () if app.env is not None else ())
    ]


def loader(
    load: Callable[[str], Application | None], config: Config
) -> Callable[[str], Application | None]:
    """Return a function that loads an optional application and configures it."""

    def loaded(target: str) -> Application | None:
        found = load(target)
        if found is None or (
            config.deployment and config.deployment.is_absent(config.whole(found))
        ):
            return None
        return config.configured(found)

    return loaded

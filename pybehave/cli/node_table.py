"""`[pybehave]` in a file of `--config`: what `pybehave run` is told, as a table.

    [pybehave]                          # the options of `run`, by their long names
    listen = ["tcp://0.0.0.0:6379"]
    drain-timeout = 3                   # or drain_timeout
    metrics = "127.0.0.1:9100"
    buffers = 2048                      # of Node, which no option has

    [pybehave.journal]                  # pybehave.journal.recovery.Options
    depth = 2

    [pybehave.health]                   # pybehave.runtime.health.HealthLimits
    failing_after = 60

The command line wins, then the environment, then the files, the later ones first, then the default.
Each value is looked at when the file is read, so that a mistake names the file and the key; then it
goes the way of the option.

What a file must not say: `--reset`, which would lose at every start what the journal keeps; other
files (a map of deployment is one), and settings of applications, which have tables of their own.

Does not know: what the options do.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import click
import msgspec

from pybehave.behaviours.heart import HeartRules
from pybehave.behaviours.rules import is_count, is_number
from pybehave.cli.configuration import read_config
from pybehave.cli.load import Mistake
from pybehave.cli.recovery_report import check_report
from pybehave.cli.sockets import Sockets
from pybehave.config import NODE_TABLE, Config
from pybehave.errors import ConfigError, SpecError, show
from pybehave.journal.recovery import Options
from pybehave.listener import parse_url
from pybehave.runtime.health import HealthLimits
from pybehave.runtime.node_options import LOOP_DEFAULTS, NODE_RULES

BACKEND_VARIABLE: Final = "PYBEHAVE_BACKEND"

META: Final = "pybehave.node_table"
"""Where the command's context keeps what a file says and no option takes."""

NOT_IN_A_FILE: Final = frozenset({"files", "settings", "show_config", "reset", "deploy", "as_node"})

OF_NODE: Final = ("seed", *LOOP_DEFAULTS)
"""Options of Node that no option of the command is."""

HAS_OPTION: Final[Mapping[str, frozenset[str]]] = {
    "journal": frozenset({"segment_bytes", "codec"}),
    "health": frozenset({"every"}),
}
"""Fields that stand in `[pybehave]` itself, for the command has an option for them."""


def _journal(**fields: Any) -> object:
    for name, value in fields.items():
        if (name == "strict") != isinstance(value, bool) or not isinstance(value, int):
            allowed = "true or false" if name == "strict" else "an integer"
            raise ValueError(f"{name}={show(value)} is not allowed; use {allowed}")
    return Options(**fields)


MORE_CHECKS: Final[Mapping[str, Callable[[Any], object]]] = {
    "listen": lambda urls: [parse_url(url) for url in urls],
    "segment_bytes": lambda value: Options(segment_bytes=value),
    "recovery_report": check_report,
    "admin": lambda path: Sockets(path, no_admin=False, metrics=None).checked(),
    "metrics": lambda place: Sockets(None, no_admin=False, metrics=place).checked(),
    "heart_timeout": lambda value: HeartRules(timeout=value),
    "heart_restarts": lambda value: HeartRules(intensity=value),
    "heart_period": lambda value: HeartRules(period=value),
}
"""What is otherwise looked at only behind the options."""

PARTS: Final[Mapping[str, tuple[Callable[..., object], dict[str, Any]]]] = {
    "journal": (_journal, {each.name: each.default for each in dataclasses.fields(Options)}),
    "health": (
        HealthLimits,
        {each.name: each.default for each in msgspec.structs.fields(HealthLimits)},
    ),
}
"""The tables below `[pybehave]`: what checks a field, and the fields with their defaults."""


def take_files(
    context: click.Context, _parameter: click.Parameter, files: tuple[str, ...]
) -> tuple[str, ...]:
    """Let the options have what the files say, where the command line does not; `--config` is
    eager, so the others are looked at after it.

    Raises:
        Mistake: A key or a value is not allowed; names the file and the key.
    """
    found = read_config(files, ())
    options = _options_of(context)
    table: dict[str, Any] = {}
    for key, value in found.node.items():
        name = key.replace("-", "_")
        try:
            if name in table:
                raise ValueError("it is there twice, once with - and once with _")
            table[name] = _checked(context, options, name, value)
        except ConfigError as error:
            origin = found.origin_of(NODE_TABLE, f"{key}.{error.key}")
            where = f"{NODE_TABLE}.{key}.{error.key}"
            raise Mistake(str(ConfigError(where, error.detail, origin))) from error
        except (ValueError, SpecError, Mistake, click.BadParameter) as error:
            origin = found.origin_of(NODE_TABLE, key)
            detail = getattr(error, "message", "") or str(error)
            raise Mistake(str(ConfigError(f"{NODE_TABLE}.{key}", detail, origin))) from error
    if os.environ.get(BACKEND_VARIABLE):
        table.pop("backend", None)  # the environment is nearer to the start than a file
    context.default_map = {name: value for name, value in table.items() if name in options}
    rest = {name: value for name, value in table.items() if name not in options}
    context.meta[META] = (rest, found)
    return files


def _options_of(context: click.Context) -> dict[str, click.Option]:
    return {
        parameter.name: parameter
        for parameter in context.command.params
        if isinstance(parameter, click.Option)
        and parameter.expose_value
        and parameter.name is not None
        and parameter.name not in NOT_IN_A_FILE
    }


def _checked(
    context: click.Context, options: dict[str, click.Option], name: str, value: Any
) -> Any:
    """A value as the option, or the node, takes it."""
    if name in options:
        _check_type(options[name], value)
        options[name].type_cast_value(context, value)
        if name in MORE_CHECKS:
            MORE_CHECKS[name](value)
        return value
    if name in OF_NODE:
        if not NODE_RULES[name].accepts(value):
            raise ValueError(f"{show(value)} is not allowed; use {NODE_RULES[name].allowed}")
        return value
    if name in PARTS:
        return _part(name, value)
    if name in NOT_IN_A_FILE:
        raise ValueError("this can be said on the command line only")
    known = [*options, *OF_NODE, *PARTS]
    alike = difflib.get_close_matches(name, known, 1)
    raise ValueError(
        f"there is no such option; {f'is it {alike[0]}?' if alike else 'there is'} "
        f"{'' if alike else ', '.join(sorted(known))}".strip()
    )


def _check_type(option: click.Option, value: Any) -> None:
    """A text that happens to be a number is none: a file has types."""
    if option.is_flag:
        is_right, allowed = isinstance(value, bool), "true or false"
    elif option.multiple:
        is_right = isinstance(value, list) and all(isinstance(each, str) for each in value)
        allowed = "a list of texts"
    elif isinstance(option.type, click.IntRange):
        is_right, allowed = is_count(value), "an integer >= 0"
    elif isinstance(option.type, click.FloatRange):
        is_right, allowed = is_number(value), "a number of seconds"
    else:
        is_right, allowed = isinstance(value, str), "a text"
    if not is_right:
        raise ValueError(f"{show(value)} is not allowed; use {allowed}")


def _part(name: str, table: Any) -> dict[str, Any]:
    """The fields of a table below `[pybehave]`."""
    check, fields = PARTS[name]
    allowed = [each for each in fields if each not in HAS_OPTION[name]]
    if not isinstance(table, dict):
        raise ValueError(f"a table is expected, with {', '.join(allowed)}")
    for key, value in table.items():
        if key not in allowed:
            raise ConfigError(key, f"there is no such option; there is {', '.join(allowed)}")
        try:
            check(**{key: value})
        except (ValueError, SpecError) as error:
            raise ConfigError(key, str(error)) from error
    return table


# --- what was said --------------------------------------------------------------------------------


def said(part: str = "") -> dict[str, Any]:
    """Return what the files say and no option takes, for the command that runs.

    Args:
        part: The table below `[pybehave]`; "" is Node's own options.
    """
    rest, _ = _kept(click.get_current_context())
    if part:
        found: dict[str, Any] = rest.get(part, {})
        return found
    return {name: value for name, value in rest.items() if name in OF_NODE}


def origin_of(context: click.Context, name: str) -> str:
    """Return the file that an option has its value from."""
    _, found = _kept(context)
    return _origin(found, name)


def others(context: click.Context) -> Iterator[tuple[str, Any, Any, str]]:
    """Yield name, value, default and file ("" = none) of what only a file can say."""
    rest, found = _kept(context)
    for name in OF_NODE:
        default = LOOP_DEFAULTS.get(name, 0)  # a seed of 0
        yield f"{NODE_TABLE}.{name}", rest.get(name, default), default, _origin(found, name)
    for part, (_, fields) in PARTS.items():
        for name, default in fields.items():
            if name not in HAS_OPTION[part]:
                value = rest.get(part, {}).get(name, default)
                origin = found.origins.get((NODE_TABLE, f"{part}.{name}"), "")
                yield f"{NODE_TABLE}.{part}.{name}", value, default, origin


def _origin(found: Config, name: str) -> str:
    origins = found.origins
    key = (NODE_TABLE, name)
    return origins.get(key) or origins.get((NODE_TABLE, name.replace("_", "-")), "")


def _kept(context: click.Context) -> tuple[dict[str, Any], Config]:
    kept: tuple[dict[str, Any], Config] = context.meta.get(META, ({}, Config()))
    return kept

"""`pybehave run --show-config`: every setting, its value, its default, where the value comes from.

    --drain-timeout = 3.0  (argument; the default is 10.0)
    --backend = 'epoll'  (environment PYBEHAVE_BACKEND; the default is 'auto')
    --metrics = '127.0.0.1:9100'  (shop.toml; the default is None)
    pybehave.journal.depth = 1  (default)
    kv.port = 7000  (shop.toml; the default is 6379)
    root Supervisor(intensity=) = 10  (in code; the default is 1)
    Worker(mailbox=) = 1024  (default)

What is in force comes first: options, environments of applications, what the code says of its
supervisors, workers and listeners. Then what holds wherever the code says nothing. The defaults are
read from the signatures themselves, so that there is no second list that could be wrong; the pages
that name defaults are tested against this (tests/docs/test_limits.py).

Does not know: what a setting means.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import click
from click.core import ParameterSource

from pybehave import config
from pybehave.actions import Run
from pybehave.behaviours.application import Application
from pybehave.behaviours.asyncio_task import AsyncioTask
from pybehave.behaviours.backoff import Backoff
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.pool import Pool
from pybehave.behaviours.supervisor import ROOT_ID, Supervisor
from pybehave.cli import node_table
from pybehave.cli.configuration import parts_of
from pybehave.cli.node_table import BACKEND_VARIABLE
from pybehave.config import DEFAULT, IN_CODE, Config
from pybehave.journal.recovery import Options
from pybehave.listener import Listener
from pybehave.runtime.health import HealthLimits
from pybehave.runtime.node import Node

ARGUMENT: Final = "argument"

DEFAULTS: Final[Mapping[str, Callable[..., Any]]] = {
    "Supervisor": Supervisor,
    "Worker": Worker,
    "Backoff": Backoff,
    "Pool": Pool,
    "AsyncioTask": AsyncioTask,
    "Run": Run,
    "Listener": Listener,
    "Node": Node,
    "node.call": Node.call,
    "Options": Options,
    "HealthLimits": HealthLimits,
}
"""Where a program says what it wants, as the documentation writes it."""

ALWAYS_SHOWN: Final = ("strategy", "intensity", "period")
"""Of a supervisor, also when it is the default: what decides how long it bears failures."""

UNTOLD: Final = ("children", "args", "server", "id", "name", "protocol", "url", "to")
"""What is no setting: the tree itself, which `pybehave tree` shows."""


@final
@dataclass(frozen=True, slots=True)
class Setting:
    """One line.

    Attributes:
        name: As an option, a key or a parameter.
        value: What is in force.
        default: What would be, if nobody had said anything.
        origin: Where the value comes from.
    """

    name: str
    value: Any
    default: Any
    origin: str

    def __str__(self) -> str:
        default = "" if self.origin == DEFAULT else f"; the default is {self.default!r}"
        return f"{self.name} = {self.value!r}  ({self.origin}{default})"


def settings(
    context: click.Context, apps: Iterable[Application], found: Config
) -> Iterator[Setting]:
    """Yield everything that may be set for a run.

    Args:
        context: Of the command, its options parsed.
        apps: Those that would be started, configured, in order.
        found: What files and `--set` say.
    """
    yield from of_options(context)
    for name, value, default, origin in node_table.others(context):
        yield Setting(name, value, default, origin or DEFAULT)
    parts = [part for app in apps for part in (app, *parts_of(app))]
    yield from of_environments(parts, found)
    for index, app in enumerate(parts):
        is_primary = index == len(parts) - 1
        yield from of_tree(app.tree, app.tree.id or (ROOT_ID if is_primary else app.name))
        for listener in app.listeners:
            yield from _of(f"{listener.name} Listener", listener, Listener, ())
    for name, function in DEFAULTS.items():
        yield from of_signature(name, function)


def of_options(context: click.Context) -> Iterator[Setting]:
    """Yield the options of a command and their values."""
    for option in context.command.params:
        if not isinstance(option, click.Option) or option.name in (None, "show_config"):
            continue
        if not option.expose_value:
            continue  # it confirms another one
        assert option.name is not None
        value, default = context.params[option.name], _default_of(option, context)
        source = context.get_parameter_source(option.name)
        is_given = source is ParameterSource.COMMANDLINE
        origin = ARGUMENT if is_given else DEFAULT
        if source is ParameterSource.DEFAULT_MAP:
            origin = node_table.origin_of(context, option.name)
        if source is ParameterSource.ENVIRONMENT:
            origin = f"environment {option.envvar}"
        if option.name == "backend":
            default = "auto"
            if origin == DEFAULT and os.environ.get(BACKEND_VARIABLE):
                origin = f"environment {BACKEND_VARIABLE}"
            value = value or os.environ.get(BACKEND_VARIABLE) or default
        yield Setting(max(option.opts, key=len), value, () if option.multiple else default, origin)


def _default_of(option: click.Option, context: click.Context) -> Any:
    """What an option would be without files."""
    files, context.default_map = context.default_map, None
    try:
        return option.get_default(context)
    finally:
        context.default_map = files


def of_environments(apps: list[Application], found: Config) -> Iterator[Setting]:
    """Yield what applications declare, with the values of files and options."""
    defaults = {app.name: type(app.env)() for app in apps if app.env is not None}
    for name, key, value, origin in config.effective(apps, found):
        default = getattr(defaults[name], key)
        is_coded = origin == DEFAULT and value != default
        yield Setting(f"{name}.{key}", value, default, IN_CODE if is_coded else origin)


def of_tree(tree: Supervisor, path: str) -> Iterator[Setting]:
    """Yield what the code says of a supervisor and of all below it."""
    yield from _of(f"{path} Supervisor", tree, Supervisor, ALWAYS_SHOWN)
    for child_id, child in zip(tree.child_ids, tree.children, strict=True):
        below = f"{path}/{child_id}"
        if isinstance(child, Supervisor):
            yield from of_tree(child, below)
        else:
            yield from _of(f"{below} Worker", child, Worker, ())


def _of(
    prefix: str, described: Any, function: Callable[..., Any], always: tuple[str, ...]
) -> Iterator[Setting]:
    """Yield the fields of a description that are not what they are by default, and some always."""
    for name, parameter in inspect.signature(function).parameters.items():
        if name in UNTOLD or not hasattr(described, name):
            continue
        value, default = getattr(described, name), parameter.default
        if value != default or name in always:
            is_default = value == default
            yield Setting(f"{prefix}({name}=)", value, default, DEFAULT if is_default else IN_CODE)


def of_signature(name: str, function: Callable[..., Any]) -> Iterator[Setting]:
    """Yield what holds where a program says nothing."""
    for each in inspect.signature(function).parameters.values():
        if each.default is not inspect.Parameter.empty:
            yield Setting(f"{name}({each.name}=)", each.default, each.default, DEFAULT)

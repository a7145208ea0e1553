"""Options of `pybehave run` for a parent process that looks after the one that serves."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import click
from click.core import ParameterSource

from pybehave.behaviours.heart import INTENSITY, PERIOD_S, TIMEOUT_S, HeartRules
from pybehave.cli.load import Mistake
from pybehave.cli.logs import configure_logging
from pybehave.cli.reset import without_reset
from pybehave.cli.seconds import Seconds
from pybehave.errors import SpecError
from pybehave.runtime.heart import child as heart_child
from pybehave.runtime.heart.parent import keep_alive

Function = Callable[..., Any]


OPTIONS = (
    click.option(
        "--heart",
        is_flag=True,
        help="Serve in a child process: one that dies, or whose loop stands still, is followed by "
        "another, which goes on from the journal and listens on the same sockets.",
    ),
    click.option(
        "--heart-timeout",
        type=Seconds(min=0),
        default=TIMEOUT_S,
        show_default=True,
        help="Seconds that one step may last before the child is ended; 0: it never is.",
    ),
    click.option(
        "--heart-restarts",
        type=click.IntRange(min=0),
        default=INTENSITY,
        show_default=True,
        help="So many restarts are borne ...",
    ),
    click.option(
        "--heart-period",
        type=Seconds(min=0, min_open=True),
        default=PERIOD_S,
        show_default=True,
        help="... in so many seconds; with one more the parent ends, too, with status 1.",
    ),
)


def heart_options(function: Function) -> Function:
    """Add `--heart` and what belongs to it; with it, `function` runs in a child process."""

    @functools.wraps(function)
    def begin(
        *,
        heart: bool,
        heart_timeout: float,
        heart_restarts: int,
        heart_period: float,
        **options: Any,
    ) -> None:
        if not heart:
            check_unused()
        if not heart or options["show_config"] or heart_child.is_looked_after():
            function(**options)
            return
        configure_logging(options["log_level"], options["log_format"])
        try:
            rules = HeartRules(heart_timeout, heart_restarts, heart_period)
        except SpecError as error:
            raise Mistake(str(error)) from error
        program = (sys.executable, "-m", "pybehave")
        words = (*program, *sys.argv[1:])
        again = (*program, *without_reset(sys.argv[1:]))
        folder = None if options["no_journal"] else options["data"]
        try:
            status = keep_alive(words, rules, again=again, data=folder)
        except OSError as error:
            click.echo(f"pybehave: no process can be started: {error}", err=True)
            status = 1
        sys.exit(status)

    for option in reversed(OPTIONS):
        begin = option(begin)
    return begin


def check_unused() -> None:
    """A mistake when it is said how to look after a process, and nobody does."""
    context = click.get_current_context()
    for name in ("heart_timeout", "heart_restarts", "heart_period"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise Mistake(f"--{name.replace('_', '-')} needs --heart")

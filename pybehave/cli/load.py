"""Finds the application that MODULE:APP names; every mistake is one sentence."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec

import click

from pybehave.behaviours.application import Application
from pybehave.errors import SpecError


class Mistake(click.ClickException):
    """What the user can mend: one sentence on stderr, exit status 2."""

    exit_code = 2

    def show(self, file: object = None) -> None:
        """Print it as the command's own word."""
        click.echo(f"pybehave: {self.format_message()}", err=True)


def load(target: str) -> Application:
    """Import MODULE and return its APP.

    Raises:
        Mistake: No such module or attribute, not an Application, or a tree that is not allowed.
    """
    module_name, colon, attribute = target.partition(":")
    if not colon or not module_name or not attribute:
        raise Mistake(f"{target!r} is not MODULE:APP; write for example examples.kv:app")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = find_spec(module_name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        raise Mistake(f"there is no module {module_name!r} here or in {sys.prefix}")
    try:
        module = import_module(module_name)
    except SpecError as error:
        raise Mistake(str(error)) from error
    application = getattr(module, attribute, None)
    if application is None:
        names = [n for n, value in vars(module).items() if isinstance(value, Application)]
        raise Mistake(
            f"module {module_name!r} has no {attribute!r}; it has: {', '.join(names) or 'none'}"
        )
    if not isinstance(application, Application):
        kind = type(application).__name__
        raise Mistake(f"{target} is a {kind}, not a pybehave.Application")
    return application

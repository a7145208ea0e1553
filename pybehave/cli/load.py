"""Finds the application that MODULE:APP names; every mistake is one sentence."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

import click

from pybehave.behaviours.application import Application
from pybehave.behaviours.release import Release
from pybehave.errors import SpecError

logger = logging.getLogger("pybehave")


class Mistake(click.ClickException):
    """What the user can mend: one sentence on stderr, exit status 2."""

    exit_code = 2

    def show(self, file: object = None) -> None:
        """Print it as the command's own word."""
        click.echo(f"pybehave: {self.format_message()}", err=True)


def _where(module_name: str, error: BaseException) -> str:
    """What went wrong at an import, and in which line of the user's."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and not frame.filename.startswith("<")
    ]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    return (
        f"importing {module_name!r} failed: {type(error).__name__}: {error}{place}; "
        f"--log-level debug shows the traceback"
    )


def load(target: str, folder: str | None = None) -> Application:
    """Import MODULE and return its APP; that of a Release is its application.

    Args:
        target: "MODULE:APP".
        folder: Where to look first; None = here.

    Raises:
        Mistake: No such module or attribute, not an Application, or a tree that is not allowed.
    """
    module_name, colon, attribute = target.partition(":")
    if not colon or not module_name or not attribute:
        raise Mistake(f"{target!r} is not MODULE:APP; write for example examples.kv:app")
    place = os.getcwd() if folder is None else os.path.abspath(folder)
    if place not in sys.path:
        sys.path.insert(0, place)
    module = _imported(module_name, attribute)
    application = getattr(module, attribute, None)
    if application is None:
        kinds = Application | Release
        names = [n for n, value in vars(module).items() if isinstance(value, kinds)]
        raise Mistake(
            f"module {module_name!r} has no {attribute!r}; it has: {', '.join(names) or 'none'}"
        )
    if isinstance(application, Release):
        return application.app
    if not isinstance(application, Application):
        kind = type(application).__name__
        raise Mistake(f"{target} is a {kind}, not a pybehave.Application")
    return application


def _imported(module_name: str, attribute: str) -> ModuleType:
    try:
        found = find_spec(module_name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        if module_name.endswith(".py") or "/" in module_name:
            name = module_name.removeprefix("./").removesuffix(".py").replace("/", ".")
            raise Mistake(f"{module_name!r} is a file; name the module: {name}:{attribute}")
        raise Mistake(f"there is no module {module_name!r} here or in {sys.prefix}")
    try:
        return import_module(module_name)
    except SpecError as error:
        raise Mistake(str(error)) from error
    except SyntaxError as error:
        raise Mistake(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the module does at its import is the user's
        logger.debug("importing %s failed", module_name, exc_info=error)
        raise Mistake(_where(module_name, error)) from error

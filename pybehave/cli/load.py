"""Finds the application that MODULE:APP names; every mistake is one sentence."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from pybehave.behaviours.application import Application
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.release import Release
from pybehave.behaviours.supervisor import Supervisor
from pybehave.errors import SpecError
from pybehave.runtime.release.code import elsewhere

logger = logging.getLogger("pybehave")


class Mistake(click.ClickException):
    """What the user can mend: one sentence on stderr, exit status 2."""

    exit_code = 2

    def show(self, file: object = None) -> None:
        """Print it as the command's own word."""
        click.echo(f"pybehave: {self.format_message()}", err=True)


def load(target: str, folder: str | None = None) -> Application:
    """Import MODULE and return its APP; that of a Release is its application. See load_release."""
    found = load_release(target, folder)
    return found.app if isinstance(found, Release) else found


def load_release(target: str, folder: str | None = None) -> Application | Release:
    """Import MODULE and return its APP.

    Args:
        target: "MODULE:APP".
        folder: Where it must be; None = here, or among the installed packages.

    Raises:
        Mistake: No such module or attribute, not an Application, or a tree that is not allowed.
    """
    module_name, colon, attribute = target.partition(":")
    if not colon or not module_name or not attribute:
        raise Mistake(f"{target!r} is not MODULE:APP; write first:app for `app` in first.py")
    try:
        place = os.getcwd() if folder is None else os.path.abspath(folder)
    except FileNotFoundError as error:
        raise Mistake("the current folder has been removed; go to another") from error
    if place not in sys.path:
        sys.path.insert(0, place)
    module = _imported(module_name, attribute, None if folder is None else place)
    if not hasattr(module, attribute):
        raise Mistake(_without(module, attribute))
    application = getattr(module, attribute)
    if not isinstance(application, Application | Release):
        raise Mistake(f"{target} is {_said(application, attribute)}")
    return application


def _imported(module_name: str, attribute: str, folder: str | None) -> ModuleType:
    try:
        found = find_spec(module_name)
    except (ImportError, ValueError):
        found = None
    if found is None:
        if module_name.endswith(".py") or "/" in module_name:
            raise Mistake(_named(module_name, attribute))
        raise Mistake(f"there is no module {module_name!r} here or in {sys.prefix}")
    if other := elsewhere(found, folder):
        raise Mistake(other)
    try:
        return import_module(module_name)
    except SpecError as error:
        raise Mistake(str(error)) from error
    except SyntaxError as error:
        raise Mistake(_unreadable(found, error)) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever the module does at its import is the user's
        logger.debug("importing %s failed", module_name, exc_info=error)
        raise Mistake(_where(module_name, error)) from error


def _named(path: str, attribute: str) -> str:
    """How a file that was named by its path is to be named."""
    folder, name = os.path.split(os.path.normpath(path.removesuffix(".py")))
    if folder.startswith((os.pardir, os.sep)):
        return (
            f"{path!r} is a path; go to its folder with `cd {folder}`, and name the module: "
            f"{name}:{attribute}"
        )
    module_name = os.path.join(folder, name).replace(os.sep, ".")
    return f"{path!r} is a path; name the module: {module_name}:{attribute}"


def _unreadable(found: ModuleSpec, error: SyntaxError) -> str:
    """What Python does not take for a program, and in which line."""
    line = "" if error.lineno is None else f", line {error.lineno}"
    return f"{error.filename or found.origin}{line}: {error.msg}"


def _where(module_name: str, error: BaseException) -> str:
    """What went wrong at an import, and in which line of the user's."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "importlib" not in frame.filename and not frame.filename.startswith("<")
    ]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 1 else ""
    if isinstance(error, SystemExit):
        return (
            f"importing {module_name!r} ends the program{place}; what a script does goes below "
            f'`if __name__ == "__main__":`'
        )
    return (
        f"importing {module_name!r} failed: {type(error).__name__}: {error}{place}; "
        f'python -c "import {module_name}" shows the traceback'
    )


def _without(module: ModuleType, attribute: str) -> str:
    """What a module has instead of an attribute."""
    name = module.__name__
    if getattr(module, "__file__", None) is None and hasattr(module, "__path__"):
        files = sorted({each.stem for path in module.__path__ for each in Path(path).glob("*.py")})
        if not files:
            return f"{name!r} is a folder without any module in it"
        inside = f"{name}.{files[0]}:{attribute}"
        return f"{name!r} is a folder, not a module; name a module in it, as {inside}"
    kinds = Application | Release
    names = [each for each, value in vars(module).items() if isinstance(value, kinds)]
    others = f"it has: {', '.join(names)}" if names else "it has no Application at all"
    return f"module {name!r} has no {attribute!r}; {others}"


def _said(found: Any, attribute: str) -> str:
    """What a thing is that is no Application, and what to make of it."""
    if isinstance(found, type):
        return f"the class {found.__name__}, not a pybehave.Application"
    kind = type(found).__name__
    what = f"{'an' if kind[0] in 'aeiouAEIOU' else 'a'} {kind}, not a pybehave.Application"
    if isinstance(found, Supervisor):
        return f'{what}; wrap it: app = Application("NAME", {attribute})'
    if isinstance(found, Worker):
        tree = f'Supervisor("one_for_one", [{attribute}])'
        return f'{what}; wrap it: app = Application("NAME", {tree})'
    if callable(found):
        return f"{what}; if it makes one, write app = {attribute}(), and name that"
    return what

"""Applications that are there or not: "MODULE:APP" to the Application, or None."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from pybehave.behaviours.application import Application
from pybehave.errors import SpecError


def load_optional(target: str) -> Application | None:
    """Import an optional application; None when its module is not installed.

    Raises:
        SpecError: The module is there, but has no such application.
        Exception: Whatever the module raises at its import.
    """
    name, _, attribute = target.partition(":")
    try:
        found = find_spec(name)
    except ModuleNotFoundError:  # the package that it would be in
        found = None
    if found is None:
        return None
    app = getattr(import_module(name), attribute, None)
    if not isinstance(app, Application):
        raise SpecError(f"optional={target!r}", f"module {name!r} has no application {attribute!r}")
    return app

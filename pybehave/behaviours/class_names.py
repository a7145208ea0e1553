"""Classes by their names, for behaviours whose journaled state names classes.

Does not know: what the classes are for.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, TypeVar

from pybehave.errors import show

T = TypeVar("T")


def name_of(kind: type) -> str:
    """Return what `class_named` finds a class by: "module:Class"."""
    return f"{kind.__module__}:{kind.__qualname__}"


def class_named(name: str, base: type[T]) -> type[T]:
    """Return the class of a name.

    Raises:
        ImportError, AttributeError: It is not there any more.
        TypeError: It is no subclass of `base`.
    """
    place, _, path = name.partition(":")
    found: Any = import_module(place)
    for part in path.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and issubclass(found, base)):
        raise TypeError(f"{show(name)} is no {base.__name__} class")
    return found

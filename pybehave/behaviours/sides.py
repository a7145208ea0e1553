"""Which classes may be sides of a combination, and how its version is made of theirs.

Theory. A version of a combination is a number like any other, for the journal keeps it where it
keeps those of other classes. So that it says of each side which version that was, it has three
digits for each server in it: versions 2 and 3 are 2003.

Not for a side: what says not, when it comes, for whom it is; what stands for something beside the
loop (pools, asyncio); event managers, which take casts in batches.

Does not know: what a combination does with its sides (combined.py).
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.inputs import classes_of
from pybehave.behaviours.schema import is_version
from pybehave.errors import SpecError, show

Sides: TypeAlias = tuple[type[GenServer[Any, Any, Any]], ...]

RADIX: Final = 1000
"""Versions of a server in a combination are below this: three digits, to be read by people."""

SERVERS_MAX: Final = 6
"""The journal's integers have 64 bits, so no more than six times three digits."""


def check_sides(name: str, sides: tuple[Any, ...]) -> None:
    """Refuse classes that cannot be combined.

    Args:
        name: Of the combination, for the error.
        sides: What was given.

    Raises:
        SpecError: A class cannot be a side, or not beside the others; says why.
    """
    if len(sides) < 2:
        raise SpecError(name, "a combination has two sides or more")
    for kind in sides:
        if not (isinstance(kind, type) and issubclass(kind, GenServer)):
            raise SpecError(name, f"side {show(kind)} is not allowed; use a GenServer class")
        why = _unfit(kind)
        if why:
            raise SpecError(name, f"{kind.__qualname__} cannot be a side: {why}")
    if servers_in(sides) > SERVERS_MAX:
        raise SpecError(name, f"it is made of more than {SERVERS_MAX} servers")
    if len({kind.trap_exit for kind in sides}) > 1:
        raise SpecError(name, "its sides end together, so all have the same trap_exit")
    known: dict[str, type] = {}
    for kind in sides:
        own = kind._names(kind.version) | {each.__qualname__: each for each in kind.types}
        for word, meant in own.items():
            if known.setdefault(word, meant) is not meant:
                raise SpecError(
                    name, f"two sides mean different classes by {word!r} (types, aliases)"
                )


def _unfit(kind: type[GenServer[Any, Any, Any]]) -> str:
    """Why a class cannot be a side; "" = it can."""
    if kind._handle_together is None:
        return "it is an event manager, or stands for something beside the loop; give it a worker"
    if kind.via is not GenServer.via:
        return "it is found by a key of its own (via)"
    if classes_of(kind.ephemeral):
        return "its ephemeral inputs could not be told from those of other sides"
    if not _sides_of(kind) and not (is_version(kind.version) and kind.version < RADIX):
        return f"version={show(kind.version)} is not allowed; use an integer from 1 to {RADIX - 1}"
    return ""


# --- versions as digits ----------------------------------------------------------------------


def servers_in(sides: Sides) -> int:
    """Return of how many servers that are no combinations some sides are made."""
    return sum(servers_in(_sides_of(kind)) or 1 for kind in sides)


def version_of_all(sides: Sides) -> int:
    """Return the version of a combination: versions 2 and 3 are 2003."""
    version = 0
    for kind in sides:
        version = version * RADIX ** servers_in((kind,)) + kind.version
    return version


def versions_of(sides: Sides, version: int) -> list[int]:
    """Return each side's version in one of the combination; 0 = there was no such side."""
    found = []
    for kind in reversed(sides[1:]):
        version, own = divmod(version, RADIX ** servers_in((kind,)))
        found.append(own)
    return [version, *reversed(found)]


def _sides_of(kind: type[GenServer[Any, Any, Any]]) -> Sides:
    """Of what a class is made; a server that is no combination is made of nothing."""
    sides: Sides = getattr(kind, "sides", ())
    return sides

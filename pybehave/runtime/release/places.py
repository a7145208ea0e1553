"""Where the contract of a connection stands, on its way to another process.

A state of plain values (those that a journal takes without declared types) goes along. Another one
cannot: then its connection is told so at its next message, and ends (behaviours/contract.py).

Does not know: connections, what a state means.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from pybehave._uring.values import Values
from pybehave.behaviours.contract import VERSION_LOST, Place

Held: TypeAlias = list[tuple[int, int, bytes, Place | None]]
"""Connections that are handed over: as `Loop.held` returns them."""


def portable(place: Place | None) -> list[Any]:
    """Return a place as plain JSON: [version, state in hexadecimal digits], [] for None."""
    if place is None:
        return []
    values = Values()
    try:
        return [place.version, values.encode(place.state).hex()]
    except Exception:  # noqa: BLE001 -- whatever its classes do while they are looked at
        return [VERSION_LOST, values.encode(None).hex()]


def carried(said: list[Any]) -> Place | None:
    """Return the place that `portable` was given."""
    if not said:
        return None
    version, digits = said
    return Place(version, Values().decode(bytes.fromhex(digits)))

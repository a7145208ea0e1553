"""What a change of release means for those who are connected: which versions of a listener's
messages are understood before and after.

A listener keeps its socket and its protocol; what changes is the version that its server speaks
(behaviours/speaks.py). A release that does not understand what is spoken is refused before anything
is touched.

Does not know: servers, states (release/specs.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pybehave.behaviours.application import Application
from pybehave.behaviours.speaks import Edge, Speaks
from pybehave.listener import Listener

if TYPE_CHECKING:
    from pybehave._uring.loop import Loop
    from pybehave._uring.servers import Port
    from pybehave.runtime.applications import Running

Ports = list[tuple[Listener, "Port"]]


def misunderstood(loop: Loop, ports: Ports, app: Application) -> str:
    """Say what is spoken to an application and not understood by the next one; "" = nothing is.

    Args:
        loop: Of the node that runs.
        ports: Its listeners, in the order of the application's.
        app: What is to run.
    """
    for (listener, port), after in zip(ports, app.listeners, strict=True):
        why = too_old(range_of(after), spoken_at(loop, port))
        if why:
            return f"listener {listener.name!r}: {why}"
    return ""


def range_of(listener: Listener) -> tuple[int, int]:
    """Return the oldest and the newest version that a listener understands."""
    speaks = listener.speaks or Speaks()
    return speaks.oldest, speaks.version


def spoken_at(loop: Loop, port: Port) -> dict[int, int]:
    """Return how many connections speak which version; with none, what its server speaks, and what
    new ones would.
    """
    return {port.version: 0, port.greeting: 0} | loop.spoken(port)


def too_old(understood: tuple[int, int], spoken: Mapping[int, int]) -> str:
    """Say which versions are too old for a listener; "" = none is.

    Args:
        understood: The oldest and the newest version that it understands.
        spoken: How many connections speak which version.
    """
    oldest, newest = understood
    version = min(spoken)
    if oldest <= version:
        return ""
    count = spoken[version]
    who = f"{count} connection{'s' if count > 1 else ''}" if count else "its server"
    verb = "speak" if count > 1 else "speaks"
    known = f"version {newest} alone" if oldest == newest else f"versions {oldest} to {newest}"
    return (
        f"{who} {verb} version {version} of its messages, and the new one understands {known}; "
        f"give its Speaks a Bridge for each version from {version} on"
    )


def put_edges(ports: Ports, app: Application) -> Callable[[], None]:
    """Let servers be spoken to as the next release's, under its contracts; returns what takes that
    back. Where the contract of a connection stands is kept: it is of one version (contract.py, K3).
    """
    before = [(port, port.edge, port.contract) for _, port in ports]
    for (_, port), after in zip(ports, app.listeners, strict=True):
        port.speak(Edge(after.speaks, port.edge))
        port.agree(after.contract)

    def put_back() -> None:
        for port, edge, contract in before:
            port.speak(edge)
            port.agree(contract)

    return put_back


def settle_edges(loop: Loop, ports: Ports) -> int:
    """The release has changed: new connections speak as it does, and those that it does not
    understand end; returns how many those are.
    """
    for _, port in ports:
        port.greet()
    return sum(loop.end_misunderstood(port) for _, port in ports)


def facts_of(loop: Loop, running: Iterable[Running]) -> list[dict[str, Any]]:
    """Return, for each listener, whose it is, what it understands, and what is spoken to it."""
    return [
        {
            "application": each.app.name,
            "name": listener.name,
            "version": port.version,
            "oldest": port.edge.speaks.oldest,
            "spoken": sorted(spoken_at(loop, port).items()),
        }
        for each in running
        for listener, port in each.ports
    ]

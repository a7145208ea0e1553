"""All that a node counts, gathered when somebody asks: of the loop, servers, crashes, journal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pybehave.runtime.node import Node


def counters_of(node: Node) -> dict[str, Any]:
    """Return them; on the loop's thread."""
    dispatcher = node.loop.dispatcher
    servers = {}
    for name in dispatcher.names():
        server = dispatcher.whereis(name)
        if server is None:
            continue
        servers[name] = {
            "incarnation": server.incarnation,
            "inputs": server.inputs,
            "mailbox": server.mailbox_count,
            "timers": server.timers_count,
            "callers": server.callers_count,
        }
        beside = getattr(server.instance, "beside", None)
        if beside is not None:
            servers[name]["beside"] = beside.stats()
    return {**totals_of(node), "servers": servers}


def totals_of(node: Node) -> dict[str, Any]:
    """Return those that are not of single servers; on the loop's thread."""
    found = {
        **node.loop.stats(),
        "crashes": node.host.crashes.count,
        "pools": node.host.pools.stats(),
    }
    if node.host.isolation is not None:
        found["isolation"] = node.host.isolation.stats()
    if node.watchdog is not None:
        found["watchdog"] = node.watchdog.stats()
    if node.journal is not None:
        found["journal"] = node.journal.stats()
    return found

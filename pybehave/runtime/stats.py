"""All counters of a node in one place: what `node.stats()` returns.

Plain numbers, read on the loop's thread between turns; reading them changes nothing.

Does not know: who shows them, and how.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pybehave.runtime.node import Node


def stats_of(node: Node) -> dict[str, Any]:
    """Return the counters of the loop, its servers, the pools, and of what else the node has."""
    host = node.host
    found = {
        **node.loop.stats(),
        "servers": _servers(node),
        "crashes": host.crashes.count,
        "pools": host.pools.stats(),
    }
    if host.isolation is not None:
        found["isolation"] = host.isolation.stats()
    if node.watchdog is not None:
        found["watchdog"] = node.watchdog.stats()
    if node.journal is not None:
        found["journal"] = node.journal.stats()
    return found


def _servers(node: Node) -> dict[str, Any]:
    dispatcher = node.loop.dispatcher
    servers: dict[str, Any] = {}
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
    return servers

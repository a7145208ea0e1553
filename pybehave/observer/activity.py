"""What a node does just now: two looks at its counters become rates.

    before = client.ask("activity"); ...; after = client.ask("activity")
    Activity.between(before, after).rows

The node says what has been counted; whoever looks twice divides. So nothing is kept in the node for
those who look, and any number of them can.

A subtree's restarts are those of its supervisor and of all below it. What fails often belongs low
in the tree, under a supervisor of its own (features.md A3-13): if a direct child of a root is what
is restarted most, each of its restarts spends the budget whose end is the end of the program, and
`warning` says so.

Does not know: sockets, terminals (cli/top.py).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.plan import Status
from pybehave.runtime.counters import totals_of

if TYPE_CHECKING:
    from pybehave.runtime.health import Health
    from pybehave.runtime.node import Node
    from pybehave.runtime.tree.supervisor import SupervisorNode

SERVERS_MAX: Final = 2000
"""Servers told of in one look, in the order of their start; a screen has fifty."""

RESTARTS_MIN: Final = 5
"""Fewer restarts of a root's child are no pattern."""


# --- in the node ----------------------------------------------------------------------------------


def activity(node: Node, health: Health) -> dict[str, Any]:
    """Return what has been counted up to now; on the loop's thread.

    Args:
        health: What `node.watch.look` has found just now.
    """
    stats = totals_of(node)
    supervisors = {
        path: supervisor
        for tree in node.applications.trees()
        for path, supervisor in tree.supervisors.items()
    }
    workers = itertools.chain.from_iterable(_workers(each) for each in supervisors.values())
    found = list(itertools.islice(workers, SERVERS_MAX + 1))
    journal = stats.get("journal", {})
    return {
        "name": node.app.name,
        "source": node.loop.source,
        "now": node.loop.now(),
        "health": str(health),
        "busy_s": stats["loop"]["busy_ns"] / 1e9,
        "commands": stats["loop"]["commands"],
        "crashes": stats["loop"]["crashes"],
        "connections": stats["connections"]["open"],
        "commits": journal.get("frames"),
        "records": journal.get("records"),
        "commit_s": journal.get("latency_us_sum", 0) / 1e6,
        "servers": found[:SERVERS_MAX],
        "is_cut": len(found) > SERVERS_MAX,
        "subtrees": [_subtree(node, path, each) for path, each in supervisors.items()],
    }


def _workers(supervisor: SupervisorNode) -> Iterator[dict[str, Any]]:
    for child in supervisor.state.children.values():
        if not isinstance(child.spec, Worker):
            continue
        server = child.ref
        is_running = child.status is Status.RUNNING and hasattr(server, "inputs")
        yield {
            "server": f"{supervisor.path}/{child.id}",
            "state": child.status.value,
            "restarts": child.restarts,
            "incarnation": server.incarnation if is_running else 0,
            "inputs": server.inputs if is_running else 0,
            "mailbox": server.mailbox_count if is_running else 0,
        }


def _subtree(node: Node, path: str, supervisor: SupervisorNode) -> dict[str, Any]:
    return {
        "path": path,
        "children": len(supervisor.state.children),
        "restarts": node.watch.failures.restarted.get(path, 0),
        "restarted": getattr(supervisor.entry, "restarts", 0),  # itself; a root never is
    }


# --- at whoever looks -----------------------------------------------------------------------------


class Server(NamedTuple):
    """One server between two looks.

    Attributes:
        path: Ids from the root.
        state: "running", "restarting", "stopped".
        rate: Inputs a second.
        mailbox: Inputs that wait.
        restarts: How often its supervisor has started it again.
    """

    path: str
    state: str
    rate: float
    mailbox: int
    restarts: int


class Subtree(NamedTuple):
    """One supervisor and all below it.

    Attributes:
        path: Ids from the root.
        children: In its own list.
        restarts: In the whole subtree.
    """

    path: str
    children: int
    restarts: int


class Activity(NamedTuple):
    """What a node did between two looks.

    Attributes:
        name: The application's.
        source: The completion source.
        health: In one line.
        busy: The share of time in which the loop did not wait; None when no time has passed.
        commands: Messages from connections, a second.
        connections: That are open.
        crashes: Of all time.
        commits: Of the journal, a second; None without one.
        records: As many, in records.
        commit_ms: How long a commit took on average; None when there was none.
        servers: The busiest first.
        subtrees: The most restarted first.
        is_cut: There are more servers than these.
        warning: What is wrong with the shape of the tree; "" = nothing.
    """

    name: str
    source: str
    health: str
    busy: float | None
    commands: float
    connections: int
    crashes: int
    commits: float | None
    records: float | None
    commit_ms: float | None
    servers: list[Server]
    subtrees: list[Subtree]
    is_cut: bool
    warning: str

    @classmethod
    def between(cls, before: dict[str, Any], after: dict[str, Any]) -> Activity:
        """Return what has happened from one look to a later one."""
        seconds = after["now"] - before["now"]
        has_journal = after["commits"] is not None and before["commits"] is not None

        def rate(field: str) -> float:
            return (after[field] - before[field]) / seconds if seconds > 0 else 0.0

        commits = after["commits"] - before["commits"] if has_journal else 0
        return cls(
            after["name"],
            after["source"],
            after["health"],
            rate("busy_s") if seconds > 0 else None,
            rate("commands"),
            after["connections"],
            after["crashes"],
            rate("commits") if has_journal else None,
            rate("records") if has_journal else None,
            1000 * (after["commit_s"] - before["commit_s"]) / commits if commits else None,
            _servers(before, after, seconds),
            _summed(after["subtrees"]),
            after["is_cut"],
            _warning(after),
        )


def _servers(before: dict[str, Any], after: dict[str, Any], seconds: float) -> list[Server]:
    known = {row["server"]: row for row in before["servers"]}
    found = []
    for row in after["servers"]:
        old = known.get(row["server"])
        is_same = old is not None and old["incarnation"] == row["incarnation"]
        inputs = row["inputs"] - (old["inputs"] if old is not None and is_same else 0)
        rate = inputs / seconds if seconds > 0 else 0.0
        found.append(Server(row["server"], row["state"], rate, row["mailbox"], row["restarts"]))
    return sorted(found, key=lambda server: (-server.rate, -server.mailbox, -server.restarts))


def _summed(subtrees: list[dict[str, Any]]) -> list[Subtree]:
    """Each supervisor with what was restarted below it."""
    found = []
    for row in subtrees:
        inside = f"{row['path']}/"
        below = sum(other["restarts"] for other in subtrees if other["path"].startswith(inside))
        found.append(Subtree(row["path"], row["children"], row["restarts"] + below))
    return sorted(found, key=lambda subtree: (-subtree.restarts, subtree.path))


def _warning(after: dict[str, Any]) -> str:
    """Whether a direct child of a root is what is restarted most."""
    counts = {row["server"]: row["restarts"] for row in after["servers"]}
    counts |= {row["path"]: row["restarted"] for row in after["subtrees"]}
    most = max(counts, key=lambda path: counts[path], default="")
    root, _, own = most.rpartition("/")
    if not root or "/" in root or counts[most] < RESTARTS_MIN:
        return ""
    return (
        f"{own!r} is restarted most ({counts[most]} times) and stands directly below {root!r}, "
        f"whose end is the application's: give it a supervisor of its own"
    )

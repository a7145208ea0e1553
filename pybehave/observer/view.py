"""What is seen of a node: plain values, bounded, made on the loop's thread between two inputs.

Whoever looks must not hold up the loop: long lists are cut and say so, states are shown as text of
a bounded length, and nothing is gathered as long as nobody asks.

Does not know: who asks, sockets.
"""

from __future__ import annotations

import itertools
import os
import reprlib
from typing import TYPE_CHECKING, Any, Final

from pybehave._version import __version__
from pybehave.errors import show_reason
from pybehave.runtime.counters import totals_of
from pybehave.runtime.crashes import as_texts

if TYPE_CHECKING:
    from pybehave.runtime.node import Node

LINES_MAX: Final = 2000
"""Of a list or tree that is shown at once; a screen has fifty."""

CRASHES_SHOWN: Final = 5

_state = reprlib.Repr()
_state.maxlevel = 8
_state.maxdict = _state.maxlist = _state.maxtuple = _state.maxset = _state.maxfrozenset = 100
_state.maxdeque = _state.maxarray = 100
_state.maxstring = _state.maxother = _state.maxlong = 1000


def shown(value: Any) -> str:
    """Return a state as text: as much as can be read, and never an exception."""
    try:
        return _state.repr(value)
    except Exception as error:  # noqa: BLE001 -- looking must not fail because a repr does
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"


def greeting(node: Node) -> dict[str, Any]:
    """Return whom one talks to."""
    return {
        "name": node.app.name,
        "application": node.app.version,
        "version": __version__,
        "pid": os.getpid(),
        "source": node.loop.source,
    }


def servers(node: Node, match: str = "") -> dict[str, Any]:
    """Return the servers whose names contain a text, as rows in the order of their first start."""
    of_trees = [tree.workers for tree in node.applications.trees()]
    found = (
        server
        for server in node.loop.dispatcher.servers()
        if match in server.name
        and any(server in workers for workers in of_trees)  # all but the admin socket's own
    )
    rows = [
        {
            "server": server.name,
            "incarnation": server.incarnation,
            "kind": type(server.instance).__qualname__,
            "mode": "suspended" if server.control and server.control.is_suspended else "running",
            "inputs": server.inputs,
            "mailbox": server.mailbox_count,
            "callers": server.callers_count,
            "timers": server.timers_count,
        }
        for server in itertools.islice(found, LINES_MAX)
    ]
    return {"rows": rows, "is_cut": next(found, None) is not None}


def tree(node: Node) -> dict[str, Any]:
    """Return the supervision trees of all applications as lines."""
    lines = itertools.chain.from_iterable(tree.lines() for tree in node.applications.trees())
    return {
        "lines": list(itertools.islice(lines, LINES_MAX)),
        "is_cut": next(lines, None) is not None,
    }


def server(node: Node, name: str) -> dict[str, Any]:
    """Return everything about one server; its state and log are text.

    Raises:
        NoProc: There is none.
    """
    status = node.sys.get_status(name)
    facts = fields_of(status)
    facts["state"] = shown(status.state)
    facts["debug"] = list(status.debug)
    del facts["machine"]
    facts |= {} if status.machine is None else as_texts(status.machine)
    log = status.log if isinstance(status.log, list) else [status.log]
    facts["log"] = [str(event) for event in log[-LINES_MAX:]]
    own = [report for report in node.host.crashes if report.server == name]
    facts["crashes"] = [
        {"crash_id": report.crash_id, "at": report.at, "reason": show_reason(report.reason)}
        for report in own[-CRASHES_SHOWN:]
    ]
    return facts


def fields_of(record: Any) -> dict[str, Any]:
    """Return a record's fields by name, the values as they are."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def crashes(node: Node, name: str | None) -> dict[str, Any]:
    """Return the newest crash reports, of one server or of all, oldest first."""
    own = [report for report in node.host.crashes if name in (None, report.server)]
    return {"rows": [report.as_dict() for report in own], "is_cut": False}


def statistics(node: Node) -> dict[str, Any]:
    """Return all counters but those of single servers."""
    found = totals_of(node)
    found["servers"] = sum(len(tree.workers) for tree in node.applications.trees())
    found["suspended"] = node.loop.dispatcher.suspended_count
    return found

"""A supervisor as simple as it can be said: what the real one is compared with.

Independent of the package: plain lists and recursion, OTP's window taken literally, everything at
once. It knows no phases, no plans and nothing that takes time; a retry waits in `retries`.
"""

from typing import Any

PERIOD = 5.0


class Node:
    """A child in a list: a worker, or a supervisor with `children` of its own while it runs."""

    def __init__(self, spec: dict[str, Any], parent: "Node | None" = None) -> None:
        self.spec = spec
        self.id = spec["id"]
        self.parent = parent
        self.status = "stopped"
        self.children: list[Node] = []
        self.window: list[float] = []
        self.is_dead = False

    @property
    def is_supervisor(self) -> bool:
        return "children" in self.spec


class GaveUp(Exception):
    """A supervisor ended by itself; its parent handles it."""


class Model:
    def __init__(self, spec: dict[str, Any]) -> None:
        self.root = Node(spec)
        self.now = 0.0
        self.trace: list[str] = []
        self.fails: dict[str, int] = {}
        self.retries: list[tuple[Node, object]] = []

    # --- starting and stopping ------------------------------------------------

    def start(self, node: Node) -> bool:
        if not node.is_supervisor:
            fails = self.fails.get(node.id, 0)
            self.fails[node.id] = max(0, fails - 1)
            self.trace.append(f"{'initfail' if fails else 'init'} {node.id}")
            node.status = "stopped" if fails else "running"
            return not fails
        node.children = [Node(child, node) for child in node.spec["children"]]
        node.window = []
        node.is_dead = False
        for child in node.children:
            if not self.start(child):
                self.stop_all(node)
                return False
        node.status = "running"
        return True

    def stop(self, node: Node) -> None:
        if node.status == "running":
            if node.is_supervisor:
                self.stop_all(node)
            else:
                self.trace.append(f"term {node.id}")
        node.status = "stopped"

    def stop_all(self, node: Node) -> None:
        for child in reversed(node.children):
            self.stop(child)
        node.children = []

    # --- a child ended ----------------------------------------------------------

    def crash(self, name: str, reason: str) -> None:
        node = self.find(name)
        if node is None or node.status != "running" or node.is_supervisor:
            return
        self.trace.append(f"term {name}")
        self.ended(node, reason)

    def ended(self, node: Node, reason: str) -> None:
        node.status = "stopped"
        parent = node.parent
        if parent is None:
            return
        restart = node.spec["restart"]
        if restart == "temporary":
            parent.children.remove(node)
        if restart == "permanent" or (restart == "transient" and reason == "boom"):
            self.attempt(parent, node)

    def attempt(self, parent: Node, node: Node) -> None:
        parent.window = [time for time in parent.window if time >= self.now - PERIOD]
        parent.window.append(self.now)
        if len(parent.window) > parent.spec["intensity"]:
            node.status = "stopped"
            self.stop_all(parent)
            self.ended(parent, "shutdown")
            return
        place = parent.children.index(node)
        strategy = parent.spec["strategy"]
        first, last = place, place + 1
        if strategy != "one_for_one":
            last = len(parent.children)
        if strategy == "one_for_all":
            first = 0
        group = parent.children[first:last]
        for child in reversed(group):
            if child is not node:
                self.stop(child)
        node.status = "stopped"
        for child in group:
            if child.spec["restart"] == "temporary":
                parent.children.remove(child)
        for child in group:
            if child.spec["restart"] != "temporary" and not self.start(child):
                child.status = "restarting"
                child.window = [-1.0]
                ticket = object()
                child.ticket = ticket  # type: ignore[attr-defined]
                self.retries.append((child, ticket))
                return

    def retry(self) -> None:
        node, ticket = self.retries.pop(0)
        is_due = node.status == "restarting" and node.ticket is ticket  # type: ignore[attr-defined]
        if is_due and node.parent is not None and self.is_alive(node):
            self.attempt(node.parent, node)

    # --- requests ---------------------------------------------------------------

    def terminate(self, name: str) -> None:
        node = self.find(name)
        if node is not None and node.parent is not None:
            self.stop(node)
            if node.spec["restart"] == "temporary":
                node.parent.children.remove(node)

    def restart(self, name: str) -> None:
        node = self.find(name)
        if node is not None and node.parent is not None and node.status == "stopped":
            self.start(node)

    def delete(self, name: str) -> None:
        node = self.find(name)
        if node is not None and node.parent is not None and node.status == "stopped":
            node.parent.children.remove(node)

    # --- looking ----------------------------------------------------------------

    def nodes(self, node: Node | None = None) -> list[Node]:
        top = node or self.root
        return [top, *(below for child in top.children for below in self.nodes(child))]

    def find(self, name: str) -> Node | None:
        return next((node for node in self.nodes() if node.id == name), None)

    def is_alive(self, node: Node) -> bool:
        return any(other is node for other in self.nodes())

    def states(self) -> dict[str, list[tuple[str, str]]]:
        return {
            node.id: [(child.id, child.status) for child in reversed(node.children)]
            for node in self.nodes()
            if node.is_supervisor and node.status == "running"
        }

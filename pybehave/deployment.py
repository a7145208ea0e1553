"""Deployment: which node runs which children of which applications.

Theory. A node is one process with one loop, and nothing is sent from one to another: what calls
what by name has to be on the same one. What need not be (shards, a ledger beside a chat) can be
divided among processes, on one machine or several, by a map from paths in the tree to nodes' names:

    [deploy]
    "shop/web" = "edge"             # the child `web` of application `shop`
    "shop/shards/one" = "left"
    "shop/shards/two" = "right"
    audit = "left"                  # a whole application

`pybehave run MODULE:APP --deploy FILE --as left` starts the tree without what is on other nodes,
and the listeners whose servers are left. An application without children of its own (one that only
depends on others) is on every node.

Invariants
  (M1) The whole map is looked at by every node that starts with it: each child stands on exactly
       one node, and no key is nobody's.
  (M2) What a supervisor binds together is on one node: the children of any strategy but
       one_for_one, of one that ends with a child (auto_shutdown), and what an application depends
       on beside it.
  (M3) A release is cut as what it follows was: the map stays with the configuration.

Does not know: machines, addresses; which server calls which.
Source: detsys, "deployment map"; OTP kernel, distributed applications, for what this is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final, final

from pybehave.behaviours.application import Application
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.supervisor import ChildSpec, Supervisor
from pybehave.errors import ConfigError, show
from pybehave.toml_files import read_tables

TABLE: Final = "deploy"


@final
@dataclass(frozen=True, slots=True)
class Deployment:
    """A map, and the node that is started with it.

    Attributes:
        places: Path in the tree, its application first, -> name of a node.
        node: Which one is started.
        origin: The file.
    """

    places: Mapping[str, str]
    node: str
    origin: str

    @property
    def nodes(self) -> list[str]:
        """The names of all nodes, in the order of the file."""
        return list(dict.fromkeys(self.places.values()))

    def on(self, node: str) -> Deployment:
        """Return the same map for another node.

        Raises:
            ConfigError: It has no such node.
        """
        if node not in self.nodes:
            known = ", ".join(self.nodes)
            raise ConfigError("--as", f"{node!r} is no node; there is: {known}", self.origin)
        return replace(self, node=node)

    def check_names(self, applications: Iterable[str]) -> None:
        """Make sure that no key is nobody's (M1).

        Raises:
            ConfigError: An application is not among these.
        """
        names = list(applications)
        for key in self.places:
            if key.partition("/")[0] not in names:
                raise self._wrong(
                    key, f"there is no such application; there is: {', '.join(names)}"
                )

    def placed(self, app: Application) -> Application:
        """Return what this node runs of an application, and of those it depends on.

        Raises:
            ConfigError: A key is not allowed (M1, M2).
        """
        own = self.nodes_of(app)
        for each in app.depends:
            theirs = self.nodes_of(each)
            if own and theirs and not (len(theirs) == 1 and own == theirs):
                raise self._wrong(
                    app.name,
                    f"it depends on {each.name!r}, so all of both stands on one node: it is on "
                    f"{_list(own)}, and {each.name!r} on {_list(theirs)}",
                )
        depends = tuple(self.placed(each) for each in app.depends if not self.is_absent(each))
        return app.with_parts(depends, app.included).cut_by(partial(self._cut_root, app.name))

    def is_absent(self, app: Application) -> bool:
        """Say whether all children of an application are on other nodes."""
        nodes = self.nodes_of(app)
        return bool(nodes) and self.node not in nodes

    def nodes_of(self, app: Application) -> set[str]:
        """Return on which nodes an application's children are; it has none: on no special one.

        Raises:
            ConfigError: A key is not allowed.
        """
        uncut = app.uncut_tree()
        keys = {key for key in self.places if key.partition("/")[0] == app.name}
        unknown = keys - {path for path, _ in _paths(app.name, uncut)}
        for key in sorted(unknown):
            known = ", ".join(path for path, _ in _paths(app.name, uncut))
            raise self._wrong(key, f"there is no such child; there is: {known}")
        return self._cut(app.name, uncut, "")[1] if uncut.children else set()

    def _cut_root(self, name: str, tree: Supervisor) -> Supervisor:
        if not tree.children:
            return tree
        found, _ = self._cut(name, tree, "")
        assert found is None or isinstance(found, Supervisor)
        return tree.with_only([]) if found is None else found

    def _cut(self, path: str, spec: ChildSpec, above: str) -> tuple[ChildSpec | None, set[str]]:
        """What is left of a child here, and on which nodes it is; `above`: what places it."""
        if path in self.places:
            if above:
                where = f"with {above!r} on {self.places[above]!r}"
                raise self._wrong(path, f"it is placed twice: {where}, and by itself")
            above = path
        if isinstance(spec, Worker) or spec.is_simple or not spec.children:
            if not above:
                raise self._wrong(path, "it is on no node: give it one, or what it is a part of")
            node = self.places[above]
            return spec if node == self.node else None, {node}
        kept: list[ChildSpec] = []
        nodes: set[str] = set()
        for child_id, child in zip(spec.child_ids, spec.children, strict=True):
            found, theirs = self._cut(f"{path}/{child_id}", child, above)
            nodes |= theirs
            if found is not None:
                kept.append(found if found.id is not None else _named(found, child_id))
        if len(nodes) > 1:
            self._check_divisible(path, spec, nodes)
        if len(kept) == len(spec.children) and nodes == {self.node}:
            return spec, nodes
        return spec.with_only(kept) if kept else None, nodes

    def _check_divisible(self, path: str, spec: Supervisor, nodes: set[str]) -> None:
        """(M2)."""
        for field, loose in (("strategy", "one_for_one"), ("auto_shutdown", "never")):
            value = getattr(spec, field)
            if value != loose:
                raise self._wrong(
                    path,
                    f"its children are on {_list(nodes)}, and {field}={show(value)} binds them "
                    f"together: put all on one node",
                )

    def _wrong(self, key: str, detail: str) -> ConfigError:
        return ConfigError(key, detail, self.origin)


def read(path: str | Path) -> Deployment:
    """Read a map; for no node yet (`Deployment.on`).

    Args:
        path: A TOML file with a table `[deploy]`, and nothing else.

    Raises:
        ConfigError: It is not TOML or longer than 1 MiB, or has another form.
        OSError: It cannot be read.
    """
    origin = str(path)
    tables = read_tables(path)
    for name in tables:
        if name != TABLE:
            raise ConfigError(name, f"only a table [{TABLE}] stands in a map", origin)
    places = tables.get(TABLE)
    if not isinstance(places, dict) or not places:
        raise ConfigError(TABLE, 'a table is expected, as "shop/web" = "edge"', origin)
    for key, node in places.items():
        if not isinstance(node, str) or not node:
            detail = f"{show(node)} is not allowed; use the name of one node (a path is quoted)"
            raise ConfigError(key, detail, origin)
    return Deployment(places, "", origin)


def _paths(path: str, spec: ChildSpec) -> Iterator[tuple[str, ChildSpec]]:
    """What can be placed: not what is made of templates."""
    yield path, spec
    if isinstance(spec, Supervisor) and not spec.is_simple:
        for child_id, child in zip(spec.child_ids, spec.children, strict=True):
            yield from _paths(f"{path}/{child_id}", child)


def _named(spec: ChildSpec, child_id: str) -> ChildSpec:
    """A supervisor whose id was made from its place keeps it when others before it go."""
    assert isinstance(spec, Supervisor)
    return spec.with_id(child_id)


def _list(nodes: set[str]) -> str:
    return ", ".join(repr(each) for each in sorted(nodes))

"""The supervision tree as plain data: a node is a strategy and an ordered list of children.

A tree is built from `Worker` and `Supervisor`, checked at construction, printed with `dump`,
written to JSON and read back, and walked depth-first. Nothing here starts anything.

Invariants
  (S1) A `Supervisor` that exists is valid, and so is everything below it.
  (S2) Ids are unique among siblings; worker names are unique in the whole tree.
  (S3) Every child has an id: its own, or for a nested supervisor without one its place,
       "supervisor-2" for the second child.
  (S4) Levels nest at most `DEPTH_MAX` deep, so a depth-first walk cannot exhaust the stack.
  (S5) A "simple_one_for_one" has exactly one child, a worker: the template of those it will have.

Does not know: the running tree (tree/tree.py) and what a failure does (restart.py).
Source: OTP stdlib, supervisor, `sup_flags()`, `check_childspecs/2`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, TypeAlias, final

from pybehave.behaviours.backoff import BACKOFF_RULE, Backoff
from pybehave.behaviours.child_spec import BOOL_RULE, ID_RULE, RESTART_RULE, SHUTDOWN_RULE, Worker
from pybehave.behaviours.policies import policies_in
from pybehave.behaviours.rules import Rule, check, is_count, is_number, one_of, refused
from pybehave.errors import SpecError, show
from pybehave.types import AutoShutdown, Restart, ShutdownLimit, Strategy

INTENSITY: Final = 1
"""OTP's default: one restart ..."""

PERIOD_S: Final = 5.0
"""... in five seconds."""

DEPTH_MAX: Final = 64
"""Deeper trees are mistakes; starting takes a few Python frames per level out of 1000."""

ROOT_ID: Final = "root"
"""The first part of every path when the outermost supervisor has no id."""

SIMPLE: Final = "simple_one_for_one"

RESUME_EVERY_S: Final = 0.1
"""Between two starts after a pause: what was down should not be met by everybody at once."""

OPTIONAL_SECONDS: Final = Rule(
    lambda value: value is None or (is_number(value) and value > 0), "seconds > 0, or None"
)

SUPERVISOR_RULES: Final[Mapping[str, Rule]] = {
    "strategy": one_of("one_for_one", "one_for_all", "rest_for_one", SIMPLE),
    "id": Rule(lambda value: value is None or ID_RULE.accepts(value), ID_RULE.allowed),
    "intensity": Rule(is_count, "an integer >= 0"),
    "period": Rule(lambda value: is_number(value) and value > 0, "seconds > 0"),
    "decay": OPTIONAL_SECONDS,
    "backoff": BACKOFF_RULE,
    "resume_every": Rule(lambda value: is_number(value) and value >= 0, "seconds >= 0"),
    "reset_after": OPTIONAL_SECONDS,
    "pass_through": BOOL_RULE,
    "pattern": Rule(
        lambda value: value is None or (isinstance(value, str) and value != ""),
        'a pattern of names, as "user-*", or None',
    ),
    "idle": OPTIONAL_SECONDS,
    "auto_shutdown": one_of("never", "any_significant", "all_significant"),
    "restart": RESTART_RULE,
    "shutdown": SHUTDOWN_RULE,
    "significant": BOOL_RULE,
}


@final
@dataclass(frozen=True, slots=True, init=False)
class Supervisor:
    """A node of the tree: how its children are restarted, and which children it has, in order.

    Attributes:
        strategy: Who is restarted with a failed child: "one_for_one" only it, "one_for_all" all,
            "rest_for_one" it and those after it; "simple_one_for_one" only it, too, and all are
            of one kind and come later, by start_child.
        children: In start order; for "simple_one_for_one" the template alone.
        id: Unique among its siblings; needed for a child added later.
        intensity: So many restarts ...
        period: ... in so many seconds are borne; with one more the supervisor gives up.
        decay: Seconds in which the count of restarts halves; with it, `intensity` is what that
            count may reach, and `period` does not matter. None is OTP's window.
        backoff: What one restart too many leads to: a pause so long, in which failed children
            wait and the others run. None is to give up.
        resume_every: Seconds between the starts of those that waited for the end of a pause.
        reset_after: Seconds without a restart after which all are forgotten; None is never.
        pass_through: An exception of a child is not supervised: it ends the node, and `run`, or the
            `with` block of a started application, raises it. For finding mistakes.
        pattern: Names that are started by the first message for them (`family`); None is no name.
        idle: Seconds without an input after which one of these is stopped; None is never.
        auto_shutdown: Whether the end of significant children ends the supervisor.
        restart: How its own supervisor treats its end.
        shutdown: How long its own supervisor waits for it; "infinity" unless there is a reason.
        significant: Whether its end may end its own supervisor.

    Raises:
        SpecError: Names the child, the field, its value and what is allowed.
    """

    strategy: Strategy
    children: tuple[ChildSpec, ...]
    id: str | None
    intensity: int
    period: float
    decay: float | None
    backoff: Backoff | None
    resume_every: float
    reset_after: float | None
    pass_through: bool
    pattern: str | None
    idle: float | None
    auto_shutdown: AutoShutdown
    restart: Restart
    shutdown: ShutdownLimit
    significant: bool
    child_ids: tuple[str, ...] = field(repr=False, compare=False)
    depth: int = field(repr=False, compare=False)

    def __init__(
        self,
        strategy: Strategy,
        children: Iterable[ChildSpec],
        *,
        id: str | None = None,  # noqa: A002 -- OTP's word for it
        intensity: int = INTENSITY,
        period: float = PERIOD_S,
        decay: float | None = None,
        backoff: Backoff | None = None,
        resume_every: float = RESUME_EVERY_S,
        reset_after: float | None = None,
        pass_through: bool = False,
        pattern: str | None = None,
        idle: float | None = None,
        auto_shutdown: AutoShutdown = "never",
        restart: Restart = "permanent",
        shutdown: ShutdownLimit = "infinity",
        significant: bool = False,
    ) -> None:
        path = "Supervisor (without id)" if id is None else f"Supervisor {show(id)}"
        fields: dict[str, Any] = {
            "strategy": strategy,
            "id": id,
            "intensity": intensity,
            "period": period,
            "decay": decay,
            "backoff": backoff,
            "resume_every": resume_every,
            "reset_after": reset_after,
            "pass_through": pass_through,
            "pattern": pattern,
            "idle": idle,
            "auto_shutdown": auto_shutdown,
            "restart": restart,
            "shutdown": shutdown,
            "significant": significant,
        }
        check(path, SUPERVISOR_RULES, fields)
        fields["children"] = _check_children(path, children)
        fields["child_ids"] = _check_ids(path, fields["children"])
        fields["depth"] = _check_depth(path, fields["children"])
        for name, value in fields.items():
            object.__setattr__(self, name, value)
        for child_id, child in zip(self.child_ids, self.children, strict=True):
            check_significant(path, auto_shutdown, child_id, child)
        _check_names(path, self)
        _check_template(path, self)
        _warn_of_intensity(path, self)

    @property
    def is_simple(self) -> bool:
        """Whether its children are made from a template (OTP, `simple_one_for_one`)."""
        return self.strategy == SIMPLE

    def with_children(self, *more: ChildSpec) -> Supervisor:
        """Return this supervisor with more children at the end.

        Raises:
            SpecError: An id or a name would be there twice.
        """
        fields = {name: getattr(self, name) for name in SUPERVISOR_RULES if name != "strategy"}
        return Supervisor(self.strategy, (*self.children, *more), **fields)

    def with_only(self, children: Iterable[ChildSpec]) -> Supervisor:
        """Return this supervisor with these children and no others."""
        fields = {name: getattr(self, name) for name in SUPERVISOR_RULES if name != "strategy"}
        return Supervisor(self.strategy, children, **fields)

    def with_id(self, id: str) -> Supervisor:  # noqa: A002 -- OTP's word for it
        """Return this supervisor under another id."""
        fields = {name: getattr(self, name) for name in SUPERVISOR_RULES if name != "strategy"}
        return Supervisor(self.strategy, self.children, **{**fields, "id": id})

    def treated_as(self, other: Supervisor) -> Supervisor:
        """Return this supervisor with another one's place: its id, restart, shutdown, ..."""
        copy: Supervisor = object.__new__(Supervisor)
        for name in Supervisor.__slots__:
            source = other if name in ("id", "restart", "shutdown", "significant") else self
            object.__setattr__(copy, name, getattr(source, name))
        return copy

    def listing(self, children: Mapping[str, ChildSpec]) -> Supervisor:
        """Return this supervisor with another list, by id, of children that were checked."""
        copy: Supervisor = object.__new__(Supervisor)
        own = {"children": tuple(children.values()), "child_ids": tuple(children)}
        for name in Supervisor.__slots__:
            object.__setattr__(copy, name, own[name] if name in own else getattr(self, name))
        return copy

    def dump(self) -> str:
        """Return the tree as text, one line per worker and supervisor."""
        return "\n".join(_dump_lines(self, self.id or ROOT_ID, "", ""))

    def to_json(self) -> str:
        """Return the tree as JSON; `from_json` reads it back.

        Raises:
            SpecError: A server cannot be found again by module and name (a lambda, a class
                inside a function), or a worker's args are not what JSON can hold.
        """
        return json.dumps(_supervisor_to_data(self), indent=2)

    @classmethod
    def from_json(cls, text: str) -> Supervisor:
        """Read what `to_json` wrote. It imports the servers' modules: trust the text.

        Args:
            text: The JSON.

        Raises:
            SpecError: Names the child and field that is not allowed, or the module or class that
                cannot be found.
        """
        return _supervisor_from_data(ROOT_ID, json.loads(text))


ChildSpec: TypeAlias = Worker[Any, Any] | Supervisor


def check_significant(
    path: str, auto_shutdown: AutoShutdown, child_id: str, child: ChildSpec
) -> None:
    """Check the rules that relate a child's significance to its supervisor.

    Args:
        path: The supervisor, as errors name it.
        auto_shutdown: The supervisor's flag.
        child_id: The child's id, also when it comes from its place.
        child: The child.

    Raises:
        SpecError: A significant child is permanent, or its supervisor never ends by itself.

    Source: OTP supervisor, `bad_combination`.
    """
    if not child.significant:
        return
    if auto_shutdown == "never":
        raise refused(
            f"{path} child {child_id!r}",
            "significant",
            True,
            'significant=False, or give the supervisor auto_shutdown="any_significant" or '
            '"all_significant"',
        )
    if child.restart == "permanent":
        raise refused(
            f"{path} child {child_id!r}",
            "significant",
            True,
            'restart="transient" or "temporary" for a significant child',
        )


def walk(tree: ChildSpec, child_id: str | None = None) -> Iterator[tuple[str, ChildSpec]]:
    """Yield every node of a tree with its path, depth-first in start order, parents first.

    Args:
        tree: A supervisor or a worker.
        child_id: The first part of the paths, when it is not the tree's own id.
    """
    own = child_id or tree.id or ROOT_ID
    yield own, tree
    if isinstance(tree, Supervisor):
        for name, child in zip(tree.child_ids, tree.children, strict=True):
            for path, node in walk(child, name):
                yield f"{own}/{path}", node


def workers(tree: ChildSpec) -> Iterator[Worker[Any, Any]]:
    """Yield the workers of a tree in start order, templates included."""
    return (node for _, node in walk(tree) if isinstance(node, Worker))


def named_workers(tree: ChildSpec) -> Iterator[Worker[Any, Any]]:
    """Yield the workers whose names will answer once the tree has started: no templates."""
    if isinstance(tree, Worker):
        yield tree
    elif not tree.is_simple:
        for child in tree.children:
            yield from named_workers(child)


def find(tree: Supervisor, name: str) -> Worker[Any, Any] | None:
    """Return the worker with this registered name, or None."""
    return next((worker for worker in workers(tree) if worker.name == name), None)


# --- rules that relate fields ------------------------------------------------


def _check_children(path: str, children: Iterable[Any]) -> tuple[ChildSpec, ...]:
    if isinstance(children, str | bytes | Mapping) or not isinstance(children, Iterable):
        raise refused(path, "children", children, "a list of Worker and Supervisor")
    checked = tuple(children)
    for index, child in enumerate(checked):
        if not isinstance(child, Worker | Supervisor):
            raise refused(path, f"children[{index}]", child, "a Worker or a Supervisor")
    return checked


def _check_ids(path: str, children: tuple[ChildSpec, ...]) -> tuple[str, ...]:
    ids = tuple(child.id or f"supervisor-{place}" for place, child in enumerate(children, 1))
    seen: set[str] = set()
    for child_id in ids:
        if child_id in seen:
            raise SpecError(
                f"{path} child {child_id!r}",
                f"id={child_id!r} is taken by an earlier child; give every child an id of its own",
            )
        seen.add(child_id)
    return ids


def _check_depth(path: str, children: tuple[ChildSpec, ...]) -> int:
    depth = 1 + max((c.depth for c in children if isinstance(c, Supervisor)), default=0)
    if depth > DEPTH_MAX:
        raise SpecError(
            path, f"supervisors nest {depth} levels deep; use at most {DEPTH_MAX} levels"
        )
    return depth


def _check_names(path: str, tree: Supervisor) -> None:
    seen: set[str] = set()
    for worker in workers(tree):
        if worker.name in seen:
            raise SpecError(
                f"{path} child {worker.id!r}",
                f"name={worker.name!r} is taken by another worker of the tree; "
                f"give every worker a name of its own",
            )
        seen.add(worker.name)


def _check_template(path: str, tree: Supervisor) -> None:
    """(S5), and what only a template may have. Source: OTP supervisor, `bad_start_spec`."""
    if tree.is_simple:
        count = len(tree.children)
        if count != 1 or not isinstance(tree.children[0], Worker):
            raise SpecError(
                path,
                f"{SIMPLE} has {count} children in its list; use exactly one Worker, the template "
                f"that start_child makes children from",
            )
    elif tree.pattern is not None:
        raise refused(path, "pattern", tree.pattern, f"it with {SIMPLE}, as family() does")
    if tree.idle is not None and tree.pattern is None:
        raise refused(path, "idle", tree.idle, "it with a pattern, as family() does")


def _warn_of_intensity(path: str, tree: Supervisor) -> None:
    """A policy of recovery that its supervisor does not live to see; features.md A1-15."""
    if tree.intensity > 0 or tree.backoff is not None:
        return
    for child in tree.children:
        if not isinstance(child, Worker) or not child.journal or child.restart == "temporary":
            continue
        if "clean" in policies_in(child.recovery):
            warnings.warn(
                f"{path} child {child.id!r}: with intensity=0 the supervisor gives up instead of "
                f'starting it again with recovery="clean", which is charged; use intensity >= 1, '
                f'or "last_good", which is not',
                stacklevel=3,
            )


# --- text and JSON -----------------------------------------------------------


def _dump_lines(tree: ChildSpec, child_id: str, lead: str, rest: str) -> Iterator[str]:
    yield f"{lead}{child_id}  {describe(tree)}"
    if not isinstance(tree, Supervisor):
        return
    last = len(tree.children)
    for place, (name, child) in enumerate(zip(tree.child_ids, tree.children, strict=True), 1):
        if place < last:
            yield from _dump_lines(child, name, rest + "├── ", rest + "│   ")
        else:
            yield from _dump_lines(child, name, rest + "└── ", rest + "    ")


def describe(node: ChildSpec) -> str:
    """Return what there is to say of a node, in the order in which people ask."""
    if isinstance(node, Supervisor):
        how = f"in {node.period:g} s" if node.decay is None else f"halving in {node.decay:g} s"
        words = [node.strategy, f"{node.intensity} {how}"]
        if node.backoff is not None:
            words.append(f"pauses {_describe_backoff(node.backoff)}")
        if node.pass_through:
            words.append("passes exceptions through")
        if node.pattern is not None:
            words.append(f"family {node.pattern}")
        if node.auto_shutdown != "never":
            words.append(f"auto_shutdown {node.auto_shutdown}")
        if node.shutdown != "infinity":
            words.append(_describe_shutdown(node.shutdown))
    else:
        words = [node.server_name]
        if node.name != node.id:
            words.append(f"name {node.name}")
        words.append(_describe_shutdown(node.shutdown))
        if node.backoff is not None:
            words.append(f"backs off {_describe_backoff(node.backoff)}")
    if node.restart != "permanent":
        words.append(node.restart)
    if node.significant:
        words.append("significant")
    return "  ".join(words)


def _describe_backoff(backoff: Backoff) -> str:
    return f"{backoff.first:g} to {backoff.maximum:g} s"


def _describe_shutdown(limit: ShutdownLimit) -> str:
    return f"shutdown {limit}" if isinstance(limit, str) else f"shutdown {limit:g} s"


_SUPERVISOR_FIELDS: Final = tuple(SUPERVISOR_RULES)
_WORKER_FIELDS: Final = (
    "id",
    "args",
    "restart",
    "shutdown",
    "significant",
    "name",
    "mailbox",
    "overflow",
    "journal",
    "recovery",
    "acknowledge",
    "backoff",
)


def _supervisor_to_data(tree: Supervisor) -> dict[str, Any]:
    data: dict[str, Any] = {name: _plain(getattr(tree, name)) for name in _SUPERVISOR_FIELDS}
    data["children"] = [
        _supervisor_to_data(child) if isinstance(child, Supervisor) else _worker_to_data(child)
        for child in tree.children
    ]
    return data


def _worker_to_data(worker: Worker[Any, Any]) -> dict[str, Any]:
    path = f"Worker {worker.id!r}"
    data = {name: _plain(getattr(worker, name)) for name in _WORKER_FIELDS}
    if not isinstance(worker.recovery, str):
        raise refused(path, "recovery", worker.recovery, "the name of one policy for JSON")
    if worker.observers:
        raise refused(path, "observers", worker.observers, "none for JSON, which holds no objects")
    try:
        survives = json.loads(json.dumps(worker.args)) == worker.args
    except (TypeError, ValueError):
        survives = False
    if not survives:
        raise refused(path, "args", worker.args, "strings, numbers, lists and dicts for JSON")
    data["server"] = f"{getattr(worker.server, '__module__', None)}:{worker.server_name}"
    try:
        is_found = _import_server(path, data["server"]) is worker.server
    except SpecError:
        is_found = False
    if not is_found:
        raise refused(path, "server", worker.server, "a class or function at the top of a module")
    return data


def _plain(value: Any) -> Any:
    return value.to_data() if isinstance(value, Backoff) else value


def _read_backoff(path: str, fields: dict[str, Any]) -> None:
    value = fields.get("backoff")
    if value is not None:
        try:
            fields["backoff"] = Backoff(**value)
        except TypeError:
            raise refused(path, "backoff", value, "an object with Backoff's fields") from None


def _supervisor_from_data(default_id: str, data: Any) -> Supervisor:
    path = f"Supervisor {default_id!r}"
    if not isinstance(data, dict) or not isinstance(data.get("children"), list):
        raise SpecError(path, 'JSON has no list "children"; write it with to_json')
    own = data.get("id") or default_id
    fields = {name: value for name, value in data.items() if name != "children"}
    _refuse_unknown(f"Supervisor {own!r}", fields, _SUPERVISOR_FIELDS)
    _read_backoff(f"Supervisor {own!r}", fields)
    children = [
        _supervisor_from_data(f"supervisor-{place}", child)
        if isinstance(child, dict) and "children" in child
        else _worker_from_data(own, child)
        for place, child in enumerate(data["children"], 1)
    ]
    return Supervisor(children=children, **fields)


def _worker_from_data(supervisor: str, data: Any) -> Worker[Any, Any]:
    if not isinstance(data, dict):
        raise SpecError(f"Supervisor {supervisor!r}", f"child {show(data)} is not a JSON object")
    path = f"Supervisor {supervisor!r} child {data.get('id')!r}"
    fields = dict(data)
    _refuse_unknown(path, fields, (*_WORKER_FIELDS, "server"))
    fields["server"] = _import_server(path, data.get("server"))
    _read_backoff(path, fields)
    try:
        return Worker(**fields)
    except SpecError as error:
        raise SpecError(path, error.detail) from None


def _refuse_unknown(path: str, fields: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in fields:
        if name not in known:
            raise SpecError(path, f"there is no field {name!r}; use {', '.join(known)}")


def _import_server(path: str, name: object) -> Any:
    module, _, qualified = name.partition(":") if isinstance(name, str) else ("", "", "")
    try:
        found: Any = import_module(module)
        for part in qualified.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise SpecError(
            path, f'server={show(name)} cannot be found ({error}); use "module:Class"'
        ) from error
    return found

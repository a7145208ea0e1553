"""The debug mode that finds what servers share by accident: objects, globals, class attributes.

A process of Erlang shares nothing, for messages are copied. Here a message is the object itself,
and two servers that keep it share it: a step of one changes the state of the other, behind the back
of its journal. So, in this mode, each step is followed by a walk over the state it has returned. An
object that can be changed and is found in two servers is reported with the way to it in both. And a
global, or an attribute of a class, that the server's code names and that differs after the step
from what it was before, is reported, unless the class declares it: `shared = (CACHE, "COUNT")`, by
the object or by the name.

Theory. Per server a table of what its state can reach, by identity; the objects are kept, so that
an identity stays one. A state changes in its own server's steps only (that is what is being
checked), so a table is as old as the server's latest step and still true. What cannot be changed
(numbers, text, tuples, frozen structures) is walked through and not entered into the table.

It costs a walk over the whole state for each step: it is for tests and for a look, never for
service. A state with more than `OBJECTS_MAX` objects is looked at in part, and that is said once.

Does not know: what the state means; threads (a job that keeps an argument is not seen).
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import gc
import logging
import types
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final, final

import msgspec

from pybehave.behaviours.combined import Combined
from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.hosted import HostedServer
from pybehave.runtime.events import Event, EventHub

OBJECTS_MAX: Final = 20_000
"""Of one state; what a test's state has many times over, and a walk of some milliseconds."""

REPORTS_MAX: Final = 1000
"""Each different finding is told once, up to so many."""

PATH_CHARS_MAX: Final = 200

CALLBACKS: Final = ("handle_call", "handle_cast", "handle_info", "handle_continue")
TOGETHER: Final = "_handle_together"

CONTAINERS: Final = (list, dict, set, deque, bytearray)
"""What can be changed, of the types that are not made by a class statement."""

CODE: Final = (
    type,
    types.ModuleType,
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    types.CodeType,
)
"""Not state, and a global of this kind is no state either."""

OPAQUE: Final = (
    *CODE,
    enum.Enum,
    functools._lru_cache_wrapper,
    logging.Logger,
    logging.LoggerAdapter,
    types.GenericAlias,
    types.UnionType,
)
"""Not state: the walk does not enter them."""

VALUES: Final = frozenset(
    (
        "_decimal", "datetime", "decimal", "fractions", "ipaddress", "pathlib", "re", "typing",
        "uuid", "zoneinfo",
    )
)  # fmt: skip
"""Modules whose objects are values: what they fill beside, with time, are caches."""

logger = logging.getLogger("pybehave.isolation")


class SharedState(Event, frozen=True):
    """Two servers keep the same object that can be changed.

    Attributes:
        path: The way to it in the state of `child`.
        other: The other server's name.
        other_path: The way to it there.
        kind: Its type's name.
    """

    level = logging.WARNING

    path: str
    other: str
    other_path: str
    kind: str

    def __str__(self) -> str:
        return (
            f"servers {self.child!r} and {self.other!r} share a {self.kind}: it is {self.path} in "
            f"the one and {self.other_path} in the other; send a copy, or something that cannot "
            f"be changed"
        )


class UndeclaredGlobal(Event, frozen=True):
    """A step has changed something outside its state.

    Attributes:
        name: "module.NAME", or "module.Class.attribute".
    """

    level = logging.WARNING

    name: str

    def __str__(self) -> str:
        return (
            f"a step of server {self.child!r} has changed {self.name}, which is not its state; "
            f"keep it there, or declare it in the class: shared = (...)"
        )


@final
class Isolation:
    """What has been seen of the servers of one node.

    Args:
        events: Who hears of findings.
    """

    def __init__(self, events: EventHub) -> None:
        self._events = events
        self._classes: dict[type, type] = {}
        self._globals: dict[type, dict[str, Callable[[], Any]]] = {}
        self._tables: dict[str, dict[int, tuple[Any, str]]] = {}
        self._holders: dict[int, set[str]] = {}
        self._told: set[tuple[str, ...]] = set()

    def watch(self, instance: Any) -> None:
        """Follow each callback of a server with a look; for servers that Python code makes."""
        kind = type(instance)
        if not isinstance(instance, GenServer) or isinstance(instance, HostedServer):
            return
        if kind not in self._classes:
            self._classes[kind] = self._watched(kind)
            self._globals[kind] = dict(_outside(kind, self._classes[kind]))
        instance.__class__ = self._classes[kind]

    def looked_at(self, name: str, instance: Any, state: Any) -> None:
        """Walk a state that has just been returned."""
        declared = {id(each) for each in _shared(type(instance))}
        attributes = _attributes(instance)
        attributes.pop("context", None)  # the runtime's
        roots = [("state", state), ("self", attributes)]
        found, is_whole = walk(roots, declared)
        if not is_whole:
            self._tell((name, "part"), None)
        self.forget(name)
        self._tables[name] = found
        for identity, (thing, path) in found.items():
            holders = self._holders.setdefault(identity, set())
            for other in holders:
                other_path = self._tables[other][identity][1]
                kind = type(thing).__name__
                event = SharedState("", name, path, other, other_path, kind)
                self._tell(tuple(sorted(((name + path), (other + other_path)))), event)
            holders.add(name)

    def forget(self, name: str) -> None:
        """A server has ended, or is looked at anew."""
        for identity in self._tables.pop(name, {}):
            holders = self._holders[identity]
            holders.discard(name)
            if not holders:
                del self._holders[identity]

    def stats(self) -> dict[str, int]:
        """Counters."""
        return {"findings": len(self._told), "servers": len(self._tables)}

    # --- the watched class -------------------------------------------------------------------

    def _watched(self, kind: type) -> type:
        """A subclass whose callbacks are followed by a look; it goes by the same name."""
        body: dict[str, Any] = {
            "__module__": kind.__module__,
            "__qualname__": kind.__qualname__,
            "__slots__": (),
        }
        for callback in CALLBACKS:
            body[callback] = self._followed(kind, callback)
        if getattr(kind, TOGETHER) is not None:
            body[TOGETHER] = self._followed(kind, TOGETHER)
        return type(kind.__name__, (kind,), body)

    def _followed(self, kind: type, callback: str) -> Callable[..., Any]:
        own: Callable[..., Any] = getattr(kind, callback)

        def followed(server: Any, *inputs: Any) -> Any:
            outside, shared = self._globals[kind], _shared(kind)
            declared = {id(each) for each in shared}
            before = {name: _mark(read, declared) for name, read in outside.items()}
            returned = own(server, *inputs)
            name = server.context.name
            for place, read in outside.items():
                known_as = {place, place.rpartition(".")[2]}
                if _mark(read, declared) != before[place] and known_as.isdisjoint(
                    each for each in shared if isinstance(each, str)
                ):
                    self._tell((name, place), UndeclaredGlobal("", name, place))
            if type(returned) is tuple and len(returned) > 1:
                self.looked_at(name, server, returned[0])
            return returned

        return followed

    def _tell(self, what: tuple[str, ...], event: Event | None) -> None:
        if what in self._told or len(self._told) >= REPORTS_MAX:
            return
        self._told.add(what)
        if event is None:
            logger.warning("the state of %r is large: only part of it is looked at", what[0])
        else:
            self._events.emit(event)


# --- what a state can reach ----------------------------------------------------------------------


def walk(
    roots: list[tuple[str, Any]], declared: set[int]
) -> tuple[dict[int, tuple[Any, str]], bool]:
    """Return the objects that can be changed, by identity, with the way to each.

    Args:
        roots: Names and values.
        declared: Identities that are not entered.

    Returns:
        The objects, and whether the walk came to its end.
    """
    found: dict[int, tuple[Any, str]] = {}
    seen: set[int] = set()
    queue = deque(roots)
    while queue:
        path, thing = queue.popleft()
        if id(thing) in seen or id(thing) in declared or _is_opaque(thing) or _is_value(thing):
            continue
        if len(seen) >= OBJECTS_MAX:
            return found, False
        seen.add(id(thing))
        if can_change(thing) and path != "self":
            found[id(thing)] = (thing, path[:PATH_CHARS_MAX])
        queue.extend(_parts(path, thing))
    return found, True


def can_change(thing: Any) -> bool:
    """Say whether an object can be changed in place, as far as its type tells."""
    if isinstance(thing, CONTAINERS):
        return True
    kind = type(thing)
    if isinstance(thing, tuple | frozenset | BaseException | functools.partial) or _is_value(thing):
        return False
    if isinstance(thing, msgspec.Struct):
        return not kind.__struct_config__.frozen
    if dataclasses.is_dataclass(kind):
        return not kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    return hasattr(thing, "__dict__") or (
        not kind.__module__.startswith("pybehave.") and any(True for _ in _slots(kind))
    )


def _is_opaque(thing: Any) -> bool:
    return isinstance(thing, OPAQUE) or type(thing).__module__.startswith("pybehave._uring")


def _is_value(thing: Any) -> bool:
    return type(thing).__module__.partition(".")[0] in VALUES


def _parts(path: str, thing: Any) -> Iterator[tuple[str, Any]]:
    """What an object refers to, with names where they are known."""
    if isinstance(thing, dict):
        for key, value in thing.items():
            yield f"{path}[{key!r:.40}]", value
            yield f"{path}, the key {key!r:.40}", key
    elif isinstance(thing, list | tuple | deque):
        for index, value in enumerate(thing):
            yield f"{path}[{index}]", value
    elif isinstance(thing, set | frozenset):
        for value in thing:
            yield f"{path}, its member", value
    elif isinstance(thing, msgspec.Struct):
        for name in thing.__struct_fields__:
            yield f"{path}.{name}", getattr(thing, name, None)
    elif isinstance(thing, functools.partial):
        yield from _parts(f"{path}.args", thing.args)
        yield from _parts(f"{path}.keywords", thing.keywords)
    elif hasattr(thing, "__dict__") or any(True for _ in _slots(type(thing))):
        if isinstance(thing, BaseException):
            yield from _parts(f"{path}.args", thing.args)
        for name, value in _attributes(thing).items():
            yield f"{path}.{name}", value
    elif gc.is_tracked(thing):
        for value in gc.get_referents(thing):
            yield f"{path}, within", value


def _slots(kind: type) -> Iterator[str]:
    """The attributes that objects of a class keep without a dictionary."""
    for each in kind.__mro__:
        names = vars(each).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name.startswith("__") and not name.endswith("__"):
                yield f"_{each.__name__.lstrip('_')}{name}"
            elif name not in ("__dict__", "__weakref__"):
                yield name


def _attributes(thing: Any) -> dict[str, Any]:
    found = dict(getattr(thing, "__dict__", {}))
    for name in _slots(type(thing)):
        if hasattr(thing, name):
            found[name] = getattr(thing, name)
    return found


# --- what is outside -----------------------------------------------------------------------------


def _outside(kind: type, watched: type) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The globals that a class's code names, and its own attributes; its sides', too.

    Args:
        kind: The class.
        watched: The class that its instances have instead: `type(self).count += 1` is there.
    """
    for side in kind.sides if issubclass(kind, Combined) else ():
        yield from _outside(side, side)
    for each in kind.__mro__:
        if each is object or each.__module__.startswith(("pybehave.", "typing")):
            continue
        for name, value in vars(each).items():
            function = getattr(value, "__func__", value)  # of a static or class method
            if isinstance(function, types.FunctionType):
                yield from _named(function, set())
            elif not isinstance(value, CODE) and not name.startswith("__"):
                place = f"{each.__module__}.{each.__qualname__}.{name}"
                yield place, functools.partial(_attribute, watched, each, name)


def _attribute(watched: type, kind: type, name: str) -> Any:
    return vars(watched).get(name, vars(kind).get(name))


def _named(
    function: types.FunctionType, seen: set[types.FunctionType]
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """The globals that a function names, and those that functions of its module name for it."""
    if function in seen:
        return
    seen.add(function)
    space = function.__globals__
    for name in _names_in(function.__code__):
        value = space.get(name)
        if isinstance(value, types.FunctionType) and value.__globals__ is space:
            yield from _named(value, seen)
        elif name in space and not isinstance(value, CODE):
            place = f"{space.get('__name__')}.{name}"
            yield place, lambda space=space, name=name: space.get(name)  # type: ignore[misc]


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


def _shared(kind: Any) -> tuple[Any, ...]:
    """What a class declares as shared, and what its sides do."""
    declared: tuple[Any, ...] = tuple(kind.shared)
    for side in kind.sides if issubclass(kind, Combined) else ():
        declared += _shared(side)
    return declared


def _mark(read: Callable[[], Any], declared: set[int]) -> int:
    """A number that differs when what is read has been changed, or is another object."""
    value = read()
    if id(value) in declared:
        return 0
    marks = [id(value)]
    if can_change(value):
        found, _ = walk([("", value)], declared)
        for thing, _ in found.values():
            parts = [id(part) for _, part in _parts("", thing)]
            marks += parts if not isinstance(thing, bytearray) else [hash(bytes(thing))]
    return hash(tuple(marks))

"""Hypothesis strategies: what a server takes, trees that are allowed, scripts of trials.

    @given(st.lists(inputs(Account)))
    def test_no_debts(commands):
        assert fold(Account, commands).state >= 0

What a server takes is read from its class: the annotation of `step`'s first parameter, or of
`handle_call`'s, or the second argument of `GenServer[State, Input, Output]`. Constraints that the
edge would check (`msgspec.Meta`) are kept, so everything drawn is what a decoder lets through.

Needs hypothesis (`pip install pybehave[testing]`).
Does not know: what inputs mean; a server that takes any object has to be told what to draw.
Source: MacIver et al., "Hypothesis: A new approach to property-based testing" (2019).
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias, Union, get_args, get_origin

try:
    from hypothesis import strategies as st
except ImportError as missing:  # the one extra that only this module needs
    raise ImportError(
        f"{missing}: pybehave.testing.strategies needs hypothesis; pip install pybehave[testing]",
        name=missing.name,
    ) from missing
from msgspec import inspect

from pybehave.behaviours.child_spec import OVERFLOWS, RESTARTS, Worker
from pybehave.behaviours.gen_server import GenServer
from pybehave.behaviours.supervisor import Supervisor
from pybehave.errors import SpecError
from pybehave.testing.script import Act, Ask, Crash, PowerCut, Restart, in_order

Strategy: TypeAlias = st.SearchStrategy[Any]

INT_MIN: Final = -(1 << 63)
INT_MAX: Final = (1 << 63) - 1
"""What MessagePack and most protocols can carry."""

STRATEGIES: Final = ("one_for_one", "one_for_all", "rest_for_one")
SECONDS: Final = st.floats(0.0, 60.0)
SERVERS: Final = ("step", "handle_call")


# --- what a server takes --------------------------------------------------------------------------


def inputs(server: Any) -> Strategy:
    """Draw what a server takes.

    Args:
        server: Its class; or the type itself of what it takes.

    Raises:
        SpecError: The class does not say what it takes.
    """
    if isinstance(server, type) and issubclass(server, GenServer):
        return _of_type(_taken_by(server), {})
    return _of_type(server, {})


def commands(arguments: Mapping[bytes, Sequence[Strategy]]) -> Strategy:
    """Draw commands as `Resp` decodes them: lists of bytes.

    Args:
        arguments: What each command's arguments are drawn from, by its name; strategies of bytes,
            or of values that are written as text.
    """
    return st.one_of(
        [
            st.tuples(st.just(name), *(each.map(_as_bytes) for each in parts)).map(list)
            for name, parts in arguments.items()
        ]
    )


def _as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def _taken_by(server: type[GenServer[Any, Any, Any]]) -> Any:
    """The type of a server's inputs, by its annotations."""
    for callback in SERVERS:
        function = getattr(server, callback)
        if function is getattr(GenServer, callback):
            continue
        names = list(function.__annotations__)
        hints = _hints(server, function)
        taken = hints.get(names[0]) if names and names[0] != "return" else None
        if _says_something(taken):
            return taken
    for kind in server.__mro__:
        for base in getattr(kind, "__orig_bases__", ()):
            is_server = isinstance(get_origin(base), type) and issubclass(
                get_origin(base), GenServer
            )
            if is_server and len(get_args(base)) == 3 and _says_something(get_args(base)[1]):
                return get_args(base)[1]
    raise SpecError(
        f"Server class {server.__qualname__!r}",
        "it does not say what it takes; annotate step(self, command: ..., state), or give the "
        "strategy the type: inputs(list[bytes])",
    )


def _hints(server: type, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise SpecError(
            f"Server class {server.__qualname__!r}",
            f"an annotation of {function.__name__} cannot be read: {error}; move the type to the "
            f"module's top level",
        ) from error


def _says_something(taken: Any) -> bool:
    return taken is not None and taken is not Any and not isinstance(taken, typing.TypeVar)


# --- types to strategies --------------------------------------------------------------------------

Known: TypeAlias = dict[Any, Strategy]
"""Strategies of classes that are being looked at: a class may contain itself."""


def _of_type(kind: Any, known: Known) -> Strategy:
    if get_origin(kind) in (Union, types.UnionType):  # of any Structs, tagged or not
        return st.one_of([_of_type(each, known) for each in get_args(kind)])
    try:
        return _of(inspect.type_info(kind), known)
    except TypeError as error:
        raise SpecError("Input", f"nothing can be drawn of the type {kind!r}: {error}") from error


def _of(info: inspect.Type, known: Known) -> Strategy:
    make = _MAKE.get(type(info))
    if make is not None:
        return make(info, known)
    found = getattr(info, "cls", None)
    if found is None:
        raise TypeError(f"{type(info).__name__} says too little")
    return st.from_type(found)


def _number(info: Any) -> tuple[int, int]:
    step = info.multiple_of or 1
    low = max(INT_MIN if info.ge is None else info.ge, INT_MIN if info.gt is None else info.gt + 1)
    high = min(INT_MAX if info.le is None else info.le, INT_MAX if info.lt is None else info.lt - 1)
    return -(-low // step), high // step


def _int(info: inspect.IntType, _: Known) -> Strategy:
    low, high = _number(info)
    step = info.multiple_of or 1
    return st.integers(low, high).map(lambda number: number * step)


def _float(info: inspect.FloatType, _: Known) -> Strategy:
    low, high = (info.ge if info.gt is None else info.gt), (info.le if info.lt is None else info.lt)
    return st.floats(
        low,
        high,
        exclude_min=info.gt is not None,
        exclude_max=info.lt is not None,
        allow_nan=False,
        allow_infinity=False,
    )


def _str(info: inspect.StrType, _: Known) -> Strategy:
    if info.pattern is not None:
        return st.from_regex(info.pattern).filter(lambda text: _fits(info, text))
    return st.text(min_size=info.min_length or 0, max_size=info.max_length)


def _fits(info: Any, text: str) -> bool:
    most = len(text) if info.max_length is None else info.max_length
    return (info.min_length or 0) <= len(text) <= most


def _bytes(info: inspect.BytesType, _: Known) -> Strategy:
    return st.binary(min_size=info.min_length or 0, max_size=info.max_length)


def _sized(make: Callable[..., Strategy]) -> Callable[[Any, Known], Strategy]:
    def sized(info: Any, known: Known) -> Strategy:
        item = _of(info.item_type, known)
        return make(item, min_size=info.min_length or 0, max_size=info.max_length)

    return sized


def _dict(info: inspect.DictType, known: Known) -> Strategy:
    return st.dictionaries(
        _of(info.key_type, known),
        _of(info.value_type, known),
        min_size=info.min_length or 0,
        max_size=info.max_length,
    )


def _fields(info: Any, known: Known) -> Strategy:
    """A class of fields; one that contains itself is looked at once."""
    if info.cls not in known:
        known[info.cls] = st.deferred(lambda: built)
        parts = {field.name: _of(field.type, known) for field in info.fields}
        if isinstance(info, inspect.TypedDictType):
            optional = {
                field.name: parts.pop(field.name) for field in info.fields if not field.required
            }
            built: Strategy = st.fixed_dictionaries(parts, optional=optional)
        else:
            built = st.builds(info.cls, **parts)
    return known[info.cls]


_MAKE: Final[dict[type, Callable[[Any, Known], Strategy]]] = {
    inspect.NoneType: lambda info, known: st.none(),
    inspect.BoolType: lambda info, known: st.booleans(),
    inspect.IntType: _int,
    inspect.FloatType: _float,
    inspect.StrType: _str,
    inspect.BytesType: _bytes,
    inspect.ByteArrayType: lambda info, known: _bytes(info, known).map(bytearray),
    inspect.LiteralType: lambda info, known: st.sampled_from(info.values),
    inspect.EnumType: lambda info, known: st.sampled_from(info.cls),
    inspect.UnionType: lambda info, known: st.one_of([_of(each, known) for each in info.types]),
    inspect.TupleType: lambda info, known: st.tuples(*(_of(e, known) for e in info.item_types)),
    inspect.VarTupleType: _sized(lambda *a, **k: st.lists(*a, **k).map(tuple)),
    inspect.ListType: _sized(st.lists),
    inspect.SetType: _sized(st.sets),
    inspect.FrozenSetType: _sized(st.frozensets),
    inspect.DictType: _dict,
    inspect.StructType: _fields,
    inspect.DataclassType: _fields,
    inspect.NamedTupleType: _fields,
    inspect.TypedDictType: _fields,
    inspect.DateTimeType: lambda info, known: st.datetimes(),
    inspect.DateType: lambda info, known: st.dates(),
    inspect.TimeType: lambda info, known: st.times(),
    inspect.TimeDeltaType: lambda info, known: st.timedeltas(),
    inspect.UUIDType: lambda info, known: st.uuids(),
    inspect.DecimalType: lambda info, known: st.decimals(allow_nan=False, allow_infinity=False),
}


# --- trees ----------------------------------------------------------------------------------------


@st.composite
def child_specs(
    draw: st.DrawFn, /, server: Any, name: str = "worker", **fields: Any
) -> Worker[Any, Any]:
    """Draw a worker of a server.

    Args:
        server: A class, or several to choose from.
        name: Its id and name.
        fields: Of the Worker, that are not to be drawn.
    """
    classes = list(server) if isinstance(server, Iterable) else [server]
    drawn = {
        "restart": draw(st.sampled_from(RESTARTS)),
        "shutdown": draw(st.one_of(SECONDS, st.sampled_from(["brutal_kill", "infinity"]))),
        "mailbox": draw(st.integers(1, 2048)),
        "overflow": draw(st.sampled_from(OVERFLOWS)),
    }
    return Worker(name, draw(st.sampled_from(classes)), **{**drawn, **fields})


@st.composite
def trees(
    draw: st.DrawFn,
    /,
    server: Any,
    *,
    depth_max: int = 3,
    children_max: int = 4,
    **fields: Any,
) -> Supervisor:
    """Draw a tree that is allowed: workers `w1`, `w2`, ... below supervisors of any strategy.

    Args:
        server: Of the workers: a class, or several to choose from.
        depth_max: Supervisors above one another.
        children_max: Of each supervisor.
        fields: Of all workers, that are not to be drawn.
    """
    counts = {"w": 0, "s": 0}

    def fresh(letter: str) -> str:
        counts[letter] += 1
        return f"{letter}{counts[letter]}"

    def level(depth: int) -> Supervisor:
        children: list[Any] = []
        for _ in range(draw(st.integers(1, children_max))):
            if depth < depth_max and draw(st.integers(0, 2)) == 0:
                children.append(level(depth + 1))
            else:
                children.append(draw(child_specs(server, fresh("w"), **fields)))
        return Supervisor(
            draw(st.sampled_from(STRATEGIES)),
            children,
            id=fresh("s"),
            intensity=draw(st.integers(0, 10)),
            period=draw(st.floats(0.1, 60.0)),
            restart=draw(st.sampled_from(RESTARTS)),
        )

    return level(1)


# --- scripts of trials ----------------------------------------------------------------------------


def scripts(
    asks: Strategy, *, clients: int = 3, requests_max: int = 30, seconds: float = 1.0
) -> st.SearchStrategy[list[Act]]:
    """Draw scripts for `Trial.play`: requests, and some of what may go wrong.

    Args:
        asks: Draws `(server's name, request)`.
        clients: How many there are.
        requests_max: Acts of a script.
        seconds: Virtual time in which they happen.
    """
    moments = st.integers(0, int(seconds * 1e6)).map(lambda us: us / 1e6)
    names = st.integers(1, clients).map(lambda number: f"c{number}")
    lost = st.sampled_from(("", "", "", "request", "reply"))
    servers = asks.map(lambda ask: ask[0])
    acts = st.one_of(
        st.builds(
            lambda at, client, ask, way: Ask(at, client, ask[0], ask[1], lost=way),
            moments,
            names,
            asks,
            lost,
        ),
        st.builds(Crash, moments, servers),
        st.builds(Restart, moments),
        st.builds(PowerCut, moments, st.integers(0, 1 << 16)),
    )
    return st.lists(acts, max_size=requests_max).map(in_order)

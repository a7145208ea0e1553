"""Servers made of servers: `either` (the product of machines) and `both` (their tensor).

Theory. A server is a step function and a state. Two of them make a third in two ways. With `either`
an input says for which side it is, that side steps, and the output says so, too. With `both` an
input is one for each side, all step, and the output has one of each. The state is the tuple of the
sides' states. What comes out is a class like any other: it is supervised, journaled, snapshot and
upgraded as one server, and can be a side again.

Each side is an instance of its own class and hears of nothing but itself:

| of a side                                 | becomes                                              |
|-------------------------------------------|------------------------------------------------------|
| timer, tag, term of an action             | (SIDE, side, its own), and back when it returns      |
| reply that was put off (`either`)         | (side, value)                                        |
| other actions                             | those of all sides, first side first                 |
| info that no side has asked for           | in the form of an input it is one; else for all      |
| version                                   | three digits of the whole's, for each server in it   |
| dump, upcast, invariant, terminate, ...   | asked of each side about its own part                |

Invariants
  (B1) A callback that raises leaves the states of all sides as they were: they are put into the new
       tuple when all have returned, and what a side has changed in place is undone as for any
       server (`pure`, or the journal).
  (B2) What a side has asked for returns to that side, and to no other.
  (B3) A version is newer than another only if no side is older.

Over 500 lines: every callback of a server has its counterpart here, each a few lines long.
Does not know: journals, loops; which classes may be sides, and how versions are digits (sides.py).
Source: product and tensor product of Mealy machines (either and both inputs at a time).
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from types import GeneratorType
from typing import Any, ClassVar, Final, Literal, TypeVar, overload
from weakref import WeakValueDictionary

from msgspec.structs import replace as replaced_struct

from pybehave import actions as _actions
from pybehave.actions import NO_REPLY, Action, Reply, Run, StartTimer
from pybehave.behaviours.gen_server import GenServer, Initial, interpret
from pybehave.behaviours.inputs import Validate, refusal
from pybehave.behaviours.recovery import Failure, Recovery, call_init, takes_recovery
from pybehave.behaviours.schema import Schema
from pybehave.behaviours.sides import Sides, check_sides, version_of_all, versions_of
from pybehave.errors import BadReturn, SpecError, show
from pybehave.once import Once
from pybehave.together import Together
from pybehave.types import IGNORED, _Ignored

State1 = TypeVar("State1")
Input1 = TypeVar("Input1")
Output1 = TypeVar("Output1")
State2 = TypeVar("State2")
Input2 = TypeVar("Input2")
Output2 = TypeVar("Output2")

SIDE: Final = "pybehave.side"
"""Begins what belongs to one side."""

ALL: Final = -1
"""In the place of a side: for each side an info of its own."""

TAGGED: Final = (_actions.Call, _actions.Cancel, _actions.Demonitor, _actions.Monitor)
ANSWERS: Final = (
    _actions.CallReply, _actions.CallFailed, _actions.RunDone, _actions.RunFailed, _actions.Down,
)  # fmt: skip
"""Infos whose tag is that of an action."""

REFUSED: Final[Mapping[type, str]] = {
    _actions.Connect: "what comes on the connection says not for which side it is",
    _actions.IdleTimeout: "inputs for other sides would end it; use StartTimer",
    _actions.Join: "what is cast to the group says not for which side it is",
    _actions.Leave: "a side is in no group",
}

OF_SIDES: Final = (
    "init", "step", "validate", "accepts", "ephemeral", "aliases", "terminate", "upcast",
    "upcast_state",
)  # fmt: skip
"""What nobody would ask a class about that is derived from a combination."""

Pieces = list[tuple[int, Any]]


class Combined(GenServer[Any, Any, Any]):
    """What `either` and `both` return is derived from; the state is a tuple of the sides' states.

    Attributes:
        sides: The classes, in their order.
    """

    __slots__ = ("_context", "_parts")  # an upgrade hands on what is in an instance's dict

    sides: ClassVar[Sides] = ()
    form: ClassVar[str] = ""

    def __init__(self) -> None:
        self._parts = tuple(kind() for kind in self.sides)
        for part in self._parts:
            Schema(f"a side of {type(self).__qualname__}", part)  # raises what is not allowed

    def __init_subclass__(cls, **words: Any) -> None:
        super().__init_subclass__(**words)
        own = vars(cls)
        if "sides" in own:
            return
        if "version" in own:
            raise SpecError(
                cls.__name__, "version is made of its sides'; raise the one that changes"
            )
        for name in OF_SIDES:
            if name in own:
                raise SpecError(
                    cls.__name__, f"{name} is asked of the sides alone; define it there"
                )

    # --- which part of what is whose -----------------------------------------------------------

    def _addressed(self, message: Any) -> Pieces | None:
        """Which side gets what of an input; None = it does not have the form of one."""
        raise NotImplementedError

    def _whole(self, pieces: list[Any], side: int) -> Any:
        """What the sides' values are together; the first was that side's."""
        raise NotImplementedError

    def _pieces(self, message: Any) -> Pieces:
        """Which side gets what of an info (B2)."""
        if _is_marked(message):
            _, side, own = message
            return list(enumerate(own)) if side == ALL else self._of(side, own)
        if isinstance(message, ANSWERS) and _is_marked(message.tag):
            _, side, tag = message.tag
            return self._of(side, _with(message, tag=tag))
        addressed = self._addressed(message)
        return (
            [(side, message) for side in range(len(self.sides))] if addressed is None else addressed
        )

    def _of(self, side: int, own: Any) -> Pieces:
        """What a side has asked for; a migration may have taken the side away meanwhile."""
        return [(side, own)] if side < len(self.sides) else []

    def _shares(self, message: Any) -> Pieces:
        """As `_pieces`; of commands that come Together each side has its own, in their order."""
        if not isinstance(message, Together):
            return self._pieces(message)
        own: dict[int, list[Any]] = {}
        for command in message.commands:
            for side, each in self._pieces(command):
                own.setdefault(side, []).append(each)
        return [(side, Together(own[side])) for side in sorted(own)]

    # --- inputs --------------------------------------------------------------------------------

    def handle_call(self, request: Any, caller: Any, state: Any) -> Any:
        """Step the side, or all; not to be overridden."""

        def call(part: GenServer[Any, Any, Any], own: Any, before: Any) -> Any:
            return part.handle_call(own, caller, before)

        pieces = self._addressed(request)
        assert pieces is not None, "refused by _validate"
        states, outputs, actions = self._stepped("handle_call", call, pieces, state)
        return states, self._whole(outputs, pieces[0][0]), actions

    def handle_cast(self, message: Any, state: Any) -> Any:
        """Step the side, or all; not to be overridden."""
        pieces = self._addressed(message)
        assert pieces is not None, "refused by _validate"
        states, _, actions = self._stepped("handle_cast", _cast, pieces, state)
        return states, None, actions

    def handle_info(self, message: Any, state: Any) -> Any:
        """Give an info to whose it is; not to be overridden."""
        states, _, actions = self._stepped("handle_info", _info, self._pieces(message), state)
        return states, None, actions

    def handle_continue(self, term: Any, state: Any) -> Any:
        """Go on with the side that asked for it; not to be overridden."""
        pieces = self._pieces(term)
        states, _, actions = self._stepped("handle_continue", _continue, pieces, state)
        return states, None, actions

    def _stepped(
        self, callback: str, call: Callable[..., Any], pieces: Pieces, state: Any
    ) -> tuple[tuple[Any, ...], list[Any], list[Action]]:
        states, outputs = list(state), []  # (B1)
        actions: list[Action] = []
        for side, own in pieces:
            part = self._parts[side]
            try:
                turn = interpret(self.context.name, callback, call(part, own, states[side]))
                actions += [self._marked(side, each) for each in turn.actions]
            except BaseException as error:
                error.add_note(f"side {side} of {type(self).__qualname__}: {show(own)}")
                raise
            states[side] = turn.state
            outputs.append(turn.output)
        return tuple(states), outputs, actions

    def _marked(self, side: int, action: Action) -> Action:
        """An action of a side, so that what comes of it finds back (B2)."""
        if isinstance(action, StartTimer):
            name, message = (SIDE, side, action.name), (SIDE, side, action.message)
            return StartTimer(name, action.seconds, message)
        if isinstance(action, _actions.CancelTimer):
            return _actions.CancelTimer((SIDE, side, action.name))
        if isinstance(action, _actions.Continue):
            return _actions.Continue((SIDE, side, action.term))
        if isinstance(action, TAGGED):
            tagged: Action = _with(action, tag=(SIDE, side, action.tag))
            return tagged
        if isinstance(action, Run):
            return Run(
                action.function, *action.args, tag=(SIDE, side, action.tag), pool=action.pool,
                timeout=action.timeout, idempotent=action.idempotent,
            )  # fmt: skip
        if isinstance(action, Reply) and getattr(action.to, "server", None) == self.context.name:
            return self._marked_reply(side, action)
        why = REFUSED.get(type(action))
        if why is not None:
            kind = type(action).__name__
            raise BadReturn(self.context.name, "a side", action, f"a side returns no {kind}: {why}")
        return action

    def _marked_reply(self, side: int, reply: Reply) -> Reply:
        """A reply to one of this server's own callers."""
        raise BadReturn(self.context.name, "a side", reply, AT_ONCE_OF_BOTH)

    # --- refusals ------------------------------------------------------------------------------

    @classmethod
    def _gate(cls) -> tuple[tuple[type, ...] | None, Validate | None]:
        return None, cls._validate

    def _validate(self, command: Any, state: Any) -> object:
        pieces = self._addressed(command)
        if pieces is None:
            return f"an input of {type(self).__qualname__} is {self.form}"
        if any(isinstance(own, Together | Once) for _, own in pieces):
            return "what is sent Together, or Once, are whole inputs, not those of a side"
        found = (
            refusal(self.sides[side].__qualname__, self._parts[side], own, state[side])
            for side, own in pieces
        )
        return next((error for error in found if error is not None), None)

    # --- life ----------------------------------------------------------------------------------

    @property
    def context(self) -> Any:
        """The server's, which is each side's."""
        return self._context

    @context.setter
    def context(self, context: Any) -> None:
        self._context = context
        for part in self._parts:
            part.context = context

    def init(self, args: Any) -> Any:
        """Return what each side's init does, with its item of `args`; None is None for each."""
        found = zip(self._parts, self._args_of(self.context.name, args), strict=True)
        return tuple(call_init(part, own) for part, own in found)

    def _args_of(self, server: str, args: Any) -> Any:
        """What each side's init gets."""
        own_args = (None,) * len(self.sides) if args is None else args
        if not isinstance(own_args, list | tuple) or len(own_args) != len(self.sides):
            allowed = f"None, or a list or tuple with args for each of its {len(self.sides)} sides"
            raise SpecError(
                f"Server {server!r}", f"args={show(args)} is not allowed; use {allowed}"
            )
        return own_args

    def _initial(
        self, server: str, args: Any, recovery: Recovery[Any] | None = None
    ) -> Initial | _Ignored:
        own_args = self._args_of(server, args)
        states: list[Any] = []
        actions: list[Action] = []
        for side, part in enumerate(self._parts):
            initial = part._initial(server, own_args[side], self._recovered(recovery, side))
            if not isinstance(initial, Initial):
                return IGNORED
            if recovery is not None and not takes_recovery(part):  # what init sets on it remains
                initial = Initial(recovery.state[side], ())
            states.append(initial.state)
            actions += [self._marked(side, each) for each in initial.actions]
        return Initial(tuple(states), tuple(actions))

    def _recovered(self, recovery: Recovery[Any] | None, side: int) -> Recovery[Any] | None:
        """What a side has to go on from."""
        if recovery is None or not takes_recovery(self._parts[side]):
            return None
        failure, own = recovery.failure, {}
        if failure is not None:
            own = dict(self._shares(failure.message))
        return Recovery(
            recovery.state[side],
            recovery.policy,
            Failure(failure.lsn, own[side], failure.error) if failure and side in own else None,
            frozenset(name[2] for name in recovery.timers if _is_marked(name) and name[1] == side),
        )

    def _terminate(self, reason: Any, state: Any) -> Any:
        return _ended(list(zip(self._parts, state, strict=True)), reason)

    # --- what is asked of each side about its own ----------------------------------------------

    def dump(self, state: Any) -> Any:
        """Return what each side's `dump` does."""
        return [part.dump(own) for part, own in zip(self._parts, state, strict=True)]

    def load(self, data: Any) -> Any:
        """Return the states that each side's `load` does."""
        return tuple(part.load(own) for part, own in zip(self._parts, data, strict=True))

    def _shown(self, state: Any) -> Any:
        return tuple(part._shown(own) for part, own in zip(self._parts, state, strict=True))

    def _replaced(self, state: Any, shown: Any) -> Any:
        if not isinstance(shown, list | tuple) or len(shown) != len(self.sides):
            allowed = f"a tuple with the states of its {len(self.sides)} sides is wanted"
            raise BadReturn(self.context.name, "replace_state", shown, allowed)
        is_alike = type(state) is tuple and len(state) == len(self.sides)
        before = state if is_alike else (None,) * len(self.sides)  # of code with other sides
        both = zip(self._parts, before, shown, strict=True)
        return tuple(part._replaced(own, other) for part, own, other in both)

    def _adopted(self, state: Any) -> Any:
        return tuple(part._adopted(own) for part, own in zip(self._parts, state, strict=True))

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        """Let each side shape its state and its messages; reason and log go through all."""
        shown = dict(status)
        for part in self._parts:
            rest = {key: each for key, each in shown.items() if key not in ("state", "message")}
            shown.update(part.format_status(rest))
        if isinstance(status.get("state"), tuple):
            pairs = zip(self._parts, status["state"], strict=True)
            shown["state"] = tuple(
                part.format_status({"state": own})["state"] for part, own in pairs
            )
        if "message" in status:
            shown["message"] = self._shown_message(status["message"])
        return shown

    def _shown_message(self, message: Any) -> Any:
        """A message as it is, if no side hides something; else what each side shows of its own."""
        shares = self._shares(message)
        shown = tuple(
            (side, self._parts[side].format_status({"message": own})["message"])
            for side, own in shares
        )
        is_whole = all(after is own for (_, after), (_, own) in zip(shown, shares, strict=True))
        return message if is_whole and not _is_marked(message) else shown

    # --- versions ------------------------------------------------------------------------------

    @classmethod
    def _understands(cls, version: int) -> bool:
        versions = versions_of(cls.sides, version)
        if not all(versions):
            return True  # fewer servers have written it: `_chains` says so
        return all(k._understands(own) for k, own in zip(cls.sides, versions, strict=True))  # (B3)

    @classmethod
    def _has_upcast(cls, version: int) -> bool:
        versions = versions_of(cls.sides, version)
        if not all(versions):
            return True  # see `_understands`
        return all(k._has_upcast(own) for k, own in zip(cls.sides, versions, strict=True))

    @classmethod
    def _versions_from(cls, version: int) -> Iterable[int]:
        return () if version == cls.version else (version,)  # each side has a chain of its own

    @classmethod
    def _names(cls, version: int) -> dict[str, type]:
        found: dict[str, type] = {}
        for kind, own in zip(cls.sides, versions_of(cls.sides, version), strict=True):
            found |= kind._names(own)
        return found

    def _upcast(self, version: int, message: Any) -> Any:
        up = self._chains("_upcast", version)
        if self._addressed(message) is None or _is_marked(message):
            pieces = [(side, up[side](own)) for side, own in self._pieces(message)]
            if len(pieces) == 1:
                return SIDE, *pieces[0]
            return SIDE, ALL, [own for _, own in pieces]
        pieces = self._pieces(message)
        return self._whole([up[side](own) for side, own in pieces], pieces[0][0])

    def _upcast_state(self, version: int, dumped: Any) -> Any:
        up = self._chains("_upcast_state", version)
        return [upcast(own) for upcast, own in zip(up, dumped, strict=True)]

    def _chains(self, name: str, version: int) -> list[Callable[[Any], Any]]:
        """What brings each side's to today, by its own upcasts."""
        found = versions_of(self.sides, version)
        if not all(found):
            raise NotImplementedError(
                f"{type(self).__name__} is made of {len(self.sides)} sides, and version {version} "
                f"was not: give the server another name, or migrate its state (Migration)"
            )
        return [
            _chain(getattr(part, name), part._versions_from(own))
            for part, own in zip(self._parts, found, strict=True)
        ]


AT_ONCE_OF_BOTH: Final = "a side of `both` answers at once: return an output"


class Either(Combined):
    """What `either` returns is derived from."""

    form = "a pair (side, input for it)"

    def _addressed(self, message: Any) -> Pieces | None:
        if type(message) not in (tuple, list) or len(message) != 2:
            return None
        side, own = message
        return [(side, own)] if type(side) is int and 0 <= side < len(self.sides) else None

    def _whole(self, pieces: list[Any], side: int) -> Any:
        return NO_REPLY if pieces[0] is NO_REPLY else (side, pieces[0])

    def _marked_reply(self, side: int, reply: Reply) -> Reply:
        return Reply(reply.to, (side, reply.value))


class Both(Combined):
    """What `both` returns is derived from."""

    form = "a tuple with an input for each side"

    def _addressed(self, message: Any) -> Pieces | None:
        is_input = type(message) in (tuple, list) and len(message) == len(self.sides)
        return list(enumerate(message)) if is_input else None

    def _whole(self, pieces: list[Any], side: int) -> Any:
        if any(each is NO_REPLY for each in pieces):
            raise BadReturn(self.context.name, "a side", NO_REPLY, AT_ONCE_OF_BOTH)
        return tuple(pieces)


@overload
def either(
    first: type[GenServer[State1, Input1, Output1]],
    second: type[GenServer[State2, Input2, Output2]],
    /,
) -> type[
    GenServer[
        tuple[State1, State2],
        tuple[Literal[0], Input1] | tuple[Literal[1], Input2],
        tuple[Literal[0], Output1] | tuple[Literal[1], Output2],
    ]
]: ...
@overload
def either(*servers: type[GenServer[Any, Any, Any]]) -> type[GenServer[Any, Any, Any]]: ...
def either(*servers: type[GenServer[Any, Any, Any]]) -> type[GenServer[Any, Any, Any]]:
    """Return the class of a server that is several: each input is for one of them.

    An input is a pair (side, input), counted from 0; the output is (side, output). `args` of the
    worker is a tuple with those of each side, or None.

    Args:
        servers: Two or more classes; what cannot be a side is in docs/guide/combined.md.

    Raises:
        SpecError: A class cannot be a side, or not beside the others.
    """
    return _combination(Either, "either", servers)


@overload
def both(
    first: type[GenServer[State1, Input1, Output1]],
    second: type[GenServer[State2, Input2, Output2]],
    /,
) -> type[GenServer[tuple[State1, State2], tuple[Input1, Input2], tuple[Output1, Output2]]]: ...
@overload
def both(*servers: type[GenServer[Any, Any, Any]]) -> type[GenServer[Any, Any, Any]]: ...
def both(*servers: type[GenServer[Any, Any, Any]]) -> type[GenServer[Any, Any, Any]]:
    """Return the class of a server that is several: each input has a part for all of them.

    Input and output are tuples with an item for each side. If one side raises, no side has stepped.
    Each answers at once. `args` of the worker is a tuple with those of each side, or None.

    Args:
        servers: Two or more classes; what cannot be a side is in docs/guide/combined.md.

    Raises:
        SpecError: A class cannot be a side, or not beside the others.
    """
    return _combination(Both, "both", servers)


# --- making a class --------------------------------------------------------------------------

_made: WeakValueDictionary[tuple[Any, ...], type[Combined]] = WeakValueDictionary()
"""The same sides make the same class: a release that changes neither changes no server."""


def _combination(base: type[Combined], word: str, sides: Sides) -> type[Combined]:
    found = _made.get((base, *sides))
    if found is not None:
        return found
    name = f"{word}({', '.join(getattr(kind, '__qualname__', show(kind)) for kind in sides)})"
    check_sides(name, sides)
    body: dict[str, Any] = {
        "__module__": sides[0].__module__,
        "__qualname__": name,
        "__doc__": f"The servers {name}.",
        "sides": sides,
        "version": version_of_all(sides),
        "pure": all(kind.pure for kind in sides),
        "trap_exit": sides[0].trap_exit,
        "types": tuple(dict.fromkeys(each for kind in sides for each in kind.types)),
        "shared": tuple(each for kind in sides for each in kind.shared),
    }
    if any(takes_recovery(object.__new__(kind)) for kind in sides):
        body["init"] = _init_with_recovery
    if any(kind.invariant is not GenServer.invariant for kind in sides):
        body["invariant"] = _invariant
    made = type(name, (base,), body)
    _made[(base, *sides)] = made
    return made


def _init_with_recovery(self: Combined, args: Any, recovery: Any = None) -> Any:
    """As `init`; by its parameter the runtime sees that a side decides (`_initial`)."""
    return Combined.init(self, args)


def _invariant(self: Combined, state: Any) -> object:
    """Ask each side about its state."""
    for part, own in zip(self._parts, state, strict=True):
        answer = part.invariant(own)
        if answer is not None and not answer:
            return answer
    return None


# --- small parts -----------------------------------------------------------------------------


def _chain(upcast: Callable[[int, Any], Any], versions: Iterable[int]) -> Callable[[Any], Any]:
    def up(value: Any) -> Any:
        for version in versions:
            value = upcast(version, value)
        return value

    return up


def _cast(part: GenServer[Any, Any, Any], own: Any, state: Any) -> Any:
    return part.handle_cast(own, state)


def _info(part: GenServer[Any, Any, Any], own: Any, state: Any) -> Any:
    return part.handle_info(own, state)


def _continue(part: GenServer[Any, Any, Any], own: Any, state: Any) -> Any:
    return part.handle_continue(own, state)


def _is_marked(value: Any) -> bool:
    return type(value) is tuple and len(value) == 3 and value[0] == SIDE


def _with(value: Any, **fields: Any) -> Any:
    """The same with other fields: actions are Structs, what they bring are dataclasses."""
    if isinstance(value, Action):
        return replaced_struct(value, **fields)  # type: ignore[type-var]
    names = value.__dataclass_fields__
    return type(value)(**{name: fields.get(name, getattr(value, name)) for name in names})


def _ended(
    parts: list[tuple[GenServer[Any, Any, Any], Any]], reason: Any
) -> Generator[float, None, None]:
    """Clean up the last side first, and all of them, whatever one raises."""
    part, state = parts.pop()
    try:
        cleanup = part._terminate(reason, state)
        if isinstance(cleanup, GeneratorType):
            yield from cleanup
    finally:
        if parts:
            yield from _ended(parts, reason)

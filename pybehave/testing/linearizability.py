"""Whether what clients saw can be told as one story, each request at one moment between its ends.

    history = History()
    token = history.called("client 1", (b"SET", b"x", b"1"))
    history.replied(token, OK)
    assert check_linearizable(history, Model(step, {}, key=lambda input: input[1]))

Theory. A history is linearizable when its operations can be put in one order that keeps every
"this one was answered before that one was asked", and in which a sequential model gives the
outputs that were seen. The search takes any operation that no other one's reply precedes, steps
the model, and goes back when the output differs. It is exponential in the number of operations
that overlap, so what was tried is remembered: after the same operations in the same state the same
lies ahead. Operations on different keys do not know of each other: each key is searched by itself.

A request that was not answered may have been carried out at any time after it was asked, or never.
Our servers are sequential functions, so the model of a server can be its own `step`: then this
judges everything but the step (queues, connections, restarts, the journal).

Invariants
  (L1) The verdict "violation" is a proof: every order was tried.
  (L2) The search ends: after `steps_max` steps of the model the verdict is "unknown", and says so.

Does not know: clocks (the order of events is all there is), servers, the simulator.
Sources: Wing & Gong, "Testing and verifying concurrent objects" (1993), the search; Lowe, "Testing
for linearizability" (2017), the memory; Horn & Kroening, "Faster linearizability checking via
P-compositionality" (2015), the keys. Herlihy & Wing (1990) for what it means.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Literal, final

import msgspec

from pybehave.behaviours.gen_server import GenServer, Initial, initial_of, overrides
from pybehave.errors import Stopped, show
from pybehave.testing.run import FixedCaller, FixedContext, handler_of

STEPS_MAX: Final = 1_000_000
"""Steps of the model before the search gives up; some seconds of a small model's."""

SHOWN_MAX: Final = 12
"""Operations that a verdict names: enough to see the conflict, on one screen."""


@final
class _Nothing:
    """The type of `UNANSWERED`, of which there is exactly one."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNANSWERED"


UNANSWERED: Final = _Nothing()
"""The output of an operation whose client never heard what became of it."""


@final
@dataclass(frozen=True, slots=True)
class Operation:
    """One request of one client.

    Attributes:
        client: Who asked.
        input: What was asked.
        output: What was answered, or `UNANSWERED`.
        called: When it was asked: any number that grows.
        returned: When the answer had come; infinity without one.
    """

    client: Hashable
    input: Any
    output: Any = UNANSWERED
    called: float = 0
    returned: float = inf

    def __str__(self) -> str:
        until = "..." if self.output is UNANSWERED else f"{self.returned:g}"
        answer = "no answer" if self.output is UNANSWERED else show(self.output)
        return f"{self.client}: {show(self.input)} -> {answer}  [{self.called:g}, {until}]"


@final
class History:
    """Records what clients ask and hear, in the order in which it happens."""

    def __init__(self) -> None:
        self._now = 0
        self._operations: dict[int, Operation] = {}

    def called(self, client: Hashable, input: Any) -> int:  # noqa: A002 -- what it is
        """Note that a client asks; returns the token for what becomes of it.

        Args:
            client: Who.
            input: What; it is copied, for the server may keep it and change it.
        """
        self._now += 1
        self._operations[self._now] = Operation(client, copy.deepcopy(input), called=self._now)
        return self._now

    def replied(self, token: int, output: Any) -> None:
        """Note that the answer has come."""
        self._now += 1
        self._operations[token] = dataclasses.replace(
            self._operations[token], output=copy.deepcopy(output), returned=self._now
        )

    def refused(self, token: int) -> None:
        """Note that the request was refused for certain: it is as if nobody had asked."""
        del self._operations[token]

    @property
    def operations(self) -> list[Operation]:
        """All of them, in the order in which they were asked."""
        return list(self._operations.values())


@final
class Model:
    """What a server does, one request at a time.

    Args:
        step: `step(input, state)` returns `(state, output)`; actions behind them are ignored. One
            that raises says that this cannot have happened.
        state: The first state; each key has its own copy.
        key: The key that an input is about; inputs of different keys must not affect each other.
            None: all are about one thing.
        accepts: `accepts(expected, seen)` says whether an output may be what the model gave; by
            default it must be equal.
        freeze: A hashable value for a state, equal for equal states; by default made by `frozen`.
        is_pure: The step does not change the state it is given; then it need not be copied.
    """

    def __init__(
        self,
        step: Callable[[Any, Any], Any],
        state: Any = None,
        *,
        key: Callable[[Any], Hashable] | None = None,
        accepts: Callable[[Any, Any], bool] | None = None,
        freeze: Callable[[Any], Hashable] | None = None,
        is_pure: bool = False,
    ) -> None:
        self.step = step
        self.state = state
        self.key = key
        self.accepts = accepts
        self.freeze = frozen if freeze is None else freeze
        self.is_pure = is_pure

    @classmethod
    def of(
        cls,
        server: type[GenServer[Any, Any, Any]],
        args: Any = None,
        *,
        key: Callable[[Any], Hashable] | None = None,
    ) -> Model:
        """Make a model of a server's class: its own callbacks, from the state of its `init`.

        Args:
            server: The class, a GenStatem for example; what it answers must not depend on its
                context, and it answers before the next request.
            args: What init gets.
            key: As above.

        Raises:
            Stopped: Its init returned `Ignore()`.
            InitStopped: Its init returned `Stop(reason)`.
        """
        instance = server()
        instance.context = FixedContext()
        initial = initial_of(server.__name__, instance, args)
        if not isinstance(initial, Initial):
            raise Stopped(server.__name__, "ignore")
        step: Callable[[Any, Any], Any] = instance.step
        if overrides(instance, "handle_call"):
            handle, caller = handler_of(instance), FixedCaller()
            step = lambda command, state: handle(command, caller, state)  # noqa: E731 -- a function
        return cls(step, initial.state, key=key, is_pure=server.pure)

    def applied(self, operation: Operation, state: Any) -> tuple[bool, Any]:
        """Carry out an operation: whether its output is as seen, and the state then."""
        try:
            returned = self.step(operation.input, state if self.is_pure else copy.deepcopy(state))
        except Exception:  # noqa: BLE001 -- a model that raises says that it cannot have been
            return False, state
        after, output = returned[0], returned[1]
        if operation.output is UNANSWERED:
            return True, after
        if self.accepts is not None:
            return bool(self.accepts(output, operation.output)), after
        return bool(output == operation.output), after


@final
@dataclass(frozen=True, slots=True)
class Verdict:
    """What the search has found; true only if the history is linearizable.

    Attributes:
        outcome: "linearizable"; "violation", there is no such order; "unknown", the search was
            given up.
        order: An order that explains the history; of a violation the longest beginning of one, of
            the key where it is.
        blocked: Of a violation: what none of the longest beginnings could go on with.
        key: Where the violation is; None without keys.
        steps: Of the model that the search took.
    """

    outcome: Literal["linearizable", "violation", "unknown"]
    order: tuple[Operation, ...] = ()
    blocked: tuple[Operation, ...] = ()
    key: Hashable = None
    steps: int = 0

    def __bool__(self) -> bool:
        return self.outcome == "linearizable"

    def __str__(self) -> str:
        if self.outcome == "linearizable":
            return f"linearizable, found in {self.steps} steps"
        if self.outcome == "unknown":
            return (
                f"unknown: given up after {self.steps} steps of the model; give the model a key, "
                f"the clients less to do at once, or the search a larger steps_max"
            )
        about = "" if self.key is None else f" of key {show(self.key)}"
        lines = [f"not linearizable: after {len(self.order)} operations{about} no other can follow"]
        lines += [f"  {operation}" for operation in self.order[-SHOWN_MAX:]]
        lines += ["none of these:"]
        lines += [f"  {operation}" for operation in self.blocked[:SHOWN_MAX]]
        return "\n".join(lines)

    __repr__ = __str__


def check_linearizable(
    history: History | Iterable[Operation], model: Model, *, steps_max: int = STEPS_MAX
) -> Verdict:
    """Say whether a history could have come from a model that takes one request at a time.

    Args:
        history: What was recorded, or operations.
        model: What each request does.
        steps_max: Steps of the model before the search gives up, for all keys together.

    Returns:
        The verdict; `assert check_linearizable(...)` shows it when it is not "linearizable".
    """
    operations = history.operations if isinstance(history, History) else list(history)
    parts: dict[Hashable, list[Operation]] = {}
    for operation in operations:
        parts.setdefault(model.key(operation.input) if model.key else None, []).append(operation)
    order: list[Operation] = []
    steps = 0
    for key, part in parts.items():
        search = _Search(part, model, steps_max - steps)
        outcome = search.run()
        steps += search.steps
        if outcome == "violation":
            longest, blocked = search.longest, search.blocked()
            return Verdict(outcome, tuple(longest), tuple(blocked), key, steps)
        if outcome == "unknown":
            return Verdict(outcome, steps=steps)
        order += search.order()
    return Verdict("linearizable", tuple(order), steps=steps)


class _Entry:
    """The call or the return of an operation, in a list from which pairs are taken and put back."""

    __slots__ = ("after", "before", "index", "is_call", "match")

    def __init__(self, index: int, *, is_call: bool) -> None:
        self.index = index
        self.is_call = is_call
        self.match: _Entry | None = None  # of a call: its return, if there is one
        self.before: _Entry = self
        self.after: _Entry | None = None


class _Search:
    """The search of one key. A return that comes up means: its call should have been taken."""

    def __init__(self, operations: list[Operation], model: Model, steps_max: int) -> None:
        self.operations = operations
        self.model = model
        self.steps_max = steps_max
        self.steps = 0
        self.longest: list[Operation] = []
        self._left = sum(operation.output is not UNANSWERED for operation in operations)
        self._taken: list[tuple[_Entry, Any]] = []
        self._head = self._linked()

    def _linked(self) -> _Entry:
        """Calls and returns in their order; at the same time calls come first: they overlap."""
        moments: list[tuple[float, int, _Entry]] = []
        for index, operation in enumerate(self.operations):
            call = _Entry(index, is_call=True)
            moments.append((operation.called, 0, call))
            if operation.output is not UNANSWERED:
                call.match = _Entry(index, is_call=False)
                moments.append((operation.returned, 1, call.match))
        head = last = _Entry(-1, is_call=False)
        for _, _, entry in sorted(moments, key=lambda moment: moment[:2]):
            last.after, entry.before = entry, last
            last = entry
        return head

    def run(self) -> Literal["linearizable", "violation", "unknown"]:
        state, done = self.model.state, 0
        tried: set[tuple[int, Hashable]] = set()
        entry = self._head.after
        while self._left:
            assert entry is not None  # the return of what is left stands in the list
            if not entry.is_call:
                self._note()
                if not self._taken:
                    return "violation"
                call, state = self._taken.pop()
                done &= ~(1 << call.index)
                self._put_back(call)
                entry = call.after
                continue
            if self.steps >= self.steps_max:
                return "unknown"
            self.steps += 1
            is_possible, after = self.model.applied(self.operations[entry.index], state)
            what = (done | 1 << entry.index, self.model.freeze(after)) if is_possible else None
            if what is None or what in tried:
                entry = entry.after
                continue
            tried.add(what)
            self._taken.append((entry, state))
            state, done = after, what[0]
            self._take(entry)
            entry = self._head.after
        return "linearizable"

    def _note(self) -> None:
        """Keep the longest beginning, before a step back."""
        if len(self._taken) > len(self.longest):
            self.longest = self.order()

    def _take(self, call: _Entry) -> None:
        for entry in (call, call.match):
            if entry is not None:
                entry.before.after = entry.after
                if entry.after is not None:
                    entry.after.before = entry.before
        self._left -= call.match is not None

    def _put_back(self, call: _Entry) -> None:
        for entry in (call.match, call):
            if entry is not None:
                entry.before.after = entry
                if entry.after is not None:
                    entry.after.before = entry
        self._left += call.match is not None

    def order(self) -> list[Operation]:
        """What is taken, in its order."""
        return [self.operations[entry.index] for entry, _ in self._taken]

    def blocked(self) -> list[Operation]:
        """What could come next after the longest beginning, but for its output."""
        taken = {id(operation) for operation in self.longest}
        left = [operation for operation in self.operations if id(operation) not in taken]
        first = min((operation.returned for operation in left), default=inf)
        return [
            operation
            for operation in left
            if operation.output is not UNANSWERED and operation.called <= first
        ]


def frozen(value: Any) -> Hashable:
    """Return something hashable, equal for equal values and different for different ones.

    Dicts and sets, lists and tuples, bytearrays, dataclasses and Structs are taken apart; anything
    else must be hashable, or is taken for the attributes that it has.
    """
    if isinstance(value, dict):
        return dict, frozenset((frozen(key), frozen(item)) for key, item in value.items())
    if isinstance(value, set | frozenset):
        return set, frozenset(map(frozen, value))
    if isinstance(value, list | tuple):
        return list if isinstance(value, list) else tuple, tuple(map(frozen, value))
    if isinstance(value, bytearray):
        return bytearray, bytes(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
    elif isinstance(value, msgspec.Struct):
        names = list(value.__struct_fields__)
    elif not _has_hash(value) and hasattr(value, "__dict__"):
        names = sorted(vars(value))
    else:
        return isinstance(value, bool), value
    return type(value), tuple((name, frozen(getattr(value, name))) for name in names)


def _has_hash(value: Any) -> bool:
    """Whether a value's hash follows from what it is, and not from where it lies."""
    own: Any = type(value).__hash__
    return own is not None and own is not object.__hash__

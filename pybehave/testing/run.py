"""Run a server over a list of inputs: no loop, no time, no tree; the unit test of its semantics.

    assert run(Counter, [Increment(), Increment(), Read()], state=0) == Value(2)

A server is a sequential function, so folding it over inputs is all a unit test needs. A crash is
the exception itself, as it was raised. `Continue` is followed, as the runtime would, before the
next input. A `Reply` to the input's own caller is its output, as its caller would hear it; all
other actions are collected and not carried out.

Does not know: supervision (a crash ends the run), timers, connections.
Source: the `Run` function of "Implementing Erlang's behaviours without lightweight processes".
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, final

from pybehave.actions import NO_REPLY, Action, Continue, Reply, Stop
from pybehave.behaviours.gen_server import GenServer, Initial, Turn, initial_of, interpret
from pybehave.behaviours.inputs import check_trace, refusal
from pybehave.errors import Stopped
from pybehave.together import Together

CONTINUES_MAX: Final = 1000
"""More continues after one input than this are a loop that never ends."""

_FROM_INIT: Final = object()


@final
@dataclass(frozen=True, slots=True)
class FixedCaller:
    """Who waits for the reply to an input: the caller that its callback is given.

    Attributes:
        input: Which one it is; the first is 0.
    """

    input: int = 0


@final
@dataclass(slots=True)
class FixedContext:
    """The world a server sees during `run`: time stands still, randomness has a seed.

    Attributes:
        name: The server's name.
        incarnation: As after the first start.
        now: Unix seconds.
        monotonic: Monotonic seconds.
        random: The same numbers in every run.
        caller: Of the input, in `run`; else nobody.
        connection: None.
    """

    name: str = "test"
    incarnation: int = 1
    now: float = 0.0
    monotonic: float = 0.0
    random: Random = field(default_factory=lambda: Random(0))
    caller: object = None
    connection: object = None


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        state: After the last input.
        outputs: One per input: what its caller hears, or `NO_REPLY` if that is not yet known.
        actions: All others that were asked for, in order, without the continues. A reply that was
            put off is to the `FixedCaller` of its input.
    """

    state: Any
    outputs: tuple[Any, ...]
    actions: tuple[Action, ...]


def run(server: Any, inputs: Iterable[Any], *, state: Any = _FROM_INIT, args: Any = None) -> Any:
    """Apply inputs to a server one by one and return the last output.

    Args:
        server: A GenServer class, a server object, or a step function.
        inputs: At least one.
        state: The first state; what init returns unless given. A step function needs it.
        args: What init gets.

    Raises:
        ValueError: There are no inputs, or no first state.
        InputTypeMismatch, Rejected: The server does not take an input.
        EphemeralTrace: An ephemeral one has changed the state, or asked for what lasts.
        BaseException: Whatever the step raised; it is the crash.
    """
    outputs = fold(server, inputs, state=state, args=args).outputs
    if not outputs:
        raise ValueError("run needs at least one input; use fold to see the state without any")
    return outputs[-1]


def fold(
    server: Any, inputs: Iterable[Any], *, state: Any = _FROM_INIT, args: Any = None
) -> Outcome:
    """Apply inputs to a server one by one and return state, outputs and actions.

    Args:
        server: A GenServer class, a server object, or a step function.
        inputs: Any number.
        state: The first state; what init returns unless given. A step function needs it.
        args: What init gets.

    Raises:
        Stopped: Init returned Stop, or the server stopped before the last input.
        InputTypeMismatch, Rejected: The server does not take an input.
        EphemeralTrace: An ephemeral one has changed the state, or asked for what lasts.
        BaseException: Whatever the step raised; it is the crash.
    """
    instance = server() if isinstance(server, type) else server
    actions: list[Action] = []
    if state is _FROM_INIT:
        state = _init(instance, args, actions)
    handle = handler_of(instance)
    outputs = []
    for index, command in enumerate(inputs):
        _refuse_stopped(actions)
        turn = handle(command, FixedCaller(index), state)
        outputs.append(turn.output)
        actions += turn.actions
        state = turn.state
    return Outcome(state, tuple(outputs), tuple(actions))


def handler_of(instance: Any) -> Callable[[Any, FixedCaller, Any], Turn]:
    """Return what gives one input to a server, and what came of it without its continues.

    Args:
        instance: A server object, or a step function.
    """
    if isinstance(instance, GenServer):
        _give_context(instance)
        return lambda command, caller, state: _handled(instance, command, caller, state)
    step = getattr(instance, "step", instance)
    name = getattr(step, "__qualname__", repr(step))
    return lambda command, caller, state: _continued(
        instance, interpret(name, "step", step(command, state)), caller
    )


def _init(instance: Any, args: Any, actions: list[Action]) -> Any:
    if not hasattr(instance, "init"):
        raise ValueError("a step function has no init; give the first state with state=")
    _give_context(instance)
    initial = initial_of(type(instance).__name__, instance, args)
    if not isinstance(initial, Initial):
        raise Stopped(type(instance).__name__, "ignore")
    turn = _continued(instance, Turn(initial.state, None, initial.actions), None)
    actions += turn.actions
    return turn.state


def _handled(
    instance: GenServer[Any, Any, Any], command: Any, caller: FixedCaller, state: Any
) -> Turn:
    context: Any = instance.context
    context.caller = caller
    try:
        turn = _call(instance, command, caller, state)
    finally:
        context.caller = None  # a continue has none
    return _continued(instance, turn, caller)


def _call(
    instance: GenServer[Any, Any, Any], command: Any, caller: FixedCaller, state: Any
) -> Turn:
    name = type(instance).__name__
    error = refusal(name, instance, command, state)
    if error is not None:
        raise error
    if isinstance(command, Together):
        returned = instance._handle_together(command.commands, True, caller, state)
        return interpret(name, "handle_call", returned)
    before = _copy_of(state) if isinstance(command, instance._passing()) else state
    turn = interpret(name, "handle_call", instance.handle_call(command, caller, state))
    turn = _answered(turn, caller)
    check_trace(name, instance, command, before, turn)
    return turn


def _answered(turn: Turn, caller: FixedCaller) -> Turn:
    """A reply to the caller is what it hears: the first one, also before the output."""
    own = [each for each in turn.actions if _is_to(caller, each)]
    if not own:
        return turn
    others = tuple(each for each in turn.actions if not _is_to(caller, each))
    return Turn(turn.state, own[0].value, others)  # type: ignore[attr-defined]


def _is_to(caller: FixedCaller | None, action: Action) -> bool:
    return caller is not None and isinstance(action, Reply) and action.to is caller


def _copy_of(state: Any) -> Any:
    """A state to compare with; itself, if it cannot be copied."""
    try:
        return copy.deepcopy(state)
    except Exception:  # noqa: BLE001 -- whatever it is made of
        return state


def _give_context(instance: Any) -> None:
    if isinstance(instance, GenServer) and not hasattr(instance, "context"):
        instance.context = FixedContext()


def _continued(instance: Any, turn: Turn, caller: FixedCaller | None) -> Turn:
    """Follow `Continue` until none is left; with the other actions of all, and the first reply."""
    output, actions = turn.output, []
    terms: list[Any] = []
    for _ in range(CONTINUES_MAX):
        for action in turn.actions:
            if isinstance(action, Continue):
                terms.append(action.term)
            elif not _is_to(caller, action):
                actions.append(action)
            elif output is NO_REPLY:
                output = action.value  # type: ignore[attr-defined]
        if not terms:
            return Turn(turn.state, output, tuple(actions))
        returned = instance.handle_continue(terms.pop(0), turn.state)
        turn = interpret(type(instance).__name__, "handle_continue", returned)
    raise RuntimeError(f"handle_continue asked for more than {CONTINUES_MAX} continues in a row")


def _refuse_stopped(actions: list[Action]) -> None:
    for action in actions:
        if isinstance(action, Stop):
            raise Stopped("the server under test", action.reason)

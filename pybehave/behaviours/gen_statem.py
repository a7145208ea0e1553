"""The generic state machine: the callbacks a user writes, on top of the generic server.

A machine is a server whose state is a `Machine`: where it is, what it knows, which events wait and
which time-outs run. Calls, casts, infos and timers become events; what a turn asks for goes back as
a server's actions. So a machine is supervised, journaled, replayed and snapshot like any server.

    class Door(GenStatem):
        def init(self, args):
            return "closed", {"pushes": 0}

        def closed(self, event_type, content, data):
            match event_type, content:
                case ("call", caller), "push":
                    return NextState("open", data, [Reply(caller, "pushed"), StateTimeout(10)])
            return KeepStateAndData()

        def open(self, event_type, content, data):
            if event_type == "state_timeout":
                return NextState("closed", data)
            return KeepStateAndData(Postpone())

Types of events: `("call", caller)`, `"cast"`, `"info"`, `"internal"`, `"state_timeout"`,
`"timeout"`, `("timeout", name)`, and `"enter"` with state enter calls.

Invariants
  (S1) What comes from outside is one turn of the engine and one input of the server.
  (S2) A reply to the caller of the turn is the turn's output.

Does not know: how a turn goes (statem_engine.py), mailboxes, timers, journals.
Source: OTP stdlib, gen_statem.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Literal

from pybehave import actions as _actions
from pybehave.actions import NO_REPLY, CancelTimer, Ignore, Reply
from pybehave.behaviours.class_names import class_named, name_of
from pybehave.behaviours.gen_server import GenServer, Initial
from pybehave.behaviours.inputs import Validate, gate_of
from pybehave.behaviours.recovery import Recovery, call_init
from pybehave.behaviours.statem_engine import MINE, Machine, Turn, as_tuple, plain_start
from pybehave.errors import FIRST_TURN, BadReturn, InitStopped, SpecError, show
from pybehave.statem import SAME, NextState, Stop
from pybehave.types import IGNORED, _Ignored

CallbackMode = Literal["state_functions", "handle_event_function"]

MODES: Final = '"state_functions" or "handle_event_function"; or leave it away'
STEPS: Final = "events go to the method named by the state, or to handle_event"
INITS: Final = "return (state, data), (state, data, actions), Ignore() or Stop(reason)"


class GenStatem(GenServer[Machine, Any, Any]):
    """A state machine: override `init` and a method for each state, or `handle_event`.

    Attributes:
        callback_mode: `"state_functions"`: the method named by the state handles its events, and
            states are str. `"handle_event_function"`: `handle_event` handles all, and a state is
            any hashable value. By default the second if `handle_event` is defined, else the first.
        state_enter: Call the state's callback with `"enter"` and the state that was left, at the
            start, whenever the state changes, and when it is repeated.
    """

    callback_mode: ClassVar[CallbackMode | None] = None
    state_enter: ClassVar[bool] = False
    _is_by_function: ClassVar[bool] = True
    _states: ClassVar[frozenset[str]] = frozenset()

    def init(self, args: Any) -> Any:
        """Return the first state and data.

        `init(self, args, recovery=None)` decides at each start; see GenServer.init. The machine
        goes on as it is, with its time-outs and postponed events, when `recovery.state` is
        returned; with another state, or other data, it begins anew.

        Args:
            args: What the worker's specification holds.

        Returns:
            `(state, data)` or `(state, data, actions)`; or `Ignore()`; or `Stop(reason)`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no init; define init(self, args) -> (state, data)"
        )

    def handle_event(self, event_type: Any, content: Any, state: Any, data: Any) -> Any:
        """Handle an event in a state; one of the results in `pybehave.statem`.

        Args:
            event_type: `("call", caller)`, `"cast"`, `"info"`, `"internal"`, `"state_timeout"`,
                `"timeout"`, `("timeout", name)` or `"enter"`.
            content: What was sent, or what the time-out holds; for `"enter"` the state left.
            state: Where the machine is.
            data: What it knows; it may be changed in place unless `pure` is True.
        """
        raise NotImplementedError(f"{type(self).__name__} has no handle_event")

    def validate(self, content: Any, state: Any, data: Any) -> object:  # type: ignore[override]
        """Say why a call or cast is refused before it is an event; see GenServer.validate.

        Args:
            content: What was sent.
            state: Where the machine is.
            data: What it knows; it must not be changed.
        """
        return None

    def terminate(self, reason: Any, state: Any, data: Any) -> Any:  # type: ignore[override]
        """Clean up; see GenServer.terminate. The replies of a stop have been carried out before.

        Args:
            reason: Why the machine ends.
            state: Where it is.
            data: What it knows.
        """

    def code_change(  # type: ignore[override]
        self, old_version: Any, state: Any, data: Any, extra: Any
    ) -> tuple[Any, Any]:
        """Return state and data in the shape this version of the code wants.

        Args:
            old_version: The version that left them, or is to have them; see GenServer.code_change.
            state: In the old shape.
            data: In the old shape.
            extra: From the upgrade's instructions.
        """
        return state, data

    def dump_data(self, data: Any) -> Any:
        """Return what a snapshot keeps of the data; see GenServer.dump."""
        return data

    def load_data(self, dumped: Any) -> Any:
        """Return the data that `dump_data` was given."""
        return dumped

    def upcast_state(  # type: ignore[override]
        self, version: int, state: Any, data: Any
    ) -> tuple[Any, Any]:
        """Return state and data of an older version as the next version has them.

        The contents of postponed events and of running time-outs are inputs: `upcast` gets them.

        Args:
            version: Whose they are; what is returned is for `version + 1`.
            state: Where the machine is.
            data: What `dump_data` returned.
        """
        raise self._has_no("upcast_state(self, version, state, data)", version)

    # --- what the engine asks ------------------------------------------------------------------

    def _current(self, modules: tuple[type, ...]) -> GenStatem:
        """Return whose callbacks count."""
        if not modules or modules[-1] is type(self):
            return self
        others: dict[type, GenStatem] = self.__dict__.setdefault("_others", {})
        found = others.get(modules[-1])
        if found is None:
            found = others[modules[-1]] = modules[-1]()
            found.context = self.context
        return found

    def _is_module(self, module: object) -> bool:
        """Say whether a class can be a callback module."""
        return isinstance(module, type) and issubclass(module, GenStatem)

    def _call(self, event_type: Any, content: Any, state: Any, data: Any) -> Any:
        """Call the callback of the class's mode."""
        try:
            if self._is_by_function:
                return getattr(self, state)(event_type, content, data)
            return self.handle_event(event_type, content, state, data)
        except Exception as error:
            _note(error, state, event_type, content)
            raise

    def __init_subclass__(cls, **words: Any) -> None:
        super().__init_subclass__(**words)
        mode = cls.callback_mode
        if mode is None:
            own = cls.handle_event is not GenStatem.handle_event
            mode = "handle_event_function" if own else "state_functions"
        if mode not in ("state_functions", "handle_event_function"):
            raise SpecError(cls.__name__, f"callback_mode={show(mode)} is not allowed; use {MODES}")
        if cls.step is not GenServer.step:
            raise SpecError(cls.__name__, f"step is never called: {STEPS}")
        cls._is_by_function = mode == "state_functions"
        cls._states = frozenset(
            name for name in dir(cls) if callable(getattr(cls, name)) and name not in _OWN
        )

    def _check_state(self, state: Any) -> None:
        """Refuse a state that cannot be one.

        Raises:
            BadReturn: State functions: no method has that name. Else: it is not hashable.
        """
        try:
            if state in self._states or not self._is_by_function:
                return
            why = f"{type(self).__name__} has no method of that name"
            if state in _OWN:
                why = "that is the name of a callback; call the state something else"
        except TypeError:
            why = "a state is hashable"
        raise BadReturn(self._name(), "a state callback or init", state, why)

    def _name(self) -> str:
        """Return the server's name, for errors."""
        context = getattr(self, "context", None)
        return context.name if context is not None else type(self).__name__

    # --- what the server asks ------------------------------------------------------------------

    @classmethod
    def _gate(cls) -> tuple[tuple[type, ...] | None, Validate | None]:
        return gate_of(cls, GenStatem)

    @classmethod
    def _passing(cls) -> tuple[type, ...]:
        return ()

    def _validate(self, command: Any, machine: Machine) -> object:
        own = self._current(machine.modules)
        return own.validate(command, machine.state, machine.data)

    def _upcast(self, version: int, message: Any) -> Any:
        return message if _is_mine(message) else self.upcast(version, message)

    def _upcast_state(self, version: int, dumped: Any) -> Any:
        state, data = self.upcast_state(version, dumped["state"], dumped["data"])
        postponed = [(kind, self.upcast(version, held)) for kind, held in dumped["postponed"]]
        timeouts = {key: self.upcast(version, held) for key, held in dumped["timeouts"].items()}
        return {
            **dumped, "state": state, "data": data, "postponed": postponed, "timeouts": timeouts
        }  # fmt: skip

    def _initial(
        self, server: str, args: Any, recovery: Recovery[Any] | None = None
    ) -> Initial | _Ignored:
        before: Machine | None = None if recovery is None else recovery.state
        if recovery is not None and before is not None:
            recovery = recovery.of((before.state, before.data))
        value = call_init(self, args, recovery)
        if isinstance(value, Ignore):
            return IGNORED
        if isinstance(value, _actions.Stop) or _is_stop(value):
            raise InitStopped(server, value.reason)
        if type(value) is not tuple or len(value) not in (2, 3):
            raise BadReturn(server, "init", value, INITS)
        self._check_state(value[0])
        if before is not None and _is_same(before, value):
            return Initial(before, ())
        actions = value[2] if len(value) == 3 else None
        if before is None and not self.state_enter:
            plain = plain_start(value[0], value[1], actions)
            if plain is not None:
                return Initial(*plain)
        gone = () if before is None else [CancelTimer((MINE, key)) for key in before.timeouts]
        turn = Turn(self, Machine(value[0], value[1]))
        try:
            turn.begin(actions)
        except Exception as error:
            error.add_note(FIRST_TURN)
            raise
        if turn.stop is not None:
            raise InitStopped(server, turn.stop.reason, "first turn")
        return Initial(turn.machine(), (*gone, *turn.timers, *turn.out))

    def _terminate(self, reason: Any, machine: Machine) -> Any:
        return self._current(machine.modules).terminate(reason, machine.state, machine.data)

    def _code_changed(self, old_version: Any, machine: Machine, extra: Any) -> Machine:
        is_down = type(old_version) is tuple  # then this is the code that still runs
        modules = machine.modules if is_down else _named_alike(machine.modules)
        pair = self._current(modules).code_change(old_version, machine.state, machine.data, extra)
        if type(pair) is not tuple or len(pair) != 2:
            raise BadReturn(self._name(), "code_change", pair, "a pair (state, data) is wanted")
        return Machine(*pair, machine.postponed, machine.running, machine.modules)

    def _adopted(self, machine: Machine) -> Machine:
        """No enter call is made (OTP). Callback modules are those of the same names today."""
        modules = _named_alike(machine.modules)
        self.__dict__.pop("_others", None)
        self._current(modules)._check_state(machine.state)
        return Machine(machine.state, machine.data, machine.postponed, machine.running, modules)

    def _shown(self, machine: Machine) -> Any:
        return machine.state, machine.data

    def _shape(self, state: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
        own = self._current(state.modules) if isinstance(state, Machine) else self
        return own.format_status

    def _replaced(self, machine: Machine, shown: Any) -> Any:
        if type(shown) is not tuple or len(shown) != 2:
            raise BadReturn(self._name(), "replace_state", shown, "a pair (state, data) is wanted")
        if not isinstance(machine, Machine):  # of code that was no machine
            self._check_state(shown[0])
            return Machine(*shown)
        self._current(machine.modules)._check_state(shown[0])
        return Machine(*shown, machine.postponed, machine.running, machine.modules)

    def handle_call(self, request: Any, caller: Any, machine: Machine) -> Any:
        """An event of type `("call", caller)`; not to be overridden.

        Most calls change state and data and are answered: those are concluded here, without a Turn.
        """
        event_type = ("call", caller)
        if self.state_enter or machine.running or machine.postponed or machine.modules:
            return self._handle((event_type, request), machine, caller)
        state = machine.state
        try:
            if self._is_by_function:
                result = getattr(self, state)(event_type, request, machine.data)
            else:
                result = self.handle_event(event_type, request, state, machine.data)
        except Exception as error:
            _note(error, state, event_type, request)
            raise
        if type(result) is NextState:
            actions = result.actions
            if type(actions) is Reply and actions.to is caller:
                self._check_state(result.state)
                return Machine(result.state, result.data), actions.value
        turn = Turn(self, machine)
        turn.go_on((event_type, request), result)
        return _conclude(turn, caller)

    def handle_cast(self, message: Any, machine: Machine) -> Any:
        """An event of type `"cast"`; not to be overridden."""
        return self._handle(("cast", message), machine, None)

    def handle_info(self, message: Any, machine: Machine) -> Any:
        """An expiry, or an event of type `"info"`; not to be overridden."""
        if _is_mine(message):
            turn = Turn(self, machine)
            turn.expired(message[1])
            return _conclude(turn, None)
        return self._handle(("info", message), machine, None)

    def _handle(self, event: Any, machine: Machine, caller: Any) -> Any:
        """An event from outside."""
        turn = Turn(self, machine)
        turn.run(event)
        return _conclude(turn, caller)

    def dump(self, machine: Machine) -> Any:
        """The machine as plain values; not to be overridden: `dump_data` is."""
        own = self._current(machine.modules)
        return {
            "state": machine.state,
            "data": own.dump_data(machine.data),
            "postponed": list(machine.postponed),
            "timeouts": machine.timeouts,
            "modules": [name_of(kind) for kind in machine.modules],
        }

    def load(self, data: Any) -> Machine:
        """The machine out of what `dump` made; not to be overridden: `load_data` is."""
        modules = tuple(class_named(name, GenStatem) for name in data["modules"])
        return Machine(
            data["state"],
            self._current(modules).load_data(data["data"]),
            tuple(data["postponed"]),
            as_tuple(data["timeouts"]),
            modules,
        )


_OWN: Final = frozenset(dir(GenStatem))
"""What is no state function, whatever a class calls its states."""


def _named_alike(modules: tuple[type, ...]) -> tuple[type[GenStatem], ...]:
    """The classes that have these names today."""
    return tuple(class_named(name_of(kind), GenStatem) for kind in modules)


def _is_same(machine: Machine, value: tuple[Any, ...]) -> bool:
    """Whether an init has chosen the machine that it was told of."""
    if len(value) != 2 or value[1] is not machine.data:
        return False
    return type(value[0]) is type(machine.state) and bool(value[0] == machine.state)


def _is_mine(message: Any) -> bool:
    """Whether an info is the expiry of a time-out."""
    return type(message) is tuple and len(message) == 2 and message[0] == MINE


def _is_stop(value: Any) -> bool:
    """Whether init returned a Stop of pybehave.statem that says no more than one of the actions."""
    return type(value) is Stop and value.data is SAME and not value.replies


def _note(error: Exception, state: Any, event_type: Any, content: Any) -> None:
    error.add_note(f"in state {show(state)}, event {show(event_type)} {show(content)}")


def _conclude(turn: Turn, caller: Any) -> Any:
    """What the server returns for a turn (S2)."""
    out = turn.out
    if turn.stop is not None:
        actions = [*turn.timers, *out, _actions.Stop(turn.stop.reason)]
        return turn.machine(), NO_REPLY, actions
    output: Any = NO_REPLY
    if out and caller is not None:
        output, out = _taken_out(out, caller)
    if turn.timers:
        return turn.machine(), output, turn.timers + out
    return (turn.machine(), output, out) if out else (turn.machine(), output)


def _taken_out(out: list[Any], caller: Any) -> tuple[Any, list[Any]]:
    """The first reply to the caller, and the actions without its replies: a second is ignored."""
    output: Any = NO_REPLY
    others = []
    for action in out:
        if type(action) is not Reply or action.to is not caller:
            others.append(action)
        elif output is NO_REPLY:
            output = action.value
    return output, others

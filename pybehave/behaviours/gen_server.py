"""The generic server: the callbacks a user writes, and what their return values mean.

Theory. A server is a sequential function: input and state in, new state and output out. The
concurrent part (queues, time, connections) belongs to the runtime. A class that overrides only
`step` gets calls and casts alike; OTP's finer callbacks are there for who wants them.

What a callback may return

| callback                                          | value                                       |
|---------------------------------------------------|---------------------------------------------|
| step, handle_call                                 | (state, output) or (state, output, actions) |
| handle_cast, handle_info, handle_continue         | the same; the output is ignored             |
| init                                              | state, (state, action, ...), Ignore(), Stop |
| terminate                                         | nothing, or a generator that yields seconds |

Invariants
  (G1) A returned tuple is taken apart only if it is exactly a tuple of two or three items; a
       subclass (a named tuple that is the state, say) is a bad return, never misread.
  (G2) What `interpret` accepts has only actions among its actions.
  (G3) Any other value is `BadReturn`, a crash whose message shows the value; so is an action, or a
       list of them, in the place of the output.

Does not know: mailboxes, journals, who calls it.
Source: OTP stdlib, gen_server, callback functions; `bad_return_value`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, ClassVar, Generic, NamedTuple, TypeAlias

from msgspec import Struct

from pybehave.actions import Action, Ignore, Stop, _NoReply, are_actions
from pybehave.behaviours.inputs import (
    InputTypes,
    Validate,
    check_accepts,
    classes_of,
    gate_of,
)
from pybehave.behaviours.plain import SERVER_CALLBACKS, check_plain
from pybehave.behaviours.recovery import Recovery, call_init, check_init, own_state
from pybehave.behaviours.schema import names_of
from pybehave.behaviours.together import step_together
from pybehave.errors import MISPLACED, BadReturn, InitStopped, SpecError, show
from pybehave.types import IGNORED, Context, Input, Output, State, _Ignored
from pybehave.via import Via

Actions: TypeAlias = Action | list[Action] | tuple[Action, ...] | None
StepReturn: TypeAlias = tuple[State, Output | _NoReply] | tuple[State, Output | _NoReply, Actions]
Cleanup: TypeAlias = Generator[float, None, None]


class Turn(NamedTuple):
    """What one callback asked for, normalised.

    Attributes:
        state: The new state.
        output: The reply, or `NO_REPLY`.
        actions: In the order in which they are carried out.
    """

    state: Any
    output: Any
    actions: tuple[Action, ...]


class Initial(Struct, frozen=True):
    """What a successful init asked for.

    Attributes:
        state: The first state.
        actions: In the order in which they are carried out, before any input.
    """

    state: Any
    actions: tuple[Action, ...]


class GenServer(Generic[State, Input, Output]):
    """A server: override `init` and `step`, or any of OTP's callbacks.

    Attributes:
        pure: True promises that no callback changes the state it is given in place. Then the
            state before a failing input is simply the one that was passed in.
        types: With a journal: classes (msgspec Structs, dataclasses, enumerations) whose instances
            may be in inputs and in what `dump` returns.
        trap_exit: What a linked server's end means (`Link`): False, this one ends, too; True, it
            gets the info `Exit`.
        version: Which shape of inputs and states this code wants; 1 is the first. Raise it by one
            when the next release cannot use the states of the one before, or an older journal, as
            they are; define `code_change` (docs/guide/releases.md), and with a journal `upcast` and
            `upcast_state` (docs/guide/schema.md).
        aliases: With a journal: classes by the names that an older journal has for them. The key
            is a `__qualname__` that no class in `types` has today; or (name, version), for what
            the name meant up to that version.
        accepts: Of which types its calls and casts are: a class, a union, or a tuple of classes;
            any unless given. The sender of another one hears `InputTypeMismatch`, and the server
            does not hear of it (docs/guide/inputs.md).
        ephemeral: Of which types the calls and casts are that no journal has: questions, mostly.
            Their step must leave the state as it is, and ask for nothing that lasts; else it is a
            crash, `EphemeralTrace` (docs/guide/inputs.md).
        shared: What its steps may change beside their state: objects, or names of globals
            (`--debug-isolation` reports all else).
        context: Name, time, randomness and caller of the current input; the runtime sets it.
    """

    __slots__ = ("context",)  # a server with `__slots__ = ()` has no dict: 32 bytes less

    pure: ClassVar[bool] = False
    trap_exit: ClassVar[bool] = False
    types: ClassVar[tuple[type, ...]] = ()
    version: ClassVar[int] = 1
    aliases: ClassVar[Mapping[str | tuple[str, int], type]] = {}
    accepts: ClassVar[InputTypes] = object
    ephemeral: ClassVar[InputTypes] = ()
    shared: ClassVar[tuple[Any, ...]] = ()
    context: Context

    def __init_subclass__(cls, **words: Any) -> None:
        super().__init_subclass__(**words)
        check_accepts(cls)
        check_plain(cls, SERVER_CALLBACKS, may_yield=("terminate",))
        check_init(cls)
        if not isinstance(cls.types, tuple | list):
            raise SpecError(
                cls.__name__, f"types={show(cls.types)} is not allowed; use a tuple of classes"
            )

    def init(self, args: Any) -> Any:
        """Return the first state; by default that is a copy of `args`, for each start its own.

        With a journal it is called at each start, and the state counts at the first. Defined as
        `init(self, args, recovery=None)` it decides each time: `recovery` is a `Recovery`, or None
        when there is nothing to go on from, and the state that it returns counts. See
        docs/concepts/durable.md.

        Args:
            args: What the worker's specification holds.

        Returns:
            The state; or `(state, action, ...)`; or `(state, [action, ...])`; or `Ignore()`; or
            `Stop(reason)`. A tuple is a state with actions only if all that follows its first item
            are actions, or one list of at least one.
        """
        return own_state(type(self), args)

    def via(self, args: Any) -> Via | None:
        """Say under which key of which registry this server is to be found, beside its name.

        It is asked before each `init`; the key is taken back when the incarnation ends. A key that
        leads to another server is a start that failed, by `AlreadyStarted`.

        Args:
            args: What init will get.

        Source: OTP gen_server, ServerName `{via, Module, ViaName}`.
        """
        return None

    def step(self, command: Input, state: State) -> StepReturn[State, Output]:
        """Handle one command: the sequential semantics, and nothing else.

        Args:
            command: What the protocol decoded, or what `call` and `cast` were given.
            state: The current state; it may be changed in place unless `pure` is True.

        Returns:
            `(state, output)` or `(state, output, actions)`, where actions is one Action, a list
            or tuple of them, or None.

        Raises:
            NotImplementedError: Neither this nor the callback for the input is overridden.
        """
        raise NotImplementedError(
            f"{type(self).__name__} got {command!r} but overrides neither step nor the callback "
            f"for this kind of input; define step(self, command, state)"
        )

    def validate(self, command: Input, state: State) -> object:
        """Say why a call or cast is refused; asked before it counts.

        A refused one is not journaled and not stepped: its sender hears `Rejected(reason)`, and the
        server goes on as it was. A class that does not define it pays nothing.

        Args:
            command: What the callback would get.
            state: The current state; it must not be changed.

        Returns:
            None for an input that may come; else why it may not: a value, or an exception.

        Raises:
            BaseException: That is a crash, as if the step had raised it.
        """
        return None

    def handle_call(self, request: Input, caller: Any, state: State) -> StepReturn[State, Output]:
        """Handle a request that waits for a reply; by default this is `step`.

        Args:
            request: What the caller sent.
            caller: The handle for `Reply`, when the output is `NO_REPLY`.
            state: The current state.
        """
        return self.step(request, state)

    def handle_cast(self, message: Input, state: State) -> StepReturn[State, Any]:
        """Handle a message nobody waits for; by default this is `step`.

        Args:
            message: What the sender sent.
            state: The current state.
        """
        return self.step(message, state)

    def handle_info(self, message: Any, state: State) -> StepReturn[State, Any]:
        """Handle what is neither call nor cast: timers, results, connections, other servers.

        By default it is ignored; the runtime logs a warning when this is not overridden.

        Args:
            message: A timer's message, `TIMEOUT`, `CallReply`, `RunDone`, `Opened`, ...
            state: The current state.
        """
        return state, None

    def handle_continue(self, term: Any, state: State) -> StepReturn[State, Any]:
        """Go on after the callback that returned `Continue(term)`, before any other input.

        Args:
            term: What the action holds.
            state: The current state.

        Raises:
            NotImplementedError: A server that returns `Continue` must override this.
        """
        raise NotImplementedError(
            f"{type(self).__name__} returned Continue({term!r}) but has no handle_continue; "
            f"define handle_continue(self, term, state)"
        )

    def terminate(self, reason: Any, state: State) -> Cleanup | None:
        """Clean up; the server ends whatever this returns or raises.

        A plain method blocks the loop while it runs and cannot be interrupted. A generator gives
        the loop its time back at every `yield seconds`. The worker's shutdown bounds it when its
        supervisor has ordered the stop; a server that ends by itself takes the time that it needs.
        It is not called for shutdown="brutal_kill" and after a failed init.

        Args:
            reason: Why the server ends: `"shutdown"`, `"normal"`, the exception, ...
            state: The last good state: the object itself, so what a callback that raised had
                changed in place is changed there.
        """
        return None

    def invariant(self, state: State) -> object:
        """Say whether a state is one that may be; asked before a new state stands.

        A class that defines it is asked after each callback and each init. If the answer is no, the
        callback has crashed with `InvariantViolated`: nothing that it returned is carried out, and
        a journaled server goes on with the state before (docs/guide/testing.md). A class that does
        not define it pays nothing.

        Args:
            state: What the callback has returned, as `sys.get_state` shows it; not to be changed.

        Returns:
            False, or any exception (`assert`), if it may not be; else None or anything true.
        """
        return None

    def code_change(self, old_version: Any, state: State, extra: Any) -> Any:
        """Return the state in the shape this version of the code wants; by default as it is.

        An upgrade calls it on the new code; a way back calls it on the code that still runs. It
        should return a new state: what it raises leaves the server with its old code and state,
        and then a copy made before has to stand in for a state that was changed in place.

        Args:
            old_version: The `version` of the class that left this state; ("down", version) when the
                state is to be what that version wants.
            state: In the old shape; of a way back, in this one's.
            extra: From the upgrade's instructions.

        Source: OTP stdlib, gen_server, Module:code_change/3.
        """
        return state

    def dump(self, state: State) -> Any:
        """Return what a snapshot keeps of the state; by default the state itself.

        Args:
            state: The current state; it must not be changed.

        Returns:
            Plain values (None, numbers, str, bytes, list, tuple, dict, set), or instances of the
            classes in `types`.
        """
        return state

    def load(self, data: Any) -> State:
        """Return the state that `dump` was given; by default what it returned.

        Args:
            data: Equal to what `dump` returned.
        """
        return data  # type: ignore[no-any-return]

    def upcast(self, version: int, message: Any) -> Any:
        """Return an input that an older version was given as the next version wants it.

        Every input that a callback gets comes here, those of the runtime (`Opened`, `RunDone`, ...)
        included: return what needs no change as it is.

        Args:
            version: Which version was given it; what is returned is for `version + 1`.
            message: The input: of a call, a cast, an info, or a timer's message.

        Raises:
            NotImplementedError: A class that raises its `version` must override this.
        """
        raise self._has_no("upcast(self, version, message)", version)

    def upcast_state(self, version: int, dumped: Any) -> Any:
        """Return what an older version's `dump` returned as the next version's would have.

        Args:
            version: Whose it is; what is returned is for `version + 1`, and of the last for `load`.
            dumped: What `dump` returned.

        Raises:
            NotImplementedError: A class that raises its `version` must override this.
        """
        raise self._has_no("upcast_state(self, version, dumped)", version)

    def _has_no(self, signature: str, version: int) -> NotImplementedError:
        """The error of a class that says it is newer, and not what has changed."""
        return NotImplementedError(
            f"{type(self).__name__} is version {self.version} and has nothing that leads on from "
            f"version {version}: define {signature}"
        )

    @classmethod
    def _gate(cls) -> tuple[tuple[type, ...] | None, Validate | None]:
        """What the runtime asks about calls and casts; other behaviours on top of this differ."""
        return gate_of(cls, GenServer)

    @classmethod
    def _passing(cls) -> tuple[type, ...]:
        """The classes of inputs that leave no trace."""
        return classes_of(cls.ephemeral)

    def _validate(self, command: Any, state: State) -> object:
        """What the runtime calls for `validate`."""
        return self.validate(command, state)

    def _handle_together(
        self, commands: tuple[Any, ...], is_call: bool, caller: Any, state: State
    ) -> StepReturn[State, Any]:
        """What the runtime calls for a Together."""
        return step_together(self, type(self), commands, is_call, caller, state)

    def _upcast(self, version: int, message: Any) -> Any:
        """What the runtime calls for `upcast`."""
        return self.upcast(version, message)

    def _upcast_state(self, version: int, dumped: Any) -> Any:
        """What the runtime calls for `upcast_state`."""
        return self.upcast_state(version, dumped)

    @classmethod
    def _understands(cls, version: int) -> bool:
        """Whether what a version of this class has written can be read; one of several differs."""
        return version <= cls.version

    @classmethod
    def _has_upcast(cls, version: int) -> bool:
        """Whether inputs of an older version, or of today's, can be read."""
        return version == cls.version or cls.upcast is not GenServer.upcast

    @classmethod
    def _versions_from(cls, version: int) -> Iterable[int]:
        """The versions that lead from an older one to today's, an upcast each."""
        return range(version, cls.version)

    @classmethod
    def _names(cls, version: int) -> dict[str, type]:
        """Which classes a version meant by names that `types` does not say."""
        return names_of(cls.aliases, version)

    def _initial(
        self, server: str, args: Any, recovery: Recovery[Any] | None = None
    ) -> Initial | _Ignored:
        """What the runtime calls for `init`; other behaviours on top of this one differ."""
        return interpret_init(server, call_init(self, args, recovery))

    def _terminate(self, reason: Any, state: State) -> Cleanup | None:
        """What the runtime calls for `terminate`."""
        return self.terminate(reason, state)

    def _last_words(self, state: State) -> list[tuple[str, Any]]:
        """Whom the runtime tells what, by info, when the server has ended; if it is not journaled,
        for then it goes on.
        """
        return []

    def _code_changed(self, old_version: Any, state: Any, extra: Any) -> Any:
        """What the runtime calls for `code_change`; other behaviours on top of this one differ."""
        return self.code_change(old_version, state, extra)

    def _adopted(self, state: Any) -> Any:
        """The state of an instance of other code, in the right shape, as this one keeps it."""
        return state

    def _shown(self, state: State) -> Any:
        """What system requests show as the state; other behaviours on top of this one differ."""
        return state

    def _replaced(self, state: State, shown: Any) -> Any:
        """The state in which what `_shown` shows is something else."""
        return shown

    def _shape(self, state: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
        """Whose `format_status` counts in a state; a machine's modules have their own."""
        return self.format_status

    def format_status(self, status: dict[str, Any]) -> dict[str, Any]:
        """Shape what reports and observers show of this server, to hide secrets for example.

        Args:
            status: Some of the keys "state", "message", "reason", "log".

        Returns:
            The same keys with the values to show.
        """
        return status


def interpret(server: str, callback: str, value: Any) -> Turn:
    """Take a callback's return value apart.

    Args:
        server: The server's name, for the error.
        callback: The callback's name, for the error.
        value: What it returned.

    Returns:
        The normalised turn.

    Raises:
        BadReturn: The value is neither `(state, output)` nor `(state, output, actions)`.

    Source: OTP gen_server, `bad_return_value`.
    """
    if type(value) is tuple:  # exactly: (G1)
        if len(value) > 1 and are_actions(value[1]):
            raise BadReturn(server, callback, value, MISPLACED)
        if len(value) == 2:
            return Turn(value[0], value[1], ())
        if len(value) == 3:
            state, output, actions = value
            if actions is None:
                return Turn(state, output, ())
            if isinstance(actions, Action):
                return Turn(state, output, (actions,))
            if isinstance(actions, list | tuple) and _are_actions(actions):
                return Turn(state, output, tuple(actions))
    raise BadReturn(server, callback, value)


def interpret_init(server: str, value: Any) -> Initial | _Ignored:
    """Take init's return value apart.

    Args:
        server: The server's name, for the error.
        value: What init returned.

    Returns:
        State and actions, or `IGNORED`.

    Raises:
        InitStopped: Init returned `Stop(reason)`: the server does not start. The reason is kept as
            it is, also `"normal"`, and terminate is not called.

    Source: OTP gen_server, Module:init/1.
    """
    if isinstance(value, Ignore):
        return IGNORED
    if isinstance(value, Stop):
        raise InitStopped(server, value.reason)
    if type(value) is not tuple or len(value) < 2:
        return Initial(value, ())
    actions = value[1] if len(value) == 2 and type(value[1]) in (list, tuple) else value[1:]
    if actions and _are_actions(actions):
        return Initial(value[0], tuple(actions))
    return Initial(value, ())


def initial_of(
    server: str, instance: Any, args: Any, recovery: Recovery[Any] | None = None
) -> Initial | _Ignored:
    """Call a server's init; see interpret_init.

    Args:
        server: The server's name, for errors.
        instance: A GenServer, or whatever has an `init` like one.
        args: What init gets.
        recovery: What there is to go on from, for an init that takes it.

    Raises:
        InitStopped: Init returned `Stop(reason)`.
        BaseException: Whatever init raised.
    """
    if isinstance(instance, GenServer):
        return instance._initial(server, args, recovery)
    return interpret_init(server, call_init(instance, args, recovery))


def shape_of(instance: Any, state: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Return the `format_status` that shapes what is shown of a server.

    Args:
        instance: The server.
        state: What the runtime keeps for it.
    """
    if isinstance(instance, GenServer):
        return instance._shape(state)
    shape: Callable[[dict[str, Any]], dict[str, Any]] = instance.format_status
    return shape


def shown_state(instance: Any, state: Any) -> Any:
    """Return a state as the user's own code knows it (OTP, sys:get_state/1).

    Args:
        instance: A GenServer, or whatever stands for one.
        state: What the runtime keeps for it; None while its init has not returned.
    """
    if state is None:  # also when a report is made of an init that has raised
        return None
    return instance._shown(state) if isinstance(instance, GenServer) else state


def replaced_state(instance: Any, state: Any, shown: Any) -> Any:
    """Return the state to keep when `shown_state` is to show something else.

    Args:
        instance: A GenServer, or whatever stands for one.
        state: What the runtime keeps for it now; it may be changed in place.
        shown: In the form that `shown_state` returns.

    Raises:
        BadReturn: It does not have that form.
    """
    return instance._replaced(state, shown) if isinstance(instance, GenServer) else shown


def overrides(server: object, callback: str) -> bool:
    """Say whether a server has a callback of its own, not the one it inherits from GenServer.

    Args:
        server: The server object, not necessarily a GenServer.
        callback: The callback's name.
    """
    own = getattr(type(server), callback, None)
    return own is not None and own is not getattr(GenServer, callback, None)


def _are_actions(items: list[Any] | tuple[Any, ...]) -> bool:
    for item in items:  # noqa: SIM110 -- a start has to be cheap, and a generator is not
        if not isinstance(item, Action):
            return False
    return True

"""Actions as data: what a step asks the runtime to do, and what comes back as an input.

A step does no I/O. It returns `(state, output, actions)`, and the runtime carries the actions
out, in order, once the input that caused them is committed. What an action brings about comes
back later as an *info* input: an answer, an expiry, a connection, a result.

Invariants
  (A1) An action is immutable: it can be printed, compared, logged and carried out once.
  (A2) Building one has no effect.

Does not know: who carries them out.
Source: OTP gen_server return values (`{reply, ...}`, `{continue, ...}`, Timeout, `stop`), and
gen_statem actions for the timers with a name.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

from msgspec import Struct

from pybehave.errors import show
from pybehave.flow import MODES, ActiveMode, is_mode
from pybehave.types import OnRestart
from pybehave.via import Via

CALL_TIMEOUT_S: Final = 5.0
"""OTP's default for gen_server:call."""


@final
class _NoReply:
    """The type of `NO_REPLY`, of which there is exactly one."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NO_REPLY"

    def __reduce__(self) -> str:
        return "NO_REPLY"


NO_REPLY: Final = _NoReply()
"""The output that means: the caller is answered later, with `Reply(caller, value)`."""


class Action:
    """What every action derives from. Nothing else may stand among a step's actions."""

    __slots__ = ()


def are_actions(output: object) -> bool:
    """Say whether a value is an action, or a list or tuple of actions; an empty one is a value.

    Args:
        output: What stands where an output belongs.
    """
    if type(output) in (list, tuple) and output:
        return all(isinstance(each, Action) for each in output)  # type: ignore[attr-defined]
    return isinstance(output, Action)


def _check_address(action: Action, server: Any) -> None:
    if not isinstance(server, str) and not isinstance(server, Via):
        _check_server(action, server)


def _check_server(action: Action, server: Any) -> None:
    if not isinstance(server, str):
        raise TypeError(f"{type(action).__name__}: server is the name of one, not {show(server)}")


def name_in(action: Cast | Info | Call | Monitor | Link) -> str:
    """Return whom an action is about when it is carried out: a key has been looked up by then."""
    assert isinstance(action.server, str)
    return action.server


def _check_group(action: Action, group: Any) -> None:
    if not isinstance(group, str) or not group:
        raise TypeError(f"{type(action).__name__}: group is a name, not {show(group)}")


def _check_seconds(action: Action, field: str, seconds: Any) -> None:
    if type(seconds) in (int, float) and 0 <= seconds <= 1e300:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise TypeError(f"{type(action).__name__}: {field} is a number, not {show(seconds)}")
    if not seconds >= 0:  # also what is not a number at all
        raise ValueError(f"{type(action).__name__}: {field} is 0 or more, not {show(seconds)}")
    try:
        float(seconds)  # the loop's clock counts in floats; found while the input does not count
    except OverflowError:
        raise ValueError(f"{type(action).__name__}: {field} is more than a float can be") from None


# --- answers and messages ----------------------------------------------------


@final
class Reply(Action, Struct, frozen=True):
    """Answer a caller that was left waiting with `NO_REPLY`. A second answer is ignored.

    Attributes:
        to: The handle that `self.context.caller` was, in this or another server.
        value: The answer.
    """

    to: Any
    value: Any


@final
class Cast(Action, Struct, frozen=True):
    """Send a message to another server; a name nobody has is counted, not an error.

    Attributes:
        server: The receiver's name, or a `Via` that leads to it.
        message: What its handle_cast gets.

    Raises:
        TypeError: `server` is no name.
    """

    server: str | Via
    message: Any

    def __post_init__(self) -> None:
        _check_address(self, self.server)


@final
class Call(Action, Struct, frozen=True):
    """Send a request to another server; the answer comes back as info.

    The info is `CallReply(tag, server, value)` or `CallFailed(tag, server, error)`.

    Attributes:
        server: The receiver's name, or a `Via` that leads to it.
        request: What its handle_call gets.
        tag: Handed back with the answer, to tell answers apart.
        timeout: Seconds until `CallFailed` brings `Timeout`; None waits for ever.
        idempotent: Carrying the request out twice does no harm. A journaled server that starts
            again before the answer came sends it once more: it is carried out at least once.
            Otherwise `CallFailed` brings `Interrupted`: it was carried out at most once.
        on_restart: What the receiver's end means for a request that it has not begun: "fail",
            `CallFailed` at once; "wait", the next incarnation takes it, if its supervisor is to
            start one within `timeout`.

    Raises:
        TypeError, ValueError: `server` is no name, `timeout` no time, `on_restart` no such word.
    """

    server: str | Via
    request: Any
    tag: Any = None
    timeout: float | None = CALL_TIMEOUT_S
    idempotent: bool = False
    on_restart: OnRestart = "fail"

    def __post_init__(self) -> None:
        _check_address(self, self.server)
        if self.timeout is not None:
            _check_seconds(self, "timeout", self.timeout)
        if self.on_restart not in ("fail", "wait"):
            raise ValueError(f'Call: on_restart is "fail" or "wait", not {show(self.on_restart)}')


@final
class Info(Action, Struct, frozen=True):
    """Send a message that another server gets in handle_info.

    Attributes:
        server: The receiver's name, or a `Via` that leads to it.
        message: What its handle_info gets.

    Raises:
        TypeError: `server` is no name.
    """

    server: str | Via
    message: Any

    def __post_init__(self) -> None:
        _check_address(self, self.server)


@final
class Join(Action, Struct, frozen=True):
    """Become a member of a process group until `Leave`, or this server's end. Source: OTP pg.

    Returned from `init` it is carried out at every start, also of a journaled server.

    Attributes:
        group: The group's name; a group is there as long as it has members.

    Raises:
        TypeError: `group` is no name.
    """

    group: str

    def __post_init__(self) -> None:
        _check_group(self, self.group)


@final
class Leave(Action, Struct, frozen=True):
    """Be a member of a process group no more; of one it is not in, nothing changes.

    Attributes:
        group: The group's name.

    Raises:
        TypeError: `group` is no name.
    """

    group: str

    def __post_init__(self) -> None:
        _check_group(self, self.group)


@final
class CastGroup(Action, Struct, frozen=True):
    """Send a message to all members of a process group, this server too if it is one.

    Attributes:
        group: The group's name; nobody gets the message if it has no members.
        message: What each member's handle_cast gets: the same object.

    Raises:
        TypeError: `group` is no name.
    """

    group: str
    message: Any

    def __post_init__(self) -> None:
        _check_group(self, self.group)


@final
class Continue(Action, Struct, frozen=True):
    """Call handle_continue(term) before any other input. Source: OTP, `{continue, Term}`.

    Attributes:
        term: What handle_continue gets.
    """

    term: Any


# --- time --------------------------------------------------------------------


@final
class StartTimer(Action, Struct, frozen=True):
    """Start a timer; when it expires, `message` comes as info.

    A timer of the same name is replaced. After a cancel has been handled, the expiry is never
    delivered.

    Attributes:
        name: Identifies the timer within the server.
        seconds: From the moment the action is carried out.
        message: What handle_info gets.

    Raises:
        TypeError, ValueError: `seconds` is no time, or the name cannot be looked up (a list).
    """

    name: Any
    seconds: float
    message: Any

    def __post_init__(self) -> None:
        hash(self.name)
        _check_seconds(self, "seconds", self.seconds)


@final
class CancelTimer(Action, Struct, frozen=True):
    """Cancel a timer, exactly: also an expiry that is already on its way.

    Attributes:
        name: The name given to StartTimer; an unknown one is ignored.
    """

    name: Any


@final
class _TimeoutInfo:
    """The type of `TIMEOUT`, of which there is exactly one."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "TIMEOUT"

    def __reduce__(self) -> str:
        return "TIMEOUT"


TIMEOUT: Final = _TimeoutInfo()
"""The info that `IdleTimeout` brings."""


@final
class IdleTimeout(Action, Struct, frozen=True):
    """Bring the info `TIMEOUT` if no input comes first. Source: OTP gen_server, Timeout.

    Any input cancels it, and it is not armed again by itself. Zero means: only if nothing waits.

    Attributes:
        seconds: How long without an input.

    Raises:
        TypeError, ValueError: `seconds` is no time.
    """

    seconds: float

    def __post_init__(self) -> None:
        _check_seconds(self, "seconds", self.seconds)


# --- connections -------------------------------------------------------------


@final
class Send(Action, Struct, frozen=True):
    """Send data on a connection; the connection's protocol encodes it.

    Attributes:
        connection: The handle from `self.context.connection`, `Opened` or `Connected`.
        data: What the protocol's encode gets.
    """

    connection: Any
    data: Any


@final
class Close(Action, Struct, frozen=True):
    """Close a connection once what was sent on it has left.

    Attributes:
        connection: The handle; one that is closed already is ignored.
    """

    connection: Any


@final
class Active(Action, Struct, frozen=True):
    """Take more messages of a connection, or none for now.

    Attributes:
        connection: The handle; one that is closed already is ignored.
        mode: "once" is the next message; a number so many more; True all; False none.

    Raises:
        TypeError: `mode` is none of these.

    Source: OTP inet:setopts/2, `{active, once}`.
    """

    connection: Any
    mode: ActiveMode = "once"

    def __post_init__(self) -> None:
        if not is_mode(self.mode):
            raise TypeError(f"Active: mode is {MODES}, not {show(self.mode)}")


@final
class Connect(Action, Struct, frozen=True):
    """Open a connection; `Connected(tag, connection)` or `ConnectFailed(tag, error)` follows.

    Attributes:
        url: Where to, as `tcp://127.0.0.1:6379` or `unix:///run/x.sock`.
        protocol: How bytes become messages there.
        tag: Handed back with the result.
        active: How many messages come before the server asks for more, as for a Listener.
    """

    url: str
    protocol: Any
    tag: Any = None
    active: ActiveMode = True


# --- the ends of other servers -----------------------------------------------


@final
class Monitor(Action, Struct, frozen=True):
    """Hear of a server's end: the info `Down(name, incarnation, reason, tag)`, exactly once.

    If no server has the name, `Down` with reason `"noproc"` follows at once. Each monitor stands
    for itself, and for the incarnation that runs now. Source: OTP, `erlang:monitor/2`.

    Attributes:
        server: The name of the server to watch, or a `Via` that leads to it.
        tag: Handed back with `Down`.

    Raises:
        TypeError: `server` is no name.
    """

    server: str | Via
    tag: Any = None

    def __post_init__(self) -> None:
        _check_address(self, self.server)


@final
class Demonitor(Action, Struct, frozen=True):
    """Take monitors back; no `Down` of theirs comes any more, not even one that waits already.

    Source: OTP, `erlang:demonitor/2` with `flush`.

    Attributes:
        server: The name that was watched.
        tag: The monitors' tag.

    Raises:
        TypeError: `server` is no name.
    """

    server: str
    tag: Any = None

    def __post_init__(self) -> None:
        _check_server(self, self.server)


@final
class Link(Action, Struct, frozen=True):
    """Tie this server's life to another's: when one ends by anything but `"normal"`, so does the
    other, with the same reason, once the input that is being handled is over.

    A server whose class says `trap_exit = True` goes on and gets the info `Exit(name, reason)`,
    also for `"normal"`. To link to a name nobody has is as if it had just ended, by `"noproc"`.
    Source: OTP, `erlang:link/1`; supervisors need no links.

    Attributes:
        server: The other's name, or a `Via` that leads to it.

    Raises:
        TypeError: `server` is no name.
    """

    server: str | Via

    def __post_init__(self) -> None:
        _check_address(self, self.server)


@final
class Unlink(Action, Struct, frozen=True):
    """Untie; no `Exit` of that server comes any more. Source: OTP, `erlang:unlink/1`.

    Attributes:
        server: The other's name.

    Raises:
        TypeError: `server` is no name.
    """

    server: str

    def __post_init__(self) -> None:
        _check_server(self, self.server)


# --- the rest ----------------------------------------------------------------


@final
@dataclass(frozen=True, slots=True, init=False)
class Run(Action):
    """Run a blocking function on a worker: a thread, or a process of its own.

    The info `RunDone(tag, value)` or `RunFailed(tag, error)` follows, once. For a journaled server
    that holds through crashes and power cuts: a job whose answer had not been recorded when the
    node ended is told as `RunFailed(tag, JobLost)`, or run again if it is idempotent.

    Attributes:
        function: What to call. It must not touch the state of a server.
        args: Its positional arguments.
        tag: Handed back with the result, and what `Cancel` names.
        pool: The name of a `Pool` of the tree; None is the node's own threads.
        timeout: Seconds until `RunFailed` brings `JobTimedOut`, waiting included; None is none.
        idempotent: Running it twice does no harm: the next start may run it again.

    Raises:
        TypeError, ValueError: `function` cannot be called or is async, `pool` is no name, `timeout`
            no time; or the job is idempotent and its function could not be found again by the next
            start.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    tag: Any
    pool: str | None
    timeout: float | None
    idempotent: bool

    def __init__(
        self,
        function: Callable[..., Any],
        *args: Any,
        tag: Any = None,
        pool: str | None = None,
        timeout: float | None = None,
        idempotent: bool = False,
    ) -> None:
        if not callable(function):
            raise TypeError(f"Run: function is something to call, not {show(function)}")
        if inspect.iscoroutinefunction(function):
            raise TypeError(
                f"Run: nobody awaits {show(function)}; give a function that calls asyncio.run, or "
                "use an AsyncioTask"
            )
        if pool is not None and not isinstance(pool, str):
            raise TypeError(f"Run: pool is the name of a Pool, not {show(pool)}")
        if timeout is not None:
            _check_seconds(self, "timeout", timeout)
        if idempotent:
            function_name(function)
        for field, value in (
            ("function", function),
            ("args", args),
            ("tag", tag),
            ("pool", pool),
            ("timeout", timeout),
            ("idempotent", bool(idempotent)),
        ):
            object.__setattr__(self, field, value)


def function_name(function: Callable[..., Any]) -> str:
    """Return the name by which another process finds a function: "module:qualified name".

    Raises:
        ValueError: There is none: a lambda, a function in a function, a method, in `__main__`.
    """
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", "")
    found: Any = sys.modules.get(module) if isinstance(module, str) else None
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not function or module == "__main__":
        raise ValueError(
            f"Run: another process cannot find {show(function)} by its name; use a function at the "
            f"top of a module that can be imported"
        )
    return f"{module}:{name}"


@final
class Cancel(Action, Struct, frozen=True):
    """Give up this server's jobs (`Run`) of a tag; `RunFailed(tag, JobCancelled)` follows for each.

    One that waits is never run; a process is killed; a thread cannot be interrupted and goes on
    unheard. A result that came first is what the server gets, and an unknown tag is ignored.

    Attributes:
        tag: The tag given to Run.
    """

    tag: Any


@final
class Stop(Action, Struct, frozen=True):
    """End this server. With an output, the caller gets it after terminate has run.

    From init it means that the server does not start; terminate is not called then.

    Attributes:
        reason: `"normal"`, `"shutdown"`, `Shutdown(term)` are clean; all else is a crash.
    """

    reason: Any = "normal"


@final
class Hibernate(Action, Struct, frozen=True):
    """Give back memory until the next input. It changes nothing that can be seen.

    A journaled server's state leaves memory when the input is over and none waits, nor a caller,
    and is read back before the next one (durable/hibernation.py); a server without a journal keeps
    it.
    """


@final
@dataclass(frozen=True, slots=True)
class Ignore:
    """What init returns to say: do not start me, and that is no failure. Source: OTP, `ignore`."""


# --- what comes back as info -------------------------------------------------


@final
@dataclass(frozen=True, slots=True)
class CallReply:
    """The answer to a `Call`.

    Attributes:
        tag: The call's tag.
        server: Who answered.
        value: The answer.
    """

    tag: Any
    server: str
    value: Any


@final
@dataclass(frozen=True, slots=True)
class CallFailed:
    """A `Call` that got no answer.

    Attributes:
        tag: The call's tag.
        server: Who was called.
        error: `NoProc`, `Timeout`, `Crashed`, `Stopped`, `Overloaded`.
    """

    tag: Any
    server: str
    error: Exception


@final
@dataclass(frozen=True, slots=True)
class RunDone:
    """The result of a `Run`.

    Attributes:
        tag: The action's tag.
        value: What the function returned.
    """

    tag: Any
    value: Any


@final
@dataclass(frozen=True, slots=True)
class RunFailed:
    """A `Run` that came to nothing.

    Attributes:
        tag: The action's tag.
        error: What the function raised; or `JobCancelled`, `JobTimedOut`, `JobLost`, `WorkerDied`,
            `PoolOverloaded`, `NoProc` (there is no such pool), `Stopped` (the pool has ended).
    """

    tag: Any
    error: BaseException


@final
@dataclass(frozen=True, slots=True)
class RunAgain:
    """What a journal keeps of an idempotent `Run` until its answer is recorded; no server gets it.

    Attributes:
        function: Its name, as `function_name` says it.
        args: Its positional arguments.
        tag: The action's tag.
        pool: The action's pool.
        timeout: The action's time limit.
    """

    function: str
    args: tuple[Any, ...]
    tag: Any
    pool: str | None
    timeout: float | None


@final
@dataclass(frozen=True, slots=True)
class Connected:
    """A `Connect` that succeeded.

    Attributes:
        tag: The action's tag.
        connection: The handle for `Send` and `Close`.
    """

    tag: Any
    connection: Any


@final
@dataclass(frozen=True, slots=True)
class ConnectFailed:
    """A `Connect` that failed.

    Attributes:
        tag: The action's tag.
        error: Why.
    """

    tag: Any
    error: Exception


@final
@dataclass(frozen=True, slots=True)
class Down:
    """A server that was monitored has ended; its `terminate` has run.

    Attributes:
        name: Its name.
        incarnation: Which of that name; 0 = there was none, or it is not known any more.
        reason: What it ended with: `"normal"`, `"shutdown"`, an exception, ...; `"noproc"`: nobody
            had the name; `"restart"`: it ended while the watcher, a journaled server, was down.
        tag: The monitor's tag.
    """

    name: str
    incarnation: int
    reason: Any
    tag: Any = None


@final
@dataclass(frozen=True, slots=True)
class Exit:
    """A server that was linked has ended, and this one traps exits. Source: OTP, `'EXIT'`.

    Attributes:
        name: Its name.
        reason: What it ended with; see `Down`.
    """

    name: str
    reason: Any


@final
@dataclass(frozen=True, slots=True)
class Opened:
    """A client connected (only for listeners with `events=True`).

    A new incarnation is told of those that stand, too, where its state cannot know them.

    Attributes:
        connection: Its handle.
    """

    connection: Any


@final
@dataclass(frozen=True, slots=True)
class Closed:
    """A connection is gone; nothing more comes from it.

    Attributes:
        connection: Its handle.
        reason: `"eof"`, `"reset"`, a time limit, or an error.
    """

    connection: Any
    reason: Any


@final
@dataclass(frozen=True, slots=True)
class Received:
    """A message came on a connection this server opened itself.

    Attributes:
        connection: Its handle.
        message: What the protocol decoded.
    """

    connection: Any
    message: Any

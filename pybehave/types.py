"""The words the rest of the package is written in: type variables, reasons, small protocols.

Reasons of ending. A server ends with a *reason*. Three kinds are clean: `"normal"`, `"shutdown"`
and `Shutdown(term)`. `"killed"` means it was ended by force. An exception object, and anything
else, is abnormal. Whether a supervisor restarts a child depends on that alone.

Does not know: clocks, sockets, the loop. The protocols say what the runtime will provide.
Source: OTP Design Principles, "exit reasons"; supervisor, "restart".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, TypeAlias, TypeVar, final

if TYPE_CHECKING:
    from concurrent.futures import Future
    from random import Random

    from pybehave.actions import Down
    from pybehave.runtime.crashes import CrashReport
    from pybehave.runtime.groups import Groups
    from pybehave.runtime.sys import Sys

State = TypeVar("State")
Input = TypeVar("Input")
Output = TypeVar("Output")
T = TypeVar("T")

Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
AutoShutdown: TypeAlias = Literal["never", "any_significant", "all_significant"]
Overflow: TypeAlias = Literal["block", "reject", "drop_oldest"]


@final
@dataclass(frozen=True, slots=True)
class Rollback:
    """A recovery policy: the state before the failed input and so many inputs before it.

    They are passed over from then on, and become dead letters.

    Attributes:
        count: Inputs before the failed one that the journal has, 1 or more: timers, messages and
            questions count, too; what is `ephemeral`, and what has failed before, does not.
    """

    count: int


Policy: TypeAlias = Literal["last_good", "clean", "stop"] | Rollback
RecoverySpec: TypeAlias = (
    Policy | tuple[Policy, ...] | Mapping[type[BaseException], Policy | tuple[Policy, ...]]
)
"""What a journaled server starts again with after a crash; several are tried in their order; a
mapping selects by what was raised."""

Acknowledge: TypeAlias = Literal["disk", "os", "memory"]
"""When the replies of a journaled server leave."""

OnRestart: TypeAlias = Literal["fail", "wait"]
"""What a server's end means for a request that it has not begun: an error at once, or that its next
incarnation takes it."""

ShutdownLimit: TypeAlias = float | Literal["brutal_kill", "infinity"]

NORMAL: Final = "normal"
SHUTDOWN: Final = "shutdown"
KILLED: Final = "killed"


@final
@dataclass(frozen=True, slots=True)
class Shutdown:
    """A clean reason that carries a term. Source: OTP, `{shutdown, Term}`.

    Attributes:
        term: Whatever the server wants to say about its end.
    """

    term: object = None


def is_clean(reason: object) -> bool:
    """Say whether a reason of ending is one of the three clean ones.

    Source: OTP supervisor, "transient": `normal`, `shutdown`, `{shutdown, Term}`.
    """
    if isinstance(reason, str):
        return reason in (NORMAL, SHUTDOWN)
    return isinstance(reason, Shutdown)


@final
class _Ignored:
    """The type of `IGNORED`, of which there is exactly one."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "IGNORED"

    def __reduce__(self) -> str:
        return "IGNORED"


IGNORED: Final = _Ignored()
"""What starting a child gives instead of a reference when its init returned `Ignore()`."""


class Context(Protocol):
    """What a server may know about the world while it handles one input.

    A step reads no clock and no random source of its own, so that its inputs can be replayed.
    """

    @property
    def name(self) -> str:
        """The server's registered name."""

    @property
    def incarnation(self) -> int:
        """Counts the starts of this name; a restarted server has a higher one."""

    @property
    def now(self) -> float:
        """Unix seconds of the current input."""

    @property
    def monotonic(self) -> float:
        """Monotonic seconds of the current input."""

    @property
    def random(self) -> Random:
        """A random source of the server's own."""

    @property
    def caller(self) -> object:
        """The current call's handle for `Reply`, or None."""

    @property
    def connection(self) -> object:
        """The connection the current input came from, or None."""


class RunningNode(Protocol):
    """What `Application.start` gives: a node that serves on a thread of its own.

    It is `pybehave.runtime.node.Node`, whose docstrings say all; this is its public face.
    """

    def start(self) -> Self:
        """Start; what `Application.start` has done."""

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it listens."""

    def call(
        self,
        server: Any,
        request: Any,
        *,
        timeout: float | None = 5.0,
        acknowledge: Acknowledge | None = None,
        on_restart: OnRestart = "fail",
        priority: bool = False,
    ) -> Any:
        """Send a request and wait for its reply."""

    def acall(
        self,
        server: Any,
        request: Any,
        *,
        timeout: float | None = 5.0,
        acknowledge: Acknowledge | None = None,
        on_restart: OnRestart = "fail",
        priority: bool = False,
    ) -> Awaitable[Any]:
        """Send a request, to be awaited in an asyncio task."""

    def call_many(
        self,
        server: Any,
        requests: Sequence[Any],
        *,
        timeout: float | None = 5.0,
        acknowledge: Acknowledge | None = None,
    ) -> list[Any]:
        """Send many requests and wait once."""

    def multi_call(
        self, servers: Any, request: Any, timeout: float | None = None
    ) -> tuple[list[tuple[str, Any]], list[str]]:
        """Call many servers at once: replies by name, and who gave none."""

    def send_request(
        self,
        server: Any,
        request: Any,
        *,
        acknowledge: Acknowledge | None = None,
        on_restart: OnRestart = "fail",
        priority: bool = False,
    ) -> Future[Any]:
        """Send a request and go on."""

    def kept(self) -> list[str]:
        """Return the names that the journal knows."""

    def forget(self, server: Any, *, stop: bool = False, timeout: float | None = None) -> None:
        """Remove all that the journal keeps of a server."""

    def reset(self, server: Any, *, confirm: bool = False, timeout: float | None = None) -> None:
        """Let a journaled server that runs begin anew."""

    def stop_server(
        self, server: Any, reason: object = "normal", timeout: float | None = None
    ) -> None:
        """End a server and wait until it has ended."""

    def abcast(self, servers: Any, message: Any) -> None:
        """Cast a message to many servers."""

    def cast(self, server: Any, message: Any) -> None:
        """Send a message and wait for nothing."""

    def info(self, server: Any, message: Any) -> None:
        """Send what handle_info gets."""

    def names(self) -> list[str]:
        """List the servers that run."""

    def whereis(self, server: Any) -> int | None:
        """Return a server's incarnation, or None."""

    def get_state(self, server: Any) -> Any:
        """Return a server's state."""

    sys: Sys
    groups: Groups

    def crashes(self) -> list[CrashReport]:
        """Return the newest crash reports."""

    def stats(self) -> dict[str, Any]:
        """Return counters and positions."""

    def run_on_loop(self, function: Callable[[], T], *, timeout: float | None = None) -> T:
        """Call a function on the loop's thread and return what it returns."""

    def start_child(self, supervisor: str, spec: Any, *, name: str | None = None) -> Any:
        """Add a child to a supervisor and start it."""

    def terminate_child(self, supervisor: str, child: Any, *, timeout: float | None = None) -> None:
        """Stop a child."""

    def remove_child(self, supervisor: str, child: Any, *, timeout: float | None = None) -> None:
        """Stop a child and forget it."""

    def restart(self, supervisor: str, child_id: str) -> Any:
        """Stop a child and start it again, on purpose."""

    def reconfigure(self, supervisor: str, spec: Any) -> list[str]:
        """Change a supervisor's flags and children."""

    def restart_child(self, supervisor: str, child_id: str) -> Any:
        """Start a stopped child again."""

    def delete_child(self, supervisor: str, child_id: str) -> None:
        """Forget a stopped child."""

    def start_application(self, app: Any, start_type: Any = "temporary") -> list[str]:
        """Start another application, and what it depends on; return the names of those started."""

    def stop_application(self, name: str, *, drain: bool = True) -> None:
        """Stop an application; the others stay."""

    def which_applications(self) -> list[tuple[str, str, Any]]:
        """Return name, version and start type of those that run."""

    def env(self, application: str) -> Any:
        """Return an application's environment."""

    def configure(self, config: Mapping[str, Mapping[str, Any]]) -> None:
        """Set keys of environments."""

    def monitor(self, server: Any) -> Future[Down]:
        """Watch a server: the result is its `Down`."""

    def stop(self, *, drain: bool = True, timeout: float | None = None) -> int:
        """Stop, and return the exit status."""

    def __enter__(self) -> Self:
        """Return the node itself."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it."""


class ServerCaller(Protocol):
    """What can call servers by name: a node, or a stand-in in a test."""

    def call(
        self,
        server: str,
        request: Any,
        *,
        timeout: float | None = 5.0,
        on_restart: OnRestart = "fail",
        priority: bool = False,
    ) -> Any:
        """Send a request and wait for its reply."""

    def cast(self, server: str, message: Any) -> None:
        """Send a message and wait for nothing."""

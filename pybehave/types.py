"""The words the rest of the package is written in: type variables, reasons, small protocols.

Reasons of ending. A server ends with a *reason*. Three kinds are clean: `"normal"`, `"shutdown"`
and `Shutdown(term)`. `"killed"` means it was ended by force. An exception object, and anything
else, is abnormal. Whether a supervisor restarts a child depends on that alone.

Does not know: clocks, sockets, the loop. The protocols say what the runtime will provide.
Source: OTP Design Principles, "exit reasons"; supervisor, "restart".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, TypeVar, final

if TYPE_CHECKING:
    from random import Random


State = TypeVar("State")
Input = TypeVar("Input")
Output = TypeVar("Output")

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

    `("shutdown", term)`, as OTP writes it, is as clean as `Shutdown(term)`.

    Source: OTP supervisor, "transient": `normal`, `shutdown`, `{shutdown, Term}`.
    """
    if isinstance(reason, str):
        return reason in (NORMAL, SHUTDOWN)
    if type(reason) is tuple:
        return len(reason) == 2 and isinstance(reason[0], str) and reason[0] == SHUTDOWN
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

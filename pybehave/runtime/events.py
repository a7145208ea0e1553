"""What supervision reports: typed, immutable events, and the hub that logs and hands them on.

| event            | level | when                                                                |
|------------------|-------|---------------------------------------------------------------------|
| ChildStarted     | info  | every start that succeeded (OTP: progress)                          |
| ChildStopped     | debug | a child stopped as it was told to                                   |
| ChildTerminated  | error | permanent: any end, also normal; the others: an abnormal end        |
| StartError       | error | a start failed, at first or in a restart; info when it was asked for|
| ShutdownError    | error | killed after its time, terminate raised, another clean reason       |
| IntensityReached | error | one attempt too many: the supervisor gives up                       |
| ChildPassivated  | debug | a member of a family was idle and is stopped                        |
| RestartDelayed   | warn. | a restart waits for its back-off, or for its supervisor's pause     |
| SupervisorPaused | error | one attempt too many: restarts wait, the others run                 |
| SupervisorResumed| info  | the pause is over                                                   |
| Escalated        | error | a supervisor ended by itself and its parent acts; info when that    |
|                  |       | was auto_shutdown                                                   |
| Upgraded         | info  | an application runs another release                                 |
| RolledBack       | warn. | it runs the one before again                                        |

What journals report is in durable/events.py, steps that take too long in watchdog.py.

Events are msgspec structures: as immutable as frozen dataclasses, and made in 60 ns instead of
500, which is what a restart of a thousand children notices.

Does not know: supervisors; who listens.
Source: OTP stdlib, supervisor, supervisor reports and progress reports.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import ClassVar, Final, TypeAlias

from msgspec import Struct

from pybehave.errors import InitStopped, SpecError, StartFailed, show_reason
from pybehave.runtime.crashes import has_user_frames
from pybehave.runtime.logs import is_heard

LOGGER_NAME: Final = "pybehave.supervisor"

_FOLLOWS: Final = {
    "restart": "it is restarted",
    "keep": "it stays stopped",
    "forget": "it is not started again",
    "delay": "it is restarted later",
    "pause": "it is restarted when its supervisor goes on",
    "terminate": "its supervisor ends with it, as it has ordered",
    "give_up": "one restart too many",
    "auto_shutdown": "its supervisor ends with it",
}

_logger = logging.getLogger(LOGGER_NAME)


class Event(Struct, frozen=True):
    """What every event has.

    Attributes:
        supervisor: The supervisor's path.
        child: The child's id in it.
    """

    level: ClassVar[int] = logging.INFO

    supervisor: str
    child: str

    @property
    def severity(self) -> int:
        """The level at which the event is logged."""
        return self.level

    @property
    def error(self) -> BaseException | None:
        """The exception behind the event, with its traceback, if there is one."""
        reason = getattr(self, "reason", None)
        return reason if isinstance(reason, BaseException) else None


class ChildStarted(Event, frozen=True):
    """A child runs: its init has returned.

    Attributes:
        ref: What the runtime knows it by.
        restarts: How often its supervisor has started it again.
        is_made: It was made from a template: there may be a hundred thousand of them, and OTP's
            supervisor tells of these for debugging only.
    """

    ref: object
    restarts: int
    is_made: bool = False

    @property
    def severity(self) -> int:
        """Debugging for children of a template, else information."""
        return logging.DEBUG if self.is_made else logging.INFO

    def __str__(self) -> str:
        again = f" (restart {self.restarts})" if self.restarts else ""
        return f"{self.supervisor}/{self.child} started{again}"


class ChildStopped(Event, frozen=True):
    """A child has ended as its supervisor told it to.

    Attributes:
        ref: What the runtime knew it by.
        reason: `"shutdown"`, or what else counts as orderly.
    """

    level = logging.DEBUG

    ref: object
    reason: object

    def __str__(self) -> str:
        return f"{self.supervisor}/{self.child} stopped: {show_reason(self.reason)}"


class ChildMigrated(Event, frozen=True):
    """A child that runs has another supervisor now.

    Attributes:
        ref: What the runtime knows it by.
        to: That supervisor's path.
    """

    ref: object
    to: str

    def __str__(self) -> str:
        return f"{self.supervisor}/{self.child} is {self.to}'s now"


class ChildTerminated(Event, frozen=True):
    """A child has ended by itself in a way that is an error.

    Attributes:
        ref: What the runtime knew it by.
        reason: The exception with its traceback, or another reason.
        restart: The child's restart type.
        verdict: What follows: `"restart"`, `"give_up"`, `"forget"`, ...
        failures: Restarts that count against the threshold so far, the one that follows not among
            them; with `decay`, what is left of them.
        threshold: The supervisor's intensity: one restart more is too many.
    """

    level = logging.ERROR

    ref: object
    reason: object
    restart: str
    verdict: str
    failures: float = 0.0
    threshold: int = 0

    def __str__(self) -> str:
        return (
            f"{self.supervisor}/{self.child} ({self.restart}) ended: "
            f"{show_reason(self.reason)}; {_FOLLOWS[self.verdict]}"
        )


class StartError(Event, frozen=True):
    """A child did not start.

    Attributes:
        reason: The exception of its init, or the StartFailed of the level below.
        context: `"start"`, `"restart"` (it will be tried again) or `"request"` (who asked has
            the error).
    """

    level = logging.ERROR

    reason: object
    context: str

    @property
    def severity(self) -> int:
        """A start that somebody asked for is his to report."""
        return logging.INFO if self.context == "request" else logging.ERROR

    def __str__(self) -> str:
        return (
            f"{self.supervisor}/{self.child} did not start ({self.context}): "
            f"{show_reason(self.reason)}"
        )


class ShutdownError(Event, frozen=True):
    """A child that was told to stop ended with a reason that is an error.

    Attributes:
        ref: What the runtime knew it by.
        reason: `"killed"` after its time, what terminate raised, or what it crashed with.
    """

    level = logging.ERROR

    ref: object
    reason: object

    def __str__(self) -> str:
        return (
            f"{self.supervisor}/{self.child} was told to stop and ended with "
            f"{show_reason(self.reason)}"
        )


class IntensityReached(Event, frozen=True):
    """One attempt too many: the supervisor stops its children and ends.

    Attributes:
        reason: What the child ended with, or why its start failed.
        intensity: So many attempts ...
        period: ... in so many seconds were borne.
    """

    level = logging.ERROR

    reason: object
    intensity: int
    period: float

    def __str__(self) -> str:
        return (
            f"{self.supervisor} gives up: {self.child} needed more than {self.intensity} restarts "
            f"in {self.period:g} s, the last for {show_reason(self.reason)}"
        )

    @property
    def error(self) -> BaseException | None:
        """None: the traceback was in the report of the child's end."""
        return None


class ChildPassivated(Event, frozen=True):
    """A member of a family is stopped because it was idle; the next message wakes it.

    Attributes:
        ref: What the runtime knows it by.
    """

    level = logging.DEBUG

    ref: object

    def __str__(self) -> str:
        return f"{self.supervisor}/{self.child} is idle and is stopped until somebody asks for it"


class RestartDelayed(Event, frozen=True):
    """A child is started again, but not at once (Suture's EventBackoff, for one child).

    Attributes:
        reason: What it ended with, or why its start failed.
        failures: In a row.
        seconds: How long it waits; None until its supervisor goes on.
    """

    level = logging.WARNING

    reason: object
    failures: int
    seconds: float | None

    def __str__(self) -> str:
        if self.seconds is None:
            return f"{self.supervisor}/{self.child} waits until its supervisor goes on"
        return (
            f"{self.supervisor}/{self.child} is started again in {self.seconds:.3g} s, after "
            f"{self.failures} failures in a row"
        )

    @property
    def error(self) -> BaseException | None:
        """None: the traceback was in the report of the child's end."""
        return None


class SupervisorPaused(Event, frozen=True):
    """One attempt too many: restarts wait for the supervisor's back-off (Suture's EventBackoff).

    Attributes:
        reason: What the child ended with, or why its start failed.
        failures: Pauses in a row.
        seconds: How long.
    """

    level = logging.ERROR

    reason: object
    failures: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.supervisor} restarts nothing for {self.seconds:.3g} s: {self.child} needed one "
            f"restart too many, the last for {show_reason(self.reason)}"
        )

    @property
    def error(self) -> BaseException | None:
        """None: the traceback was in the report of the child's end."""
        return None


class SupervisorResumed(Event, frozen=True):
    """A pause is over (Suture's EventResume).

    Attributes:
        waiting: So many children are started now, one after the other.
    """

    waiting: int

    def __str__(self) -> str:
        return f"{self.supervisor} goes on; {self.waiting} children are started again"


class Escalated(Event, frozen=True):
    """A supervisor has ended by itself; now its own supervisor decides, or the program ends.

    Attributes:
        cause: `"give_up"`, `"auto_shutdown"` or `"terminate"`.
        reason: `"shutdown"`, a clean reason; for "terminate" an order to the supervisor above.
    """

    cause: str
    reason: object

    @property
    def severity(self) -> int:
        """Ending with one's significant children is what was asked for."""
        return logging.INFO if self.cause == "auto_shutdown" else logging.ERROR

    def __str__(self) -> str:
        path = f"{self.supervisor}/{self.child}" if self.supervisor else self.child
        above = f"{self.supervisor} decides" if self.supervisor else "it was the root"
        return f"{path} ended ({self.cause}); {above}"


class Upgraded(Event, frozen=True):
    """An application's servers run another release (`child` is its name).

    Attributes:
        before: Its version before.
        after: Its version since.
        servers: Those that run other code now.
        pause: Seconds in which they took no inputs.
    """

    before: str
    after: str
    servers: tuple[str, ...]
    pause: float

    def __str__(self) -> str:
        return (
            f"{self.child} went from version {self.before} to {self.after}: {len(self.servers)} "
            f"servers, in {self.pause * 1000:.1f} ms"
        )


class RolledBack(Upgraded, frozen=True):
    """An application's servers run the release before again, asked to or after crashes."""

    level = logging.WARNING


Hook: TypeAlias = Callable[[Event], object]


def _is_told(event: Event) -> bool:
    """Whether a traceback would say nothing that the log does not have already, or nothing new."""
    if isinstance(event, ChildTerminated):
        return True  # a crashed server's own report has it (crashes.py)
    reason = event.error
    if isinstance(reason, SpecError) and not has_user_frames(reason):
        return True  # what is wrong with a description is all in its sentence
    # A supervisor fails with its child, which has just been told; a Stop is no fault of the code.
    return isinstance(reason, StartFailed | InitStopped)


class EventHub:
    """Logs every event to "pybehave.supervisor" and hands it to the hooks.

    A hook that raises is logged and changes nothing. Hooks are called in the order in which they
    were added, on the loop's thread, in the middle of supervision: they must be quick.
    """

    __slots__ = ("_hooks",)

    def __init__(self) -> None:
        self._hooks: tuple[tuple[Hook], ...] = ()

    def add(self, hook: Hook) -> Callable[[], None]:
        """Add a hook.

        Args:
            hook: Called with every event from now on.

        Returns:
            A function that removes it again; calling it twice does nothing.
        """
        entry = (hook,)  # an object of its own: a hook added twice is removed once
        self._hooks += (entry,)

        def remove() -> None:
            self._hooks = tuple(other for other in self._hooks if other is not entry)

        return remove

    def emit(self, event: Event) -> None:
        """Log an event and call the hooks. Never raises but KeyboardInterrupt."""
        severity = event.severity
        if is_heard(_logger, severity):
            error = None if _is_told(event) else event.error
            _logger.log(severity, "%s", event, exc_info=error)
        self.hand_on(event)

    def hand_on(self, event: Event) -> None:
        """Call the hooks for an event that has been logged. Never raises but KeyboardInterrupt."""
        for (hook,) in self._hooks:
            try:
                hook(event)
            except KeyboardInterrupt:
                raise
            except BaseException:  # a hook must not end what it watches
                _logger.exception("the hook %r raised for %r", hook, event)

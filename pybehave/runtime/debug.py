"""What watches one server: the events it sees, a log of the newest, counters, functions.

The core tells a Debug of every input that is about to be stepped (`took`), of its outcome once the
new state stands (`gave`), and of the incarnation's end (`ended`). It makes one Event of each and
hands it to whatever is switched on.

Events hold the objects themselves, as everything in one process does: a message that somebody
changes later shows the change.

Invariants
  (B1) Nothing that watches can hurt what it watches: a function that raises is removed, and logged.
  (B2) Functions run between the server's own steps, on the loop's thread: they cannot call servers.

Does not know: how a server is found, threads (sys.py).
Source: OTP sys, "system debug": trace, log, statistics, install.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO, TypeAlias, final

from pybehave.actions import NO_REPLY, Call, Cast, Info, Reply, Send
from pybehave.errors import show, show_reason

if TYPE_CHECKING:
    from pybehave._uring.handles import Caller
    from pybehave._uring.servers import Server
    from pybehave.runtime.observed import StateWatch

LOG_COUNT: Final = 10
"""How many events a log keeps unless told otherwise (OTP, sys:log/2)."""

LOG_COUNT_MAX: Final = 10_000
"""A log holds the messages themselves; more than this belongs into a file."""

ACTIONS_SHOWN: Final = 5
"""Of a step that sends to thousands; a line is to be read."""

DONE: Final = object()
"""What an installed function returns to be removed (OTP, sys:install/2)."""

KINDS: Final = {1: "call", 2: "cast", 3: "info", 4: "continue", 5: "timer"}

_SENT: Final = (Send, Reply, Cast, Info, Call)

What: TypeAlias = Literal["in", "out", "noreply", "ended"]

logger = logging.getLogger("pybehave")


@final
@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a server.

    Attributes:
        server: Its name.
        incarnation: Which start of it.
        at: Unix time.
        what: `"in"`: an input is about to be stepped. `"out"`: it was answered. `"noreply"`: it was
            stepped, and nobody has an answer yet. `"ended"`: the incarnation is over.
        kind: Of the input: `"call"`, `"cast"`, `"info"`, `"continue"`, `"timer"`; `""` at the end.
        value: The input; the output; at the end, what callers are told.
        caller: Who asked, or None.
        actions: What the step wants done.
    """

    server: str
    incarnation: int
    at: float
    what: What
    kind: str
    value: Any
    caller: Caller | None = None
    actions: tuple[Any, ...] = ()

    def __str__(self) -> str:
        whole = int(self.at)
        clock = time.strftime("%H:%M:%S", time.gmtime(whole))
        head = f"{clock}.{round((self.at - whole) * 1e6) % 1_000_000:06d} {self.server}"
        if self.what == "ended":
            return f"{head} ended: {show_reason(self.value)}"
        if self.what == "in":
            text = f"{head} in {self.kind} {show(self.value)}"
            return text if self.caller is None else f"{text} from {self.caller.origin}"
        if self.what == "out":
            text = f"{head} out {show(self.value)}"
            text += "" if self.caller is None else f" to {self.caller.origin}"
        else:
            text = f"{head} noreply"
        return text + self._then()

    def _then(self) -> str:
        if not self.actions:
            return ""
        more = len(self.actions) - ACTIONS_SHOWN
        text = ", ".join(map(show, self.actions[:ACTIONS_SHOWN]))
        return f", then {text}{f' and {more} more' if more > 0 else ''}"


@final
@dataclass(frozen=True, slots=True)
class Statistics:
    """What a server did since its statistics were switched on.

    Attributes:
        since: Unix time when they were.
        now: Unix time of this record.
        inputs: Stepped.
        outputs: Replies, and messages to connections and other servers.
    """

    since: float
    now: float
    inputs: int
    outputs: int


Watcher: TypeAlias = Callable[[Event], object]
Installed: TypeAlias = Callable[[Any, Event], Any]


@final
class Debug:
    """What watches one incarnation.

    Args:
        server: Which.
        unix_ns: The loop's time.
    """

    __slots__ = (
        "_file",
        "_functions",
        "_inputs",
        "_outputs",
        "_since",
        "_unix_ns",
        "log",
        "observed",
        "server",
    )

    def __init__(self, server: Server, unix_ns: Callable[[], int]) -> None:
        self.server = server
        self.log: deque[Event] | None = None
        self.observed: StateWatch | None = None  # the server's own: nothing switches it off
        self._file: TextIO | None = None
        self._unix_ns = unix_ns
        self._functions: list[tuple[Installed, Any]] = []
        self._since: float | None = None
        self._inputs = self._outputs = 0

    # --- what the core tells ----------------------------------------------------------------------

    def took(self, kind: int, message: Any, caller: Caller | None) -> None:
        """An input is about to be stepped."""
        if self.observed is not None:
            self.observed.took()
        self._inputs += 1
        self._tell("in", KINDS[kind], message, caller)

    def gave(self, kind: int, output: Any, actions: tuple[Any, ...], caller: Caller | None) -> None:
        """An input has been stepped, and the new state stands."""
        if self.observed is not None:
            self.observed.gave()
        is_answered = caller is not None and output is not NO_REPLY
        self._outputs += is_answered + sum(isinstance(action, _SENT) for action in actions)
        what: What = "out" if is_answered else "noreply"
        self._tell(what, KINDS[kind], output if is_answered else None, caller, actions)

    def ended(self, error: BaseException) -> None:
        """The incarnation has ended; nothing follows."""
        self._tell("ended", "", error, None)
        self.keep_file(None)

    # --- what is switched on ----------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing is switched on."""
        return (
            self.log is None
            and self.observed is None
            and self._since is None
            and self._file is None
            and not self._functions
        )

    def switch_off(self) -> None:
        """Forget everything that is switched on (OTP, sys:no_debug/1)."""
        self.log = self._since = None
        self.keep_file(None)
        self._functions = []

    def words(self) -> tuple[str, ...]:
        """What is switched on, for people."""
        found = [] if self.log is None else [f"log of {self.log.maxlen}"]
        if self._since is not None:
            found.append("statistics")
        if self._file is not None:
            found.append(f"log to {self._file.name}")
        if self._functions:
            found.append(f"{len(self._functions)} functions")
        if self.observed is not None:
            found.append(f"{self.observed.count} observers")
        return tuple(found)

    def keep_log(self, count: int) -> None:
        """Keep so many of the newest events; 0 keeps none."""
        self.log = deque(self.log or (), maxlen=count) if count else None

    def keep_file(self, file: TextIO | None) -> None:
        """Write events to a file, which is closed when another or none takes its place."""
        old, self._file = self._file, file
        if old is None:
            return
        try:
            old.close()
        except Exception:  # (B1): a close writes what is left, and a disk may be full
            logger.exception("the log of %r to %s lacks its end", self.server.name, old.name)

    def count(self, *, is_on: bool) -> None:
        """Begin to count, or forget the counts; who counts already goes on (OTP)."""
        if is_on and self._since is not None:
            return
        self._since = self._now() if is_on else None
        self._inputs = self._outputs = 0

    def statistics(self) -> Statistics | None:
        """The counts, or None when they are switched off."""
        if self._since is None:
            return None
        return Statistics(self._since, self._now(), self._inputs, self._outputs)

    def install(self, function: Installed, state: Any) -> None:
        """Add a function; one that is there keeps its state (OTP, sys:install/2)."""
        if all(found[0] != function for found in self._functions):
            self._functions.append((function, state))

    def remove(self, function: Installed) -> None:
        """Take a function away; one that is not there is no error (OTP)."""
        self._functions = [found for found in self._functions if found[0] != function]

    # --- telling ----------------------------------------------------------------------------------

    def _now(self) -> float:
        return self._unix_ns() / 1e9

    def _tell(
        self, what: What, kind: str, value: Any, caller: Caller | None, actions: Any = ()
    ) -> None:
        if self.log is None and self._file is None and not self._functions:
            return
        server = self.server
        event = Event(
            server.name, server.incarnation, self._now(), what, kind, value, caller, actions
        )
        if self.log is not None:
            self.log.append(event)
        if self._file is not None:
            self._write(self._file, event)
        if self._functions:
            self._functions = [
                (function, state)
                for function, before in self._functions
                if (state := self._called(function, before, event)) is not DONE
            ]

    def _write(self, file: TextIO, event: Event) -> None:
        try:
            file.write(f"{event}\n")
            file.flush()
        except BaseException:  # (B1)
            logger.exception("the log of %r to %s ends", event.server, file.name)
            self._file = None
            with suppress(Exception):  # it writes what is left: the same again
                file.close()

    def _called(self, function: Installed, state: Any, event: Event) -> Any:
        try:
            return function(state, event)
        except BaseException:  # (B1), also for one that raises KeyboardInterrupt
            logger.exception("the function %r that watched %r is removed", function, event.server)
            return DONE

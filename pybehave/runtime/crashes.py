"""Crash reports: what was known when a server ended abnormally, kept and logged.

The report holds the objects; text is made only when somebody reads it, because a restart has to
be cheap. The newest `REPORTS_KEPT` stay in memory. A log record of one has it as `record.crash`;
`as_dict` is its form for programs: plain values only, bounded.

| OTP                                            | here                                       |
|------------------------------------------------|--------------------------------------------|
| initial call, registered name, pid             | kind, server, incarnation                  |
| error_info: class, reason, stack               | reason, with its traceback                 |
| ancestors                                      | path, restart                              |
| message_queue_len, messages                    | mailbox, waiting (the first few)           |
| last message, state, client, log (gen_server)  | message, state, caller, log, and callback  |
| reductions, links, heap, dictionary            | inputs, callers, timers, lsn; no processes |

Source: OTP gen_server, error report on termination; proc_lib, crash reports.
"""

from __future__ import annotations

import logging
import os
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, final

from msgspec import Struct

from pybehave.behaviours.statem_engine import Held, held_by
from pybehave.errors import show, show_reason
from pybehave.runtime.debug import KINDS
from pybehave.runtime.logs import is_heard

REPORTS_KEPT: Final = 128
"""Enough to see a pattern in a crash loop, bounded so that a crash loop does not eat memory."""

MESSAGES_KEPT: Final = 10
"""Of those that waited; they are gone with the incarnation, and the first say what it was at."""

FRAMES_SHOWN: Final = 50
"""The innermost: a recursion without end has a thousand that are the same."""

SHOWN_CHARS_MAX: Final = 2000
"""A state can be large; a log line must not be."""

PACKAGE: Final = os.path.join(os.path.dirname(os.path.dirname(__file__)), "")

logger = logging.getLogger("pybehave.server")


@final
class CrashReport(Struct, frozen=True, eq=False):
    """One abnormal end.

    What follows from other fields is made when it is read.

    Attributes:
        server: The server's name.
        incarnation: Which start of it.
        inputs: How many the incarnation had taken.
        reason: The exception, with its traceback, or the reason given to `Stop`.
        callback: What ran: "init", "step", "handle_call", "handle_info", ...
        message: The input that it failed on.
        state: The last good state (the object itself: a server that changes its state in place
            may have changed it half way).
        at: Unix time.
        shape: The `format_status` of its code in that state.
        server_class: Its class ...
        supervisor: ... the path of its supervisor ...
        child: ... and its id there; both are "" for a server that is in no tree.
        restart: Its restart type.
        caller: Who asked, for people; "" = nobody.
        mailbox: How many more inputs waited ...
        waiting: ... and the first of them: kind (1 call, 2 cast, 3 info, 5 timer), message, ...
        callers: Whose reply had been put off.
        timers: That were armed.
        lsn: Of the failed input in the journal, and of its dead letter; 0 = it is in none.
        log: The newest events, if `sys.log` was on.
        kept: What the runtime kept for it: a machine's is more than its state.
        handler: Which handler of an event manager failed, which goes on without it: then callback,
            message, state and class are the handler's. None = the server itself has ended.
    """

    server: str
    incarnation: int
    inputs: int
    reason: object
    callback: str
    message: Any
    state: Any
    at: float
    shape: Callable[[dict[str, Any]], dict[str, Any]]
    server_class: type = object
    supervisor: str = ""
    child: str = ""
    restart: str = ""
    caller: str = ""
    mailbox: int = 0
    waiting: tuple[tuple[Any, ...], ...] = ()
    callers: int = 0
    timers: int = 0
    lsn: int = 0
    log: tuple[Any, ...] = ()
    kept: Any = None
    handler: Any = None

    @property
    def crash_id(self) -> str:
        """What callers were told."""
        return f"{self.server}-{self.incarnation}-{self.inputs}"

    @property
    def kind(self) -> str:
        """The server's class, `module:Name`."""
        return f"{self.server_class.__module__}:{self.server_class.__qualname__}"

    @property
    def path(self) -> str:
        """Where it stood in the tree: ids from the root, joined by "/"; "" = in none."""
        return f"{self.supervisor}/{self.child}" if self.child else ""

    def machine(self) -> Held | None:
        """What a GenStatem held beside its state, its events as `format_status` shows them under
        "message"; None for other servers.
        """
        return shown_held(self.shape, held_by(self.server_class, self.kept))

    def status(self) -> dict[str, Any]:
        """What the server's `format_status` lets be seen of message, state, reason and log."""
        shown = {"message": self.message, "state": self.state, "reason": self.reason}
        if self.log:
            shown["log"] = list(self.log)
        return shaped(self.shape, shown)

    def as_dict(self) -> dict[str, Any]:
        """The report for programs: plain values that JSON can hold, values of the server's as text.

        Messages that waited go through `format_status` one by one, under "message" alone.
        """
        status, machine = self.status(), self.machine()
        log = status.get("log", [])
        return {
            "crash_id": self.crash_id,
            "server": self.server,
            "incarnation": self.incarnation,
            "kind": self.kind,
            "handler": None if self.handler is None else show(self.handler),
            "path": self.path,
            "restart": self.restart,
            "at": self.at,
            "callback": self.callback,
            "reason": _reason(status["reason"]),
            "traceback": _frames(self.reason),
            "message": _short(status["message"]),
            "state": _short(status["state"]),
            "caller": self.caller,
            "inputs": self.inputs,
            "mailbox": self.mailbox,
            "waiting": [self._waited(item) for item in self.waiting],
            "callers": self.callers,
            "timers": self.timers,
            "lsn": self.lsn,
            "log": [str(event) for event in log] if isinstance(log, list) else _short(log),
            "machine": None if machine is None else as_texts(machine),
        }

    def _waited(self, item: tuple[Any, ...]) -> str:
        kind = KINDS.get(item[0], "input")
        if kind == "timer":
            return kind  # what it brings is with the timer
        return f"{kind} {show(_message(self.shape, item[1]))}"

    def __str__(self) -> str:
        status = self.status()
        whose = "" if self.handler is None else f"handler {show(self.handler)} of "
        return (
            f"{whose}server {self.server!r} (incarnation {self.incarnation}) crashed in "
            f"{self.callback} on {_short(status['message'])}{self._around()} "
            f"in state {_short(status['state'])} [crash id {self.crash_id}]"
        )

    def _around(self) -> str:
        asked = f" from {self.caller}" if self.caller else ""
        held = held_by(self.server_class, self.kept)
        waiting = [f"{self.mailbox} more waiting"] if self.mailbox else []
        waiting += [f"{len(held.postponed)} postponed"] if held and held.postponed else []
        return f"{asked} with {' and '.join(waiting)}" if waiting else asked


@final
class Crashes:
    """The newest crash reports, and their way into the log."""

    def __init__(self) -> None:
        self._reports: deque[CrashReport] = deque(maxlen=REPORTS_KEPT)
        self.count = 0

    def keep(self, report: CrashReport) -> None:
        """Keep a report that somebody else logs."""
        self._reports.append(report)

    def add(self, report: CrashReport) -> None:
        """Keep a report and log it with its traceback."""
        self.keep(report)
        self.count += 1
        if not is_heard(logger, logging.ERROR):
            return
        reason = report.reason
        if isinstance(reason, BaseException):
            trace = (type(reason), reason, user_frames(reason))
            logger.error("%s", report, exc_info=trace, extra={"crash": report})
        else:
            logger.error("%s: %r", report, reason, extra={"crash": report})

    def __iter__(self) -> Iterator[CrashReport]:
        return iter(self._reports)


def shaped(
    shape: Callable[[dict[str, Any]], dict[str, Any]], status: dict[str, Any]
) -> dict[str, Any]:
    """Return what a server's `format_status` lets be seen of some fields. If it raises, that is
    why it ended, which the log's traceback tells anyway.
    """
    try:
        return {**dict.fromkeys(status), **shape(dict(status))}
    except Exception as error:  # noqa: BLE001 -- a report must not fail on its subject
        hidden = dict.fromkeys(status, f"<format_status raised {error!r}>")
        return hidden | {name: status[name] for name in status if name == "reason"}


def shown_held(shape: Callable[[dict[str, Any]], dict[str, Any]], held: Held | None) -> Held | None:
    """Return what a machine's `format_status` lets be seen of what it holds beside its state."""
    if held is None:
        return None
    return Held(
        tuple((kind, _message(shape, content)) for kind, content in held.postponed),
        {kind: _message(shape, content) for kind, content in held.timeouts.items()},
        held.modules,
    )


def as_texts(held: Held) -> dict[str, list[str]]:
    """Return what a machine holds for programs: text that is bounded."""
    return {
        "postponed": [
            f"{show(kind)} {show(content)}" for kind, content in held.postponed[:MESSAGES_KEPT]
        ],
        "timeouts": [f"{show(kind)} {show(content)}" for kind, content in held.timeouts.items()],
        "modules": list(held.modules),
    }


def _message(shape: Callable[[dict[str, Any]], dict[str, Any]], message: Any) -> Any:
    return shaped(shape, {"message": message})["message"]


def user_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback from the first frame on that is not the package's own.

    How the core and the runtime came to call the user's code is not the question. What the package
    raised all by itself is shown whole.
    """
    found = _first_user_frame(error)
    return found if found is not None else error.__traceback__


def has_user_frames(error: BaseException) -> bool:
    """Say whether an exception came through any code that is not the package's own."""
    return _first_user_frame(error) is not None


def _first_user_frame(error: BaseException) -> TracebackType | None:
    found = error.__traceback__
    while found is not None and _is_own(found.tb_frame.f_code.co_filename):
        found = found.tb_next
    return found


def _is_own(filename: str) -> bool:
    """Whether code is the package's: compiled, which has no source here, or below its folder."""
    return filename.endswith(".pyx") or filename.startswith(PACKAGE)


def _reason(reason: object) -> dict[str, Any]:
    """A reason as its class, what it says, and what led to it."""
    if not isinstance(reason, BaseException):
        return {"type": type(reason).__name__, "text": show(reason), "notes": [], "cause": None}
    cause = reason.__cause__ or (None if reason.__suppress_context__ else reason.__context__)
    return {
        "type": f"{type(reason).__module__}.{type(reason).__qualname__}",
        "text": show_reason(reason),
        "notes": [show(note) for note in getattr(reason, "__notes__", [])],
        "cause": None if cause is None else show_reason(cause),
    }


def _frames(reason: object) -> list[dict[str, Any]]:
    """The stack where a reason was raised, outermost first."""
    if not isinstance(reason, BaseException):
        return []
    return [
        {"file": frame.filename, "line": frame.lineno, "function": frame.name, "code": frame.line}
        for frame in traceback.extract_tb(user_frames(reason))[-FRAMES_SHOWN:]
    ]


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 -- a report must not fail on its subject
        text = f"<repr raised {type(error).__name__}>"
    if len(text) > SHOWN_CHARS_MAX:
        return f"{text[:SHOWN_CHARS_MAX]}… ({len(text)} characters)"
    return text

"""Crash reports: what was known when a server ended abnormally, kept and logged.

The report holds the objects; text is made only when somebody reads it, because a restart has to
be cheap. The newest `REPORTS_KEPT` stay in memory.

Source: OTP gen_server, error report on termination (last message, state, reason).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Final, final

from msgspec import Struct

from pybehave.runtime.logs import is_heard

REPORTS_KEPT: Final = 128
"""Enough to see a pattern in a crash loop, bounded so that a crash loop does not eat memory."""

SHOWN_CHARS_MAX: Final = 2000
"""A state can be large; a log line must not be."""

logger = logging.getLogger("pybehave.server")


@final
class CrashReport(Struct, frozen=True, eq=False):
    """One abnormal end.

    Attributes:
        crash_id: What callers were told.
        server: The server's name.
        incarnation: Which start of it.
        reason: The exception, with its traceback, or the reason given to `Stop`.
        callback: What ran: "handle_call", "handle_info", ...
        message: The input that it failed on.
        state: The last good state (the object itself: a server that changes its state in place
            may have changed it half way).
        at: Unix time.
    """

    crash_id: str
    server: str
    incarnation: int
    reason: object
    callback: str
    message: Any
    state: Any
    at: float
    shape: Callable[[dict[str, Any]], dict[str, Any]]

    def status(self) -> dict[str, Any]:
        """What the server's `format_status` lets be seen of message, state and reason."""
        shown = {"message": self.message, "state": self.state, "reason": self.reason}
        try:
            return self.shape(dict(shown))
        except Exception as error:  # noqa: BLE001 -- a report must not fail on its subject
            return dict.fromkeys(shown, f"<format_status raised {error!r}>")

    def __str__(self) -> str:
        status = self.status()
        return (
            f"server {self.server!r} (incarnation {self.incarnation}) crashed in "
            f"{self.callback} on {_short(status['message'])} in state {_short(status['state'])} "
            f"[crash id {self.crash_id}]"
        )


@final
class Crashes:
    """The newest crash reports, and their way into the log."""

    def __init__(self) -> None:
        self._reports: deque[CrashReport] = deque(maxlen=REPORTS_KEPT)
        self.count = 0

    def add(self, report: CrashReport) -> None:
        """Keep a report and log it with its traceback."""
        self._reports.append(report)
        self.count += 1
        if not is_heard(logger, logging.ERROR):
            return
        reason = report.reason
        if isinstance(reason, BaseException):
            logger.error("%s", report, exc_info=(type(reason), reason, user_frames(reason)))
        else:
            logger.error("%s: %r", report, reason)

    def __iter__(self) -> Iterator[CrashReport]:
        return iter(self._reports)


def user_frames(error: BaseException) -> TracebackType | None:
    """Return the traceback without the frames of the compiled core, which have no source here."""
    found = error.__traceback__
    while found is not None and found.tb_frame.f_code.co_filename.endswith(".pyx"):
        found = found.tb_next
    return found if found is not None else error.__traceback__


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001 -- a report must not fail on its subject
        text = f"<repr raised {type(error).__name__}>"
    if len(text) > SHOWN_CHARS_MAX:
        return f"{text[:SHOWN_CHARS_MAX]}… ({len(text)} characters)"
    return text

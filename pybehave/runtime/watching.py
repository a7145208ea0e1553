"""Somebody tells how far a long start is: a thread that looks now and then, and lets it be shown.

Without a terminal it is a line in the log each five seconds. systemd is told too, and asked for
more time: a replay that goes on is no start that hangs.

Does not know: what is under way (pybehave/journal/progress.py).
Source: sd_notify(3), STATUS and EXTEND_TIMEOUT_USEC.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, final

from pybehave.journal.progress import Moment, Progress
from pybehave.runtime import systemd

LOG_S: Final = 5.0
EXTEND_S: Final = 30.0
"""How much longer systemd is asked to wait, each time: several looks."""

logger = logging.getLogger("pybehave.journal")


def log_moment(moment: Moment) -> None:
    """A line in the log."""
    logger.info("%s", moment.sentence)


@final
@dataclass(frozen=True, slots=True)
class Watch:
    """How a long start is watched.

    Attributes:
        show: Called with where it stands, on a thread of its own.
        every_s: Seconds between two looks.
        after_s: Seconds before the first: what is over by then needs no words.
        finish: Called when the start is over, if something was shown.
    """

    show: Callable[[Moment], None] = log_moment
    every_s: float = LOG_S
    after_s: float = LOG_S
    finish: Callable[[], None] = lambda: None


@contextlib.contextmanager
def watched(progress: Progress, watch: Watch) -> Iterator[None]:
    """While this lasts, somebody looks at the progress and shows it."""
    is_over = threading.Event()

    def look() -> None:
        is_shown = False
        wait_s = watch.after_s
        while not is_over.wait(wait_s):
            wait_s = watch.every_s
            moment = progress.moment()
            if moment is not None:
                is_shown = True
                watch.show(moment)
                extend_us = int((EXTEND_S + watch.every_s) * 1e6)
                systemd.notify(f"STATUS={moment.sentence}\nEXTEND_TIMEOUT_USEC={extend_us}")
        if is_shown:
            watch.finish()

    thread = threading.Thread(target=look, name="pybehave-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()

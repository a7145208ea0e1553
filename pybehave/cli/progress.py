"""A bar on the terminal for work that takes long: what is done, how fast, how long it still takes.

Does not know: who works, on which thread (runtime/watching.py calls).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Final, TextIO, final

import click

from pybehave.journal.progress import Moment, Progress
from pybehave.runtime.watching import Watch, watched

EVERY_S: Final = 0.2
AFTER_S: Final = 0.5
"""What is over by then was not long."""


@final
class Bar:
    """One bar for each phase, one below the other.

    Args:
        file: A terminal.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._phase = ""
        self._bar: click.progressbar[Moment] | None = None  # type: ignore[valid-type]

    def show(self, moment: Moment) -> None:
        """Draw it anew."""
        if moment.phase != self._phase:
            self.finish()
            self._begin(moment)
        assert self._bar is not None
        self._bar.update(moment.done - self._bar.pos, moment)

    def finish(self) -> None:
        """End the line."""
        if self._bar is not None:
            self._bar.render_finish()
        self._bar, self._phase = None, ""

    def _begin(self, moment: Moment) -> None:
        self._phase = moment.phase
        self._bar = click.progressbar(
            length=moment.total,
            label=moment.phase,
            show_eta=False,  # its own looks at the latest steps only, and jumps
            item_show_func=_words,
            file=self._file,
        )


def _words(moment: Moment | None) -> str | None:
    if moment is None:
        return None
    if moment.left_s is None:
        return moment.amounts
    return f"{moment.amounts}, {moment.speed}, {moment.left_s:.0f} s left"


@contextlib.contextmanager
def shown_on(file: TextIO) -> Iterator[Progress]:
    """While this lasts, what the progress is told is shown, if the stream is a terminal."""
    progress = Progress(time.monotonic)
    watch = watch_on(file)
    with watched(progress, watch) if watch is not None else contextlib.nullcontext():
        yield progress


def watch_on(file: TextIO) -> Watch | None:
    """Return how to watch on that stream; None = it is no terminal, so the log has to do."""
    if not file.isatty():
        return None
    bar = Bar(file)
    return Watch(bar.show, EVERY_S, AFTER_S, bar.finish)

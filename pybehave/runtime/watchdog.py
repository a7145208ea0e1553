"""The watchdog: a thread that looks whether a step, an init or a terminate takes too long.

Nothing interrupts a step, and while it runs all other servers wait. So the budget of a step is
small, and whoever exceeds it should be known by name, with the stack where it stands.

Theory. The loop is not slowed for this: it says already which server it steps (`current`) and
counts its inputs. The thread looks twice in each budget. Two looks at the same step, a budget
apart, are a report: a step that takes one and a half budgets is always seen, a shorter one than the
budget never. The same step is reported again when it has taken twice as long, and so on.

Limits. The thread needs the GIL: code in C that keeps it (a large sort, a regular expression) is
seen only if it lets go. Times are real ones; on the simulator there is no watchdog.

An abort is asked for explicitly (`step_abort`): it raises `StepAborted` in the step, a crash of
that server. No code is written with an exception at any of its lines in mind, which is why it is
not the default; the server's state is thrown away or rebuilt, as after every crash, but what its
step shares with others, a lock or a file, is left as it stands.

Does not know: supervision; what becomes of a server whose step was aborted.
"""

from __future__ import annotations

import errno
import logging
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Final, final

from pybehave.behaviours.rules import is_number
from pybehave.errors import show
from pybehave.runtime.events import Event
from pybehave.runtime.jobs.hands import tell

if TYPE_CHECKING:
    from types import FrameType

    from pybehave.runtime.node import Node

LOOKS_PER_BUDGET: Final = 2

STACK_FRAMES_MAX: Final = 30
"""The innermost frames: where it stands, not the whole of a deep recursion."""

logger = logging.getLogger("pybehave.watchdog")


class StepTooLong(Event, frozen=True):
    """A step took longer than its budget; hooks hear of it when it has ended.

    Attributes:
        what: "step", "init" or "terminate".
        seconds: How long it had been running when it was seen.
        stack: Where it stood.
    """

    level = logging.WARNING

    what: str
    seconds: float
    stack: str

    def __str__(self) -> str:
        return (
            f"{self.what} of server {self.child!r} has been running for {self.seconds:.3g} s, and "
            f"everything else waits; give what takes long to a worker (the action Run)"
        )


@final
class Watchdog:
    """The thread, and what it has seen.

    Args:
        node: Whose loop it watches.
        budget_s: Seconds that a step may take unseen.
        abort_s: Seconds after which a step is aborted; None is never.
    """

    def __init__(self, node: Node, budget_s: float, abort_s: float | None) -> None:
        self._node = node
        self._budget_s = budget_s
        self._abort_s = abort_s
        self._steps = self._aborted = 0
        self._longest_s = 0.0
        self._seen: tuple[Any, ...] | None = None
        self._since = self._due = 0.0
        self._is_aborting = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="pybehave-watchdog", daemon=True)

    def start(self) -> None:
        """Begin to look.

        Raises:
            OSError: The system has no thread for it, and steps were to be aborted.
        """
        try:
            self._thread.start()
        except RuntimeError as error:  # Python's word for EAGAIN
            if self._abort_s is not None:
                raise OSError(
                    errno.EAGAIN, "the system has no thread left to abort steps from"
                ) from error
            logger.warning("the system has no thread left to watch steps from; nobody does")

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread.ident is not None:  # the start may have failed before
            self._thread.join()

    def seconds_of(self, seen: tuple[Any, ...]) -> float:
        """For how long it has been seen to run, of what `running` gave; from any thread."""
        known, since = self._seen, self._since
        return time.monotonic() - since if known == seen else 0.0

    def stats(self) -> dict[str, Any]:
        """Counters."""
        return {
            "budget_s": self._budget_s,
            "abort_s": self._abort_s,
            "steps_too_long": self._steps,
            "steps_aborted": self._aborted,
            "seconds_longest": self._longest_s,
        }

    def _watch(self) -> None:
        interval = self._budget_s / LOOKS_PER_BUDGET
        if self._abort_s is not None:
            interval = min(interval, self._abort_s / LOOKS_PER_BUDGET)
        interval = min(interval, threading.TIMEOUT_MAX)
        while not self._stopping.wait(interval):
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Take one look.

        Args:
            now: Monotonic seconds.
        """
        seen = running(self._node)
        if seen is None or seen != self._seen:
            self._seen, self._since, self._is_aborting = seen, now, False
            self._due = self._budget_s
            return
        seconds = now - self._since
        if seconds >= self._due:
            self._report(seen, seconds)
        if self._abort_s is not None and seconds >= self._abort_s and not self._is_aborting:
            self._abort(seen, seconds)

    def _report(self, seen: tuple[Any, ...], seconds: float) -> None:
        frame = sys._current_frames().get(self._node.loop.thread)
        stack = _extract(frame)
        del frame
        if running(self._node) != seen:
            return  # it has just ended, and the stack is another one's
        if self._due == self._budget_s:
            self._steps += 1
        self._due = max(2 * self._due, 2 * seconds)
        self._longest_s = max(self._longest_s, seconds)
        name, what = named(seen)
        event = StepTooLong("", name, what, seconds, "".join(stack.format()))
        logger.warning("%s\n%s", event, event.stack.rstrip())
        tell(self._node.host.defer, lambda: self._node.events.hand_on(event))

    def _abort(self, seen: tuple[Any, ...], seconds: float) -> None:
        if isinstance(seen[0], str):
            return  # an init or terminate is part of a supervisor's step
        loop = self._node.loop
        self._is_aborting = True
        if loop.dispatcher.abort_step(seen[0], seen[1], loop.thread, seconds):
            self._aborted += 1
            logger.error("the step of server %r is aborted after %.3g s", seen[0].name, seconds)


def running(node: Node) -> tuple[Any, ...] | None:
    """What runs on a node's loop: (Server, count), or what the host does for a server; None =
    nothing that is a user's. From any thread.
    """
    stepping = node.loop.dispatcher.stepping()
    return node.host.doing if stepping is None else stepping


def named(seen: tuple[Any, ...]) -> tuple[str, str]:
    """The server's name and "step", "init" or "terminate", of what `running` gave."""
    return (seen[0].name, "step") if not isinstance(seen[0], str) else (seen[0], seen[1])


def _extract(frame: FrameType | None) -> traceback.StackSummary:
    """The stack of a thread that runs on: lines are looked up later, positions are taken now."""
    if frame is None:
        return traceback.StackSummary()
    found = traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False)
    found.reverse()
    node = sys.modules["pybehave.runtime.node"].__file__
    own = [index for index, each in enumerate(found) if each.filename == node]
    below = found[own[-1] + 1 :] if own else found  # how the loop came to run is not the question
    return traceback.StackSummary.from_list(below[-STACK_FRAMES_MAX:])


def watchdog_for(
    node: Node, step_budget: float | None, step_abort: float | None
) -> Watchdog | None:
    """Return what watches a node's steps; None when nobody asked, and on the simulator.

    Raises:
        ValueError: A limit is no time.
    """
    for field, seconds in (("step_budget", step_budget), ("step_abort", step_abort)):
        if seconds is not None and not (is_number(seconds) and seconds > 0):
            raise ValueError(f"{field}={show(seconds)} is not allowed; use seconds > 0, or None")
    budget_s = step_abort if step_budget is None else step_budget
    if budget_s is None or node.loop.source == "sim":
        return None
    return Watchdog(node, budget_s, step_abort)

"""The hands of a worker pool: a thread, a process with the thread that talks to it, or simulated.

All three look the same to the pool: `give` a task, `end` politely, `kill`; what comes of it is told
on the loop's thread, by `ready`, `done` and `died` of whoever made the hand.

A thread cannot be interrupted. One that is killed is abandoned: its function goes on, nobody hears
of it, and it ends when the function returns. Threads are daemons, so that no function keeps the
process from ending.

On the simulator no thread runs. A function is called on the loop's thread when its time is over,
in virtual time; how long that is, and whether its worker dies, is asked of a function that the test
gives.

Does not know: queues, sizes, time limits (behaviours/pool_machine.py).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, Final, Protocol, final

from pybehave.actions import Run
from pybehave.errors import PybehaveError
from pybehave.runtime.jobs import processes
from pybehave.runtime.jobs.processes import Child, Died

DIES: Final = None
"""What a `Fate` returns for a job that kills its worker."""

Fate = Callable[[Run], float | None]
"""For the simulator: the virtual seconds that a job takes, or `DIES`."""


class Owner(Protocol):
    """Who is told; all three are called on the loop's thread."""

    def ready(self, key: Any) -> None:
        """The hand can work."""

    def done(self, key: Any, value: Any, error: BaseException | None) -> None:
        """The hand's function has returned or raised."""

    def died(self, key: Any, how: str) -> None:
        """The hand is gone."""


class Hand(Protocol):
    """One worker."""

    def give(self, task: Run) -> None:
        """Do it; `done` or `died` follows."""

    def end(self) -> None:
        """End; it is idle."""

    def kill(self) -> None:
        """End now, or be abandoned."""


# Not final: a hand is one of the two below.
class QueueHand:
    """A thread that takes its tasks from a queue; what it does with them is the subclasses'.

    Args:
        name: The thread's.
        owner: Who is told.
        key: Names this hand to the owner.
        post: Calls a function on the loop's thread.
    """

    def __init__(
        self, name: str, owner: Owner, key: Any, post: Callable[[Callable[[], None]], None]
    ) -> None:
        self._owner = owner
        self._key = key
        self._post = post
        self._tasks: SimpleQueue[Run | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def give(self, task: Run) -> None:
        """Do it."""
        self._tasks.put(task)

    def end(self) -> None:
        """End when idle."""
        self._tasks.put(None)

    def _work(self) -> None:
        raise NotImplementedError


@final
class ThreadHand(QueueHand):
    """A thread of this process."""

    _is_abandoned = False

    def kill(self) -> None:
        """Go on unheard, if anything is under way."""
        self._is_abandoned = True
        self._tasks.put(None)

    def _work(self) -> None:
        tell(self._post, partial(self._owner.ready, self._key))
        while (task := self._tasks.get()) is not None and not self._is_abandoned:
            value, error = call(task)
            del task  # nothing of a job outlives it here
            tell(self._post, partial(self._owner.done, self._key, value, error))
            del value, error


@final
class ProcessHand(QueueHand):
    """A process, and the thread that starts it, talks to it and waits for its end.

    The thread lives as long as the process: the kernel kills a process whose parent *thread* has
    ended (PR_SET_PDEATHSIG), and with the node every thread ends.
    """

    def __init__(
        self, name: str, owner: Owner, key: Any, post: Callable[[Callable[[], None]], None]
    ) -> None:
        self._child: Child | None = None
        self._is_killed = False
        self._lock = threading.Lock()
        super().__init__(name, owner, key, post)

    def kill(self) -> None:
        """Kill the process."""
        with self._lock:
            self._is_killed = True
            if self._child is not None:
                self._child.kill()
        self._tasks.put(None)

    def _work(self) -> None:
        try:
            self._serve()
        except Died as death:
            how = death.how
        except OSError as error:
            how = f"it cannot be started: {error}"
        else:
            return
        finally:
            if self._child is not None:
                self._child.end()
        tell(self._post, lambda: self._owner.died(self._key, how))

    def _serve(self) -> None:
        child = self._started()
        tell(self._post, lambda: self._owner.ready(self._key))
        while (task := self._tasks.get()) is not None and not self._is_killed:
            if child.has_ended():  # while it was idle: the kernel needed memory, or somebody killed
                child.end()
                child = self._started()
            value, error = child.call(task.function, task.args)
            del task
            tell(self._post, partial(self._owner.done, self._key, value, error))
            del value, error

    def _started(self) -> Child:
        child = processes.start()
        with self._lock:
            self._child = child
            if self._is_killed:
                child.kill()
        child.wait_ready()
        return child


@final
class SimulatedHand:
    """A worker in virtual time.

    Args:
        owner: Who is told.
        key: Names this hand to the owner.
        alarms: Starts and cancels alarms of the loop.
        fate: How long a job takes.
    """

    def __init__(self, owner: Owner, key: Any, alarms: Any, fate: Fate) -> None:
        self._owner = owner
        self._key = key
        self._alarms = alarms
        self._fate = fate
        self._alarm = alarms.start_alarm(0.0, lambda: owner.ready(key))

    def give(self, task: Run) -> None:
        """Do it when its time is over."""
        seconds = self._fate(task)
        if seconds is DIES:
            how = "signal SIGKILL (simulated)"
            self._alarm = self._alarms.start_alarm(0.0, lambda: self._owner.died(self._key, how))
        else:
            self._alarm = self._alarms.start_alarm(seconds, lambda: self._finish(task))

    def end(self) -> None:
        """Nothing is under way."""
        self.kill()

    def kill(self) -> None:
        """Forget what was under way."""
        self._alarms.cancel_alarm(self._alarm)

    def _finish(self, task: Run) -> None:
        self._owner.done(self._key, *call(task))


def call(task: Run) -> tuple[Any, BaseException | None]:
    """Call a task's function; returns its value, or what it raised."""
    try:
        return task.function(*task.args), None
    except BaseException as error:  # noqa: BLE001 -- whatever it is, it is the job's outcome
        return None, error


def tell(post: Callable[[Callable[[], None]], None], function: Callable[[], None]) -> None:
    """Call a function on the loop's thread, unless the loop has closed: then nobody waits."""
    try:
        post(function)
    except PybehaveError:
        return

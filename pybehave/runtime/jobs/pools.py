"""The worker pools of a node: what their machines decide is carried out, servers are told.

A pool is a child of the tree (behaviours/pool.py) and is found by its name; jobs that name none go
to the node's own threads. Whoever asked for a job is known by its incarnation; a journaled server
by its name, for its next incarnation goes on where it was, and is owed the answer (jobs.py).

Does not know: what journals keep; who decides when a pool starts and stops.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from msgspec import Struct

from pybehave.actions import Run, RunAgain, RunDone, RunFailed
from pybehave.behaviours import pool_machine
from pybehave.behaviours.hosted import Failed
from pybehave.behaviours.pool_machine import Job, PoolMachine, PoolSettings, Step
from pybehave.errors import NoProc, Stopped
from pybehave.jobs import DEFAULT_POOL
from pybehave.runtime.jobs.hands import Fate, Hand, ProcessHand, SimulatedHand, ThreadHand

if TYPE_CHECKING:
    from pybehave._uring.loop import Loop
    from pybehave._uring.servers import Server

THREADS_MAX: Final = min(32, (os.cpu_count() or 1) + 4)
"""The standard library's own default: for functions that wait, not for those that compute."""

DEFAULT_SETTINGS: Final = PoolSettings("thread", (0, THREADS_MAX), 30.0, 65_536)
"""The node's own threads: as many may wait as the inputs of sixty-four full mailboxes."""

RETRY_S: Final = 0.1
"""Before a worker is tried again for which the system had no thread."""

logger = logging.getLogger("pybehave.pools")

Owner: TypeAlias = "Server | str"


class Task(Struct, frozen=True, eq=False):
    """A job as a server asked for it.

    Attributes:
        run: The action.
        owner: Who is told: an incarnation, or a journaled server's name.
        origin: Of a journaled server's job: the lsn of the input that asked for it, and which of
            its jobs it is.
    """

    run: Run
    owner: Owner
    origin: tuple[int, int] | None


@final
class RunningPool:
    """One pool that runs.

    Args:
        pools: Where it belongs.
        name: Its own.
        settings: What it may use.
        fail: Told when no worker can be started.
    """

    def __init__(
        self,
        pools: Pools,
        name: str,
        settings: PoolSettings,
        fail: Callable[[BaseException], None],
    ) -> None:
        self.machine = PoolMachine(name, settings)
        self._pools = pools
        self._name = name
        self._fail = fail
        self._hands: dict[pool_machine.Hand, Hand] = {}
        self._alarm: Any = None
        self._due: float | None = None
        self._act(self.machine.open(pools.now()))

    def submit(self, job: Job[Task]) -> None:
        """Take a job; its outcome is told, maybe at once."""
        self._act(self.machine.submit(job, self._pools.now()))

    def cancel(self, job: Job[Task]) -> None:
        """Give a job up."""
        self._act(self.machine.cancel(job, self._pools.now()))

    # --- what hands tell (Owner of hands.py) -------------------------------------------------

    def ready(self, key: pool_machine.Hand) -> None:
        """A hand can work."""
        self._act(self.machine.ready(key, self._pools.now()))

    def done(self, key: pool_machine.Hand, value: Any, error: BaseException | None) -> None:
        """A hand's function has returned or raised."""
        self._act(self.machine.done(key, value, error, self._pools.now()))

    def died(self, key: pool_machine.Hand, how: str) -> None:
        """A hand is gone."""
        logger.warning("a worker of the pool %r died: %s", self._name, how)
        self._hands.pop(key, None)
        self._act(self.machine.died(key, how, self._pools.now()))

    # --- the end (Beside of hosted.py) -------------------------------------------------------

    @property
    def is_over(self) -> bool:
        """Whether nothing is left of it that anybody waits for."""
        return self.machine.is_over

    def drain(self, reason: object) -> None:
        """Take no more jobs; those that run may finish."""
        self._pools.forget(self._name, self)
        self._act(self.machine.drain(reason))

    def kill(self, reason: object) -> None:
        """End at once."""
        self._pools.forget(self._name, self)
        self._act(self.machine.kill(reason))

    def stats(self) -> dict[str, Any]:
        """Counters, and where the hands stand."""
        return self.machine.stats()

    # --- steps -------------------------------------------------------------------------------

    def _act(self, steps: list[Step]) -> None:
        for step in steps:
            if isinstance(step, pool_machine.Tell):
                self._pools.tell(step.job, step.value, step.error)
            elif isinstance(step, pool_machine.Give):
                self._hands[step.hand].give(step.job.what.run)
            elif isinstance(step, pool_machine.StartHand):
                self._start_hand(step.hand)
            elif isinstance(step, pool_machine.EndHand):
                self._hands.pop(step.hand).end()
            elif isinstance(step, pool_machine.KillHand):
                self._hands.pop(step.hand).kill()
            else:
                self._fail(step.error)
        self._set_alarm()

    def _start_hand(self, key: pool_machine.Hand) -> None:
        try:
            self._hands[key] = self._pools.make_hand(self, key)
        except RuntimeError as error:  # the system has no thread left
            self._pools.alarms.start_alarm(RETRY_S, partial(self.died, key, str(error)))

    def _set_alarm(self) -> None:
        due = self.machine.next_tick()
        if due == self._due:
            return
        self._pools.alarms.cancel_alarm(self._alarm)
        self._due, self._alarm = due, None
        if due is not None:
            seconds = max(0.0, due - self._pools.now())
            self._alarm = self._pools.alarms.start_alarm(seconds, self._tick)

    def _tick(self) -> None:
        self._due = self._alarm = None
        self._act(self.machine.tick(self._pools.now()))


@final
class Pools:
    """All pools of one node.

    Args:
        loop: Whose servers use them.
        post: Calls a function on the loop's thread.

    Attributes:
        is_closing: The node stops: what pools that end with it do not finish, the next start does.
        fate: For the simulator: how long a job takes, and whether its worker dies.
    """

    def __init__(self, loop: Loop, post: Callable[[Callable[[], None]], None]) -> None:
        self.alarms = loop.dispatcher
        self.now = loop.now
        self.is_closing = False
        self.fate: Fate = _no_time
        self._loop = loop
        self._post = post
        self._running: dict[str, RunningPool] = {}
        self._jobs: dict[Owner, dict[Job[Task], RunningPool]] = {}

    # --- pools -------------------------------------------------------------------------------

    def open(self, server: Server, settings: PoolSettings) -> RunningPool:
        """Open the pool that a server stands for; it fails with it."""
        fail = partial(self._fail, server)
        pool = self._running[server.name] = RunningPool(self, server.name, settings, fail)
        return pool

    def forget(self, name: str, pool: RunningPool) -> None:
        """No more jobs for that pool."""
        if self._running.get(name) is pool:
            del self._running[name]

    def close(self) -> None:
        """End all that is left: the node has stopped."""
        for pool in list(self._running.values()):
            pool.kill("shutdown")

    def stats(self) -> dict[str, Any]:
        """Counters of the pools that run, by name."""
        return {name: pool.stats() for name, pool in self._running.items()}

    def make_hand(self, pool: RunningPool, key: pool_machine.Hand) -> Hand:
        """Make a worker of the pool's kind; on the simulator it is simulated."""
        if self._loop.source == "sim":
            return SimulatedHand(pool, key, self.alarms, self._fate_of)
        name, settings = pool.machine.name, pool.machine.settings
        kind = ThreadHand if settings.kind == "thread" else ProcessHand
        return kind(f"pybehave-{name}", pool, key, self._post)

    def _fate_of(self, run: Run) -> float | None:
        return self.fate(run)

    def _fail(self, server: Server, error: BaseException) -> None:
        self._loop.dispatcher.inform(server, Failed(error))

    def _default_failed(self, error: BaseException) -> None:
        """It has no supervisor: what waits is told, and the next job makes another one."""
        logger.critical("the node's own threads cannot be started: %s", error)
        self._running[DEFAULT_POOL].kill(error)

    # --- jobs --------------------------------------------------------------------------------

    def run(self, server: Server, action: Run, origin: tuple[int, int] | None) -> None:
        """Carry out a `Run` of a server."""
        self._submit(Task(action, server if origin is None else server.name, origin))

    def run_again(self, name: str, origin: tuple[int, int], again: RunAgain) -> None:
        """Carry out an idempotent job that an earlier start owes a journaled server."""
        module, _, qualified = again.function.partition(":")
        try:
            function: Any = import_module(module)
            for part in qualified.split("."):
                function = getattr(function, part)
        except (ImportError, AttributeError, ValueError) as error:
            self._answer(name, origin, RunFailed(again.tag, error))
            return
        action = Run(
            function, *again.args, tag=again.tag, pool=again.pool, timeout=again.timeout,
            idempotent=True,
        )  # fmt: skip
        self._submit(Task(action, name, origin))

    def cancel(self, server: Server, tag: Any) -> None:
        """Carry out a `Cancel` of a server."""
        for owner in (server, server.name):
            for job, pool in list(self._jobs.get(owner, {}).items()):
                if job.what.run.tag == tag:
                    pool.cancel(job)

    def drop(self, name: str) -> None:
        """Give up the jobs of a journaled server that is forgotten; nobody is owed an answer."""
        for job, pool in list(self._jobs.get(name, {}).items()):
            pool.cancel(job)

    def tell(self, job: Job[Task], value: Any, error: BaseException | None) -> None:
        """Tell whoever asked for a job what came of it."""
        task = job.what
        mine = self._jobs.get(task.owner)
        if mine is not None:
            mine.pop(job, None)
            if not mine:
                del self._jobs[task.owner]
        if self.is_closing and task.origin is not None and isinstance(error, Stopped):
            return  # the promise stands (jobs.py)
        tag = task.run.tag
        self._answer(
            task.owner, task.origin, RunDone(tag, value) if error is None else RunFailed(tag, error)
        )

    def _submit(self, task: Task) -> None:
        pool = self._pool(task.run.pool)
        if pool is None:
            name = task.run.pool or DEFAULT_POOL
            there = ", ".join(map(repr, sorted(self._running))) or "none"
            why = f"No pool is named {name!r}, or it is just being restarted; there are: {there}"
            self._answer(task.owner, task.origin, RunFailed(task.run.tag, NoProc(name, why)))
            return
        job = Job(task, task.run.timeout)
        self._jobs.setdefault(task.owner, {})[job] = pool
        pool.submit(job)

    def _pool(self, name: str | None) -> RunningPool | None:
        pool = self._running.get(name or DEFAULT_POOL)
        if pool is None and name is None:
            pool = self._running[DEFAULT_POOL] = RunningPool(
                self, DEFAULT_POOL, DEFAULT_SETTINGS, self._default_failed
            )
        return pool

    def _answer(
        self, owner: Owner, origin: tuple[int, int] | None, message: RunDone | RunFailed
    ) -> None:
        dispatcher = self._loop.dispatcher
        if isinstance(owner, str):
            assert origin is not None
            dispatcher.answer_job(owner, message, *origin)
        else:
            dispatcher.inform(owner, message)


def _no_time(_run: Run) -> float:
    return 0.0

"""Worker pools as children of the tree.

    Supervisor("one_for_one", [
        Pool("crunch", kind="process", size=(1, 4)),
        Worker("api", Api),                       its steps return Run(f, x, pool="crunch", tag=...)
    ])

A pool comes before the servers that use it, so that it stops after them. Threads are for functions
that wait; processes for those that compute, or that may crash, leak or hang: a process can be
killed, and what it does to its memory ends with it.

Does not know: threads and processes (jobs/pools.py); who gets which job (pool_machine.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

from pybehave.behaviours.child_spec import SHUTDOWN_S, Worker
from pybehave.behaviours.hosted import Beside, HostedServer
from pybehave.behaviours.pool_machine import PoolSettings
from pybehave.behaviours.rules import Rule, check, is_count, is_number, one_of
from pybehave.errors import show
from pybehave.types import Restart, ShutdownLimit

Kind: TypeAlias = Literal["thread", "process"]

SIZE: Final = (0, 4)
"""No worker before the first job; few enough not to be noticed by who did not think about it."""

IDLE_S: Final = 30.0
"""Longer than the pauses of a busy service, shorter than anybody looks for memory."""

QUEUE: Final = 1024
"""Jobs that may wait: as many as inputs in a mailbox, and for the same reason."""

SIZE_MAX: Final = 1024
"""More threads than this are a mistake on any machine of today."""


def _is_size(value: Any) -> bool:
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(map(is_count, value)):
        return False
    least, most = value
    return bool(least <= most and 1 <= most <= SIZE_MAX)


POOL_RULES: Final[Mapping[str, Rule]] = {
    "kind": one_of("thread", "process"),
    "size": Rule(_is_size, f"(least, most) with 0 <= least <= most and 1 <= most <= {SIZE_MAX}"),
    "idle": Rule(lambda value: is_number(value) and value >= 0, "seconds >= 0"),
    "queue": Rule(is_count, "an integer >= 0"),
}


def Pool(  # noqa: N802 -- stands among Worker and Supervisor, and makes a Worker
    id: str,  # noqa: A002 -- OTP's word for it
    *,
    kind: Kind = "thread",
    size: tuple[int, int] = SIZE,
    idle: float = IDLE_S,
    queue: int = QUEUE,
    restart: Restart = "permanent",
    shutdown: ShutdownLimit = SHUTDOWN_S,
    significant: bool = False,
) -> Worker[Any, Any]:
    """Return the specification of a worker pool, a child of a supervisor.

    Args:
        id: Unique among its siblings, and the name that `Run(..., pool=...)` gives. A pool named
            "default" takes the jobs that name none.
        kind: "thread", or "process" for functions that compute or that may crash.
        size: The least and the most workers; between them there are as many as are needed.
        idle: Seconds after which a worker above the least ends if it has nothing to do.
        queue: How many jobs may wait; more are answered `PoolOverloaded`.
        restart: As for every child; a pool ends by itself only when no worker can be started.
        shutdown: Seconds that jobs which run have when the pool stops; then processes are killed
            and threads are left alone.
        significant: Whether its end may end its supervisor.

    Raises:
        SpecError: Names the field, its value and what is allowed.
    """
    fields: dict[str, Any] = {"kind": kind, "size": size, "idle": idle, "queue": queue}
    check(f"Pool {show(id)}", POOL_RULES, fields)
    fields["size"] = list(size)  # as JSON has it
    return Worker(
        id, PoolServer, fields, restart=restart, shutdown=shutdown, significant=significant
    )


class PoolServer(HostedServer):
    """The child that stands for a pool; `node.call(name, "stats")` says how it does."""

    def init(self, args: Any) -> PoolSettings:
        """Take the settings of `Pool`."""
        size = args["size"]
        return PoolSettings(args["kind"], (size[0], size[1]), float(args["idle"]), args["queue"])

    def validate(self, command: Any, state: PoolSettings) -> object:
        """Refuse what is no question, and whom the program does not know: a crash would be the end
        of all jobs, and over HTTP a client may name any server.
        """
        caller = self.context.caller
        if command == "stats" and getattr(caller, "connection", None) is None:
            return None
        return "a pool answers 'stats' alone, and no client"

    def open(self, host: Any, server: Any) -> Beside:
        """Open the pool."""
        beside: Beside = host.pools.open(server, server.state)
        return beside

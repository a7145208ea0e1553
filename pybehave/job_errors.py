# ruff: noqa: N818 -- facts, not "...Error", as in errors.py
"""The exceptions of jobs. Their name for the world is `pybehave.errors`, which has them all.

Does not know: pools, threads, processes; it only names what became of a job.
"""

from __future__ import annotations

from pybehave.error_base import PybehaveError


class JobError(PybehaveError):
    """A job ended without its function having returned or raised.

    Attributes:
        pool: Which pool it was given to.
    """

    def __init__(self, pool: str, sentence: str) -> None:
        super().__init__(sentence)
        self.pool = pool


class JobCancelled(JobError):
    """The server that asked for the job has cancelled it; the function may have run, or not."""

    def __init__(self, pool: str) -> None:
        super().__init__(
            pool,
            f"A job of the pool {pool!r} was cancelled by the server that had asked for it; "
            f"what its function had done by then stays done",
        )


class JobTimedOut(JobError, TimeoutError):
    """The job was not done within its time limit; a thread may still be at it.

    Attributes:
        seconds: The limit.
    """

    def __init__(self, pool: str, seconds: float) -> None:
        super().__init__(
            pool,
            f"A job of the pool {pool!r} was not done within {seconds:g} s; a process is killed "
            f"for that, a thread goes on unheard; give the Run a longer timeout or the pool room",
        )
        self.seconds = seconds


class JobLost(JobError):
    """The node ended before the answer to a journaled server's job was recorded."""

    def __init__(self, pool: str) -> None:
        super().__init__(
            pool,
            f"The node ended before a job of the pool {pool!r} had answered: it may have been "
            f"done, or not; look what it did, or mark the Run as idempotent",
        )


class WorkerDied(JobError):
    """A worker process ended while it was at a job, or before it could begin.

    Attributes:
        how: `"signal SIGSEGV"`, `"exit status 3"`.
    """

    def __init__(self, pool: str, how: str) -> None:
        super().__init__(
            pool,
            f"A worker of the pool {pool!r} died ({how}); another takes its place, and the "
            f"job is not run again by itself",
        )
        self.how = how

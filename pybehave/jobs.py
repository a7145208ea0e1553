"""What a journaled server is owed for each `Run` of its: an answer, once.

The answer to a job is a message that the server sends to itself by way of a worker. So it stands in
the outbox from the moment the input that asked for it is recorded, under that input's lsn, until
the answer is recorded as an input of its own, like a message to another journaled server
(docs/concepts/durable.md). What stands there is what the next start delivers if the node ends
before: that the job is lost; or, for an idempotent one, what it takes to run it again.

| the node ends                       | not idempotent        | idempotent        |
|-------------------------------------|-----------------------|-------------------|
| before the job's input is durable   | it was never run      | it was never run  |
| while it waits or runs              | told as lost          | run again         |
| when its answer waits to be recorded| told as lost          | run again         |
| when its answer is recorded         | the answer            | the answer        |

Invariants
  (J1) A job that is not idempotent is run at most once, and an idempotent one at least once, unless
       it was cancelled or its time was over.
  (J2) Either has exactly one answer among the inputs of its server.

Does not know: pools, the journal; its callers keep the outbox (dispatch.pyx, replay.pyx).
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from pybehave.actions import Run, RunAgain, RunFailed, function_name
from pybehave.errors import JobCancelled, JobLost

JOBS_FROM: Final = 1 << 31
"""Among the messages of one input, jobs are numbered from here and messages to servers from 0."""

DEFAULT_POOL: Final = "default"
"""The pool of a `Run` that names none: the node's own threads, or the tree's Pool of that name."""

Outbox: TypeAlias = dict[tuple[int, int], tuple[str, int, Any]]


def promise(action: Run) -> RunFailed | RunAgain:
    """Return what stands for a job's answer until there is one."""
    if not action.idempotent:
        return RunFailed(action.tag, JobLost(action.pool or DEFAULT_POOL))
    name = function_name(action.function)
    return RunAgain(name, action.args, action.tag, action.pool, action.timeout)


def cancel(outbox: Outbox, server: str, tag: Any) -> None:
    """Let no start run again what the server has cancelled; it will be told so instead."""
    for key, (owner, kind, message) in outbox.items():
        if owner == server and isinstance(message, RunAgain) and message.tag == tag:
            error = JobCancelled(message.pool or DEFAULT_POOL)
            outbox[key] = (owner, kind, RunFailed(tag, error))


def forget(outbox: Outbox, server: str) -> None:
    """Let nothing be under way to a server: neither answers to its jobs nor messages of others."""
    for key in [key for key, (receiver, _, _) in outbox.items() if receiver == server]:
        del outbox[key]

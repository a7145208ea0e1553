"""The worker tier: blocking functions on threads, their results as inputs.

A step must not block. The action `Run(function, *args, tag=...)` hands a function to a thread; its
result comes back as the info `RunDone` or `RunFailed`, to the incarnation that asked, if that still
runs. The pool is bounded; what is too much for it waits in its queue.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, final

from pybehave.actions import Run, RunDone, RunFailed
from pybehave.errors import LoopClosed

THREADS_MAX: Final = min(32, (os.cpu_count() or 1) + 4)
"""The standard library's own default: for functions that wait, not for those that compute."""


@final
class Workers:
    """A pool of threads, made when the first function comes.

    Args:
        post: Calls a function on the loop's thread.
        inform: Gives a server an info; on the loop's thread.
    """

    def __init__(
        self,
        post: Callable[[Callable[[], None]], None],
        inform: Callable[[Any, Any], None],
    ) -> None:
        self._post = post
        self._inform = inform
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run a function on a thread."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="pybehave-worker")
        return self._pool.submit(function, *args)

    def run(self, server: Any, action: Run) -> None:
        """Carry out a `Run` action for a server."""
        future = self.submit(action.function, *action.args)
        future.add_done_callback(lambda done: self._done(server, action.tag, done))

    def close(self) -> None:
        """Wait for no function any more; those that run cannot be interrupted."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _done(self, server: Any, tag: Any, future: Future[Any]) -> None:
        if future.cancelled():
            return
        error = future.exception()
        message = RunDone(tag, future.result()) if error is None else RunFailed(tag, error)
        with suppress(LoopClosed):  # there is nobody left to hear of it
            self._post(lambda: self._inform(server, message))

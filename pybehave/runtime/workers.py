"""Threads for what the runtime itself does off the loop: segments, snapshots' files, host names.

They are not those of the worker pools (pools.py): functions of the application that never return
must not keep the journal from its next segment.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, final

THREADS_MAX: Final = 4
"""Each waits for the disk or a name server; more at once do not make those quicker."""


@final
class Workers:
    """A few threads, made when the first function comes."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None

    def submit(self, function: Callable[..., Any], *args: Any) -> Future[Any]:
        """Run a function on a thread."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="pybehave-runtime")
        return self._pool.submit(function, *args)

    def close(self) -> None:
        """Wait for no function any more; those that run cannot be interrupted."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

"""Who waits for a reply outside the loop: a thread, or an asyncio task.

A waiter is settled once, on the loop's thread, with a value or an error. It may give up before;
then the reply, when it comes, is dropped, and the request is still carried out
(OTP, gen_server:call/3: a timeout ends the wait, not the request). Its `level` (`ACK_...`) says
when it wants its reply; by default that is its server's. `is_patient`: a request that has not begun
when its server ends waits for the next incarnation (patience.py).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from pybehave._uring.servers import ACK_SERVERS
from pybehave.errors import CalledInCallback, show

if TYPE_CHECKING:
    from pybehave._uring.loop import Loop

T = TypeVar("T")

OUTSIDE: Final = "do it from another thread, for it waits until this callback has returned"
"""What to do about something that no callback can do, and for which there is no action."""

LOOK: Final = "look with done(), or take it in add_done_callback(): this thread turns the loop"
"""What to do about a future that the waiting thread itself would have to settle."""


@final
class ThreadWaiter:
    """A thread's wait, on a lock: the cheapest one-shot signal that CPython has."""

    __slots__ = ("_lock", "caller", "error", "is_patient", "level", "value")

    def __init__(self, level: int = ACK_SERVERS, *, is_patient: bool = False) -> None:
        self.level = level
        self.is_patient = is_patient
        self._lock = threading.Lock()
        self._lock.acquire()
        self.value: Any = None
        self.error: BaseException | None = None
        self.caller: object = None

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Give the reply; called by the loop."""
        self.value = value
        self.error = error
        self._lock.release()

    def wait(self, timeout: float | None) -> bool:
        """Wait for the reply; False when it did not come in time."""
        if timeout is None:
            return self._lock.acquire()
        # The longest wait a lock takes is about 292 years; a longer one is for ever.
        return self._lock.acquire(timeout=min(timeout, threading.TIMEOUT_MAX))

    def take(self) -> Any:
        """Return the value, or raise the error."""
        if self.error is not None:
            # A traceback of its own for every waiter: one crash may be told to many.
            raise self.error.with_traceback(None)
        return self.value


def settling(function: Callable[[], object], waiter: ThreadWaiter) -> Callable[[], None]:
    """Return what calls a function and settles a waiter with its result, or with its exception."""

    def work() -> None:
        try:
            result = function()
        except Exception as error:  # noqa: BLE001 -- raised again in the asking thread
            waiter.settle(None, error)
        else:
            waiter.settle(result, None)

    return work


@final
class TaskWaiter:
    """An asyncio task's wait, on a future of its own loop."""

    __slots__ = ("_loop", "caller", "future", "is_patient", "level")

    def __init__(self, level: int = ACK_SERVERS, *, is_patient: bool = False) -> None:
        self.level = level
        self.is_patient = is_patient
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()
        self.caller: object = None

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Give the reply; called by the loop, on its own thread."""
        try:
            self._loop.call_soon_threadsafe(self._set, value, error)
        except RuntimeError:
            return  # the task's loop has closed meanwhile: nobody waits any more

    def _set(self, value: Any, error: BaseException | None) -> None:
        if self.future.done():
            return
        if error is None:
            self.future.set_result(value)
        else:
            self.future.set_exception(error.with_traceback(None))


@final
class LoopFuture(Future[T]):
    """A future that the loop settles: its own thread would wait for itself, and is refused."""

    def __init__(self, loop: Loop, about: str) -> None:
        super().__init__()
        self._loop = loop
        self._about = about

    def result(self, timeout: float | None = None) -> T:
        """Return the reply; wait for it, on any thread but the loop's own.

        Raises:
            CalledInCallback: It is not there, and this thread is the one that would bring it.
        """
        self._check(timeout)
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return the error, or None when there is a reply; waits as `result` does."""
        self._check(timeout)
        return super().exception(timeout)

    def _check(self, timeout: float | None) -> None:
        is_waiting = not self.done() and (timeout is None or timeout > 0)
        if is_waiting and self._loop.is_here:
            stepping = self._loop.dispatcher.stepping_name
            raise CalledInCallback(stepping or "", self._about, "" if stepping else LOOK)


@final
class FutureWaiter:
    """Somebody's wait on a future that belongs to no event loop."""

    __slots__ = ("caller", "future", "is_patient", "level")

    def __init__(
        self, loop: Loop, name: str, level: int = ACK_SERVERS, *, is_patient: bool = False
    ) -> None:
        self.level = level
        self.is_patient = is_patient
        self.future: Future[Any] = LoopFuture(loop, name)
        self.caller: object = None

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Give the reply; called by the loop."""
        if not self.future.set_running_or_notify_cancel():
            return
        if error is None:
            self.future.set_result(value)
        else:
            self.future.set_exception(error.with_traceback(None))


def refuse_within(loop: Loop, called: str, mend: str = OUTSIDE) -> None:
    """Refuse what waits for the loop on its own thread, within a callback or a tick.

    Raises:
        CalledInCallback: It is the loop's thread, and the loop is running.
    """
    if loop.is_here and (loop.is_running or loop.dispatcher.stepping_name is not None):
        raise CalledInCallback(loop.dispatcher.stepping_name or "", called, mend)


def refuse_stop(loop: Loop, thread: threading.Thread | None, *, is_booting: bool) -> None:
    """Refuse to wait for the node's end within it: the callback itself is in the way.

    Args:
        thread: The node's own; whatever runs there is part of the node.
        is_booting: An init may be what asks, and no loop runs around the first ones.

    Raises:
        CalledInCallback: It is the loop's thread, and the loop is running, or is about to.
    """
    mend = "use request_stop(), which does not wait"
    if loop.is_here and (is_booting or threading.current_thread() is thread):
        raise CalledInCallback(loop.dispatcher.stepping_name or "", "stop", mend)
    refuse_within(loop, "stop", mend)


def is_patient_of(on_restart: object) -> bool:
    """Whether a call waits for its server's next incarnation.

    Raises:
        ValueError: `on_restart` is neither "fail" nor "wait".
    """
    if on_restart not in ("fail", "wait"):
        raise ValueError(f'on_restart={show(on_restart)} is not allowed; use "fail" or "wait"')
    return on_restart == "wait"


def check_timeout(timeout: float | None) -> None:
    """Refuse a timeout that is no time, before anything is sent."""
    is_number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
    if timeout is None or (is_number and timeout >= 0):
        return
    raise ValueError(f"timeout={show(timeout)} is not allowed; use seconds >= 0, or None for ever")

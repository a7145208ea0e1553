"""One supervised coroutine: its thread, its asyncio loop, and its link to the node.

Theory. Two loops run side by side, and neither waits for the other. From the node to the
coroutine: what is sent to the child's name is put into a bounded inbox, and asyncio is told. From
the coroutine to the node: `call` awaits a future that the node's loop settles, `cast` posts. A stop
cancels the coroutine, as asyncio does it; one that does not end in its time is left alone on its
daemon thread.

Invariants
  (K1) At most `mailbox` messages wait for the coroutine.
  (K2) The end of the coroutine is told once, on the node's loop; of a child that was told to stop,
       by how its stop ends.
  (K3) Every request is answered: by the coroutine, or when the child ends.

Does not know: supervision. asyncio is imported here alone, for that takes tens of milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, final

from pybehave._uring.servers import INPUT_CAST
from pybehave.behaviours.hosted import Failed, Finished
from pybehave.errors import Overloaded, SpecError, show
from pybehave.runtime import aio
from pybehave.runtime.jobs.hands import tell
from pybehave.runtime.sys import name_of
from pybehave.runtime.waiters import check_timeout

if TYPE_CHECKING:
    from pybehave._uring.handles import Caller
    from pybehave._uring.servers import Server
    from pybehave.runtime.host import LoopHost

CALL_TIMEOUT_S: Final = 5.0
"""OTP's default for gen_server:call."""

logger = logging.getLogger("pybehave.asyncio")


class Request:
    """What somebody sent to the coroutine's name.

    Attributes:
        message: It.
        is_call: Whether somebody waits for a reply.
    """

    __slots__ = ("_caller", "_host", "is_call", "message")

    def __init__(self, message: Any, caller: Caller | None, host: LoopHost) -> None:
        self.message = message
        self.is_call = caller is not None
        self._caller = caller
        self._host = host

    def reply(self, value: Any) -> None:
        """Answer, from any thread; only the first answer counts, and a cast has none."""
        self._answer(value, None)

    def fail(self, error: BaseException) -> None:
        """Let the caller have an exception.

        Raises:
            TypeError: It is none.
        """
        if not isinstance(error, BaseException):
            raise TypeError(f"fail takes an exception, not {show(error)}; write fail(ValueError())")
        self._answer(None, error)

    def _answer(self, value: Any, error: BaseException | None) -> None:
        if self._caller is not None:
            answer = self._host.loop.dispatcher.answer
            tell(self._host.defer, partial(answer, self._caller, value, error))


@final
class Link:
    """What a supervised coroutine has of its node.

    `async for request in link` takes what was sent to its name; `call` and `cast` send.

    Attributes:
        name: Its own name.
    """

    def __init__(self, name: str, host: LoopHost) -> None:
        self.name = name
        self._host = host
        self._inbox: deque[Request] = deque()
        self._arrived = asyncio.Event()

    def call(
        self, server: str, request: Any, *, timeout: float | None = CALL_TIMEOUT_S
    ) -> Awaitable[Any]:
        """Call a server and await its reply; also in the cleanup, as long as that server runs.

        Raises:
            NoProc, Crashed, Overloaded, Timeout: As `node.acall`.
            LoopClosed: The node has stopped.
        """
        check_timeout(timeout)
        node = self._host.node
        assert node is not None
        post = self._host.loop.post
        return aio.call(
            node, name_of(server), request, timeout, node.level(None),
            is_patient=False, priority=False, post=post,
        )  # fmt: skip

    def cast(self, server: str, message: Any) -> None:
        """Send a message and wait for nothing; also in the cleanup.

        Raises:
            LoopClosed: The node has stopped.
        """
        self._host.loop.post(name_of(server), INPUT_CAST, message, None)

    async def receive(self) -> Request:
        """Await the next message to this name."""
        while not self._inbox:
            self._arrived.clear()
            await self._arrived.wait()
        return self._inbox.popleft()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Request:
        return await self.receive()

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return len(self._inbox)


@final
class AsyncioThread:
    """The thread of one incarnation of the child.

    Args:
        host: Where the child runs.
        server: This incarnation.
        function: The coroutine function.
        args: Its arguments after the link.
        mailbox: How many messages may wait.
        loop_factory: Makes the asyncio loop; None is asyncio's own.

    Attributes:
        failure: What the coroutine raised when it was told to stop.
    """

    failure: BaseException | None = None

    def __init__(
        self,
        host: LoopHost,
        server: Server,
        *,
        function: Callable[..., Coroutine[Any, Any, Any]],
        args: tuple[Any, ...],
        mailbox: int,
        loop_factory: Callable[[], Any] | None,
    ) -> None:
        self._host = host
        self._server = server
        self._function = function
        self._args = args
        self._mailbox = mailbox
        self._loop_factory = loop_factory
        self._early: list[Request] = []
        self._link: Link | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_stopping = False
        self._lock = threading.Lock()
        self._delivered = self._lost = 0
        self._thread = threading.Thread(
            target=self._run, name=f"pybehave-{server.name}", daemon=True
        )
        self._thread.start()

    # --- from the node's loop ----------------------------------------------------------------

    def deliver(self, message: Any, caller: Caller | None) -> None:
        """Hand a message to the coroutine (K1)."""
        request = Request(message, caller, self._host)
        with self._lock:
            waiting = len(self._early) if self._link is None else self._link.waiting
            if waiting >= self._mailbox:
                self._lost += 1
                request.fail(Overloaded(self._server.name, self._mailbox))
                return
            self._delivered += 1
            if self._link is None:
                self._early.append(request)
                return
            self._link._inbox.append(request)
            link, loop = self._link, self._loop
        assert loop is not None
        with contextlib.suppress(RuntimeError):  # its loop has closed: the child is about to end
            loop.call_soon_threadsafe(link._arrived.set)

    @property
    def is_over(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def drain(self, reason: object) -> None:
        """Cancel the coroutine."""
        with self._lock:
            self._is_stopping = True
            loop, task = self._loop, self._task
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # closed already
                loop.call_soon_threadsafe(task.cancel)

    def kill(self, reason: object) -> None:
        """Leave it alone; a thread cannot be ended."""
        if self.is_over:
            return
        self.drain(reason)
        if reason != "killed" and not self._is_ending():
            logger.error(
                "the coroutine of %r did not end in its time after it was cancelled, and is left "
                "alone; let it not catch CancelledError, or give the child a longer shutdown",
                self._server.name,
            )

    def _is_ending(self) -> bool:
        return self._task is None or self._task.done()

    def stats(self) -> dict[str, Any]:
        """Counters."""
        return {
            "delivered": self._delivered,
            "lost": self._lost,
            "waiting": 0 if self._link is None else self._link.waiting,
        }

    # --- the thread --------------------------------------------------------------------------

    def _run(self) -> None:
        end: Failed | Finished = Finished()
        try:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(self._main())
        except BaseException as error:  # noqa: BLE001 -- whatever it is, it is the child's crash
            end = Failed(error)
        if self._is_stopping:
            if isinstance(end, Failed) and not isinstance(end.error, asyncio.CancelledError):
                self.failure = end.error
        else:  # (K2)
            inform = self._host.loop.dispatcher.inform
            tell(self._host.defer, partial(inform, self._server, end))

    async def _main(self) -> None:
        with self._lock:
            if self._is_stopping:
                return
            self._loop = asyncio.get_running_loop()
            self._task = asyncio.current_task()
            self._link = Link(self._server.name, self._host)
            self._link._inbox.extend(self._early)
            self._early.clear()
        await self._function(self._link, *self._args)


def open_thread(host: LoopHost, server: Server, **settings: Any) -> AsyncioThread:
    """Start the coroutine that a server stands for.

    Raises:
        SpecError: On the simulator, whose time is virtual while asyncio's is real.
    """
    if host.loop.source == "sim":
        raise SpecError(
            f"AsyncioTask {server.name!r}",
            "the simulator has virtual time and one thread, asyncio real time and its own; put a "
            "Worker in its place there",
        )
    return AsyncioThread(host, server, **settings)

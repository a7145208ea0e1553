"""asyncio code as a child of the tree.

    async def poll(link, url):
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.get(url) as answer:
                    await link.call("kv", ["SET", "page", await answer.read()])
                await asyncio.sleep(60)

    Supervisor("one_for_one", [Worker("kv", KeyValueStore), AsyncioTask("poller", poll, URL)])

The coroutine runs on an asyncio loop of its own, on a thread of its own. It is supervised: what it
raises is a crash of this child, its return is the reason "normal", and a stop cancels it. Whoever
calls or casts to the child's name is heard in the coroutine, through its `link`
(runtime/asyncio_task.py).

Does not know: asyncio, threads.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from pybehave.actions import NO_REPLY
from pybehave.behaviours.child_spec import MAILBOX_CAPACITY, SHUTDOWN_S, Worker
from pybehave.behaviours.gen_server import Cleanup
from pybehave.behaviours.hosted import Beside, Failed, Finished, HostedServer
from pybehave.behaviours.rules import is_count, refused
from pybehave.errors import show
from pybehave.types import Restart, ShutdownLimit


def AsyncioTask(  # noqa: N802 -- stands among Worker and Supervisor, and makes a Worker
    id: str,  # noqa: A002 -- OTP's word for it
    function: Callable[..., Coroutine[Any, Any, Any]],
    *args: Any,
    restart: Restart = "permanent",
    shutdown: ShutdownLimit = SHUTDOWN_S,
    significant: bool = False,
    mailbox: int = MAILBOX_CAPACITY,
    loop_factory: Callable[[], Any] | None = None,
) -> Worker[Any, Any]:
    """Return the specification of a child that runs a coroutine.

    Args:
        id: Unique among its siblings, and the name under which it is called.
        function: An `async def`; it is called with its link, then `args`.
        args: For the function.
        restart: As for every child; "permanent" starts it again also when it returns.
        shutdown: Seconds it has to end after it was cancelled; then it is left alone.
        significant: Whether its end may end its supervisor.
        mailbox: How many calls and casts may wait for the coroutine; more calls are answered
            `Overloaded`, more casts are lost and counted.
        loop_factory: Makes the asyncio loop, `uvloop.new_event_loop` for example.

    Raises:
        SpecError: Names the field, its value and what is allowed.
    """
    path = f"AsyncioTask {show(id)}"
    if not inspect.iscoroutinefunction(function):
        raise refused(path, "function", function, "an `async def` function")
    if loop_factory is not None and not callable(loop_factory):
        raise refused(path, "loop_factory", loop_factory, "a function that makes an asyncio loop")
    if not is_count(mailbox) or mailbox < 1:
        raise refused(path, "mailbox", mailbox, "an integer >= 1")
    return Worker(
        id,
        AsyncioServer,
        {"function": function, "args": args, "mailbox": mailbox, "loop_factory": loop_factory},
        restart=restart,
        shutdown=shutdown,
        significant=significant,
    )


class AsyncioServer(HostedServer):
    """The child that stands for a coroutine: what is sent to its name goes there."""

    def open(self, host: Any, server: Any) -> Beside:
        """Start the coroutine."""
        beside: Beside = host.open_asyncio(server, **server.state)
        return beside

    def handle_call(self, request: Any, caller: Any, state: Any) -> Any:
        """Hand a request to the coroutine, which replies when it likes."""
        self._thread().deliver(request, caller)
        return state, NO_REPLY

    def handle_cast(self, message: Any, state: Any) -> Any:
        """Hand a message to the coroutine."""
        self._thread().deliver(message, None)
        return state, None

    def handle_info(self, message: Any, state: Any) -> Any:
        """End with the coroutine; hand it all other messages."""
        if isinstance(message, Failed | Finished):
            return super().handle_info(message, state)
        self._thread().deliver(message, None)
        return state, None

    def terminate(self, reason: Any, state: Any) -> Cleanup:
        """Cancel the coroutine and wait for it; what it raises then is raised here."""
        yield from super().terminate(reason, state)
        failure = None if self.beside is None else self._thread().failure
        if failure is not None:
            raise failure

    def _thread(self) -> Any:
        assert self.beside is not None
        return self.beside

"""Ways of talking to servers beside `call` and `cast`: many at once, later, and to their end.

Requests to many are all sent before the first reply is waited for, so the servers work on them side
by side, and one time limit holds for all. Whoever has not answered by then is among the bad ones;
its reply, when it comes, is dropped.

Does not know: loops beyond posting. Servers on other nodes: there is one node.
Source: OTP stdlib, gen_server: multi_call/2,3,4, abcast/2,3, send_request/2, stop/1,3. There the
same name is called on many nodes; here many names on one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from concurrent.futures import Future
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeAlias

from pybehave._uring.servers import ACK_SERVERS, INPUT_CALL, INPUT_CAST
from pybehave.behaviours.child_spec import Ref
from pybehave.errors import (
    CalledInCallback,
    Crashed,
    LoopClosed,
    NoProc,
    PybehaveError,
    Stopped,
    Timeout,
    show,
    show_reason,
)
from pybehave.runtime.sys import Name, name_of
from pybehave.runtime.waiters import (
    FutureWaiter,
    ThreadWaiter,
    check_timeout,
    is_patient_of,
)
from pybehave.types import KILLED, Acknowledge, OnRestart, is_clean
from pybehave.via import Via

if TYPE_CHECKING:
    from pybehave._uring.loop import Loop
    from pybehave.actions import Down
    from pybehave.runtime.crashes import CrashReport
    from pybehave.runtime.host import LoopHost
    from pybehave.runtime.sys import Sys

Replies: TypeAlias = tuple[list[tuple[str, Any]], list[str]]
"""(name, reply) of those who have answered, and the names of those who have not."""


class Requests:
    """What can be asked of the servers of a node beside `call` and `cast`.

    Attributes:
        loop: The node's loop.
        host: Who starts and ends its servers.
        sys: Its system requests.
    """

    loop: Loop
    host: LoopHost
    sys: Sys

    @abstractmethod
    def post(self, name: str | None, kind: int, message: Any, waiter: object) -> None:
        """Hand an input to the loop."""

    def post_urgent(self, name: str, request: Any, waiter: object) -> None:
        """Hand a call to the loop that goes ahead of what waits in the server's mailbox.

        It goes behind other such calls. It is stepped between two inputs like any other, so it sees
        what those before it have come to; a journal has it where it was stepped, and its reply
        waits for all that it shows. It goes ahead of nothing else: not of an input that runs, nor
        of other servers' turns, nor of the disk.
        """
        self.post(None, 0, partial(self.loop.dispatcher.post_urgent, name, request, waiter), waiter)

    @abstractmethod
    def call_here(self, name: str, request: Any, level: int, timeout: float | None) -> Any:
        """Call on the loop's own thread."""

    def call_urgent(
        self, name: str, request: Any, timeout: float | None, level: int, *, is_patient: bool
    ) -> Any:
        """Call ahead of what waits in the server's mailbox (`post_urgent`), and wait."""
        if self.loop.is_here:
            return self._call_urgent_here(name, request, level, timeout)
        waiter = ThreadWaiter(level, is_patient=is_patient)
        self.post_urgent(name, request, waiter)
        if not waiter.wait(timeout):
            self._abandon(waiter)
            raise Timeout(name, timeout or 0.0)
        return waiter.take()

    def _call_urgent_here(self, name: str, request: Any, level: int, timeout: float | None) -> Any:
        dispatcher = self.loop.dispatcher
        try:
            return dispatcher.call_urgent(name, request)
        finally:
            barrier = dispatcher.wanted(name, level, dispatcher.barrier_now())
            self.wait_durable(barrier, name, timeout)

    @abstractmethod
    def wait_durable(self, batch: int, server: str = "", timeout: float | None = None) -> None:
        """Run the loop until a batch of the journal is durable."""

    @abstractmethod
    def level(self, acknowledge: Acknowledge | None) -> int:
        """Return the number of a call's level."""

    @abstractmethod
    def crashes(self) -> list[CrashReport]:
        """Return the newest crash reports."""

    @abstractmethod
    def monitor(self, server: Name) -> Future[Down]:
        """Watch a server from outside."""

    def multi_call(
        self, servers: Iterable[Name], request: Any, timeout: float | None = None
    ) -> Replies:
        """Call many servers at once (OTP, gen_server:multi_call/3); from any thread.

        On the loop's own thread they are called one after the other.

        Args:
            servers: Names, or workers' `ref`s; a name given twice is called twice.
            request: What each gets.
            timeout: Seconds for all of them; None waits as long as it takes.

        Returns:
            A list of (name, reply), in the order of `servers`; and the names of those that do not
            exist, failed, refused, or have not replied in time.

        Raises:
            TypeError: `servers` is one name.
            CalledInCallback: From within a callback; return `Call` actions instead.
        """
        names = _names_of(servers)
        check_timeout(timeout)
        if not self.loop.is_here:
            return self._multi_call(names, request, timeout)
        stepping = self.loop.dispatcher.stepping_name
        if stepping is not None:
            raise CalledInCallback(stepping, ", ".join(names))
        replies: list[tuple[str, Any]] = []
        bad: list[str] = []
        for name in names:
            try:
                replies.append((name, self.call_here(name, request, ACK_SERVERS, timeout)))
            except PybehaveError:
                bad.append(name)
        return replies, bad

    def _multi_call(self, names: list[str], request: Any, timeout: float | None) -> Replies:
        deadline = None if timeout is None else monotonic() + timeout
        waiters = [ThreadWaiter() for _ in names]
        for name, waiter in zip(names, waiters, strict=True):
            self.post(name, INPUT_CALL, request, waiter)
        replies: list[tuple[str, Any]] = []
        bad: list[str] = []
        for name, waiter in zip(names, waiters, strict=True):
            left = None if deadline is None else max(0.0, deadline - monotonic())
            if not waiter.wait(left):
                self._abandon(waiter)
                bad.append(name)
            elif waiter.error is None:
                replies.append((name, waiter.value))
            elif isinstance(waiter.error, LoopClosed):
                raise waiter.error
            else:
                bad.append(name)
        return replies, bad

    def abcast(self, servers: Iterable[Name], message: Any) -> None:
        """Cast a message to many servers (OTP, gen_server:abcast/3); never fails, never waits.

        What a name that nobody has, or a mailbox that refuses, does not take is counted as lost.
        Within a callback, return `Cast` actions instead.

        Raises:
            TypeError: `servers` is one name.
        """
        for name in _names_of(servers):
            self.post(name, INPUT_CAST, message, None)

    def send_request(
        self,
        server: Name,
        request: Any,
        *,
        acknowledge: Acknowledge | None = None,
        on_restart: OnRestart = "fail",
        priority: bool = False,
    ) -> Future[Any]:
        """Send a request and go on; the future has the reply (OTP, gen_server:send_request/2).

        Of many, `concurrent.futures.wait` tells which have come (OTP: request collections). To
        cancel the future gives the reply up, and not the request. The loop's own thread cannot wait
        for it (`CalledInCallback`): a callback returns the action `Call` instead.

        Args:
            server: Name, or a worker's `ref`.
            request: What `step` or `handle_call` gets.
            acknowledge: As for `call`.
            on_restart: As for `call`.
            priority: As for `call`.

        Returns:
            The reply, or what `call` would have raised but for Timeout.
        """
        name, level = name_of(server), self.level(acknowledge)
        waiter = FutureWaiter(self.loop, name, level, is_patient=is_patient_of(on_restart))
        waiter.future.add_done_callback(
            lambda future: self._abandon(waiter) if future.cancelled() else None
        )
        if priority:
            self.post_urgent(name, request, waiter)
        else:
            self.post(name, INPUT_CALL, request, waiter)
        return waiter.future

    def stop_server(
        self, server: Name, reason: object = "normal", timeout: float | None = None
    ) -> None:
        """End a server and wait until it has ended (OTP, gen_server:stop/3).

        It ends as if by itself: what waits for it fails, `terminate` runs, and its supervisor does
        what its restart type says. To stop one for good is `terminate_child`. One that is ending
        already, its `terminate` yields, is waited for. On the loop's own thread this returns before
        a `terminate` that yields is over.

        Args:
            server: Name, or a worker's `ref`; of any behaviour.
            reason: What it ends with.
            timeout: Seconds to wait; None waits as long as it takes. The server ends all the same.

        Raises:
            NoProc: No server has this name.
            Timeout: It has not ended yet.
            Crashed, Stopped: It has ended with another reason: its `terminate` raised, it was
                ending already, or its supervisor has stopped it.
            CalledInCallback: From within a callback; return `Stop` there, or Cast to the other.
        """
        name = name_of(server)
        check_timeout(timeout)
        future = self.monitor(name)
        try:
            self.sys.terminate(name, reason, timeout=timeout)
        except NoProc:
            if future.done() and not future.result().incarnation:  # nor is one of that name ending
                raise
        if self.loop.is_here:
            future.cancel()
            return
        try:
            down = future.result(timeout)
        except TimeoutError:
            future.cancel()
            raise Timeout(name, timeout or 0.0) from None
        if down.reason is not reason and down.reason != reason:
            raise self._other_end(down, reason)

    def _other_end(self, down: Down, wanted: object) -> Crashed | Stopped:
        """What who has stopped a server hears that has ended with another reason."""
        name, reason = down.name, down.reason
        if not is_clean(reason) and reason != KILLED:
            reports = (report for report in reversed(self.crashes()) if report.server == name)
            ids = (each.crash_id for each in reports if each.incarnation == down.incarnation)
            return Crashed(name, next(ids, ""), reason)
        error = Stopped(name, reason)
        error.args = (
            f"Server {name!r} ended with reason {show_reason(reason)}, not with {show(wanted)}",
        )
        return error

    def _abandon(self, waiter: ThreadWaiter | FutureWaiter) -> None:
        self.host.defer(partial(self.loop.dispatcher.abandon, waiter))


def _names_of(servers: Iterable[Name]) -> list[str]:
    if isinstance(servers, str | Ref | Via):
        raise TypeError(f"servers is a list of names, not one: use [{name_of(servers)!r}]")
    return [name_of(server) for server in servers]

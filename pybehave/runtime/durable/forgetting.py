"""Forget what the journal keeps of a server: the part of `Node` that takes state away for good.

    node.kept()                           the names that the journal knows
    node.forget("bob")                    as if there had never been such a server
    node.reset("kv1", confirm=True)       the same for one that runs, and it begins anew

Theory. One record, FORGET, says it. What stands before it of that server's number belongs to nobody
from then on: not stepped by a start (pybehave/journal/marks.py), and in no snapshot. So a server
whose inputs today's code cannot step any more, and that keeps a node from starting, is helped by it
too (`reset=` of the node).

What goes: state, timers, what was under way to it, what it had asked for, answers to its jobs, the
requests that clients had named, dead letters. What it had sent to others was part of inputs that
were acknowledged, and arrives: the record holds what is under way.

Invariants
  (L1) Before the record is durable nothing is removed from the disk, and nobody is told.
  (L2) A replay of the record comes to what the node had come to: the same servers, and the same
       messages under way.
  (L3) Only a server that does not run is forgotten.

Does not know: strategies; how a server is stopped.
Source: DGen's `kill` and its option `reset`.
"""

from __future__ import annotations

import logging
import math
import threading
from abc import abstractmethod
from collections.abc import Callable, Container
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from pybehave._uring.values import Values
from pybehave.errors import (
    CalledInCallback,
    NoProc,
    NothingKept,
    RequestRefused,
    StillRuns,
    Timeout,
    show_reason,
)
from pybehave.runtime.durable.replay import RECORD_FORGET
from pybehave.runtime.sys import Name, name_of
from pybehave.runtime.waiters import OUTSIDE, ThreadWaiter, check_timeout

if TYPE_CHECKING:
    from pybehave._uring.loop import Loop
    from pybehave.runtime.applications import Applications
    from pybehave.runtime.durable.journaling import NodeJournal
    from pybehave.runtime.host import LoopHost
    from pybehave.runtime.tree.child import TreeChild

TICK_S: Final = 1.0
"""How long a tick may wait for what is asked for on the loop's own thread."""

STOP_IT: Final = "stop it first, or say stop=True (--stop, where attach asks)"

logger = logging.getLogger("pybehave.journal")

Done: TypeAlias = Callable[[Any, BaseException | None], None]


class Forgetting:
    """What can be done to what a node's journal keeps.

    Attributes:
        loop: The node's loop.
        host: Who starts and ends its servers.
        applications: Whose trees they are in.
        journal: None when it keeps none.
    """

    loop: Loop
    host: LoopHost
    applications: Applications
    journal: NodeJournal | None

    @abstractmethod
    def run_on_loop(self, function: Callable[[], Any], *, timeout: float | None = None) -> Any:
        """Call a function on the loop's thread and return its result."""

    @abstractmethod
    def waited(
        self, work: Callable[[], None], waiter: ThreadWaiter, name: str, timeout: float | None
    ) -> Any:
        """Let the loop call `work`, and return what it settles `waiter` with."""

    def kept(self) -> list[str]:
        """Return the names that the journal knows, in order: servers that run, that have stopped,
        and that nobody starts any more.
        """
        journal = self.journal
        return [] if journal is None else self.run_on_loop(lambda: sorted(journal.numbers))

    def forget(self, server: Name, *, stop: bool = False, timeout: float | None = None) -> None:
        """Remove all that the journal keeps of a server; returns when that is durable.

        Its next start begins with `init`. Messages to its name vanish until then, as to any name
        that nobody has; a member of a family is made anew by the next one. Its dead letters go,
        too. What it had sent to other journaled servers arrives.

        From any thread, and on the loop's own between two inputs. Called in a hook of the tree
        there, it returns before it is durable.

        Args:
            server: Name, or a worker's `ref`; of the tree or not.
            stop: One that runs is stopped first, by its supervisor, and not started again.
            timeout: Seconds to wait; None waits as long as it takes. It ends the wait only.

        Raises:
            NothingKept: The journal does not know the name, or there is no journal.
            StillRuns: It runs, and `stop` was not said; or it is of no tree.
            JournalFull, JournalBusy, RecordTooLarge, DurabilityLost: The journal cannot say so.
            Timeout: It has not stopped yet.
            CalledInCallback: From within a callback.
        """
        name = name_of(server)
        self._carry_out(name, timeout, partial(self.begin_forget, name, stop=stop))

    def reset(self, server: Name, *, confirm: bool = False, timeout: float | None = None) -> None:
        """Let a journaled server that runs begin anew: stopped, forgotten, started with `init`.

        Returns when that is durable. Its siblings stay as they are, and nothing is charged. All of
        its state is lost, and its dead letters, which is why it has to be confirmed.

        Args:
            server: Name, or a worker's `ref`.
            confirm: True, or nothing is done.
            timeout: Seconds to wait; None waits as long as it takes. It ends the wait only.

        Raises:
            RequestRefused: It was not confirmed.
            NoProc: No server has this name.
            NothingKept: It is not journaled.
            StartFailed: It did not start again; it is forgotten all the same, and stopped.
            Timeout: It has not stopped or started yet.
            CalledInCallback: From within a callback.
        """
        name = name_of(server)
        if confirm is not True:
            raise RequestRefused(
                f"All that {name!r} keeps would be lost, so nothing was done; say confirm=True"
            )
        self._carry_out(name, timeout, partial(self.begin_reset, name))

    # --- on the loop's thread ---------------------------------------------------------------------

    def _carry_out(self, name: str, timeout: float | None, begin: Callable[[Done], None]) -> None:
        """Begin something on the loop's thread, and wait until it says that it is over."""
        check_timeout(timeout)
        if self.loop.thread == threading.get_ident():
            self._carry_out_here(name, timeout, begin)
            return
        waiter = ThreadWaiter()

        def work() -> None:
            try:
                begin(waiter.settle)
            except Exception as error:  # noqa: BLE001 -- raised again in the asking thread
                waiter.settle(None, error)

        self.waited(work, waiter, name, timeout)

    def _carry_out_here(
        self, name: str, timeout: float | None, begin: Callable[[Done], None]
    ) -> None:
        stepping = self.loop.dispatcher.stepping_name
        if stepping is not None:
            raise CalledInCallback(stepping, name, OUTSIDE)
        over: list[BaseException | None] = []
        limit = math.inf if timeout is None else timeout
        due = self.loop.now() + limit
        begin(lambda _, error: over.append(error))
        while not over and not self.loop.is_running:
            if self.loop.now() >= due:
                raise Timeout(name, limit)
            self.loop.run_once(TICK_S)
        if over and over[0] is not None:
            raise over[0]

    def begin_forget(self, name: str, done: Done, *, stop: bool = False) -> None:
        """Begin what `forget` does, on the loop's thread; it raises now, or `done` hears of it."""
        journal = self._journal_with(name)
        found = self.loop.dispatcher.whereis(name)
        if found is None and not self.host.is_starting(name):
            write(journal, name, "forget")
            _settle(journal, done)
            return
        child = None if found is None else self.applications.child_of(found)
        if not stop or child is None:
            raise StillRuns(name, STOP_IT if child is not None else "it is of no tree")

        def stopped(answer: Any) -> None:
            if answer.error is not None:
                done(None, answer.error)
                return
            try:
                self.begin_forget(name, done)
            except Exception as error:  # noqa: BLE001 -- raised again where it was asked for
                done(None, error)

        child.owner.tree.terminate_child(child.owner.path, child.id).then(stopped)

    def begin_reset(self, name: str, done: Done) -> None:
        """Begin what `reset` does when it is confirmed; as `begin_forget`."""
        found = self.loop.dispatcher.whereis(name)
        child: TreeChild | None = None if found is None else self.applications.child_of(found)
        if child is None:
            raise NoProc(name)
        journal = self._journal_with(name)
        journal.to_reset.add(name)

        def restarted(answer: Any) -> None:
            journal.to_reset.discard(name)
            if answer.error is not None:
                done(None, answer.error)
            else:
                _settle(journal, done)

        child.owner.tree.restart(child.owner.path, child.id).then(restarted)

    def _journal_with(self, name: str) -> NodeJournal:
        """The journal that knows the name."""
        if self.journal is None or name not in self.journal.numbers:
            raise NothingKept(name)
        return self.journal


@final
class _Step:
    """Goes on with something when what is recorded is durable, or never will be."""

    def __init__(self, then: Done) -> None:
        self._then = then

    def settle(self, value: Any, error: BaseException | None) -> None:
        """It is, or it will not be."""
        self._then(value, error)


def write(
    journal: NodeJournal, name: str, reason: str, *, is_own: bool = False, sent: bytes | None = None
) -> int:
    """Record that a server is forgotten, and forget it; returns the record's lsn.

    Args:
        is_own: The runtime itself wants it: a full disk does not refuse it.
        sent: What is under way; None = look.

    Raises:
        JournalFull, JournalBusy, RecordTooLarge, DurabilityLost: Nothing was changed.
    """
    node, commit = journal.node, journal.commit
    sent = journal.snapshots.under_way(name) if sent is None else sent
    said = {"name": name, "reason": reason, "sent": sent}
    record = commit.record if is_own else commit.try_record
    payload = Values().encode(said)
    lsn = record(RECORD_FORGET, journal.numbers[name], payload, journal.now_ns())
    journal.erase(name, lsn)
    node.loop.dispatcher.erase(name)
    node.host.pools.drop(name)
    node.host.monitors.forget(name)
    logger.warning("server %r is forgotten (%s), at lsn %d", name, reason, lsn)
    return lsn


def _settle(journal: NodeJournal, done: Done) -> None:
    """When all that is recorded is durable, remove dead letters (L1), and say that it is over."""
    before, journal.marks.names = journal.marks.names, {}

    def work() -> int:
        try:
            return journal.letters.forget(before)
        finally:
            done(None, None)  # here: the loop may have ended before it hears of it

    def durable(_: Any, error: BaseException | None) -> None:
        if error is not None:
            done(None, error)
        else:
            journal.off_loop(work, _complain)

    commit = journal.commit
    commit.settle_when_durable(commit.batch_of_last(), _Step(durable), None)


def _complain(_: int | None, error: BaseException | None) -> None:
    if error is not None:
        logger.error(
            "dead letters of a server that is forgotten are left: %s; the next start tries again",
            show_reason(error),
        )


# --- at a start -----------------------------------------------------------------------------------


def check(journal: NodeJournal, planned: Container[str]) -> None:
    """Refuse to reset what nobody knows, before anything is written.

    Args:
        planned: Names of the workers that the applications start.

    Raises:
        NothingKept: Neither the journal nor the application knows a name.
    """
    for name in sorted(journal.reset):
        if name not in journal.numbers and name not in planned:
            raise NothingKept(name)


def begin(journal: NodeJournal) -> None:
    """The journal is open: write down who begins anew, and finish what was cut off."""
    for name in sorted(journal.reset):
        if name in journal.numbers:
            write(journal, name, "reset", is_own=True, sent=b"")  # what there is was replayed
    before, journal.marks.names = journal.marks.names, {}
    if not before:
        return
    journal.node.wait_durable(journal.commit.batch_of_last())
    journal.letters.forget(before)

"""One change of a running node's code: all servers concerned, or none.

Theory. The servers concerned are suspended between two inputs. Each gets an instance of the new
code and the state that it wants; only when that has worked for all of them do they change, all at
once. Mailboxes, callers, timers, connections and names stay where they are.

With a journal the boundary is a snapshot: it holds the new states under their new versions, and
the manifest, which names it by one write, makes all of them count or none. An end of the process
before that write finds the old release's journal, one after it the new one's. The first records
behind it are STARTs of the new code (runtime/replay.py), so that older generations read on, too.

| phase   | what is under way                              | leaves to                            |
|---------|------------------------------------------------|--------------------------------------|
| NEW     | nothing was touched                            | WRITING, or OVER without a journal   |
| WRITING | servers are suspended with the new code in     | NAMING when the snapshot is written; |
|         | place, the snapshot is written                 | OVER when it fails, or one of the    |
|         |                                                | servers ends: all is put back        |
| NAMING  | the manifest is written                        | OVER, whatever happens               |
| OVER    | the servers run again; `done` was called       |                                      |

Invariants
  (V1) No concerned server takes an input between the old code and the new.
  (V2) Whatever raises before NAMING leaves every server with its old code, state and timers.
  (V3) A server that was suspended before stays so.

Does not know: versions and which of them may follow (releases.py), imports (release_code.py).
Source: OTP sasl, release_handler: suspend, load, code_change, resume.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, final

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.gen_server import Initial, initial_of, overrides
from pybehave.behaviours.release import Migration, Way, changed_state, way_of
from pybehave.errors import PybehaveError, UpgradeFailed, UpgradeRefused
from pybehave.runtime.servers import make_values
from pybehave.runtime.tree_child import TreeChild

if TYPE_CHECKING:
    from pybehave._uring.servers import Server
    from pybehave._uring.values import Values
    from pybehave.runtime.host import LoopHost

SMALL_BYTES: Final = 2 << 20
"""States up to this size are encoded on the loop: 15 ms at most, and a fork takes as long."""

Done = Callable[[BaseException | None], None]


class Phase(Enum):
    """Where a change stands; the table is in the module's header."""

    NEW = "new"
    WRITING = "writing"
    NAMING = "naming"
    OVER = "over"


@final
@dataclass(slots=True, eq=False)
class Target:
    """One server that gets other code.

    Attributes:
        server: It.
        worker: Its specification in the release.
        migration: Of the release, or None.
        instance: Of the code that is to run.
        state: What that wants.
        values: What encodes its inputs then; None without a journal.
        before: Instance, state, values and specification as they were.
        restore: Returns the state as it was, when a migration may have changed it in place.
        bytes: How large its encoded state was, when that is known.
        was_suspended: By an operator.
    """

    server: Server
    worker: Worker[Any, Any]
    migration: Migration[Any, Any] | None
    instance: Any
    state: Any = None
    values: Values | None = None
    before: tuple[Any, Any, Values | None, Any] = (None, None, None, None)
    restore: Callable[[], Any] | None = None
    bytes: int | None = None
    was_suspended: bool = False


@final
class Upgrade:
    """A change of code that is under way; on the loop's thread, between two inputs.

    Args:
        host: Of the node.
        release: Its name, for errors.
        targets: The servers.
        put: Puts the new specifications in place; returns what puts the old ones back.
        done: Called once: with None when the servers run the new code, else with the error.
        extra: For `code_change`.
        is_down: Whether the way leads back.
    """

    def __init__(
        self,
        host: LoopHost,
        release: str,
        targets: list[Target],
        put: Callable[[], Callable[[], None]],
        done: Done,
        *,
        extra: Any = None,
        is_down: bool = False,
    ) -> None:
        self.phase = Phase.NEW
        self.release = release
        self.targets = targets
        self._host = host
        self._dispatcher = host.loop.dispatcher
        self._put = put
        self._put_back: Callable[[], None] | None = None
        self._done = done
        self._extra = extra
        self._is_down = is_down
        self._began = 0.0
        self.seconds = 0.0

    @property
    def is_over(self) -> bool:
        """Whether nothing is under way any more."""
        return self.phase is Phase.OVER

    def check(self) -> None:
        """Make sure that there is a way for every server; nothing is touched.

        Raises:
            UpgradeRefused: Says which has none.
        """
        for target in self.targets:
            old = target.server.instance
            if bool(target.server.number) != target.worker.journal and self._host.is_durable:
                word = "is journaled" if target.server.number else "is not journaled"
                self._refuse(target, f"it {word} here; replace the process to change that")
            try:
                way_of(old, target.instance, target.migration, is_down=self._is_down)
            except LookupError as error:
                self._refuse(target, str(error))

    def begin(self) -> None:
        """Change the servers; `done` is called before this returns, or with a journal later.

        Raises:
            UpgradeRefused, UpgradeFailed: Nothing has changed, and `done` is not called.
        """
        assert self.phase is Phase.NEW
        self.check()
        self._began = self._host.loop.now()
        journaled = [target for target in self.targets if target.server.number]
        self._suspend()
        try:
            for target in self.targets:
                self._migrate(target)
            self._put_back = self._put()
            for target in self.targets:
                self._change(target, target.worker, target.instance, target.state, target.values)
            if not journaled:
                self._finish()
            elif not self._write() and not self.is_over:  # else `done` has been told why
                raise UpgradeFailed(self.release, "", self._why_not())
        except BaseException:
            self._undo()
            raise

    def server_changes(self, name: str) -> None:
        """A server is about to start or to end: what is not decided yet is given up (V2)."""
        if self.phase is Phase.WRITING and any(t.server.name == name for t in self.targets):
            why = f"server {name!r} started or ended in the middle of it; try again"
            self.give_up(UpgradeRefused(self.release, why))

    def give_up(self, error: BaseException) -> None:
        """Put everything back, if that can still be done."""
        if self.phase is Phase.WRITING:
            self._undo()
            self._done(error)

    # --- the way there ---------------------------------------------------------------------------

    def _refuse(self, target: Target, why: str) -> None:
        raise UpgradeRefused(self.release, f"server {target.server.name!r}: {why}")

    def _suspend(self) -> None:
        for target in self.targets:
            server = target.server
            self._dispatcher.finish(server)
            if self._dispatcher.whereis(server.name) is not server:
                self._let_go()
                self._refuse(target, "it has just ended; try again")
            self._dispatcher.wake(server)  # its state must be in memory to be put back
            target.was_suspended = server.control is not None and server.control.is_suspended
            target.before = (server.instance, server.state, server.values, server.owner)
            self._dispatcher.suspend(server)

    def _migrate(self, target: Target) -> None:
        """Make the new state beside the old one."""
        server, old = target.server, target.server.instance
        context = old.context
        way = way_of(old, target.instance, target.migration, is_down=self._is_down)
        if way is not Way.SAME:
            target.restore, target.bytes = _kept(server)
        try:
            self._prepare(target, context)
            target.state = changed_state(
                server.name,
                old,
                target.instance,
                server.state,
                target.migration,
                self._extra,
                is_down=self._is_down,
            )
            check = self._host.invariants.check
            check(server.name, target.instance, "code_change", target.state)
        except Exception as error:
            raise UpgradeFailed(self.release, server.name, error) from error

    def _prepare(self, target: Target, context: Any) -> None:
        """What the instance knew stays known; a journaled one's init is called, as at a start."""
        server, new = target.server, target.instance
        vars(new).update(vars(server.instance))
        new.context = context
        if server.number:
            initial = initial_of(server.name, new, target.worker.args)
            if not isinstance(initial, Initial):
                raise TypeError("its init says Ignore, but it runs")
            target.values = make_values(server.name, new)

    def _change(
        self, target: Target, worker: Any, instance: Any, state: Any, values: Values | None
    ) -> None:
        server = target.server
        self._dispatcher.change_code(
            server,
            instance,
            state,
            values,
            not overrides(instance, "handle_call"),
            not overrides(instance, "handle_cast"),
            not overrides(instance, "handle_info"),
        )
        if not isinstance(server.owner, TreeChild):  # whose spec changes with the tree
            server.owner = worker
        if values is not None and self._host.journal is not None:
            self._host.journal.set_values(server.name, values)

    # --- the boundary in the journal -------------------------------------------------------------

    def _write(self) -> bool:
        journal = self._host.journal
        assert journal is not None
        self.phase = Phase.WRITING
        # A fork costs more than encoding little, and cannot know before whether it is little.
        sizes = [target.bytes for target in self.targets if target.server.number]
        known = [size for size in sizes if size is not None]
        is_all = len(known) == len(sizes) == len(journal.numbers)
        is_small = is_all and sum(known) <= SMALL_BYTES
        return journal.snapshots.take(self._written, self._named, is_small=is_small)

    def _why_not(self) -> str:
        journal = self._host.journal
        assert journal is not None
        return journal.snapshots.why_not or "it takes no snapshot now"

    def _written(self, error: BaseException | None) -> bool:
        """The snapshot is there, or not; whether the manifest is to name it."""
        if self.phase is not Phase.WRITING:
            return False  # given up meanwhile
        if error is not None:
            self._undo()
            self._done(UpgradeFailed(self.release, "", error))
            return False
        self.phase = Phase.NAMING
        return True

    def _named(self) -> None:
        """The manifest names it, durably: the new release counts."""
        journal = self._host.journal
        assert journal is not None
        for target in self.targets:
            if target.server.number and target.server.is_running:
                journal.started(target.worker, target.server, {"policy": "last_good"}, "upgrade")
        self._finish()

    # --- the end ---------------------------------------------------------------------------------

    def _finish(self) -> None:
        self.phase = Phase.OVER
        self._let_go()
        self.seconds = self._host.loop.now() - self._began
        self._done(None)

    def _undo(self) -> None:
        """Everything as it was (V2)."""
        self.phase = Phase.OVER
        for target in self.targets:
            instance, state, values, owner = target.before
            if target.restore is not None:
                state = target.restore()
            self._change(target, owner, instance, state, values)
        if self._put_back is not None:
            self._put_back()
        self._let_go()

    def _let_go(self) -> None:
        """(V3)"""
        for target in self.targets:
            was_reached = target.before[0] is not None
            if was_reached and target.server.is_running and not target.was_suspended:
                self._dispatcher.resume(target.server)


def _kept(server: Server) -> tuple[Callable[[], Any], int | None]:
    """Keep a state that a migration may change in place; returns what gives it back, and its size
    if that is known.

    Nothing is kept of a `pure` server, nor of a state that cannot be copied: its migration has to
    return a new one.
    """
    state, instance, values = server.state, server.instance, server.values
    if getattr(instance, "pure", False):
        return lambda: state, None
    if values is None:
        try:
            again = copy.deepcopy(state)
        except Exception:  # noqa: BLE001 -- whatever cannot be copied: see above
            return lambda: state, None
        return lambda: again, None
    try:
        before = values.encode(instance.dump(state))
    except (PybehaveError, ValueError, TypeError):  # the snapshot will say so
        return lambda: state, None

    def restored() -> Any:
        try:
            is_same = values.encode(instance.dump(state)) == before
        except Exception:  # noqa: BLE001 -- half changed, it need not have a form at all
            is_same = False
        return state if is_same else instance.load(values.decode(before))

    return restored, len(before)

"""One change of a running node's code: all servers concerned, or none.

Theory. The servers concerned are suspended between two inputs. Each gets an instance of the new
code and the state that it wants; only when that has worked for all of them do they change, all at
once. Mailboxes, callers, timers, connections and names stay where they are. What needs no state,
`init` of a journaled server, is done before they wait, some servers a turn (decision 0030).

With a journal the boundary is a snapshot: it holds the new states under their new versions, and
the manifest, which names it by one write, makes all of them count or none. An end of the process
before that write finds the old release's journal, one after it the new one's. The first records
behind it are STARTs of the new code (durable/replay.py), so that older generations read on, too.

| phase   | what is under way                              | leaves to                            |
|---------|------------------------------------------------|--------------------------------------|
| NEW     | nothing was touched                            | READY with a journal; WRITING where  |
|         |                                                | only such as do not run have one;    |
|         |                                                | else OVER                            |
| READY   | the new instances are made ready while the old | WRITING; OVER when that fails        |
|         | code serves; servers may come and go           |                                      |
| WRITING | servers are suspended with the new code in     | NAMING when the snapshot is written; |
|         | place, the snapshot is written                 | OVER when it fails, or one of the    |
|         |                                                | servers ends: all is put back        |
| NAMING  | the manifest is written                        | OVER when it is, or the node ends    |
| OVER    | the servers run again; `done` was called       |                                      |

Invariants
  (V1) No concerned server takes an input between the old code and the new.
  (V2) Whatever raises before NAMING leaves every server with its old code, state and timers.
  (V3) A server that was suspended before stays so.
  (V4) No server starts with the new code before NAMING: families wake nobody in the meantime, and
       any other start gives the change up.

Does not know: versions and which of them may follow (releases.py), imports (release/code.py).
Source: OTP sasl, release_handler: suspend, load, code_change, resume.
"""

from __future__ import annotations

import contextlib
import copy
import gc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, final

from pybehave._uring.copies import NotPlainError, plain_copy
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.combined import Combined
from pybehave.behaviours.gen_server import Initial, initial_of, overrides
from pybehave.behaviours.release import Migration, Way, changed_state, way_of
from pybehave.errors import PybehaveError, UpgradeFailed, UpgradeRefused
from pybehave.runtime.servers import make_values
from pybehave.runtime.tree.child import TreeChild

if TYPE_CHECKING:
    from pybehave._uring.servers import Server
    from pybehave._uring.values import Values
    from pybehave.runtime.durable.replay import Known
    from pybehave.runtime.host import LoopHost

SMALL_BYTES: Final = 2 << 20
"""States up to this size are encoded on the loop: 15 ms at most, and a fork takes as long."""

READY_S: Final = 0.005
"""How long new instances are made ready before others have their turn."""

BUSY_LOOK_S: Final = 0.01
"""How often it is looked whether a snapshot that is being written is over."""

COPIES_MAX: Final = 1000
"""With more lists and dicts in it a state is encoded in a tenth of the time that copies take."""

FROZEN_BY_PYTHON: Final = 1000
"""Python 3.12 has frozen some 400 objects when it starts; who freezes on purpose freezes all."""

Done = Callable[[BaseException | None], None]


class Phase(Enum):
    """Where a change stands; the table is in the module's header."""

    NEW = "new"
    READY = "ready"
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
        drawn: Where its random numbers were before the migration.
        was_suspended: By an operator, who may change his mind while it is held.
        known: The old instance's attributes when the new one was made ready.
        shown: What observers saw of the state before.
    """

    server: Server
    worker: Worker[Any, Any]
    migration: Migration[Any, Any] | None
    instance: Any
    state: Any = None
    values: Values | None = None
    before: tuple[Any, Any, Values | None, Any] = (None, None, None, None)
    restore: Callable[[], Any] | None = None
    drawn: tuple[Any, ...] | None = None
    was_suspended: bool = False
    known: list[dict[str, Any]] = field(default_factory=list)
    shown: Any = None


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
        renewed: Returns the servers that are concerned when the code changes, of those that were
            when it was asked for: some may have ended, and others started.
        stopped: Gets, by `put`, what was known of journaled servers that do not run, and have
            another state now.
        kinds: The ids of what servers are made of by the new specifications, and were not before.
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
        renewed: Callable[[list[Target]], list[Target]] = lambda targets: targets,
        stopped: Sequence[Known] = (),
        kinds: frozenset[int] = frozenset(),
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
        self._renewed = renewed
        self._stopped = stopped
        self._kinds = kinds
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
        if any(target.server.number for target in self.targets):
            self.phase = Phase.READY
            self._make_ready(iter(self.targets))
        else:
            for target in self.targets:
                self._prepare(target)
            self._change_all()

    def _make_ready(self, targets: Iterator[Target]) -> None:
        """Prepare instances for as long as others can wait, then go on in another turn."""
        host = self._host
        until = host.loop.now() + READY_S
        for target in targets:
            self._prepare(target)
            if host.loop.now() > until:
                host.defer(partial(self._in_turn, partial(self._make_ready, targets)))
                return
        host.defer(partial(self._in_turn, self._change_ready))

    def _change_ready(self) -> None:
        """All that could be done before is done."""
        journal = self._host.journal
        assert journal is not None
        if journal.snapshots.is_busy:  # with one that was due
            self._host.after(BUSY_LOOK_S, partial(self._in_turn, self._change_ready))
            return
        ready, self.targets = set(self.targets), self._renewed(self.targets)
        self.check()
        for target in self.targets:
            if target not in ready:
                self._prepare(target)
        self._change_all()

    def _in_turn(self, work: Callable[[], None]) -> None:
        """Go on, unless it was given up meanwhile; what raises is for `done` now."""
        if self.phase is not Phase.READY:
            return
        try:
            work()
        except Exception as error:  # noqa: BLE001 -- it is told
            self.phase = Phase.OVER
            self._done(error)

    def _change_all(self) -> None:
        """Between two inputs: the one moment in which the code changes (V1)."""
        self._began = self._host.loop.now()
        journaled = [target for target in self.targets if target.server.number]
        self._suspend()
        try:
            with _uncollected():
                for target in self.targets:
                    self._migrate(target)
            self._put_back = self._put()
            for target in self.targets:
                self._change(target, target.worker, target.instance, target.state, target.values)
            if not journaled and not self._stopped:
                self._finish()
            elif not self._write() and not self.is_over:  # else `done` has been told why
                raise UpgradeFailed(self.release, "", self._why_not())
        except BaseException:
            self._undo()
            raise

    def server_changes(self, name: str, worker: Worker[Any, Any] | None) -> None:
        """A server is about to start, or to end (None): what is not decided yet is given up (V2).

        Raises:
            UpgradeRefused: It would have run the new code.
        """
        if self.phase is not Phase.WRITING:
            return
        is_new = worker is not None and id(worker.server) in self._kinds
        if is_new or any(target.server.name == name for target in self.targets):
            why = f"server {name!r} started or ended in the middle of it; try again"
            error = UpgradeRefused(self.release, why)
            self.give_up(error)
            if is_new:  # its supervisor has the old specification back when it tries again
                raise error

    def holding(self, server: Server) -> Target | None:
        """The server among those that take nothing until it is decided which code they run."""
        if self.phase is not Phase.WRITING and self.phase is not Phase.NAMING:
            return None
        return next((target for target in self.targets if target.server is server), None)

    def give_up(self, error: BaseException) -> None:
        """Put everything back, if that can still be done; what the manifest being written makes of
        it, the next start finds.
        """
        if self.is_over:
            return
        if self.phase is Phase.WRITING:
            self._undo()
        self._over()
        self._done(error)

    # --- the way there ---------------------------------------------------------------------------

    def _prepare(self, target: Target) -> None:
        """What the instance knew stays known; a journaled one's init is called, as at a start."""
        server, new = target.server, target.instance
        target.known = [dict(each) for each in _attributes(server.instance)]
        for own, known in zip(_attributes(new), target.known, strict=False):
            own.update(known)
        new.context = server.instance.context
        if not server.number:
            return
        with failing(self.release, server.name), _drawing_anew(server):
            initial = initial_of(server.name, new, target.worker.args)
            if not isinstance(initial, Initial):
                raise TypeError("its init says Ignore, but it runs")
            target.values = make_values(server.name, new)

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
            target.shown = self._host.observed.shown(server)
            target.before = (server.instance, server.state, server.values, server.owner)
            self._dispatcher.suspend(server)

    def _migrate(self, target: Target) -> None:
        """Make the new state beside the old one."""
        server, old = target.server, target.server.instance
        way = way_of(old, target.instance, target.migration, is_down=self._is_down)
        if way is not Way.SAME:
            target.restore = kept(old, server.state, server.values)
            target.drawn = server.random_state()
        with failing(self.release, server.name):
            _take_attributes(target)
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
        self._dispatcher.is_deciding = True  # families start nobody meanwhile
        # A fork costs more than encoding little.
        return journal.snapshots.take(self._written, self._named, bytes_here=SMALL_BYTES)

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
        if self.is_over:
            return  # the node ends, and whoever asked has been told
        journal = self._host.journal
        assert journal is not None
        for target in self.targets:
            if target.server.number and target.server.is_running:
                journal.started(target.worker, target.server, {"policy": "last_good"}, "upgrade")
        self._finish()

    # --- the end ---------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._over()
        self._let_go()
        for target in self.targets:  # not before it counts: nothing that was shown is taken back
            self._host.observed.replaced(target.server, target.shown)
        self.seconds = self._host.loop.now() - self._began
        self._done(None)

    def _undo(self) -> None:
        """Everything as it was (V2)."""
        self._over()
        for target in self.targets:
            instance, state, values, owner = target.before
            if target.restore is not None:
                state = target.restore()
                target.server.draw_from(target.drawn)
            self._change(target, owner, instance, state, values)
        if self._put_back is not None:
            self._put_back()
        self._let_go()

    def _over(self) -> None:
        self.phase = Phase.OVER
        if self._dispatcher.is_deciding:
            self._host.defer(self._dispatcher.decided)

    def _let_go(self) -> None:
        """(V3)"""
        for target in self.targets:
            was_reached = target.before[0] is not None
            if was_reached and target.server.is_running and not target.was_suspended:
                self._dispatcher.resume(target.server)


@contextlib.contextmanager
def failing(release: str, server: str) -> Iterator[None]:
    """Whatever code of the release raises, fails it; Ctrl-C passes.

    A `sys.exit` in a migration would otherwise be the end of the node.

    Raises:
        UpgradeFailed: The block has raised.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise UpgradeFailed(release, server, error) from error


@contextlib.contextmanager
def _drawing_anew(server: Server) -> Iterator[None]:
    """An init draws its own random numbers, as in a replay; the server's go on where they were,
    also when the upgrade fails, of which no record tells.
    """
    drawn = server.random_state()
    server.draw_from(None)
    try:
        yield
    finally:
        server.draw_from(drawn)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Migrations make many objects and no garbage: full collections in the middle of them would
    take a third of their time, and more the more there is beside them.
    """
    if not gc.isenabled() or gc.get_freeze_count() > FROZEN_BY_PYTHON:  # others have other plans
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # both together: all that is new is old now, and not looked at one by one
        gc.unfreeze()
        gc.enable()


def _attributes(instance: Any) -> list[dict[str, Any]]:
    """Of an instance and of its sides; a server with `__slots__ = ()` has none of its own."""
    sides = instance._parts if isinstance(instance, Combined) else ()
    return [getattr(instance, "__dict__", {}), *chain.from_iterable(map(_attributes, sides))]


def _take_attributes(target: Target) -> None:
    """What the old instance has been given since the new one was made ready, unless init has set
    it there.
    """
    found = zip(
        target.known,
        _attributes(target.instance),
        _attributes(target.server.instance),
        strict=False,  # with a Migration there may be other sides
    )
    for known, new, old in found:
        for name, value in old.items():
            was = known.get(name, known)
            if was is not value and new.get(name, known) is was:
                new[name] = value


def kept(instance: Any, state: Any, values: Values | None) -> Callable[[], Any]:
    """Keep a state that a migration may change in place; returns what gives it back.

    Nothing is kept of a `pure` server, nor of a state that cannot be copied: its migration has to
    return a new one.
    """
    if getattr(instance, "pure", False):
        return lambda: state
    try:
        copied = plain_copy(state, 0 if values is None else COPIES_MAX)
    except NotPlainError:
        return _deep_copied(state) if values is None else _encoded(state, instance, values)
    return lambda: copied


def _deep_copied(state: Any) -> Callable[[], Any]:
    """A server's that is not journaled, which need not have any form."""
    try:
        copied = copy.deepcopy(state)
    except Exception:  # noqa: BLE001 -- whatever cannot be copied: see above
        return lambda: state
    return lambda: copied


def _encoded(state: Any, instance: Any, values: Values) -> Callable[[], Any]:
    """A journaled server's, in the form that its snapshots have."""
    try:
        before = values.encode(instance.dump(state))
    except (PybehaveError, ValueError, TypeError):  # the snapshot will say so
        return lambda: state

    def restored() -> Any:
        try:
            is_same = values.encode(instance.dump(state)) == before
        except Exception:  # noqa: BLE001 -- half changed, it need not have a form at all
            is_same = False
        return state if is_same else instance.load(values.decode(before))

    return restored

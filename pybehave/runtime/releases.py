"""The releases of a running node: which runs, which ran before, and how one follows the other.

Theory. An upgrade is checked as far as it can be before anything is touched: the version that runs
is the expected one, the new tree and its listeners fit, every server concerned has a way to the new
code. Then runtime/upgrade.py changes all of them, or none. For some time afterwards the release is
on probation: servers of it that crash too often take the node back to the release before, by the
same way in the other direction. What had been acknowledged meanwhile stays: the way back leads
through the states as they are, not through older ones.

States of a release, as OTP's: *current* while it is on probation, *permanent* from then on; the
one before is *old*, and can be gone back to until another one comes.

Invariants
  (U1) One change at a time.
  (U2) Applications change whose version differs; others, and servers whose class is the very same
       object, are not touched.
  (U3) Nothing starts and nothing stops: children that are new are there, stopped; those that are
       missing keep running with what they have (OTP, supervisor:code_change/3).

Does not know: imports (release_code.py), who asks (observer/admin.py).
Source: OTP sasl, release_handler; otp.md section 6.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from pybehave.behaviours.application import Application
from pybehave.behaviours.hosted import HostedServer
from pybehave.behaviours.release import (
    Migration,
    Release,
    changed_state,
    listener_changes,
    spec_of,
    supervisors_of,
    way_of,
)
from pybehave.behaviours.schema import version_of
from pybehave.behaviours.supervisor import find, workers
from pybehave.errors import CalledInCallback, LoopClosed, UpgradeFailed, UpgradeRefused
from pybehave.runtime.events import RolledBack, Upgraded
from pybehave.runtime.probation import CRASHES, WATCH_S, Probation
from pybehave.runtime.servers import make_values
from pybehave.runtime.tree_supervisor import Phase
from pybehave.runtime.upgrade import Target, Upgrade
from pybehave.runtime.waiters import ThreadWaiter

if TYPE_CHECKING:
    from pybehave.runtime.applications import Running
    from pybehave.runtime.node import Node
    from pybehave.runtime.release_code import ReleaseCode

BUSY_LOOK_S: Final = 0.01
"""How often it is looked whether a snapshot that is being written is over."""

RETRY_S: Final = 0.1
"""How often an automatic rollback is tried again: a server may wait for its restart."""

HISTORY_MAX: Final = 32

logger = logging.getLogger("pybehave")

Answer = Callable[["Report | None", BaseException | None], None]


@final
@dataclass(frozen=True, slots=True)
class Report:
    """What a change of release has done.

    Attributes:
        application: The primary application's name.
        before: Its version before.
        after: Its version since.
        servers: Names of the servers that run other code now.
        added: Paths of children that are new, and stopped; `restart_child` starts them.
        pause: Seconds in which those servers took no inputs.
        at: Unix time.
        is_rollback: Whether it led back.
        no_way_back: Why it could not be taken back; "" = it could.
    """

    application: str
    before: str
    after: str
    servers: tuple[str, ...]
    added: tuple[str, ...]
    pause: float
    at: float
    is_rollback: bool = False
    no_way_back: str = ""


@final
@dataclass(slots=True)
class Wish:
    """A change that was asked for.

    Attributes:
        release: What is to run.
        apps: It, and what it depends on, configured.
        expected: The version that is expected to run, when the release allows several.
        code: Its modules, if they have been imported for it.
        extra: For `code_change`.
        watch: Seconds on probation; 0: there is none.
        crashes: How many take it back.
        is_down: Whether it leads back.
    """

    release: Release
    apps: list[Application]
    expected: str | None = None
    code: ReleaseCode | None = None
    extra: Any = None
    watch: float = WATCH_S
    crashes: int = CRASHES
    is_down: bool = False


@final
class Releases:
    """The releases of one node.

    Args:
        node: Whose.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.under_way: Upgrade | None = None
        self.history: list[Report] = []
        self._before: Wish | None = None
        self._probation: Probation | None = None
        self._end_watch: Callable[[], None] = lambda: None
        self._is_asked = False

    # --- asking -------------------------------------------------------------------------------

    def upgrade(
        self,
        release: Release | Application,
        *,
        from_version: str | None = None,
        extra: Any = None,
        watch: float = WATCH_S,
        crashes: int = CRASHES,
        code: ReleaseCode | None = None,
    ) -> Report:
        """Take the node to another release; returns when its servers run the new code.

        From any thread; on the loop's own only between ticks.

        Args:
            release: What is to run.
            from_version: The version that is expected to run; a Release says that itself.
            extra: What `code_change` gets.
            watch: Seconds in which too many crashes take it back by themselves; 0: none do.
            crashes: How many are too many.
            code: Its modules, when they were imported for it (release_code.py).

        Raises:
            UpgradeRefused: Nothing was touched; says why.
            UpgradeFailed: A migration raised; every server goes on as before.
            CalledInCallback: From within a callback.
        """
        if isinstance(release, Application):
            if from_version is None:
                raise TypeError("an Application does not say what it follows: give from_version")
            release = Release(release, upgrades=from_version)
        wish = Wish(release, [], from_version, code, extra, watch, crashes)
        return self._waited(partial(self.begin, wish))

    def rollback(self, *, extra: Any = None) -> Report:
        """Go back to the release before; otherwise like `upgrade`.

        Raises:
            UpgradeRefused: There is none, or no way back; nothing was touched.
            UpgradeFailed: A migration raised; every server goes on with the newer code.
        """
        return self._waited(partial(self.begin_rollback, extra))

    def status(self) -> dict[str, Any]:
        """Return what runs, what could be gone back to, and what has been."""
        return self.node.run_on_loop(self._status)

    def _waited(self, begin: Callable[[Answer], None]) -> Report:
        node, loop = self.node, self.node.loop
        waiter = ThreadWaiter()

        def work() -> None:
            try:
                begin(waiter.settle)
            except Exception as error:  # noqa: BLE001 -- raised again in the asking thread
                waiter.settle(None, error)

        if loop.thread != threading.get_ident():
            found: Report = node.waited(work, waiter, "loop", None)
            return found
        if loop.is_running:
            raise CalledInCallback(loop.dispatcher.stepping_name or "the loop", node.app.name)
        work()
        while not waiter.wait(0):
            loop.run_once(BUSY_LOOK_S)
        report: Report = waiter.take()
        return report

    # --- on the loop's thread -----------------------------------------------------------------

    def begin(self, wish: Wish, answer: Answer) -> None:
        """Begin a change; `answer` gets its report, or why it failed."""

        def answered(report: Report | None, error: BaseException | None) -> None:
            if error is not None and wish.code is not None and not wish.is_down:
                wish.code.exchange()  # it was imported for this
            answer(report, error)

        try:
            self._begin_when_free(wish, answered)
        except Exception as error:  # noqa: BLE001 -- the answer is an error
            answered(None, error)

    def _begin_when_free(self, wish: Wish, answer: Answer) -> None:
        if self.under_way is not None or self._is_asked:
            raise self._refused(wish, "another change of release is under way")
        journal = self.node.journal
        if journal is not None and journal.snapshots.is_busy:
            self._is_asked = True
            self.node.host.after(BUSY_LOOK_S, partial(self._begin_later, wish, answer))
            return
        self._begin(wish, answer)

    def begin_rollback(self, extra: Any, answer: Answer) -> None:
        """Begin to go back; like `begin`.

        Raises:
            UpgradeRefused: There is no release to go back to.
        """
        wish = self._before
        if wish is None:
            name = self.node.app.name
            raise UpgradeRefused(f"the release before of {name}", "there was none on this node")
        self.begin(replace(wish, extra=extra), answer)

    def close(self) -> None:
        """The node stops: what is under way is given up."""
        self._end_watch()
        if self.under_way is not None:
            self.under_way.give_up(LoopClosed("The node stopped before its release had changed"))

    def server_changes(self, name: str) -> None:
        """A server is about to start or to end."""
        if self.under_way is not None:
            self.under_way.server_changes(name)

    def _begin_later(self, wish: Wish, answer: Answer) -> None:
        self._is_asked = False
        try:
            self._begin_when_free(wish, answer)
        except Exception as error:  # noqa: BLE001 -- the answer is an error
            answer(None, error)

    def _begin(self, wish: Wish, answer: Answer) -> None:
        changes = self._check(wish)
        if wish.is_down and wish.code is not None:
            wish.code.exchange()
        try:
            targets = self._targets(wish, changes)
            before = _reverse(wish, changes)
            added: list[str] = []
            put = partial(self._put, wish, changes, added)

            def done(error: BaseException | None) -> None:
                run, self.under_way = self.under_way, None
                if error is not None:
                    if wish.is_down and wish.code is not None:
                        wish.code.exchange()
                    answer(None, error)
                    return
                assert run is not None
                answer(self._done(wish, before, run, added), None)

            self.under_way = Upgrade(
                self.node.host,
                str(wish.release),
                targets,
                put,
                done,
                extra=wish.extra,
                is_down=wish.is_down,
            )
            self.under_way.begin()
        except BaseException:
            self.under_way = None
            if wish.is_down and wish.code is not None:
                wish.code.exchange()
            raise

    # --- checks -------------------------------------------------------------------------------

    def _refused(self, wish: Wish, why: str) -> UpgradeRefused:
        return UpgradeRefused(str(wish.release), why)

    def _check(self, wish: Wish) -> list[tuple[Running, Application]]:
        """Which applications change, and to what; or why not."""
        applications = self.node.applications
        if not wish.apps:
            wish.apps = applications.planned_for(wish.release.app)
        app = wish.apps[-1]
        running = {each.app.name: each for each in applications.in_reverse()}
        here = running.get(app.name)
        if here is None:
            raise self._refused(wish, f"application {app.name!r} does not run here")
        version = here.app.version
        if version == app.version:
            raise self._refused(wish, f"version {version!r} runs already")
        follows = [each for each in wish.release.upgrades if wish.expected in (None, each)]
        if version not in follows:
            wanted = " or ".join(repr(each) for each in follows or wish.release.upgrades)
            raise self._refused(wish, f"it follows version {wanted}, but {version!r} runs here")
        changes = []
        for each in wish.apps:
            known = running.get(each.name)
            if known is None:
                raise self._refused(
                    wish, f"it depends on {each.name!r}, which does not run; start it first"
                )
            if known.app.version != each.version:
                self._check_application(wish, known, each)
                changes.append((known, each))
        return changes

    def _check_application(self, wish: Wish, running: Running, app: Application) -> None:
        if running.is_stopping:
            raise self._refused(wish, f"application {app.name!r} is stopping")
        changed = listener_changes(running.app, app)
        if changed:
            raise self._refused(
                wish,
                f"its listeners are others ({changed}), and those of a running node stay as they "
                f"are; replace the process",
            )
        for path, node in running.tree.supervisors.items():
            if node.phase is not Phase.IDLE:
                raise self._refused(
                    wish, f"supervisor {path!r} is starting or stopping something; try again"
                )

    def _targets(self, wish: Wish, changes: list[tuple[Running, Application]]) -> list[Target]:
        """The servers whose class changes (U2)."""
        found = []
        for running, app in changes:
            specs = dict(supervisors_of(app.tree, running.tree.root_id))
            workers = running.tree.workers
            for server, child in [(ref, workers.get(ref)) for ref in workers]:
                assert child is not None
                supervisor = specs.get(child.owner.path)
                spec = None if supervisor is None else spec_of(supervisor, child.id)
                if spec is None or isinstance(server.instance, HostedServer):
                    continue
                instance: Any = self._made(wish, spec)
                if type(instance) is not type(server.instance):
                    migration = wish.release.migrations.get(spec.name)
                    found.append(Target(server, spec, migration, instance))
        return found

    def _made(self, wish: Wish, spec: Any) -> Any:
        try:
            return self.node.host.make_instance(spec)
        except Exception as error:
            raise UpgradeFailed(str(wish.release), spec.name, error) from error

    # --- putting it in place ------------------------------------------------------------------

    def _put(
        self, wish: Wish, changes: list[tuple[Running, Application]], added: list[str]
    ) -> Callable[[], None]:
        """Specifications, and states of journaled servers that do not run; returns the way back."""
        undo: list[Callable[[], object]] = []

        def put_back() -> None:
            for step in reversed(undo):
                step()
            added.clear()

        try:
            for running, app in changes:
                self._put_application(running, app, added, undo)
                self._put_stopped(wish, app, undo)
        except BaseException:
            put_back()
            raise
        return put_back

    def _put_application(
        self,
        running: Running,
        app: Application,
        added: list[str],
        undo: list[Callable[[], object]],
    ) -> None:
        tree, before = running.tree, running.app
        old = dict(supervisors_of(before.tree, tree.root_id))
        for path, spec in supervisors_of(app.tree, tree.root_id):
            if path not in tree.supervisors:
                continue
            new = tree.reconfigure(path, spec).result()
            if path in old:
                undo.append(partial(tree.reconfigure, path, old[path]))
            for child_id in new:
                added.append(f"{path}/{child_id}")
                undo.insert(0, partial(tree.delete_child, path, child_id))
        undo.append(partial(self.node.applications.replace, running, before))
        self.node.applications.replace(running, app)

    def _put_stopped(self, wish: Wish, app: Application, undo: list[Callable[[], object]]) -> None:
        """Journaled servers that do not run, and whose states the snapshot holds, too."""
        journal = self.node.journal
        if journal is None:
            return
        for worker in workers(app.tree):
            known = journal.remembered(worker.name)
            if known is not None:
                journal.hibernation.get_up(worker.name, known)
            if known is None or self.node.loop.dispatcher.whereis(worker.name) is not None:
                continue
            if known.is_dirty or known.dump is None:
                raise self._refused(
                    wish, f"server {worker.name!r} has crashed and waits for its restart; try again"
                )
            old, new = known.dump.__self__, self._made(wish, worker)  # type: ignore[attr-defined]
            migration = wish.release.migrations.get(worker.name)
            new.context = old.context
            try:
                state = changed_state(
                    worker.name, old, new, known.state, migration, wish.extra, is_down=wish.is_down
                )
            except Exception as error:
                raise UpgradeFailed(str(wish.release), worker.name, error) from error
            undo.append(partial(journal.remember, worker.name, known))
            undo.append(partial(journal.set_values, worker.name, journal.values_named(worker.name)))
            changed = replace(known, state=state, dump=new.dump, version=version_of(new))
            journal.remember(worker.name, changed)
            journal.set_values(worker.name, make_values(worker.name, new))

    # --- afterwards ---------------------------------------------------------------------------

    def _done(self, wish: Wish, before: Wish, run: Upgrade, added: list[str]) -> Report:
        self._end_watch()
        node, release = self.node, wish.release
        names = tuple(target.server.name for target in run.targets)
        version = before.release.app.version
        report = Report(
            release.app.name, version, release.app.version, names, tuple(added), run.seconds,
            node.loop.dispatcher.unix_now() / 1e9, wish.is_down, _no_way_back(run, before),
        )  # fmt: skip
        self.history = [*self.history, report][-HISTORY_MAX:]
        self._before = None if wish.is_down else before
        kind = RolledBack if wish.is_down else Upgraded
        node.applications.tell_changed(before.apps, wish.apps)
        node.events.emit(kind("", report.application, version, report.after, names, run.seconds))
        if not wish.is_down:
            self._watch(wish, run, report)
        return report

    def _watch(self, wish: Wish, run: Upgrade, report: Report) -> None:
        """The release is on probation."""
        if wish.watch <= 0:
            return
        if report.no_way_back:
            logger.warning(
                "%s cannot be taken back if it crashes: %s", wish.release, report.no_way_back
            )
            return
        paths = {}
        for target in run.targets:
            child = self.node.applications.child_of(target.server)
            if child is not None:
                paths[child.path] = max(1, child.owner.state.spec.intensity)
        self._probation = Probation(paths, wish.crashes, partial(self._too_many, wish.release))
        remove = self.node.events.add(self._probation)
        alarm = self.node.loop.dispatcher.start_alarm(wish.watch, self._is_permanent)

        def end() -> None:
            remove()
            self._probation = None
            self._end_watch = lambda: None
            self.node.loop.dispatcher.cancel_alarm(alarm)

        self._end_watch = end

    def _is_permanent(self) -> None:
        self._end_watch()
        app = self.node.app
        logger.info("%s %s is permanent: it has passed its probation", app.name, app.version)

    def _too_many(self, release: Release, why: str) -> None:
        logger.error("%s is taken back: %s", release, why)
        self.node.host.defer(partial(self._take_back, release))

    def _take_back(self, release: Release) -> None:
        """By ourselves; again until it succeeds, for a server may wait for its restart."""
        if self._probation is None or self._before is None:
            return  # somebody else has done it, or the time is over

        def answer(_report: Report | None, error: BaseException | None) -> None:
            if isinstance(error, UpgradeRefused):
                self.node.host.after(RETRY_S, partial(self._take_back, release))
            elif error is not None:
                self._end_watch()
                logger.critical("%s cannot be taken back: %s", release, error)

        try:
            self.begin_rollback(None, answer)
        except Exception as error:  # noqa: BLE001 -- logged, or tried again
            answer(None, error)

    def _status(self) -> dict[str, Any]:
        node, before = self.node, self._before
        on_probation = self._probation
        return {
            "application": node.app.name,
            "version": node.app.version,
            "state": "permanent" if on_probation is None else "current",
            "crashes": 0 if on_probation is None else on_probation.crashes,
            "old": None if before is None else before.release.app.version,
            "under_way": None if self.under_way is None else self.under_way.release,
            "applications": [list(each) for each in node.applications.which()],
            "history": [asdict(report) for report in self.history],
        }


def _reverse(wish: Wish, changes: list[tuple[Running, Application]]) -> Wish:
    """What takes a change back."""
    old = {app.name: running.app for running, app in changes}
    apps = [old.get(app.name, app) for app in wish.apps]
    migrations: dict[str, Migration[Any, Any]] = {
        name: migration
        for name, migration in wish.release.migrations.items()
        if find(apps[-1].tree, name) is not None
    }
    release = Release(apps[-1], upgrades=wish.apps[-1].version, migrations=migrations)
    return Wish(release, apps, code=wish.code, is_down=not wish.is_down, watch=0.0)


def _no_way_back(run: Upgrade, before: Wish) -> str:
    """Why a change could not be taken back; "" = it could."""
    if before.is_down:
        for target in run.targets:
            old = target.before[0]
            migration = before.release.migrations.get(target.worker.name)
            try:
                way_of(target.instance, old, migration, is_down=True)
            except LookupError as error:
                return f"server {target.server.name!r}: {error}"
    return ""

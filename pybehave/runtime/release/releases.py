"""The releases of a running node: which runs, which ran before, and how one follows the other.

Theory. An upgrade is checked as far as it can be before anything is touched: the version that runs
is the expected one, the new tree and its listeners fit, every server concerned has a way to the new
code. Then release/upgrade.py changes all of them, or none. For some time afterwards the release is
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

Does not know: imports (release/code.py), who asks (observer/admin.py).
Source: OTP sasl, release_handler; otp.md section 6.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

from pybehave.behaviours.application import Application
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.hosted import HostedServer
from pybehave.behaviours.release import (
    Migration,
    Release,
    listener_changes,
    spec_of,
    supervisors_of,
    way_of,
)
from pybehave.behaviours.supervisor import find
from pybehave.errors import DurabilityLost, LoopClosed, UpgradeRefused, show
from pybehave.runtime.events import RolledBack, Upgraded
from pybehave.runtime.release.handover import replace_process
from pybehave.runtime.release.listeners import facts_of, misunderstood, settle_edges
from pybehave.runtime.release.probation import CRASHES, WATCH_S, Probation
from pybehave.runtime.release.specs import (
    Wish,
    made,
    misplaced,
    new_kinds,
    put_specs,
    refused,
    upgrade_of_one,
)
from pybehave.runtime.release.upgrade import BUSY_LOOK_S, Target, Upgrade
from pybehave.runtime.tree.supervisor import Phase
from pybehave.runtime.waiters import ThreadWaiter, refuse_within

if TYPE_CHECKING:
    from pybehave._uring.servers import Server
    from pybehave.runtime.applications import Running
    from pybehave.runtime.durable.replay import Known
    from pybehave.runtime.node import Node
    from pybehave.runtime.release.code import ReleaseCode
    from pybehave.runtime.release.handover import Command, Replacement, Successor

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
        ended: Connections that have ended, for they speak what is not understood any more.
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
    ended: int = 0


@final
class Releases:
    """The releases of one node.

    Args:
        node: Whose.

    Attributes:
        command: How a process like this one is started; None when nobody knows. An upgrade that was
            asked for at the admin socket changes it, and so does the way back.
        on_command: Called when it has changed: whoever starts the next process wants to know.
    """

    def __init__(self, node: Node) -> None:
        self.node = node
        self.command: Command | None = None
        self.on_command: Callable[[Command], None] = lambda _: None
        self.under_way: Upgrade | None = None
        self.history: list[Report] = []
        self._before: Wish | None = None
        self._probation: Probation | None = None
        self._end_watch: Callable[[], None] = lambda: None
        self._is_asked = self._is_closed = False
        self._replacement: Replacement | None = None

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
            code: Its modules, when they were imported for it (release/code.py).

        Raises:
            UpgradeRefused: Nothing was touched; says why.
            UpgradeFailed: A migration raised; every server goes on as before.
            DurabilityLost, LoopClosed: The journal failed or the node stopped in the middle of it;
                which release runs, the next start finds.
            CalledInCallback: From within a callback.
        """
        if isinstance(release, Application):
            if from_version is None:
                raise TypeError("an Application does not say what it follows: give from_version")
            release = Release(release, upgrades=from_version)
        if not isinstance(release, Release):
            raise TypeError(f"release={show(release)} is not allowed; use a Release or Application")
        wish = Wish(release, [], from_version, code, extra, watch, crashes)
        report: Report = self._waited(partial(self.begin, wish))
        return report

    def rollback(self, *, extra: Any = None) -> Report:
        """Go back to the release before; otherwise like `upgrade`.

        Raises:
            UpgradeRefused: There is none, or no way back; nothing was touched.
            UpgradeFailed: A migration raised; every server goes on with the newer code.
        """
        report: Report = self._waited(partial(self.begin_rollback, extra))
        return report

    def status(self) -> dict[str, Any]:
        """Return what runs, what could be gone back to, and what has been."""
        return self.node.run_on_loop(self._status)

    def change_server(self, name: str, kind: Callable[[], Any], extra: Any) -> None:
        """Give one suspended server other code; see `sys.change_code`."""
        self._waited(partial(self.begin_server, name, kind, extra))

    def _waited(self, begin: Callable[[Answer], None]) -> Any:
        node, loop = self.node, self.node.loop
        waiter = ThreadWaiter()

        def work() -> None:
            try:
                begin(waiter.settle)
            except Exception as error:  # noqa: BLE001 -- raised again in the asking thread
                waiter.settle(None, error)

        if not loop.is_here:
            return node.waited(work, waiter, "loop", None)
        refuse_within(loop, node.app.name)
        work()
        while not waiter.wait(0):
            if node.journal is not None and node.journal.commit.error:
                raise self._lost(node.journal.commit.error)
            loop.run_once(BUSY_LOOK_S)
        return waiter.take()

    def _lost(self, number: int) -> DurabilityLost:
        """The journal has failed: what is under way is given up."""
        lost = DurabilityLost(os.strerror(number))
        if self.under_way is not None:
            self.under_way.give_up(lost)
        return lost

    # --- on the loop's thread -----------------------------------------------------------------

    def begin(self, wish: Wish, answer: Answer) -> None:
        """Begin a change; `answer` gets its report, or why it failed."""

        def answered(report: Report | None, error: BaseException | None) -> None:
            if error is not None and wish.code is not None and not wish.is_down:
                wish.code.exchange()  # it was imported for this
            answer(report, error)

        try:
            self._when_free(str(wish.release), partial(self._begin, wish), answered)
        except Exception as error:  # noqa: BLE001 -- the answer is an error
            answered(None, error)

    def begin_server(
        self, name: str, kind: Callable[[], Any], extra: Any, answer: Callable[..., None]
    ) -> None:
        """Begin to give one suspended server other code; `answer` as for `begin`."""

        def begin(answer: Callable[..., None]) -> None:
            def done(error: BaseException | None) -> None:
                self.under_way = None
                answer(None, error)

            self.under_way = upgrade_of_one(self.node, name, kind, extra, done)
            self._run()

        self._when_free(f"other code of {name!r}", begin, answer)

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

    def begin_replacement(
        self, successor: Successor, from_version: str | None, answer: Callable[..., None]
    ) -> None:
        """Let another process, which has loaded its code, take this one's place.

        Raises:
            UpgradeRefused: All goes on as before, and that process has ended.
        """
        version, app = successor.version, self.node.app

        def answered(facts: Any, error: BaseException | None) -> None:
            self._is_asked = False
            answer(facts, error)

        try:
            if self._is_closed:
                raise UpgradeRefused(version, "the node is stopping")
            if self.under_way is not None or self._is_asked:
                raise UpgradeRefused(version, "another change of code is under way")
            if from_version not in (None, app.version):
                why = f"it is to follow version {from_version!r}, but {app.version!r} runs here"
                raise UpgradeRefused(f"{app.name} {version}", why)
        except UpgradeRefused:
            successor.end()
            raise
        self._is_asked = True
        try:
            self._replacement = replace_process(self.node, successor, answered)
        except BaseException:
            self._is_asked = False
            raise

    def close(self) -> None:
        """The node stops: what is under way is given up."""
        self._is_closed = True
        self._end_watch()
        if self._replacement is not None:
            self._replacement.give_up("the node was told to stop")
        if self.under_way is not None:
            self.under_way.give_up(LoopClosed("The node stopped before its release had changed"))

    def server_changes(self, name: str, worker: Worker[Any, Any] | None) -> None:
        """A server is about to start, or to end (None)."""
        if self.under_way is not None:
            self.under_way.server_changes(name, worker)

    def holding(self, server: Server) -> Target | None:
        """The server, if it takes nothing until it is decided which code it runs."""
        return None if self.under_way is None else self.under_way.holding(server)

    def _when_free(self, what: str, begin: Callable[[Answer], None], answer: Answer) -> None:
        """Begin something when no snapshot is being written (U1)."""
        if self._is_closed:
            raise UpgradeRefused(what, "the node is stopping")
        if self.under_way is not None or self._is_asked:
            raise UpgradeRefused(what, "another change of code is under way")
        journal = self.node.journal
        if journal is None or not journal.snapshots.is_busy:
            begin(answer)
            return

        def later() -> None:
            self._is_asked = False
            try:
                self._when_free(what, begin, answer)
            except Exception as error:  # noqa: BLE001 -- the answer is an error
                answer(None, error)

        self._is_asked = True
        self.node.host.after(BUSY_LOOK_S, later)

    def _run(self) -> None:
        """Let the change that is under way begin."""
        assert self.under_way is not None
        try:
            self.under_way.begin()
        except BaseException:
            self.under_way = None
            raise

    def _begin(self, wish: Wish, answer: Answer) -> None:
        changes = self._check(wish)
        if wish.is_down and wish.code is not None:
            wish.code.exchange()
        try:
            seen: dict[Server, Target | None] = {}
            targets = self._targets(wish, changes, seen)
            before = _reverse(wish, changes, self.command)
            added: list[str] = []
            stopped: list[Known] = []

            def put() -> Callable[[], None]:
                for each in changes:  # again: time may have passed
                    self._check_application(wish, *each)
                return put_specs(self.node, wish, changes, added, stopped)

            def done(error: BaseException | None) -> None:
                run, self.under_way = self.under_way, None
                if error is not None:
                    if wish.is_down and wish.code is not None:
                        wish.code.exchange()
                    answer(None, error)
                    return
                assert run is not None
                for known in stopped:
                    if self.node.journal is not None:
                        self.node.journal.hibernation.drop(known)
                answer(self._done(wish, before, run, added), None)

            self.under_way = Upgrade(
                self.node.host,
                str(wish.release),
                targets,
                put,
                done,
                extra=wish.extra,
                is_down=wish.is_down,
                renewed=lambda _: self._targets(wish, changes, seen),
                stopped=stopped,
                kinds=new_kinds(changes),
            )
            self._run()
        except BaseException:
            if wish.is_down and wish.code is not None:
                wish.code.exchange()
            raise

    # --- checks -------------------------------------------------------------------------------

    def _check(self, wish: Wish) -> list[tuple[Running, Application]]:
        """Which applications change, and to what; or why not."""
        applications = self.node.applications
        if not wish.apps:
            wish.apps = applications.planned_for(wish.release.app)
        app = wish.apps[-1]
        running = {each.app.name: each for each in applications.in_reverse()}
        here = running.get(app.name)
        if here is None:
            raise refused(wish, f"application {app.name!r} does not run here")
        version = here.app.version
        if version == app.version:
            raise refused(wish, f"version {version!r} runs already")
        if wish.expected not in (None, version) or not wish.release.follows(version):
            is_sound = wish.expected is not None and wish.release.follows(wish.expected)
            wanted = repr(wish.expected) if is_sound else _shown(wish.release)
            raise refused(wish, f"it follows version {wanted}, but {version!r} runs here")
        changes = []
        for each in wish.apps:
            known = running.get(each.name)
            if known is None:
                raise refused(
                    wish, f"it depends on {each.name!r}, which does not run; start it first"
                )
            if known.app.version != each.version:
                self._check_application(wish, known, each)
                changes.append((known, each))
        return changes

    def _check_application(self, wish: Wish, running: Running, app: Application) -> None:
        if running.is_stopping:
            raise refused(wish, f"application {app.name!r} is stopping")
        changed = listener_changes(running.app, app)
        if changed:
            raise refused(
                wish,
                f"its listeners are others ({changed}), and those of a running node stay as they "
                f"are; replace the process",
            )
        unheard = "" if wish.is_down else misunderstood(self.node.loop, running.ports, app)
        if unheard:
            raise refused(wish, unheard)
        elsewhere = misplaced(self.node, running, app)
        if elsewhere:
            raise refused(wish, elsewhere)
        for path, node in running.tree.supervisors.items():
            if node.phase is not Phase.IDLE:
                raise refused(
                    wish, f"supervisor {path!r} is starting or stopping something; try again"
                )

    def _targets(
        self,
        wish: Wish,
        changes: list[tuple[Running, Application]],
        seen: dict[Server, Target | None],
    ) -> list[Target]:
        """The servers whose class changes (U2); `seen` gets all, with None for the others."""
        found = []
        for running, app in changes:
            specs = dict(supervisors_of(app.tree, running.tree.root_id))
            workers = running.tree.workers
            for server, child in [(ref, workers.get(ref)) for ref in workers]:
                assert child is not None
                if server in seen:
                    found += [seen[server]]
                    continue
                seen[server] = None
                supervisor = specs.get(child.owner.path)
                spec = None if supervisor is None else spec_of(supervisor, child.id)
                if spec is None or isinstance(server.instance, HostedServer):
                    continue
                instance: Any = made(self.node, wish, spec)
                if type(instance) is not type(server.instance):
                    migration = wish.release.migrations.get(spec.name)
                    if spec.journal and spec.name != server.name:  # made from a template
                        spec = spec.made(server.name, child.args)
                    seen[server] = Target(server, spec, migration, instance)
                    found.append(seen[server])
        return [target for target in found if target is not None]

    # --- afterwards ---------------------------------------------------------------------------

    def _done(self, wish: Wish, before: Wish, run: Upgrade, added: list[str]) -> Report:
        self._end_watch()
        node, release = self.node, wish.release
        names = tuple(target.server.name for target in run.targets)
        version = before.release.app.version
        report = Report(
            release.app.name, version, release.app.version, names, tuple(added), run.seconds,
            node.loop.dispatcher.unix_now() / 1e9, wish.is_down, _no_way_back(run, before),
            settle_edges(node.loop, node.applications.listening()),
        )  # fmt: skip
        self.history = [*self.history, report][-HISTORY_MAX:]
        self._before = None if wish.is_down else before
        if wish.command is not None:
            self.command = wish.command
            self.on_command(wish.command)
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
            "listeners": facts_of(node.loop, reversed(node.applications.in_reverse())),
            "history": [asdict(report) for report in self.history],
        }


def _reverse(
    wish: Wish, changes: list[tuple[Running, Application]], command: Command | None
) -> Wish:
    """What takes a change back."""
    old = {app.name: running.app for running, app in changes}
    apps = [old.get(app.name, app) for app in wish.apps]
    migrations: dict[str, Migration[Any, Any]] = {
        name: migration
        for name, migration in wish.release.migrations.items()
        if find(apps[-1].tree, name) is not None
    }
    release = Release(apps[-1], upgrades=wish.apps[-1].version, migrations=migrations)
    return Wish(
        release, apps, code=wish.code, is_down=not wish.is_down, watch=0.0,
        command=None if wish.command is None else command,
    )  # fmt: skip


def _shown(release: Release) -> str:
    """The versions that a release follows, for people."""
    return " or ".join(
        repr(each) if isinstance(each, str) else f"matching {each.pattern!r}"
        for each in release.upgrades
    )


def _no_way_back(run: Upgrade, before: Wish) -> str:
    """Why a change could not be taken back; "" = it could."""
    if before.is_down:
        for target in run.targets:
            old = target.before[0]
            try:
                way_of(target.instance, old, target.migration, is_down=True)
            except LookupError as error:
                return f"server {target.server.name!r}: {error}"
    return ""

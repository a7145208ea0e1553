"""What a change of release puts in the place of specifications, and how that is taken back.

Supervisors get their new flags and children, applications their new selves, and journaled servers
that do not run the states that the new code wants: the snapshot at the boundary holds those, too.

Does not know: servers that run (upgrade.py), which release may follow (releases.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, final

from pybehave._uring.servers import Asleep
from pybehave.behaviours.application import Application
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.family import families, has_name
from pybehave.behaviours.release import (
    Migration,
    Release,
    Way,
    changed_state,
    supervisors_of,
    way_of,
)
from pybehave.behaviours.schema import version_of
from pybehave.behaviours.supervisor import walk, workers
from pybehave.errors import NoProc, UpgradeRefused
from pybehave.runtime.release.listeners import put_edges
from pybehave.runtime.release.probation import CRASHES, WATCH_S
from pybehave.runtime.release.upgrade import Target, Upgrade, failing, kept
from pybehave.runtime.servers import make_values

if TYPE_CHECKING:
    from pybehave._uring.values import Values
    from pybehave.runtime.applications import Applications, Running
    from pybehave.runtime.durable.journaling import NodeJournal
    from pybehave.runtime.durable.replay import Known
    from pybehave.runtime.node import Node
    from pybehave.runtime.release.code import ReleaseCode
    from pybehave.runtime.release.handover import Command

Undo = list[Callable[[], object]]


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
        command: How a process is started that runs it; None = nobody knows.
    """

    release: Release
    apps: list[Application]
    expected: str | None = None
    code: ReleaseCode | None = None
    extra: Any = None
    watch: float = WATCH_S
    crashes: int = CRASHES
    is_down: bool = False
    command: Command | None = None


def refused(wish: Wish, why: str) -> UpgradeRefused:
    """Return the error for a wish that nothing was done about."""
    return UpgradeRefused(str(wish.release), why)


def misplaced(node: Node, running: Running, app: Application) -> str:
    """Why a server that was migrated keeps an application from changing; "" = none does.

    Where the specification has moved it, too, all is well: it gets the code of its new place.
    """
    root = running.tree.root_id
    before = _places(running.app, root)
    for name, path in _places(app, root).items():
        server = node.loop.dispatcher.whereis(name)
        child = None if server is None else node.applications.child_of(server)
        if child is not None and child.path != path == before.get(name):
            return (
                f"server {name!r} was migrated to {child.path!r}, and the release has it at "
                f"{path!r}; migrate it back, or let the release have it there"
            )
    return ""


def _places(app: Application, root: str) -> dict[str, str]:
    """Where an application's specification has its workers, by their names."""
    found = walk(app.tree, root)
    return {spec.name: path for path, spec in found if isinstance(spec, Worker)}


def made(node: Node, wish: Wish, spec: Any) -> Any:
    """Make an instance of a worker's new code.

    Raises:
        UpgradeFailed: Its constructor raised.
    """
    with failing(str(wish.release), spec.name):
        return node.host.make_instance(spec)


def new_kinds(changes: list[tuple[Running, Application]]) -> frozenset[int]:
    """Return the ids of what servers will be made of, and were not before."""
    before = {id(worker.server) for running, _ in changes for worker in workers(running.app.tree)}
    after = {id(worker.server) for _, app in changes for worker in workers(app.tree)}
    return frozenset(after - before)


def put_specs(
    node: Node,
    wish: Wish,
    changes: list[tuple[Running, Application]],
    added: list[str],
    stopped: list[Known],
) -> Callable[[], None]:
    """Put specifications in place, and states of servers that do not run.

    Args:
        node: Whose.
        wish: What for.
        changes: Which applications, and what they become.
        added: Gets the paths of children that are new.
        stopped: Gets what was known of those servers.

    Returns:
        What puts everything back.

    Raises:
        UpgradeRefused, UpgradeFailed, SpecError: Everything is as it was.
    """
    undo: Undo = []
    if node.journal is not None:
        node.journal.build_dirty()  # while the code is there that they failed with

    def put_back() -> None:
        for step in reversed(undo):
            step()
        added.clear()
        stopped.clear()

    try:
        for running, app in changes:
            _put_application(node.applications, running, app, added, undo)
            stopped.extend(_put_stopped(node, wish, app, undo))
    except BaseException:
        put_back()
        raise
    return put_back


def _put_application(
    applications: Applications, running: Running, app: Application, added: list[str], undo: Undo
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
    undo.append(put_edges(running.ports, app))
    undo.append(partial(applications.replace, running, before))
    applications.replace(running, app)


def _put_stopped(node: Node, wish: Wish, app: Application, undo: Undo) -> Iterator[Known]:
    """Journaled servers that do not run: the snapshot holds their states, too.

    Yields:
        What was known of one that has another state now.
    """
    journal = node.journal
    if journal is None:
        return
    named = [(worker, worker.name) for worker in workers(app.tree)]
    for family in families(app.tree):
        template = family.children[0]
        assert isinstance(template, Worker)
        if template.journal:
            named += [(template, name) for name in journal.numbers if has_name(family, name)]
    for worker, name in named:
        known = journal.remembered(name)
        if known is None or node.loop.dispatcher.whereis(name) is not None:
            continue
        if _put_state(node, wish, worker, known, name, undo):
            yield known


def _put_state(
    node: Node, wish: Wish, worker: Worker[Any, Any], known: Known, name: str, undo: Undo
) -> bool:
    """One of them, or a member of a family; whether it has another state. What sleeps sleeps on."""
    journal = node.journal
    assert journal is not None
    old: Any = getattr(known.dump, "__self__", None)
    new = made(node, wish, worker)
    migration = wish.release.migrations.get(worker.name)
    with failing(str(wish.release), name):
        is_member = old is not None and name != worker.name
        if is_member and _is_lazy(old, new, migration, is_down=wish.is_down):
            return False
        is_asleep = type(known.state) is Asleep
        state = journal.hibernation.read(name, known) if is_asleep else known.state
    if old is None or known.is_dirty:
        raise refused(wish, f"server {name!r} has crashed and waits for its restart; try again")
    values = journal.values_named(name)
    restore = (lambda: known.state) if is_asleep else kept(old, state, values)
    undo.append(partial(_put_state_back, journal, name, known, restore, values))
    new.context = old.context
    with failing(str(wish.release), name):
        state = changed_state(name, old, new, state, migration, wish.extra, is_down=wish.is_down)
    journal.remember(name, replace(known, state=state, dump=new.dump, version=version_of(new)))
    journal.set_values(name, make_values(name, new))
    if is_asleep:
        journal.hibernation.lay_down(name)
    return True


def _is_lazy(old: Any, new: Any, migration: Migration[Any, Any] | None, *, is_down: bool) -> bool:
    """Whether a member's state can wait for its next start: very many may sleep."""
    way = way_of(old, new, migration, is_down=is_down)
    return way is Way.SAME or way is Way.UPCAST


def _put_state_back(
    journal: NodeJournal, name: str, known: Known, restore: Callable[[], Any], values: Values
) -> None:
    changed = journal.remembered(name)
    if changed is None or journal.node.loop.dispatcher.whereis(name) is not None:
        return  # forgotten, or started meanwhile
    if changed is not known:
        journal.hibernation.drop(changed)
    known.state = restore()
    journal.remember(name, known)
    journal.set_values(name, values)


def upgrade_of_one(
    node: Node,
    name: str,
    kind: Callable[[], Any],
    extra: Any,
    done: Callable[[BaseException | None], None],
) -> Upgrade:
    """Return what gives one suspended server, and its specification, other code.

    Raises:
        NoProc: No server has this name, or it is in no tree.
        UpgradeRefused: It is not suspended.
    """
    server = node.loop.dispatcher.whereis(name)
    child = None if server is None else node.applications.child_of(server)
    if server is None or child is None:
        raise NoProc(name)
    what = f"other code of {name!r}"
    if server.control is None or not server.control.is_suspended:
        raise UpgradeRefused(what, "it is not suspended; sys.suspend it first")
    before = child.spec
    assert isinstance(before, Worker)
    worker = before.with_server(kind)
    with failing(what, name):
        instance: Any = node.host.make_instance(worker)

    def put() -> Callable[[], None]:
        child.spec = worker
        return partial(setattr, child, "spec", before)

    target = Target(server, worker, None, instance)
    return Upgrade(node.host, what, [target], put, done, extra=extra)

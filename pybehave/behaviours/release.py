"""A release: an application's next version, and how states get there and back.

Theory. A running application has a version; a release says which versions it may follow, and by
which way each server's state becomes what the new code wants. Ways, the first that is there counts:

| way          | up: old code's state to the new code      | down: the way back                    |
|--------------|-------------------------------------------|---------------------------------------|
| MIGRATION    | `Migration.up(state)`                     | `Migration.down(state)`               |
| CODE_CHANGE  | new code's `code_change(version, ...)`    | running code's `code_change(("down",  |
|              |                                           | version), ...)`                       |
| SAME         | both classes have the same `version`: the state as it is                          |
| UPCAST       | `dump`, `upcast_state` for each version   | there is none                         |
|              | between, `load`                           |                                       |
| SIDES        | each side of a combination by a way of its own                                    |

Invariants
  (L1) A server whose `version` changes needs one of them: nothing is passed on by guess.
  (L2) Whether there is a way is known before anything is touched.

Does not know: nodes, the journal, how code is imported, when servers are suspended.
Source: OTP sasl, appup and release_handler: instructions for up and down; stdlib, gen_server,
code_change/3; otp.md section 6.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final, Generic, TypeVar, final

from pybehave.behaviours.application import Application
from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.combined import Combined
from pybehave.behaviours.gen_event import GenEvent
from pybehave.behaviours.gen_server import GenServer, replaced_state, shown_state
from pybehave.behaviours.gen_statem import GenStatem
from pybehave.behaviours.rules import refused
from pybehave.behaviours.schema import Schema, is_version, version_of
from pybehave.behaviours.supervisor import Supervisor, walk, workers
from pybehave.errors import BadReturn, SpecError, show

Old = TypeVar("Old")
New = TypeVar("New")

ONLY_BY_MIGRATION: Final = (
    "only a Migration leads from one to the other, and only a Release has Migrations: use one"
)
"""Also for who has no release at all: `sys.change_code` gives other code to a single server."""

DOWN: Final = "down"
"""Begins the old version that `code_change` gets on the way back (OTP)."""


@final
@dataclass(frozen=True)  # no slots: Migration[Old, New](...) could not be made
class Migration(Generic[Old, New]):
    """How one server's state gets from a version to the next, and back.

    Attributes:
        up: Returns the new state; it must leave the old one as it is.
        down: Returns the old state; None: there is no way back, and so no automatic rollback.
    """

    up: Callable[[Old], New]
    down: Callable[[New], Old] | None = None


@final
@dataclass(frozen=True, slots=True, init=False)
class Release:
    """A version of an application, and which versions it may follow on a running node.

    Attributes:
        app: The application as it is to be.
        upgrades: Versions from which an upgrade may come; a compiled regular expression stands for
            all that it matches from end to end (OTP, appup).
        migrations: By the name of a worker (of a template: the template's).

    Raises:
        SpecError: A field is not what it may be, or the tree has no worker of such a name.
    """

    app: Application
    upgrades: tuple[str | re.Pattern[str], ...]
    migrations: Mapping[str, Migration[Any, Any]]

    def __init__(
        self,
        app: Application,
        *,
        upgrades: str | re.Pattern[str] | Sequence[str | re.Pattern[str]],
        migrations: Mapping[str, Migration[Any, Any]] | None = None,
    ) -> None:
        path = f"Release {show(getattr(app, 'name', app))}"
        if not isinstance(app, Application):
            raise refused(path, "app", app, "an Application")
        versions = upgrades if isinstance(upgrades, list | tuple) else (upgrades,)
        if not versions or not all(map(_is_version_or_pattern, versions)):
            raise refused(
                path, "upgrades", upgrades, "versions, or compiled regular expressions of str"
            )
        if app.version in versions:
            raise refused(
                path, "upgrades", upgrades, f"versions other than its own, {app.version!r}"
            )
        migrations = dict(migrations or {})
        names = {worker.name for worker in workers(app.tree)}
        for name, migration in migrations.items():
            if name not in names:
                raise SpecError(path, f"migrations[{show(name)}]: the tree has no such worker")
            if not isinstance(migration, Migration):
                raise refused(path, f"migrations[{name!r}]", migration, "a Migration")
        for key, value in (("app", app), ("upgrades", tuple(versions)), ("migrations", migrations)):
            object.__setattr__(self, key, value)

    def follows(self, version: str) -> bool:
        """Whether an upgrade may come from a version."""
        return any(
            each == version if isinstance(each, str) else each.fullmatch(version)
            for each in self.upgrades
        )

    def __str__(self) -> str:
        return f"{self.app.name} {self.app.version}"


def _is_version_or_pattern(value: object) -> bool:
    if isinstance(value, re.Pattern):
        return isinstance(value.pattern, str)
    return isinstance(value, str)


class Way(Enum):
    """How a state gets to other code; the table is in the module's header."""

    MIGRATION = "migration"
    CODE_CHANGE = "code_change"
    SAME = "same"
    UPCAST = "upcast"
    SIDES = "sides"


def way_of(old: Any, new: Any, migration: Migration[Any, Any] | None, *, is_down: bool) -> Way:
    """Return by which way a server's state gets from an instance to another (L2).

    Args:
        old: The instance that runs.
        new: The instance that is to run.
        migration: Of the release, up or down.
        is_down: Whether `old` is the newer one.

    Raises:
        LookupError: There is none; says what to define (L1).
    """
    if migration is not None:
        if is_down and migration.down is None:
            raise LookupError("its Migration has no down, so there is no way back")
        return Way.MIGRATION
    asked = old if is_down else new
    if family_of(old) is not family_of(new):
        raise LookupError(
            f"{type(old).__qualname__} is a {family_of(old).__name__}, "
            f"{type(new).__qualname__} a {family_of(new).__name__}: {ONLY_BY_MIGRATION}"
        )
    if changes_code(asked):
        return Way.CODE_CHANGE
    if isinstance(old, Combined) or isinstance(new, Combined):
        for before, after in paired(old, new):
            way_of(before, after, None, is_down=is_down)
        return Way.SIDES
    before, after = version_of(old), version_of(new)
    if before == after:
        return Way.SAME
    kind = type(asked).__qualname__
    for version in (before, after):
        if not is_version(version):
            raise LookupError(f"version={show(version)} is not allowed; use an integer >= 1")
    if not is_down and before < after and upcasts_state(new):
        return Way.UPCAST
    raise LookupError(
        f"{kind} is version {version_of(asked)} and has nothing that leads from version {before} "
        f"to version {after}: define code_change, or upgrade to a Release with a Migration of it"
    )


def family_of(instance: Any) -> type:
    """The behaviour, which says what form its state has."""
    families = (GenStatem, GenEvent)
    return next((each for each in families if isinstance(instance, each)), GenServer)


def changed_state(
    server: str,
    old: Any,
    new: Any,
    state: Any,
    migration: Migration[Any, Any] | None,
    extra: Any = None,
    *,
    is_down: bool = False,
) -> Any:
    """Return a server's state as another instance wants it.

    Args:
        server: Its name, for errors.
        old: The instance that runs.
        new: The instance that is to run.
        state: What the runtime keeps for `old`.
        migration: Of the release, or None.
        extra: For `code_change`.
        is_down: Whether `old` is the newer one.

    Raises:
        LookupError: There is no way.
        BadReturn: The way's code returned None in the place of a state.
        BaseException: Whatever the way's code raises.
    """
    match way_of(old, new, migration, is_down=is_down):
        case Way.MIGRATION:
            assert migration is not None
            function = migration.down if is_down else migration.up
            assert function is not None
            before = shown_state(old, state)
            shown = _returned(server, "its Migration", before, function(before))
            if isinstance(new, GenEvent):
                state = new._adopted(state)  # a copy, with handlers of the new code
            state = replaced_state(new, state, shown)
        case Way.CODE_CHANGE:
            version = version_of(new if is_down else old)
            changed = _code_changed(old if is_down else new, version, state, extra, is_down=is_down)
            state = _returned(server, "code_change", state, changed)
        case Way.UPCAST:
            dumped = Schema(server, new).state(version_of(old), old.dump(state), "its state")
            return new.load(dumped)
        case Way.SIDES:
            changed_side = partial(changed_state, server, is_down=is_down)
            sides = zip(paired(old, new), state, strict=True)
            return tuple(changed_side(*pair, own, None, extra) for pair, own in sides)
        case Way.SAME:
            pass
    return new._adopted(state) if isinstance(new, GenServer) else state


def paired(old: Any, new: Any) -> list[tuple[Any, Any]]:
    """Return the sides of two combinations, each with what it becomes.

    Raises:
        LookupError: They do not have the same number of sides.
    """
    sides = [each._parts if isinstance(each, Combined) else () for each in (old, new)]
    if len(sides[0]) != len(sides[1]):
        raise LookupError(
            f"{type(old).__qualname__} and {type(new).__qualname__} do not have the same sides: "
            f"{ONLY_BY_MIGRATION}"
        )
    return list(zip(*sides, strict=True))


def _returned(server: str, function: str, before: Any, after: Any) -> Any:
    """A migration that has no `return` would lose the state, and nobody would hear of it.

    Raises:
        BadReturn: There was a state, and there is none.
    """
    if after is None and before is not None:
        raise BadReturn(server, function, None, "return the new state; an empty one is not None")
    return after


def led_on(
    server: str, instance: Any, version: int, dumped: Any, migration: Migration[Any, Any] | None
) -> Any:
    """Return what a snapshot has of an older version, as `load` wants it today; for a check, where
    no instance of the older code is to be had.

    Args:
        server: Its name, for errors.
        instance: Of the new code, which loads what `dump` of the older one returned.
        version: The older one.
        dumped: What it returned.
        migration: Of the release; None: the class has a code_change.

    Raises:
        BadReturn: The way's code returned None in the place of a state.
        BaseException: Whatever the way's code raises.
    """
    state = instance.load(dumped)
    if migration is not None:
        before = shown_state(instance, state)
        shown = _returned(server, "its Migration", before, migration.up(before))
        state = replaced_state(instance, state, shown)
    else:
        changed = _code_changed(instance, version, state, None, is_down=False)
        state = _returned(server, "code_change", state, changed)
    return instance.dump(instance._adopted(state) if isinstance(instance, GenServer) else state)


def upcasts_state(instance: Any) -> bool:
    """Whether a class has an upcast_state of its own."""
    own = getattr(type(instance), "upcast_state", None)
    return own not in (None, GenServer.upcast_state, GenStatem.upcast_state)


def changes_code(instance: Any) -> bool:
    """Whether a class has a code_change; a GenEvent asks those of its handlers."""
    own = getattr(type(instance), "code_change", None)
    return isinstance(instance, GenEvent) or own not in (
        None,
        GenServer.code_change,
        GenStatem.code_change,
    )


def _code_changed(asked: Any, version: int, state: Any, extra: Any, *, is_down: bool) -> Any:
    old_version = (DOWN, version) if is_down else version
    if isinstance(asked, GenServer):
        return asked._code_changed(old_version, state, extra)
    return asked.code_change(old_version, state, extra)


def supervisors_of(tree: Supervisor, root_id: str) -> Iterator[tuple[str, Supervisor]]:
    """Yield the supervisors of a tree and their paths, each before those below it."""
    for path, node in walk(tree, root_id):
        if isinstance(node, Supervisor):
            yield path, node


def spec_of(supervisor: Supervisor, child_id: str) -> Worker[Any, Any] | None:
    """Return what a supervisor's specification says of a worker; None = it knows none."""
    if supervisor.is_simple:
        template = supervisor.children[0]
        assert isinstance(template, Worker)
        return template
    for known, spec in zip(supervisor.child_ids, supervisor.children, strict=True):
        if known == child_id:
            return spec if isinstance(spec, Worker) else None
    return None


def listener_changes(before: Application, after: Application) -> str:
    """Say what makes an application's listeners others than before; "" = nothing does."""
    old = [(each.url, each.to, type(each.protocol).__qualname__) for each in before.listeners]
    new = [(each.url, each.to, type(each.protocol).__qualname__) for each in after.listeners]
    if old == new:
        return ""
    changed = next((each for each in new if each not in old), None)
    if changed is None:
        changed = next((each for each in old if each not in new), old[0])
    return f"{changed[0]!r} to {changed[1]!r}, {changed[2]}"

"""What an older version has written, read as an upgrade of a running node would take it over.

Theory. At a start, newer code reads old inputs by `upcast` and old states by `upcast_state`. At an
upgrade it steps no old input, and states come by a `Migration` or `code_change`: a release that is
made for that alone has neither of the two. Whoever steps a journal with it before (`pybehave
release check`) takes inputs as they are where the class has no `upcast`, for it says nothing of
another shape; states come by the way of the release. Outcomes are compared then.

Invariants
  (C1) A class without any way from the older version is refused as at a start: its upgrade is, too.
  (C2) Nothing is guessed: a state that only the older class could load is `Uncheckable`, and so are
       inputs of a combination of which some sides have an `upcast` and others need one.

Does not know: the journal, servers that run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from pybehave.behaviours.combined import Combined
from pybehave.behaviours.gen_event import GenEvent
from pybehave.behaviours.gen_server import GenServer, overrides
from pybehave.behaviours.gen_statem import GenStatem
from pybehave.behaviours.release import (
    Migration,
    changes_code,
    family_of,
    led_on,
    upcasts_state,
)
from pybehave.behaviours.schema import Schema, version_of
from pybehave.behaviours.sides import versions_of
from pybehave.errors import CodeRefused, JournalRefused, show_reason


class Uncheckable(JournalRefused):
    """What the journal holds says nothing of whether the code may follow (C2)."""


@final
class UpgradeSchema(Schema):
    """A `Schema` for code that a running node is to be upgraded to.

    Args:
        server: The server's name.
        instance: The server, of the new code.
        migrations: Of the release.
    """

    def __init__(
        self, server: str, instance: Any, migrations: Mapping[str, Migration[Any, Any]]
    ) -> None:
        super().__init__(server, instance)
        self._migration = migrations.get(server)

    def is_alike(self, version: int) -> bool:
        """Whether inputs of an older version are taken as they are (C1)."""
        if version == self.version or _upcasts(self.instance, version):
            return False
        return self._migration is not None or _has_way(self.instance, version)

    def message(self, version: int, message: Any, what: str) -> Any:
        """Return an input as it is, or what `upcast` makes of it; see `Schema.message`.

        Raises:
            Uncheckable: Some sides of a combination have an `upcast`, and others need one.
        """
        if self.is_alike(version):
            return message
        if _has_way(self.instance, version) and not self.instance._has_upcast(version):
            raise Uncheckable(
                f"server {self.server!r}",
                f"{what} is of version {version}, and some sides of {self.kind} have an upcast, "
                f"others that are newer have none: define upcast(self, version, message) there",
            )
        return super().message(version, message, what)

    def state(self, version: int, dumped: Any, what: str) -> Any:
        """Return what `load` is to be given; see `Schema.state`.

        Raises:
            Uncheckable: Only the older class could load it, or it was another behaviour.
        """
        instance = self.instance
        if not self._is_led(version):
            return super().state(version, dumped, what)
        if (
            isinstance(instance, Combined)
            and self._migration is None
            and not changes_code(instance)
        ):
            sides = zip(_sides(instance, version), dumped, strict=True)
            return [
                UpgradeSchema(self.server, part, {}).state(before, own, what)
                for (part, before), own in sides
            ]
        was, wants = _written_by(dumped), family_of(instance)
        if was is not wants:
            raise Uncheckable(
                f"server {self.server!r}",
                f"{what} is of a {was.__name__}, and {self.kind} is a {wants.__name__}: it takes "
                f"other inputs",
            )
        if _loads(instance):
            raise Uncheckable(
                f"server {self.server!r}",
                f"{what} is what the dump of version {version} returned, and {self.kind} has a "
                f"load of its own: only upcast_state(self, version, dumped) could read it",
            )
        try:
            return led_on(self.server, instance, version, dumped, self._migration)
        except Exception as error:
            way = f"{self.kind}.code_change" if self._migration is None else "its Migration"
            raise CodeRefused(
                f"server {self.server!r}",
                f"{way} of version {version} raised {show_reason(error)} on {what}",
            ) from error

    def _is_led(self, version: int) -> bool:
        """Whether a state comes by the release's way, for nothing reads it at a start."""
        if version == self.version or upcasts_state(self.instance):
            return False
        return self._migration is not None or _has_way(self.instance, version)


def _has_way(instance: Any, version: int) -> bool:
    """Whether the class itself has a way from that version for a server that runs."""
    if version == version_of(instance) or changes_code(instance) or upcasts_state(instance):
        return True
    return isinstance(instance, Combined) and all(
        own and _has_way(part, own) for part, own in _sides(instance, version)
    )


def _upcasts(instance: Any, version: int) -> bool:
    """Whether an `upcast` says what is different in inputs of that version."""
    if isinstance(instance, Combined):
        return any(own and _upcasts(part, own) for part, own in _sides(instance, version))
    return version != version_of(instance) and bool(instance._has_upcast(version))


def _written_by(dumped: Any) -> type:
    """The behaviour whose `dump` gives what has such keys."""
    keys = set(dumped) if isinstance(dumped, dict) else set()
    if keys >= {"state", "data", "postponed", "timeouts", "modules"}:
        return GenStatem
    return GenEvent if keys >= {"ring", "handlers", "is_flushing"} else GenServer


def _loads(instance: Any) -> bool:
    """Whether what `dump` returns is another thing than the state."""
    if isinstance(instance, Combined):
        return any(_loads(part) for part in instance._parts)
    if isinstance(instance, GenStatem):
        return type(instance).load_data is not GenStatem.load_data
    return not isinstance(instance, GenEvent) and overrides(instance, "load")


def _sides(instance: Combined, version: int) -> list[tuple[Any, int]]:
    """Each side, and of which version it was; 0 = there was none."""
    return list(zip(instance._parts, versions_of(instance.sides, version), strict=True))

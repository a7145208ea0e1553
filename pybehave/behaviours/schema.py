"""Which version of a server's class wrote an input or a state, and how it becomes today's.

Theory. Inputs and states outlive the code that made them. A class says by a number, its `version`,
which shape of both it wants; the journal keeps the number beside what that version wrote. A class
of version 3 that meets an input of version 1 is asked for `upcast(1, input)` and then for
`upcast(2, ...)` of what that gave: a chain of small functions, each written once and not touched
again.

A declared type is journaled under its name, and `aliases` says what a name meant before: the class
has another name today (a plain alias), or the name has another class (an alias up to a version).

Invariants
  (V1) Nothing is guessed and nothing is left out: a version above the class's own is refused.
  (V2) What `upcast` or `upcast_state` raises is a refusal that names the server and the input.
  (V3) A name that a class in `types` has today means that class in what today's version wrote.

Does not know: bytes, files, when anything is read.
Source: the upcasters of event-sourced systems; M. Overeem et al., "The Dark Side of Event
Sourcing: Managing Data Conversion" (2017).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from pybehave.errors import CodeRefused, SpecError, show, show_reason
from pybehave.together import Together

VERSION_FIRST: Final = 1
"""Of classes that say nothing, and of journals from before versions were kept."""


class Schema:
    """The versions of one server, as its class declares them: `version` and `aliases`.

    Args:
        server: The server's name, for errors.
        instance: The server.

    Raises:
        SpecError: A declaration is not allowed.
    """

    def __init__(self, server: str, instance: Any) -> None:
        self.server = server
        self.instance = instance
        self.kind = type(instance).__qualname__
        self.version = version_of(instance)
        self._aliases: Mapping[Any, type] = getattr(instance, "aliases", {})
        taken = {kind.__qualname__ for kind in getattr(instance, "types", ())}
        self._check("version", self.version, is_version(self.version), "an integer >= 1")
        self._check(
            "aliases",
            self._aliases,
            isinstance(self._aliases, Mapping)
            and all(
                isinstance(kind, type) and self._is_alias(key, taken)
                for key, kind in self._aliases.items()
            ),
            "a dict to classes: from names that no class in `types` has, or from (name, version) "
            "with a version below the class's own",
        )

    def _is_alias(self, key: Any, taken: set[str]) -> bool:
        if isinstance(key, str):
            return key not in taken
        return (
            isinstance(key, tuple)
            and len(key) == 2
            and isinstance(key[0], str)
            and is_version(key[1])
            and key[1] < self.version
        )

    def _check(self, name: str, value: object, is_allowed: bool, allowed: str) -> None:
        if not is_allowed:
            path = f"Server {self.server!r} of class {self.kind}"
            raise SpecError(path, f"{name}={show(value)} is not allowed; use {allowed}")

    def check(self, version: int, lsn: int) -> None:
        """Make sure that the class is not older than who wrote (V1).

        Args:
            version: Of the class that wrote.
            lsn: Where in the journal that begins, for the error.

        Raises:
            CodeRefused: It is newer; names both.
        """
        if not self.instance._understands(version):
            raise CodeRefused(
                f"server {self.server!r}",
                f"version {version} of its class has written the journal from lsn {lsn} on, but "
                f"{self.kind} is version {self.version}; start the newer code",
            )

    def check_upcast(self, version: int) -> None:
        """Make sure that there is an `upcast` for what a version is given.

        Raises:
            CodeRefused: Inputs of that version could not be read.
        """
        if not self.instance._has_upcast(version):
            raise CodeRefused(
                f"server {self.server!r}",
                f"{self.kind} is version {self.version} and version {version} takes its inputs "
                f"until then, which it could not read: define upcast(self, version, message)",
            )

    def is_alike(self, version: int) -> bool:
        """Whether inputs of an older version are taken as they are, and their outcomes compared: at
        a start they are not (upgrade_schema.py).
        """
        return False

    def names(self, version: int) -> dict[str, type]:
        """Return the classes of the names that a version knew, where `types` does not say (V3).

        Args:
            version: Which; today's gives the plain aliases.
        """
        found: dict[str, type] = self.instance._names(version)
        return found

    def message(self, version: int, message: Any, what: str) -> Any:
        """Return an input as today's code wants it.

        Args:
            version: Of the class that it was given to.
            message: The input.
            what: How it is called in the error: "the input of lsn 7".

        Raises:
            CodeRefused: `upcast` raised (V2).
        """
        if isinstance(message, Together):
            return Together(self.message(version, each, what) for each in message.commands)
        return self._applied("upcast", self.instance._upcast, version, message, what)

    def state(self, version: int, dumped: Any, what: str) -> Any:
        """Return what `dump` had returned as today's `load` wants it; see `message`."""
        return self._applied("upcast_state", self.instance._upcast_state, version, dumped, what)

    def _applied(
        self, name: str, upcast: Callable[[int, Any], Any], version: int, value: Any, what: str
    ) -> Any:
        for old in self.instance._versions_from(version):
            try:
                value = upcast(old, value)
            except Exception as error:
                raise CodeRefused(
                    f"server {self.server!r}",
                    f"{self.kind}.{name} of version {old} raised {show_reason(error)} on {what}; "
                    f"mend it and start again: nothing is left out",
                ) from error
        return value


def names_of(aliases: Mapping[Any, type], version: int) -> dict[str, type]:
    """Return what names meant to a version, by a class's `aliases`; see `Schema.names`."""
    found = {key: kind for key, kind in aliases.items() if isinstance(key, str)}
    bounded = sorted(
        ((key[1], key[0], kind) for key, kind in aliases.items() if key not in found),
        key=lambda alias: alias[:2],
        reverse=True,
    )
    found.update({name: kind for up_to, name, kind in bounded if version <= up_to})
    return found


def version_of(instance: object) -> int:
    """Return the version that a server's class declares.

    Args:
        instance: The server, or its class.
    """
    version: int = getattr(instance, "version", VERSION_FIRST)
    return version


def is_version(value: object) -> bool:
    """Say whether a value can be a version."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= VERSION_FIRST

"""Versions of what clients say and hear: how old ones are understood by new code.

Theory. Server and clients are not changed in one moment. A listener says by a number which version
of inputs and outputs its server speaks; a connection speaks one version, too: that of the listener
when it was accepted, or the one that its client declares. Where the two differ, a chain of small
functions stands between them, one `Bridge` from each version to the next:

    client of version 1 -> bridges[1].up_input -> bridges[2].up_input -> server of version 3
    client of version 1 <- bridges[1].down_output <- bridges[2].down_output <- its reply

A release that is taken back leaves clients of the newer version behind. They are understood by the
inverse functions (`down_input`, `up_output`), where the newer release has them.

Invariants
  (S1) A server is given inputs of its own version only, and a client outputs of its own.
  (S2) There is a bridge for each step from the oldest version to today's: nothing is guessed.
  (S3) Conversion is not journaled: an input is recorded as the server gets it, its outcome as the
       server gave it, so that a replay needs no bridge.

Does not know: connections, bytes, when a release changes.
Source: J. Armstrong's and S. Andersson's notes on hot code swapping ask for both directions; the
chain is that of schema.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, final

from pybehave.behaviours.rules import refused
from pybehave.errors import DecodeError, EncodeError, SpecError, show
from pybehave.once import Once
from pybehave.together import Together

OldInput = TypeVar("OldInput")
NewInput = TypeVar("NewInput")
OldOutput = TypeVar("OldOutput")
NewOutput = TypeVar("NewOutput")

VERSION_FIRST: Final = 1
"""Of a listener that says nothing."""

VERSION_MAX: Final = 65_535
"""More than one a day for a century; a bound, so that a connection can keep its own in a word."""


@final
@dataclass(frozen=True)  # no slots: Bridge[...](...) could not be made
class Bridge(Generic[OldInput, NewInput, OldOutput, NewOutput]):
    """What stands between a version of a listener's messages and the next one.

    Attributes:
        up_input: Makes an input of the newer version; what it raises is told to the client as
            undecodable.
        down_output: Makes an output of the older version. What it raises is a crash of the server,
            as if its output had no form in the protocol.
        down_input, up_output: The same in the other direction: with both, clients of the newer
            version stay when the release is taken back; with none, their connections end then.

    Raises:
        SpecError: A field is no function, or only one of the last two is given.
    """

    up_input: Callable[[OldInput], NewInput]
    down_output: Callable[[NewOutput], OldOutput]
    down_input: Callable[[NewInput], OldInput] | None = None
    up_output: Callable[[OldOutput], NewOutput] | None = None

    def __post_init__(self) -> None:
        for name in ("up_input", "down_output"):
            if not callable(getattr(self, name)):
                raise refused("Bridge", name, getattr(self, name), "a function of one value")
        for name in ("down_input", "up_output"):
            if not (getattr(self, name) is None or callable(getattr(self, name))):
                raise refused("Bridge", name, getattr(self, name), "a function of one value")
        if (self.down_input is None) != (self.up_output is None):
            raise SpecError("Bridge", "give both down_input and up_output, or none of them")

    @property
    def leads_back(self) -> bool:
        """Whether clients of the newer version are understood by the older one."""
        return self.down_input is not None


@final
@dataclass(frozen=True, slots=True)
class Speaks:
    """Which version of a listener's messages its server speaks, and which others are understood.

    Attributes:
        version: Today's; an integer >= 1.
        bridges: By the older version: from each to the next, up to today's, without a gap.
        assumed: The version of a client that declares none; None is today's.
        declares: Called with each decoded input: the version that it declares for itself and for
            all that follow on its connection, or None. The input then goes to the server like any
            other.

    Raises:
        SpecError: A field is not what it may be, or the bridges leave a gap.
    """

    version: int = VERSION_FIRST
    bridges: Mapping[int, Bridge[Any, Any, Any, Any]] | None = None
    assumed: int | None = None
    declares: Callable[[Any], int | None] | None = None

    def __post_init__(self) -> None:
        path = "Speaks"
        if not _is_version(self.version):
            allowed = f"an integer from {VERSION_FIRST} to {VERSION_MAX}"
            raise refused(path, "version", self.version, allowed)
        if not isinstance(self.bridges, Mapping | None):
            raise refused(path, "bridges", self.bridges, "a dict of Bridge by the older version")
        for version, bridge in (self.bridges or {}).items():
            if not _is_version(version) or not version < self.version:
                allowed = f"a version below {self.version} as the key"
                raise refused(path, "bridges", version, allowed)
            if not isinstance(bridge, Bridge):
                raise refused(path, f"bridges[{version}]", bridge, "a Bridge")
        for version in range(self.oldest, self.version):
            if version not in (self.bridges or {}):
                raise SpecError(
                    path,
                    f"bridges: there is none from version {version} to version {version + 1}; give "
                    f"one for each step from the oldest to today's",
                )
        if self.assumed is not None and not self.understands(self.assumed):
            allowed = f"a version from {self.oldest} to {self.version}, or None"
            raise refused(path, "assumed", self.assumed, allowed)
        if not (self.declares is None or callable(self.declares)):
            raise refused(path, "declares", self.declares, "a function of an input, or None")

    @property
    def oldest(self) -> int:
        """The oldest version that is understood."""
        return min(self.bridges or {}, default=self.version)

    def understands(self, version: Any) -> bool:
        """Say whether clients of a version are understood."""
        return _is_version(version) and self.oldest <= version <= self.version


@final
class Edge:
    """What stands between a server and the clients of one listener.

    Args:
        speaks: What the listener says; None = version 1, and nothing else.
        before: What stood there until now. When that was of a newer version, its bridges lead back.

    Attributes:
        version: That the server speaks.
        greeting: That of a new connection.
        declares: As of `Speaks`.
    """

    def __init__(self, speaks: Speaks | None = None, before: Edge | None = None) -> None:
        speaks = Speaks() if speaks is None else speaks
        self.speaks = speaks
        self.version = speaks.version
        self.greeting = speaks.version if speaks.assumed is None else speaks.assumed
        self.declares = speaks.declares
        self._bridges = dict(speaks.bridges or {})
        if before is not None:
            newer = {key: each for key, each in before._bridges.items() if key >= self.version}
            self._bridges |= newer

    def understands(self, version: int) -> bool:
        """Say whether a client's version can be brought to the server's, and its outputs back."""
        if version <= self.version:
            return self.speaks.understands(version)
        steps = [self._bridges.get(each) for each in range(self.version, version)]
        return all(each is not None and each.leads_back for each in steps)

    def declared(self, message: Any) -> int:
        """Return the version that an input declares; 0 = none.

        Raises:
            DecodeError: `declares` raised, or that version is not understood.
        """
        if isinstance(message, Once):
            message = message.request
        if isinstance(message, Together):
            found = {self.declared(each) for each in message.commands} - {0}
            if len(found) > 1:
                raise DecodeError(f"one input declares the versions {sorted(found)}")
            return max(found, default=0)
        assert self.declares is not None
        try:
            version = self.declares(message)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # as a step's: it ends one input, and not the loop
            raise DecodeError(f"{type(error).__name__}: {error}") from error
        if version is None:
            return 0
        if not _is_version(version) or not self.understands(version):
            raise DecodeError(
                f"version {show(version)} is not spoken here; {self.speaks.oldest} to "
                f"{self.version} are"
            )
        return version

    def up(self, version: int, message: Any) -> Any:
        """Return a client's input as the server wants it (S1).

        Raises:
            DecodeError: There is no way, or the way's code raised.
        """
        if isinstance(message, Together):
            return Together(self.up(version, each) for each in message.commands)
        try:
            for function in self._inputs(version):
                message = function(message)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise DecodeError(
                f"an input of version {version} does not become one of version {self.version}: "
                f"{type(error).__name__}: {error}"
            ) from error
        return message

    def down_all(self, version: int, outputs: list[Any]) -> list[Any]:
        """`down` for the outputs of a `Together`."""
        return [self.down(version, each) for each in outputs]

    def down(self, version: int, output: Any) -> Any:
        """Return a server's output as a client of that version wants it (S1).

        Raises:
            EncodeError: There is no way, or the way's code raised.
        """
        made = output
        try:
            for function in self._outputs(version):
                made = function(made)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise EncodeError(
                output,
                f"it does not become one of version {version}: {type(error).__name__}: {error}",
            ) from error
        return made

    def _inputs(self, version: int) -> list[Callable[[Any], Any]]:
        if version <= self.version:
            return [self._bridge(each).up_input for each in range(version, self.version)]
        return [
            _there(self._bridge(each).down_input, each)
            for each in reversed(range(self.version, version))
        ]

    def _outputs(self, version: int) -> list[Callable[[Any], Any]]:
        if version <= self.version:
            steps = reversed(range(version, self.version))
            return [self._bridge(each).down_output for each in steps]
        return [_there(self._bridge(each).up_output, each) for each in range(self.version, version)]

    def _bridge(self, version: int) -> Bridge[Any, Any, Any, Any]:
        if version not in self._bridges:
            raise LookupError(f"there is no bridge between versions {version} and {version + 1}")
        return self._bridges[version]


def _there(function: Callable[[Any], Any] | None, version: int) -> Callable[[Any], Any]:
    if function is None:
        raise LookupError(f"the bridge does not lead back from version {version + 1}")
    return function


def _is_version(value: Any) -> bool:
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return is_int and VERSION_FIRST <= value <= VERSION_MAX

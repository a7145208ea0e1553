# ruff: noqa: N818 -- facts, not "...Error", as in errors.py
"""The exceptions of releases. Their name for the world is `pybehave.errors`, which has them all.

Does not know: nodes, code; it only names what went wrong with them.
"""

from __future__ import annotations

from pybehave.error_base import PybehaveError, show_reason


class UpgradeRefused(PybehaveError):
    """A running node was not taken to another release; nothing was changed.

    Attributes:
        release: Name and version of the release, as "kv 2".
        detail: Why not, and what to do about it.
    """

    def __init__(self, release: str, detail: str) -> None:
        super().__init__(f"No upgrade to {release}: {detail}")
        self.release = release
        self.detail = detail


class UpgradeFailed(PybehaveError):
    """A release's code failed on a server's state; all servers go on with what they had before.

    Attributes:
        release: Name and version of the release, as "kv 2".
        server: The server whose migration failed; "" when it was not a server's.
        reason: What was raised, or a sentence.
    """

    def __init__(self, release: str, server: str, reason: object) -> None:
        whose = f"of server {server!r} " if server else ""
        super().__init__(
            f"The upgrade to {release} failed: the migration {whose}raised {show_reason(reason)}; "
            f"every server goes on with its old code and state"
        )
        self.release = release
        self.server = server
        self.reason = reason
        if isinstance(reason, BaseException):
            self.__cause__ = reason

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
        server: The server whose migration failed; "" when the journal did.
        reason: What was raised, or a sentence.
    """

    def __init__(self, release: str, server: str, reason: object) -> None:
        what = (
            f"the migration of server {server!r} raised {show_reason(reason)}"
            if server
            else f"the journal cannot keep the new states: {show_reason(reason)}"
        )
        super().__init__(
            f"The upgrade to {release} failed: {what}; every server goes on with its old code and "
            f"state"
        )
        self.release = release
        self.server = server
        self.reason = reason
        if isinstance(reason, BaseException):
            self.__cause__ = reason

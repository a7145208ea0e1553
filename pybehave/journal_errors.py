# ruff: noqa: N818 -- facts, not "...Error", as in errors.py
"""The exceptions of the journal. Their name for the world is `pybehave.errors`, which has them all.

Does not know: the journal; it only names what went wrong with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pybehave.error_base import PybehaveError


class NotJournalable(PybehaveError, TypeError):
    """An input cannot be kept in the journal; nothing was written and no step was taken.

    Attributes:
        detail: What about it.
    """

    def __init__(self, detail: str) -> None:
        super().__init__(f"The input cannot be journaled: {detail}")
        self.detail = detail


class StateNotKept(PybehaveError):
    """An `init(args, recovery)` chose a state that cannot be journaled; the server did not start.

    Attributes:
        server: Whose init.
        detail: Why not.
    """

    def __init__(self, server: str, detail: str) -> None:
        super().__init__(
            f"The state that the init of {server!r} chose cannot be journaled: {detail}; return "
            f"recovery.state as it is, or give the server a dump that is small and plain"
        )
        self.server = server
        self.detail = detail


class NothingKept(PybehaveError):
    """The journal keeps nothing of a server, so there is nothing to forget.

    Attributes:
        server: The name that it does not know.
    """

    def __init__(self, server: str) -> None:
        super().__init__(
            f"The journal keeps nothing of a server {server!r}; node.kept() lists the names that "
            f"it knows"
        )
        self.server = server


class StillRuns(PybehaveError):
    """A server was to be forgotten, and it runs; nothing was changed.

    Attributes:
        server: Its name.
        detail: What to do.
    """

    def __init__(self, server: str, detail: str) -> None:
        super().__init__(f"Server {server!r} runs; {detail}")
        self.server = server
        self.detail = detail


class RecordTooLarge(PybehaveError):
    """An input is larger than a frame of the journal; nothing was written, no step was taken.

    Attributes:
        bytes_max: The limit.
    """

    def __init__(self, bytes_max: int) -> None:
        super().__init__(
            f"The input does not fit into one journal frame of {bytes_max} bytes; send less at "
            f"once, or raise the journal's frame_bytes_max"
        )
        self.bytes_max = bytes_max


class JournalBusy(PybehaveError):
    """The frame that gathers has no room for this command, and the disk is still at work on the one
    before; nothing was written, no step was taken. Send it again.

    Inputs wait while half a frame has gathered, so only one that is itself longer than the other
    half meets this, and calls of the loop's own thread, which nothing can hold up.

    Attributes:
        limit: Bytes that a frame holds.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The journal has gathered what a frame of {limit} bytes holds, the disk is behind; "
            f"send the command again, or give frames more room (frame_bytes_max)"
        )
        self.limit = limit


class JournalFull(PybehaveError):
    """There is no room for more commands on the disk; nothing was written, no step was taken.

    Attributes:
        directory: Where the journal lies.
    """

    def __init__(self, directory: str) -> None:
        super().__init__(
            f"The journal in {directory} cannot grow: there is no room for its next segment; "
            f"free some space, and commands are taken again by themselves"
        )
        self.directory = directory


class DurabilityLost(PybehaveError):
    """The journal's device failed before this was known to be durable: the outcome is unknown.

    It may be found done or not done after the next start; ask again with the same request id.

    Attributes:
        reason: What the device said.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"The journal cannot be written any more ({reason}), so whether this command "
            f"survives is unknown; the node stops, and recovers from what is on the disk"
        )
        self.reason = reason


class JournalLocked(PybehaveError):
    """Another process writes this journal.

    Attributes:
        directory: Where it lies.
        pid: Of the other process, 0 = unknown.
    """

    def __init__(self, directory: str, pid: int) -> None:
        if pid == os.getpid():
            who = "another node of this process; stop that"
        else:
            who = f"process {pid or '(unknown)'}; stop it"
        super().__init__(
            f"The journal in {directory} is written by {who}, or use another folder (--data, "
            f"data=...)"
        )
        self.directory = directory
        self.pid = pid


class JournalRefused(PybehaveError):
    """A journal cannot be opened; nothing was changed.

    Attributes:
        path: The file or folder.
        detail: What is wrong with it, and what to do.
        facts: Of damage that was found, for programs: block, byte, seq, lsn, problem, evidence.
    """

    def __init__(
        self, path: str, detail: str, facts: Mapping[str, int | str | list[str]] | None = None
    ) -> None:
        super().__init__(f"{path}: {detail}")
        self.path = path
        self.detail = detail
        self.facts = dict(facts or {})


class CodeRefused(JournalRefused):
    """The code does not read what the journal holds: an older version's inputs or states, or a
    newer one's; nothing was changed. No disk and no other process has to do with it.
    """


class CodecRefused(PybehaveError):
    """A codec of the journal (`Options.codec`) cannot read what is stored, or not write.

    Nothing was changed. It is not given, or not with the key that was used; or the bytes were
    changed, though their checksum was made to fit. No damage, and so no `JournalRefused`: nothing
    older is gone back to.

    Attributes:
        what: Which piece of the journal.
        codec: The codec's name.
        detail: What is wrong, and what to do.
    """

    def __init__(self, what: str, codec: str, detail: str) -> None:
        super().__init__(f"The journal's codec {codec!r} refuses {what}: {detail}")
        self.what = what
        self.codec = codec
        self.detail = detail


class NonDeterminism(PybehaveError):
    """A journaled input gave another outcome when it was stepped again.

    Attributes:
        server: Whose step.
        lsn: The input's number.
        expected: The outcome's hash when it first ran.
        got: The outcome's hash now.
    """

    def __init__(self, server: str, lsn: int, expected: int, got: int) -> None:
        super().__init__(
            f"Server {server!r} does not repeat itself: input {lsn} gave the outcome "
            f"{expected:08x} when it was journaled and {got:08x} now; its code has changed, or it "
            f"uses a clock, randomness, the order of a set (another one in each process: take "
            f"sorted(), or a dict for the set) or other state that is not its own; start the code "
            f"that wrote the journal, or see what differs with `pybehave replay --check`"
        )
        self.server = server
        self.lsn = lsn
        self.expected = expected
        self.got = got

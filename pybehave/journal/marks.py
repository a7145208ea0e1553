"""Records that say something of those before them: SKIP and FORGET, found ahead of a replay.

An input that is not to be stepped must be known before its turn comes, and the record that says so
stands behind it. So each segment is searched for such records when it is read, before any input of
it is stepped.

    SKIP     the input of that lsn is not stepped
    FORGET   nothing of that server's records before this one is

Does not know: files, servers, how a replay goes.
Source: docs/journal-format.md, section 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeAlias, final

import msgspec

SKIP: Final = 5
FORGET: Final = 9
"""Numbers of `enum record_type` in src/_uring/segment.h."""

LSN_BYTES: Final = 8

Mark: TypeAlias = tuple[int, int, int, bytes]
"""Type, lsn, server number and payload of a record."""


class Forgotten(msgspec.Struct, frozen=True):
    """What a FORGET record says.

    Attributes:
        name: Whose number it was.
        reason: `"forget"`, or `"reset"` of a server that was to begin anew.
        sent: Messages between other servers that were under way then, encoded as those in a
            snapshot (docs/journal-format.md, section 8): what the forgotten one had sent is
            nowhere else. Empty = none.
    """

    name: str
    reason: str
    sent: bytes = b""


@final
class Marks:
    """What the marks of one journal come to.

    Args:
        marks: Of all its segments and its tail, in any order.

    Attributes:
        skipped: The lsns of inputs that are not to be stepped.
        forgotten: Server number -> lsn; what that number did before belongs to nobody.
        names: Name -> lsn at which it was forgotten last.
    """

    def __init__(self, marks: Iterable[Mark]) -> None:
        self.skipped: set[int] = set()
        self.forgotten: dict[int, int] = {}
        self.names: dict[str, int] = {}
        for kind, lsn, server, payload in marks:
            if kind == SKIP and len(payload) >= LSN_BYTES:
                self.skipped.add(int.from_bytes(payload[:LSN_BYTES], "little"))
            elif kind == FORGET:
                self.forgotten[server] = max(lsn, self.forgotten.get(server, 0))
                name = msgspec.msgpack.decode(payload, type=Forgotten).name
                self.names[name] = max(lsn, self.names.get(name, 0))

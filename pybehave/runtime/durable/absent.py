"""Servers that a journal knows and nobody has code for now: kept as they are until somebody has.

A child that was added while the node ran is there again when it is added again; a worker that was
renamed or removed may come back. Without its code its inputs cannot be stepped, so a snapshot keeps
them, behind the latest state that was known: whoever starts a server of that name goes on there.

Does not know: files, what the records mean (replay.py).
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, final

from pybehave._uring.values import Values
from pybehave.journal.snapshot import Entry

ABSENT: Final = "absent"
"""The format of an entry, among the facts of a snapshot (docs/journal-format.md, section 8)."""

NAMES_SHOWN: Final = 5

logger = logging.getLogger("pybehave.journal")

Kept: TypeAlias = list[Any]
"""lsn of a record, Unix time ns of its input, and the record itself."""


@final
@dataclass(slots=True)
class Absent:
    """What is kept of one server.

    Attributes:
        name: Its name.
        number: What records call it.
        base: Its latest state, as a snapshot has it; None when it began behind the snapshot.
        skipped: The lsns of records that are not to be stepped.
        records: What came behind the state.
    """

    name: str
    number: int
    base: Entry | None = None
    skipped: list[int] = field(default_factory=list)
    records: list[Kept] = field(default_factory=list)

    def entry(self) -> Entry:
        """Itself in a snapshot: as it was there, if nothing came behind."""
        if self.base is not None and not self.records:
            return self.base
        values = Values()
        base = None if self.base is None else [self.base.facts, self.base.state]
        facts = {"name": self.name, "number": self.number, "format": ABSENT}
        return Entry(values.encode(facts), values.encode([base, self.skipped, self.records]))

    @property
    def is_plain(self) -> bool:
        """Whether `entry` is one that every reader of snapshots knows."""
        return self.base is not None and not self.records


def absent_of(entry: Entry, facts: dict[str, Any]) -> Absent:
    """Return what a snapshot's entry says of a server; facts are its own, decoded."""
    name, number = facts["name"], facts["number"]
    if facts.get("format") != ABSENT:
        return Absent(name, number, entry)
    base, skipped, records = Values().decode(entry.state)
    return Absent(name, number, None if base is None else Entry(*base), skipped, records)


def say_absent(directory: str, names: Collection[str]) -> None:
    """Log whose state lies there and is not reached by anybody."""
    shown = ", ".join(repr(name) for name in sorted(names)[:NAMES_SHOWN])
    logger.warning(
        "%s: it holds the state of %d %s that the application does not start: %s%s; it is kept, "
        "and a server that is started under such a name goes on with it",
        directory,
        len(names),
        "server" if len(names) == 1 else "servers",
        shown,
        ", ..." if len(names) > NAMES_SHOWN else "",
    )

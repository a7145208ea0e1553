"""The contents of a store's snapshots: files beside its journal, named by its records.

What has no such file is no whole copy of a store: behind a snapshot the entries before it are
forgotten. So who makes another journal of a store's (export, import, compact, repair) takes them
along, and who cannot says so.

Does not know: what is in them; how a store keeps them (disk_store.py).
Source: docs/journal-format.md, section 11.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import msgspec

from pybehave.errors import JournalRefused
from pybehave.journal import snapshot
from pybehave.journal.reader import STORE, Record
from pybehave.journal.snapshot import Snapshot
from pybehave.journal.store import SNAPSHOTS_KEPT
from pybehave.journal.streams import Kept, decode_change, decode_stream

FORMAT: Final = "store"
"""Of the facts of a base's entries."""

FILES: Final = "stream-*.pbs"


@final
@dataclass(frozen=True, slots=True)
class Content:
    """One file.

    Attributes:
        number: Its number, which no other has.
        file: What is in it.
    """

    number: int
    file: Snapshot


def content_name(number: int) -> str:
    """Return the file name of a stream's snapshot."""
    return f"stream-{number:016x}.pbs"


@final
class Contents:
    """The contents that a journal names: of each stream the two newest. Of a node's journal, none.

    Args:
        bases: Its snapshots; its records follow (`take`).
    """

    def __init__(self, bases: Iterable[Snapshot]) -> None:
        self._named: dict[str, list[Kept]] = {}
        for base in bases:
            self.take_base(base)

    def take_base(self, base: Snapshot) -> None:
        """Learn of what a snapshot of the journal names."""
        for entry in base.entries:
            self._take_entry(entry)

    def _take_entry(self, entry: snapshot.Entry) -> None:
        try:
            facts = msgspec.msgpack.decode(entry.facts)
            if isinstance(facts, dict) and facts.get("format") == FORMAT:
                for kept in decode_stream(entry.state).snapshots:
                    self._add(kept)
        except msgspec.MsgspecError:
            return  # facts of a node's servers may hold what only its own encoding has

    def take(self, record: Record) -> None:
        """Learn of what a record names."""
        if record.type != STORE:
            return
        try:
            change = decode_change(record.payload)
        except msgspec.MsgspecError:
            return  # it is written as it is, and whoever opens it as a store will refuse it
        if isinstance(change, Kept):
            self._add(change)

    def _add(self, kept: Kept) -> None:
        known = {each.number: each for each in (*self._named.get(kept.stream, ()), kept)}
        newest = sorted(known.values(), key=lambda each: -each.number)
        self._named[kept.stream] = newest[:SNAPSHOTS_KEPT]

    def read(self, path: str, journal_id: bytes) -> Iterator[Content]:
        """Yield those that are sound, by number.

        Raises:
            JournalRefused: Of a stream there is none.
        """
        found = {}
        for kept in self._all():
            file = Path(path, content_name(kept.number))
            try:
                each = snapshot.decode(str(file), memoryview(file.read_bytes()))
            except (OSError, JournalRefused):
                continue  # the one before it is gone back to
            if (each.digest, each.journal_id) == (kept.digest, journal_id):
                found[kept.number] = each
        self.check(path, found)
        yield from (Content(number, found[number]) for number in sorted(found))

    def check(self, source: str, numbers: Collection[int]) -> None:
        """Refuse when a stream has none of these.

        Args:
            source: Where they come from.
            numbers: The contents that are there and sound.

        Raises:
            JournalRefused: It has none, and would lose what its snapshots hold.
        """
        for stream, named in self._named.items():
            if not any(kept.number in numbers for kept in named):
                raise JournalRefused(
                    source,
                    f"the content of no snapshot of stream {stream!r} is there and sound, and the "
                    f"entries before it are gone; a store that is served while it is copied may "
                    f"have replaced it: take all of it, again, or from a copy",
                )

    def is_named(self, content: Content) -> bool:
        """Whether it is one of those, and the same."""
        key = content.number, content.file.digest
        return any((kept.number, kept.digest) == key for kept in self._all())

    def _all(self) -> list[Kept]:
        return [kept for named in self._named.values() for kept in named]

"""Make a journal of an export.

What is kept: the journal's id, for random numbers and seeds begin with it; every lsn, for records
name each other by it; times, and the snapshots, byte for byte. What is new: frames, their seq, the
segments and one epoch for all, so it is smaller, and claims made of the old files' frames say
nothing about it. It is the same journal in another place: of the two, one may be served.

Does not know: what the records mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

from pybehave.errors import JournalRefused
from pybehave.journal.codec import PLAIN, Codec, Coder
from pybehave.journal.contents import Content, Contents, content_name
from pybehave.journal.export import Head, parse
from pybehave.journal.reader import BLOCK, Record
from pybehave.journal.rewrite import Rewriter, refuse_existing
from pybehave.journal.snapshot import Snapshot, encode

SNAPSHOTS_MAX: Final = 2
SEGMENT_BYTES_MIN: Final = 16 * BLOCK


@final
@dataclass(frozen=True, slots=True)
class Imported:
    """What a new journal holds.

    Attributes:
        first_lsn: Its first record.
        last_lsn: Its last one.
        segments: How many files they are in.
        snapshots: The lsns of its snapshots.
    """

    first_lsn: int
    last_lsn: int
    segments: int
    snapshots: tuple[int, ...]


def import_lines(
    lines: Iterable[bytes], target: str, *, source: str, now_ns: int, codec: Iterable[Codec] = ()
) -> Imported:
    """Make a journal.

    Args:
        lines: Of the export, each with its newline.
        target: A folder that does not exist yet, or is empty. What is left in it after an error
            has no MANIFEST and is no journal.
        source: Where the lines come from, for what is said about them.
        now_ns: Unix time, for information in headers.
        codec: What is applied to all that is written.

    Raises:
        JournalRefused: The target is not empty, or the lines are no whole export, or one from
            which no server could go on.
        OSError: The target cannot be written.
    """
    refuse_existing(target)
    items = parse(lines, source)
    head = next(items)
    assert isinstance(head, Head)  # what `parse` yields first
    if head.segment_bytes % BLOCK or head.segment_bytes < SEGMENT_BYTES_MIN:
        raise JournalRefused(source, f"segments of {head.segment_bytes} bytes are not allowed")
    where = (target, head.journal_id, head.segment_bytes, head.first_lsn)
    coder = Coder(codec, head.journal_id)
    snapshots: list[Snapshot] = []
    numbers: set[int] = set()
    named = Contents(())
    with Rewriter(*where, now_ns, coder) as writer:
        for item in items:
            if isinstance(item, Snapshot):
                snapshots.append(item)
                named.take_base(item)
            elif isinstance(item, Record):
                _check_order(source, item.lsn, writer.next_lsn)
                named.take(item)
                writer.add(item)
            elif isinstance(item, Content):
                _check_content(source, item, named)
                writer.put(content_name(item.number), encode_again(item.file))
                numbers.add(item.number)
        last_lsn = writer.next_lsn - 1
        _check(source, head.first_lsn, last_lsn, snapshots)
        named.check(source, numbers)
        writer.finish([(each.lsn, encode_again(each, coder)) for each in snapshots])
    lsns = tuple(each.lsn for each in snapshots)
    return Imported(head.first_lsn, last_lsn, writer.segments, lsns)


def encode_again(found: Snapshot, coder: Coder = PLAIN) -> bytes:
    """Return the file of a snapshot: the same bytes as before, so the same digest, if no codec is
    applied.
    """
    return encode(found.journal_id, found.lsn, found.time_ns, found.entries, found.version, coder)


def _check_order(source: str, lsn: int, expected: int) -> None:
    if lsn != expected:
        raise JournalRefused(
            source,
            f"lsn {lsn} comes where {expected} is due; an export with --server is for reading, it "
            "cannot become a journal",
        )


def _check_content(source: str, content: Content, named: Contents) -> None:
    if not named.is_named(content):
        raise JournalRefused(
            source, f"no record in it names the content of number {content.number} as it is here"
        )


def _check(source: str, first_lsn: int, last_lsn: int, snapshots: list[Snapshot]) -> None:
    """There must be something that the records go on from."""
    lsns = [each.lsn for each in snapshots]
    if len(lsns) > SNAPSHOTS_MAX or lsns != sorted(set(lsns), reverse=True):
        raise JournalRefused(source, "its snapshots are not two at most, the newest first")
    if any(not first_lsn - 1 <= lsn <= last_lsn for lsn in lsns):
        raise JournalRefused(source, "a snapshot in it does not belong to its records")
    if first_lsn > 1 and not lsns:
        raise JournalRefused(
            source,
            f"it begins with lsn {first_lsn} and has no snapshot of what was before; export "
            "without --from, or from the lsn behind a snapshot",
        )

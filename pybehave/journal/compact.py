"""Copy what a journal needs to go on, and nothing else, while nobody serves it.

What is needed is the newest sound snapshot and the records behind it; without a snapshot, all
records. They are written anew and dense: a lone command takes a block of 4096 bytes in a node's
journal, and some hundred here. Dead letters and the counts of attempts go with them, and of a store
the contents of its snapshots. The original
is not changed; its lock is held so that nobody writes on while it is copied. When the copy serves,
its owner may remove it.

One snapshot is kept where a node keeps two: until the next one is taken, the original is the one to
fall back to.

Does not know: what records mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from pybehave.errors import JournalRefused
from pybehave.journal.beside import check_no_tail, copy_beside, copy_contents
from pybehave.journal.codec import Codec, Coder
from pybehave.journal.contents import FILES
from pybehave.journal.disk import unserved
from pybehave.journal.export import snapshots_of
from pybehave.journal.import_lines import encode_again
from pybehave.journal.progress import Progress
from pybehave.journal.reader import read_manifest
from pybehave.journal.rewrite import Rewriter, refuse_existing
from pybehave.journal.segments import Walk, held, records
from pybehave.journal.verify import verify

JOURNAL: Final = ("seg-*.pbj", "snap-*.pbs", FILES)


@final
@dataclass(frozen=True, slots=True)
class Compacted:
    """What became of a journal.

    Attributes:
        records: How many were copied.
        last_lsn: The last one's.
        snapshot_lsn: They go on from this snapshot; 0 = from the beginning.
        bytes_before: What segments and snapshots took on the disk.
        bytes_after: What they take now.
    """

    records: int
    last_lsn: int
    snapshot_lsn: int
    bytes_before: int
    bytes_after: int


def compact(
    source: str,
    target: str,
    *,
    now_ns: int,
    progress: Progress | None = None,
    codec: Iterable[Codec] = (),
) -> Compacted:
    """Copy a journal into a new folder.

    Args:
        source: Its folder; nobody may be serving it.
        target: A folder that does not exist yet, or is empty.
        now_ns: Unix time, for information in headers.
        progress: Is told how far it is.
        codec: What it is read with, and what is applied to all that is written.

    Raises:
        JournalLocked: Somebody serves it.
        JournalRefused: It is damaged, or the target is not empty; or what a kill has left in the
            tail has not been taken over.
        CodecRefused: It cannot be read without other codecs or keys.
        OSError: The target cannot be written.
    """
    codec = tuple(codec)
    coder = Coder(codec, read_manifest(source).journal_id)  # before a folder is made for a typo
    refuse_existing(target)
    with unserved(source):
        report = verify(source, is_deep=True, progress=progress, codec=codec)
        if report.problems:
            raise JournalRefused(
                source, f"it is damaged, and a compact copy would hide that: {report.problems[0]}"
            )
        check_no_tail(source, report.last_lsn)
        return _copy(source, target, now_ns, progress, coder)


def _copy(
    source: str, target: str, now_ns: int, progress: Progress | None, coder: Coder
) -> Compacted:
    with held(source, coder.codecs) as (manifest, segments):
        newest = snapshots_of(source, manifest, coder.codecs)[:1]
        begin = segments[0].header.first_lsn if segments else 1
        first_lsn = newest[0].lsn + 1 if newest else begin
        where = (target, manifest.journal_id, manifest.segment_bytes, first_lsn)
        with Rewriter(*where, now_ns, coder) as writer:
            for record in records(segments, Walk(segments, progress, "copying")):
                if record.lsn >= first_lsn:
                    writer.add(record)
            copy_contents(source, target)
            copy_beside(source, target, coder)
            writer.finish([(each.lsn, encode_again(each, coder)) for each in newest])
    return Compacted(
        writer.next_lsn - first_lsn, writer.next_lsn - 1, first_lsn - 1, used(source), used(target)
    )


def used(folder: str) -> int:
    """Return the bytes that a journal takes on the disk; holes take none."""
    files = [file for pattern in JOURNAL for file in Path(folder).glob(pattern)]
    return sum(file.stat().st_blocks * 512 for file in files)

"""Check a whole journal with the second reader, and say what it holds or where it is damaged."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from pybehave.errors import JournalRefused
from pybehave.journal import snapshot
from pybehave.journal.codec import Codec, Coder
from pybehave.journal.progress import Progress
from pybehave.journal.reader import (
    BLOCK,
    CLOSE,
    DATA,
    MEND,
    SEAL,
    Frame,
    Manifest,
    Segment,
    Stop,
    read_manifest,
)
from pybehave.journal.segments import TRIES, Walk, held, loaded


@final
@dataclass(slots=True)
class Report:
    """What a journal holds.

    Attributes:
        ended: `"clean"`, `"sealed"`, `"open"` (zeros behind the last frame), `"torn"`, `"empty"`.
        torn_bytes: From the end of what counts to the end of that segment, when it is torn.
        problems: What is damaged, a sentence each; empty when it is sound.
    """

    directory: str
    journal_id: str = ""
    epoch: int = 0
    segments: int = 0
    frames: int = 0
    records: int = 0
    bytes: int = 0
    first_lsn: int = 0
    last_lsn: int = 0
    last_seq: int = 0
    durable_seq: int = 0
    snapshots: list[int] = field(default_factory=list)
    ended: str = "empty"
    torn_bytes: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


def verify(
    path: str,
    *,
    is_deep: bool = False,
    progress: Progress | None = None,
    codec: Iterable[Codec] = (),
) -> Report:
    """Check everything that counts.

    Beside a node that writes, a read may come between two of its commits: the newer one is seen,
    the older one is not. That looks like damage, and is gone when one looks again; so damage is
    what is found twice.

    Args:
        is_deep: Take each record apart too. Only that needs codecs: hashes are of what is stored.
        progress: Is told how far it is.
        codec: What records are opened with.

    Raises:
        JournalRefused: It is not a journal, or a newer version wrote it, or it changes faster than
            it can be read.
        CodecRefused: Its records cannot be read without other codecs or keys (deep).
    """
    codec = tuple(codec)
    report = _verify(path, is_deep, progress, codec)
    for _ in range(TRIES):
        if not report.problems:
            return report
        again = _verify(path, is_deep, progress, codec)
        if set(again.problems) & set(report.problems):
            return again
        report = again
    if report.problems:
        raise JournalRefused(path, "it changes faster than it can be read; verify a copy")
    return report


def check_codec(path: str, codec: Iterable[Codec]) -> None:
    """Refuse a journal that these codecs do not open, as far as a short look says: at the first
    records of its oldest and its newest segment. Keys change where a segment begins.

    Works beside a node that writes; whether the journal is sound is not asked.

    Raises:
        CodecRefused: It cannot be read without other codecs or keys.
    """
    with contextlib.suppress(JournalRefused, OSError):
        manifest = read_manifest(path)
        coder = Coder(codec, manifest.journal_id)
        for number in {manifest.oldest, manifest.current} if manifest.features else ():
            segment = Segment(path, number, manifest.journal_id)
            segment.coder = coder
            first = next(segment.frames(), None) if segment.has_header else None
            if isinstance(first, Frame) and first.type == DATA:
                next(segment.records(first), None)


def _verify(
    path: str, is_deep: bool, progress: Progress | None, codec: tuple[Codec, ...]
) -> Report:
    """Look once."""
    began = time.perf_counter()
    report = Report(path)
    read_manifest(path)  # what is not a journal at all is no damaged one
    try:
        with held(path, codec) as (manifest, found):
            report.journal_id = manifest.journal_id.hex()
            report.epoch, report.durable_seq = manifest.epoch, manifest.durable_seq
            _check_snapshots(path, manifest, report)
            walk = Walk(found, progress, "checking")
            _check_segments(manifest, found, report, walk, is_deep=is_deep)
    except JournalRefused as error:
        report.problems.append(str(error))
    report.seconds = time.perf_counter() - began
    return report


def _check_snapshots(path: str, manifest: Manifest, report: Report) -> None:
    for lsn, digest in dict.fromkeys(manifest.snapshots):  # one may be named twice
        if lsn == 0:
            continue
        file = Path(path, snapshot.snapshot_name(lsn))
        try:
            found = snapshot.check(str(file), memoryview(file.read_bytes()))
        except OSError as error:
            report.problems.append(f"{file}: it cannot be read: {error.strerror}; {MEND}")
            continue
        except JournalRefused as error:
            report.problems.append(f"{error}; {MEND}")
            continue
        if (found.lsn, found.digest, found.journal_id) != (lsn, digest, manifest.journal_id):
            report.problems.append(f"{file}: it is not the snapshot that was taken; {MEND}")
        report.snapshots.append(lsn)


def _check_segments(
    manifest: Manifest, found: list[Segment], report: Report, walk: Walk, *, is_deep: bool
) -> None:
    last: Frame | None = None
    for index, segment in enumerate(loaded(found)):
        follower = found[index + 1].header if index + 1 < len(found) else None
        header = segment.header
        if index == 0:
            report.first_lsn = header.first_lsn
        report.segments += 1
        report.last_seq, report.last_lsn = header.first_seq - 1, header.first_lsn - 1
        chain, end = header.chain, None
        block = 2
        for frame in segment.frames(follower.before_seq if follower is not None else None):
            if isinstance(frame, Stop):
                end = frame
                break
            walk.at(segment, frame.block)
            last, chain = frame, frame.body_hash
            block = frame.block + frame.blocks
            report.frames += 1
            report.records += frame.records
            report.last_seq, report.last_lsn = frame.seq, frame.first_lsn + frame.records - 1
            if is_deep:
                for _ in segment.records(frame):
                    pass
        walk.over(segment)
        report.bytes += block * BLOCK
        if follower is not None:
            joins = (follower.before, follower.before_seq, follower.chain) == (
                header.number,
                report.last_seq,
                chain,
            )
            if not joins or follower.first_lsn != report.last_lsn + 1:
                report.problems.append(
                    f"{segment.file}: it ends with seq {report.last_seq}, but the next segment "
                    f"counts {follower.before_seq} before it (evidence b)"
                )
        else:
            _judge(manifest, segment, end, last, block, report)


def _judge(
    manifest: Manifest,
    segment: Segment,
    end: Stop | None,
    last: Frame | None,
    block: int,
    report: Report,
) -> None:
    """Torn or corrupt (section 7, step 5), for the last segment."""
    expected = report.last_seq + 1
    kind = last.type if last is not None and last.segment == segment.header.number else DATA
    seq, durable = segment.claims(block)
    is_last_of_clean = manifest.is_clean and segment.header.number <= manifest.current
    evidence = [
        letter
        for letter, is_there in (
            ("a", durable >= expected),
            ("c", manifest.durable_seq >= expected),
            ("d", is_last_of_clean and kind != CLOSE),
            ("e", segment.header.number < manifest.current),
            ("f", seq >= expected + manifest.depth),
        )
        if is_there
    ]
    if evidence:
        reason = end.reason if end is not None else "it ends too early"
        report.problems.append(
            f"{segment.file}: damaged at block {block} (byte {block * BLOCK}, seq {expected}, lsn "
            f"{report.last_lsn + 1}): {reason}, although this had been durable (evidence "
            f"{', '.join(evidence)}); restore a copy, or save what is before it with "
            f"`pybehave journal repair`"
        )
        return
    if kind != DATA:
        report.ended = {CLOSE: "clean", SEAL: "sealed"}[kind]
    elif end is not None and not end.is_empty:
        report.ended, report.torn_bytes = "torn", len(segment.content) - block * BLOCK
    else:
        report.ended = "open"

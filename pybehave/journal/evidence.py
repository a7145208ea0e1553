"""Decide between torn and corrupt: what says that a frame that is not sound had been durable.

    evidence that frame k was durable                                        found in
    (a) a sound frame header claims a durable seq >= k                       this segment
    (b) the next segment says that k was before it                           its header
    (c) the manifest's watermark is >= k                                     MANIFEST
    (d) the manifest says that its current segment was closed cleanly        MANIFEST
    (e) this is not the last segment in use                                  MANIFEST
    (f) a sound frame header has a seq >= k + depth                          this segment

Any of these: the missing frame had been acknowledged, so this is damage, and we refuse. None: it is
the torn end that a crash leaves, and it is cut off by the next segment's header.

Does not know: files, how segments are read.
Source: durability.md 3.11, steps 8 to 10.
"""

from __future__ import annotations

import os
from typing import Any, NoReturn

from pybehave._uring import blocks
from pybehave.errors import JournalRefused
from pybehave.journal.disk import BLOCK
from pybehave.journal.report import Report


def judge(
    file: str, manifest: Any, header: Any, walked: Any, content: memoryview, report: Report
) -> None:
    """Say in the report how the last segment ends.

    Args:
        file: Its path.
        content: It, as far as it may have been written to; before `walked.block` nothing is looked
            at.

    Raises:
        JournalRefused: It is damaged.
    """
    number = header.number
    if walked.end:
        report.outcome = "clean" if walked.end == blocks.END_CLOSE else "sealed"
    seq, durable_seq = blocks.claims(content, header, walked.block)
    # A recovery that was cut off between 12 and 13 left a segment that the flag does not know.
    is_last_of_clean = manifest.is_clean and number <= manifest.current
    evidence = [
        letter
        for letter, is_there in (
            ("a", durable_seq >= walked.seq),
            ("c", manifest.durable_seq >= walked.seq),
            ("d", is_last_of_clean and walked.end != blocks.END_CLOSE),
            ("e", number < manifest.current),
            ("f", seq >= walked.seq + manifest.depth),
        )
        if is_there
    ]
    if evidence:
        refuse(file, number, walked, evidence)
    if walked.end:
        return
    used = blocks.last_used_block(content, walked.block)
    report.torn_bytes = (used - walked.block) * BLOCK
    report.outcome = report.outcome or ("torn" if report.torn_bytes else "end")
    report.may_be_affected = manifest.depth if report.torn_bytes else 0


def refuse(file: str, number: int, walked: Any, evidence: list[str]) -> NoReturn:
    """Refuse a segment that was durable as far as another place than this one says.

    Raises:
        JournalRefused: Always; its details name the place.
    """
    raise JournalRefused(
        file,
        f"it is damaged at block {walked.block} (seq {walked.seq}, lsn {walked.lsn}): "
        f"{blocks.PROBLEMS[walked.problem]}, although this had been durable (evidence "
        f"{', '.join(evidence)}); nothing was changed; restore a copy, or see what can be saved "
        f"with `pybehave journal verify {os.path.dirname(file)}`",
        {
            "segment": number,
            "block": walked.block,
            "byte": walked.block * BLOCK,
            "seq": walked.seq,
            "lsn": walked.lsn,
            "problem": blocks.PROBLEMS[walked.problem],
            "evidence": evidence,
        },
    )


def refuse_second_writer(
    file: str, header: Any, follower: Any, walked: Any, content: memoryview
) -> None:
    """Behind an end that a recovery has set nothing was durable then. If something claims to be
    now, a second process went on writing, and acknowledging, after this journal was taken over.

    Raises:
        JournalRefused: One did.
    """
    _, durable_seq = blocks.claims(content, header, walked.block)
    if durable_seq > follower.before_seq:
        raise JournalRefused(
            file,
            f"a second process wrote to it (up to seq {durable_seq} at least) after the journal "
            f"had been taken over at seq {follower.before_seq}, so there are two histories; "
            f"nothing was changed; see both with `pybehave journal verify {os.path.dirname(file)}`",
        )

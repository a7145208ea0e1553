"""What a recovery has found, said once it is over: to the log, and to the hooks of the node.

Does not know: how a journal is recovered (pybehave/journal/recovery.py).
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from pybehave.journal.report import Report
from pybehave.runtime.durable.events import RecoveryDone, SnapshotRejected
from pybehave.runtime.events import Event

logger = logging.getLogger("pybehave.journal")


def say(report: Report, seconds: float, tell: Callable[[Event], object]) -> None:
    """Say what was found.

    Args:
        report: Of the recovery.
        seconds: How long it took, with all that was stepped again.
        tell: Hands an event to the hooks.
    """
    for warning in report.warnings:
        logger.warning("%s: %s", report.directory, warning)
    if report.outcome == "torn":
        logger.warning(
            "%s: the end was torn, as a crash leaves it: %d bytes behind lsn %d never counted "
            "and were put into %s; if a power cut was not the cause, up to %d commits may have "
            "been acknowledged and lost",
            report.directory,
            report.torn_bytes,
            report.last_lsn,
            report.quarantine,
            report.may_be_affected,
        )
    _say_more(report)
    logger.info(
        "journal in %s (%s): %d records in %d segments, %s, snapshot of lsn %d, %d inputs "
        "stepped again in %.3f s, %d passed over; recovered in %.3f s",
        report.directory,
        report.medium,
        report.last_lsn,
        report.segments,
        report.outcome,
        report.snapshot_lsn,
        report.replayed,
        report.seconds_replaying,
        report.passed_over,
        seconds,
    )
    for lsn, why in report.snapshots_rejected:
        tell(SnapshotRejected("", "", lsn, why))
    steps = report.replayed, report.passed_over
    tell(RecoveryDone("", "", report.directory, report.outcome, report.last_lsn, *steps, seconds))


def _say_more(report: Report) -> None:
    """What is not so at most starts."""
    if report.kept:
        logger.info(
            "%s: the process before was killed; its tail had %d records that the segments had not",
            report.directory,
            report.kept,
        )
    if report.ahead:
        logger.info(
            "%s: up to lsn %d it had been stepped while the process before still served",
            report.directory,
            report.ahead,
        )

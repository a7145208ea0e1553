"""How looked-after processes ended: for the log, and as a file beside the journal.

A process that was killed writes no report, so its parent does: why, when, after how long, and where
a core dump may be. The newest REPORTS_KEPT stand in `heart.json` in the data folder, whole at any
time: a new file takes the place of the old one.

Does not know: what follows from an end (behaviours/heart.py).
Source: wait(2), core(5).
"""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any, Final, final

from msgspec import Struct, structs

from pybehave.behaviours.heart import End

REPORTS: Final = "heart.json"
REPORTS_KEPT: Final = 64
"""Enough to see a pattern in a night of restarts."""

CORE_PATTERN: Final = "/proc/sys/kernel/core_pattern"
CORE_SIGNALS: Final = frozenset(
    getattr(signal, f"SIG{name}")
    for name in ("QUIT", "ILL", "ABRT", "BUS", "FPE", "SEGV", "TRAP", "SYS")
)
"""Whose default action writes a core (signal(7))."""

logger = logging.getLogger("pybehave.heart")


@final
class HeartReport(Struct, frozen=True):
    """One end of a looked-after process.

    Attributes:
        at: Unix time.
        pid: Its number; 0 = it could not be started.
        why: In words.
        signal: The name of the signal that ended it; "" = none.
        status: Its exit status; None = a signal ended it.
        is_hung: Its loop did not beat, so it was ended.
        has_served: It had been ready.
        uptime_s: Seconds since it was started.
        restarts: How many there had been before.
        wait_s: Seconds until the next one is started; None = none is.
        core: Where a core dump is, or how to get one next time; "" = there is nothing to say.
    """

    at: float
    pid: int
    why: str
    signal: str
    status: int | None
    is_hung: bool
    has_served: bool
    uptime_s: float
    restarts: int
    wait_s: float | None
    core: str

    def as_dict(self) -> dict[str, Any]:
        """The report for programs."""
        return structs.asdict(self)

    def __str__(self) -> str:
        then = "" if self.wait_s is None else f"; another one starts in {self.wait_s:.1f} s"
        hint = f" ({self.core})" if self.core else ""
        what = f"process {self.pid} ended after {self.uptime_s:.1f} s" if self.pid else "no process"
        return f"{what}: {self.why}{hint}{then}"


def why_of(end: End, timeout: float) -> str:
    """An end in words.

    Args:
        timeout: Seconds that a loop may be silent.
    """
    how = name_of(end.signal) or "nobody knows how"
    how = how if end.status is None else f"exit status {end.status}"
    return f"its loop did not turn for {timeout:g} s, {how} ended it" if end.is_hung else how


def name_of(number: int) -> str:
    """A signal's name; "" for 0."""
    try:
        return signal.Signals(number).name if number else ""
    except ValueError:  # a real-time signal
        return f"signal {number}"


def core_hint(end: End, pid: int, *, has_core: bool) -> str:
    """Where to look further."""
    if has_core:
        pattern = _core_pattern()
        if "systemd-coredump" in pattern:
            return f"its core dump: coredumpctl info {pid}"
        taker = pattern.removeprefix("|")
        return f"its core dump went to {taker}" + ("" if pattern[:1] == "|" else " in its folder")
    if end.signal in CORE_SIGNALS:
        return "without a core dump; ulimit -c unlimited, or LimitCORE=infinity, allows one"
    if end.signal == signal.SIGKILL and not end.is_hung:
        return "somebody's kill -9, or the kernel had no memory left: journalctl -k says which"
    return ""


def _core_pattern() -> str:
    try:
        return Path(CORE_PATTERN).read_text(encoding="utf-8").strip()
    except OSError:
        return "core"


def keep(report: HeartReport, folder: str) -> None:
    """Write a report into the data folder, if there is one; its failure is a warning."""
    path = Path(folder, REPORTS)
    if not path.parent.is_dir():
        return  # nothing is journaled, so nothing is kept
    beside = path.with_suffix(".tmp")
    try:
        kept = [*_kept(path), report.as_dict()][-REPORTS_KEPT:]
        beside.write_text("[\n" + ",\n".join(map(json.dumps, kept)) + "\n]\n", encoding="utf-8")
        os.replace(beside, path)
    except OSError as error:
        logger.warning("the report is not kept: %s", error)


def _kept(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return []
    except ValueError as error:  # it is only a log
        logger.warning("%s cannot be read, it begins anew: %s", path, error)
        return []
    return found if isinstance(found, list) else []

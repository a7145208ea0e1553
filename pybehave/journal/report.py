"""What a recovery found and did, for the log and for whoever asks for it as JSON.

Does not know: how it was found (recovery.py), how it is told (runtime/durable/recovered.py).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, final


@final
@dataclass(slots=True)
class Report:
    """What recovery found and did; logged, and shown as JSON.

    Attributes:
        outcome: `"new"`, `"clean"`, `"sealed"`, `"torn"`, or `"end"`: zeros behind the last frame.
        torn_bytes: What was found behind the end and put into quarantine.
        may_be_affected: The most frames whose acknowledgement cannot be told from a torn end
            (F-04).
        replayed: Inputs that were stepped again.
        passed_over: Inputs that were not: they had failed, or are skipped.
        ahead: The lsn up to which this process had stepped them before it had the journal; 0 = it
            had not (runtime/durable/standby.py).
        seconds_reading: Of steps 1 to 10.
        seconds_replaying: Of step 14.
        rebuilds: How often it was begun anew because of an input that has to be skipped too.
        kept: Records that only the tail had: of a process that was killed, at the level "os".
        snapshots_rejected: Snapshots that were named and do not count: their lsn, and why.
    """

    directory: str = ""
    medium: str = ""
    outcome: str = ""
    segments: int = 0
    frames: int = 0
    records: int = 0
    bytes: int = 0
    last_seq: int = 0
    last_lsn: int = 0
    torn_bytes: int = 0
    quarantine: str = ""
    may_be_affected: int = 0
    epoch: int = 0
    snapshot_lsn: int = 0
    replayed: int = 0
    ahead: int = 0
    passed_over: int = 0
    rebuilds: int = 0
    seconds_reading: float = 0.0
    seconds_replaying: float = 0.0
    kept: int = 0
    snapshots_rejected: list[tuple[int, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)

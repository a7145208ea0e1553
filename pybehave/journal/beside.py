"""What stands beside a journal's segments and goes with a copy of it, durable when that counts.

Dead letters, the counts of attempts with the marker, the tail that a killed process has left, and
of a store the contents of its snapshots.

Does not know: what is in them, segments, manifests.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pybehave._uring.tail import tail_end
from pybehave.errors import JournalRefused
from pybehave.journal.attempts import ATTEMPTS, MARKER
from pybehave.journal.codec import Coder
from pybehave.journal.contents import FILES
from pybehave.journal.dead_letters import FOLDER as LETTERS
from pybehave.journal.dead_letters import encoded_again
from pybehave.journal.disk import sync_folder
from pybehave.journal.reader import read_manifest
from pybehave.journal.tail import TAIL, TAIL_BYTES_MIN


def copy_beside(source: str, target: str, coder: Coder | None = None) -> None:
    """Copy dead letters and counts of attempts.

    Args:
        coder: Opens the letters, and is applied to them anew; None copies them as they are.

    Raises:
        CodecRefused: A letter cannot be read without other codecs or keys.
        OSError: The target cannot be written.
    """
    for name in (ATTEMPTS, MARKER):
        if Path(source, name).is_file():
            copy_file(Path(source, name), Path(target, name))
    if Path(source, LETTERS).is_dir():
        Path(target, LETTERS).mkdir()
        for file in sorted(Path(source, LETTERS).iterdir()):
            made = Path(target, LETTERS, file.name)
            if file.is_file() and coder is None:
                copy_file(file, made)
            elif file.is_file() and coder is not None:
                put_file(made, encoded_again(file.name, file.read_bytes(), coder))
        sync_folder(os.path.join(target, LETTERS))
    sync_folder(target)


def copy_contents(source: str, target: str) -> None:
    """Copy the contents of a store's snapshots, all that there are.

    Raises:
        OSError: The target cannot be written.
    """
    for file in sorted(Path(source).glob(FILES)):
        copy_file(file, Path(target, file.name))


def tail_records(source: str, journal_id: bytes, last_lsn: int) -> int:
    """How many records the tail of a journal that nobody serves has behind an lsn.

    Returns:
        -1 when there is a gap between them.
    """
    tail = Path(source, TAIL)
    if not tail.is_file() or tail.stat().st_size < TAIL_BYTES_MIN:
        return 0
    end = tail_end(memoryview(tail.read_bytes()), journal_id, last_lsn)
    return -1 if end is None else end - last_lsn


def check_no_tail(source: str, last_lsn: int) -> None:
    """Refuse to leave out what was acknowledged at the level "os" and is in no segment yet.

    Args:
        source: A sound journal that nobody serves.
        last_lsn: The last one that its segments have.

    Raises:
        JournalRefused: There is something.
    """
    manifest = read_manifest(source)
    last_lsn = max(last_lsn, *(lsn for lsn, _ in manifest.snapshots))
    records = tail_records(source, manifest.journal_id, last_lsn)
    if records > 0:
        raise JournalRefused(
            os.path.join(source, TAIL),
            f"it has {records} records that no segment has yet; start the node once, which takes "
            "them over",
        )


def copy_tail(source: str, target: str, journal_id: bytes, last_lsn: int) -> int:
    """Copy the tail to a copy of the journal that ends with an lsn; how many records it has behind.

    One that begins further behind stays where it is: its records would one day seem to go on where
    others end that were given the lsns between (tail.py, K3).

    Raises:
        OSError: The target cannot be written.
    """
    records = tail_records(source, journal_id, last_lsn)
    if records > 0:
        copy_file(Path(source, TAIL), Path(target, TAIL))
    return records


def put_file(target: Path, content: bytes | bytearray) -> None:
    """Write a new file, durable but for its name."""
    with target.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, durable but for its name."""
    shutil.copyfile(source, target)
    with target.open("rb") as file:
        os.fsync(file.fileno())

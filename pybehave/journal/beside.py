"""What stands beside a journal's segments and goes with a copy of it, durable when that counts.

Dead letters, the counts of attempts with the marker, and of a store the contents of its snapshots.

Does not know: what is in them, segments, manifests.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pybehave.journal.attempts import ATTEMPTS, MARKER
from pybehave.journal.codec import Coder
from pybehave.journal.contents import FILES
from pybehave.journal.dead_letters import FOLDER as LETTERS
from pybehave.journal.dead_letters import encoded_again
from pybehave.journal.disk import sync_folder


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

"""The tests' side of volatile_fs.py: start it, mount it, cut its power."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.power.machine import unmount, wait_for


class VolatileDisk:
    """One file system; its content lives as long as its process."""

    def __init__(self, process: subprocess.Popen[str], place: Path) -> None:
        self.process = process
        self.place = place

    def tell(self, *words: object) -> str:
        """One command; its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().strip()
        assert answer and "unknown" not in answer, f"{words}: {answer!r}"
        return answer

    @contextlib.contextmanager
    def mounted(self) -> Iterator[Path]:
        """Its power is on, and nothing of it is in the page cache."""
        self.tell("mount")
        wait_for(lambda: os.path.ismount(self.place), f"mount of {self.place}")
        try:
            yield self.place
        finally:
            unmount(self.place)


@contextlib.contextmanager
def volatile_disk(place: Path) -> Iterator[VolatileDisk]:
    """Start the file system's process; ended at the end."""
    place.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.power.volatile_fs", str(place)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield VolatileDisk(process, place)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()

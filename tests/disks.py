"""Simulated disks as folders."""

from __future__ import annotations

from pathlib import Path

from pybehave.testing.disk import SimDisk


def write_down(disk: SimDisk, folder: Path) -> None:
    """Put what a simulated disk holds into a folder."""
    for name, data in disk.contents().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

"""A block device that fails when told to: nbdkit's error filter, over FUSE, under a loop device.

The loop driver reports a write that FUSE took only a part of as done (kernel 6.18), and FUSE splits
what does not begin on a page: measured, 6 % of such writes were acknowledged, flushed and not
there, which no journal can help. So the file system has blocks of a page, and a request is one
block: it fails as a whole, or not at all.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.power.machine import loop_device, one_block_a_request, run, unmount, wait_for

DEVICE_BYTES = 64 << 20
BLOCK = 4096
MKFS = ("mkfs.ext4", "-q", "-F", "-b", f"{BLOCK}", "-E", "lazy_itable_init=0,lazy_journal_init=0")


class FailingDevice:
    """The device's path, and the switch.

    Attributes:
        device: Of the loop device.
    """

    def __init__(self, device: str, trigger: Path) -> None:
        self.device = device
        self._trigger = trigger

    @contextlib.contextmanager
    def failing(self) -> Iterator[None]:
        """Every write is answered with EIO until the block ends."""
        self._trigger.touch()
        try:
            yield
        finally:
            self._trigger.unlink()


@contextlib.contextmanager
def failing_device(folder: Path) -> Iterator[FailingDevice]:
    """Make one, with ext4, and lend it; it lies in memory or on the disk, as the folder does."""
    image, trigger, place = folder / "nbd.img", folder / "trigger", folder / "nbd"
    with open(image, "wb") as file:
        file.truncate(DEVICE_BYTES)
    place.touch()
    command = ["nbdfuse", str(place), "--command", "nbdkit", "-s", "--exit-with-parent"]
    command += ["--filter=error", "file", str(image), "error-pwrite=EIO"]
    command += ["error-pwrite-rate=100%", f"error-pwrite-file={trigger}"]
    # It says a line for each write that it refuses: to be read when a test fails, not before.
    said = folder / "nbd.log"
    with open(said, "wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        wait_for(lambda: place.stat().st_size == DEVICE_BYTES, "nbdfuse serves")
        with loop_device(place) as device:
            one_block_a_request(device, BLOCK)
            run(*MKFS, device)
            yield FailingDevice(device, trigger)
    except BaseException:  # also a skip or a timeout of pytest's, which are no Exception
        print(said.read_text()[-2000:])
        raise
    finally:
        if os.path.ismount(place):
            unmount(place)
        process.terminate()
        process.wait(20)
        image.unlink()


@contextlib.contextmanager
def layered(below: Path, place: Path) -> Iterator[Path]:
    """An overlay on a folder, as a container has it: our commits take the page cache there."""
    for name in ("lower", "upper", "work"):
        (below / name).mkdir(exist_ok=True)
    place.mkdir(exist_ok=True)
    folders = f"lowerdir={below}/lower,upperdir={below}/upper,workdir={below}/work"
    run("mount", "-t", "overlay", "-o", folders, "overlay", place)
    try:
        yield place
    finally:
        unmount(place)

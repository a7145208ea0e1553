"""Devices, images and mounts, always taken away again; and what the machine must have for them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SHUTDOWN = 0x8004587D
"""EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN: _IOR('X', 125, __u32)."""

FLUSH_ALL, FLUSH_LOG, FLUSH_NOTHING = 0, 1, 2
"""What is still written before the file system is gone: everything, its log, nothing."""

MKFS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
}
IMAGE_BYTES = {"ext4": 96 << 20, "xfs": 320 << 20}
"""Sparse. xfs refuses less than 300 MiB; ext4 needs room for what the journal keeps."""

WAIT_S = 20.0
AGAIN_S = 0.01


def need(*programs: str, fuse: bool = False) -> None:
    """Skip, and say why, when the machine lacks something."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for mounts and loop devices")
    if not os.path.exists("/dev/loop-control"):
        pytest.skip("needs loop devices (/dev/loop-control)")
    if fuse and not os.path.exists("/dev/fuse"):
        pytest.skip("needs /dev/fuse")
    for program in ("mount", "losetup", *programs):
        if shutil.which(program) is None:
            pytest.skip(f"needs {program}; scripts/test_power.sh installs it")
    found = run("losetup", "--find", check=False)
    if found.returncode:
        pytest.skip(f"no loop device can be had: {found.stderr.strip()}")


def run(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; a failure shows what it said."""
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0 or not check, f"{words}: {done.stdout}{done.stderr}"
    return done


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Ask until it is so; fails after WAIT_S."""
    pause = threading.Event()
    for _ in range(int(WAIT_S / AGAIN_S)):
        if condition():
            return
        pause.wait(AGAIN_S)
    raise AssertionError(f"it never became true: {what}")


@contextlib.contextmanager
def loop_device(image: Path, *options: str) -> Iterator[str]:
    """A block device over a file."""
    device = run("losetup", "--find", "--show", *options, image).stdout.strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)


def one_block_a_request(device: str, block: int) -> None:
    """Let a loop device hand on requests of one block, in bytes, for it does not see short ones."""
    queue = Path("/sys/block") / Path(device).name / "queue"
    (queue / "max_sectors_kb").write_text(f"{block // 1024}")


@contextlib.contextmanager
def formatted(folder: Path, file_system: str, size: int = 0) -> Iterator[str]:
    """A block device with an empty file system, in an image in that folder."""
    image = folder / f"{file_system}.img"
    with open(image, "wb") as file:
        file.truncate(size or IMAGE_BYTES[file_system])
    try:
        with loop_device(image) as device:
            run(*MKFS[file_system], device)
            yield device
    finally:
        image.unlink()


@contextlib.contextmanager
def mounted(device: str, place: Path, *options: str) -> Iterator[Path]:
    """The file system of a device, mounted; its processes must have ended at the end."""
    place.mkdir(exist_ok=True)
    run("mount", *options, device, place)
    try:
        yield place
    finally:
        unmount(place)


def unmount(place: Path) -> None:
    """Unmount; a process that has just been killed may hold its files a moment longer."""
    try:
        wait_for(lambda: run("umount", place, check=False).returncode == 0, f"umount {place}")
    except AssertionError:
        run("umount", "--lazy", place, check=False)
        raise


def shut_down(place: Path, how: int) -> None:
    """Cut the power of a mounted ext4 or xfs: nothing reaches the device from here on."""
    fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", how))
    finally:
        os.close(fd)

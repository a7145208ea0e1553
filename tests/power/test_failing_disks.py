"""T-8: real file systems whose device fails, fills up, or becomes read-only under the server."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.power.clients import Load
from tests.power.failing_device import BLOCK, failing_device, layered
from tests.power.machine import (
    formatted,
    loop_device,
    mounted,
    need,
    one_block_a_request,
    run,
    wait_for,
)
from tests.power.rounds import check_source, rounds
from tests.power.served import serving, starting
from tests.power.story import Story

pytestmark = [pytest.mark.power, pytest.mark.timeout(300)]

SOURCES = ("full", "epoll")


def test_the_page_cache_lies_after_a_failed_write(tmp_path: Path) -> None:
    """fsyncgate, without us: what the suites below are about (durability.md 4.3)."""
    need("nbdkit", "nbdfuse", "mkfs.ext4", fuse=True)
    with failing_device(tmp_path) as disk, mounted(disk.device, tmp_path / "mount") as place:
        fd = os.open(place / "f", os.O_RDWR | os.O_CREAT)
        os.pwrite(fd, b"o" * BLOCK, 0)
        os.fsync(fd)
        with disk.failing():
            os.pwrite(fd, b"n" * BLOCK, 0)
            with pytest.raises(OSError):
                os.fdatasync(fd)
        os.fdatasync(fd)  # "all is well"
        assert os.pread(fd, 1, 0) == b"n"
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(fd, 1, 0) == b"o"
        os.close(fd)


@contextlib.contextmanager
def folder_on(below: Path, place: Path, kind: str) -> Iterator[Path]:
    """Where the journal lies: on ext4 itself, or on an overlay over it."""
    if kind == "ext4":
        yield below
    else:
        with layered(below, place) as above:
            yield above


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["ext4", "overlay"])
def test_after_a_failed_write_recovery_sees_what_the_disk_has(
    tmp_path: Path, kind: str, source: str
) -> None:
    """F-11, F-12, F-13: the restart is on the same mount, its page cache as the failure left it;
    what it finds is found again after a power cut.
    """
    story = Story(seed=0)
    fail_and_recover(tmp_path, kind, source, story, rounds(6, f"failing {kind} {source}"))
    print(f"{kind}, {source}: {story.rounds} recoveries, {story.judged} answered, none lost")


def fail_and_recover(
    folder: Path,
    kind: str,
    source: str,
    story: Story,
    lives: Iterable[tuple[int, random.Random]],
    without: str = "",
) -> None:
    """Lives of servers that end when their device fails; each is started twice."""
    need("nbdkit", "nbdfuse", "mkfs.ext4", fuse=True)
    check_source(source)
    last = None
    place, above = folder / "mount", folder / "above"
    with failing_device(folder) as disk:
        for number, chance in lives:
            with mounted(disk.device, place), folder_on(place, above, kind) as below:
                data = below / "data"
                with serving(data, source, without=without) as served:
                    story.check(served.port, last)  # after a power cut: nothing is cached
                    with Load(f"{number}", served.port, chance.randint(1, 5)) as last:
                        last.wait_acked(chance.randint(20, 300))
                        with disk.failing():
                            assert served.wait() == 1, served.errors
                    assert "cannot be written any more" in served.errors
                run("mount", "-o", "remount,rw", place, check=False)
                with starting(data, source, without=without) as served:
                    if served.is_ready:
                        story.check(served.port, last)
                        last = None
                    else:
                        assert "read-only" in served.errors, served.errors
        with mounted(disk.device, place), folder_on(place, above, kind) as below:
            with serving(below / "data", source, without=without) as served:
                story.check(served.port, last)


# --- no room ------------------------------------------------------------------------------------


def is_refused(place: Path, load: Load) -> bool:
    """Whether a new client is, on a disk that is kept full. Those that were there when the last
    segment ended wait for their answers, so they ask nothing any more.
    """
    fill(place)
    load.join_in()
    return any(client.refused for client in load.clients)


def fill(place: Path) -> None:
    """Leave no room; again and again, for snapshots give some back."""
    ballast = place / "ballast"
    with open(ballast, "ab", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 16)):
            continue


@pytest.mark.parametrize("source", SOURCES)
def test_a_full_disk_refuses_commands_until_there_is_room(tmp_path: Path, source: str) -> None:
    """F-15."""
    need("mkfs.ext4")
    check_source(source)
    story = Story(seed=0, may_refuse=True)
    with formatted(tmp_path, "ext4", 24 << 20) as device:
        with mounted(device, tmp_path / "mount") as place:
            with serving(place / "data", source) as served:
                with Load("a", served.port, 4) as load:
                    load.wait_acked(200)
                    wait_for(lambda: is_refused(place, load), "a refusal")
                    (place / "ballast").unlink()
                    count = load.taken
                    wait_for(lambda: load.taken > count + 100, "commands are taken again")
                story.check(served.port, load)
                served.kill()
            with serving(place / "data", source) as served:
                story.check(served.port, None)


@pytest.mark.parametrize("source", SOURCES)
def test_a_device_without_room_loses_nothing_that_was_acknowledged(
    tmp_path: Path, source: str
) -> None:
    """F-16: ext4 believes in space that the device does not have. Either commands are refused, or
    the server stops; both keep what was acknowledged.

    One block a request, for the loop driver reports a short write as done (kernel 6.18): with
    larger ones it is a device that lies, and no journal can help.
    """
    need("mkfs.ext4")
    check_source(source)
    story, thin = Story(seed=0, may_refuse=True), tmp_path / "thin"
    thin.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", thin)
    try:
        image = thin / "image"
        with open(image, "wb") as file:
            file.truncate(96 << 20)
        with loop_device(image) as device:
            one_block_a_request(device, BLOCK)
            run("mkfs.ext4", "-q", "-F", "-b", str(BLOCK), device)
            with mounted(device, tmp_path / "mount") as place:
                with serving(place / "data", source) as served:
                    with Load("a", served.port, 4) as load:
                        load.wait_acked(200)
                        wait_for(
                            lambda: served.process.poll() is not None or is_refused(thin, load),
                            "a refusal, or the end",
                        )
                        assert served.process.poll() in (None, 1), served.errors
                        (thin / "ballast").unlink()  # whoever waits is answered
            with mounted(device, tmp_path / "mount") as place:
                with serving(place / "data", source) as served:
                    story.check(served.port, load)
    finally:
        run("umount", thin)


# --- read-only ----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", SOURCES)
def test_a_file_system_that_becomes_read_only_ends_the_server(tmp_path: Path, source: str) -> None:
    """F-38, F-39."""
    need("mkfs.ext4")
    check_source(source)
    story = Story(seed=0)
    with formatted(tmp_path, "ext4") as device:
        trigger = Path("/sys/fs/ext4") / Path(device).name / "trigger_fs_error"
        with mounted(device, tmp_path / "mount", "-o", "errors=remount-ro") as place:
            if not trigger.exists():
                pytest.skip(f"this kernel has no {trigger}")
            with serving(place / "data", source) as served:
                with Load("a", served.port) as load:
                    load.wait_acked(500)
                    trigger.write_text("1")
                    assert served.wait() == 1, served.errors
                assert "cannot be written any more: Read-only file system" in served.errors
            with starting(place / "data", source) as again:
                assert again.wait() == 1
                assert "read-only" in again.errors
                assert "Traceback" not in again.errors
        run("fsck.ext4", "-p", device, check=False)
        with mounted(device, tmp_path / "mount") as place:
            with serving(place / "data", source) as served:
                story.check(served.port, load)

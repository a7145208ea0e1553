"""T-7: every write and flush of a real ext4 is logged; then it is cut anywhere, and started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.power.block_log import (
    BLOCK,
    FILE_SYSTEM_BYTES,
    Markers,
    Past,
    logged_device,
    points,
    read_log,
)
from tests.power.clients import Client, Load
from tests.power.machine import loop_device, mounted, need, run
from tests.power.rounds import VOLUME, check_source, rounds
from tests.power.served import serving
from tests.power.story import Story

pytestmark = [pytest.mark.power, pytest.mark.timeout(600)]

IMAGES = 30
COMMANDS = 1500


class RawLoad(Load):
    """Clients that can be watched answer by answer."""

    KINDS = ((Client, 1), (Client, 16), (Client, 1), (Client, 4))


def write_log(folder: Path, source: str) -> Load:
    """One life of a server on a logged device."""
    with logged_device(folder) as device:
        run("mkfs.ext4", "-q", "-F", "-b", str(BLOCK), device, str(FILE_SYSTEM_BYTES // BLOCK))
        markers = Markers(device)
        with mounted(device, folder / "mount") as place, serving(place / "data", source) as served:
            load = RawLoad("a", served.port, 4)
            for index, client in enumerate(load.clients):
                markers.watch(index, client)
            with load:
                load.wait_acked(COMMANDS)
                served.kill()
        markers.close()
    return load


@pytest.mark.parametrize("source", ["full", "epoll"])
def test_every_image_that_a_power_cut_can_leave_holds_what_was_acknowledged(
    tmp_path: Path, source: str
) -> None:
    need("mkfs.ext4", "qemu-storage-daemon", fuse=True)
    check_source(source)
    load = write_log(tmp_path, source)
    entries = read_log(tmp_path / "log")
    past, image, judged = Past(entries, len(load.clients)), tmp_path / "cut.img", 0
    chosen = None
    for number, chance in rounds(IMAGES, f"block log {source}"):
        if chosen is None:
            chosen = points(entries, max(2, round(IMAGES * VOLUME)), chance)
        point, share = chosen[number % len(chosen)]
        past.go_to(point)
        image.write_bytes(past.image(chance, share))
        with loop_device(image) as device, mounted(device, tmp_path / "mount") as place:
            with serving(place / "data", source) as served:
                Story(seed=number).check(served.port, load, past.must)
        judged += sum(past.must)
    image.unlink()
    (tmp_path / "log").unlink()
    flushes = sum(entry.is_flush for entry in entries)
    assert past.must != [0] * len(load.clients)
    print(f"{source}: {len(entries)} writes, {flushes} flushes, {judged} answered, none lost")

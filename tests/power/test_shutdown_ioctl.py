"""T-6: real ext4 and xfs whose power is cut by their own shutdown ioctl.

The machine runs on, so answers could come after the cut. Two counts, then (durability.md 4.2): what
was answered before the ioctl must be there after the next mount; and so must all that was answered
at all, because every block of a segment was written before it is used (F-14).
"""

from __future__ import annotations

import contextlib
import random
import subprocess
import threading
from pathlib import Path

import pytest

from tests.power.clients import Load
from tests.power.machine import (
    FLUSH_ALL,
    FLUSH_LOG,
    FLUSH_NOTHING,
    formatted,
    mounted,
    need,
    shut_down,
)
from tests.power.resp import Connection, command
from tests.power.rounds import check_source, rounds
from tests.power.served import serving
from tests.power.story import Story

CUT_AFTER_S_MAX = 0.15
ROUNDS = 55
"""Of each source on each file system."""

LOOKED_S = 2.0
"""A quiet loop has long looked after its journal by then."""


def cut_under_load(
    place: Path, source: str, story: Story, last: Load | None, number: int, chance: random.Random
) -> tuple[Load, int]:
    """One life of a server: it recovers, it is judged, it serves, the power goes."""
    with serving(place / "data", source) as served:
        story.check(served.port, last)
        with Load(f"{number}", served.port, chance.randint(1, len(Load.KINDS))) as load:
            load.wait_acked(chance.randint(0, 200))
            threading.Event().wait(chance.uniform(0, CUT_AFTER_S_MAX))
            before = load.acked()
            shut_down(place, chance.choice((FLUSH_NOTHING, FLUSH_NOTHING, FLUSH_LOG, FLUSH_ALL)))
            status = served.wait()  # it must notice by itself: clients go on writing
        assert status != 0, "the disk was gone, but it ended with status 0"
        assert "cannot be written any more" in served.errors, served.errors
    return load, sum(load.acked()) - sum(before)


@pytest.mark.power
@pytest.mark.timeout(900)
@pytest.mark.parametrize("source", ["full", "epoll"])
@pytest.mark.parametrize("file_system", ["ext4", "xfs"])
def test_what_was_answered_before_and_after_the_cut_is_there(
    tmp_path: Path, file_system: str, source: str
) -> None:
    need(f"mkfs.{file_system}")
    check_source(source)
    story, last, late = Story(seed=0), None, 0
    with formatted(tmp_path, file_system) as device:
        for number, chance in rounds(ROUNDS, f"shutdown {file_system} {source}"):
            with mounted(device, tmp_path / "mount") as place:
                last, after = cut_under_load(place, source, story, last, number, chance)
                late += after
        with mounted(device, tmp_path / "mount") as place:
            with serving(place / "data", source) as served:
                story.check(served.port, last)
    print(
        f"{file_system}, {source}: {story.rounds} cuts, {story.judged} answered, of which {late} "
        "after the cut, none lost"
    )


@pytest.mark.power
@pytest.mark.timeout(300)
@pytest.mark.parametrize("source", ["full", "epoll"])
@pytest.mark.parametrize("file_system", ["ext4", "xfs"])
def test_F11_a_node_with_nothing_to_write_notices_the_cut_too(
    tmp_path: Path, file_system: str, source: str
) -> None:
    """After a pause the loop looks whether its files are there: on xfs that fails, too."""
    need(f"mkfs.{file_system}")
    check_source(source)
    with formatted(tmp_path, file_system) as device, mounted(device, tmp_path / "mount") as place:
        with serving(place / "data", source) as served:
            with Connection(served.port) as client:
                client.send(command(b"SET", b"a", b"b"))
                assert client.reply() == b"OK"
                shut_down(place, FLUSH_NOTHING)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    served.process.wait(LOOKED_S)
                if served.process.poll() is None:  # it had looked already when the cut came
                    client.send(command(b"SET", b"a", b"c"))
                assert served.wait() == 1
            assert "cannot be written any more: Input/output error" in served.errors

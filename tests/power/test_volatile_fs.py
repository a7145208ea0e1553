"""T-5: a file system that keeps only what was synced, names included, and fails when told to."""

from __future__ import annotations

import errno
import random
import threading
from pathlib import Path

import pytest

from tests.power.clients import Load
from tests.power.machine import need
from tests.power.rounds import check_source, rounds
from tests.power.served import Served, serving
from tests.power.story import Story
from tests.power.volatile_disk import VolatileDisk, volatile_disk

AFTER_S_MAX = 0.1
ROUNDS = {"full": 160, "epoll": 160}
KINDS = ("crash", "crash", "crash", "write", "fsync", "fsyncdir", "room")

LIVES = 8
"""Of one journal; then a new one begins."""


def cut(disk: VolatileDisk, served: Served, chance: random.Random) -> None:
    """The power goes; either the process too, or it must notice."""
    disk.tell("crash", chance.randrange(10**9), chance.choice((0, 0.1, 0.5, 0.9, 1)))
    if chance.random() < 0.3:
        served.kill()
    else:
        assert served.wait() == 1, served.errors


def fail(disk: VolatileDisk, served: Served, load: Load, kind: str, chance: random.Random) -> None:
    """The next writes or syncs fail. In a segment or the manifest that is the end; while the next
    segment is prepared it is tried again (F-15), once the fault is over.
    """
    if kind == "room":
        disk.tell("room", 0)
    else:
        count = chance.choice((1, 1, -1))
        disk.tell("fault", kind, chance.choice((errno.EIO, errno.EIO, errno.ENOSPC)), count)
    threading.Event().wait(chance.uniform(0, AFTER_S_MAX))
    hits = disk.tell("hits").split()
    disk.tell("room", -1)
    disk.tell("fault", kind, 0, 0)
    hits += disk.tell("hits").split()
    is_fatal = any("seg-" in hit or "MANIFEST" in hit for hit in hits)
    is_fatal = is_fatal and any(hit.startswith(("write", "fsync:")) for hit in hits)
    if is_fatal:
        assert served.wait() == 1, (hits, served.errors)
        assert "cannot be written any more" in served.errors
        return
    assert served.process.poll() is None, (hits, served.errors)
    count = sum(load.acked())
    load.wait_acked(count + 1)
    assert sum(load.acked()) > count, (hits, served.errors)
    served.kill()


@pytest.mark.power
@pytest.mark.timeout(900)
@pytest.mark.parametrize("source", list(ROUNDS))
def test_only_what_was_synced_is_needed(tmp_path: Path, source: str) -> None:
    pytest.importorskip("mfusepy", reason="needs mfusepy; scripts/test_power.sh installs it")
    need("fusermount3", fuse=True)
    check_source(source)
    met = dict.fromkeys(KINDS, 0)
    judged = 0
    with volatile_disk(tmp_path / "mount") as disk:
        story, last = Story(seed=0, may_refuse=True), None
        for number, chance in rounds(ROUNDS[source], f"volatile {source}"):
            name = f"data{number // LIVES}"
            last, kind = live(disk, name, source, story, last, chance)
            met[kind] += 1
            if number % LIVES == LIVES - 1:
                with disk.mounted() as place, serving(place / name, source) as served:
                    story.check(served.port, last)
                judged += story.judged
                story, last = Story(seed=number, may_refuse=True), None
    print(f"{source}: {sum(met.values())} lives, {judged} answered, none lost; {met}")


def live(
    disk: VolatileDisk,
    name: str,
    source: str,
    story: Story,
    last: Load | None,
    chance: random.Random,
    kinds: tuple[str, ...] = KINDS,
    without: str = "",
) -> tuple[Load, str]:
    """One life of a server: it recovers, it is judged, it serves, something fails."""
    kind = chance.choice(kinds)
    with disk.mounted() as place, serving(place / name, source, without=without) as served:
        story.check(served.port, last)
        with Load(
            f"{chance.randrange(10**6)}", served.port, chance.randint(1, len(Load.KINDS))
        ) as load:
            load.wait_acked(chance.randint(0, 300))
            threading.Event().wait(chance.uniform(0, AFTER_S_MAX))
            if kind == "crash":
                cut(disk, served, chance)
            else:
                fail(disk, served, load, kind, chance)
    return load, kind

"""Snapshots cut off, damaged, half forgotten (F-21 to F-23): a longer replay at most."""

from __future__ import annotations

import errno
import random
from collections.abc import Callable

import pytest

from pybehave.errors import JournalRefused
from pybehave.journal import recovery, segment_files, snapshot
from pybehave.testing.disk import PowerCut, SimDisk
from tests.journal.engine import play
from tests.journal.small import Small

SHARE = 4
"""So many fewer crash states than in the random suite, which has everything else."""

EVENTS = ["snapshots", "snapshots cut", "snapshots failed", "forgotten", "spoiled", "torn", "clean"]
FILLED = "FpcsRpcpcpcpc"
"""Fills a segment and rolls to the next, where there is room."""


@pytest.mark.timeout(0)  # bounded by the number of states
def test_every_crash_state_with_snapshots_recovers_to_the_same_states(
    play_many: Callable[..., None],
) -> None:
    play_many(lambda seed: play(seed, has_snapshots=True), EVENTS, share=SHARE)


def content_of(small: Small, lsn: int) -> bytes:
    entry = snapshot.Entry(b"\x80", small.model.state(lsn))
    return snapshot.encode(b"i" * 16, lsn, 1, [entry])


def take(small: Small, *, forget: bool = True) -> int:
    """Snapshot all that is recorded, and forget what only older ones needed; its lsn."""
    lsn = small.commit.next_lsn - 1
    small.drain()
    assert small.commit.durable_lsn == lsn
    digest = snapshot.write(small.disk, content_of(small, lsn), lsn)
    starts = [(number, 1) for number in (1, 2, 3) if number <= small.commit.current_segment]
    if small.commit.current_segment > 1:
        starts[-1] = (small.commit.current_segment, small.commit.segment_first_lsn)
    oldest, kept = snapshot.still_needed(starts, lsn, small.commit.snapshots[0])
    named: list[int] = []
    small.commit.snapshot_taken(lsn, digest, oldest, lambda: named.append(lsn))
    small.drain()
    assert named == [lsn]
    if forget:
        recovery.tidy(small.disk, oldest, kept, is_start=False)
    return lsn


def two_snapshots() -> tuple[Small, list[int]]:
    """A journal whose first segment is forgotten, with two snapshots and more behind them."""
    small = Small(SimDisk(1)).run(FILLED)
    lsns = [take(small), take(small.run("rpc"))]
    small.run("rpcw")
    small.drain()
    assert segment_files.segment_name(1) not in small.disk.names()
    return small, lsns[::-1]


@pytest.fixture
def two() -> tuple[Small, list[int]]:
    """The same."""
    return two_snapshots()


@pytest.mark.parametrize("operation", range(1, 5))
@pytest.mark.parametrize("seed", range(8))
def test_F21_a_snapshot_that_was_cut_off_never_was(operation: int, seed: int) -> None:
    small = Small(SimDisk(seed)).run("rpcrpc")
    lsn = take(small)
    small.run("rpcrpc")
    small.disk.cut_at = small.disk.operations + operation
    try:
        snapshot.write(small.disk, content_of(small, lsn + 2), lsn + 2)
    except PowerCut:
        assert operation < 4
    disk = small.disk.cut(random.Random(seed))
    found = small.recover(disk)
    assert found.report.snapshot_lsn == lsn and found.last_lsn == small.model.acked
    assert [name for name in disk.names() if name.startswith("snap")] == [
        snapshot.snapshot_name(lsn)
    ]


@pytest.mark.parametrize("kind, what", [("put", "lying"), ("put", errno.ENOSPC), ("read", 5)])
def test_F21_a_snapshot_that_cannot_be_read_back_is_not_named(kind, what) -> None:
    small = Small(SimDisk(3)).run("rpcrpc")
    small.disk.fail(what, kinds=(kind,))
    with pytest.raises((OSError, JournalRefused)):
        snapshot.write(small.disk, content_of(small, 4), 4)
    assert not [name for name in small.disk.names() if name.endswith(".tmp")]
    assert small.recover(small.disk.copy()).report.snapshot_lsn == 0


def spoil(disk: SimDisk, lsn: int) -> None:
    name = snapshot.snapshot_name(lsn)
    disk.patch(name, 130, bytes([disk.contents()[name][130] ^ 1]))


def test_F22_a_damaged_snapshot_costs_a_longer_replay(two) -> None:
    small, (newest, older) = two
    disk = small.disk.copy()
    spoil(disk, newest)
    found = small.recover(disk)
    assert (found.report.snapshot_lsn, found.last_lsn) == (older, small.model.acked)
    assert "its SHA-256 is another; the one before it is used" in found.report.warnings[0]


def test_F22_the_sound_one_is_kept(two) -> None:
    """The next snapshot would be kept beside it, and what the sound one needs be removed."""
    small, (newest, older) = two
    spoil(small.disk, newest)
    again = Small(small.disk, model=small.model)
    assert again.commit.snapshots == (older, 0)
    third = take(again.run("rpc"))
    assert again.commit.snapshots == (third, older)
    spoil(again.disk, third)
    assert again.recover(again.disk.copy()).report.snapshot_lsn == older


def test_F22_without_any_sound_snapshot_a_shortened_journal_is_refused(two) -> None:
    small, lsns = two
    disk = small.disk.copy()
    for lsn in lsns:
        spoil(disk, lsn)
    before = disk.contents()
    with pytest.raises(JournalRefused, match="no snapshot can be read, and the segments begin"):
        small.recover(disk)
    assert disk.contents() == before


def test_F22_a_snapshot_that_cannot_be_read_is_as_good_as_damaged(two) -> None:
    small, (newest, older) = two
    disk = small.disk.copy()
    disk.spoiled.add((snapshot.snapshot_name(newest), 0))
    assert small.recover(disk).report.snapshot_lsn == older
    disk = small.disk.copy()
    disk.spoiled.update((snapshot.snapshot_name(lsn), 0) for lsn in (newest, older))
    before = disk.contents()
    with pytest.raises(OSError, match="Input/output error"):
        small.recover(disk)
    assert disk.contents() == before


@pytest.mark.parametrize("seed", range(32))
def test_F23_what_was_half_forgotten_is_removed_by_the_next_start(seed: int) -> None:
    small = Small(SimDisk(seed)).run(FILLED)
    older = take(small)
    newest = take(small.run("rpc"), forget=False)
    small.disk.fail(errno.EIO, kinds=("names",))
    with pytest.raises(OSError):
        recovery.tidy(small.disk, 2, {newest, older}, is_start=False)
    disk = small.disk.cut(random.Random(seed))
    found = small.recover(disk)
    assert found.report.snapshot_lsn == newest and found.pieces[0].number == 2
    numbers = [segment_files.segment_number(name) for name in disk.names()]
    assert 1 not in numbers


def test_F23_a_snapshot_that_waits_for_its_name_is_left_alone() -> None:
    """It was written while the manifest was being changed for the one before."""
    small = Small(SimDisk(1)).run("rpc")
    lsn = take(small)
    small.run("rpc")
    digest = snapshot.write(small.disk, content_of(small, lsn + 2), lsn + 2)
    recovery.tidy(small.disk, 1, {lsn, 0}, is_start=False)
    small.commit.snapshot_taken(lsn + 2, digest, 1, lambda: None)
    small.drain()
    assert small.recover(small.disk.copy()).report.snapshot_lsn == lsn + 2


def test_F23_one_that_never_got_its_name_is_removed_by_the_next_start() -> None:
    small = Small(SimDisk(1)).run("rpc")
    lsn = take(small)
    small.run("rpc")
    snapshot.write(small.disk, content_of(small, lsn + 2), lsn + 2)
    disk = small.disk.copy()
    assert small.recover(disk).report.snapshot_lsn == lsn
    assert snapshot.snapshot_name(lsn + 2) not in disk.names()


def test_what_a_crash_left_half_made_is_removed_before_a_start_needs_its_room() -> None:
    small = Small(SimDisk(1)).run("rpcrpc")
    size = int(small.options.segment_bytes)
    small.disk.put("snap-0000000000000009.pbs.tmp", bytes(size))
    disk = small.disk.copy()
    disk.room = sum(map(len, disk.contents().values())) + size // 2
    found = small.recover(disk)
    assert found.last_lsn == small.model.acked
    assert not [name for name in disk.names() if name.endswith(".tmp")]

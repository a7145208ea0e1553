"""T-3: the Nth operation fails, once and for ever, for every N until the scenario passes untouched.

The scenario opens, commits, rolls, writes watermarks, closes and opens again. Whatever fails: what
had been acknowledged is there after the next start, and nothing was acknowledged after a failure.
"""

import errno
import itertools
import random
from collections.abc import Iterator

import pytest

from pybehave.errors import JournalRefused
from pybehave.journal import zeros
from pybehave.journal.disk import BLOCK
from pybehave.journal.recovery import prepare
from pybehave.journal.segment_files import segment_name
from pybehave.testing.disk import PowerCut, SimDisk
from tests.journal.model import Model
from tests.journal.small import SEGMENT_BYTES, Small

SCRIPT = "rprpcwpCrpcsFpcrpcFpcpcpcrpRpCc"
BLOCKING = ("read", "fill", "put", "sync", "names")
FAULTS = [
    (kind, what)
    for kind in ("write", *BLOCKING)
    for what in (errno.EIO, errno.ENOSPC, errno.EROFS)
    if not (kind == "read" and what != errno.EIO)
]
N_MAX = 200


def scenario(disk: SimDisk, model: Model) -> None:
    """Live twice; the first failure of a blocking operation ends it, as it ends the program."""
    for _ in range(2):
        try:
            small = Small(disk, model=model)
            small.run(SCRIPT + "x")
            if small.error:
                model.acked = small.commit.durable_lsn
                small.leave()
                return
        except OSError:
            return


def failing(kind: str, what: int, *, is_forever: bool) -> Iterator[tuple[int, SimDisk, Model]]:
    """Every N with what the failure left, until the scenario meets it no more."""
    for n in itertools.count(1):
        assert n < N_MAX
        disk, model = SimDisk(n), Model()
        disk.fail(what, at=n, kinds=(kind,), is_forever=is_forever)
        try:
            scenario(disk, model)
        except JournalRefused:
            assert is_forever and kind == "read", "a disk that cannot be read at all"
        if not disk.failures:
            return
        disk.heal()
        yield n, disk, model


def recover_all_ways(disk: SimDisk, model: Model) -> int:
    """On the same boot, and after power cuts, once and twice."""
    small = Small.__new__(Small)
    small.options, small.model, small.now = Small(SimDisk()).options, model, 10**9
    states = 0
    for seed in range(4):
        chance = random.Random(seed)
        small.recover(disk.cut(chance))
        same_boot = disk.copy()
        small.recover(same_boot)
        small.recover(same_boot.cut(chance))
        states += 3
    return states


@pytest.mark.parametrize("is_forever", [False, True])
@pytest.mark.parametrize(("kind", "what"), FAULTS)
def test_the_nth_operation_fails(kind: str, what: int, is_forever: bool) -> None:
    count = 0
    for _, disk, model in failing(kind, what, is_forever=is_forever):
        recover_all_ways(disk, model)
        count += 1
    assert count >= (1 if kind == "put" else 2)


@pytest.mark.parametrize("second", [*BLOCKING, "write"])
@pytest.mark.parametrize("first", ["write", "fill", "names", "sync"])
def test_and_then_recovery_fails_too(first: str, second: str) -> None:
    """Pairs: fault N while living, fault M while recovering from it."""
    for _, disk, model in failing(first, errno.EIO, is_forever=False):
        for m in itertools.count(1):
            other = disk.copy() if m % 2 else disk.cut(random.Random(m))
            other.fail(errno.EIO, at=m, kinds=(second,))
            small = Small.__new__(Small)
            small.options, small.model, small.now = Small(SimDisk()).options, model, 10**9
            try:
                small.recover(other)
            except OSError:
                other.heal()
                small.recover(other.copy())
                small.recover(other.cut(random.Random(m)))
            if not other.failures:
                break


def test_the_power_goes_in_every_operation() -> None:
    """Every operation of the scenario, blocking ones too, and every operation of its recovery."""
    for n in itertools.count(1):
        disk, model = SimDisk(n), Model()
        disk.cut_at = n
        try:
            scenario(disk, model)
        except PowerCut:
            pass
        else:
            if disk.operations < n:
                return
        for m in range(1, 20):
            found = disk.cut(random.Random(m))
            found.cut_at = m
            small = Small.__new__(Small)
            small.options, small.model, small.now = Small(SimDisk()).options, model, 10**9
            try:
                small.recover(found)
            except PowerCut:
                small.recover(found.cut(random.Random(m)))


def test_nothing_counts_after_the_first_failure() -> None:
    """J4: a frame that lands after another has failed is not acknowledged."""
    small = Small(SimDisk(), depth=4)
    small.run("rprprp")
    small.disk.fail(errno.EIO)
    small.complete(0)
    assert small.error == errno.EIO
    while small.flying:
        small.complete(0)
    assert small.commit.durable_lsn == 0 and small.commit.take_write(10**9) is None
    small.leave()


def test_a_failed_spare_is_made_again() -> None:
    disk = SimDisk()
    Small(disk)
    for kind in ("fill", "names"):
        disk.fail(errno.EIO, kinds=(kind,))
        with pytest.raises(OSError):
            prepare(disk, 2, SEGMENT_BYTES)
        assert disk.names() == ["MANIFEST", "seg-0000000000000001.pbj"]
    prepare(disk, 2, SEGMENT_BYTES)
    assert all("seg-0000000000000002.pbj" in disk.cut(random.Random(s)).names() for s in range(20))


@pytest.mark.parametrize("at", range(8))
def test_a_prepared_segment_that_is_not_all_zeros_is_made_again(
    at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the byte is: it is read in pieces."""
    monkeypatch.setattr(zeros, "PIECE_BYTES", 3 * BLOCK)
    disk = SimDisk()
    prepare(disk, 2, 8 * BLOCK)
    disk.write(segment_name(2), at * BLOCK, bytes(BLOCK - 1) + b"x")
    prepare(disk, 2, 8 * BLOCK)
    assert disk.read(segment_name(2), 0, 8 * BLOCK) == bytes(8 * BLOCK)

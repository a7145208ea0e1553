"""T-4: a journal at rest is damaged. Never wrong data; refused untouched, or repaired as the fault
list says. Every 50th case by default, all with PYBEHAVE_EXHAUSTIVE=1.
"""

import itertools
from collections import Counter

import pytest

from pybehave.errors import JournalRefused
from pybehave.journal.segment_files import segment_name
from pybehave.testing.disk import SimDisk
from tests.journal.model import BLOCK
from tests.journal.small import Small

SCRIPT = "rprpcwpCcrpcsFpcrpcFpcpcpcprpcRpc"
SLOT_B = 32768
SEG1 = segment_name(1)


def lived(*, is_closed: bool) -> Small:
    """Two segments and three; closed cleanly, or killed with everything acknowledged."""
    small = Small(SimDisk()).run(SCRIPT + ("spcpcpcpc" if is_closed else ""))
    if is_closed:
        small.step("x")
        assert small.commit.is_closed
    small.drain() if not is_closed else None
    return small


def after(small: Small, disk: SimDisk) -> tuple[str, int]:
    """What recovery makes of a damaged disk: (outcome, frames lost), all promises kept."""
    before = disk.contents()
    acked, small.model.acked = small.model.acked, 0
    try:
        found = small.recover(disk)
    except JournalRefused:
        assert disk.contents() == before, "I6: refused, and not untouched"
        return "refused", 0
    finally:
        small.model.acked = acked
    lost = max(small.commit.durable_seq - found.report.last_seq, 0)
    if found.last_lsn < acked:
        assert found.report.outcome == "torn", "F-04: lost, and not said"
        assert lost <= small.options.depth
    return found.report.outcome, lost


def files(small: Small) -> dict[str, bytes]:
    return {n: c for n, c in small.disk.contents().items() if n == "MANIFEST" or ".pbj" in n}


def used(content: bytes) -> list[int]:
    """Offsets of the sectors that hold something, and of one that does not."""
    sectors = [at for at in range(0, len(content), 512) if any(content[at : at + 512])]
    return [*sectors, len(content) - 512]


@pytest.mark.timeout(0)  # all flips take minutes
@pytest.mark.parametrize("is_closed", [True, False])
def test_every_bit_flipped(is_closed: bool, sample: int) -> None:
    small = lived(is_closed=is_closed)
    seen: Counter[str] = Counter()
    for name, content in files(small).items():
        bits = (8 * at + bit for at in used(content) for bit in range(4096))
        for bit in itertools.islice(bits, 0, None, sample):
            disk = small.disk.copy()
            disk.patch(name, bit // 8, bytes([content[bit // 8] ^ 1 << bit % 8]))
            outcome, lost = after(small, disk)
            seen[outcome] += 1
            assert not (is_closed and lost), f"{name}, bit {bit}: lost, although closed cleanly"
    assert seen["refused"] > 100
    assert set(seen) <= ({"refused", "clean"} if is_closed else {"refused", "torn", "end"})


@pytest.mark.parametrize("is_closed", [True, False])
def test_every_block_zeroed_swapped_or_duplicated(is_closed: bool) -> None:
    small = lived(is_closed=is_closed)
    contents = files(small)
    places = [
        (name, at)
        for name, content in contents.items()
        for at in range(0, len(content), BLOCK)
        if any(content[at : at + BLOCK])
    ]
    for name, at in places:
        disk = small.disk.copy()
        disk.patch(name, at, bytes(BLOCK))
        assert not (after(small, disk)[1] and is_closed)
    for one, other in itertools.permutations(places, 2):
        data = contents[one[0]][one[1] : one[1] + BLOCK]
        disk = small.disk.copy()
        disk.patch(*other, data)  # duplicated: a misdirected write
        assert not (after(small, disk)[1] and is_closed)
        disk = small.disk.copy()
        disk.patch(*other, data)
        disk.patch(*one, contents[other[0]][other[1] : other[1] + BLOCK])
        assert not (after(small, disk)[1] and is_closed)


@pytest.mark.parametrize("is_closed", [True, False])
def test_every_file_cut_short_or_missing(is_closed: bool) -> None:
    small = lived(is_closed=is_closed)
    for name, content in files(small).items():
        for size in (0, 1, *range(511, len(content), BLOCK // 2), len(content) + BLOCK):
            disk = small.disk.copy()
            disk.install(name, (content + bytes(BLOCK))[:size])
            outcome, lost = after(small, disk)
            assert outcome == "refused" or not lost
        disk = small.disk.copy()
        disk.lose(name)
        outcome, lost = after(small, disk)
        assert outcome == "refused" or not lost


def test_both_slots_of_an_old_manifest_are_believed_less_than_the_segments() -> None:
    """The newest slot rots, copies and all: the older one is a lower bound, nothing is lost."""
    small = lived(is_closed=False)
    content = small.disk.contents()["MANIFEST"]
    for slot in (0, SLOT_B):
        disk = small.disk.copy()
        disk.patch("MANIFEST", slot, bytes(2 * BLOCK))
        assert after(small, disk) in (("end", 0), ("torn", 0))
    assert any(content[:BLOCK]) and any(content[SLOT_B : SLOT_B + BLOCK])


def test_a_frame_of_another_history_breaks_the_chain() -> None:
    """Two copies of one journal went on separately; a block of one is restored into the other."""
    one, other = Small(SimDisk()).run("rpcrpcrpc"), Small(SimDisk()).run("rpc")
    other.now += 50
    other.run("rpcrpc")
    disk = one.disk.cut_exactly([])
    disk.patch(SEG1, 4 * BLOCK, other.disk.contents()[SEG1][4 * BLOCK : 5 * BLOCK])
    one.model.acked = 0
    assert one.recover(disk).report.last_seq == 2


def test_a_rolled_segment_that_vanished() -> None:
    """The manifest knows of every segment that has frames."""
    small = Small(SimDisk()).run(SCRIPT)
    disk = small.disk.copy()
    disk.lose(segment_name(2))
    assert after(small, disk)[0] == "refused"

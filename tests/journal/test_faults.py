"""One test for each row of the fault list (durability.md, section 2) that the journal itself meets:
the outcome, and the sentence that the user sees. Rows of the node are in test_faults_node.py.
"""

import errno
import random
import struct

import pytest
import xxhash

from pybehave._uring import blocks
from pybehave._uring.commit import Commit
from pybehave.errors import JournalBusy, JournalLocked, JournalRefused, RecordTooLarge
from pybehave.journal import recovery
from pybehave.journal.disk import FolderDisk
from pybehave.journal.recovery import MANIFEST, Options, recover
from pybehave.journal.segment_files import segment_name
from pybehave.testing.disk import SimDisk
from tests.journal.engine import begin
from tests.journal.model import BLOCK, FRAME
from tests.journal.small import SEGMENT_BYTES, Small

SEG1 = segment_name(1)
ROLLED = "rpcsFpcrpcFpcpcpcprpc"


def refused(small: Small, disk: SimDisk) -> str:
    """The sentence; and nothing was changed (I6)."""
    before = disk.contents()
    with pytest.raises(JournalRefused) as found:
        small.recover(disk)
    assert disk.contents() == before
    return str(found.value)


def flip(disk: SimDisk, name: str, at: int) -> SimDisk:
    disk.patch(name, at, bytes([disk.contents()[name][at] ^ 1]))
    return disk


def test_F01_a_torn_tail_is_cut_off_kept_aside_and_told() -> None:
    small = Small(SimDisk()).run("rpcRp")
    disk = small.disk.cut_exactly([1, 2, 0])
    found = small.recover(disk)
    assert (found.report.outcome, found.report.last_lsn) == ("torn", 2)
    assert found.report.may_be_affected == 2
    kept = disk.read(found.report.quarantine, 0, 1 << 20)
    assert bytes(kept) == disk.contents()[SEG1][3 * BLOCK :][: len(kept)]


def test_F02_a_frame_behind_a_missing_one_never_comes_back() -> None:
    small = Small(SimDisk()).run("rprp")
    disk = small.disk.cut_exactly([0, 1])
    assert small.recover(disk).report.outcome == "torn"
    for seed in range(20):
        assert small.recover(disk.cut(random.Random(seed))).last_lsn == 0


def test_F02_a_write_that_lands_after_the_next_start_never_counts() -> None:
    """io_uring may finish what a killed process had submitted."""
    small = Small(SimDisk()).run("rp")
    taken = small.disk.cut_exactly([0])
    write = small.disk._flying.popitem()[1]
    assert small.recover(taken).last_lsn == 0
    taken.patch(SEG1, write.offset, write.data)
    found = small.recover(taken)
    assert (found.last_lsn, found.header.number) == (0, 3)


def test_F03_a_flip_below_a_claim_is_refused() -> None:
    small = Small(SimDisk()).run("rpcrpcrpc")
    sentence = refused(small, flip(small.disk.copy(), SEG1, 2 * BLOCK + 200))
    assert "damaged at block 2 (seq 1, lsn 1): the body's hash is wrong" in sentence
    assert "evidence a" in sentence and "nothing was changed" in sentence


def test_F04_a_flip_in_the_last_frame_is_told_and_strict_refuses_it() -> None:
    small = Small(SimDisk()).run("rpcrpc")
    disk = flip(small.disk.copy(), SEG1, 3 * BLOCK + 200)
    strict = Options(segment_bytes=SEGMENT_BYTES, strict=True)
    with pytest.raises(JournalRefused, match="torn at seq 2, as after a crash, and strict"):
        recover(disk, strict, now_ns=1)
    found = recover(disk, strict.__class__(segment_bytes=SEGMENT_BYTES), now_ns=1)
    assert (found.report.outcome, found.last_lsn) == ("torn", 2)
    assert found.report.may_be_affected == small.options.depth


def test_F04_the_watermark_makes_it_proof() -> None:
    small = Small(SimDisk()).run("rpcrpcwpc")
    assert "evidence c" in refused(small, flip(small.disk.copy(), SEG1, 3 * BLOCK + 200))


def test_F05_a_flip_in_the_padding_is_refused() -> None:
    small = Small(SimDisk()).run("rpcrpcrpc")
    sentence = refused(small, flip(small.disk.copy(), SEG1, 3 * BLOCK - 1))
    assert "the padding is not zero" in sentence


@pytest.mark.parametrize("name", [SEG1, MANIFEST])
def test_F06_one_bad_copy_is_a_warning_both_are_a_refusal(name: str) -> None:
    small = Small(SimDisk()).run("rpcwpcrpc")
    disk = flip(small.disk.copy(), name, 100)
    assert "the other was used" in small.recover(disk).report.warnings[0]
    disk = small.disk.copy()
    for at in (100, BLOCK + 100, 32768 + 100, 32768 + BLOCK + 100):
        flip(disk, name, at)
    sentence = refused(small, disk)
    assert "is sound" in sentence and "pybehave journal repair" in sentence


def test_F07_a_misdirected_write_is_refused() -> None:
    """The frame lands on an older one; its own place stays empty."""
    small = Small(SimDisk()).run("rpcrpc")
    small.step("r")
    small.pump()
    slot, name = small.flying.pop()
    write = small.disk._flying.pop(name)
    small.disk.patch(SEG1, 2 * BLOCK, write.data)
    small.commit.complete_write(slot, len(write.data))
    small.run("rpc")
    assert "a frame of another segment, place or turn" in refused(small, small.disk.copy())


def test_F08_a_lost_write_is_refused() -> None:
    small = Small(SimDisk()).run("rpc")
    small.disk.fail("lost")
    small.run("rpcrpc")
    sentence = refused(small, small.disk.copy())
    assert "block 3 (seq 2, lsn 3): zeros" in sentence and "evidence a" in sentence


def test_F08_a_lying_sync_is_refused_when_the_power_goes() -> None:
    small = Small(SimDisk()).run("rpc")
    small.disk.fail("lying")
    small.run("rpcrpc")
    assert small.recover(small.disk.copy()).last_lsn == small.model.acked
    assert "evidence a" in refused(small, small.disk.cut_exactly([0]))


def test_F09_a_disk_that_forgets_everything_recent_cannot_tell() -> None:
    """Documented: this needs a witness elsewhere (replies carry lsn later)."""
    small = Small(SimDisk()).run("rpc")
    yesterday = small.disk.cut(random.Random(0))
    acked, small.model.acked = small.run("rpcrpc").model.acked, 0
    assert small.recover(yesterday).last_lsn == 2 < acked


def test_F10_stale_frames_of_another_segment_are_ignored() -> None:
    small = Small(SimDisk()).run(ROLLED)
    two = segment_name(2)
    content = small.disk.contents()
    disk = small.disk.copy()
    free = small.commit.block
    disk.patch(two, free * BLOCK, content[SEG1][2 * BLOCK : 3 * BLOCK])
    found = small.recover(disk)
    assert found.last_lsn == small.model.acked and found.report.outcome == "torn"


def test_F10_a_frame_that_was_cut_off_is_not_taken_from_elsewhere() -> None:
    """Its seq and its chain are right, its place is not."""
    small = Small(SimDisk()).run("rpcrp")
    disk = small.disk.cut_exactly([0])
    write = small.disk._flying.popitem()[1]
    assert small.recover(disk).header.first_seq == 2
    disk.patch(segment_name(2), 2 * BLOCK, write.data)
    assert small.recover(disk).last_lsn == 2


@pytest.mark.parametrize("row", ["F11", "F12"])
def test_F11_F12_the_first_error_is_final(row: str) -> None:
    """A failed sync comes back as the result of its write: the two are one to the writer."""
    told: list[int] = []
    small = Small(SimDisk(), depth=2)
    small.commit.on_failed = told.append
    small.run("rprp")
    small.disk.fail(errno.EIO)
    small.run("C")
    assert told == [errno.EIO]
    slot, name = small.flying.pop()
    small.commit.complete_write(slot, small.disk.end(name))
    assert (small.commit.durable_lsn, small.commit.take_write(1), told) == (0, None, [errno.EIO])
    with pytest.raises(Exception, match="Input/output error"):
        small.commit.record(1, 1, b"", 1)
    small.leave()


def test_F13_what_the_cache_showed_after_a_failed_sync_is_not_believed() -> None:
    small = Small(SimDisk(3)).run("rpcrp")
    killed = small.disk.copy()  # the write is in the cache, and not on the disk
    killed.fail(errno.EIO, at=2, kinds=("sync",))
    with pytest.raises(OSError):
        small.recover(killed)
    found = small.recover(killed)
    for seed in range(8):
        assert small.recover(killed.cut(random.Random(seed))).last_lsn == found.last_lsn


def test_F15_no_room_for_the_next_segment() -> None:
    small = Small(SimDisk()).run("FpcFpc")
    small.commit.no_room()
    small.step("r")  # the runtime's own are taken, and wait; inputs: test_faults_node.py
    assert small.commit.take_write(small.now) is None
    small.disk.room = 2 * SEGMENT_BYTES
    with pytest.raises(OSError, match="No space"):
        small.spare()
    assert recovery.SPARE not in small.disk.names()
    small.disk.room = None
    small.spare()
    small.run("pcpcpcpc")
    assert small.model.acked == small.model.recorded


def test_F16_acknowledging_needs_no_new_blocks() -> None:
    """Every write of the loop is inside a file that was filled before."""
    small = Small(SimDisk())
    small.disk.room = sum(map(len, small.disk.contents().values()))
    small.run("rpcrpcwpcRpc")
    assert small.error == 0 and small.model.acked == small.model.recorded


def test_F17_a_short_write_is_continued() -> None:
    small = Small(SimDisk(5))
    for _ in range(3):
        small.disk.fail("short")
        small.run("Fpc")
        assert small.commit.durable_lsn < small.model.recorded or small.error == 0
        small.recover(small.disk.cut(random.Random(1)))
        small.run("pcpcspcpcpcpc")
    assert small.commit.stats()["short_writes"] >= 2
    assert small.model.acked > 0


@pytest.mark.parametrize("what", [errno.EINTR, errno.EAGAIN])
def test_F18_an_interrupted_write_is_repeated(what: int) -> None:
    small = Small(SimDisk()).run("rp")
    small.disk.fail(what)
    small.run("c")
    assert (small.commit.durable_lsn, small.error) == (0, 0)
    assert small.run("pc").commit.durable_lsn == 2


def test_F19_a_spare_whose_name_was_lost_is_made_again() -> None:
    small = Small(SimDisk()).run("rpcs")
    disk = small.disk.copy()
    disk.lose(segment_name(2))
    assert small.recover(disk).header.number == 2
    disk = small.disk.copy()
    disk.install(segment_name(2), b"")
    assert small.recover(disk).header.number == 2


def test_F20_a_roll_in_any_subset() -> None:
    """Exhaustive in test_small_journals.py; here the manifest stays behind."""
    small = Small(SimDisk()).run("spFpcrpcFpcpcp")
    assert small.commit.current_segment == 2
    disk = small.disk.cut_exactly([0] * len(small.disk.undecided()))
    found = small.recover(disk)
    assert [piece.number for piece in found.pieces] == [1, 2]


def test_F24_a_missing_segment_is_refused() -> None:
    small = Small(SimDisk()).run(ROLLED)
    disk = small.disk.copy()
    disk.lose(SEG1)
    sentence = refused(small, disk)
    assert "the segment is missing; the journal needs those from 1 to 2" in sentence
    disk = small.disk.copy()
    disk.lose(MANIFEST)
    assert "but no MANIFEST; restore the manifest" in refused(small, disk)


def test_F25_recovery_any_number_of_times() -> None:
    small = Small(SimDisk()).run("rpcRp")
    disk = small.disk.cut_exactly([1, 0, 1])
    lsns = {small.recover(disk).last_lsn for _ in range(10)}
    assert lsns == {2}


def test_F25_recovery_cut_off_after_a_clean_close() -> None:
    """The new segment has its header, the manifest is old: its clean flag is of the one before."""
    small = Small(SimDisk()).run("rpcx")
    found = small.recover(small.disk.copy())
    disk = small.disk.copy()
    recovery.prepare(disk, 2, SEGMENT_BYTES)
    disk.write(segment_name(2), 0, blocks.pack_header(found.header))
    assert small.recover(disk).header.number == 3


def test_F26_times_never_go_back() -> None:
    small = Small(SimDisk()).run("rpc")
    small.now = 10**12
    small.run("rpc")
    small.now = 5
    small.run("rpcx")
    times = [FRAME.unpack_from(small.disk.contents()[SEG1], at * BLOCK)[11] for at in (2, 3, 4)]
    assert times == sorted(times)
    assert small.recover(small.disk.copy()).time_ns >= 10**12


def test_F27_one_writer_at_a_time(tmp_path) -> None:
    one, two = (FolderDisk(tmp_path, is_volatile_allowed=True) for _ in range(2))
    one.lock()
    with pytest.raises(JournalLocked, match="by another node of this process; stop that"):
        two.lock()
    one.unlock()
    two.lock()
    two.unlock()


def test_F28_two_histories_are_refused() -> None:
    """The lock was lost: a second node took over, and the first one went on acknowledging."""
    first = Small(SimDisk()).run("rpc")
    recover(first.disk, first.options, now_ns=1)
    assert first.run("rpcrpc").model.acked == first.model.recorded
    sentence = refused(first, first.disk.copy())
    assert "a second process wrote to it (up to seq 2 at least)" in sentence
    assert "taken over at seq 1, so there are two histories" in sentence


@pytest.mark.parametrize("at", [12, 100])
def test_F31_a_newer_format_is_refused(at: int) -> None:
    """The oldest format whose readers may read it; the incompatible features."""
    small = Small(SimDisk()).run("rpcx")
    disk = small.disk.copy()
    for slot in (0, BLOCK, 32768, 32768 + BLOCK):
        block = bytearray(disk.contents()[MANIFEST][slot : slot + BLOCK])
        if any(block):
            struct.pack_into("<I", block, at, 99)
            block[-16:] = sealed(bytes(block))
            disk.patch(MANIFEST, slot, bytes(block))
    assert "a newer version of pybehave wrote it; use that one" in refused(small, disk)


def sealed(block: bytes) -> bytes:
    """The hash of a block, by an independent XXH3-128."""
    return xxhash.xxh3_128_digest(block[:-16])


def test_F36_a_record_that_only_this_frame_has_no_room_for_may_be_sent_again() -> None:
    small = Small(SimDisk())
    small.commit.record(1, 1, bytes(30_000), 5)
    with pytest.raises(JournalBusy, match="53248"):
        small.commit.record(1, 1, bytes(30_000), 5)
    small.drain()
    assert small.commit.record(1, 1, bytes(30_000), 5) == 4  # a TIME record before it


def test_F36_a_record_beyond_the_limit_changes_nothing() -> None:
    small = Small(SimDisk()).run("rpc")
    limit = SEGMENT_BYTES - 3 * BLOCK - 128 - 2 * 16 - 8
    small.now += 1
    with pytest.raises(RecordTooLarge, match="53248"):
        small.commit.record(1, 1, bytes(limit + 1), small.now)
    assert small.commit.next_lsn <= 4
    fresh = Small(SimDisk())
    fresh.commit.record(1, 1, bytes(limit), 5)
    fresh.drain()
    assert fresh.commit.durable_lsn == 2


@pytest.mark.parametrize(("frame", "is_right"), [(4096, True), (5000, False), (0, False)])
def test_F36_a_frame_is_whole_blocks(frame: int, is_right: bool) -> None:
    if not is_right:
        with pytest.raises(ValueError, match="use a multiple of 4096"):
            Options(frame_bytes_max=frame)
        return
    disk, options = SimDisk(), Options(segment_bytes=SEGMENT_BYTES, frame_bytes_max=frame)
    commit: Commit = begin(disk, recover(disk, options, now_ns=1), options, disk.open(MANIFEST))
    commit.record(1, 1, bytes(4096 - 128 - 40), 5)
    assert len(commit.take_write(5)[3]) == 4096


def test_F37_what_is_no_regular_file_is_refused(tmp_path) -> None:
    disk = FolderDisk(tmp_path, is_volatile_allowed=True)
    (tmp_path / "elsewhere").write_bytes(bytes(65536))
    (tmp_path / MANIFEST).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JournalRefused, match="it is not a regular file"):
        recover(disk, Options(segment_bytes=SEGMENT_BYTES), now_ns=1)
    (tmp_path / MANIFEST).unlink()
    (tmp_path / MANIFEST).touch()
    with pytest.raises(JournalRefused, match="it has 0 bytes instead of 65536; restore it"):
        recover(disk, Options(segment_bytes=SEGMENT_BYTES), now_ns=1)
    assert sorted(p.name for p in tmp_path.iterdir()) == [MANIFEST, "elsewhere"]


def test_F37_a_folder_in_place_of_a_file_is_refused(tmp_path) -> None:
    disk = FolderDisk(tmp_path, is_volatile_allowed=True)
    for name, words in ((MANIFEST, "it is not a regular file"), (SEG1, f"it holds {SEG1} but no")):
        (tmp_path / name).mkdir()
        with pytest.raises(JournalRefused, match=words):
            recover(disk, Options(segment_bytes=SEGMENT_BYTES), now_ns=1)
        (tmp_path / name).rmdir()


def test_F42_a_file_in_place_of_the_folder_is_refused(tmp_path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(JournalRefused, match="it is not a folder; use another path"):
        FolderDisk(tmp_path / "data")


def test_F43_a_used_up_quota_is_no_room() -> None:
    small = Small(SimDisk())
    small.disk.fail(errno.EDQUOT, kinds=("fill",))
    with pytest.raises(OSError, match="quota"):
        small.spare()
    assert recovery.SPARE not in small.disk.names()
    small.spare()


def test_F44_a_block_that_cannot_be_read() -> None:
    """Below a claim it is damage; at the end it is a torn end, and it is told."""
    small = Small(SimDisk()).run("rpcrpcrpc")
    disk = small.disk.copy()
    disk.spoiled.add((SEG1, 2))
    assert "no frame header" in refused(small, disk)
    disk.spoiled = {(SEG1, 4)}
    small.model.acked = 0
    found = small.recover_unread(disk)
    assert found.report.outcome == "torn" and found.report.may_be_affected == 2
    assert "1 blocks of seg-0000000000000001.pbj cannot be read" in found.report.warnings[0]
    disk.spoiled = {(SEG1, 0), (MANIFEST, 0)}
    small.recover_unread(disk)
    disk.spoiled = {(SEG1, block) for block in range(16)}
    with pytest.raises(OSError):
        small.recover_unread(disk)


def test_F45_a_payload_that_imitates_frames_is_never_one() -> None:
    """Whole frames of this journal as payload, on block boundaries, then a torn end there."""
    small = Small(SimDisk()).run("rpcrpcrpc")
    content = small.disk.contents()[SEG1]
    shift = BLOCK - 128 - 16 - 24
    payload = bytes(shift) + content[2 * BLOCK : 5 * BLOCK]
    small.now += 1
    small.commit.record(1, 1, payload, small.now)
    small.pump()
    for bits in range(2 ** len(small.disk.undecided()) // 64):
        outcomes = [bits * 64 >> index & 1 for index in range(len(small.disk.undecided()))]
        found = recover(small.disk.cut_exactly(outcomes), small.options, now_ns=1)
        assert found.last_lsn in (6, 8)


def test_F46_an_old_backup_is_a_journal_like_any_other() -> None:
    """Documented as F-09: whoever has seen a higher lsn must say so."""
    small = Small(SimDisk()).run("rpcx")
    backup = small.disk.copy()
    again = Small(small.disk, model=small.model).run("rpcx")
    again.model.acked = 0
    assert again.recover(backup).last_lsn == 2 < again.model.recorded


def test_blocks_of_this_suite_are_those_of_the_format() -> None:
    assert blocks.BLOCK == BLOCK

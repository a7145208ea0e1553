"""A folder of the real file system: what is made durable, and what is said about it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from pybehave.errors import JournalRefused
from pybehave.journal import disk
from pybehave.journal.disk import AT_ONCE_BYTES, BLOCK, CHUNK_BYTES, WRITE_DSYNC, FolderDisk, Medium
from pybehave.journal.recovery import Options, recover


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(disk, "sync_folder", found.append)
    return found


def test_the_name_of_a_new_folder_is_durable_and_so_are_those_above(
    tmp_path: Path, synced: list[str]
) -> None:
    FolderDisk(tmp_path / "a" / "b" / "data")
    made = [tmp_path, tmp_path / "a", tmp_path / "a" / "b"]
    assert sorted(synced) == [str(path) for path in made]


def test_the_name_of_an_old_folder_is_synced_again(tmp_path: Path, synced: list[str]) -> None:
    FolderDisk(tmp_path)
    assert synced == [str(tmp_path.parent)]


@pytest.mark.parametrize("kind, is_warned", [("fuse.x", True), ("overlay", True), ("ext4", False)])
def test_a_file_system_that_passes_syncs_on_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_warned: bool
) -> None:
    monkeypatch.setattr(disk, "mount_of", lambda path: (kind, "x"))
    folder = FolderDisk(tmp_path, is_volatile_allowed=True)
    report = recover(folder, Options(segment_bytes=1 << 16), now_ns=1).report
    assert any("up to what is below it" in words for words in report.warnings) is is_warned


def test_a_folder_in_memory_is_refused_unless_it_is_allowed() -> None:
    """On a real tmpfs: every Linux has one there."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        with pytest.raises(JournalRefused, match=r"memory: nothing would survive .* --volatile"):
            FolderDisk(folder).medium()
        allowed = FolderDisk(folder, is_volatile_allowed=True)
        report = recover(allowed, Options(segment_bytes=1 << 16), now_ns=1).report
    assert report.medium.startswith("tmpfs")


@pytest.mark.parametrize("kind, words", [("tmpfs", "is memory"), ("ramfs", "is memory")])
def test_memory_is_refused_unless_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, words: str
) -> None:
    monkeypatch.setattr(disk, "mount_of", lambda path: (kind, "x"))
    with pytest.raises(JournalRefused, match=rf"it lies on {kind}, which {words}.*--volatile"):
        FolderDisk(tmp_path).medium()
    assert FolderDisk(tmp_path, is_volatile_allowed=True).medium().file_system == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "9p"])
@pytest.mark.parametrize("is_allowed", [True, False])
def test_remote_file_systems_are_refused_always(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, is_allowed: bool
) -> None:
    monkeypatch.setattr(disk, "mount_of", lambda path: (kind, "x"))
    with pytest.raises(JournalRefused, match=f"it lies on {kind}, where locks and flushes"):
        FolderDisk(tmp_path, is_volatile_allowed=is_allowed).medium()


@pytest.mark.parametrize("more", [-1, 0, 1, BLOCK, BLOCK + 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 77])
def test_a_file_is_put_whole_whether_in_pieces_or_not(tmp_path: Path, more: int) -> None:
    folder = FolderDisk(tmp_path, is_volatile_allowed=True)
    found = folder.medium()
    if not found.is_direct:
        pytest.skip(f"{found.file_system} has no O_DIRECT")
    folder._medium = Medium("x", "x", True, WRITE_DSYNC, "as on ext4")
    data = (b"0123456789" * CHUNK_BYTES)[: AT_ONCE_BYTES + more]
    folder.put("file", b"older, and longer" * CHUNK_BYTES)
    folder.put("file", data)
    assert (tmp_path / "file").read_bytes() == data


def test_a_long_file_does_not_wait_in_one_queue_with_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each piece is durable before the next is written."""
    folder = FolderDisk(tmp_path, is_volatile_allowed=True)
    if not folder.medium().is_direct:
        pytest.skip(f"{folder.medium().file_system} has no O_DIRECT")
    folder._medium = Medium("x", "x", True, WRITE_DSYNC, "as on ext4")
    written: list[tuple[int, int]] = []
    monkeypatch.setattr(
        os, "pwritev", lambda fd, data, at, how: written.append((len(data[0]), how)) or len(data[0])
    )
    folder.put("file", bytes(AT_ONCE_BYTES))
    assert written == []  # the device is busy with it for no longer than with a large commit
    folder.put("file", bytes(AT_ONCE_BYTES + 1))
    pieces = AT_ONCE_BYTES // CHUNK_BYTES
    assert written == [(CHUNK_BYTES, os.RWF_DSYNC)] * pieces + [(BLOCK, os.RWF_DSYNC)]


def test_shared_memory_for_which_the_disk_has_too_little_room_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A write that finds the disk full half way is no error; the rest was no memory at all."""
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[: 3 * BLOCK], at))
    pages = FolderDisk(tmp_path).shared("tail", 16 * BLOCK)
    assert bytes(pages) == bytes(16 * BLOCK)
    assert (tmp_path / "tail").stat().st_size == 0
    assert "tail cannot be mapped: [Errno 28] No space left on device" in caplog.text

"""What repair saves of a journal whose oldest segments are gone: what a node can go on from."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xxhash

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.errors import Crashed, JournalLocked, JournalRefused
from pybehave.journal import dead_letters
from pybehave.journal.reader import BLOCK, SLOTS, read_manifest, segment_numbers
from pybehave.journal.recovery import Options
from pybehave.journal.repair import repair
from pybehave.journal.segment_files import segment_name
from pybehave.journal.snapshot import snapshot_name
from pybehave.journal.verify import verify
from tests.processes import run
from tests.snapshots import take_snapshot

OPTIONS = Options(segment_bytes=64 * 1024)
PAYLOAD = bytes(9000)


class Counter(GenServer[int, Any, int]):
    """Counts the bytes that it gets."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: bytes, state: int) -> tuple[int, int]:
        return state + len(command), state + len(command)


def application() -> Application:
    worker = Worker("c", Counter, journal=True)
    return Application("c", Supervisor("one_for_one", [worker], intensity=9))


@pytest.fixture
def data(start: Callable[..., Any], tmp_path: Path) -> Path:
    """A journal of several segments with two snapshots, the oldest segments gone; a dead letter."""
    folder = tmp_path / "data"
    node = start(application(), data=folder, journal_options=OPTIONS)
    with pytest.raises(Crashed):
        node.call("c", 7)
    for _ in range(2):
        fill(node)
        take_snapshot(node)
    fill(node)
    node.stop()
    assert segment_numbers(str(folder))[0] > 1
    return folder


def fill(node: Any) -> None:
    """More than two segments, and not as many as make the node take a snapshot."""
    for _ in range(15):
        node.call("c", PAYLOAD)


def total_of(start: Callable[..., Any], data: Path) -> int:
    """What a node that is served from there answers."""
    node = start(application(), data=data, journal_options=OPTIONS)
    found: int = node.call("c", b"")
    node.stop()
    return found


def flip(file: Path, *places: int) -> None:
    """Turn a bit of each of these bytes."""
    content = bytearray(file.read_bytes())
    for at in places:
        content[at] ^= 1
    file.write_bytes(content)


def contents(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def saved(data: Path, tmp_path: Path) -> Path:
    """A repaired copy; that the original is as it was."""
    before, target = contents(data), tmp_path / "saved"
    repair(str(data), str(target))
    assert contents(data) == before
    assert verify(str(target), is_deep=True).problems == []
    return target


@pytest.mark.parametrize("is_there", [True, False])
def test_a_lost_manifest_is_made_anew_with_the_snapshots(
    data: Path, tmp_path: Path, start: Callable[..., Any], is_there: bool
) -> None:
    snapshots = read_manifest(str(data)).snapshots
    if is_there:
        flip(data / "MANIFEST", *(at + 50 for at in SLOTS))
    else:
        (data / "MANIFEST").unlink()
    target = saved(data, tmp_path)
    assert read_manifest(str(target)).snapshots == snapshots
    assert total_of(start, target) == 45 * len(PAYLOAD)


def test_a_damaged_snapshot_is_left_out(
    data: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    newest, before = (lsn for lsn, _ in read_manifest(str(data)).snapshots)
    flip(data / snapshot_name(newest), 200)
    target = saved(data, tmp_path)
    assert verify(str(target)).snapshots == [before]
    assert total_of(start, target) == 45 * len(PAYLOAD)


@pytest.mark.parametrize("is_missing", [True, False])
def test_damage_before_the_newest_snapshot_costs_nothing(
    data: Path, tmp_path: Path, start: Callable[..., Any], is_missing: bool
) -> None:
    oldest = data / segment_name(segment_numbers(str(data))[0])
    if is_missing:
        oldest.unlink()
    else:
        flip(oldest, 2 * BLOCK + 130)
    newest = read_manifest(str(data)).snapshots[0][0]
    target = saved(data, tmp_path)
    assert (verify(str(target)).first_lsn, verify(str(target)).snapshots) == (newest + 1, [newest])
    assert total_of(start, target) == 45 * len(PAYLOAD)


def test_what_a_snapshot_holds_is_not_said_to_be_lost(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    """The damage and the records behind the snapshot are in one segment: those are what is lost."""
    data = tmp_path / "data"
    node = start(application(), data=data)
    node.call("c", b"held")
    take_snapshot(node)
    node.call("c", b"lost")
    node.stop()
    newest = read_manifest(str(data)).snapshots[0][0]
    flip(data / segment_name(1), 2 * BLOCK + 130)
    words = ("journal", "repair", str(data), "--copy-to", str(tmp_path / "saved"))
    said = run(*words, "--i-accept-loss").stdout
    assert (
        f"lost from here on: lsn {newest + 1}, if there was one (the snapshot holds all before "
        f"it); {data / segment_name(1)}: the body's hash is wrong at block 2, lsn 1\n"
    ) in said
    assert total_of(start, tmp_path / "saved") == len(b"held")


def test_where_the_records_behind_a_snapshot_are_gone_it_is_saved_alone(
    data: Path, tmp_path: Path, start: Callable[..., Any]
) -> None:
    (newest, _), (before, _) = read_manifest(str(data)).snapshots
    flip(data / snapshot_name(newest), 200)
    for number in segment_numbers(str(data))[:-2]:
        (data / segment_name(number)).unlink()
    words = ("journal", "repair", str(data), "--copy-to", str(tmp_path / "saved"))
    result = run(*words, "--i-accept-loss")
    assert result.returncode == 0, result.stderr
    assert "lost from here on: " in result.stdout and "it is missing\n" in result.stdout
    assert f"holds no record of it in 1 segments, a snapshot of lsn {before};" in result.stdout
    assert total_of(start, tmp_path / "saved") in (15 * len(PAYLOAD), 30 * len(PAYLOAD))


def test_without_any_sound_snapshot_nothing_is_made(data: Path, tmp_path: Path) -> None:
    for lsn, _ in read_manifest(str(data)).snapshots:
        flip(data / snapshot_name(lsn), 200)
    with pytest.raises(JournalRefused, match="so there is nothing to go on from; restore a snap"):
        repair(str(data), str(tmp_path / "saved"))
    assert not (tmp_path / "saved").exists()


def test_what_it_holds_is_said(data: Path, tmp_path: Path) -> None:
    first, last = verify(str(data)).first_lsn, verify(str(data)).last_lsn
    words = ("journal", "repair", str(data), "--copy-to", str(tmp_path / "saved"))
    said = run(*words, "--i-accept-loss").stdout
    assert first > 1 and f"holds lsn {first} to {last} of it in " in said


def test_dead_letters_go_with_it(data: Path, tmp_path: Path) -> None:
    letters = dead_letters.numbers(str(data))
    assert dead_letters.numbers(str(saved(data, tmp_path))) == letters != []


@pytest.mark.parametrize("at", [12, 100])
def test_F31_what_a_newer_version_wrote_is_refused_by_every_tool(
    data: Path, tmp_path: Path, at: int
) -> None:
    """The oldest format whose readers may read it; the incompatible features."""
    content = bytearray((data / "MANIFEST").read_bytes())
    for slot in SLOTS:
        block = content[slot : slot + BLOCK]
        if any(block):
            struct.pack_into("<I", block, at, 99)
            block[-16:] = xxhash.xxh3_128_digest(bytes(block[:-16]))
            content[slot : slot + BLOCK] = block
    (data / "MANIFEST").write_bytes(content)
    before = contents(data)
    for words in ("verify", "stat", "dump", "export", "compact", "repair"):
        target = ["--copy-to", str(tmp_path / "new")] if words in ("compact", "repair") else []
        accepted = ["--i-accept-loss"] if words == "repair" else []
        result = run("journal", words, str(data), *target, *accepted)
        assert result.returncode == 2, words
        assert "a newer version of pybehave wrote it; use that one" in result.stderr
    assert contents(data) == before and not (tmp_path / "new").exists()


def test_compatible_features_do_not_matter(data: Path) -> None:
    content = bytearray((data / "MANIFEST").read_bytes())
    for slot in SLOTS:
        block = content[slot : slot + BLOCK]
        if any(block):
            struct.pack_into("<I", block, 104, 99)
            block[-16:] = xxhash.xxh3_128_digest(bytes(block[:-16]))
            content[slot : slot + BLOCK] = block
    (data / "MANIFEST").write_bytes(content)
    assert verify(str(data)).problems == []


@pytest.mark.parametrize("is_short", [True, False])
def test_a_start_names_what_is_wrong_with_a_segment(
    data: Path, start: Callable[..., Any], is_short: bool
) -> None:
    file = data / segment_name(segment_numbers(str(data))[0])
    if is_short:
        file.write_bytes(file.read_bytes()[: 3 * BLOCK])
        what = (
            "it has 12288 bytes instead of 65536, and the journal needs it; restore it from a copy"
        )
    else:
        file.unlink()
        what = r"the segment is missing; .*; restore it from a copy, or salvage with"
    with pytest.raises(JournalRefused, match=what):
        start(application(), data=data, journal_options=OPTIONS)


def test_what_is_served_is_refused(data: Path, tmp_path: Path, start: Callable[..., Any]) -> None:
    start(application(), data=data, journal_options=OPTIONS)
    with pytest.raises(JournalLocked, match="is written by another node of this process"):
        repair(str(data), str(tmp_path / "saved"))

"""What a store's snapshots hold goes with its journal: exported, imported, compacted, repaired."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from pybehave.errors import JournalRefused, Trimmed
from pybehave.journal.compact import compact
from pybehave.journal.disk import FolderDisk
from pybehave.journal.disk_store import DiskStore
from pybehave.journal.import_lines import import_lines
from pybehave.journal.recovery import Options
from pybehave.journal.repair import repair
from pybehave.journal.store import Batch, Message
from tests.processes import run

TINY = Options(segment_bytes=64 << 10, frame_bytes_max=32 << 10)
STREAMS = ("a", "b", "c")


def opened(folder: Path) -> DiskStore:
    return DiskStore(FolderDisk(folder, is_volatile_allowed=True), TINY)


def filled(folder: Path, seed: int, commits: int = 60) -> dict[str, Any]:
    """A store in which some streams have snapshots; what it says at its end."""
    dice = random.Random(seed)
    store = opened(folder)
    leases = {name: store.acquire(name, "me", 60) for name in STREAMS}
    sequence = dict.fromkeys(STREAMS, 0)
    for number in range(1, commits + 1):
        name = dice.choice(STREAMS)
        entry = b"%d" % number + bytes(dice.choice((0, 2000)))
        sequence[name] = store.commit(leases[name], sequence[name], Batch((entry,)))
        if dice.random() < 0.2 and name != "c":
            store.put_snapshot(leases[name], sequence[name], dice.randbytes(dice.choice((0, 9000))))
        if dice.random() < 0.1:
            store.enqueue(name, [Message("client", number, b"waits")])
    found = said(store)
    store.close()
    return found


def said(store: DiskStore) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in STREAMS:
        kept = store.get_snapshot(name)
        first = 1 if kept is None else kept.sequence + 1
        found[name] = (kept, store.read(name, first, 10**6), store.inbox(name))
    return found


def reopened(folder: Path) -> dict[str, Any]:
    store = opened(folder)
    try:
        return said(store)
    finally:
        store.close()


def exported(folder: Path, *words: str) -> str:
    shown = run("journal", "export", str(folder), *words)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def imported(lines: str, folder: Path) -> Path:
    pieces = [line.encode() for line in lines.splitlines(keepends=True)]
    import_lines(pieces, str(folder), source="lines", now_ns=1)
    return folder


@pytest.mark.parametrize("seed", range(6))
def test_an_exported_store_comes_back_with_its_snapshots(seed: int, tmp_path: Path) -> None:
    before = filled(tmp_path / "one", seed, commits=10 + 40 * seed)
    lines = exported(tmp_path / "one")
    two = imported(lines, tmp_path / "two")
    assert exported(two) == lines  # (E1)
    assert reopened(two) == before


def test_a_compact_copy_has_them(tmp_path: Path) -> None:
    before = filled(tmp_path / "one", 1)
    made = compact(str(tmp_path / "one"), str(tmp_path / "two"), now_ns=1)
    assert made.bytes_after > 0
    assert reopened(tmp_path / "two") == before


def test_a_repaired_copy_has_them(tmp_path: Path) -> None:
    before = filled(tmp_path / "one", 1)
    repair(str(tmp_path / "one"), str(tmp_path / "two"))
    assert reopened(tmp_path / "two") == before


def test_the_newest_may_be_damaged_and_the_one_before_goes_on(tmp_path: Path) -> None:
    filled(tmp_path / "one", 2)
    newest = max((tmp_path / "one").glob("stream-*.pbs"))
    newest.write_bytes(newest.read_bytes()[:-1] + b"?")
    two = imported(exported(tmp_path / "one"), tmp_path / "two")
    assert newest.name not in {file.name for file in two.iterdir()}
    assert reopened(two) == reopened(tmp_path / "one")


def test_without_any_it_is_not_exported(tmp_path: Path) -> None:
    filled(tmp_path / "one", 2)
    for file in (tmp_path / "one").glob("stream-*.pbs"):
        file.unlink()
    refused = run("journal", "export", str(tmp_path / "one"))
    assert refused.returncode == 2
    assert "content of no snapshot of stream" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_an_export_to_some_lsn_is_for_reading(tmp_path: Path) -> None:
    filled(tmp_path / "one", 2)
    lines = exported(tmp_path / "one", "--to", "120")
    assert '"type":"content"' not in lines
    with pytest.raises(JournalRefused, match="content of no snapshot"):
        imported(lines, tmp_path / "two")
    assert not (tmp_path / "two" / "MANIFEST").exists()


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        ("number", 1, "names the content of number 1"),
        ("content", "AAAA", "as it is here"),
        ("content", "?", "no line of an export"),
        ("facts", None, "as it is here"),
        ("sequence", -1, "no line of an export"),
    ],
)
def test_contents_that_were_changed_are_refused(
    key: str, value: Any, what: str, tmp_path: Path
) -> None:
    filled(tmp_path / "one", 2)
    lines = exported(tmp_path / "one").splitlines()
    at = next(index for index, line in enumerate(lines) if '"type":"content"' in line)
    lines[at] = json.dumps({**json.loads(lines[at]), key: value})
    with pytest.raises(JournalRefused, match=what):
        imported("\n".join(lines) + "\n", tmp_path / "two")


def test_entries_before_the_snapshots_are_gone_in_the_copy_too(tmp_path: Path) -> None:
    filled(tmp_path / "one", 3)
    two = imported(exported(tmp_path / "one"), tmp_path / "two")
    store = opened(two)
    with pytest.raises(Trimmed):
        store.read("a", 1, 1)
    store.close()

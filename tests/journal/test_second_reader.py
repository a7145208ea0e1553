"""The second reader says of a journal what the first one says, and finds the same damage."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave._uring.values import Values
from pybehave.cli.journal import describe
from pybehave.errors import JournalRefused
from pybehave.journal import recovery
from pybehave.journal.disk import FolderDisk
from pybehave.journal.reader import FAILED, FROM, INPUT, SKIP, Record
from pybehave.journal.segments import held, records
from pybehave.journal.verify import verify
from tests.processes import run

OPTIONS = recovery.Options(segment_bytes=128 * 1024)


class Counter(GenServer[int, bytes, int]):
    """Counts bytes."""

    def init(self, args: Any) -> int:
        return 0

    def step(self, command: bytes, state: int) -> tuple[int, int]:
        if command == b"break":
            raise ValueError("a deliberate bug")
        return state + len(command), state + len(command)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal of several segments, cleanly closed, that nobody writes any more."""
    folder = tmp_path_factory.mktemp("journal") / "data"
    worker = Worker("c", Counter, journal=True)
    app = Application("c", Supervisor("one_for_one", [worker], intensity=9))
    for _ in range(2):
        node = app.start(data=folder, journal_options=OPTIONS, backend="epoll")
        node.journal.snapshots.count_bytes = 1 << 40
        for number in range(60):
            node.call("c", bytes(number * 100))
        with pytest.raises(Exception, match="crashed"):
            node.call("c", b"break")
        node.stop()
    return folder


def test_it_reads_what_was_written(journal: Path) -> None:
    report = verify(str(journal), is_deep=True)
    assert (report.problems, report.ended) == ([], "clean")
    with held(str(journal)) as (_, found):
        inputs = [record for record in records(found) if record.type == INPUT]
    expected = [*(bytes(number * 100) for number in range(60)), b"break"] * 2
    assert [Values().decode(record.payload) for record in inputs] == expected
    assert [bool(record.flags & FAILED) for record in inputs] == ([False] * 60 + [True]) * 2


def test_both_readers_agree(journal: Path, tmp_path: Path) -> None:
    report = verify(str(journal))
    copy = tmp_path / "copy"
    shutil.copytree(journal, copy)
    found = recovery.recover(FolderDisk(copy), OPTIONS, now_ns=1).report
    assert (found.frames, found.records, found.segments) == (
        report.frames,
        report.records,
        report.segments,
    )
    assert (found.last_lsn, found.last_seq, found.outcome) == (
        report.last_lsn,
        report.last_seq,
        report.ended,
    )


@pytest.mark.parametrize("seed", range(60))
def test_both_readers_find_the_same_damage(journal: Path, tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    copy = tmp_path / "copy"
    shutil.copytree(journal, copy)
    files = sorted([*copy.glob("seg-*"), copy / "MANIFEST"])
    file = random.choice(files)
    content = bytearray(file.read_bytes())
    at = random.randrange(0, min(len(content), 64 * 1024))
    if random.random() < 0.5:
        content[at] ^= 1 << random.randrange(8)
    else:
        block = at // 4096 * 4096
        content[block : block + 4096] = bytes(4096)
    file.write_bytes(content)

    def first() -> str:
        try:
            recovery.recover(FolderDisk(copy), OPTIONS, now_ns=1)
        except JournalRefused:
            return "refused"
        return "taken"

    def second() -> str:
        try:
            return "refused" if verify(str(copy)).problems else "taken"
        except JournalRefused:
            return "refused"

    says = second()
    assert first() == says


def test_a_journal_that_is_being_written_can_be_read(
    start: Callable[..., Any], tmp_path: Path
) -> None:
    app = Application("c", Supervisor("one_for_one", [Worker("c", Counter, journal=True)]))
    node = start(app, data=tmp_path, journal_options=OPTIONS)
    for number in range(50):
        node.call("c", bytes(number))
        assert verify(str(tmp_path)).problems == []


def test_the_command_verifies_and_dumps(journal: Path, tmp_path: Path) -> None:
    result = run("journal", "verify", str(journal), "--deep")
    assert (result.returncode, result.stdout[:6]) == (0, "sound:")
    lines = run("journal", "dump", str(journal), "--server", "c").stdout.splitlines()
    assert json.loads(lines[0])["type"] == "server"
    facts = json.loads(run("journal", "stat", str(journal)).stdout)
    assert facts["records_by_server"] == {"c": 122}
    copy = tmp_path / "copy"
    shutil.copytree(journal, copy)
    segment = min(copy.glob("seg-*"))
    content = bytearray(segment.read_bytes())
    content[3 * 4096 + 200] ^= 1
    segment.write_bytes(content)
    result = run("journal", "verify", str(copy))
    assert result.returncode == 1
    assert "evidence" in result.stderr


@pytest.mark.parametrize("words", [["verify"], ["dump"], ["stat"]])
def test_what_is_no_journal_is_one_sentence(tmp_path: Path, words: list[str]) -> None:
    result = run("journal", *words, str(tmp_path))
    assert result.returncode == 2
    assert "there is no journal in" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("damaged", ["segment", "manifest"])
def test_repair_copies_what_is_before_the_damage(
    journal: Path, tmp_path: Path, start: Callable[..., Any], damaged: str
) -> None:
    copy, saved = tmp_path / "copy", tmp_path / "saved"
    shutil.copytree(journal, copy)
    file = sorted(copy.glob("seg-*"))[2] if damaged == "segment" else copy / "MANIFEST"
    content = bytearray(file.read_bytes())
    for at in range(3 * 4096 + 200, len(content), 4096):
        content[at] ^= 1
    if damaged == "manifest":
        content = bytearray(len(content))
    else:
        for snapshot in copy.glob("snap-*"):  # with one behind the damage nothing would be lost
            snapshot.unlink()
    file.write_bytes(content)
    before = {path: path.read_bytes() for path in copy.iterdir() if path.is_file()}
    words = ("journal", "repair", str(copy), "--copy-to", str(saved))
    assert run(*words).returncode == 2
    result = run(*words, "--i-accept-loss")
    assert result.returncode == 0, result.stderr
    assert ("lost from here on" in result.stdout) is (damaged == "segment")
    assert verify(str(saved), is_deep=True).problems == []
    assert before == {path: path.read_bytes() for path in copy.iterdir() if path.is_file()}
    app = Application("c", Supervisor("one_for_one", [Worker("c", Counter, journal=True)]))
    node = start(app, data=saved, journal_options=OPTIONS)
    total = 2 * sum(number * 100 for number in range(60))
    assert (node.call("c", b"") == total) is (damaged == "manifest")


def test_what_is_skipped_is_dumped_as_its_lsn() -> None:
    skip = Record(13, SKIP, 0, 0, 1, 0, 0, b"", (9).to_bytes(8, "little"))
    assert describe(skip, "kv")["number"] == 9


def test_an_input_of_a_connection_is_dumped_with_whom_it_came_from() -> None:
    payload = Values().encode([b"SET", 1]) + Values().encode("a peer")
    record = Record(7, INPUT, 1, FAILED | FROM, 1, 0, 0, b"", payload)
    shown = describe(record, "kv")
    assert (shown["payload"], shown["from"]) == ("[b'SET', 1]", "'a peer'")

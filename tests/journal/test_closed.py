"""A journal that its last process has just closed: that one's word saves reading, and no check."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pybehave import Application, GenServer, Supervisor, Worker
from pybehave.errors import JournalRefused
from pybehave.journal import segment_files
from pybehave.journal.closed import Closed
from pybehave.journal.disk import BLOCK, FolderDisk
from pybehave.journal.recovery import Options, Recovery, recover

SIZE = 256 << 10
OPTIONS = Options(segment_bytes=SIZE)


class Ledger(GenServer[Any, Any, Any]):
    def init(self, args: Any) -> Any:
        return []

    def step(self, command: Any, state: Any) -> Any:
        state.append(command)
        return state, len(state)


class Counted(FolderDisk):
    """Counts what is read."""

    bytes_read = 0

    def read(
        self, name: str, offset: int, count: int, room: memoryview | None = None
    ) -> memoryview:
        self.bytes_read += count
        return super().read(name, offset, count, room)


def live(node: Any) -> None:
    """Some commands, a spare, and an end."""
    for index in range(8):
        node.call("l", index)
    while node.run_on_loop(lambda: node.journal.commit.wants_spare):
        pass
    node.stop()


@pytest.fixture
def closed(start: Callable[..., Any], tmp_path: Path) -> Closed:
    """What a node says that kept its journal in `tmp_path`, after another one, and had a spare."""
    worker = Worker("l", Ledger, journal=True)
    app = Application("t", Supervisor("one_for_one", [worker]))
    for _ in range(2):
        node = start(app, data=str(tmp_path), journal_options=OPTIONS)
        live(node)
    assert node.journal.closed is not None
    assert node.journal.closed.segment == 2
    return msgspec.convert(msgspec.to_builtins(node.journal.closed), Closed)  # as a message


def opened(path: Path, closed: Closed | None) -> tuple[Recovery, Counted]:
    disk = Counted(path, is_volatile_allowed=True)
    disk.lock()
    try:
        return recover(disk, OPTIONS, now_ns=1, closed=closed), disk
    finally:
        disk.unlock()


def contents(path: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in path.iterdir() if each.is_file()}


def restore(path: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (path / name).write_bytes(content)


def test_the_same_is_found_and_less_is_read(closed: Closed, tmp_path: Path) -> None:
    before = contents(tmp_path)
    alone, everything = opened(tmp_path, None)
    restore(tmp_path, before)
    told, less = opened(tmp_path, closed)
    assert dataclasses.replace(told.report, seconds_reading=0) == alone.report
    assert (told.manifest, told.header, told.last_lsn) == (
        alone.manifest,
        alone.header,
        alone.last_lsn,
    )
    ends = [(piece.number, piece.block_end) for piece in alone.pieces]
    assert [(piece.number, piece.block_end) for piece in told.pieces] == ends
    assert ends == [*closed.ends, (closed.segment, closed.block_end)]
    assert len(ends) == 2
    assert everything.bytes_read > 3 * SIZE > SIZE > less.bytes_read


def test_a_word_from_before_somebody_else_is_not_taken(closed: Closed, tmp_path: Path) -> None:
    opened(tmp_path, None)
    found, disk = opened(tmp_path, closed)
    assert found.manifest.epoch == closed.epoch + 2
    assert disk.bytes_read > 3 * SIZE


@pytest.mark.parametrize("field", ["journal_id", "epoch", "segment"])
def test_a_word_about_another_journal_is_not_taken(
    closed: Closed, tmp_path: Path, field: str
) -> None:
    other = bytes(16) if field == "journal_id" else getattr(closed, field) + 1
    _, disk = opened(tmp_path, msgspec.structs.replace(closed, **{field: other}))
    assert disk.bytes_read > 3 * SIZE


@pytest.mark.parametrize("less", [1, 2])
def test_an_end_before_the_end_is_refused(closed: Closed, tmp_path: Path, less: int) -> None:
    """The manifest says that it was closed, and what is read does not end so."""
    before = contents(tmp_path)
    wrong = msgspec.structs.replace(closed, block_end=closed.block_end - less)
    with pytest.raises(JournalRefused, match="evidence"):
        opened(tmp_path, wrong)
    assert contents(tmp_path) == before


def test_an_end_before_that_of_an_earlier_segment_is_refused(
    closed: Closed, tmp_path: Path
) -> None:
    before = contents(tmp_path)
    ends = tuple((number, block - 1) for number, block in closed.ends)
    with pytest.raises(JournalRefused, match="evidence b"):
        opened(tmp_path, msgspec.structs.replace(closed, ends=ends))
    assert contents(tmp_path) == before


def test_an_end_behind_the_file_s_is_the_file_s(closed: Closed, tmp_path: Path) -> None:
    far = msgspec.structs.replace(closed, block_end=2**40, ends=((1, 2**40),))
    told, _ = opened(tmp_path, far)
    assert [(piece.number, piece.block_end) for piece in told.pieces] == [
        *closed.ends,
        (closed.segment, closed.block_end),
    ]


@pytest.mark.parametrize("segment", [1, 2])
def test_damage_is_found_all_the_same(closed: Closed, tmp_path: Path, segment: int) -> None:
    name = tmp_path / segment_files.segment_name(segment)
    content = bytearray(name.read_bytes())
    content[(closed.blocks_of(segment, SIZE // BLOCK) - 2) * BLOCK + 100] ^= 1
    name.write_bytes(content)
    with pytest.raises(JournalRefused, match="damaged at block"):
        opened(tmp_path, closed)

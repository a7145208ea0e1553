"""Progress: what is said of a long piece of work, at any moment of it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pybehave.cli import progress as on_terminals
from pybehave.cli.journal import counted
from pybehave.cli.progress import Bar, shown_on, watch_on
from pybehave.journal.compact import compact
from pybehave.journal.export import export
from pybehave.journal.import_lines import import_lines
from pybehave.journal.progress import Moment, Progress
from pybehave.journal.reader import Record
from pybehave.journal.rewrite import Rewriter
from pybehave.journal.segments import held
from pybehave.journal.verify import verify


class Work:
    """A clock and a count, set by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.done = 0
        self.progress = Progress(lambda: self.now)

    def at(self, seconds: float, done: int) -> Moment:
        self.now, self.done = 100.0 + seconds, done
        found = self.progress.moment()
        assert found is not None
        return found


def test_before_and_behind_the_work_there_is_nothing_to_say() -> None:
    work = Work()
    assert work.progress.moment() is None
    work.progress.begin("reading", "bytes", 10, lambda: work.done)
    assert work.progress.moment() is not None
    work.progress.end()
    assert work.progress.moment() is None


def test_rate_and_time_left_are_those_of_the_phase() -> None:
    work = Work()
    work.progress.begin("replaying", "records", 1000, lambda: work.done)
    assert work.at(5, 0) == Moment("replaying", "records", 0, 1000, 0.0, None)
    assert work.at(5, 250) == Moment("replaying", "records", 250, 1000, 50.0, 15.0)
    assert work.at(20, 1000).left_s == 0
    work.progress.begin("reading", "bytes", 10, lambda: work.done)
    assert work.at(20, 5).left_s is None, "a phase that has just begun has no rate"


def test_more_than_all_is_all() -> None:
    work = Work()
    work.progress.begin("reading", "bytes", 10, lambda: work.done)
    assert work.at(1, 11).done == 10


def test_the_sentence_names_amounts_share_rate_and_time() -> None:
    moment = Moment("replaying", "records", 250_000, 1_000_000, 50_000.0, 15.0)
    assert moment.sentence == (
        "replaying the journal: 250,000 of 1,000,000 records, 25 %, 50,000 records/s, 15 s left"
    )
    moment = Moment("reading", "bytes", 64_000_000, 640_000_000, 1e9, 0.6)
    assert moment.sentence == "reading the journal: 64 of 640 MB, 10 %, 1,000 MB/s, 1 s left"
    assert Moment("reading", "bytes", 0, 0, 0.0, None).sentence.endswith("0 of 0 MB, 0 %")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_shows_each_phase_on_a_line_of_its_own() -> None:
    terminal = Terminal()
    bar = Bar(terminal)
    bar.show(Moment("reading", "bytes", 5_000_000, 10_000_000, 1e6, 5.0))
    bar.show(Moment("replaying", "records", 0, 100, 0.0, None))
    bar.show(Moment("replaying", "records", 25, 100, 5.0, 15.0))
    bar.finish()
    lines = terminal.getvalue().split("\n")
    assert "reading" in lines[0] and "5 of 10 MB, 1 MB/s, 5 s left" in lines[0]
    assert "replaying" in lines[1] and "25%" in lines[1]
    assert "25 of 100 records, 5 records/s, 15 s left" in lines[1]


def test_a_bar_is_for_terminals_only() -> None:
    assert watch_on(io.StringIO()) is None
    assert watch_on(Terminal()) is not None


# --- the tools ---------------------------------------------------------------------------------


class Told(Progress):  # type: ignore[misc] -- final for all but tests
    """What a progress is told: phases, and how far each says that it is."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.phases: list[tuple[str, str, int]] = []
        self.done: Callable[[], int] = lambda: 0

    def begin(self, phase: str, unit: str, total: int, done: Callable[[], int]) -> None:
        super().begin(phase, unit, total, done)
        assert done() == 0
        self.phases.append((phase, unit, total))
        self.done = done


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A journal of several segments."""
    found = tmp_path / "journal"
    with Rewriter(str(found), bytes(16), 64 << 10, 1, 1) as writer:
        for lsn in range(1, 41):
            writer.add(Record(lsn, 1, 1, 0, 1, 0, lsn, b"", bytes(9000)))
        writer.finish([])
    return str(found)


def segment_bytes(folder: str) -> int:
    return sum(file.stat().st_size for file in Path(folder).glob("seg-*"))


def test_verify_tells_how_far_it_is(folder: str) -> None:
    told = Told()
    verify(folder, progress=told)
    assert told.phases == [("checking", "bytes", segment_bytes(folder))]
    assert told.done() == segment_bytes(folder)


def test_export_tells_how_far_it_is_between_two_lines(folder: str) -> None:
    told, seen = Told(), []
    with held(folder) as held_open:
        for _ in export(folder, *held_open, progress=told):
            seen.append(told.done())
    assert told.phases == [("exporting", "bytes", segment_bytes(folder))]
    assert seen == sorted(seen)
    assert len(set(seen)) > 30, "it moves within a segment"
    assert seen[-1] == segment_bytes(folder)


def test_compact_tells_that_it_checks_and_that_it_copies(folder: str, tmp_path: Path) -> None:
    told = Told()
    compact(folder, str(tmp_path / "copy"), now_ns=1, progress=told)
    assert [phase for phase, *_ in told.phases] == ["checking", "copying"]
    assert told.done() == segment_bytes(folder)


def test_import_tells_how_much_of_the_file_it_has_read(folder: str, tmp_path: Path) -> None:
    told, file = Told(), tmp_path / "lines"
    with held(folder) as held_open:
        file.write_text("".join(export(folder, *held_open)))
    with file.open("rb") as lines:
        import_lines(counted(lines, told), str(tmp_path / "copy"), source="lines", now_ns=1)
    assert told.phases == [("importing", "bytes", file.stat().st_size)]
    assert told.done() == file.stat().st_size


def test_of_a_pipe_nobody_knows_how_long_it_is() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"a\nb\n")
    os.close(writing)
    told = Told()
    with os.fdopen(reading, "rb") as lines:
        assert list(counted(lines, told)) == [b"a\n", b"b\n"]
    assert told.phases == []


def test_a_terminal_sees_a_bar_and_nothing_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_terminals, "AFTER_S", 0.0)
    monkeypatch.setattr(on_terminals, "EVERY_S", 0.001)
    terminal, file = Terminal(), io.StringIO()
    with shown_on(terminal) as progress:
        progress.begin("checking", "bytes", 10_000_000, lambda: 5_000_000)
        while "5 of 10 MB" not in terminal.getvalue():
            os.sched_yield()
    with shown_on(file) as progress:
        progress.begin("checking", "bytes", 10_000_000, lambda: 5_000_000)
    assert "checking" in terminal.getvalue()
    assert terminal.getvalue().endswith("\n")
    assert file.getvalue() == ""

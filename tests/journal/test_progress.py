"""Progress: what is said of a long piece of work, at any moment of it."""

from __future__ import annotations

import io

from pybehave.cli.progress import Bar, watch_on
from pybehave.journal.progress import Moment, Progress


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

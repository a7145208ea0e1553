"""What was kept outlives every kill, in any order of keeps, commits, kills and power cuts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pybehave import Application, Supervisor, Worker
from pybehave.errors import CodecRefused, JournalRefused
from pybehave.journal.tail import TailFile
from pybehave.testing.simulate import Simulator
from tests.journal.golden.make import Golden
from tests.journal.tail_crashes import TailLife, play

SHARE = 8
"""So many fewer states than in the random suite of the segments."""

SEED = 2
"""Of a life whose first start wants the tail."""

EVENTS = ["keeps", "not kept", "adopted", "unwanted", "from the tail", "nested", "kills", "cuts"]
"""What a suite of this size must have met; else it proves nothing."""


@pytest.mark.timeout(0)  # bounded by the number of states
def test_what_was_kept_outlives_kills_and_power_cuts_in_any_order(
    play_many: Callable[..., None],
) -> None:
    play_many(play, EVENTS, share=SHARE, lives=30)


@pytest.mark.timeout(0)  # bounded by the number of states
def test_what_was_kept_and_encoded_does_too(play_many: Callable[..., None]) -> None:
    play_many(lambda seed: play(seed, has_codec=True), EVENTS, share=4 * SHARE, lives=30)


def test_a_start_without_the_codec_of_what_the_tail_alone_has_changes_nothing() -> None:
    """It began a new segment before it refused."""
    life = TailLife(SEED, has_codec=True)
    life.record()
    life.keep()
    assert (life.kept, life.commit.durable_lsn) == (life.model.recorded, 0)
    disk = life.disk.copy()
    before = disk.contents()
    app = Application("t", Supervisor("one_for_one", [Worker("s", Golden, journal=True)]))
    with pytest.raises(CodecRefused, match="'marked' refuses the tail from lsn 1 on"):
        Simulator(1, app, disk=disk).start()
    assert disk.contents() == before


def attach_at_once(tail: TailFile, commit: Any, *, is_wanted: bool) -> None:
    """The file is written to before what it held is durable (K2)."""
    ADOPT(tail, commit, is_wanted=False)
    if is_wanted:
        tail._attach(commit)


def adopt_when_wanted(tail: TailFile, commit: Any, *, is_wanted: bool) -> None:
    """Who does not want the level does not take the tail over (K1)."""
    if is_wanted:
        ADOPT(tail, commit, is_wanted=is_wanted)


def adopt_last(tail: TailFile, commit: Any, *, is_wanted: bool) -> None:
    """Something is recorded before what was kept (K1), and so an lsn is given twice (K3)."""
    if tail.runs:
        commit.record(1, 9, b"first", 1)
        tail.runs = []
    ADOPT(tail, commit, is_wanted=is_wanted)


ADOPT = TailFile.adopt
MUTANTS = {"K2": attach_at_once, "K1": adopt_when_wanted, "K3": adopt_last}


@pytest.mark.parametrize("rule", MUTANTS)
def test_without_the_rule_a_life_fails(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TailFile, "adopt", MUTANTS[rule])
    with pytest.raises((AssertionError, JournalRefused)):
        for seed in range(100):
            play(seed)

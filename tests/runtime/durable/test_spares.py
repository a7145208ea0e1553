"""The segment that is prepared ahead: whose descriptor it is when the node ends."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from pybehave.runtime.durable import spares
from pybehave.runtime.durable.spares import Spares


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """One whose thread has done its work; `done` holds what the loop is still to be told."""
    monkeypatch.setattr(spares.recovery, "prepare", lambda *_args: None)
    done: list[Callable[[], None]] = []
    closed: list[int] = []
    given: list[tuple[int, int]] = []

    def off_loop(work: Callable[[], Any], then: Callable[[Any, Any], None]) -> None:
        work()
        done.append(lambda: then(None, None))

    return SimpleNamespace(
        is_open=True,
        segment_bytes=1,
        commit=SimpleNamespace(
            wants_spare=True, current_segment=4, give_spare=lambda *spare: given.append(spare)
        ),
        disk=SimpleNamespace(open=lambda _name: 77, close=closed.append),
        node=SimpleNamespace(
            loop=SimpleNamespace(dispatcher=SimpleNamespace(resume_stalled=lambda: None))
        ),
        off_loop=off_loop,
        done=done,
        closed=closed,
        given=given,
    )


def test_a_spare_that_the_loop_never_heard_of_is_closed_with_the_journal(journal: Any) -> None:
    """Its descriptor stayed open when the loop had ended before."""
    kept = Spares(journal)
    kept.prepare()
    journal.is_open = False
    kept.close()
    assert journal.closed == [77]
    journal.done.pop()()  # heard of after all, too late
    assert (journal.closed, journal.given) == ([77], [])


def test_a_spare_that_was_taken_is_not_closed(journal: Any) -> None:
    kept = Spares(journal)
    kept.prepare()
    journal.done.pop()()
    kept.close()
    assert (journal.closed, journal.given) == ([], [(5, 77)])

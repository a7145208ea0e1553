"""Stores on a disk that loses power, fails and fills up (store_crashes.py)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pybehave.errors import JournalRefused
from pybehave.journal import disk_store, snapshot
from pybehave.journal.disk_store import DiskStore, content_name
from pybehave.journal.streams import Acquired, Stream, encode_stream
from tests.journal.store_crashes import play

SHARE = 12
"""So many fewer crash states than in the random suite of journals: a state is a whole store."""

EVENTS = [
    "commit", "enqueue", "acquire", "put_snapshot", "release", "refused", "no room", "PowerCut",
    "DurabilityLost", "OSError", "undone", "nested", "based", "closes",
]  # fmt: skip
"""What a suite of this size must have met; else it proves nothing."""


@pytest.mark.timeout(0)  # bounded by the number of states
def test_every_crash_state_of_a_store_is_before_or_behind_the_call(
    play_many: Callable[..., None],
) -> None:
    play_many(play, EVENTS, share=SHARE)


def test_the_same_seed_gives_the_same_life_of_a_store() -> None:
    once, again = play(3), play(3)
    assert once.counts == again.counts
    assert once.disk.contents() == again.disk.contents()


def forget_to_wait(store: DiskStore) -> None:
    """Every call returns before the disk has it."""


def keep_no_epochs(store: DiskStore, change: Any) -> None:
    if not isinstance(change, Acquired):
        KEEP(store, change)


def write_without_name(disk: Any, name: str, content: bytes) -> bytes:
    """The folder is not synced."""
    disk.put(f"{name}.tmp", content)
    disk.rename(f"{name}.tmp", name)
    return snapshot.decode(name, memoryview(content)).digest


def drop_the_newest(store: DiskStore, kept: Any) -> None:
    """What is still needed goes, too."""
    for found in store._streams.by_name.values():
        for each in found.snapshots[:1]:
            with contextlib.suppress(OSError):
                store._disk.remove(content_name(each.number))


def without_inbox(found: Stream) -> bytes:
    """A base that has not everything."""
    return encode_stream(msgspec.structs.replace(found, inbox={}))


def keep_oldest(starts: Any, newest: int, before: int) -> tuple[int, set[int]]:
    """Behind a base only what is behind it is kept, and the one before is lost: nothing is there
    for the time until the manifest names it."""
    return starts[-1][0] + 1, {newest}


KEEP = DiskStore._keep
MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "a call does not wait for the disk": (DiskStore, "_settle", forget_to_wait),
    "epochs are not kept": (DiskStore, "_keep", keep_no_epochs),
    "the names of snapshots are not synced": (disk_store.snapshot, "write_as", write_without_name),
    "a snapshot that is needed is removed": (DiskStore, "_drop_content", drop_the_newest),
    "a base lacks the inboxes": (disk_store, "encode_stream", without_inbox),
    "a segment that is needed is removed": (disk_store.snapshot, "still_needed", keep_oldest),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_store_without_it_fails(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*MUTANTS[mutant])
    with pytest.raises((AssertionError, JournalRefused, KeyError)):
        for seed in range(60):
            play(seed)

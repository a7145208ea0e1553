"""Random lives of a journal's folder (folder_lives.py): starts, ends, and what is done between."""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.effort import rounds
from tests.journal.folder_lives import Life

SEEDS = rounds("PYBEHAVE_FOLDER_SEEDS")
STEPS = 20

WANTED = (
    "upgrade", "upgrade failed", "rollback",
    "start", "stop", "no drain", "kill", "cut", "cut in stop", "idle", "snapshot", "forget",
    "replays", "present", "compact", "export", "repair", "codec", "damaged newest",
    "damaged slot",
)  # fmt: skip


@pytest.fixture
def quiet() -> Iterator[None]:
    """Crashes and ends by the thousand are meant; to keep what is said takes most of the time."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("quiet")
def test_whatever_is_done_to_a_folder_what_was_acknowledged_is_there(tmp_path: Path) -> None:
    """L1 to L6. No completion source has a part in this but the simulated one."""
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        life = Life(seed, tmp_path, STEPS)
        try:
            life.run()
        except BaseException as error:
            error.add_note(f"seed {seed}: " + "; ".join(life.trace[-20:]))
            raise
        seen += life.counts
    assert [word for word in WANTED if not seen[word]] == []


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    "seed",
    [
        80_000,  # a repaired copy was without the tail
        80_459,  # so was an export
        90_966,  # a message started a family's member when the disk was behind, and came twice
        91_289,
    ],
)
def test_lives_in_which_something_was_wrong(seed: int, tmp_path: Path) -> None:
    """Of some 12,000; while the generator is as it was, for another one's seeds are others."""
    Life(seed, tmp_path, STEPS).run()

"""T-1 at length: crash states by the million, from seeds that anybody can play again.

    python -m tests.journal.long_run --states 10000000 --summary long_run.json

Theory. One seed is one life: of a journal (engine.py), of one with a tail (tail_crashes.py), of a
store (store_crashes.py), with nothing else in it that changes. Seeds are played in order, from 0,
in chunks; behind each chunk the summary is written anew, whole or not at all. So a run may be
killed at any moment: the next one with the same summary goes on behind the last chunk that it
names, and a summary says which seeds were played, and what they met. A seed that fails stands in
the summary, and the run goes on; the exit status tells.

Invariants
  (L1) The seeds of a kind that the summary counts are 0 to `next_seed` - 1, each once.
  (L2) At most `--processes` lives are played at any time, and twice as many chunks are under way.

Does not know: what a life does, what is right.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

from tests.journal import engine, store_crashes, tail_crashes

CHUNK_SEEDS = 50
"""A few seconds of work, so that little is lost when it is killed."""

KINDS: dict[str, Callable[[int], Counter[str]]] = {
    "plain": lambda seed: engine.play(seed).counts,
    "snapshots": lambda seed: engine.play(seed, has_snapshots=True).counts,
    "store": lambda seed: store_crashes.play(seed).counts,
    "tail": lambda seed: tail_crashes.play(seed).counts,
}
"""What is played, by name; the long run shares its time evenly between them."""

Played = tuple[str, int, Counter[str], dict[int, str]]


def play_chunk(kind: str, first: int) -> Played:
    """The seeds of one chunk: what they met, and which have failed with what."""
    counts: Counter[str] = Counter()
    failed: dict[int, str] = {}
    for seed in range(first, first + CHUNK_SEEDS):
        try:
            counts += KINDS[kind](seed)
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is what we look for
            failed[seed] = f"{type(error).__name__}: {error}"[:300]
        counts["seeds"] += 1
    return kind, first, counts, failed


class Summary:
    """What was played so far, in a file.

    Attributes:
        kinds: For each kind the next seed, counts by event, and the seeds that have failed.
    """

    def __init__(self, path: Path, kinds: list[str]) -> None:
        self.path = path
        found = json.loads(path.read_text()) if path.exists() else {}
        self.seconds: float = found.get("seconds", 0.0)
        empty = {"next_seed": 0, "counts": {}, "failed": {}}
        self.kinds: dict[str, Any] = {**dict.fromkeys(kinds), **found.get("kinds", {})}
        self.kinds = {kind: said or dict(empty) for kind, said in self.kinds.items()}

    @property
    def states(self) -> int:
        """Crash states that were recovered and checked."""
        return sum(said["counts"].get("states", 0) for said in self.kinds.values())

    @property
    def has_failed(self) -> bool:
        """Whether any seed has."""
        return any(said["failed"] for said in self.kinds.values())

    def add(self, played: Played, seconds: float) -> None:
        """Count the chunk that is due (L1)."""
        kind, first, counts, failed = played
        said = self.kinds[kind]
        assert said["next_seed"] == first
        said["next_seed"] = first + CHUNK_SEEDS
        said["counts"] = dict(sorted((Counter(said["counts"]) + counts).items()))
        said["failed"] |= {str(seed): words for seed, words in failed.items()}
        self.seconds += seconds
        self._write()

    def _write(self) -> None:
        text = json.dumps(
            {
                "states": self.states,
                "seconds": round(self.seconds, 1),
                "python": sys.version.split()[0],
                "kinds": self.kinds,
            },
            indent=1,
        )
        new = self.path.with_suffix(".new")
        new.write_text(text + "\n")
        os.replace(new, self.path)


def chunks(summary: Summary, kinds: list[str]) -> Iterator[tuple[str, int]]:
    """Kind and first seed of what is to be played, without end, the kinds in turn."""
    due = {kind: int(summary.kinds[kind]["next_seed"]) for kind in kinds}
    while True:
        for kind in kinds:
            yield kind, due[kind]
            due[kind] += CHUNK_SEEDS


def run(summary: Summary, kinds: list[str], states: int, processes: int) -> None:
    """Play until so many states are counted."""
    wanted = chunks(summary, kinds)
    under_way: collections.deque[Future[Played]] = collections.deque()
    with ProcessPoolExecutor(processes) as pool:
        began = time.perf_counter()
        while summary.states < states:
            while len(under_way) < 2 * processes:  # (L2)
                under_way.append(pool.submit(play_chunk, *next(wanted)))
            played = under_way.popleft().result()
            now = time.perf_counter()
            summary.add(played, now - began)
            began = now
            say(summary, played)
        for future in under_way:
            future.cancel()


def say(summary: Summary, played: Played) -> None:
    """One line for each chunk, and one for each failure."""
    kind, first, counts, failed = played
    for seed, words in failed.items():
        print(f"FAILED {kind} {seed}: {words}", flush=True)
    last = first + CHUNK_SEEDS - 1
    print(f"{kind} {first}-{last}: {counts['states']} states; {summary.states} in all", flush=True)


def main() -> int:
    """0 = every state was right."""
    parser = argparse.ArgumentParser(description="Play crash states by the million.")
    parser.add_argument("--states", type=int, default=10_000_000, help="end with so many")
    parser.add_argument("--summary", type=Path, default=Path("long_run.json"), metavar="FILE")
    parser.add_argument("--processes", type=int, default=1, help="at once")
    parser.add_argument("--kind", choices=sorted(KINDS), action="append", help="only this kind")
    chosen = parser.parse_args()
    kinds = chosen.kind or list(KINDS)
    summary = Summary(chosen.summary, kinds)
    run(summary, kinds, chosen.states, chosen.processes)
    return 1 if summary.has_failed else 0


if __name__ == "__main__":
    sys.exit(main())

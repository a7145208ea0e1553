"""The segments of a journal in order, and their records, also while a node goes on writing.

A node that takes a snapshot removes the segments that only older ones needed. So the files are
opened before the first is read, and what is open stays readable when its name is gone. Then a
segment may be read a long time after its neighbours, but never another journal's, nor half of it.

Does not know: what is damage (verify.py), what records mean.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Final, final

from pybehave.errors import JournalRefused
from pybehave.journal.ahead import ReadAhead
from pybehave.journal.codec import Codec, Coder
from pybehave.journal.progress import Progress
from pybehave.journal.reader import (
    BLOCK,
    MEND,
    Manifest,
    Record,
    Segment,
    Stop,
    read_manifest,
    segment_numbers,
)

HELD_MAX: Final = 512
"""Segments held open: half of what a process may usually open, and 32 GiB of journal. Of a longer
one the newest are, for a node removes the oldest first, long before."""

TRIES: Final = 10
"""How often a journal is begun anew that changed while its files were opened."""


def find_segments(path: str, manifest: Manifest, codec: Iterable[Codec] = ()) -> list[Segment]:
    """Return the segments in use, in order, with their headers read.

    Args:
        codec: What their records are opened with.

    Raises:
        JournalRefused: One that is needed is missing or damaged.
    """
    found = []
    numbers = segment_numbers(path)
    number = manifest.oldest
    while number in numbers or (number <= manifest.current and manifest.epoch > 0):
        segment = Segment(path, number, manifest.journal_id)
        if not segment.has_header:
            if number <= manifest.current:
                raise JournalRefused(segment.file, f"no copy of its header is sound; {MEND}")
            break  # prepared, or its header was being written
        segment.coder = Coder(codec, manifest.journal_id)
        found.append(segment)
        number += 1
    return found


@contextlib.contextmanager
def held(path: str, codec: Iterable[Codec] = ()) -> Iterator[tuple[Manifest, list[Segment]]]:
    """Open the segments in use; until the block ends nobody can take them away.

    Args:
        codec: What their records are opened with.

    Raises:
        JournalRefused: One that is needed is missing or damaged.
    """
    with contextlib.ExitStack() as opened:
        yield _open_all(path, opened, tuple(codec))


def _open_all(
    path: str, opened: contextlib.ExitStack, codec: tuple[Codec, ...]
) -> tuple[Manifest, list[Segment]]:
    manifest = read_manifest(path)
    for _ in range(TRIES):
        try:
            found = find_segments(path, manifest, codec)
            _hold(found[-HELD_MAX:], opened)
        except JournalRefused:
            opened.close()
            before, manifest = manifest, read_manifest(path)
            if manifest.oldest == before.oldest:
                raise  # nobody took it away
        else:
            return manifest, found
    raise JournalRefused(path, "it changes faster than it can be read; use a copy")


def _hold(segments: Iterable[Segment], opened: contextlib.ExitStack) -> None:
    for segment in segments:
        try:
            fd = os.open(segment.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise JournalRefused(segment.file, f"it cannot be opened: {error.strerror}") from error
        opened.callback(os.close, fd)
        segment.read_from(fd)


@final
class Walk:
    """How far a walk over segments is.

    Args:
        segments: All of them, in order.
        progress: Is told; None = nobody wants to know.
        phase: What is done with them: "checking", "copying".
    """

    def __init__(self, segments: list[Segment], progress: Progress | None, phase: str) -> None:
        self._first = segments[0].header.number if segments else 0
        self._size = segments[0].header.size if segments else 0
        self._done = 0
        if progress is not None:
            progress.begin(phase, "bytes", len(segments) * self._size, lambda: self._done)

    def at(self, segment: Segment, block: int) -> None:
        """It has come to this block of this segment."""
        self._done = (segment.header.number - self._first) * self._size + block * BLOCK

    def over(self, segment: Segment) -> None:
        """It is done with this segment."""
        self.at(segment, self._size // BLOCK)


def loaded(segments: list[Segment]) -> Iterator[Segment]:
    """Yield segments with their contents, read ahead; a content is gone when the next one comes."""
    size = max((segment.header.size for segment in segments), default=0)
    for segment, _ in ReadAhead(segments, Segment.load, size):
        try:
            yield segment
        finally:
            segment.release()


def with_followers(segments: list[Segment]) -> Iterator[tuple[Segment, int | None]]:
    """Yield loaded segments, and which seq the next one's header says is the last that counts."""
    for index, segment in enumerate(loaded(segments)):
        is_last = index + 1 == len(segments)
        yield segment, None if is_last else segments[index + 1].header.before_seq


def records(segments: list[Segment], walk: Walk | None = None) -> Iterator[Record]:
    """Yield the records that count, in order, to the first damage.

    Args:
        walk: Is told how far it is.

    Raises:
        JournalRefused: A segment cannot be read, or its records do not fill their frames.
        CodecRefused: They cannot be read without other codecs or keys.
    """
    for segment, last_seq in with_followers(segments):
        for frame in segment.frames(last_seq):
            if isinstance(frame, Stop):
                return
            if walk is not None:
                walk.at(segment, frame.block)
            yield from segment.records(frame)
        if walk is not None:
            walk.over(segment)

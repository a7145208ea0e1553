"""Read the next file while the one before it is worked on: one more thread, memory used in turn.

Theory. A read lets go of the GIL, so the disk works while records are taken apart and stepped.
Memory is used again because pages that are new cost more than the disk: 64 MiB at a time read with
O_DIRECT went at 0.4 GB/s into new memory and at 1.0 GB/s into old, on a machine whose hashes run
at 28 GB/s (`python -m bench journal` shows what becomes of it).

Invariants
  (A1) What is yielded stays as it is until the next is asked for; with `keep`, for ever.
  (A2) Files are read in order, one at a time, at most one ahead.
  (A3) When the loop over it ends, however it ends, nothing reads any more.

Does not know: what is in the files. Both readers use it; it is all that they share.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Generic, TypeVar, final

Item = TypeVar("Item")

MADV_WIPEONFORK: Final = 18
"""Linux 4.14; Python has no name for it."""


@final
class ReadAhead(Generic[Item]):
    """Iterate over items, each with the content that was read for it.

    Args:
        items: What is to be read, in order.
        read: Reads one into memory that is given, if it will, and returns its content. Runs on
            the other thread; what it raises is raised where the item's turn comes.
        room_bytes: Memory for one item.
        is_threaded: False reads each when its turn comes, into memory of `read`'s own: in the
            simulator, where everything happens in one order.
        there: Items whose contents are in memory: they come first, while the next is read.
    """

    def __init__(
        self,
        items: Iterable[Item],
        read: Callable[[Item, memoryview | None], memoryview],
        room_bytes: int,
        *,
        is_threaded: bool = True,
        there: Iterable[tuple[Item, memoryview]] = (),
    ) -> None:
        self._items = items
        self._read = read
        self._room_bytes = room_bytes
        self._is_threaded = is_threaded
        self._there = there
        self._free: list[memoryview] = []
        self._is_kept = False

    def keep(self) -> None:
        """Let the content that was yielded last stay valid (A1)."""
        self._is_kept = True

    def __iter__(self) -> Iterator[tuple[Item, memoryview]]:
        """Yield each item and its content."""
        if not self._is_threaded:
            yield from self._there
            for item in self._items:
                yield item, self._read(item, None)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="pybehave-read") as reader:
            before: tuple[Item, memoryview, Future[memoryview]] | None = None
            for item in self._items:
                room = self._free.pop() if self._free else make_room(self._room_bytes)
                ahead = reader.submit(self._read, item, room)
                yield from self._there if before is None else self._hand_over(*before)
                before = item, room, ahead
            yield from self._there if before is None else self._hand_over(*before)

    def _hand_over(
        self, item: Item, room: memoryview, ahead: Future[memoryview]
    ) -> Iterator[tuple[Item, memoryview]]:
        self._is_kept = False
        yield item, ahead.result()
        if not self._is_kept:
            self._free.append(room)


def make_room(count: int) -> memoryview:
    """Return memory of its own pages, as O_DIRECT wants it, for at least one byte.

    It is private: the first touch of a page of shared memory costs twice as much. So a fork's child
    finds zeros there, for a read that is under way at the fork could land in the wrong one of two
    copies (open(2), "O_DIRECT"). It must not be without them: what is mapped there instead would go
    when Python lets go of this room in the child. With large pages reading was five times as fast
    in some runs, and slower in others, for somebody has to make them first.
    """
    room = mmap.mmap(-1, max(count, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    room.madvise(MADV_WIPEONFORK)
    return memoryview(room)

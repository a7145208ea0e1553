"""Reading ahead: in order, at most one ahead, memory used again, nothing left behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

from pybehave.journal.ahead import ReadAhead

BYTES = 4096
THREAD = "pybehave-read"


def stamp(item: int, room: memoryview | None) -> memoryview:
    """A content that says whose it is."""
    assert room is not None
    room[:] = bytes([item]) * len(room)
    return room


def test_each_item_comes_with_its_own_content_in_order() -> None:
    found = [(item, bytes(content)) for item, content in ReadAhead(range(9), stamp, BYTES)]
    assert found == [(item, bytes([item]) * BYTES) for item in range(9)]


def test_nothing_to_read_is_nothing_to_wait_for() -> None:
    assert list(ReadAhead([], stamp, BYTES)) == []


def test_A1_two_rooms_are_enough_and_what_is_kept_stays() -> None:
    contents = ReadAhead(range(9), stamp, BYTES)
    kept, rooms = [], set()
    for item, content in contents:
        rooms.add(id(content.obj))
        if item >= 7:
            contents.keep()
            kept.append((item, content))
    assert [bytes(content) for _, content in kept] == [bytes([n]) * BYTES for n, _ in kept]
    assert len(rooms) <= 4


def test_A2_the_next_one_is_read_meanwhile_and_no_other() -> None:
    begun = [threading.Event() for _ in range(4)]

    def read(item: int, room: memoryview | None) -> memoryview:
        begun[item].set()
        return stamp(item, room)

    for item, _ in ReadAhead(range(4), read, BYTES):
        assert item == 3 or begun[item + 1].wait(60)
        assert [event.is_set() for event in begun[item + 2 :]] == [False] * len(begun[item + 2 :])


@pytest.mark.parametrize("is_threaded", [True, False])
@pytest.mark.parametrize("count", [0, 3])
def test_what_is_there_already_comes_first(count: int, is_threaded: bool) -> None:
    def read(item: int, room: memoryview | None) -> memoryview:
        return memoryview(bytes([item]))

    there = [(item, memoryview(bytes([item]))) for item in (7, 8)]
    contents = ReadAhead(range(count), read, BYTES, is_threaded=is_threaded, there=there)
    found = [(item, bytes(content)) for item, content in contents]
    assert found == [(item, bytes([item])) for item in (7, 8, *range(count))]


def test_while_what_is_there_is_worked_on_the_first_one_is_read() -> None:
    begun = threading.Event()

    def read(item: int, room: memoryview | None) -> memoryview:
        begun.set()
        return stamp(item, room)

    contents = iter(ReadAhead([1], read, BYTES, there=[(0, memoryview(b""))]))
    assert next(contents)[0] == 0
    assert begun.wait(60)
    assert next(contents)[0] == 1


def leave(contents: ReadAhead[int]) -> None:
    for item, _ in contents:
        if item == 2:
            break


def fail(contents: ReadAhead[int]) -> None:
    with pytest.raises(ValueError, match="enough"):
        for _ in contents:
            raise ValueError("enough")


@pytest.mark.parametrize("end", [list, leave, fail])
def test_A3_when_the_loop_ends_nothing_reads_any_more(
    end: Callable[[ReadAhead[int]], None], threads: Callable[[str], int]
) -> None:
    end(ReadAhead(range(9), stamp, BYTES))
    assert threads(THREAD) == 0


@pytest.mark.parametrize("is_threaded", [True, False])
def test_an_error_comes_where_its_items_turn_is(is_threaded: bool) -> None:
    def read(item: int, room: memoryview | None) -> memoryview:
        if item == 2:
            raise OSError("broken")
        return memoryview(bytes([item]))

    seen = []
    with pytest.raises(OSError, match="broken"):
        for item, _ in ReadAhead(range(5), read, BYTES, is_threaded=is_threaded):
            seen.append(item)
    assert seen == [0, 1]


def test_without_a_thread_each_is_read_when_its_turn_comes() -> None:
    events = []

    def read(item: int, room: memoryview | None) -> memoryview:
        assert room is None
        events.append(f"read {item}")
        return memoryview(b"")

    for item, _ in ReadAhead(range(2), read, BYTES, is_threaded=False):
        events.append(f"use {item}")
    assert events == ["read 0", "use 0", "read 1", "use 1"]


NOT_INHERITED = """
import os, sys
from pybehave.journal.ahead import make_room

room = make_room(8192)
room[:] = b"x" * len(room)
child = os.fork()
if child == 0:
    os._exit(bytes(room) != bytes(len(room)))
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


NOTHING_TAKEN_AWAY = """
import mmap, os, sys
from pybehave.journal.ahead import make_room

room = make_room(1 << 24)
child = os.fork()
if child == 0:
    others = [mmap.mmap(-1, 1 << 24, flags=mmap.MAP_PRIVATE) for _ in range(8)]
    del room  # the kernel is asked to take away what is mapped at its address
    for other in others:
        other[:] = bytes(1 << 24)
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("program", [NOT_INHERITED, NOTHING_TAKEN_AWAY])
def test_a_forks_child_has_no_part_in_a_read_that_is_under_way(program: str) -> None:
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0

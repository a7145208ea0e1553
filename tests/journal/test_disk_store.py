"""The store on a disk keeps the contract, on a real folder and on a simulated disk."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from examples.counter import Counter
from pybehave import Application, Supervisor, Worker
from pybehave.errors import DurabilityLost, Fenced, JournalFull, JournalRefused
from pybehave.journal.contents import content_name
from pybehave.journal.disk import FolderDisk
from pybehave.journal.disk_store import DiskStore
from pybehave.journal.recovery import Options
from pybehave.journal.store import Batch, Lease, Store, StreamSnapshot
from pybehave.journal.verify import verify
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import Simulator
from pybehave.testing.store_conformance import THREADS, TTL_S, Clock, StoreConformance, at_once
from pybehave.testing.store_walk import walk_beside_the_model

SMALL = Options(segment_bytes=4 << 20, frame_bytes_max=2 << 20)
TINY = Options(segment_bytes=64 << 10, frame_bytes_max=32 << 10)
"""Rolls, and takes bases, within a few calls."""


OTHER = """
import sys
from pybehave.errors import JournalLocked
from pybehave.journal.disk import FolderDisk
from pybehave.journal.disk_store import DiskStore
try:
    DiskStore(FolderDisk(sys.argv[1], is_volatile_allowed=True))
except JournalLocked as error:
    print("written by", error.pid)
"""

WRITER = """
import sys
from pybehave.journal.disk import FolderDisk
from pybehave.journal.disk_store import DiskStore
from pybehave.journal.recovery import Options
from pybehave.journal.store import Batch
store = DiskStore(FolderDisk(sys.argv[1], is_volatile_allowed=True), Options(segment_bytes=65536))
lease = store.acquire("a", "writer", 60)
sequence = lease.sequence
while True:
    sequence = store.commit(lease, sequence, Batch((b"%d" % (sequence + 1),)))
    print(sequence, flush=True)
    if sequence % 7 == 0:
        store.put_snapshot(lease, sequence, b"%d" % sequence)
"""


class TestDiskStore(StoreConformance):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path) -> None:
        self.path = tmp_path

    def open_store(self, clock: Clock) -> Store:
        return DiskStore(FolderDisk(self.path, is_volatile_allowed=True), SMALL, clock=clock)


def on_simulated_disk(clock: Clock) -> Store:
    return DiskStore(SimDisk(), TINY, clock=clock, unix_ns=lambda: 1)


def again(store: Store, clock: Clock) -> Store:
    assert isinstance(store, DiskStore)
    store.close()
    return DiskStore(store._disk, TINY, clock=clock, unix_ns=lambda: 1)


TestDiskStoreBesideTheModel = walk_beside_the_model(on_simulated_disk, again)


# --- what only a disk has -----------------------------------------------------------------------


def opened(disk: SimDisk | FolderDisk, options: Options = TINY) -> DiskStore:
    return DiskStore(disk, options, clock=lambda: 0.0, unix_ns=lambda: 1)


def filled(disk: SimDisk, entries: int = 6) -> Lease:
    """A store with snapshots of entries 2 and 4; it is closed."""
    store = opened(disk)
    lease = store.acquire("a", "me", TTL_S)
    for sequence in range(entries):
        store.commit(lease, sequence, Batch((b"%d" % (sequence + 1),)))
        if sequence + 1 in (2, 4):
            store.put_snapshot(lease, sequence + 1, b"state %d" % (sequence + 1))
    store.close()
    return lease


def contents_of(disk: SimDisk) -> list[str]:
    return [name for name in disk.names() if name.startswith("stream-")]


def test_a_damaged_snapshot_costs_a_longer_replay_and_nothing_else() -> None:
    disk = SimDisk()
    filled(disk)
    disk.patch(contents_of(disk)[-1], 200, b"?")
    store = opened(disk)
    assert store.get_snapshot("a") == StreamSnapshot(2, 1, b"state 2")
    assert [entry.content for entry in store.read("a", 3)] == [b"3", b"4", b"5", b"6"]


def test_without_any_sound_snapshot_it_says_so() -> None:
    disk = SimDisk()
    filled(disk)
    for name in contents_of(disk):
        disk.lose(name)
    with pytest.raises(JournalRefused, match="none of its snapshots can be read; restore"):
        opened(disk).get_snapshot("a")


def test_a_start_voids_the_leases_of_the_process_before() -> None:
    disk = SimDisk()
    lease = filled(disk)
    store = opened(disk)
    with pytest.raises(Fenced):
        store.commit(lease, 6, Batch())
    assert store.acquire("a", "me", TTL_S).epoch == lease.epoch + 1


def test_files_that_nobody_names_are_removed() -> None:
    disk = SimDisk()
    filled(disk)
    before = contents_of(disk)
    disk.install(content_name(99), b"of a call that was cut off")
    opened(disk).close()
    assert contents_of(disk) == before


def test_the_disk_does_not_grow_for_ever() -> None:
    disk = SimDisk()
    store = opened(disk)
    lease = store.acquire("a", "me", TTL_S)
    for sequence in range(600):
        store.commit(lease, sequence, Batch((b"x" * 2000,)))
        if sequence % 20 == 19:
            store.put_snapshot(lease, sequence + 1, b"y" * 2000)
    assert len(disk.names()) < 20
    store.close()
    assert opened(disk).get_snapshot("a") == StreamSnapshot(600, 1, b"y" * 2000)


def test_starts_without_work_do_not_fill_the_disk() -> None:
    disk = SimDisk()
    filled(disk)
    for _ in range(40):
        opened(disk).close()
    assert len(disk.names()) < 20


@pytest.mark.parametrize(
    ("flags", "says"),
    [(os.ST_RDONLY, "the file system is read-only"), (0, "may not write there")],
)
def test_a_folder_that_cannot_be_written_is_told_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: int, says: str
) -> None:
    class Volume:
        f_flag = flags

    monkeypatch.setattr(os, "access", lambda path, mode: False)
    monkeypatch.setattr(os, "statvfs", lambda path: Volume)
    with pytest.raises(JournalRefused, match=says):
        FolderDisk(str(tmp_path))


def test_the_first_failure_is_final() -> None:
    disk = SimDisk()
    store = opened(disk)
    lease = store.acquire("a", "me", TTL_S)
    disk.fail(errno.EIO)
    for call in (
        lambda: store.commit(lease, 0, Batch((b"x",))),
        lambda: store.read("a", 1),
        lambda: store.acquire("b", "me", TTL_S),
        lambda: store.inbox("a"),
        lambda: store.get_snapshot("a"),
    ):
        with pytest.raises(DurabilityLost):
            call()
    store.close()


def test_a_full_disk_refuses_and_takes_more_when_there_is_room() -> None:
    disk = SimDisk()
    store = opened(disk)
    lease = store.acquire("a", "me", TTL_S)
    disk.fail(errno.ENOSPC, kinds=("fill",), is_forever=True)
    sequence = 0
    with pytest.raises(JournalFull):
        while sequence < 1000:
            sequence = store.commit(lease, sequence, Batch((b"x" * 3000,)))
    assert len(store.read("a", 1)) == sequence
    disk.heal()
    assert store.commit(lease, sequence, Batch((b"x" * 3000,))) == sequence + 1


def test_a_full_disk_does_not_keep_it_from_being_closed() -> None:
    disk = SimDisk()
    store = opened(disk)
    lease, sequence = store.acquire("a", "me", TTL_S), 0
    disk.fail(errno.ENOSPC, kinds=("fill",), is_forever=True)
    with contextlib.suppress(JournalFull):
        while sequence < 1000:
            sequence = store.commit(lease, sequence, Batch((b"x",)))
    store.close()
    disk.heal()
    assert len(opened(disk).read("a", 1)) == sequence


def test_threads_take_one_base_at_a_time(tmp_path: Path) -> None:
    store = opened(FolderDisk(tmp_path, is_volatile_allowed=True))

    def work(number: int) -> None:
        lease = store.acquire(f"s{number}", "me", TTL_S)
        for sequence in range(40):
            store.commit(lease, sequence, Batch((b"x" * 3000,)))
            store.put_snapshot(lease, sequence + 1, b"%d" % sequence)

    at_once(work)
    store.close()
    report = verify(str(tmp_path), is_deep=True)
    assert report.problems == []
    assert len(set(report.snapshots)) == 2
    again = opened(FolderDisk(tmp_path, is_volatile_allowed=True))
    for number in range(THREADS):
        assert again.get_snapshot(f"s{number}") == StreamSnapshot(40, 1, b"39")
    again.close()


def a_node_on(disk: SimDisk) -> None:
    app = Application("t", Supervisor("one_for_one", [Worker("s", Counter, journal=True)]))
    Simulator(1, app, disk=disk, journal_options=TINY).start().stop()


def test_a_store_refuses_the_folder_of_a_node() -> None:
    disk = SimDisk()
    a_node_on(disk)
    with pytest.raises(JournalRefused, match="the journal of a node, and no store"):
        opened(disk)


@pytest.mark.parametrize("starts", [1, 12])
def test_a_node_refuses_the_folder_of_a_store(starts: int) -> None:
    """Whether it finds records, or a base and no more."""
    disk = SimDisk()
    filled(disk)
    for _ in range(starts):
        opened(disk).close()
    with pytest.raises(JournalRefused, match="it holds a store"):
        a_node_on(disk)


class HeldDisk:
    """A simulated disk whose writes wait while they are held."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.gate = threading.Event()
        self.let_go = self.gate.set
        self.hold = self.gate.clear
        self.let_go()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.disk, name)

    def write(self, name: str, offset: int, data: bytes) -> None:
        self.gate.wait()
        self.disk.write(name, offset, data)


def test_many_threads_share_a_flush() -> None:
    disk = HeldDisk()
    store = opened(disk)
    leases = [store.acquire(f"s{number}", "me", TTL_S) for number in range(8)]
    before = store._commit.durable_seq
    disk.hold()
    threads = [
        threading.Thread(target=store.commit, args=(lease, 0, Batch((b"x",)))) for lease in leases
    ]
    for thread in threads:
        thread.start()
    while any(store._streams.get(lease.stream).sequence == 0 for lease in leases):
        os.sched_yield()  # until all have recorded theirs
    disk.let_go()
    for thread in threads:
        thread.join()
    assert store._commit.durable_seq <= before + 2


def test_another_process_finds_it_locked(tmp_path: Path) -> None:
    store = opened(FolderDisk(tmp_path, is_volatile_allowed=True))
    ran = subprocess.run(
        [sys.executable, "-c", OTHER, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ran.stdout == f"written by {os.getpid()}\n", ran.stderr
    store.close()


def test_F29_the_child_of_a_fork_may_not_write(tmp_path: Path, monkeypatch: Any) -> None:
    store = opened(FolderDisk(tmp_path, is_volatile_allowed=True))
    with monkeypatch.context() as patched:
        patched.setattr(os, "getpid", lambda: 1)
        with pytest.raises(JournalRefused, match="opened before fork"):
            store.acquire("a", "me", TTL_S)
    store.close()


def test_what_was_said_survives_kills(tmp_path: Path) -> None:
    sequence = 0
    for _ in range(12):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for line in itertools.islice(writer.stdout, 40):
            sequence = int(line)
        writer.kill()
        sequence = max([sequence, *(int(line) for line in writer.stdout if line.endswith("\n"))])
        writer.wait()
        writer.stdout.close()
    store = opened(FolderDisk(tmp_path, is_volatile_allowed=True), SMALL)
    first = store._streams.get("a").oldest
    contents = [int(entry.content) for entry in store.read("a", first)]
    assert contents == list(range(first, first + len(contents)))
    assert first + len(contents) - 1 in (sequence, sequence + 1)
    snapshot = store.get_snapshot("a")
    assert snapshot is not None and int(snapshot.content) == snapshot.sequence
    store.close()
    report = verify(str(tmp_path), is_deep=True)
    assert report.problems == [] and report.ended == "clean"

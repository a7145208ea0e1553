"""The mutation table (durability.md 4.5): one safeguard taken away at a time, and who notices.

The core is not built with switches for this: a mutant is a change of the source's own text,
compiled apart and loaded in place of the real module in a process of its own. A text that is not
found fails the test: the table is out of date. Safeguards in Python are replaced in that process.

Not in the table, for nothing that can happen tells the difference: evidence (f), which (a) implies
as long as the window slides; the clean flag beside a watermark that counts CLOSE; a used spare made
anew, whose header blocks are overwritten whole; the sync of a spare before its rename, for one that
comes back short is made anew until its header is durable, and what makes the header durable - an
fdatasync of the file, on ext4 and xfs the sync of the folder before it - makes all of the file so.
That one was tried in real servers on volatile_fs, ext4, xfs and the block log.

Below the simulator's disk lie the sync of frames, the sync of other files before their names, zeros
from end to end, and O_DIRECT in recovery: tests/power/test_mutants.py takes them away.

    python -m tests.journal.mutants NAME       exits with 1 and the suite that noticed, else 0
"""

import contextlib
import dataclasses
import importlib.util
import logging
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src/_uring"
BUILD = ROOT / "build/venv"


J, B, S, U = "journal.c", "blocks.pyx", "segment.c", "source_uring.c"


class Mutant(NamedTuple):
    """A safeguard, the suites of which one must fail without it, and how it is taken away."""

    safeguard: str
    suites: tuple[str, ...]
    file: str = ""
    old: str = ""
    new: str = ""
    module: str = "commit"
    patch: Callable[[], None] | None = None
    flags: tuple[str, ...] = ()

    @property
    def needs_ring(self) -> bool:
        """Whether it is code of io_uring's alone."""
        return self.file == U


# --- safeguards in Python ---------------------------------------------------------------------


def no_sync_of_names() -> None:
    from pybehave.journal import recovery

    recovery._name = lambda disk, old, new: disk.rename(old, new)


def failed_names_stay() -> None:
    from pybehave.journal import recovery

    def name(disk, old, new):
        disk.rename(old, new)
        disk.sync_names()

    recovery._name = name


def no_sync_before_reading() -> None:
    from pybehave.testing.disk import SimDisk

    SimDisk.sync = lambda self, name: None


def evidence(index: int) -> Callable[[], None]:
    """Claims of frames: 0 = their seq (f), 1 = their durable seq (a)."""

    def patch() -> None:
        from pybehave._uring import blocks

        real = blocks.claims

        def claims(*arguments):
            found = list(real(*arguments))
            found[index] = 0
            return tuple(found)

        blocks.claims = claims

    return patch


def no_end_in_header() -> None:
    from pybehave._uring import blocks

    real = blocks.walk
    blocks.walk = lambda content, header, last_seq=0: real(content, header)


def no_epoch_bump() -> None:
    from pybehave.journal import recovery

    real = recovery._begin

    def lower(each):
        return each._replace(epoch=max(each.epoch - 1, 0))

    def begin(disk, options, found, headers, *rest, **how):
        found = dataclasses.replace(found, manifest=lower(found.manifest))
        headers = [(number, lower(header)) for number, header in headers]
        return real(disk, options, found, headers, *rest, **how)

    recovery._begin = begin


def no_lock() -> None:
    from pybehave.journal.disk import FolderDisk

    FolderDisk.lock = lambda self: None


def no_second_writer_check() -> None:
    from pybehave.journal import evidence

    evidence.refuse_second_writer = lambda *_: None


def manifest_before_header() -> None:
    """Step 13 before step 12."""
    from pybehave.journal import recovery

    real = recovery._begin

    class Late:
        """A disk that writes a segment's header when the manifest is written."""

        def __init__(self, disk):
            self.disk, self.header = disk, None

        def __getattr__(self, name):
            return getattr(self.disk, name)

        def write(self, name, offset, data):
            if name != recovery.MANIFEST:
                self.header = name, offset, data
                return
            self.disk.write(name, offset, data)
            if self.header is not None:
                self.disk.write(*self.header)

    recovery._begin = lambda disk, *rest, **how: real(Late(disk), *rest, **how)


def no_sync_of_a_snapshots_name() -> None:
    from pybehave.journal import snapshot
    from pybehave.testing.disk import SimDisk

    real, sync = snapshot.write, SimDisk.sync_names

    def write(disk, content, lsn):
        SimDisk.sync_names = lambda self: None
        try:
            return real(disk, content, lsn)
        finally:
            SimDisk.sync_names = sync

    snapshot.write = write


def no_reading_back() -> None:
    from pybehave.journal import snapshot

    def write(disk, content, lsn):
        name = snapshot.snapshot_name(lsn)
        disk.put(f"{name}.tmp", content)
        disk.rename(f"{name}.tmp", name)
        disk.sync_names()
        return content[96:112]

    snapshot.write = write


def only_the_newest_snapshot() -> None:
    from pybehave.journal import snapshot

    snapshot.still_needed = lambda starts, newest, before: (
        snapshot.segment_behind(starts, newest),
        {newest},
    )


def damaged_snapshots_stay_named() -> None:
    from pybehave.journal import recovery

    recovery._sound = lambda manifest, found: manifest.snapshots


def forget_what_has_no_name_yet() -> None:
    from pybehave.journal import recovery

    real = recovery.tidy

    def tidy(disk, oldest, snapshots, *, is_start):
        for name in disk.names():
            lsn = recovery.snapshot_lsn(name)
            if lsn is not None and lsn not in snapshots:
                disk.remove(name)
        real(disk, oldest, snapshots, is_start=is_start)

    recovery.tidy = tidy


def no_hash_of_snapshots() -> None:
    from pybehave.journal import snapshot

    class Always(bytes):
        __hash__ = bytes.__hash__

        def __ne__(self, other):
            return False

    snapshot._digest = lambda head, body: Always()


# --- the table --------------------------------------------------------------------------------

URING = ("-DPYBEHAVE_HAVE_URING=1", "-luring")

MUTANTS = {
    "names": Mutant("folder sync after a spare's rename", ("T-1",), patch=no_sync_of_names),
    "names-failed": Mutant("a failed folder sync is final", ("T-3",), patch=failed_names_stay),
    "sync-first": Mutant("sync before reading", ("T-3",), patch=no_sync_before_reading),
    "window": Mutant(
        "the sliding window (J2)",
        ("T-1", "T-2"),
        J,
        "j->in_flight >= j->config.depth || j->next_seq > j->durable_seq + j->config.depth",
        "j->in_flight > j->config.depth",
    ),
    "evidence-a": Mutant("durable seq in frames as evidence", ("F03",), patch=evidence(1)),
    "end": Mutant("the next header names the end", ("F02",), patch=no_end_in_header),
    "epoch": Mutant("every opening has an epoch of its own", ("T-1",), patch=no_epoch_bump),
    "lock": Mutant("one writer", ("F27",), patch=no_lock),
    "two-writers": Mutant("two histories", ("F28",), patch=no_second_writer_check),
    "12-13": Mutant("header before manifest", ("T-1",), patch=manifest_before_header),
    "poison": Mutant(
        "the first error is final", ("F11", "T-3"), J, "j->error = error;", "(void)error;"
    ),
    "in-order": Mutant(
        "frames count in order (J3)",
        ("T-1", "T-2"),
        J,
        "j->slots[index].seq == j->durable_seq + 1",
        "j->slots[index].seq != 0",
    ),
    "short": Mutant(
        "a short write is continued",
        ("T-1", "F17"),
        J,
        "slot->written += (uint32_t)result;",
        "slot->written = slot->bytes;",
    ),
    "retry": Mutant(
        "an interrupted write is repeated",
        ("T-1", "F18"),
        J,
        "slot->is_short = 1; /* nothing was promised: the same again */",
        "slot->written = slot->bytes; slot->state = SLOT_LANDED; return land(j);",
    ),
    "fresh-blocks": Mutant(
        "frames on fresh blocks (J1)",
        ("T-1", "T-2"),
        J,
        "j->block += slot->bytes / SEGMENT_BLOCK;",
        "j->block += slot->bytes / SEGMENT_BLOCK - (slot->bytes > SEGMENT_BLOCK);",
    ),
    "seal-first": Mutant(
        "each step of a roll after the one before (J6)",
        ("T-1", "T-2"),
        J,
        "if (j->in_flight > 0 || j->slots[JOURNAL_SLOT_CONTROL].state != SLOT_FREE) {",
        "if (j->slots[JOURNAL_SLOT_CONTROL].state != SLOT_FREE && j->roll != ROLL_SEAL) {",
    ),
    "roll-manifest": Mutant(
        "manifest before the first frame of a segment",
        ("F24", "roll"),
        J,
        "j->manifest.current = j->segment;",
        "",
    ),
    "slots": Mutant(
        "manifest slots alternate (J7)",
        ("T-2",),
        J,
        "(j->manifest.counter & 1) ? MANIFEST_SLOT_B : 0",
        "0",
    ),
    "watermark": Mutant(
        "the manifest says what is durable",
        ("F04",),
        J,
        "j->manifest.durable_seq = j->durable_seq;",
        "",
    ),
    "home": Mutant(
        "slots come home after a failure", ("F11",), J, "slot->state = SLOT_LANDED; /* back", "/*"
    ),
    "padding": Mutant(
        "padding is checked",
        ("F05",),
        S,
        "return is_zero(at + used, segment_blocks_bytes(used) - used) ? SEGMENT_SOUND "
        ": SEGMENT_PADDING;",
        "return SEGMENT_SOUND;",
        "blocks",
    ),
    "body-hash": Mutant(
        "the body's hash",
        ("T-1", "F03"),
        S,
        "if (memcmp(hash.bytes, frame->body_hash.bytes, 16) != 0) {",
        "if (0) {",
        "blocks",
    ),
    "position": Mutant(
        "a frame names its place",
        ("F10",),
        B,
        """    if frame.segment != segment or frame.block != block or frame.seq != seq:
        return 3
    if frame.epoch != epoch: # every epoch begins a segment of its own (F-28)
        return 9
""",
        "    if frame.seq != seq:\n        return 3\n",
        "blocks",
    ),
    "snapshot-name": Mutant(
        "folder sync after a snapshot's rename",
        ("snapshots",),
        patch=no_sync_of_a_snapshots_name,
    ),
    "snapshot-read": Mutant(
        "a snapshot is read back before it counts", ("F21",), patch=no_reading_back
    ),
    "snapshot-older": Mutant(
        "the snapshot before is kept, and its segments",
        ("snapshots",),
        patch=only_the_newest_snapshot,
    ),
    "snapshot-sound": Mutant(
        "a damaged snapshot is not kept for a sound one",
        ("F22", "snapshots"),
        patch=damaged_snapshots_stay_named,
    ),
    "snapshot-hash": Mutant(
        "the hash of a snapshot", ("snapshots",), patch=no_hash_of_snapshots
    ),
    "snapshot-next": Mutant(
        "a snapshot that is not named yet is left alone",
        ("snapshots",),
        patch=forget_what_has_no_name_yet,
    ),
    "forget-late": Mutant(
        "nothing is removed before the manifest says so, durably",
        ("snapshots",),
        "commit.pyx",
        "self.manifest_wanted = self.j.manifest.counter + 1",
        "self.manifest_wanted = 0",
    ),
    "canceled": Mutant(
        "a sync that a short write has canceled is no failure",
        ("linked",),
        U,
        "if (*first != 0 && (entry->res == 0 || entry->res == -ECANCELED)) {",
        "if (*first != 0 && entry->res == 0) {",
        "loop",
        flags=URING,
    ),
    "barrier": Mutant(
        "replies wait for the disk",
        ("node",),
        "turn.pyx",
        "server.barrier = self.commit.j.batch",
        "server.barrier = 0",
        "turn",
    ),
    "chain": Mutant(
        "the chain of hashes",
        ("chain",),
        B,
        "if memcmp(frame.chain.bytes, chain.bytes, 16) != 0:",
        "if False:",
        "blocks",
    ),
}  # fmt: skip


# --- building and running ---------------------------------------------------------------------


def build(mutant: Mutant, folder: Path) -> Path:
    """Compile a module with the changed text; the rest is what `make build` left."""
    text = (SOURCE / mutant.file).read_text()
    assert text.count(mutant.old) == 1, f"not once in {mutant.file}: {mutant.old!r}"
    changed = folder / mutant.file
    changed.write_text(text.replace(mutant.old, mutant.new))
    objects = [str(BUILD / f"CMakeFiles/{mutant.module}.dir/src/_uring/{mutant.module}.c.o")]
    if mutant.file.endswith(".pyx"):
        generated = folder / f"{mutant.module}.c"
        name = f"pybehave._uring.{mutant.module}"
        cython = [sys.executable, "-m", "cython", "-3", "-I", str(BUILD / "pxd")]
        run([*cython, "--module-name", name, str(changed), "-o", str(generated)])
        changed, objects = generated, []
    found = folder / f"{mutant.module}.so"
    flags = ["-O1", "-shared", "-fPIC", "-w", "-DNDEBUG", f"-I{SOURCE}"]
    flags.append("-I" + sysconfig.get_paths()["include"])
    parts = [str(changed), *objects, str(BUILD / "libcore_c.a"), *mutant.flags]
    run(["cc", *flags, *parts, "-o", str(found)])
    return found


def run(command: list[str]) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def become(mutant: Mutant) -> None:
    """Let this process run the mutant."""
    if mutant.patch is not None:
        mutant.patch()
        return
    with tempfile.TemporaryDirectory() as folder:
        name = f"pybehave._uring.{mutant.module}"
        spec = importlib.util.spec_from_file_location(name, build(mutant, Path(folder)))
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        import pybehave._uring

        setattr(pybehave._uring, mutant.module, module)


def suites() -> dict[str, Callable[[], object]]:
    """Small portions of the suites, by name."""
    from tests.journal import test_damage, test_failing_disk, test_faults, test_small_journals
    from tests.journal.engine import play
    from tests.simulation.test_durable import play as play_node

    def fault(row: str) -> Callable[[], None]:
        def try_all() -> None:
            for name, test in vars(test_faults).items():
                if name.startswith(f"test_{row}_") or f"_{row}_" in name:
                    wants = test.__code__.co_varnames[: test.__code__.co_argcount]
                    with tempfile.TemporaryDirectory() as folder:
                        values = {"tmp_path": Path(folder), "row": row, "what": 4}
                        test(**{want: values[want] for want in wants})

        return try_all

    return {
        "T-1": lambda: [play(seed) for seed in range(120)],
        "T-2": lambda: [
            test_small_journals.test_every_subset_of_sectors_recovers(script, depth)
            for script in test_small_journals.SCRIPTS
            for depth in (1, 2, 3)
        ],
        "T-3": lambda: [
            test_failing_disk.test_the_nth_operation_fails(kind, what, False)
            for kind, what in test_failing_disk.FAULTS
        ],
        "T-4": lambda: test_damage.test_every_bit_flipped(True, 20),
        "node": lambda: [play_node(seed) for seed in range(40)],
        "chain": test_damage.test_a_frame_of_another_history_breaks_the_chain,
        "roll": test_damage.test_a_rolled_segment_that_vanished,
        **suites_of_snapshots(),
        **suites_of_rings(),
        **{f"F{n:02}": fault(f"F{n:02}") for n in (2, 3, 4, 5, 7, 10, 11, 17, 18, 19, 24, 27, 28)},
    }


def suites_of_snapshots() -> dict[str, Callable[[], object]]:
    from tests.journal import test_snapshot_faults as faults
    from tests.journal.engine import play

    seeds = (724, *range(400))
    return {
        "snapshots": lambda: [play(seed, has_snapshots=True) for seed in seeds],
        "F21": lambda: faults.test_F21_a_snapshot_that_cannot_be_read_back_is_not_named(
            "put", "lying"
        ),
        "F22": lambda: faults.test_F22_the_sound_one_is_kept(faults.two_snapshots()),
    }


def suites_of_rings() -> dict[str, Callable[[], object]]:
    from pybehave.errors import SourceUnavailable
    from tests.journal import test_linked_writes

    def linked() -> None:
        for source in ("full", "basic"):
            with tempfile.TemporaryDirectory() as folder, contextlib.suppress(SourceUnavailable):
                test_linked_writes.test_F17_a_short_write_is_no_failure_of_its_sync(
                    Path(folder), source
                )

    return {"linked": linked}


def main(name: str) -> int:
    logging.disable(logging.CRITICAL)
    mutant = MUTANTS[name]
    become(mutant)
    for suite in mutant.suites:
        try:
            suites()[suite]()
        except BaseException as error:  # noqa: BLE001 -- whatever it is, it was noticed
            print(f"{suite}: {type(error).__name__} {str(error)[:100]}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

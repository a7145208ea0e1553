"""The life of a journal's folder, at random: nodes that serve it, and what is done between.

Promises, for every seed
  (L1) What a caller was answered is there after each start, in its place, and once.
  (L2) Nothing is there that was not sent; what a start has found stays, in its order.
  (L3) `verify` finds nothing wrong, but where something was damaged on purpose.
  (L4) A replay beside comes to the states that are served, and finds no other outcome.
  (L5) What is refused is refused in a sentence, and changes no file.
  (L6) The number of files does not grow with the number of starts.

Does not know: how a node and its disk are simulated (pybehave/testing).
"""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from pybehave import Application, Once, Supervisor, Worker, family
from pybehave.errors import (
    CodecRefused,
    Crashed,
    JournalBusy,
    JournalRefused,
    PybehaveError,
    UpgradeFailed,
)
from pybehave.journal import dead_letters
from pybehave.journal.attempts import MARKER
from pybehave.journal.beside import check_no_tail
from pybehave.journal.codec import Codec, Coder, Compressed
from pybehave.journal.compact import compact
from pybehave.journal.encrypted import Encrypted
from pybehave.journal.export import export
from pybehave.journal.import_lines import import_lines
from pybehave.journal.reader import read_manifest
from pybehave.journal.recovery import MANIFEST, SLOT_B, Options
from pybehave.journal.repair import repair
from pybehave.journal.segment_files import segment_number
from pybehave.journal.segments import held
from pybehave.journal.snapshot import snapshot_name
from pybehave.journal.tail import TAIL
from pybehave.journal.verify import verify
from pybehave.runtime.durable.history import LSN_MAX, History
from pybehave.testing.disk import PowerCut, SimDisk
from pybehave.testing.simulate import Simulator
from tests.journal.keepers import CLASSES, Broken

SEGMENT_BYTES = 64 << 10
TAIL_BYTES = 128 << 10
"""A disk is copied at each end of a process, and the tail with it."""

SEGMENTS_MAX = 14
ROOM = 64 << 10
KEYS = [bytes([number]) * 32 for number in range(1, 5)]
STEADY = ("a", "b")
SOFT = "o"
"""Acknowledges what the system has: a kill loses none of it, a power cut may."""

OPTIONAL = ("x", "y")
MEMBERS = ("m-1", "m-2", "m-3")
EVERYONE = (*STEADY, SOFT, *OPTIONAL, *MEMBERS)
LOST = (PybehaveError, OSError, PowerCut)
OF_A_FULL_DISK = ("JournalFull", "JournalBusy", "NoProc", "Timeout", "UpgradeFailed")
PATIENCE_S = 30.0
"""What has begun waits for room on a full disk, as long as somebody waits for it."""

ACTS = (
    *("plain",) * 3, "large", "sleep", "crash", "timer", "send", "once", "again", "cast",
    *("snapshot",) * 3, "run", "forget", "reset", "look", *("upgrade",) * 2, "rollback",
)  # fmt: skip
CHANGES = (
    "present", "present", "version", "codec", "compact", "export", "repair", "letters", "older",
    "wrong key", "damage snapshot", "damage slot", "mended", "steady",
)  # fmt: skip


class Cut(Exception):
    """The power is gone."""


class Life:
    """One seed."""

    def __init__(self, seed: int, folder: Path, steps: int = 30) -> None:
        self.seed = seed
        self.dice = Random(seed)
        self.folder = folder
        self.steps = steps
        self.counts: Counter[str] = Counter()
        self.disk = self.sound = SimDisk(seed)
        self.version = 0
        self.version_served = 0
        self.codec: tuple[Codec, ...] = ()
        self.keys: list[bytes] = []
        self.number = 0
        self.sent: dict[str, set[int]] = {name: set() for name in EVERYONE}
        self.direct: dict[str, list[int]] = {name: [] for name in EVERYONE}
        self.owed: dict[str, set[int]] = {name: set() for name in EVERYONE}
        self.found: dict[str, list[int]] = {name: [] for name in EVERYONE}
        self.dead: dict[str, set[int]] = {name: set() for name in EVERYONE}
        self.requests: list[tuple[str, int, Any]] = []
        self.soft: set[int] = set()
        self.present: set[str] = set(OPTIONAL[:1])
        self.is_mended = self.is_tight = self.is_damaged = False
        self.has_steady = True
        self.world: Any = None
        self.trace: list[str] = []
        self.copies = 0

    # --- a life -----------------------------------------------------------------------------------

    def run(self) -> None:
        for _ in range(self.steps):
            self.between()
            if not self.begin():
                continue
            with contextlib.suppress(Cut):
                self.serve()
                self.end()
            self.look()
        self.say("last")
        self.disk.heal()
        self.disk.room = None
        if self.begin(is_last=True):
            self.check(is_served=True)  # wakes those who sleep
            self.world.run(100.0)
            self.check(is_end=True)
            self.world.stop()
            self.look()

    def say(self, *words: Any) -> None:
        self.trace.append(" ".join(map(str, words)))
        self.counts[str(words[0])] += 1

    def application(self, version: int | None = None, kind: Any = None) -> Application:
        version = self.version if version is None else version
        kind = kind or CLASSES[self.is_mended][version]
        children: list[Any] = [
            Worker(name, kind, journal=True) for name in STEADY if self.has_steady
        ]
        children += [
            Worker(name, kind, journal=True, restart="temporary")
            for name in OPTIONAL
            if name in self.present
        ]
        children.append(Worker(SOFT, kind, journal=True, acknowledge="os"))
        children.append(family("m-*", kind, journal=True, idle=5.0))
        tree = Supervisor("one_for_one", children, intensity=10000, period=1)
        return Application("lives", tree, version=str(version))

    def options(self) -> Options:
        return Options(
            segment_bytes=self.dice.choice((SEGMENT_BYTES, SEGMENT_BYTES, 2 * SEGMENT_BYTES)),
            codec=self.codec,
            depth=self.dice.choice((1, 1, 2)),
            tail_bytes=TAIL_BYTES,
        )

    def simulator(self, app: Application, codec: tuple[Codec, ...] | None = None) -> Simulator:
        options = self.options()
        if codec is not None:
            options = replace(options, codec=codec)
        world = Simulator(self.dice.getrandbits(32), app, disk=self.disk, journal_options=options)
        world.network.set(direct_write=500 * (self.seed % 2))  # waits for the disk in place
        return world

    def begin(self, *, is_last: bool = False) -> bool:
        """Start a node; whether it runs."""
        dice = self.dice
        self.say(
            "start",
            "v",
            self.version,
            "present",
            *sorted(self.present),
            "mended",
            self.is_mended,
            self.codec,
        )
        world = self.world = self.simulator(self.application())
        if dice.random() < 0.1 and not is_last:
            self.disk.cut_at = self.disk.operations + dice.randrange(1, 30)
        try:
            world.start()
        except LOST as error:
            if self.disk.cut_at:
                self.cut()
                return False
            if self.disk.room is not None:
                self.say("full", error)
                self.disk.room = None
                self.close(world)
                return False
            if self.is_damaged and "start the newer code" in str(error):
                # The damaged snapshot was a rollback's: what is before it is of the newer release.
                self.say("damage undone")
                self.close(world)
                self.disk, self.is_damaged = self.sound, False
                return False
            raise
        self.disk.cut_at, self.is_tight = 0, self.disk.room is not None
        self.version_served, self.is_damaged = self.version, False
        self.check()
        return True

    def close(self, world: Any) -> None:
        with contextlib.suppress(*LOST):
            world.node.stop(drain=False)

    def cut(self) -> None:
        """The power goes."""
        self.say("cut")
        found = self.disk.cut(self.dice)
        for name in EVERYONE:
            self.direct[name] = [each for each in self.direct[name] if each not in self.soft]
            self.owed[name] -= self.soft
        self.requests = [each for each in self.requests if each[0] != SOFT]
        self.disk.switch_off()
        with contextlib.suppress(*LOST):
            self.world._calm_down()
        self.close(self.world)
        self.disk = found

    def kill(self) -> None:
        self.say("kill")
        found = self.disk.copy()
        self.disk.switch_off()
        with contextlib.suppress(*LOST):
            self.world._calm_down()
        self.close(self.world)
        self.disk = found

    def serve(self) -> None:
        dice = self.dice
        node = self.world.node
        if dice.random() < 0.4:
            self.say("idle")
            if dice.random() < 0.3:
                self.act_snapshot()
            return
        if dice.random() < 0.15:
            self.disk.cut_at = self.disk.operations + dice.randrange(1, 60)
        if dice.random() < 0.1:
            self.disk.room = sum(map(len, self.disk.contents().values())) + dice.randrange(3 * ROOM)
            self.is_tight = True
        for _ in range(dice.choice((1, 3, 10, 30))):
            try:
                self.act(node)
            except Cut:
                raise
            except LOST as error:
                self.refused(error)
        if dice.random() < 0.2:
            self.disk.room = None
        if dice.random() < 0.1:
            self.kill()  # with what SOFT has answered and the disk does not have
            raise Cut

    def refused(self, error: BaseException) -> None:
        if self.disk.cut_at and self.disk.operations >= self.disk.cut_at:
            self.cut()
            raise Cut
        if (self.is_tight and type(error).__name__ in OF_A_FULL_DISK) or (
            isinstance(error, JournalBusy)  # SOFT does not wait for the disk
        ):
            self.counts["full"] += 1
            return
        raise error

    def next(self) -> int:
        self.number += 1
        return self.number

    def names(self) -> list[str]:
        return [*(STEADY if self.has_steady else ()), SOFT, *sorted(self.present), *MEMBERS]

    def act(self, node: Any) -> None:
        """One thing that somebody wants of a node."""
        name, what = self.dice.choice(self.names()), self.dice.choice(ACTS)
        if name in OPTIONAL and node.whereis(name) is None:
            return
        number = self.next()
        if name == SOFT:
            self.soft.add(number)
        getattr(self, f"act_{what}")(node, name, number)

    def call(self, node: Any, name: str, command: Any, number: int) -> None:
        """An input that is there, in its place, once it is answered."""
        self.sent[name].add(number)
        node.call(name, command)
        self.direct[name].append(number)

    def act_plain(self, node: Any, name: str, number: int) -> None:
        self.call(node, name, number, number)

    def act_large(self, node: Any, name: str, number: int) -> None:
        size = self.dice.choice((3000, 9000, 30000))
        self.call(node, name, ("large", number, bytes(size)), number)

    def act_sleep(self, node: Any, name: str, number: int) -> None:
        self.call(node, name, ("sleep", number), number)

    def act_crash(self, node: Any, name: str, number: int) -> None:
        if name in OPTIONAL:  # one that is temporary does not come again
            return
        if self.is_mended:
            self.call(node, name, ("crash", number), number)
            return
        self.dead[name].add(number)
        with contextlib.suppress(Crashed):
            node.call(name, ("crash", number))
            raise AssertionError("it did not crash")
        self.world.run(0.01)

    def act_timer(self, node: Any, name: str, number: int) -> None:
        self.sent[name].add(number)
        node.call(name, ("timer", self.dice.choice((0, 0.01, 1.0, 50.0)), number))
        self.owed[name].add(number)

    def act_send(self, node: Any, name: str, number: int) -> None:
        other = self.dice.choice(self.names())
        if other in OPTIONAL:
            return
        self.sent[other].add(number)
        node.call(name, ("send", other, number))
        self.owed[other].add(number)

    def act_once(self, node: Any, name: str, number: int) -> None:
        self.sent[name].add(number)
        self.requests.append((name, number, None))
        self.act_again(node, name, number)

    def act_again(self, node: Any, _: str, __: int) -> None:
        """The latest request comes, or comes again: it takes effect once (L1)."""
        if not self.requests:
            return
        name, number, before = self.requests[-1]
        if name not in MEMBERS and node.whereis(name) is None:
            return
        answer = node.call(name, Once(f"c{number}", 1, number))
        assert before is None or answer == before, ("another answer", answer, before)
        self.requests[-1] = (name, number, answer)
        self.owed[name].add(number)

    def act_cast(self, node: Any, name: str, number: int) -> None:
        self.sent[name].add(number)
        node.cast(name, number)

    def act_snapshot(self, *_: Any) -> None:
        taken = self.world.node.journal.snapshots.take()
        self.say("snapshot", taken)
        if taken and self.dice.random() < 0.7:
            self.world.run(0.1)

    def act_look(self, *_: Any) -> None:
        self.look()

    def act_run(self, *_: Any) -> None:
        self.world.run(self.dice.choice((0.001, 0.1, 3.0, 10.0)))

    def act_forget(self, node: Any, name: str, _: int) -> None:
        if self.dice.random() < 0.3 and name not in (*STEADY, SOFT) and name in node.kept():
            self.forget_model(name, is_sure=False)
            node.forget(name, stop=True, timeout=PATIENCE_S)
            self.forget_model(name)

    def act_reset(self, node: Any, name: str, _: int) -> None:
        if self.dice.random() < 0.2 and name in node.kept() and node.whereis(name) is not None:
            self.forget_model(name, is_sure=False)
            node.reset(name, confirm=True, timeout=PATIENCE_S)
            self.forget_model(name)

    def act_upgrade(self, node: Any, *_: Any) -> None:
        """To newer code, or to some whose migration fails (L1, L2)."""
        before = int(node.app.version)
        if self.dice.random() < 0.2:
            with contextlib.suppress(UpgradeFailed):
                wanted = self.application(3, Broken)
                node.releases.upgrade(wanted, from_version=str(before), watch=0.0)
                raise AssertionError("it did not fail")
            self.say("upgrade failed", before)
        elif before < 2:
            self.version = self.dice.randrange(before + 1, 3)  # a cut may come behind it
            self.say("upgrade", before, self.version)
            wanted = self.application(self.version)
            try:
                node.releases.upgrade(wanted, from_version=str(before), watch=0.0)
            finally:
                if not self.disk.cut_at:
                    self.version = int(node.app.version)
            self.version_served = self.version

    def act_rollback(self, node: Any, *_: Any) -> None:
        if node.releases.status()["old"] is not None:
            self.say("rollback", node.app.version)
            node.releases.rollback()
            self.version = self.version_served = int(node.app.version)

    def forget_model(self, name: str, *, is_sure: bool = True) -> None:
        self.say("forget", name, is_sure)
        self.direct[name] = []
        self.owed[name] = set()
        self.found[name] = []
        self.dead[name] = set()
        self.requests = [each for each in self.requests if each[0] != name]
        if is_sure:
            self.sent[name] = set()

    def end(self) -> None:
        dice = self.dice
        try:
            self.check(is_served=True)
        except LOST as error:
            self.refused(error)
        match dice.choice(("stop", "stop", "stop", "no drain", "kill", "cut", "cut in stop")):
            case "stop":
                self.say("stop")
                self.stopped(self.world.stop)
            case "no drain":
                self.say("no drain")
                self.stopped(lambda: self.world.node.stop(drain=False))
            case "kill":
                self.kill()
            case "cut":
                self.cut()
            case "cut in stop":
                self.say("cut in stop")
                self.disk.cut_at = self.disk.operations + dice.randrange(1, 12)
                self.stopped(self.world.stop)
        if dice.random() < 0.5:
            self.disk.room = None

    def stopped(self, stop: Any) -> None:
        try:
            stop()
        except LOST:
            if not self.disk.cut_at:
                raise
        if self.disk.cut_at and self.disk.operations >= self.disk.cut_at:
            self.cut()
        self.disk.cut_at = 0

    # --- checks -----------------------------------------------------------------------------------

    def check(self, *, is_served: bool = False, is_end: bool = False) -> None:
        """(L1), (L2)."""
        node = self.world.node
        for name in self.names():
            if name in OPTIONAL and node.whereis(name) is None:
                continue
            if name in MEMBERS and name not in node.kept():
                assert not self.direct[name], (name, self.direct[name])
                continue
            if is_served or is_end:
                log = node.call(name, "?")
            else:
                try:
                    state = node.get_state(name)
                except PybehaveError:
                    if name in MEMBERS:
                        continue
                    raise
                log = state if isinstance(state, list) else state["log"]
            is_found = not (is_served or is_end)
            self.check_log(name, list(log), is_end=is_end, is_found=is_found)

    def check_log(
        self, name: str, log: list[int], *, is_end: bool = False, is_found: bool = False
    ) -> None:
        assert len(set(log)) == len(log), (name, "twice", log)
        assert set(log) <= self.sent[name], (name, "invented", set(log) - self.sent[name])
        before = self.found[name]
        assert log[: len(before)] == before, (name, "what was found does not stay", before, log)
        direct = self.direct[name]
        there = [number for number in log if number in set(direct)]
        assert there == direct, (
            name,
            "acknowledged and lost",
            set(direct) - set(there),
            there,
            direct,
        )
        if is_end:
            assert self.owed[name] <= set(log), (name, "owed", self.owed[name] - set(log))
        if name != SOFT or is_found:
            self.found[name] = log

    def folder_of(self) -> str:
        """The disk as a folder, for the tools."""
        self.copies += 1
        path = self.folder / f"{self.seed}-{self.copies}"
        write_folder(self.disk, path)
        return str(path)

    def look(self) -> None:
        """(L3), (L4), (L6), with nobody serving."""
        if not self.disk.names():
            return
        path = self.folder_of()
        try:
            if MANIFEST not in self.disk.names():
                return
            try:
                report = verify(path, is_deep=True, codec=self.codec)
            except JournalRefused:
                if read_manifest(path).epoch:
                    raise
                return
            assert report.problems == [], report.problems
            numbers = [name for name in self.disk.names() if segment_number(name) is not None]
            assert len(numbers) <= SEGMENTS_MAX, ("L6", numbers)
            if self.dice.random() < 0.3:
                self.replay(path)
        finally:
            shutil.rmtree(path)

    def replay(self, path: str) -> None:
        try:
            history = History(self.application(), path, codec=self.codec)
        except JournalRefused:
            if self.version != self.version_served:
                return
            raise
        try:
            history.advance(LSN_MAX)
            assert history.replay.replayer.differences == []
        finally:
            history.close()
        self.counts["replays"] += 1

    # --- what is done to the folder ---------------------------------------------------------------

    def between(self) -> None:
        for _ in range(self.dice.choice((0, 0, 0, 1, 1, 2))):
            if MANIFEST not in self.disk.names():
                return
            what = self.dice.choice(CHANGES)
            getattr(self, f"do_{what.replace(' ', '_')}")()
            if what == "damage snapshot":
                return  # the next start makes up for it; `compact` does not

    def do_steady(self) -> None:
        self.has_steady = self.dice.random() < 0.5
        self.say("steady", self.has_steady)

    def do_present(self) -> None:
        self.present = {name for name in OPTIONAL if self.dice.random() < 0.5}
        self.say("present", *sorted(self.present))

    def do_mended(self) -> None:
        self.is_mended = (
            self.is_mended or self.dice.random() < 0.3
        )  # never back: it steps otherwise

    def do_version(self) -> None:
        self.version = min(2, self.version + 1)

    def do_codec(self) -> None:
        dice = self.dice
        if self.keys or dice.random() < 0.4:
            if not self.keys or dice.random() < 0.5:
                fresh = KEYS[dice.randrange(len(KEYS))]
                self.keys = [fresh, *(key for key in self.keys if key != fresh)]
            self.codec = (Encrypted(*self.keys),)
            if dice.random() < 0.5:
                self.codec = (Compressed(), *self.codec)
        else:
            self.codec = dice.choice(((), (Compressed(),)))
        self.say("codec", len(self.keys), len(self.codec))

    def copied(self, path: str) -> None:
        self.disk = read_folder(path, self.disk, self.dice.getrandbits(30))

    def do_compact(self) -> None:
        if self.is_damaged:  # it refuses that; the next start makes up for it
            return
        self.say("compact")
        path = self.folder_of()
        try:
            compact(path, f"{path}-c", now_ns=1_700_000_000 * 10**9, codec=self.codec)
            if len(self.keys) > 1:
                self.keys = self.keys[:1]
                self.codec = tuple(
                    Encrypted(*self.keys) if isinstance(each, Encrypted) else each
                    for each in self.codec
                )
            self.copied(f"{path}-c")
        except JournalRefused as error:
            if read_manifest(path).epoch and Path(error.path).name != TAIL:
                raise
        finally:
            shutil.rmtree(path)
            shutil.rmtree(f"{path}-c", ignore_errors=True)

    def do_export(self) -> None:
        self.say("export")
        path = self.folder_of()
        try:
            if not read_manifest(path).epoch:
                return
            check_no_tail(path, verify(path).last_lsn)  # as the command does
            with held(path, self.codec) as (manifest, segments):
                lines = list(export(path, manifest, segments))
            codec = () if self.dice.random() < 0.5 else self.codec
            import_lines(
                (line.encode() for line in lines),
                f"{path}-i",
                source="lines",
                now_ns=1_700_000_000 * 10**9,
                codec=codec,
            )
            if Path(path, "dead-letters").exists():
                if codec != self.codec:
                    for each in self.dead.values():
                        each.clear()
                else:
                    shutil.copytree(
                        f"{path}/dead-letters", f"{path}-i/dead-letters", dirs_exist_ok=True
                    )
            self.codec = codec
            if not codec:
                self.keys = []
            self.copied(f"{path}-i")
        except JournalRefused as error:
            if Path(error.path).name != TAIL:
                raise
        finally:
            shutil.rmtree(path)
            shutil.rmtree(f"{path}-i", ignore_errors=True)

    def do_repair(self) -> None:
        self.say("repair")
        path = self.folder_of()
        try:
            if not read_manifest(path).epoch:
                return
            repair(path, f"{path}-r", self.codec)
            self.copied(f"{path}-r")
        finally:
            shutil.rmtree(path)
            shutil.rmtree(f"{path}-r", ignore_errors=True)

    def do_letters(self) -> None:
        path = self.folder_of()
        try:
            lsns = dead_letters.numbers(path)
            if not lsns:
                return
            coder = Coder(self.codec, read_manifest(path).journal_id)
            lsn = self.dice.choice(lsns)
            letter = dead_letters.get(path, lsn, coder)
            if self.dice.random() < 0.3:
                self.say("letter deleted", lsn)
                dead_letters.delete(path, lsn)
            else:
                self.say("letter requeued", lsn, letter.server)
                for name in EVERYONE:
                    self.sent[name] |= self.dead[name]
                dead_letters.requeue(path, letter, coder=coder)
            self.copied(path)
        finally:
            shutil.rmtree(path)

    def do_older(self) -> None:
        """Older code is refused, unless nothing of newer code is there."""
        if self.version_served == 0:
            return
        self.is_refused(self.simulator(self.application(self.version_served - 1)), JournalRefused)

    def do_wrong_key(self) -> None:
        if not self.keys:
            return
        self.is_refused(
            self.simulator(self.application(), (Encrypted(bytes([99]) * 32),)), CodecRefused
        )

    def is_refused(self, world: Any, kind: Any) -> None:
        before, copy = seen(self.disk), self.disk.copy()
        try:
            world.start()
        except kind as error:
            self.say("refused", str(error)[:100])
            assert "\n" not in str(error)
        else:
            world.stop()  # nothing was there that it had to refuse
            self.disk = copy
            return
        self.close(world)
        after = seen(self.disk)
        assert after == before, (
            "L5",
            str(kind),
            [n for n in {*before, *after} if before.get(n) != after.get(n)],
        )

    def do_damage_snapshot(self) -> None:
        path = self.folder_of()
        manifest = read_manifest(path)
        shutil.rmtree(path)
        lsns = [lsn for lsn, _ in manifest.snapshots]
        named = [lsn for lsn in lsns if lsn]
        if len(set(named)) == 2:
            self.say("damaged newest", lsns)
            self.is_damaged, self.sound = True, self.disk.copy()
            name = snapshot_name(named[0])
            self.disk.patch(name, self.dice.randrange(self.disk.size(name)), b"\xa5\x5a\xa5")

    def do_damage_slot(self) -> None:
        offset = self.dice.choice((0, 4096, SLOT_B, SLOT_B + 4096))
        self.disk.patch(MANIFEST, offset + 8, b"\xa5\x5a\xa5")
        self.say("damaged slot", offset)


def seen(disk: SimDisk) -> dict[str, bytes]:
    """Every file as a process sees it: also what a kill has left in flight."""
    names = [name for name in disk._names if not name.endswith(".tmp")]  # nobody misses those
    return {name: bytes(disk.read(name, 0, disk.size(name))) for name in names}


def write_folder(disk: SimDisk, path: Path) -> None:
    """A simulated disk as a folder; what is in memory too, but what says of kills."""
    path.mkdir(parents=True)
    for name in disk._names:  # contents() would not show what a kill has left in flight
        target = path / name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(disk.read(name, 0, disk.size(name)))
    for name, data in disk._memory.items():
        (path / name).write_bytes(data)


def read_folder(path: str, before: SimDisk, seed: int) -> SimDisk:
    """The other way."""
    disk = SimDisk(seed)
    root = Path(path)
    for file in sorted(root.rglob("*")):
        name = str(file.relative_to(root))
        if not file.is_file() or name.endswith("lock"):
            continue
        if name in (MARKER, TAIL):
            disk._memory[name] = bytearray(file.read_bytes())
        else:
            disk.install(name, file.read_bytes())
    return disk

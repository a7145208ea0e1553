"""Runs of random programs (random_programs.py) through crashes, power cuts and upgrades.

Promises, for every seed
  (R1) Nothing comes out of the loop but errors that callers are told; none of the runtime's own is
       logged with a traceback, and nothing is raised where nobody hears it.
  (R2) What a server keeps live is what the history of its journal says.
  (R3) What was answered before a power cut is there behind it, in its place, and stays.
  (R4) No input is stepped twice; none is stepped that was not sent.
  (R5) A message of a journaled server's step has arrived when all is quiet.
  (R6) Every call is answered by the node's end; when all is quiet nothing waits any more.
  (R7) `verify` finds nothing.
  (R9) What an observer was shown is there behind every end, and grows.
  (R8) What a callback may not do is refused by the error that says so.

To look into a seed: `Run(seed, is_shown=True).run()` prints what happens.
"""

from __future__ import annotations

import contextlib
import logging
import random
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

from pybehave import Once, Release, Together, actions, events
from pybehave.behaviours.gen_server import shown_state
from pybehave.errors import JournalRefused, PybehaveError
from pybehave.journal.codec import Compressed
from pybehave.journal.recovery import Options
from pybehave.journal.verify import verify
from pybehave.runtime.durable.history import History
from pybehave.runtime.release.specs import Wish
from pybehave.testing.disk import SimDisk
from pybehave.testing.simulate import DIES, Client, Simulator
from tests.disks import write_down
from tests.runtime.random_programs import (
    ASKED,
    REFUSED,
    Here,
    Recorder,
    Second,
    address,
    is_script,
    logs_of,
    program,
)
from tests.runtime.random_scripts import (
    EVERYONE,
    MANAGERS,
    MEMBERS,
    MOVED,
    PAIRED,
    PEER,
    PLAIN,
    POLITE,
    POOLS,
    SPECIAL,
    STEADY,
    TCP,
    Script,
    Writer,
)

JOURNALED = (*STEADY, *SPECIAL, *PAIRED, "log", "m-1", "m-2", "k-1", "k-2", "x1", "x2")
SURE = ("a", "b", "c", "os", "memory", "pure", "sleepy")
"""Who takes all that journaled servers send."""

LEVELS = ("memory", "os", "disk")
SURVIVES = {"cut": ("disk",), "copy": ("disk", "os"), "stop": LEVELS, "quiet": LEVELS}
"""Which answers are there behind which end."""

LIVES = 3
ACTS = 25
QUIET_S = 120.0
"""Longer than any timer, time limit or back-off of a program, many times over."""

OWN = ("ValueError", "TypeError", "BadReturn", "NotJournalable", "Shutdown", "Crashed", "Stopped")
"""What steps crash of because their scripts say so."""

NOT_OWN = ("its init says Ignore", "No space left on device")
"""Why code is not changed: "maybe" would not start, or the disk is full."""

CHILDREN = (
    ("root", "a"), ("root", "b"), ("root", "machine"), ("root", "pair"), ("root", "either"),
    ("root", "both"), ("root", "log"), ("root", "p"), ("root", "q"), ("pair", "c"), ("pair", "d"),
    ("other", "side"), *(("root", name) for name in (*SPECIAL, *POOLS, "keyed", "narrow")),
)  # fmt: skip

WEIGHTS = {
    "send": 14, "call": 10, "cast": 8, "line": 6, "child": 6, "burst": 5, "resume": 4, "client": 3,
    "snapshot": 3, "end": 3, "once": 3, "urgent": 3, "suspend": 2, "replace": 2, "upgrade": 2,
    "together": 2, "event": 2, "asking": 2, "forget": 1,
    "full": 2, "migrate": 2, "crowd": 1, "jump": 1,
}  # fmt: skip
"""What happens from outside, and how often."""


class Ear(logging.Handler):
    """Hears what the runtime says of its own mistakes (R1)."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text, kind = record.getMessage(), ""
        if record.exc_info and record.exc_info[0] is not None:
            kind = record.exc_info[0].__name__
            text += "".join(traceback.format_exception(record.exc_info[1]))
        if (" crashed in " in text and kind in OWN) or kind == "AlreadyStarted":
            return
        if any(each in text for each in NOT_OWN):
            return
        if (kind and "random_programs.py" not in text) or record.levelno >= logging.CRITICAL:
            self.heard.append(text)


def unshared(value: Any) -> Any:
    """The same in lists and dictionaries of its own; handles stay what they are."""
    if type(value) is dict:
        return {key: unshared(each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(unshared(each) for each in value)
    return value


class Run:
    """One seed: lives of a node on a disk.

    Args:
        asks: Whether steps ask the node for something, which a replay cannot.
        is_shown: Print what happens.
    """

    def __init__(self, seed: int, *, asks: bool, is_shown: bool = False) -> None:
        self.dice = random.Random(seed)
        self.asks = asks
        self.is_shown = is_shown
        self.writer = Writer(self.dice, tuple(ASKED) if asks else ())
        self.weights = {  # of some kinds of things none happens
            what: weight for what, weight in WEIGHTS.items() if self.dice.random() < 0.8
        }
        self.shake = self.dice.random() < 0.4
        self.disk = SimDisk(seed)
        depth = self.dice.choice((1, 2))
        self.options = Options(segment_bytes=64 << 10, depth=depth, tail_bytes=64 << 10)
        self.strategy = self.dice.choice(("one_for_all", "rest_for_one"))
        self.version = 1
        self.counts: Counter[str] = Counter()
        self.ear = Ear()
        self.unraised: list[str] = []
        self.acked: dict[str, dict[tuple[int, int], str]] = {}
        self.early: dict[str, dict[tuple[int, int], tuple[str, str]]] = {}  # of lower levels
        self.found: dict[str, list[list[Any]]] = {}
        self.seen: list[Any] = []  # by the observer of "pure"
        self.torn: set[str] = set()  # servers that were forgotten once: nobody counts on them
        self.forgetting: list[str] = []  # those of which nobody has said yet that they are
        self.futures: list[Future[Any]] = []
        self.pending: list[tuple[str, str, Future[Any]]] = []
        self.numbers: Counter[str] = Counter()
        self.suspended: set[str] = set()

    def say(self, *words: Any) -> None:
        if self.is_shown:
            print(*words, flush=True)

    # --- lives ------------------------------------------------------------------------------------

    def run(self) -> Counter[str]:
        Here.wrong.clear()
        Here.shown.clear()
        Here.names.clear()
        with self.listening():
            for life in range(LIVES):
                self.live(is_last=life == LIVES - 1)
                assert not self.unraised, f"R1: {self.unraised}"
            assert not Here.wrong, f"R8: {Here.wrong}"
        return self.counts

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """With nothing said aloud, and all of it heard."""
        log = logging.getLogger("pybehave")
        was_loud, log.propagate = log.propagate, False
        before = sys.unraisablehook
        log.addHandler(self.ear)
        sys.unraisablehook = lambda told: self.unraised.append(repr(told.exc_value))
        try:
            yield
        finally:
            sys.unraisablehook = before
            log.removeHandler(self.ear)
            log.propagate = was_loud
            Here.node = None

    def start(self) -> Simulator:
        """Start the release that the journal is of: an upgrade may have been the last thing."""
        try:
            return self.started(self.version)
        except JournalRefused as error:
            assert "start the newer code" in str(error)
            return self.started(3 - self.version)

    def started(self, version: int) -> Simulator:
        world = Simulator(
            self.dice.getrandbits(32),
            program(self.strategy, version),
            disk=self.disk,
            journal_options=replace(self.options, codec=self.dice.choice(((), (Compressed(),)))),
            shake=self.shake,
            work=lambda _: self.dice.choice((0.0, 0.001, 0.2, 0.2, DIES)),
        )
        Here.node = world.node if self.asks else None
        Here.shown.clear()
        world.start()
        self.version = version
        disk_ns, depth = self.dice.choice((250_000, 5_000_000)), self.options.depth
        world.network.set(disk_ns_max=disk_ns, direct_write=500 * (depth == 1))
        assert world.node.journal is not None
        world.node.journal.snapshots.records = self.dice.choice((7, 50, 1000))
        world.listen(PEER, self.accepted)
        self.suspended.clear()
        self.check_found(world)
        return world

    def accepted(self, client: Client) -> None:
        """Somebody to connect to: says something, answers, or goes."""

        def heard(client: Client) -> None:
            client.take()
            if self.dice.random() < 0.5:
                client.send(self.line())
            elif self.dice.random() < 0.3:
                client.close()

        client.on_data = heard
        if self.dice.random() < 0.5:
            client.send(self.line())

    def line(self) -> bytes:
        return repr(self.writer.script(1)).encode() + b"\n"

    def live(self, *, is_last: bool) -> None:
        world = self.start()
        for _ in range(ACTS):
            if world.is_running:
                self.act(world)
                world.run(self.dice.choice((0.0, 0.0, 0.001, 0.003, 0.02, 0.3)))
                self.harvest()
        end = "quiet" if is_last else self.dice.choice(("cut", "cut", "copy", "stop"))
        self.counts[end] += 1
        self.disk.room = None
        self.say("ends by", end)
        if end == "quiet" and world.is_running:
            self.quieten(world)
        elif end != "stop" and self.dice.random() < 0.3:
            self.check_history(world)
        self.harvest()
        self.check_heard()
        self.seen = list(Here.shown)  # what comes after it is another story
        if end == "cut":
            self.disk = world.lose_power(self.dice)
            self.ear.heard.clear()  # of a disk that does not answer any more
        else:
            self.disk = world.disk.copy() if end == "copy" and world.disk else self.disk
            world.stop()
            if end != "copy":
                self.seen = list(Here.shown)
        self.keep_acked(end)
        self.check_end(world)
        if is_last:
            self.start().stop()

    # --- what happens -----------------------------------------------------------------------------

    def act(self, world: Simulator) -> None:
        what = self.dice.choices(list(self.weights), list(self.weights.values()))[0]
        self.counts[what] += 1
        try:
            getattr(self, f"act_{what}")(world, world.node)
        except PybehaveError as error:  # refused, in one sentence
            self.say("  refused:", error)
            self.counts["refused"] += 1

    def whom(self) -> str:
        return self.dice.choice((*EVERYONE, *STEADY, *STEADY, *PAIRED, "via"))

    def request(self, node: Any, name: str, message: Any, **how: Any) -> Future[Any]:
        if self.dice.random() < 0.2:
            how["acknowledge"] = self.dice.choice(LEVELS)
        self.say("request", name, message, how)
        future: Future[Any] = node.send_request(address(name), message, **how)
        self.futures.append(future)
        level = how.get("acknowledge", name if name in LEVELS else "disk")
        self.pending.append((name, level, future))
        return future

    def act_send(self, world: Simulator, node: Any) -> None:
        name = self.whom()
        how = self.dice.choice(("fail", "wait"))
        future = self.request(node, name, self.writer.to(name, 2), on_restart=how)
        if self.dice.random() < 0.05:
            future.cancel()

    def act_call(self, world: Simulator, node: Any) -> None:
        name = self.whom()
        future = self.request(node, name, self.writer.to(name, 2))
        with contextlib.suppress(TimeoutError):
            world.run_until(future.done, within=0.05)

    def act_urgent(self, world: Simulator, node: Any) -> None:
        name = self.whom()
        self.request(node, name, self.writer.to(name, 2), priority=True)

    def act_burst(self, world: Simulator, node: Any) -> None:
        for _ in range(self.dice.randrange(2, 7)):
            self.act_send(world, node)

    def act_cast(self, world: Simulator, node: Any) -> None:
        name = self.whom()
        message = self.writer.to(name, 2)
        self.say("cast", name, message)
        is_info = self.dice.random() < 0.3 and name not in PAIRED
        (node.info if is_info else node.cast)(address(name), message)

    def act_client(self, world: Simulator, node: Any) -> None:
        clients = [each for each in world.clients if each.is_open]
        if len(clients) > 4 or (clients and self.dice.random() < 0.4):
            client = self.dice.choice(clients)
            self.dice.choice((client.close, client.reset, client.shutdown))()
        else:
            world.connect(self.dice.choice((TCP, POLITE)))

    def act_line(self, world: Simulator, node: Any) -> None:
        clients = [each for each in world.clients if each.is_open]
        if clients:
            line = self.line()
            if self.dice.random() < 0.3:
                line = self.wrapped_line()
            self.say("line", line)
            client = self.dice.choice(clients)
            for _ in range(1 if b"once" not in line[:8] else self.dice.choice((1, 2, 3))):
                client.send(line)

    def wrapped_line(self) -> bytes:
        """Several together, with a name, or both."""
        scripts = [self.writer.script(1) for _ in range(self.dice.choice((1, 2, 3)))]
        self.numbers["wire"] += 1
        number, what = self.numbers["wire"], self.dice.randrange(3)
        # To which server it comes is not known here: a name is of one server's memory.
        name = f"wire-{number}"
        for script, _ in scripts if what < 2 else ():
            self.writer.again.add(script)
        lines: tuple[Any, ...] = (
            ("once", name, 1, scripts[0]),
            ("once together", name, 1, scripts),
            ("together", scripts),
        )
        return repr(lines[what]).encode() + b"\n"

    def act_suspend(self, world: Simulator, node: Any) -> None:
        name = self.dice.choice((*STEADY, *SPECIAL, *PAIRED, *PLAIN, *MANAGERS, *MEMBERS))
        self.say("suspend", name)
        node.sys.suspend(name)
        self.suspended.add(name)

    def act_resume(self, world: Simulator, node: Any) -> None:
        if self.suspended:
            name = self.dice.choice(sorted(self.suspended))
            self.suspended.discard(name)
            self.say("resume", name)
            node.sys.resume(name)

    def act_snapshot(self, world: Simulator, node: Any) -> None:
        self.say("snapshot")
        node.journal.snapshots.take()

    def act_replace(self, world: Simulator, node: Any) -> None:
        name = self.dice.choice((*STEADY, *SPECIAL, *PLAIN, "m-1"))

        def change(shown: Any) -> Any:
            changed = unshared(shown)  # it may be refused
            logs_of(name, changed)[0].append("replaced")
            return changed

        self.say("replace", name)
        node.sys.replace_state(name, change)

    def act_end(self, world: Simulator, node: Any) -> None:
        name = self.whom()
        self.say("end", name)
        reason = self.dice.choice(("normal", "shutdown", ValueError("killed")))
        node.sys.terminate(name, reason)

    def act_child(self, world: Simulator, node: Any) -> None:
        what = self.dice.choice([each for each in ASKED if each not in REFUSED])
        number = self.dice.randrange(1 << 20)
        self.say("ask", what, number)
        script = self.writer.script(1, is_repeated=True)
        ASKED[what](node, random.Random(number), script)

    def act_forget(self, world: Simulator, node: Any) -> None:
        name = self.dice.choice(JOURNALED)
        self.say("forget", name)
        self.torn.add(name)
        self.forgetting.append(name)
        self.lose(name)

        def forgotten(_: Any, error: BaseException | None) -> None:
            if name in self.forgetting:
                self.forgetting.remove(name)
                self.lose(name)

        if self.dice.random() < 0.5:
            node.begin_forget(name, forgotten, stop=True)
        else:
            node.begin_reset(name, forgotten)

    def lose(self, name: str) -> None:
        """Whatever a server has answered until now need not be there."""
        self.acked.pop(name, None)
        self.early.pop(name, None)
        self.found.pop(name, None)
        self.pending = [each for each in self.pending if each[0] != name]

    def act_upgrade(self, world: Simulator, node: Any) -> None:
        done: list[Any] = []
        if node.app.version == "1":
            wish = Wish(Release(program(self.strategy, 2), upgrades="1"), [])
            node.releases.begin(wish, lambda *answer: done.append(answer))
        else:
            node.releases.begin_rollback(None, lambda *answer: done.append(answer))
        if self.dice.random() < 0.3:
            world.run(self.dice.choice((0.0, 0.001)))
            self.act_migrate(world, node)
        if self.dice.random() < 0.7:
            with contextlib.suppress(TimeoutError):
                world.run_until(lambda: done, within=5)
        self.say("upgrade", done)

    def act_migrate(self, world: Simulator, node: Any) -> None:
        name, to = self.dice.choice(MOVED), self.dice.choice(("root", "pair", "pair", "other"))
        self.say("migrate", name, to)
        node.migrate(name, to=to)

    def act_full(self, world: Simulator, node: Any) -> None:
        """The disk has no room for a while."""
        used = sum(map(len, self.disk.contents().values()))
        room = used + self.dice.choice((0, 30_000, 70_000, 200_000))
        self.disk.room = None if self.disk.room is not None else room
        self.say("room", self.disk.room)

    def act_crowd(self, world: Simulator, node: Any) -> None:
        """Many members are woken in one tick."""
        for number in range(self.dice.choice((30, 150))):
            self.request(node, f"m-{100 + number}", self.writer.script(-1))

    def act_jump(self, world: Simulator, node: Any) -> None:
        world.run(4000.0)  # longer than a client of Once is remembered

    def act_once(self, world: Simulator, node: Any) -> None:
        name = self.dice.choice(STEADY)
        self.numbers[name] += 1
        asked: Any = self.writer.script(1)
        if self.dice.random() < 0.3:
            asked = Together([asked, self.writer.script(1)])
        once = Once(f"client-{name}", self.numbers[name], asked)
        self.say("once", name, once)
        for _ in range(self.dice.choice((1, 2, 3))):
            self.request(node, name, once)
            world.run(self.dice.choice((0.0, 0.001, 0.01)))

    def act_together(self, world: Simulator, node: Any) -> None:
        name = self.dice.choice((*STEADY, "p", "engine"))
        scripts = [self.writer.script(1) for _ in range(self.dice.choice((1, 2, 3)))]
        self.say("together", name, scripts)
        self.futures.append(node.send_request(name, Together(scripts)))

    def act_event(self, world: Simulator, node: Any) -> None:
        name, kind = self.dice.choice(MANAGERS), self.dice.choice((Recorder, Second))
        requests = (
            events.sync_notify(self.writer.script(2, is_repeated=True)),
            events.add_handler(kind, None),
            events.delete_handler(kind, None),
            events.swap_handler(kind, None, Second, None),
            events.call(kind, self.writer.script(0)),
            events.add_sup_handler(kind, None, owner=self.dice.choice(STEADY)),
            events.which_handlers(),
        )
        self.torn.add(name)  # handlers come and go, and their states with them
        self.found.pop(name, None)
        request = self.dice.choice(requests)
        self.say("event", name, request)
        self.futures.append(node.send_request(name, request))

    def act_asking(self, world: Simulator, node: Any) -> None:
        if self.asks:
            script = self.writer.script(0, is_repeated=True)
            what, number = self.dice.choice(tuple(ASKED)), self.dice.randrange(1 << 20)
            name = self.dice.choice(("p", "q", "a", "machine", "c"))
            asking = (self.writer.script(0)[0], (("ask", what, number, script),))
            self.say("asking", name, asking)
            self.futures.append(node.send_request(name, asking))

    # --- what must hold ---------------------------------------------------------------------------

    def harvest(self) -> None:
        """Take note of what was answered."""
        done = [each for each in self.pending if each[2].done()]
        self.pending = [each for each in self.pending if not each[2].done()]
        for name, level, future in done:
            if future.cancelled() or future.exception(0) is not None or name not in JOURNALED:
                continue
            value = future.result(0)
            sides = [value] if name == "either" else enumerate(value) if name == "both" else None
            for side, output in sides or [(0, value)]:
                if isinstance(output, tuple) and isinstance(output[0], int):
                    self.early.setdefault(name, {})[side, output[0]] = (output[1], level)
                    self.counts["answers"] += 1

    def keep_acked(self, end: str) -> None:
        """Forget the answers that a lower level has let out too early for this end."""
        for name in self.forgetting:
            self.lose(name)
        self.forgetting.clear()
        for name, answers in self.early.items():
            for place, (script, level) in answers.items():
                if level in SURVIVES[end]:
                    self.acked.setdefault(name, {})[place] = script
        self.early.clear()

    def check_found(self, world: Simulator) -> None:
        """(R3), (R4)"""
        for name in JOURNALED:
            if world.node.whereis(name) is None:
                continue
            logs = logs_of(name, world.node.sys.get_state(name))
            for (side, place), script in self.acked.get(name, {}).items():
                assert logs[side][place : place + 1] == [script], f"R3: {name}: {script}, {logs}"
            for before, log in zip(self.found.get(name, ()), logs, strict=False):
                assert log[: len(before)] == before, f"R3: {name}: {before} is now {log}"
            self.check_once(name, logs)
            if name not in MANAGERS or name not in self.torn:  # a handler goes with its owner
                self.found[name] = [list(log) for log in logs]
            if name == "pure" and name not in self.torn:
                assert not self.seen or logs[0][: len(self.seen)] == self.seen, (
                    f"R9: an observer was shown {self.seen}, there is {logs[0]}"
                )

    def check_once(self, name: str, logs: list[list[Any]]) -> None:
        """(R4)"""
        for log in logs:
            scripts = Counter(each for each in log if isinstance(each, str) and each != "replaced")
            for script, count in scripts.items():
                assert script in self.writer.scripts, f"R4: {name} has {script}"
                assert count == 1 or script in self.writer.again, f"R4: {name} has {script} twice"

    def check_heard(self) -> None:
        """(R1)"""
        assert not self.ear.heard, "R1: " + "\n".join(self.ear.heard)

    def check_end(self, world: Simulator) -> None:
        """(R6), (R7), when the node has ended."""
        self.check_heard()
        Here.node = None
        assert not Here.names, f"R6: keys lead to servers that have ended: {Here.names}"
        assert all(future.done() for future in self.futures), "R6: a caller waits for ever"
        for future in self.futures:
            error = None if future.cancelled() else future.exception(0)
            assert error is None or isinstance(error, PybehaveError), f"R1: {error!r}"
        self.futures.clear()
        self.pending.clear()
        with tempfile.TemporaryDirectory() as folder:
            write_down(self.disk, Path(folder))
            problems = verify(folder).problems
            assert problems == [], f"R7: {problems}"

    def check_history(self, world: Simulator) -> None:
        """(R2)"""
        node = world.node
        assert node.journal is not None
        with contextlib.suppress(TimeoutError):
            world.run_until(lambda: node.journal.commit.is_idle, within=2.0)
        running = [name for name in JOURNALED if node.whereis(name) is not None]
        live = {name: logs_of(name, node.sys.get_state(name)) for name in running}
        if not world.is_running or not node.journal.commit.is_idle or node.releases.under_way:
            return
        asked, Here.node = Here.node, None
        with tempfile.TemporaryDirectory() as folder:
            write_down(self.disk, Path(folder))
            history = History(program(self.strategy, int(node.app.version)), folder)
            try:
                history.advance(history.last_lsn)
                states = history.states()
            finally:
                history.close()
        Here.node = asked
        for name in live.keys() & states.keys():
            server = node.loop.dispatcher.whereis(name)
            assert server is not None
            replayed = logs_of(name, shown_state(server.instance, states[name]))
            assert replayed == live[name], f"R2: {name}: {live[name]}, replayed {replayed}"
            self.counts["compared"] += 1

    def quieten(self, world: Simulator) -> None:
        """Let everything come to its end; (R5), (R6)."""
        node = world.node
        for client in world.clients:
            client.on_data = None
        for name in sorted(self.suspended):
            with contextlib.suppress(PybehaveError):
                node.sys.resume(name)
        world.run(QUIET_S)
        for parent, child in CHILDREN if world.is_running else ():
            with contextlib.suppress(PybehaveError):
                node.restart_child(parent, child)
        world.run(QUIET_S)
        if not world.is_running:  # it was asked to end, or so much crashed
            return
        self.counts["came to rest"] += 1
        self.check_rest(node)
        self.check_awaits(node)
        self.check_history(world)
        for name in (*STEADY, *SPECIAL):
            if node.whereis(name) is not None:
                self.check_once(name, logs_of(name, node.sys.get_state(name)))
                self.check_arrived(node, name)

    def check_rest(self, node: Any) -> None:
        """(R6)"""
        for name in node.names():
            server = node.loop.dispatcher.whereis(name)
            open_ = [] if server.asked is None else server.asked.actions()
            open_ = [each for each in open_ if isinstance(each, actions.Call | actions.Connect)]
            waits = (server.mailbox_count, server.timers_count, open_)
            assert waits == (0, 0, []), f"R6: {name} has mail, timers or calls: {waits}"
        assert not any(node.tree.supervisor(path).inbox for path in node.tree.supervisors), "R6"

    def check_awaits(self, node: Any) -> None:
        """(R6), of what journaled servers have asked for: each effect is answered once."""
        for name in SURE:
            if name not in self.torn and node.whereis(name) is not None:
                state = node.sys.get_state(name)
                assert not state["awaits"], f"R6: {name} waits for {state['awaits']}"
                self.counts["gathered"] += any(
                    isinstance(each, tuple) and each[0] == "gathered" for each in state["log"]
                )

    def check_arrived(self, node: Any, name: str) -> None:
        """(R5), of what one server has sent."""
        if name in self.torn or name in ("machine", "side"):  # whose end takes its actions along
            return
        sent = [
            op[1:]
            for script in logs_of(name, node.sys.get_state(name))[0]
            for op in self.writer.scripts.get(script if isinstance(script, str) else "", ())
            if op[0] in ("cast", "info") and op[1] in SURE
        ]
        for to, message in sent:
            is_kept = to not in self.torn and node.whereis(to) is not None
            if is_kept and not may_crash(message):
                assert is_script(message)
                log = logs_of(to, node.sys.get_state(to))[0]
                assert message[0] in log, f"R5: {name} sent {message} to {to}, which has {log}"
                self.counts["arrived"] += 1


def may_crash(script: Script) -> bool:
    """Whether a journaled server may refuse to do what it says: then it has not been stepped."""
    return any(op[0] in ("crash", "bad", "once") or "'via'" in repr(op) for op in script[1])

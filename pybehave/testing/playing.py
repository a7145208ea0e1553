"""One play of a script: lives of a node in the simulator, its clients, and the first failure.

States of a play: each *life* is one Simulator, from a start to a stop, a power cut, or the end of a
node that has ended by itself (then it is started again, as a process manager does). The trial's
time goes on through all of them. What clients have asked and not heard of stays unanswered when
its life is over, unless they name their requests: then they ask again in the next life.

Does not know: how scripts are drawn and made small (script.py, shrink.py).
"""

from __future__ import annotations

import copy
import errno
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Callable
from functools import singledispatchmethod
from random import Random
from typing import TYPE_CHECKING, Any, Final, final

from pybehave._uring.servers import ACK_SERVERS, INPUT_CALL
from pybehave.errors import (
    Crashed,
    DecodeError,
    DoNotRestart,
    DurabilityLost,
    InvariantViolated,
    JournalBusy,
    JournalFull,
    NoProc,
    NotJournalable,
    Overloaded,
    RecordTooLarge,
    StartFailed,
    TerminateTree,
    show_reason,
)
from pybehave.once import Once
from pybehave.runtime.events import ChildTerminated, Event, StartError
from pybehave.testing.connections import Connections
from pybehave.testing.disk import SimDisk
from pybehave.testing.linearizability import History, check_linearizable
from pybehave.testing.played import Failure, Played, Promise
from pybehave.testing.script import (
    Act,
    Ask,
    Crash,
    DiskFault,
    GiveUp,
    PowerCut,
    Restart,
    Snapshot,
)
from pybehave.testing.simulate import CALM, Simulator

if TYPE_CHECKING:
    from pybehave.testing.trial import Trial

QUIET_S: Final = 20.0
"""Virtual seconds at the end in which everything that is still on its way arrives."""

RETRY_S: Final = 0.3
"""After so long without an answer a client sends a named request again."""

STEPS_MAX: Final = 100_000
"""Of a model, for one history: many requests without an answer make the search long, and there are
other seeds."""

REFUSALS: Final = (NoProc, Overloaded, DecodeError, NotJournalable, RecordTooLarge)
"""Errors that say for certain that the request was not carried out (T2)."""

ADDRESS: Final = re.compile(r"0x[0-9a-f]+")

LOGGERS: Final = ("pybehave", "pybehave.supervisor", "pybehave.server")


class SimulatedCrash(Exception):  # noqa: N818 -- it is not an error of anybody's
    """A callback crashes because the script says so."""


NO_FINDINGS: Final = (
    SimulatedCrash,
    InvariantViolated,  # is told by the simulator, as what it is
    DoNotRestart,
    TerminateTree,
    DurabilityLost,
    JournalBusy,
    JournalFull,
)
"""Reasons of ends that are the script's doing, the server's wish, or told otherwise."""


@final
class Asked:
    """A request, from its first sending to its answer. It waits for its own reply."""

    __slots__ = ("caller", "is_over", "is_waiting", "level", "life", "number", "playing", "token",
                 "what")  # fmt: skip

    def __init__(self, playing: Playing, what: Ask, number: int) -> None:
        self.playing = playing
        self.what = what
        self.number = number
        self.token = playing.history(what.server).called(what.client, what.request)
        self.level = ACK_SERVERS
        self.caller: object = None
        self.life = 0
        self.is_over = False
        self.is_waiting = False

    def settle(self, value: Any, error: BaseException | None) -> None:
        """Take the reply; the loop calls this."""
        if self.life == self.playing.life:
            self.is_waiting = False
            self.playing.replied(self, value, error)


@final
class Playing:
    """One play.

    Args:
        trial: What is tried.
        seed: Of the world.
        script: In its order.
    """

    def __init__(self, trial: Trial, seed: int, script: list[Act]) -> None:
        self.trial = trial
        self.seed = seed
        self.script = script
        self.dice = Random(f"playing {seed}")
        self.disk = SimDisk(seed) if trial.is_journaled else None
        self.failure: Failure | None = None
        self.counts: Counter[str] = Counter()
        self.life = 0
        self._histories: dict[str, History] = {}
        self._asked: list[Asked] = []
        self._hash = hashlib.sha256(f"{seed}".encode())
        self._numbers: Counter[str] = Counter()
        self._crashes: Counter[str] = Counter()
        self._met: set[str] = set()
        self._missed: set[str] = set()
        self._began = 0.0
        self._world: Simulator | None = None
        self._connections: Connections[Asked] | None = None
        self._is_up = False
        self._is_ending = False

    def run(self) -> Played:
        """Play the script to its end, or to the first failure."""
        loggers = [logging.getLogger(name) for name in LOGGERS]
        levels = [logger.level for logger in loggers]
        for logger in loggers:  # crashes are what is played here
            logger.setLevel(logging.CRITICAL + 1)
        try:
            self._play()
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
        return Played(
            self.seed,
            tuple(self.script),
            self.failure,
            self._hash.hexdigest(),
            self._histories,
            self.counts,
            frozenset(self._met),
            frozenset(self._missed),
        )

    def _play(self) -> None:
        self._start(0.0)
        for act in self.script:
            self._until(act.at)
            if self.failure is not None:
                break
            self._act(act)
        if self.failure is None:
            self._finish()
        if self._is_up:
            self._end_life(lambda world: world.stop())

    def _finish(self) -> None:
        """Calm weather, quiet, and what must hold then."""
        if self.disk is not None:
            self.disk.heal()
        self.world.network.set(**CALM)
        self._crashes.clear()
        self._until(self.now + QUIET_S)
        self._check_answered()
        self._check_end()
        self._check_histories()
        if self.failure is None and self.disk is not None:
            self._cut(Random(f"last {self.seed}"))
            self._check_end()

    # --- lives -----------------------------------------------------------------------------------

    @property
    def world(self) -> Simulator:
        """The world of this life."""
        assert self._world is not None
        return self._world

    @property
    def now(self) -> float:
        """Seconds of the trial."""
        return self.world.now - self._began

    def _start(self, now: float) -> None:
        """Begin a life at a time of the trial."""
        self.life += 1
        self.counts["lives"] += 1
        world = self._world = Simulator(
            self.dice.getrandbits(32),
            self.trial.app(),
            disk=self.disk,
            journal_options=self.trial.options,
            shake=self.trial.shake,
            always=self.trial.always,
        )
        world.node.events.add(self._heard)
        world.node.host.invariants.interfere = self._interfere
        self._began = world.now - now
        if self.trial.wire is not None:
            self._connections = Connections(world, self.trial.wire, self._heard_reply)
        try:
            world.start()
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is the finding
            self._fail("start", type(error).__name__, show_reason(error))
        else:
            self._is_up = True
            self._ask_again()

    def _end_life(self, end: Callable[[Simulator], object]) -> float:
        """End this life; returns the time of the trial."""
        now, world = self.now, self.world
        self._look_at_violations()
        self._is_up = False
        self._is_ending = True
        self.life += 1  # whoever is told something by the end does not hear it
        self._hash.update(f"{world.trace_hash}".encode())
        end(world)
        self._is_ending = False
        return now

    def _cut(self, luck: Random) -> None:
        self.counts["power cuts"] += 1

        def lose_power(world: Simulator) -> None:
            if self.disk is None:
                world.stop()
            else:
                self.disk = world.lose_power(luck)

        self._start(self._end_life(lose_power))

    def _until(self, time: float) -> None:
        """Let time pass until a time of the trial, or the first failure."""
        while self.failure is None and self.now < time:
            if not self.world.is_running or self.world.node.exit_status:
                self.counts["ends"] += 1
                self._cut(self.dice)
                continue
            self.world.tick(self._began + time)
            self._look_at_violations()

    # --- acts ------------------------------------------------------------------------------------

    @singledispatchmethod
    def _act(self, act: Any) -> None:
        raise TypeError(f"{act!r} is no act")

    @_act.register
    def _(self, act: Ask) -> None:
        self.counts["asked"] += 1
        self._numbers[act.client] += 1
        asked = Asked(self, act, self._numbers[act.client])
        self._asked.append(asked)
        if act.lost == "request" and self._connections is None:
            self.counts["lost"] += 1
            self._later(RETRY_S, lambda: self._ask_if_unanswered(asked))
        else:
            self._send(asked, act.delay)

    @_act.register
    def _(self, act: GiveUp) -> None:
        for asked in self._asked:
            if asked.what.client == act.client and not asked.is_over:
                self.counts["given up"] += 1
                asked.is_over = True
                if asked.is_waiting and self._connections is None:
                    self.world.node.loop.dispatcher.abandon(asked)
        if self._connections is not None:
            self._connections.reset(act.client)

    @_act.register
    def _(self, act: Crash) -> None:
        self._crashes[act.server] += 1

    @_act.register
    def _(self, act: DiskFault) -> None:
        if self.disk is not None:
            self.counts["disk faults"] += 1
            if act.what == "ENOSPC":
                self.disk.fail(errno.ENOSPC, kinds=("fill", "put"))
            elif act.what == "short":
                self.disk.fail("short")
            else:
                self.disk.fail(getattr(errno, act.what))

    @_act.register
    def _(self, act: Snapshot) -> None:
        journal = self.world.node.journal
        if journal is None:
            return
        if journal.snapshots.take():
            self.counts["snapshots"] += 1
        if journal.snapshots.why_not:  # a server's own doing; a disk that fails is no reason
            self._fail("snapshot", "dump", journal.snapshots.why_not)

    @_act.register
    def _(self, act: Restart) -> None:
        self.counts["restarts"] += 1
        self._start(self._end_life(lambda world: world.stop()))

    @_act.register
    def _(self, act: PowerCut) -> None:
        self._cut(Random(f"{self.seed} {act.luck}"))

    # --- requests --------------------------------------------------------------------------------

    def history(self, server: str) -> History:
        """What the clients saw of a server."""
        return self._histories.setdefault(server, History())

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call a function later in this life."""
        life = self.life

        def call() -> None:
            if self.life == life and self.failure is None:
                function()

        self.world.after(seconds, call)

    def _send(self, asked: Asked, delay: float) -> None:
        self._later(delay, lambda: self._arrive(asked))
        if self.trial.once:
            self._later(delay + RETRY_S, lambda: self._ask_if_unanswered(asked))

    def _arrive(self, asked: Asked) -> None:
        if asked.is_over or asked.is_waiting:
            return
        asked.life, asked.is_waiting = self.life, True
        what = asked.what
        if self._connections is not None:
            self._say(self._connections, asked)
            return
        request = copy.deepcopy(what.request)  # as if it had come over a wire
        if self.trial.once:
            request = Once(what.client, asked.number, request)
        self.world.node.loop.dispatcher.post(what.server, INPUT_CALL, request, asked)

    def _say(self, connections: Connections[Asked], asked: Asked) -> None:
        """Over a wire: what is to be lost is lost with its connection."""
        connection = connections.to(asked.what.client, asked.what.server)
        connection.ask(asked, asked.what.request)
        if asked.what.lost:
            self.counts["lost"] += 1
            connection.reset()

    def _heard_reply(self, asked: Asked, reply: Any) -> None:
        """Over a wire: a failure that is answered says nothing of the request."""
        assert self.trial.wire is not None
        if self.trial.wire.is_error(reply):
            self.counts["errors"] += 1
            asked.is_over = True
        elif not asked.is_over:
            self._arrived(asked, reply, None)

    def _ask_if_unanswered(self, asked: Asked) -> None:
        """A client that has named its request asks again."""
        if self.trial.once and not asked.is_over:
            self.counts["asked again"] += 1
            if asked.is_waiting:
                self.world.node.loop.dispatcher.abandon(asked)
                asked.is_waiting = False
            self._send(asked, 0.0)

    def _ask_again(self) -> None:
        """A new life: nobody will answer what was asked in the one before."""
        for asked in self._asked:
            asked.is_waiting = False
            self._ask_if_unanswered(asked)

    def replied(self, asked: Asked, value: Any, error: BaseException | None) -> None:
        """A reply leaves the node."""
        (self._missed if isinstance(error, NoProc) else self._met).add(asked.what.server)
        if asked.what.lost == "reply":
            self.counts["lost"] += 1
            asked.is_over = not self.trial.once
            if not asked.is_over:
                asked.what = _found(asked.what)
            return
        self._later(asked.what.back, lambda: self._arrived(asked, value, error))

    def _arrived(self, asked: Asked, value: Any, error: BaseException | None) -> None:
        if asked.is_over:
            return
        what = asked.what
        heard = ADDRESS.sub("0x", f"{self.now:.9f} {what.client} {value!r} {error!r}")
        self._hash.update(heard.encode())
        self.counts["answers" if error is None else "errors"] += 1
        if error is None:
            asked.is_over = True
            self.history(what.server).replied(asked.token, value)
        elif isinstance(error, REFUSALS) and not self.trial.once:
            asked.is_over = True
            self.history(what.server).refused(asked.token)
        elif not self.trial.once or isinstance(error, Crashed):
            asked.is_over = True

    # --- what must hold --------------------------------------------------------------------------

    def _fail(self, promise: Promise, name: str, text: str) -> None:
        if self.failure is None:  # (T3)
            self.failure = Failure(promise, name, text)
            self._hash.update(f"{promise} {name}".encode())

    def _interfere(self, server: str) -> None:
        if self._crashes[server]:
            self._crashes[server] -= 1
            self.counts["simulated crashes"] += 1
            raise SimulatedCrash(server)

    def _heard(self, event: Event) -> None:
        """A child has ended by itself: by one of our crashes, an expected one, or a finding."""
        error = event.error
        is_restart = isinstance(event, StartError) and event.context == "restart"
        if error is None or not (is_restart or isinstance(event, ChildTerminated)):
            return
        if self._is_ending:  # with the power off everything fails
            return
        self.counts["crashes"] += 1
        if isinstance(error, StartFailed):
            error = error.reason if isinstance(error.reason, BaseException) else error
        if not isinstance(error, (*NO_FINDINGS, *self.trial.expected)):
            self._fail("crash", type(error).__name__, f"server {event.child!r}: {error!r}")

    def _look_at_violations(self) -> None:
        for violated in self.world.violations:
            self._fail("invariant", violated.invariant, str(violated))

    def _check_answered(self) -> None:
        if self._connections is not None:
            waiting = self._connections.unanswered()
        else:
            waiting = [each for each in self._asked if each.life == self.life and each.is_waiting]
        for asked in waiting:
            if not asked.is_over:
                self._fail(
                    "unanswered",
                    asked.what.server,
                    f"{asked.what!r} has no answer after {QUIET_S:g} s of quiet",
                )

    def _check_end(self) -> None:
        for name, function in self.trial.at_end.items():
            if self.failure is not None:
                return
            try:
                answer = function(self.world.node)
            except Exception as error:  # noqa: BLE001 -- whatever it is, it is the finding
                self._fail("end", name, show_reason(error))
            else:
                if answer is not None and not answer:
                    self._fail("end", name, f"it returned {answer!r}")
        self._look_at_violations()

    def _check_histories(self) -> None:
        for server, model in self.trial.model.items():
            verdict = check_linearizable(self.history(server), model, steps_max=STEPS_MAX)
            self.counts[verdict.outcome] += 1
            if verdict.outcome == "violation":
                self._fail("history", server, str(verdict))


def _found(what: Ask) -> Ask:
    """The same request, whose next reply is not lost."""
    return Ask(what.at, what.client, what.server, what.request, what.delay, what.back)

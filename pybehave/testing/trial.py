"""Try an application in many simulated worlds: clients, faults, promises; a failure is made small.

    trial = Trial(app, lambda dice: ("bank", ("pay", dice.choice(NAMES), dice.randrange(100))),
                  always={"no debts": lambda states: min(states["bank"].values()) >= 0})
    trial.check(range(200))          raises TrialFailed with a seed and the smallest script

A trial of one seed draws a script (script.py: who asks what when, what goes wrong when) and plays
it on the simulator: the real loop, dispatch, supervisors and journal, in virtual time. Then it is
quiet for a while, and a journaled application is cut off and started once more. What must hold:

| promise     | broken when                                                                        |
|-------------|------------------------------------------------------------------------------------|
| "invariant" | a state breaks an invariant: of `always`, or of a server's own class               |
| "crash"     | a callback raises what is neither simulated nor `expected`                         |
| "history"   | what the clients saw of a server has no order that its model explains              |
| "unanswered"| nothing was lost, and yet a request has no answer after the quiet                  |
| "snapshot"  | a state has no form that a snapshot can keep                                       |
| "end"       | a check of `at_end` fails, at the end or after the last start                      |
| "start"     | the node does not start again                                                      |

Theory. Everything follows from the script and the seed: `trace_hash` proves it. So a failing script
can be shrunk (shrink.py) and replayed. Clients call in process, over a network of their own that
delays and loses whole messages; or, with a `wire`, over simulated connections, which arrive in
pieces and break.

Invariants
  (T1) The same script and seed give the same outcome.
  (T2) A request counts as refused only if it was for certain not carried out; of any other error
       its client does not know, and the history says so.
  (T3) After a failure nothing more happens: the first one is the one that counts.

Does not know: what the application is for.
Source: A3-30; the FoundationDB and TigerBeetle simulators for faults drawn by seed and swarm.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, final

from pybehave.behaviours.application import Application
from pybehave.behaviours.supervisor import named_workers, workers
from pybehave.errors import SpecError, show
from pybehave.journal.recovery import Options
from pybehave.runtime.node import Node
from pybehave.testing.linearizability import Model
from pybehave.testing.played import Played
from pybehave.testing.playing import Playing
from pybehave.testing.script import (
    Act,
    Asking,
    Faults,
    Script,
    check_script,
    draw_script,
    show_script,
)
from pybehave.testing.shrink import TRIES_MAX, shrink
from pybehave.testing.wires import Wire

SMALL: Final = Options(segment_bytes=64 << 10, depth=2)
"""Journals of a trial: so small that segments are rolled."""


@final
class TrialFailed(AssertionError):  # noqa: N818 -- a fact
    """A trial has found a broken promise.

    Attributes:
        played: The smallest script that fails in the same way, and what it has come to.
        found: The script that was drawn.
    """

    def __init__(self, played: Played, found: Played) -> None:
        assert played.failure is not None
        super().__init__(
            f"seed {played.seed}: {played.failure}\n"
            f"{len(played.script)} of {len(found.script)} acts do it; play them again with\n"
            f"trial.play({played.seed}, {show_script(played.script)})"
        )
        self.played = played
        self.found = found


@final
class Trial:
    """An application, what clients ask of it, what may go wrong, and what must hold.

    Args:
        app: What is tried, or a function that makes it anew for each start.
        ask: Draws a request from a `random.Random`: `(server's name, request)`.
        clients: How many there are.
        requests: How many they ask together in one run.
        seconds: Virtual time in which they do.
        faults: What may go wrong; by default a little of everything but failing disks.
        shake: Draw the simulator's weather from the seed, too: slow disks, late completions.
        always: Invariants over all servers by name: functions of their states by name.
        at_end: Checks by name: functions of the node, called in the quiet at the end, and again
            after a power cut and a start. They raise, or return False.
        model: What each server does, by its name: the histories of these are judged. A server
            that forgets its state when it crashes has no model that explains it.
        expected: Exceptions that callbacks may raise.
        once: Clients name their requests (`Once`), and send them again until they are answered.
        wire: How clients speak to the listeners that lead to the servers, `LINES` or `RESP` of
            pybehave.testing.wires for example. What is lost then breaks the connection. None:
            they call in process.
        options: How the journal is kept.

    Raises:
        SpecError: Counts or times that are not possible; named requests over a wire.
    """

    def __init__(
        self,
        app: Application | Callable[[], Application],
        ask: Asking,
        *,
        clients: int = 3,
        requests: int = 40,
        seconds: float = 1.0,
        faults: Faults | None = None,
        shake: bool = False,
        always: Mapping[str, Callable[[Mapping[str, Any]], object]] | None = None,
        at_end: Mapping[str, Callable[[Node], object]] | None = None,
        model: Mapping[str, Model] | None = None,
        expected: tuple[type[BaseException], ...] = (),
        once: bool = False,
        wire: Wire | None = None,
        options: Options = SMALL,
    ) -> None:
        for field, value in (("clients", clients), ("requests", requests), ("seconds", seconds)):
            if not value > 0:
                raise SpecError("Trial", f"{field}={show(value)} is not allowed; use more than 0")
        if once and wire is not None:
            raise SpecError(
                "Trial",
                "once=True is for calls in process; over a wire, let `ask` and the protocol name "
                "requests",
            )
        if not isinstance(app, Application) and not callable(app):
            raise SpecError("Trial", f"app={show(app)} is not allowed; use an Application")
        if model is not None and not _are_models(model):
            raise SpecError(
                "Trial",
                f"model={show(model)} is not allowed; use a dict from servers' names to Models",
            )
        self._app = app
        self.ask = ask
        self.clients = clients
        self.requests = requests
        self.seconds = seconds
        self.faults = Faults() if faults is None else faults
        self.shake = shake
        self.always = always or {}
        self.at_end = at_end or {}
        self.model = model or {}
        self.expected = expected
        self.once = once
        self.wire = wire
        self.options = options

    def app(self) -> Application:
        """Return the application, for one start."""
        return self._app if isinstance(self._app, Application) else self._app()

    @property
    def is_journaled(self) -> bool:
        """Whether any of its workers is."""
        return any(worker.journal for worker in workers(self.app().tree))

    def script(self, seed: int) -> list[Act]:
        """Return what happens with a seed."""
        return draw_script(
            seed,
            self.ask,
            clients=self.clients,
            requests=self.requests,
            seconds=self.seconds,
            servers=[worker.name for worker in named_workers(self.app().tree)],
            faults=self.faults,
        )

    def play(self, seed: int, script: Script | None = None) -> Played:
        """Play a seed, or a script in the world of a seed.

        Args:
            seed: Of the world, and of the script unless one is given.
            script: What happens; the times of its acts decide their order.

        Raises:
            TypeError: Something in the script is no act.
        """
        acts = self.script(seed) if script is None else check_script(script)
        return Playing(self, seed, acts).run()

    def shrink(self, found: Played, *, tries_max: int = TRIES_MAX) -> Played:
        """Return the smallest run that fails as this one does.

        Args:
            found: One that has failed.
            tries_max: How many scripts are tried for it.
        """
        failure = found.failure
        assert failure is not None, "it has not failed"
        small = shrink(
            list(found.script),
            lambda script: failure.is_like(self.play(found.seed, script).failure),
            tries_max=tries_max,
        )
        return self.play(found.seed, small)

    def check(self, seeds: Iterable[int], *, tries_max: int = TRIES_MAX) -> Counter[str]:
        """Play all seeds; return what was met.

        Args:
            seeds: Which.
            tries_max: How many scripts are tried to make a failure small.

        Raises:
            TrialFailed: A promise was broken; shows the seed and the smallest script.
            SpecError: `ask` names a server that none of these worlds has had.
        """
        counts: Counter[str] = Counter()
        missed, met = set[str](), {worker.name for worker in named_workers(self.app().tree)}
        for seed in seeds:
            played = self.play(seed)
            if played.failure is not None:
                raise TrialFailed(self.shrink(played, tries_max=tries_max), played)
            counts += played.counts
            counts["seeds"] += 1
            missed |= played.missed
            met |= played.met
        if missed - met:
            raise SpecError(
                "Trial",
                f"ask names {', '.join(map(repr, sorted(missed - met)))}, and no server had that "
                f"name in any of these worlds; there are {', '.join(map(repr, sorted(met)))}",
            )
        return counts


def _are_models(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    return all(isinstance(each, Model) for each in value.values())

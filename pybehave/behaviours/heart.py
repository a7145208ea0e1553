"""What the end of a node's process means to the process that looks after it.

Theory. A supervisor restarts servers; when it is itself at a loss, the process ends, and somebody
outside begins again from the journal. That one should decide as supervisors do: an end that was
wanted is the end, a failure is followed by another start, failures in a row wait longer each time,
and too many within a period are given up. An end is wanted or not by what was seen before it:

|  # | stop was asked for | process ended by | served | said that it stops | then               |
|----|--------------------|------------------|--------|--------------------|--------------------|
| R1 | yes                | anything         | -      | -                  | over               |
| R2 | no                 | a signal         | -      | -                  | again              |
| R3 | no                 | a status         | nobody | -                  | over: never served |
| R4 | no                 | status 2         | not it | -                  | over: a mistake    |
| R5 | no                 | another status   | not it | -                  | again              |
| R6 | no                 | status 1         | it     | -                  | again              |
| R7 | no                 | another status   | it     | yes                | over: its own will |
| R8 | no                 | another status   | it     | no                 | again              |

"Nobody" is no process since this one began to look. A process that hangs was ended by a signal, so
R2 is for it, too; and for one of which nobody knows how it ended, and one that could not be started
though others had been. A status without the word that it stops (R8) is `os._exit` somewhere in a
library, whatever number it chose.

Invariants
  (H1) The parent's exit status is that of the child whose end was wanted; 1 when it gives up.
  (H2) So many restarts as a supervisor of the same intensity and period bears, never one more.

Does not know: processes, signals, clocks; `now` and `draw` are arguments.
Source: OTP kernel, heart; OTP stdlib, supervisor, restart intensity; systemd.service(5), Restart=.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final, TypeAlias, final

from pybehave.behaviours.backoff import Backoff, Row
from pybehave.behaviours.budget import Budget
from pybehave.behaviours.rules import Rule, check, is_count, is_number
from pybehave.behaviours.supervisor import Supervisor

INTENSITY: Final = 10
"""Three for an input that ends the process each time, and as many again for two more of them."""

PERIOD_S: Final = 60.0

TIMEOUT_S: Final = 30.0
"""More than the longest step one should bear; OTP's heart waits for 60 s."""

TIMEOUT_MIN_S: Final = 0.1
"""Less is what any machine does to a process now and then."""

STATUS_FAILED: Final = 1
STATUS_MISTAKE: Final = 2
"""Exit statuses of `pybehave run`: the application failed; the command line is wrong."""

SIGNAL_STATUS: Final = 128
"""What shells add to the number of the signal that ended a process."""

_RULES: Final[Mapping[str, Rule]] = {
    "timeout": Rule(
        lambda value: is_number(value) and (value == 0 or value >= TIMEOUT_MIN_S),
        f"seconds >= {TIMEOUT_MIN_S}, or 0 for never",
    ),
    "intensity": Rule(is_count, "an integer >= 0"),
    "period": Rule(lambda value: is_number(value) and value > 0, "seconds > 0"),
    "backoff": Rule(lambda value: isinstance(value, Backoff), "a Backoff"),
}


@final
@dataclass(frozen=True, slots=True)
class HeartRules:
    """How a process is looked after.

    Attributes:
        timeout: Seconds without a beat of the loop after which it is ended; 0 is never.
        intensity: So many restarts ...
        period: ... in so many seconds are borne; with one more the parent gives up.
        backoff: How long to wait before a restart.

    Raises:
        SpecError: A field is not what it may be.
    """

    timeout: float = TIMEOUT_S
    intensity: int = INTENSITY
    period: float = PERIOD_S
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        check("HeartRules", _RULES, {each.name: getattr(self, each.name) for each in fields(self)})


@final
@dataclass(frozen=True, slots=True)
class End:
    """How a process ended, and what it had said before.

    Attributes:
        status: Its exit status; None = a signal ended it ...
        signal: ... which one; 0 = none, or nobody knows.
        has_served: It had said that it is ready.
        has_said_stop: It had said that it stops.
        is_hung: It was ended because its loop did not beat.
    """

    status: int | None
    signal: int = 0
    has_served: bool = False
    has_said_stop: bool = False
    is_hung: bool = False


@final
@dataclass(frozen=True, slots=True)
class Again:
    """Start another process.

    Attributes:
        wait: After so many seconds.
    """

    wait: float


@final
@dataclass(frozen=True, slots=True)
class Over:
    """Start no more.

    Attributes:
        status: The parent's own exit status (H1).
        has_given_up: For there were too many failures.
    """

    status: int
    has_given_up: bool = False


Verdict: TypeAlias = Again | Over


@final
class Heart:
    """What has happened so far, and what follows from the next end.

    Args:
        rules: How the process is looked after.

    Attributes:
        restarts: How many there were.
        has_served: A process was ready, sometime.
        asked: The signals that ask for a stop and were passed on.
    """

    def __init__(self, rules: HeartRules) -> None:
        self.restarts = 0
        self.has_served = False
        self.asked: set[int] = set()
        self._rules = rules
        self._row = Row()
        spec = Supervisor("one_for_one", [], intensity=rules.intensity, period=rules.period)
        self._budget = Budget(spec)

    def ended(self, end: End, now: float, draw: float) -> Verdict:
        """Take note of an end.

        Args:
            now: Monotonic seconds.
            draw: A random number, 0 <= draw < 1.
        """
        status = self._final_status(end)
        if status is not None:
            return Over(status)
        if self._budget.is_exhausted(now):
            return Over(STATUS_FAILED, has_given_up=True)  # (H2)
        self._budget.charge(now)
        failures, wait = self._row.next(self._rules.backoff, now, draw)
        self._row.note(failures, wait, now)
        self.restarts += 1
        return Again(wait)

    def _final_status(self, end: End) -> int | None:
        """The status of an end that was wanted, or that no start would mend; None = a failure."""
        if self.asked:  # R1
            is_early = end.signal in self.asked and not end.has_served
            return 0 if is_early else _status_of(end)
        if end.status is None:  # R2
            return None
        if not self.has_served:  # R3
            return end.status
        if not end.has_served:  # R4, R5
            return end.status if end.status == STATUS_MISTAKE else None
        is_wanted = end.has_said_stop and end.status != STATUS_FAILED  # R6, R7, R8
        return end.status if is_wanted else None


def _status_of(end: End) -> int:
    if end.status is None:
        return SIGNAL_STATUS + end.signal if end.signal else 0
    return end.status

"""Inputs that ended the process again and again: found at a start, put aside before it serves.

What was counted (pybehave/journal/attempts.py) decides. An input of the journal is passed over by
the replay and named by a SKIP record; a timer that is due is recorded as failed, as if its step had
raised; a message that had not arrived fails when it does. All become dead letters, and the node
serves.

Does not know: how attempts are counted, how a replay goes.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, final

from pybehave.behaviours.schema import version_of
from pybehave.errors import show_reason
from pybehave.journal import dead_letters
from pybehave.journal.attempts import (
    ATTEMPTS_MAX,
    MARK_MESSAGE,
    MARK_REPLAY,
    MARK_TIMER,
    Attempts,
    Suspect,
    describe,
)
from pybehave.journal.dead_letters import Letter
from pybehave.runtime.durable.events import Quarantined

if TYPE_CHECKING:
    from pybehave._uring.replay import Diverged
    from pybehave._uring.servers import Server
    from pybehave.journal.recovery import Recovery
    from pybehave.runtime.durable.journaling import NodeJournal
    from pybehave.runtime.durable.replay import Known, Undelivered

RECORD_SKIP: Final = 5
TIMER: Final = 5
"""Numbers of `enum record_type` in src/_uring/segment.h, and of a timer's input."""

REASON: Final = f"the process ended {ATTEMPTS_MAX} times while it stepped this input"

logger = logging.getLogger("pybehave.journal")


@final
class Quarantine:
    """What is not stepped in one journal.

    Args:
        journal: Whose.

    Attributes:
        skipped: The lsns of inputs that are not stepped.
        messages: What messages fail with instead of being stepped: (lsn, index) -> error.
    """

    def __init__(self, journal: NodeJournal) -> None:
        self.journal = journal
        self.attempts = Attempts(journal.disk)
        self.skipped: set[int] = set()
        self.messages: dict[tuple[int, int], BaseException] = {}
        self._found: list[tuple[Suspect, Letter]] = []
        self._new: dict[int, Suspect] = {}
        self._reasons: dict[int, str] = {}

    def begin(self, found: Recovery) -> None:
        """Count the attempt that ended the process before, and learn what is not to be stepped."""
        self.attempts.begin()
        self.skipped.update(self.journal.marks.skipped)
        self._new = {suspect.key: suspect for suspect in self.attempts.poison(MARK_REPLAY)}
        for lsn in self.skipped & self._new.keys():
            del self._new[lsn]
        self.skipped |= self._new.keys()

    @contextlib.contextmanager
    def replaying(self) -> Iterator[None]:
        """While this lasts, the marker says which input of the journal is stepped."""
        marker = self.attempts.marker
        assert marker is not None
        marker[1:3] = memoryview(bytes(16)).cast("Q")
        marker[0] = MARK_REPLAY
        try:
            yield
        finally:
            marker[0] = 0

    def passed_over(self, server: Server, kind: int, message: Any, lsn: int) -> None:
        """Keep an input that the replay did not step, with the state before it."""
        if lsn in self._new:
            self._found.append((self._new[lsn], self._letter(server, kind, message, lsn)))

    def skip_too(self, server: int, error: Diverged) -> None:
        """Without an input that is skipped, a later one fails: skip it, and replay again."""
        logger.error(
            "without what is skipped, the input of lsn %d of %r fails too: %s; it is skipped",
            error.lsn,
            error.server,
            show_reason(error.__cause__),
        )
        self._new[error.lsn] = Suspect(MARK_REPLAY, server, error.lsn)
        self.skipped.add(error.lsn)
        self._found.clear()

    def roll_back(self, server: int, lsns: list[int]) -> None:
        """Inputs that a policy takes back: to be passed over, and put aside when they are."""
        for lsn in lsns:
            self._new[lsn] = Suspect(MARK_REPLAY, server, lsn)
            self._reasons[lsn] = "it was taken back when a later input failed"
        self.skipped.update(lsns)

    def take_away(self, known: dict[str, Known], undelivered: list[Undelivered]) -> None:
        """Take away the timers that are not to fire, note the messages that are not to be stepped,
        and forget the counts of all that were.
        """
        poison = set(self.attempts.poison(MARK_TIMER))
        due = {Suspect(MARK_MESSAGE, index, lsn) for lsn, index, *_ in undelivered}
        for suspect in due.intersection(self.attempts.poison(MARK_MESSAGE)):
            logger.error("%s is not stepped any more: %s", describe(suspect), REASON)
            self.messages[suspect.key, suspect.server] = SystemError(REASON)
        for name, each in known.items():
            number = self.journal.numbers[name]
            for timer, (due_ns, message) in list(each.due.items()):
                suspect = Suspect(MARK_TIMER, number, due_ns)
                due.add(suspect)
                if suspect in poison:
                    del each.due[timer]
                    assert each.server is not None
                    letter = self._letter(each.server, TIMER, [timer, message], 0)
                    self._found.append((suspect, letter))
            each.server = None  # it was only needed for the letter
        self.attempts.keep(due | set(self._new.values()))

    def record(self) -> None:
        """Write down what was put aside; the journal is open."""
        commit, now_ns = self.journal.commit, self.journal.now_ns()
        for suspect, letter in self._found:
            if suspect.kind == MARK_REPLAY:
                payload = suspect.key.to_bytes(8, "little")
                commit.record(RECORD_SKIP, suspect.server, payload, now_ns)
                lsn = suspect.key
            else:
                lsn = commit.record_failed(TIMER, suspect.server, letter.message, now_ns)
            logger.error(
                "%s of server %r is not stepped any more: %s; it is dead letter %d",
                describe(suspect),
                letter.server,
                self._reasons.get(suspect.key, REASON),
                lsn,
            )
            why = self._reasons.get(suspect.key, REASON)
            self.journal.node.events.hand_on(Quarantined("", letter.server, lsn, why))
            crash_id = f"{letter.server}-{letter.incarnation}-{lsn}"
            self._put(letter, lsn, crash_id)
        self._found.clear()
        self._new = {}

    def _put(self, letter: Letter, lsn: int, crash_id: str) -> None:
        fields = {name: getattr(letter, name) for name in letter.__struct_fields__}
        try:
            named = Letter(**{**fields, "lsn": lsn, "crash_id": crash_id})
            dead_letters.put(self.journal.disk, named, self.journal.coder)
        except OSError as error:
            logger.error("the dead letter of lsn %d could not be written: %s", lsn, error)

    def _letter(self, server: Server, kind: int, message: Any, lsn: int) -> Letter:
        values = self.journal.values_named(server.name)
        cls = type(server.instance)
        try:
            state = values.encode(server.instance.dump(server.state))
        except Exception as error:  # noqa: BLE001 -- whatever dump does
            logger.info("the state of %r has no form in a dead letter: %s", server.name, error)
            state = None
        return Letter(
            lsn=lsn,
            server=server.name,
            kind=kind,
            message=values.encode(message),
            error=f"builtins.SystemError: {self._reasons.get(lsn, REASON)}",
            traceback="",
            crash_id="",
            at=self.journal.now_ns() / 1e9,
            incarnation=server.incarnation,
            module=cls.__module__,
            qualname=cls.__qualname__,
            state=state,
            version=version_of(cls),
        )

"""Dead letters as they come: written when a journaled server fails on an input, completed with the
state before it when that is known, and sent again at a start when somebody asked for that.
"""

from __future__ import annotations

import contextlib
import logging
import traceback
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final, final

import msgspec

from pybehave.behaviours.child_spec import Worker
from pybehave.behaviours.schema import Schema, version_of
from pybehave.errors import CodecRefused, JournalRefused
from pybehave.journal import dead_letters
from pybehave.journal.dead_letters import Letter
from pybehave.runtime.crashes import user_frames
from pybehave.runtime.durable.events import Quarantined
from pybehave.runtime.durable.recoveries import error_text
from pybehave.runtime.durable.replay import Known
from pybehave.runtime.servers import reader_of

if TYPE_CHECKING:
    from pybehave._uring.servers import Server
    from pybehave.runtime.durable.journaling import NodeJournal

TIMER: Final = 5
CASTS: Final = {1: 2, 2: 2}
"""An input that is sent again has no caller: a call becomes a cast."""

INFO: Final = 3

logger = logging.getLogger("pybehave.journal")


@final
class DeadLetters:
    """The dead letters of one node.

    Args:
        journal: Its journal.
    """

    def __init__(self, journal: NodeJournal) -> None:
        self.journal = journal
        self.count = 0
        self._open: dict[str, Letter] = {}

    def add(
        self, server: Server, worker: Worker[Any, Any], reason: object, kind: int, message: Any
    ) -> None:
        """Put aside the input that a server has failed on."""
        values = self.journal.values_named(server.name)
        kept = [None, message] if kind == TIMER else message
        error = reason if isinstance(reason, BaseException) else RuntimeError(repr(reason))
        cls = type(server.instance)
        letter = Letter(
            lsn=server.failed_lsn,
            server=server.name,
            kind=kind,
            message=_encoded(values, kept) or b"\xc0",
            error=error_text(error),
            traceback="".join(traceback.format_exception(type(error), error, user_frames(error))),
            crash_id=f"{server.name}-{server.incarnation}-{server.inputs}",
            at=self.journal.now_ns() / 1e9,
            incarnation=server.incarnation,
            module=cls.__module__,
            qualname=cls.__qualname__,
            args=_encoded(values, worker.args),
            version=version_of(cls),
        )
        self.journal.node.events.hand_on(Quarantined("", server.name, letter.lsn, letter.error))
        self.count += 1
        self._open[server.name] = letter
        # After the restart, if there is one: then it holds the state already.
        self.journal.node.host.defer(lambda: self._write_open(letter))

    def _write_open(self, letter: Letter) -> None:
        if self._open.get(letter.server) is letter:
            del self._open[letter.server]
            self._write(letter)

    def forget(self, before: Mapping[str, int]) -> int:
        """Remove what servers had failed on before an lsn; returns how many letters that were.

        Blocks; on any thread.

        Args:
            before: Server -> the lsn.

        Raises:
            OSError: A letter cannot be removed.
        """
        return dead_letters.forget(self.journal.disk, before, self.journal.coder)

    def drop(self, name: str) -> None:
        """A server is forgotten: a letter of its that is still to be written is not."""
        self._open.pop(name, None)

    def complete(self, worker: Worker[Any, Any], known: Known | None) -> None:
        """The state before is known now: let the letter hold it. Else it is written without."""
        letter = self._open.get(worker.name)
        if letter is None or known is None or known.is_dirty or known.dump is None:
            return
        values = self.journal.values_named(worker.name)
        try:
            state = values.encode(known.dump(known.state))
        except Exception as error:  # noqa: BLE001 -- whatever dump does
            logger.info("the state of %r has no form in a dead letter: %s", worker.name, error)
            return
        del self._open[worker.name]
        self._write(msgspec.structs.replace(letter, state=state))

    def error_of(self, lsn: int) -> str:
        """What was raised on an input in an earlier life; "" when no letter says."""
        try:
            return dead_letters.get(self.journal.disk.path, lsn, self.journal.coder).error
        except (JournalRefused, CodecRefused):
            return ""

    def send_again(self) -> None:
        """Post what is to be sent again; at a start, when the servers run."""
        dispatcher, path = self.journal.node.loop.dispatcher, self.journal.disk.path
        for lsn in dead_letters.numbers(path, dead_letters.REQUEUE):
            try:
                letter = dead_letters.waiting(path, lsn, self.journal.coder)
            except (JournalRefused, CodecRefused) as error:
                logger.error("dead letter %d is not sent again: %s", lsn, error)
                continue
            server = dispatcher.whereis(letter.server)
            if server is None:
                logger.warning(
                    "dead letter %d is not sent again: no server %r", letter.lsn, letter.server
                )
                continue
            try:
                message = self._message(server, letter)
            except (JournalRefused, ValueError) as error:
                logger.error("dead letter %d is not sent again: %s", letter.lsn, error)
                continue
            dispatcher.post(letter.server, CASTS.get(letter.kind, INFO), message, None)
            logger.info("dead letter %d is sent to %r again", letter.lsn, letter.server)
            self.journal.node.host.defer(partial(self._sent, letter.lsn))

    def _message(self, server: Server, letter: Letter) -> Any:
        """The input, as today's code wants it."""
        schema = Schema(server.name, server.instance)
        schema.check(letter.version, letter.lsn)
        values, upcast = reader_of(schema, server.values, letter.version)
        message = values.decode(letter.message)
        return upcast(message[1] if letter.kind == TIMER else message, letter.lsn)

    def _sent(self, lsn: int) -> None:
        """Forget the letter when the input it became is durable."""
        commit = self.journal.commit
        path = self.journal.disk.path

        def sent() -> None:
            with contextlib.suppress(JournalRefused):  # somebody has deleted it
                dead_letters.delete(path, lsn)

        commit.when_durable(commit.batch_of_last(), sent)

    def _write(self, letter: Letter) -> None:
        disk, coder = self.journal.disk, self.journal.coder

        def work() -> int:
            dead_letters.put(disk, letter, coder)
            return 0

        self.journal.off_loop(work, lambda _, error: _complain(letter, error))


def _encoded(values: Any, value: Any) -> bytes | None:
    try:
        encoded: bytes = values.encode(value)
    except Exception:  # noqa: BLE001 -- whatever it is made of: the letter is whole without
        return None
    return encoded


def _complain(letter: Letter, error: BaseException | None) -> None:
    if error is not None:
        logger.error("the dead letter of lsn %d could not be written: %s", letter.lsn, error)

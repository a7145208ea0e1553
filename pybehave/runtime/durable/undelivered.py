"""What was under way between journaled servers when the node ended, at the next start.

A message that had not arrived is posted again, also to a server that nobody starts now: it is kept
with the name, as if it had been sent today. Jobs whose answers had not arrived are told as lost, or
run again.

Does not know: what was under way (replay.py), what becomes of it (src/_uring/mailboxes.pyx).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pybehave._uring.values import Values
from pybehave.actions import RunAgain
from pybehave.jobs import JOBS_FROM
from pybehave.runtime.durable.replay import Encoded

if TYPE_CHECKING:
    from pybehave._uring.dispatch import Dispatcher
    from pybehave.runtime.durable.journaling import NodeJournal

logger = logging.getLogger("pybehave.journal")


def deliver(journal: NodeJournal, dispatcher: Dispatcher, values: Mapping[str, Values]) -> None:
    """Post it; what nobody can read now stays with the journal, which hands it on.

    Args:
        journal: Has it as `undelivered`.
        dispatcher: Where the servers are.
        values: What reads the messages, by the name of their receiver.
    """
    left = []
    for each in journal.undelivered:
        lsn, index, name, kind, message = each
        is_here = name in values
        if isinstance(message, Encoded):
            try:
                message = values.get(name, PLAIN).decode(message.data)
            except ValueError as error:
                logger.warning("a message of lsn %d to %r stays where it is: %s", lsn, name, error)
                left.append(each)
                continue
        if index < JOBS_FROM:
            dispatcher.deliver(name, kind, message, lsn, index)
            continue
        dispatcher.owe_again(name, message, lsn, index)
        if not is_here:  # who asked is not there to hear
            continue
        if isinstance(message, RunAgain):
            journal.node.host.pools.run_again(name, (lsn, index), message)
        else:
            dispatcher.answer_job(name, message, lsn, index)
    journal.undelivered = left


PLAIN = Values()
"""Reads what is of no declared type."""

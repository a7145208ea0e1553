"""What recovery finds while `pybehave run` starts: shown as it goes, written when it is over.

Does not know: how a journal is recovered.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pybehave.cli.load import Mistake
from pybehave.cli.progress import watch_on
from pybehave.errors import CodecRefused, JournalLocked, JournalRefused, NonDeterminism
from pybehave.runtime.durable.journaling import NodeJournal
from pybehave.runtime.node import Node

logger = logging.getLogger("pybehave")


def check_report(file: str | None) -> str | None:
    """A mistake when there is no place for the report: better now than after a long replay."""
    if file is not None and not os.access(Path(file).absolute().parent, os.W_OK | os.X_OK):
        raise Mistake(f"--recovery-report {file}: its folder is not there, or cannot be written")
    return file


@contextlib.contextmanager
def reporting(node: Node, file: str | None) -> Iterator[Callable[[], None]]:
    """Show how far recovery is; write what it found, when it is over and when it refuses."""
    if node.journal is not None:
        node.journal.watch = watch_on(sys.stderr) or node.journal.watch

    def write(error: BaseException | None = None) -> None:
        if file is not None and node.journal is not None:
            write_report(file, node.journal, error)

    try:
        yield write
    except (JournalLocked, JournalRefused, CodecRefused, NonDeterminism, OSError) as error:
        if node.journal is not None and not node.journal.is_open:
            write(error)
        raise


def write_report(file: str, journal: NodeJournal, error: BaseException | None) -> None:
    """Write it, whole or not at all."""
    found = journal.recovery
    facts: dict[str, Any] = {"directory": journal.disk.path}
    if found is not None:
        facts = found.report.as_json()
    if error is not None:
        named = {name: value for name, value in vars(error).items() if name != "facts"}
        facts["error"] = {
            "type": type(error).__name__,
            "sentence": str(error),
            **named,
            **getattr(error, "facts", {}),
        }
    beside = Path(f"{file}.tmp")
    try:
        beside.write_text(json.dumps(facts, indent=2, default=str) + "\n", "utf-8")
        beside.replace(file)
    except OSError as problem:  # serving is worth more than the report
        logger.error("the recovery report cannot be written to %s: %s", file, problem)

"""Whether a node keeps a journal, and where it lies.

Does not know: what is in it.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING

from pybehave.errors import NothingKept
from pybehave.journal.disk import Disk, FolderDisk
from pybehave.journal.recovery import Options
from pybehave.runtime.durable.journaling import NodeJournal

if TYPE_CHECKING:
    from pybehave.runtime.node import Node


def journal_in(
    node: Node, data: str | os.PathLike[str] | Disk | None, options: Options, reset: Collection[str]
) -> NodeJournal | None:
    """Return a node's journal; None when it is not wanted, or none of its workers needs it.

    Args:
        node: Whose; its applications are known.
        data: A folder or a disk.
        options: How it is kept.
        reset: Names of servers that begin anew.

    Raises:
        NothingKept: There is no journal, and somebody is to begin anew.
    """
    names = frozenset(reset)
    if data is None or not any(worker.journal for worker in node.applications.workers()):
        if names:
            raise NothingKept(min(names))
        return None
    disk = FolderDisk(data) if isinstance(data, str | os.PathLike) else data
    journal = NodeJournal(node, disk, options)
    journal.reset = names
    return journal

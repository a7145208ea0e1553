"""Limits of the process that decide how many connections it can hold."""

from __future__ import annotations

import resource
from typing import Final

DESCRIPTORS_RESERVED: Final = 64
"""For the ring, listeners, logs, files and Python itself; a quarter where the limit is that low."""

DESCRIPTORS_MIN: Final = 24
"""With fewer a node with a journal does not start, or Python itself ends by an abort."""


def raise_descriptors() -> int:
    """Raise the soft limit of open files to the hard one; returns the connections that fit."""
    hard = descriptors_max()
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard - min(DESCRIPTORS_RESERVED, hard // 4)


def descriptors_max() -> int:
    """How many files this process can be allowed to have open at once: the hard limit."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def memlock_kib() -> int | None:
    """The limit of locked memory in KiB, which rings count against; None is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return None if soft == resource.RLIM_INFINITY else soft // 1024

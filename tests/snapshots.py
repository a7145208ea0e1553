"""A node's snapshot, taken when a test wants it."""

from __future__ import annotations

import threading
from typing import Any

from tests.power.machine import WAIT_S, wait_for


def take_snapshot(node: Any) -> None:
    """Take one of all there is; returns when the manifest names it.

    No server is called meanwhile: that would be more to keep, and more segments make the node take
    another snapshot by itself.
    """
    named = threading.Event()
    snapshots = node.journal.snapshots
    wait_for(
        lambda: node.run_on_loop(lambda: snapshots.take(on_named=named.set)), "one can be taken"
    )
    assert named.wait(WAIT_S), "the manifest does not name it"

"""Which tests CI may skip, and what shows the same there: every other skip is a failure of CI.

A test that cannot run on a developer's machine is skipped with its reason. Where `CI=true` the same
skip would be a gap that looks like a pass, so it needs a line here. A machine that cannot have
something says so itself: `PYBEHAVE_MAY_SKIP` is a regular expression for more reasons, as
`^(full|basic): ` where io_uring is not allowed.

Tests that are marked `power` want root, loop devices and kernel modules; their phase shows their
skips (`-rs`) and is judged by what it has run.
"""

from __future__ import annotations

import os
import re

ALLOWED = {
    r"^(needs Erlang|erl is not installed)$": "what OTP said when it was asked stands in *.jsonl",
    r"^kernels before 6\.15 count every wait": "there is nothing that could be counted otherwise",
}
"""Reason of a skip (a regular expression) -> why it is no gap."""


def is_gap(reason: str) -> bool:
    """Whether a skip for this reason hides something from CI."""
    if os.environ.get("CI") != "true":
        return False
    more = os.environ.get("PYBEHAVE_MAY_SKIP")
    patterns = [*ALLOWED, *([more] if more else [])]
    return not any(re.search(pattern, reason) for pattern in patterns)

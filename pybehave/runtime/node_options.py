"""What a node may be told at its start: one validator for each option, looked at before anything is
opened.

Behind this door nobody checks again. A value of a wrong type would otherwise be found where it is
used: the time for a drain when the node stops, on a thread that nobody looks at.

Does not know: what the options do (runtime/node.py, loop.pyx).
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Mapping
from typing import Any, Final

from pybehave.behaviours.application import Application
from pybehave.behaviours.rules import Rule, check, is_count, is_number
from pybehave.config import Config
from pybehave.errors import SpecError, show
from pybehave.journal.recovery import Options
from pybehave.runtime.health import HealthLimits

SEED_MAX: Final = 2**64 - 1
"""The generators of the core and of `context.random` take 64 bits."""

BUFFERS_MAX: Final = 1 << 15
"""A ring of provided buffers has no more entries (io_uring_register_buf_ring(3))."""

BUFFER_BYTES_MAX: Final = 1 << 24
ENTRIES_MAX: Final = 1 << 15
"""Of a submission queue (io_uring_setup(2)); its completion queue may have twice as many."""

LOOP_DEFAULTS: Final[Mapping[str, int]] = {
    "submissions": 1024,
    "completions": 8192,
    "buffers": 512,
    "buffer_bytes": 4096,
}
"""What a node's loop has unless told otherwise: a thousand busy connections fit."""


def default_backend() -> str:
    """The backend when none is given: the environment's PYBEHAVE_BACKEND, or "auto"."""
    return os.environ.get("PYBEHAVE_BACKEND") or "auto"


def _is_seconds_or_none(value: Any) -> bool:
    return value is None or (is_number(value) and value > 0)


def _is_disk(value: Any) -> bool:
    return value is None or isinstance(value, str | os.PathLike) or hasattr(value, "medium")


def _is_urls(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


def _is_names(value: Any) -> bool:
    is_several = isinstance(value, Collection) and not isinstance(value, str | bytes)
    return is_several and all(isinstance(each, str) for each in value)


def _is_size(most: int) -> Rule:
    return Rule(
        lambda value: is_count(value) and 1 <= value <= most, f"an integer from 1 to {most}"
    )


NODE_RULES: Final[Mapping[str, Rule]] = {
    "backend": Rule(
        lambda value: value is None or (isinstance(value, str) and value.isascii()),
        '"auto", "uring", "full", "basic", "epoll" or "sim"; or None',
    ),
    "listen": Rule(_is_urls, 'a tuple of URLs, as ("tcp://127.0.0.1:6379",)'),
    "config": Rule(
        lambda value: value is None or isinstance(value, Config | Mapping),
        "a table for each application, or what pybehave.config.read gave",
    ),
    "drain_timeout": Rule(lambda value: is_number(value) and value >= 0, "seconds >= 0"),
    "seed": Rule(
        lambda value: is_count(value) and value <= SEED_MAX, f"an integer from 0 to {SEED_MAX}"
    ),
    "data": Rule(_is_disk, "the path of a folder, a Disk, or None"),
    "journal_options": Rule(
        lambda value: value is None or isinstance(value, Options),
        "pybehave.journal.recovery.Options, or None",
    ),
    "reset": Rule(_is_names, "a list of names"),
    "debug_isolation": Rule(lambda value: isinstance(value, bool), "True or False"),
    "health": Rule(
        lambda value: value is None or isinstance(value, HealthLimits),
        "pybehave.runtime.health.HealthLimits, or None",
    ),
    "step_budget": Rule(_is_seconds_or_none, "seconds > 0, or None"),
    "step_abort": Rule(_is_seconds_or_none, "seconds > 0, or None"),
    "buffers": Rule(
        lambda value: is_count(value) and 1 <= value <= BUFFERS_MAX and value & (value - 1) == 0,
        f"a power of two from 1 to {BUFFERS_MAX}",
    ),
    "buffer_bytes": _is_size(BUFFER_BYTES_MAX),
    "submissions": _is_size(ENTRIES_MAX),
    "completions": _is_size(2 * ENTRIES_MAX),
}


def check_options(arguments: Mapping[str, Any]) -> None:
    """Check what `Node` was given.

    Args:
        arguments: By name, those of the loop in `loop_options`.

    Raises:
        SpecError: A value is not allowed; names the option, shows the value and what to use.
        TypeError: There is no such option; names one that is written alike.
    """
    app = arguments["app"]
    if not isinstance(app, Application):
        raise SpecError("Node", f"app={show(app)} is not allowed; use an Application")
    options = {name: arguments[name] for name in arguments if name in NODE_RULES}
    for name, value in arguments["loop_options"].items():
        if name not in NODE_RULES:
            alike = difflib.get_close_matches(name, NODE_RULES, 1) or sorted(NODE_RULES)
            raise TypeError(f"Node has no option {name!r}; it has {', '.join(alike)}")
        options[name] = value
    check("Node", {name: NODE_RULES[name] for name in options}, options)
